/* TensorFlow's exporters write padding as an operator of its own before a convolution or pooling
 * that has none.  Folded, it costs no copy of the map. */
#include <errno.h>
#include <float.h>

#include "libsplit/passes.h"

/* True if `op` only adds rows and columns of one number, before[] and after[] of them. */
static bool is_border(const struct graph *g, const struct op *op, int32_t before[2],
                      int32_t after[2])
{
    if (op_is_dead(op) || op->type != OP_PAD || op->u.pad.mode != PAD_CONSTANT ||
        op->act.kind != ACT_NONE)
        return false;
    const struct tensor *in = &g->tensor[op->input[0]], *out = &g->tensor[op->output];
    if (in->dim[CHAN] != out->dim[CHAN] || op->u.pad.before[CHAN] != 0)
        return false;
    for (int a = ROW; a <= COL; a++) {
        before[a] = op->u.pad.before[a];
        after[a] = out->dim[a] - in->dim[a] - before[a];
        if (before[a] < 0 || after[a] < 0)
            return false;
    }
    return true;
}

/* True if no value of the tensor can be below 0. */
static bool is_never_negative(const struct graph *g, int32_t tensor)
{
    const int32_t maker = g->tensor[tensor].op;
    if (maker == GEO_NO_OP)
        return false;
    const struct act *act = &g->op[maker].act;
    return act->kind == ACT_RELU || act->kind == ACT_SIGMOID || act->kind == ACT_HARD_SIGMOID ||
           (act->kind == ACT_CLIP && act->a >= 0);
}

/* True if every window of `op`, which reads the border, holds a pixel of the map within. */
static bool holds_pixels(const struct graph *g, const struct op *op, const struct op *pad,
                         const int32_t before[2])
{
    const struct window *w = &op->u.pool.win;
    for (int a = ROW; a <= COL; a++) {
        const int64_t first = -(int64_t)w->pad[a] - before[a]; /* where the first window starts */
        const int64_t last = first + ((int64_t)g->tensor[op->output].dim[a] - 1) * w->stride[a];
        /* With dilation a window may step over the map altogether. */
        if (w->dilation[a] != 1 || first + w->kernel[a] <= 0 ||
            last >= g->tensor[pad->input[0]].dim[a])
            return false;
    }
    return true;
}

static bool is_padded(const struct window *w)
{
    return w->pad[ROW] || w->pad[COL] || w->pad_end[ROW] || w->pad_end[COL];
}

/* The window of `op` if the border can be its own padding, else NULL. */
static struct window *window_for(const struct graph *g, struct op *op, const struct op *pad,
                                 const int32_t before[2])
{
    const float value = pad->u.pad.value;
    switch (op->type) {
    case OP_CONV:
        return value == 0 ? &op->u.conv.win : NULL;
    case OP_MAX_POOL: {
        /* A pool's own padding loses against every pixel. */
        const bool loses = value <= -FLT_MAX || (value <= 0 && is_never_negative(g, pad->input[0]));
        return loses && holds_pixels(g, op, pad, before) ? &op->u.pool.win : NULL;
    }
    case OP_AVERAGE_POOL: {
        const bool counts = op->u.pool.count_include_pad || !is_padded(&op->u.pool.win);
        return value == 0 && counts ? &op->u.pool.win : NULL;
    }
    default:
        return NULL;
    }
}

int pass_pad(struct graph *g)
{
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *op = &g->op[i];
        int32_t before[2], after[2];
        if (op_is_dead(op) || op->ninputs != 1 || g->tensor[op->input[0]].op == GEO_NO_OP)
            continue;
        const struct op *pad = &g->op[g->tensor[op->input[0]].op];
        if (!is_border(g, pad, before, after))
            continue;
        struct window *w = window_for(g, op, pad, before);
        if (!w)
            continue;
        for (int a = ROW; a <= COL; a++) {
            w->pad[a] += before[a];
            w->pad_end[a] += after[a];
        }
        if (op->type == OP_AVERAGE_POOL)
            op->u.pool.count_include_pad = true;
        op->input[0] = pad->input[0];
    }
    return 0;
}
