/* Dilation on a small map leaves taps that only ever meet padding: DeepLab's kernels with a
 * dilation of 36 are 1x1 on a map of 33 rows.  Without those taps, halos and work shrink. */
#include <errno.h>

#include "libsplit/passes.h"

/* True if tap `k` never falls on the map. */
static bool misses(const struct window *w, enum axis a, int32_t k, int32_t in, int32_t out)
{
    const int64_t first = (int64_t)k * w->dilation[a] - w->pad[a];
    const int64_t last = first + ((int64_t)out - 1) * w->stride[a];
    return last < 0 || first >= in;
}

/* Taps at the start and at the end of one axis that nothing comes of. */
static void count_idle(const struct window *w, enum axis a, int32_t in, int32_t out, int32_t *start,
                       int32_t *end)
{
    const int32_t dilation = w->dilation[a], kernel = w->kernel[a];
    *start = *end = 0;
    while (kernel - *start > 1 && w->pad[a] >= (*start + 1) * (int64_t)dilation &&
           misses(w, a, *start, in, out))
        ++*start;
    while (kernel - *start - *end > 1 && w->pad_end[a] >= (*end + 1) * (int64_t)dilation &&
           misses(w, a, kernel - 1 - *end, in, out))
        ++*end;
}

/* The weights without their first `skipped` values. */
static int skip_weights(struct graph *g, struct op *op, int64_t skipped)
{
    struct onnx_tensor *t = graph_array(g, 1, sizeof *t);
    if (!t)
        return -ENOMEM;
    *t = *op->u.conv.weight.t;
    const size_t bytes = (size_t)skipped * onnx_type_bytes(t->type);
    t->data = (const uint8_t *)t->data + bytes;
    t->bytes -= bytes;
    t->count -= skipped;
    t->rank = 1; /* what is left has no shape of its own: op->u.conv.weight.stride says all */
    t->dim[0] = t->count;
    op->u.conv.weight.t = t;
    return 0;
}

static int drop_taps(struct graph *g, struct op *op)
{
    struct window *w = &op->u.conv.win;
    int64_t skipped = 0;
    for (int a = ROW; a <= COL; a++) {
        int32_t start, end;
        count_idle(w, (enum axis)a, g->tensor[op->input[0]].dim[a], g->tensor[op->output].dim[a],
                   &start, &end);
        w->kernel[a] -= start + end;
        w->pad[a] -= start * w->dilation[a];
        w->pad_end[a] -= end * w->dilation[a];
        skipped += start * op->u.conv.weight.stride[2 + a];
    }
    return skipped ? skip_weights(g, op, skipped) : 0;
}

int pass_taps(struct graph *g)
{
    int rc = 0;
    for (int32_t i = 0; i < g->nops && rc == 0; i++)
        if (!op_is_dead(&g->op[i]) && g->op[i].type == OP_CONV)
            rc = drop_taps(g, &g->op[i]);
    return rc;
}
