/* What the planner sees of a graph: for every input of every operator, which part of it a part
 * of the output reads. */
#include "libsplit/graph.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/conv.h"
#include "libsplit/kernel.h"
#include "tiling/reach.h"

/* reach_all() where a bound would not fit. */
static struct reach reach_of(int64_t num, int64_t den, int64_t lo, int64_t hi, int32_t len)
{
    const int64_t most = INT32_MAX;
    if (den < 1 || den > most || num > most || lo < -most || lo > most || hi < -most || hi > most)
        return reach_all(len);
    return (struct reach){ (int32_t)num, (int32_t)den, (int32_t)lo, (int32_t)hi };
}

static void same_everywhere(struct reach r[AXES])
{
    for (int a = 0; a < AXES; a++)
        r[a] = reach_same();
}

static void conv_reach(const struct op *op, const struct tensor *in, const struct tensor *out,
                       struct reach r[AXES])
{
    const struct window *w = &op->u.conv.win;
    for (int a = ROW; a <= COL; a++)
        r[a] = op->type == OP_CONV
                   ? reach_window(w->kernel[a], w->stride[a], w->dilation[a], w->pad[a])
                   : reach_transposed(w->kernel[a], w->stride[a], w->dilation[a], w->pad[a]);
    const bool depthwise = op->u.conv.group == in->dim[CHAN] && in->dim[CHAN] == out->dim[CHAN];
    r[CHAN] = depthwise ? reach_same() : reach_all(in->dim[CHAN]);
}

static void pool_reach(const struct op *op, struct reach r[AXES])
{
    const struct window *w = &op->u.pool.win;
    for (int a = ROW; a <= COL; a++)
        r[a] = reach_window(w->kernel[a], w->stride[a], w->dilation[a], w->pad[a]);
    r[CHAN] = reach_same();
}

static void binary_reach(const struct tensor *in, const struct tensor *out, struct reach r[AXES])
{
    for (int a = 0; a < AXES; a++)
        r[a] = in->dim[a] == out->dim[a] ? reach_same() : reach_all(in->dim[a]);
}

static void concat_reach(const struct graph *g, const struct op *op, int32_t input,
                         struct reach r[AXES])
{
    const enum axis along = op->u.concat.axis;
    int32_t at = 0;
    for (int32_t i = 0; i < input; i++)
        at += g->tensor[op->input[i]].dim[along];
    same_everywhere(r);
    r[along] = reach_shift(-at, 1);
}

/* A part of the output that lies in the padding altogether still reads border pixels when the
 * mode is edge or reflect, so that those widen the reach. */
static void pad_reach(const struct op *op, const struct tensor *in, const struct tensor *out,
                      struct reach r[AXES])
{
    for (int a = 0; a < AXES; a++) {
        const int64_t before = op->u.pad.before[a];
        const int64_t after = (int64_t)out->dim[a] - in->dim[a] - before;
        int64_t up = 0, down = 0;
        if (op->u.pad.mode != PAD_CONSTANT) { /* a negative pad crops and repeats nothing */
            const int64_t reach = op->u.pad.mode == PAD_REFLECT ? 2 : 1;
            up = reach * (after > 0 ? after : 0);
            down = reach * (before > 0 ? before : 0);
        }
        r[a] = reach_of(1, 1, -before - up, -before + down, in->dim[a]);
    }
}

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        const int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Where an axis stands in row-major order: how many values lie between its neighbours, and how
 * many times it is run through. */
struct standing {
    int64_t inner, outer;
};

static struct standing standing(const struct shape *s, int32_t axis)
{
    struct standing st = { 1, 1 };
    for (int32_t i = 0; i < s->rank; i++) {
        if (i < axis)
            st.outer *= s->dim[i];
        if (i > axis)
            st.inner *= s->dim[i];
    }
    return st;
}

/* Reshape keeps row-major order.  Where both sides run through an axis equally often, output
 * coordinate i covers places [i * out.inner, (i + 1) * out.inner) of each run, and those lie in
 * input coordinates place / in.inner.  Anything else may come from anywhere. */
