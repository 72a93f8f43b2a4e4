#include "libsplit/passes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool same_extents(const struct tensor *a, const struct tensor *b)
{
    return a->batch == b->batch && memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

/* If input `side` of the sum is a convolution that nothing else reads, that convolution. */
static struct op *summand(const struct graph *g, const struct op *sum, int side,
                          const int32_t *readers)
{
    const int32_t maker = g->tensor[sum->input[side]].op;
    if (maker == GEO_NO_OP || readers[sum->input[side]] != 1)
        return NULL;
    struct op *op = &g->op[maker];
    return op->type == OP_CONV && op->ninputs == 1 && op->act.kind == ACT_NONE ? op : NULL;
}

static bool is_plain_sum(const struct graph *g, const struct op *op)
{
    return !op_is_dead(op) && op->type == OP_BINARY && op->u.binary.kind == BINARY_ADD &&
           op->ninputs == 2 && op->input[0] != op->input[1] &&
           same_extents(&g->tensor[op->input[0]], &g->tensor[op->output]) &&
           same_extents(&g->tensor[op->input[1]], &g->tensor[op->output]);
}

/* The sum becomes the convolution: it stands where both of its inputs are there. */
static void fuse(struct op *sum, struct op *conv, int32_t other)
{
    sum->type = OP_CONV;
    sum->name = conv->name;
    sum->input[0] = conv->input[0];
    sum->input[1] = other;
    sum->u.conv = conv->u.conv;
    op_kill(conv);
}

int pass_residual(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *sum = &g->op[i];
        if (!is_plain_sum(g, sum))
            continue;
        struct op *a = summand(g, sum, 0, readers), *b = summand(g, sum, 1, readers);
        /* Of two the later one: what it yields would come last. */
        if (a && (!b || a > b))
            fuse(sum, a, sum->input[1]);
        else if (b)
            fuse(sum, b, sum->input[0]);
    }
    free(readers);
    return 0;
}
