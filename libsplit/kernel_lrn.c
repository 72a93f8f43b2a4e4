#include <math.h>

#include "libsplit/kernel_ops.h"

/* y = x / (bias + alpha / size * sum of squares in the window)^beta (Krizhevsky et al. 2012). */
static void one_pixel(const struct kernel_call *call, const float *from, float *to)
{
    const struct op *op = call->op;
    const int32_t channels = output_dim(call)[CHAN], size = op->u.lrn.size;
    const float factor = op->u.lrn.alpha / (float)size;
    for (int32_t k = call->region.lo[CHAN]; k < call->region.hi[CHAN]; k++) {
        const int32_t first = max_i32(k - (size - 1) / 2, 0);
        const int32_t end = min_i32(k + size / 2 + 1, channels);
        float sum = 0;
        for (int32_t i = first; i < end; i++)
            sum += from[i] * from[i];
        *to++ = from[k] / powf(op->u.lrn.bias + factor * sum, op->u.lrn.beta);
    }
}

void lrn_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            one_pixel(call, view_at(&call->in[0], y, x, 0), view_at(&call->out, y, x, r->lo[CHAN]));
    act_region(call);
}