static void reshape_reach(const struct op *op, const struct tensor *in, struct reach r[AXES])
{
    const struct shape *to = &op->u.reshape.to;
    struct shape before = op->u.reshape.to; /* before anything is picked */
    for (int32_t i = 0; i < before.rank; i++)
        if (op->u.reshape.pick[i])
            before.dim[i] = op->u.reshape.picked[i];
    struct shape from = op->u.reshape.from; /* after the Transpose */
    for (int32_t i = 0; i < from.rank; i++) {
        const int8_t p = op->u.reshape.perm[i];
        from.dim[i] = op->u.reshape.from.dim[p];
        for (int a = 0; a < AXES; a++)
            if (op->u.reshape.from.axis[a] == p)
                from.axis[a] = (int8_t)i;
    }
    for (int a = 0; a < AXES; a++) {
        r[a] = reach_all(in->dim[a]);
        if (from.axis[a] < 0 || to->axis[a] < 0 || in->dim[a] == 1 ||
            op->u.reshape.pick[to->axis[a]])
            continue;
        const struct standing f = standing(&from, from.axis[a]), t = standing(&before, to->axis[a]);
        if (f.outer != t.outer)
            continue;
        const int64_t d = gcd(f.inner, t.inner);
        r[a] = reach_of(t.inner / d, f.inner / d, 0, t.inner / d - 1, in->dim[a]);
    }
}

/* Rows or columns of a Resize.  Output i looks at input x(i), which is linear in i; a margin
 * covers the pixels around x that are read, and what float arithmetic and a scale that is not
 * exactly output / input shift it. */
static struct reach resize_axis(const struct op *op, enum axis a, int64_t in, int64_t out)
{
    const double scale = (double)op->u.resize.scale[a];
    const bool exact = (double)in * scale == (double)out || in == out;
    const bool nearest = op->u.resize.mode == RESIZE_NEAREST;
    const enum resize_coordinates c = op->u.resize.coordinates;
    if (in == 1 || c == RESIZE_CROP)
        return reach_all((int32_t)in);
    if (nearest && exact && out % in == 0 &&
        ((c == RESIZE_ASYMMETRIC && op->u.resize.nearest == RESIZE_FLOOR) ||
         (c == RESIZE_HALF_PIXEL && op->u.resize.nearest == RESIZE_ROUND_PREFER_FLOOR)))
        return reach_up((int32_t)(out / in));
    int64_t margin = nearest ? 1 : op->u.resize.mode == RESIZE_LINEAR ? 2 : 3;
    if (!exact)
        margin += in / out + 2;
    if (c == RESIZE_ALIGN_CORNERS) { /* x = i * (in - 1) / (out - 1) */
        const int64_t den = out > 1 ? out - 1 : 1;
        return reach_of(in - 1, den, -margin * den, margin * den, (int32_t)in);
    }
    /* In halves: x = i * in / out, + in / out / 2 and - 1/2 where pixels have centres. */
    const bool centred = c != RESIZE_ASYMMETRIC;
    const int64_t shift =
        (centred ? in : 0) - (c == RESIZE_HALF_PIXEL || c == RESIZE_PYTORCH_HALF_PIXEL ? out : 0);
    return reach_of(2 * in, 2 * out, shift - 2 * margin * out, shift + 2 * margin * out,
                    (int32_t)in);
}

static void resize_reach(const struct op *op, const struct tensor *in, const struct tensor *out,
                         struct reach r[AXES])
{
    same_everywhere(r);
    for (int a = ROW; a <= COL; a++)
        if (in->dim[a] != out->dim[a] || op->u.resize.scale[a] != 1 ||
            op->u.resize.coordinates == RESIZE_CROP)
            r[a] = resize_axis(op, (enum axis)a, in->dim[a], out->dim[a]);
}

/* Any place along the columns; an index is where its value goes. */
static void gather_reach(const struct op *op, int32_t input, const struct tensor *in,
                         const struct tensor *out, struct reach r[AXES])
{
    if (input == 0)
        r[COL] = reach_all(in->dim[COL]);
    else if (in->dim[ROW] != out->dim[ROW])
        r[ROW] = reach_all(in->dim[ROW]);
    if (input == 1 && !op->u.gather.each)
        r[CHAN] = reach_all(in->dim[CHAN]);
}

