#include <string.h>

#include "libsplit/kernel_ops.h"

/* Copies `box` (input coordinates) of `from` to where it starts at `at` in the output. */
static void copy_box(const struct kernel_call *call, const struct view *from, struct box box,
                     const int32_t at[AXES])
{
    const struct view *to = &call->out;
    const int32_t cols = box_len(box, COL), channels = box_len(box, CHAN);
    const bool dense = from->pixel_stride == channels && to->pixel_stride == channels;
    const int32_t runs = dense ? 1 : cols; /* a row at once, or a pixel */
    const size_t bytes = sizeof(float) * (size_t)channels * (size_t)(dense ? cols : 1);
    for (int32_t y = 0; y < box_len(box, ROW); y++)
        for (int32_t x = 0; x < runs; x++)
            memcpy(view_at(to, at[ROW] + y, at[COL] + x, at[CHAN]),
                   view_at(from, box.lo[ROW] + y, box.lo[COL] + x, box.lo[CHAN]), bytes);
}

void concat_run(const struct kernel_call *call)
{
    const enum axis axis = call->op->u.concat.axis;
    int32_t first = 0; /* where input i begins in the output */
    for (int32_t i = 0; i < call->op->ninputs; i++) {
        const int32_t len = input_dim(call, i)[axis];
        struct box part = call->region;
        part.lo[axis] = max_i32(part.lo[axis], first);
        part.hi[axis] = min_i32(part.hi[axis], first + len);
        if (!box_empty(part)) {
            struct box from = part;
            from.lo[axis] -= first;
            from.hi[axis] -= first;
            copy_box(call, &call->in[i], from, part.lo);
        }
        first += len;
    }
    act_region(call);
}

void slice_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t *start = call->op->u.slice.start, *step = call->op->u.slice.step;
    const int32_t n = box_len(*r, CHAN);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            float *to = view_at(&call->out, y, x, r->lo[CHAN]);
            const float *from =
                view_at(&call->in[0], start[ROW] + y * step[ROW], start[COL] + x * step[COL],
                        start[CHAN] + r->lo[CHAN] * step[CHAN]);
            if (step[CHAN] == 1) {
                memcpy(to, from, (size_t)n * sizeof(float));
                continue;
            }
            for (int32_t k = 0; k < n; k++)
                to[k] = from[(ptrdiff_t)k * step[CHAN]];
        }
    act_region(call);
}

enum { PADDING = -1 };

/* The input coordinate behind output coordinate `at`, or PADDING. */
static int32_t pad_source(enum pad_mode mode, int32_t at, int32_t before, int32_t len)
{
    int32_t i = at - before;
    if (i >= 0 && i < len)
        return i;
    switch (mode) {
    case PAD_CONSTANT:
        return PADDING;
    case PAD_REFLECT:
        i = i < 0 ? -i : 2 * (len - 1) - i;
        break;
    case PAD_EDGE:
        break;
    }
    return clamp_i32(i, 0, len - 1);
}

void pad_run(const struct kernel_call *call)
{
    const struct op *op = call->op;
    const struct box *r = &call->region;
    const int32_t *dim = input_dim(call, 0), *before = op->u.pad.before;
    const enum pad_mode mode = op->u.pad.mode;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        const int32_t iy = pad_source(mode, y, before[ROW], dim[ROW]);
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const int32_t ix = pad_source(mode, x, before[COL], dim[COL]);
            float *to = view_at(&call->out, y, x, r->lo[CHAN]);
            for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++) {
                const int32_t ik = pad_source(mode, k, before[CHAN], dim[CHAN]);
                *to++ = iy == PADDING || ix == PADDING || ik == PADDING
                            ? op->u.pad.value
                            : *view_at(&call->in[0], iy, ix, ik);
            }
        }
    }
    act_region(call);
}

void depth_to_space_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t block = call->op->u.depth_to_space.block;
    const bool crd = call->op->u.depth_to_space.crd;
    const int32_t channels = output_dim(call)[CHAN];
    /* Output channel k of sub-pixel s reads input channel k * across + s * along. */
    const int32_t across = crd ? block * block : 1;
    const int32_t along = crd ? 1 : channels;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const int32_t sub = y % block * block + x % block;
            const float *from =
                view_at(&call->in[0], y / block, x / block, r->lo[CHAN] * across + sub * along);
            float *to = view_at(&call->out, y, x, r->lo[CHAN]);
            for (int32_t k = 0; k < box_len(*r, CHAN); k++)
                to[k] = from[(ptrdiff_t)k * across];
        }
    act_region(call);
}

void space_to_depth_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t block = call->op->u.space_to_depth.block;
    const int32_t channels = input_dim(call, 0)[CHAN];
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            float *to = view_at(&call->out, y, x, r->lo[CHAN]);
            for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++) {
                const int32_t sub = k / channels;
                *to++ = *view_at(&call->in[0], y * block + sub / block, x * block + sub % block,
                                 k % channels);
            }
        }
    act_region(call);
}

