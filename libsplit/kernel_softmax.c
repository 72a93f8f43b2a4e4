#include <math.h>

#include "libsplit/kernel_ops.h"

/* Largest value of `box`. */
static float largest(const struct view *v, const struct box *box)
{
    float max = -INFINITY;
    for (int32_t y = box->lo[ROW]; y < box->hi[ROW]; y++)
        for (int32_t x = box->lo[COL]; x < box->hi[COL]; x++) {
            const float *from = view_at(v, y, x, box->lo[CHAN]);
            for (int32_t k = 0; k < box_len(*box, CHAN); k++)
                max = from[k] > max ? from[k] : max;
        }
    return max;
}

static double sum_of_exp(const struct view *v, const struct box *box, float max)
{
    double sum = 0;
    for (int32_t y = box->lo[ROW]; y < box->hi[ROW]; y++)
        for (int32_t x = box->lo[COL]; x < box->hi[COL]; x++) {
            const float *from = view_at(v, y, x, box->lo[CHAN]);
            for (int32_t k = 0; k < box_len(*box, CHAN); k++)
                sum += (double)expf(from[k] - max);
        }
    return sum;
}

static void normalize(const struct kernel_call *call, const struct box *part, float max, double sum)
{
    const bool log_of = call->op->u.softmax.log;
    const float factor = (float)(1 / sum), log_sum = (float)log(sum);
    for (int32_t y = part->lo[ROW]; y < part->hi[ROW]; y++)
        for (int32_t x = part->lo[COL]; x < part->hi[COL]; x++) {
            const float *from = view_at(&call->in[0], y, x, part->lo[CHAN]);
            float *to = view_at(&call->out, y, x, part->lo[CHAN]);
            for (int32_t k = 0; k < box_len(*part, CHAN); k++)
                to[k] = log_of ? from[k] - max - log_sum : expf(from[k] - max) * factor;
        }
}

/* One softmax: all of the axes it runs over, one position of the others. */
static void one_softmax(const struct kernel_call *call, const int32_t at[AXES])
{
    const int32_t *dim = output_dim(call);
    struct box all, part; /* what it runs over; what of that is wanted */
    for (int a = 0; a < AXES; a++) {
        const bool over = call->op->u.softmax.over[a];
        all.lo[a] = over ? 0 : at[a];
        all.hi[a] = over ? dim[a] : at[a] + 1;
        part.lo[a] = over ? call->region.lo[a] : at[a];
        part.hi[a] = over ? call->region.hi[a] : at[a] + 1;
    }
    const float max = largest(&call->in[0], &all);
    normalize(call, &part, max, sum_of_exp(&call->in[0], &all, max));
}

void softmax_run(const struct kernel_call *call)
{
    /* One position on the axes that a softmax runs over, all of the region on the others. */
    struct box r = call->region;
    for (int a = 0; a < AXES; a++)
        if (call->op->u.softmax.over[a])
            r.hi[a] = r.lo[a] + 1;
    int32_t at[AXES];
    for (at[ROW] = r.lo[ROW]; at[ROW] < r.hi[ROW]; at[ROW]++)
        for (at[COL] = r.lo[COL]; at[COL] < r.hi[COL]; at[COL]++)
            for (at[CHAN] = r.lo[CHAN]; at[CHAN] < r.hi[CHAN]; at[CHAN]++)
                one_softmax(call, at);
    act_region(call);
}
