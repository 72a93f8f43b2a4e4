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
    if (view_at(to, at[ROW], at[COL], at[CHAN]) ==
        view_at(from, box.lo[ROW], box.lo[COL], box.lo[CHAN]))
        return; /* written in its place (libsplit/place.h) */
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

/* Channels [lo, hi) of a pixel whose `dim` channels of the input begin at `from`. */
static void pad_channels(const struct op *op, const float *from, float *to, int32_t lo, int32_t hi,
                         int32_t dim)
{
    for (int32_t k = lo; k < hi; k++) {
        const int32_t source = pad_source(op->u.pad.mode, k, op->u.pad.before[CHAN], dim);
        *to++ = source == PADDING ? op->u.pad.value : from[source];
    }
}

void pad_run(const struct kernel_call *call)
{
    const struct op *op = call->op;
    const struct box *r = &call->region;
    const int32_t *dim = input_dim(call, 0), *before = op->u.pad.before;
    const int32_t lo = r->lo[CHAN], hi = r->hi[CHAN];
    const bool same_channels = before[CHAN] == 0 && output_dim(call)[CHAN] == dim[CHAN];
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        const int32_t iy = pad_source(op->u.pad.mode, y, before[ROW], dim[ROW]);
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const int32_t ix = pad_source(op->u.pad.mode, x, before[COL], dim[COL]);
            float *to = view_at(&call->out, y, x, lo);
            if (iy == PADDING || ix == PADDING)
                for (int32_t k = lo; k < hi; k++)
                    *to++ = op->u.pad.value;
            else if (same_channels)
                memcpy(to, view_at(&call->in[0], iy, ix, lo), sizeof *to * (size_t)(hi - lo));
            else
                pad_channels(op, view_at(&call->in[0], iy, ix, 0), to, lo, hi, dim[CHAN]);
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

/* Sub-pixel after sub-pixel, each a run of all channels of the input. */
void space_to_depth_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t block = call->op->u.space_to_depth.block;
    const int32_t channels = input_dim(call, 0)[CHAN];
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            for (int32_t k = r->lo[CHAN], n; k < r->hi[CHAN]; k += n) {
                const int32_t sub = k / channels, first = k % channels;
                n = min_i32(channels - first, r->hi[CHAN] - k);
                memcpy(
                    view_at(&call->out, y, x, k),
                    view_at(&call->in[0], y * block + sub / block, x * block + sub % block, first),
                    sizeof(float) * (size_t)n);
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