void constant_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t *dim = output_dim(call);
    const size_t bytes = (size_t)box_len(*r, CHAN) * sizeof(float);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const ptrdiff_t pixel = ((ptrdiff_t)call->image * dim[ROW] + y) * dim[COL] + x;
            memcpy(view_at(&call->out, y, x, r->lo[CHAN]),
                   call->op->u.constant.values + pixel * dim[CHAN] + r->lo[CHAN], bytes);
        }
    act_region(call);
}

/* How a row-major index over a shape's ONNX axes follows from splitd's coordinates. */
struct flat {
    int64_t stride[SHAPE_MAX_RANK]; /* of every ONNX axis */
};

static struct flat flat_of(int32_t rank, const int32_t *dim)
{
    struct flat f = { { 0 } };
    int64_t stride = 1;
    for (int32_t a = rank - 1; a >= 0; a--) {
        f.stride[a] = stride;
        stride *= dim[a];
    }
    return f;
}

static bool is_batch(const struct shape *s, int32_t onnx_axis)
{
    return onnx_axis != s->axis[ROW] && onnx_axis != s->axis[COL] && onnx_axis != s->axis[CHAN];
}

/* What coordinate `at` of ONNX axis `a` of the output stands for. */
static int32_t picked(const struct op *op, int32_t a, int32_t at)
{
    return op->u.reshape.pick[a] ? op->u.reshape.pick[a][at] : at;
}

/* Row-major index behind value (image, at) of the output, before anything is picked. */
static int64_t onnx_index(const struct op *op, const struct flat *f, int32_t image,
                          const int32_t at[AXES])
{
    const struct shape *s = &op->u.reshape.to;
    int64_t index = 0;
    for (int a = 0; a < AXES; a++)
        if (s->axis[a] >= 0)
            index += picked(op, s->axis[a], at[a]) * f->stride[s->axis[a]];
    for (int32_t a = s->rank - 1; a >= 0; a--)
        if (is_batch(s, a)) {
            index += picked(op, a, image % s->dim[a]) * f->stride[a];
            image /= s->dim[a];
        }
    return index;
}

/* How a reshape finds the input value behind an ONNX index of its output. */
struct source {
    const struct shape *from;
    struct flat moved;              /* of `from` after the Transpose */
    int32_t dim[SHAPE_MAX_RANK];    /* likewise */
    int64_t stride[SHAPE_MAX_RANK]; /* in memory, of every axis of `dim` */
};

static struct source source_of(const struct op *op, const struct view *in)
{
    const struct shape *from = &op->u.reshape.from;
    struct source s = { .from = from };
    int64_t image_stride = in->image_stride;
    int64_t stride[SHAPE_MAX_RANK] = { 0 };
    for (int32_t a = from->rank - 1; a >= 0; a--) {
        if (!is_batch(from, a))
            continue;
        stride[a] = image_stride;
        image_stride *= from->dim[a];
    }
    const int64_t memory[AXES] = { in->row_stride, in->pixel_stride, 1 };
    for (int a = 0; a < AXES; a++)
        if (from->axis[a] >= 0)
            stride[from->axis[a]] = memory[a];
    for (int32_t a = 0; a < from->rank; a++) {
        s.dim[a] = from->dim[op->u.reshape.perm[a]];
        s.stride[a] = stride[op->u.reshape.perm[a]];
    }
    s.moved = flat_of(from->rank, s.dim);
    return s;
}

static int64_t source_offset(const struct source *s, int64_t index)
{
    int64_t offset = 0;
    for (int32_t a = 0; a < s->from->rank; a++)
        offset += index / s->moved.stride[a] % s->dim[a] * s->stride[a];
    return offset;
}

void reshape_run(const struct kernel_call *call)
{
    const struct op *op = call->op;
    const struct shape *to = &op->u.reshape.to;
    int32_t dim[SHAPE_MAX_RANK];
    for (int32_t a = 0; a < to->rank; a++)
        dim[a] = op->u.reshape.pick[a] ? op->u.reshape.picked[a] : to->dim[a];
    const struct flat flat = flat_of(to->rank, dim);
    const struct source source = source_of(op, &call->in[0]);
    /* Offsets count from the input's first value, which its buffer may not hold. */
    const float *from = view_at(&call->in[0], 0, 0, 0);
    const struct box *r = &call->region;
    int32_t at[AXES];
    for (at[ROW] = r->lo[ROW]; at[ROW] < r->hi[ROW]; at[ROW]++)
        for (at[COL] = r->lo[COL]; at[COL] < r->hi[COL]; at[COL]++) {
            float *pixel = view_at(&call->out, at[ROW], at[COL], r->lo[CHAN]);
            for (at[CHAN] = r->lo[CHAN]; at[CHAN] < r->hi[CHAN]; at[CHAN]++)
                *pixel++ = from[source_offset(&source, onnx_index(op, &flat, call->image, at))];
        }
    act_region(call);
}