/* Any pixel of a map; what says which is one pixel of input 1, or all of it. */
static void anywhere_reach(const struct op *op, int32_t input, const struct tensor *in,
                           struct reach r[AXES])
{
    if (input == 1)
        r[CHAN] = reach_all(in->dim[CHAN]);
    if (input == 0 || op->type == OP_ROI_ALIGN) {
        r[ROW] = reach_all(in->dim[ROW]);
        r[COL] = reach_all(in->dim[COL]);
    }
}

static void op_reach(const struct graph *g, const struct op *op, int32_t input,
                     const struct geo_tensor *geo_in, struct reach r[AXES])
{
    const struct tensor *in = &g->tensor[op->input[input]], *out = &g->tensor[op->output];
    same_everywhere(r);
    switch (op->type) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
        if (input == 0)
            conv_reach(op, in, out, r);
        break;
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
        pool_reach(op, r);
        break;
    case OP_BINARY:
    case OP_WHERE:
        binary_reach(in, out, r);
        break;
    case OP_CONCAT:
        concat_reach(g, op, input, r);
        break;
    case OP_SLICE:
        for (int a = 0; a < AXES; a++)
            r[a] = reach_shift(op->u.slice.start[a], op->u.slice.step[a]);
        break;
    case OP_PAD:
        pad_reach(op, in, out, r);
        break;
    case OP_DEPTH_TO_SPACE:
        r[ROW] = r[COL] = reach_up(op->u.depth_to_space.block);
        r[CHAN] = reach_all(in->dim[CHAN]);
        break;
    case OP_SOFTMAX:
        for (int a = 0; a < AXES; a++)
            if (op->u.softmax.over[a])
                r[a] = reach_all(in->dim[a]);
        break;
    case OP_PARTIAL:
        break; /* reads what its node owns */
    case OP_COMBINE:
        for (int a = 0; a < AXES; a++)
            r[a] = reach_all(geo_in->dim[a]);
        break;
    case OP_RESHAPE:
        reshape_reach(op, in, r);
        break;
    case OP_RESIZE:
        resize_reach(op, in, out, r);
        break;
    case OP_REDUCE:
        for (int a = 0; a < AXES; a++)
            if (op->u.reduce.over[a])
                r[a] = reach_all(in->dim[a]);
        break;
    case OP_MATMUL: {
        const enum axis summed = input == 0 ? CHAN : ROW;
        r[summed] = reach_all(in->dim[summed]);
        break;
    }
    case OP_LRN:
        r[CHAN] = reach_all(in->dim[CHAN]);
        break;
    case OP_SPACE_TO_DEPTH:
        r[ROW] = r[COL] = reach_down(op->u.space_to_depth.block);
        r[CHAN] = reach_all(in->dim[CHAN]);
        break;
    case OP_TOP_K:
        r[op->u.top_k.axis] = reach_all(in->dim[op->u.top_k.axis]);
        break;
    case OP_GATHER:
        gather_reach(op, input, in, out, r);
        break;
    case OP_MAX_UNPOOL:
        r[ROW] = reach_all(in->dim[ROW]);
        r[COL] = reach_all(in->dim[COL]);
        break;
    case OP_GRID_SAMPLE:
    case OP_ROI_ALIGN:
        anywhere_reach(op, input, in, r);
        break;
    case OP_NMS:
        for (int a = 0; a < AXES; a++)
            r[a] = reach_all(in->dim[a]);
        break;
    case OP_AFFINE:
    case OP_ACTIVATION:
    case OP_CONSTANT:
    case OP_TYPES:
        break;
    }
}

static bool has_weights(const struct op *op)
{
    return op->type == OP_CONV || op->type == OP_CONV_TRANSPOSE;
}

