#include "libsplit/passes.h"

/* A matrix product: a 1x1 convolution, ungrouped, of one pixel. */
static bool is_product(const struct graph *g, const struct op *op)
{
    const struct window *w = &op->u.conv.win;
    if (op->type != OP_CONV || op->u.conv.group != 1)
        return false;
    const struct tensor *in = &g->tensor[op->input[0]];
    for (int a = ROW; a <= COL; a++)
        if (w->kernel[a] != 1 || w->pad[a] || w->pad_end[a] || in->dim[a] != 1)
            return false;
    return true;
}

/* True if `op` lays each image of a map out as one row of channels, in row-major order of its
 * ONNX axes. */
static bool is_flatten(const struct op *op)
{
    const struct shape *from = &op->u.reshape.from, *to = &op->u.reshape.to;
    if (!op_is_plain_reshape(op) || op->act.kind != ACT_NONE)
        return false;
    const int32_t batch = shape_batch(from);
    if (shape_len(to, ROW) != 1 || shape_len(to, COL) != 1 || shape_batch(to) != batch)
        return false;
    /* Images must be outermost on both sides for each to stay in one piece. */
    const bool outermost = from->rank > 0 && from->dim[0] == batch && from->axis[ROW] != 0 &&
                           from->axis[COL] != 0 && from->axis[CHAN] != 0;
    return batch == 1 || (outermost && to->dim[0] == batch && to->axis[CHAN] != 0);
}

/* The step of each axis of the map among the flattened channels. */
static void feature_steps(const struct shape *from, int64_t step[AXES])
{
    int64_t all[SHAPE_MAX_RANK];
    shape_steps(from, all);
    for (int a = 0; a < AXES; a++)
        step[a] = from->axis[a] < 0 ? 0 : all[from->axis[a]];
}

int pass_flatten_gemm(struct graph *g)
{
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *op = &g->op[i];
        if (op_is_dead(op) || !is_product(g, op) || g->tensor[op->input[0]].op == GEO_NO_OP)
            continue;
        const struct op *flat = &g->op[g->tensor[op->input[0]].op];
        if (!is_flatten(flat))
            continue;
        const int32_t map = flat->input[0];
        int64_t step[AXES];
        feature_steps(&flat->u.reshape.from, step);
        struct weight_ref *w = &op->u.conv.weight;
        const int64_t feature = w->stride[1];
        w->stride[1] = feature * step[CHAN];
        w->stride[2] = feature * step[ROW];
        w->stride[3] = feature * step[COL];
        for (int a = ROW; a <= COL; a++) {
            op->u.conv.win.kernel[a] = g->tensor[map].dim[a];
            op->u.conv.win.stride[a] = op->u.conv.win.dilation[a] = 1;
        }
        op->input[0] = map;
    }
    return 0;
}
