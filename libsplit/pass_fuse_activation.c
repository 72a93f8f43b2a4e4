#include "libsplit/passes.h"

#include <errno.h>
#include <stdlib.h>

static struct op *producer(const struct graph *g, int32_t tensor)
{
    const int32_t op = g->tensor[tensor].op;
    return op == GEO_NO_OP ? NULL : &g->op[op];
}

int pass_fuse_activation(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *op = &g->op[i];
        if (op_is_dead(op) || op->type != OP_ACTIVATION)
            continue;
        struct op *before = producer(g, op->input[0]);
        /* The shares of a reduction are no values yet. */
        if (!before || before->type == OP_PARTIAL || before->act.kind != ACT_NONE ||
            readers[before->output] != 1)
            continue;
        before->act = op->act;
        op_absorb(g, before, op);
    }
    free(readers);
    return 0;
}
