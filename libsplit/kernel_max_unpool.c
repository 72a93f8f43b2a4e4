#include "libsplit/kernel_ops.h"

/* Puts the value at input pixel (y, x) where its place says, if that is in the region.  `first` is
 * the place of the plane's first value, of channel 0. */
static void put_pixel(const struct kernel_call *call, int32_t y, int32_t x)
{
    const int32_t rows = call->op->u.max_unpool.plane[ROW],
                  cols = call->op->u.max_unpool.plane[COL];
    const struct box *r = &call->region;
    for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++) {
        const float plane = (float)call->image * (float)input_dim(call, 0)[CHAN] + (float)k;
        const float place = *view_at(&call->in[1], y, x, k) - plane * (float)rows * (float)cols;
        if (!(place >= 0 && place < (float)rows * (float)cols)) /* nor is NaN */
            continue;
        const int32_t row = (int32_t)place / cols, col = (int32_t)place % cols;
        if (row >= r->lo[ROW] && row < r->hi[ROW] && col >= r->lo[COL] && col < r->hi[COL])
            *view_at(&call->out, row, col, k) = *view_at(&call->in[0], y, x, k);
    }
}

void max_unpool_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t *dim = input_dim(call, 0);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++)
                *view_at(&call->out, y, x, k) = 0;
    for (int32_t y = 0; y < dim[ROW]; y++)
        for (int32_t x = 0; x < dim[COL]; x++)
            put_pixel(call, y, x);
    act_region(call);
}