/* Weights, or input values, that one output value is made of. */
static int64_t taps(const struct graph *g, const struct op *op)
{
    const struct window *w = has_weights(op) ? &op->u.conv.win : &op->u.pool.win;
    switch (op->type) {
    case OP_CONV:
        return (int64_t)w->kernel[ROW] * w->kernel[COL] *
               (g->tensor[op->input[0]].dim[CHAN] / op->u.conv.group);
    case OP_CONV_TRANSPOSE: {
        /* Only every stride-th tap meets an input pixel. */
        int64_t n = g->tensor[op->input[0]].dim[CHAN] / op->u.conv.group;
        for (int a = ROW; a <= COL; a++)
            n *= (w->kernel[a] + w->stride[a] - 1) / w->stride[a];
        return n;
    }
    case OP_GRID_SAMPLE:
    case OP_ROI_ALIGN: /* about so many pixels around a point */
        return 4;
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
        return (int64_t)w->kernel[ROW] * w->kernel[COL];
    case OP_MATMUL:
        return g->tensor[op->input[0]].dim[CHAN];
    case OP_REDUCE:
        return op->u.reduce.count;
    case OP_TOP_K: /* every result looks at all values again */
        return g->tensor[op->input[0]].dim[op->u.top_k.axis];
    case OP_NMS: /* in the worst case a box meets all that are taken */
        return g->tensor[op->input[0]].dim[COL];
    default:
        return 1;
    }
}

static int64_t values(const struct tensor *t)
{
    return (int64_t)t->dim[ROW] * t->dim[COL] * t->dim[CHAN];
}

static int64_t count_macs(const struct graph *g, const struct op *op)
{
    int64_t macs;
    const struct tensor *of = &g->tensor[op->type == OP_PARTIAL ? op->input[0] : op->output];
    return __builtin_mul_overflow(values(of), taps(g, op), &macs) ? INT64_MAX : macs;
}

/* As they are read from memory for every frame: the way to compute it that was chosen for this
 * machine may hold several times what the model does. */
static int64_t count_weight_bytes(const struct graph *g, const struct op *op)
{
    const struct kernel *k = &kernels[op->type];
    const size_t bytes = k->packed_bytes ? k->packed_bytes(g, op, all_channels(g, op)) : 0;
    return bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX;
}

/* See geo_op.channel_unit. */
static int32_t channel_unit(const struct graph *g, const struct op *op)
{
    const int32_t channels = g->tensor[op->output].dim[CHAN];
    if (op->type == OP_CONV && op->u.conv.group > 1)
        return channels / op->u.conv.group;
    return op->type == OP_CONV_TRANSPOSE || op->type == OP_NMS ? channels : 1;
}

static void fill_tensors(const struct graph *g, int32_t nodes, struct geometry *geo)
{
    for (int32_t i = 0; i < g->ntensors; i++) {
        const struct tensor *t = &g->tensor[i];
        geo->tensor[i] = (struct geo_tensor){ .batch = t->batch, .op = t->op };
        memcpy(geo->tensor[i].dim, t->dim, sizeof t->dim);
        if (t->op != GEO_NO_OP && g->op[t->op].type == OP_PARTIAL)
            geo->tensor[i].dim[ROW] = nodes;
    }
    for (int32_t i = 0; i < g->noutputs; i++)
        geo->tensor[g->output[i].tensor].output = true;
}

static void fill_ops(const struct graph *g, struct geometry *geo)
{
    int32_t first = 0;
    for (int32_t i = 0; i < g->nops; i++) {
        const struct op *op = &g->op[i];
        geo->op[i] = (struct geo_op){
            .kind = op->type == OP_PARTIAL ? GEO_PARTIAL : GEO_MAP,
            .out = op->output,
            .first = first,
            .ninputs = op->ninputs,
            .channel_unit = channel_unit(g, op),
            .weight_bytes = count_weight_bytes(g, op),
            .macs = count_macs(g, op),
        };
        if (op->type == OP_CONV)
            geo->op[i].nways = conv_geo_ways(g, op, geo->op[i].way);
        for (int32_t k = 0; k < op->ninputs; k++) {
            struct geo_input *in = &geo->input[first++];
            in->tensor = op->input[k];
            op_reach(g, op, k, &geo->tensor[in->tensor], in->reach);
        }
    }
}

int graph_geometry(const struct graph *g, int32_t nodes, struct geometry *geo)
{
    int32_t ninputs = 0;
    for (int32_t i = 0; i < g->nops; i++)
        ninputs += g->op[i].ninputs;
    const int rc = geometry_init(geo, nodes, g->ntensors, g->nops, ninputs);
    if (rc < 0)
        return rc;
    fill_tensors(g, nodes, geo);
    fill_ops(g, geo);
    return 0;
}
