#include "libsplit/passes.h"

#include <errno.h>
#include <stdlib.h>

#include "libsplit/store.h"

int passes_run(struct graph *g)
{
    int (*const pass[])(struct graph *) = {
        pass_dead,        pass_flatten_gemm, pass_reshape_pairs,   pass_clip,     pass_pad,
        pass_taps,        pass_hard_swish,   pass_power,           pass_gelu,     pass_fold_affine,
        pass_fold_before, pass_silu,         pass_fuse_activation, pass_residual, pass_dead,
    };
    for (size_t i = 0; i < sizeof pass / sizeof pass[0]; i++) {
        const int rc = pass[i](g);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int32_t *pass_count_readers(const struct graph *g)
{
    int32_t *n = calloc((size_t)g->ntensors + 1, sizeof *n);
    if (!n)
        return NULL;
    for (int32_t i = 0; i < g->nops; i++)
        for (int32_t k = 0; k < g->op[i].ninputs; k++)
            n[g->op[i].input[k]]++;
    for (int32_t i = 0; i < g->noutputs; i++)
        n[g->output[i].tensor]++;
    return n;
}

void op_kill(struct op *op)
{
    op->ninputs = 0;
    op->output = -1;
}

bool op_is_dead(const struct op *op) { return op->output < 0; }

void op_absorb(struct graph *g, struct op *before, struct op *op)
{
    g->tensor[before->output].op = GEO_NO_OP; /* nobody's; pass_dead() drops it */
    before->output = op->output;
    g->tensor[op->output].op = (int32_t)(before - g->op);
    op_kill(op);
}

bool op_is_plain_reshape(const struct op *op)
{
    if (op->type != OP_RESHAPE)
        return false;
    for (int32_t i = 0; i < op->u.reshape.from.rank; i++)
        if (op->u.reshape.perm[i] != i)
            return false;
    for (int32_t i = 0; i < op->u.reshape.to.rank; i++)
        if (op->u.reshape.pick[i])
            return false;
    return true;
}

void *graph_array(struct graph *g, size_t n, size_t size)
{
    struct store *store = g->store;
    void *p = store_array(&store, n, size);
    g->store = store;
    return p;
}

float *graph_floats(struct graph *g, size_t n) { return graph_array(g, n, sizeof(float)); }
int32_t *graph_integers(struct graph *g, size_t n) { return graph_array(g, n, sizeof(int32_t)); }
