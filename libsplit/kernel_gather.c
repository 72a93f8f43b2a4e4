#include <math.h>
#include <string.h>

#include "libsplit/kernel_ops.h"

/* The column of the input that an index of `n` numbers stands for, -1 if it is none. */
static int32_t place_of(const struct op *op, const float *index, int32_t n)
{
    int32_t place = 0;
    for (int32_t i = 0; i < n; i++) {
        const float len = (float)op->u.gather.len[i];
        if (!(index[i] >= -len && index[i] < len)) /* nor is NaN */
            return -1;
        const int32_t at = (int32_t)index[i];
        place += (at < 0 ? at + op->u.gather.len[i] : at) * op->u.gather.step[i];
    }
    return place;
}

static void gather_pixel(const struct kernel_call *call, int32_t y, int32_t x)
{
    const struct op *op = call->op;
    const int32_t lo = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    const int32_t row = input_dim(call, 1)[ROW] == 1 ? 0 : y;
    float *to = view_at(&call->out, y, x, lo);
    if (op->u.gather.each) {
        const float *index = view_at(&call->in[1], row, x, lo);
        for (int32_t k = 0; k < n; k++) {
            const int32_t place = place_of(op, &index[k], 1);
            to[k] = place < 0 ? NAN : *view_at(&call->in[0], y, place, lo + k);
        }
        return;
    }
    const int32_t place = place_of(op, view_at(&call->in[1], row, x, 0), op->u.gather.n);
    if (place >= 0) {
        memcpy(to, view_at(&call->in[0], y, place, lo), (size_t)n * sizeof *to);
        return;
    }
    for (int32_t k = 0; k < n; k++)
        to[k] = NAN;
}

void gather_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            gather_pixel(call, y, x);
    act_region(call);
}
