#include <string.h>

#include "libsplit/kernel_ops.h"

/* Row-major order over ONNX axes, and where that leads in memory. */
struct order {
    int32_t rank;
    int32_t dim[SHAPE_MAX_RANK];
    int64_t step[SHAPE_MAX_RANK];   /* between neighbours, in row-major order */
    int64_t stride[SHAPE_MAX_RANK]; /* between neighbours, in memory */
};

static void fill_steps(struct order *o)
{
    int64_t step = 1;
    for (int32_t a = o->rank - 1; a >= 0; a--) {
        o->step[a] = step;
        step *= o->dim[a];
    }
}

static bool is_batch(const struct shape *s, int32_t onnx_axis)
{
    return onnx_axis != s->axis[ROW] && onnx_axis != s->axis[COL] && onnx_axis != s->axis[CHAN];
}

/* The input after the Transpose. */
static struct order input_order(const struct op *op, const struct view *in)
{
    const struct shape *from = &op->u.reshape.from;
    int64_t stride[SHAPE_MAX_RANK] = { 0 }, image = in->image_stride;
    for (int32_t a = from->rank - 1; a >= 0; a--) {
        if (!is_batch(from, a))
            continue;
        stride[a] = image;
        image *= from->dim[a];
    }
    const int64_t memory[AXES] = { in->row_stride, in->pixel_stride, 1 };
    for (int a = 0; a < AXES; a++)
        if (from->axis[a] >= 0)
            stride[from->axis[a]] = memory[a];
    struct order o = { .rank = from->rank };
    for (int32_t a = 0; a < o.rank; a++) {
        o.dim[a] = from->dim[op->u.reshape.perm[a]];
        o.stride[a] = stride[op->u.reshape.perm[a]];
    }
    fill_steps(&o);
    return o;
}

/* The output before anything is picked; it has no memory. */
static struct order output_order(const struct op *op)
{
    const struct shape *to = &op->u.reshape.to;
    struct order o = { .rank = to->rank };
    for (int32_t a = 0; a < o.rank; a++)
        o.dim[a] = op->u.reshape.pick[a] ? op->u.reshape.picked[a] : to->dim[a];
    fill_steps(&o);
    return o;
}

/* What coordinate `at` of ONNX axis `a` of the output stands for. */
static int32_t picked(const struct op *op, int32_t a, int32_t at)
{
    return op->u.reshape.pick[a] ? op->u.reshape.pick[a][at] : at;
}

/* The sum of coordinate times `step` over all axes of an output value but its channel's. */
static int64_t place_of(const struct op *op, const int64_t *step, int32_t image, int32_t row,
                        int32_t col)
{
    const struct shape *s = &op->u.reshape.to;
    int64_t place = 0;
    if (s->axis[ROW] >= 0)
        place += picked(op, s->axis[ROW], row) * step[s->axis[ROW]];
    if (s->axis[COL] >= 0)
        place += picked(op, s->axis[COL], col) * step[s->axis[COL]];
    for (int32_t a = s->rank - 1; a >= 0; a--)
        if (is_batch(s, a)) {
            place += picked(op, a, image % s->dim[a]) * step[a];
            image /= s->dim[a];
        }
    return place;
}

static bool same_dims(const struct order *a, const struct order *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

/* A place in the input: its coordinates and where it lies. */
struct place {
    int32_t at[SHAPE_MAX_RANK];
    int64_t offset;
};

static struct place seek(const struct order *o, int64_t index)
{
    struct place p = { .offset = 0 };
    for (int32_t a = 0; a < o->rank; a++) {
        p.at[a] = (int32_t)(index / o->step[a] % o->dim[a]);
        p.offset += p.at[a] * o->stride[a];
    }
    return p;
}

/* One further on `axis`, with carry. */
static void advance(const struct order *o, struct place *p, int32_t axis)
{
    for (int32_t a = axis; a >= 0; a--) {
        p->offset += o->stride[a];
        if (++p->at[a] < o->dim[a])
            return;
        p->offset -= o->stride[a] * o->dim[a];
        p->at[a] = 0;
    }
}

/* The axis of the input along which neighbours are `step` apart in row-major order, -1: none. */
static int32_t axis_with_step(const struct order *o, int64_t step)
{
    for (int32_t a = 0; a < o->rank; a++)
        if (o->step[a] == step && o->dim[a] > 1)
            return a;
    return -1;
}

/* Rows of channels where every output axis is one of the input. */
static void move_pixel(const struct kernel_call *call, const float *from, int64_t stride, float *to)
{
    const int32_t lo = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    const int8_t axis = call->op->u.reshape.to.axis[CHAN];
    const int32_t *pick = axis < 0 ? NULL : call->op->u.reshape.pick[axis];
    if (pick) {
        for (int32_t k = 0; k < n; k++)
            to[k] = from[pick[lo + k] * stride];
    } else if (stride == 1) {
        memcpy(to, from + lo, (size_t)n * sizeof *to);
    } else {
        for (int32_t k = 0; k < n; k++)
            to[k] = from[(lo + k) * stride];
    }
}

/* Channels of an output pixel whose first channel stands at row-major `index`. */
static void regroup_pixel(const struct kernel_call *call, const struct order *in, int64_t index,
                          int64_t step, const float *from, float *to)
{
    const int32_t lo = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    const int8_t channels = call->op->u.reshape.to.axis[CHAN];
    const int32_t axis = axis_with_step(in, step);
    if (axis < 0 || channels < 0 || call->op->u.reshape.pick[channels]) {
        for (int32_t k = 0; k < n; k++) {
            const int32_t at = channels < 0 ? 0 : picked(call->op, channels, lo + k);
            to[k] = from[seek(in, index + at * step).offset];
        }
        return;
    }
    struct place p = seek(in, index + lo * step);
    for (int32_t k = 0; k < n; k++, advance(in, &p, axis))
        to[k] = from[p.offset];
}

void reshape_run(const struct kernel_call *call)
{
    const struct op *op = call->op;
    const struct box *r = &call->region;
    const struct order in = input_order(op, &call->in[0]), out = output_order(op);
    const int8_t channels = op->u.reshape.to.axis[CHAN];
    const bool moves = same_dims(&in, &out); /* and nothing is regrouped */
    const int64_t *step = moves ? in.stride : out.step;
    const int64_t between = channels < 0 ? 0 : step[channels];
    /* Offsets count from the input's first value, which its buffer may not hold. */
    const float *from = view_at(&call->in[0], 0, 0, 0);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            float *to = view_at(&call->out, y, x, r->lo[CHAN]);
            const int64_t place = place_of(op, step, call->image, y, x);
            if (moves)
                move_pixel(call, from + place, between, to);
            else
                regroup_pixel(call, &in, place, between, from, to);
        }
    act_region(call);
}
