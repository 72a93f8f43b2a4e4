#include <math.h>

#include "libsplit/kernel_ops.h"

/* A share crosses the network as two floats a channel, the value and what rounding it to a
 * float lost: 48 bits, so that the result does not depend on how rows are cut. */

size_t partial_scratch_bytes(const struct graph *g, const struct op *op)
{
    return (size_t)g->tensor[op->input[0]].dim[CHAN] * sizeof(double);
}

static void add_pixel(double *restrict acc, const float *restrict x, int32_t n)
{
    for (int32_t k = 0; k < n; k++)
        acc[k] += (double)x[k];
}

static void max_pixel(double *restrict acc, const float *restrict x, int32_t n)
{
    for (int32_t k = 0; k < n; k++)
        acc[k] = (double)x[k] > acc[k] ? (double)x[k] : acc[k];
}

void partial_run(const struct kernel_call *call)
{
    const bool max = call->op->u.reduce.kind == REDUCE_MAX;
    const struct box *s = &call->share, *r = &call->region;
    const int32_t n = input_dim(call, 0)[CHAN];
    double *acc = (void *)call->scratch;
    for (int32_t k = 0; k < n; k++)
        acc[k] = max ? -INFINITY : 0;
    if (!box_empty(*s))
        for (int32_t y = s->lo[ROW]; y < s->hi[ROW]; y++)
            for (int32_t x = s->lo[COL]; x < s->hi[COL]; x++)
                (max ? max_pixel : add_pixel)(
                    acc + s->lo[CHAN], view_at(&call->in[0], y, x, s->lo[CHAN]), box_len(*s, CHAN));

    float *to = view_at(&call->out, r->lo[ROW], r->lo[COL], r->lo[CHAN]);
    for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++) {
        const double value = acc[k % n];
        const float high = (float)value;
        if (k < n)
            *to++ = high;
        else
            *to++ = isfinite(high) ? (float)(value - (double)high) : 0;
    }
}

void combine_run(const struct kernel_call *call)
{
    const struct op *op = call->op;
    const struct box *r = &call->region;
    const int32_t channels = output_dim(call)[CHAN];
    const bool max = op->u.reduce.kind == REDUCE_MAX;
    float *to = view_at(&call->out, r->lo[ROW], r->lo[COL], r->lo[CHAN]);
    for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++) {
        double acc = max ? -INFINITY : 0;
        for (int32_t node = 0; node < call->nodes; node++) {
            const double share = (double)*view_at(&call->in[0], node, 0, k) +
                                 (double)*view_at(&call->in[0], node, 0, channels + k);
            acc = !max ? acc + share : share > acc ? share : acc;
        }
        if (op->u.reduce.kind == REDUCE_MEAN)
            acc /= (double)op->u.reduce.count;
        *to++ = (float)acc;
    }
    act_region(call);
}
