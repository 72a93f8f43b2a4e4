#include <math.h>

#include "libsplit/kernel_ops.h"

/* The values on a line along the operator's axis. */
struct line {
    const float *first;
    ptrdiff_t step;
    int32_t len;
};

static struct line line_through(const struct kernel_call *call, const int32_t at[AXES])
{
    const enum axis axis = call->op->u.top_k.axis;
    const struct view *v = &call->in[0];
    const ptrdiff_t step[AXES] = { v->row_stride, v->pixel_stride, 1 };
    int32_t start[AXES] = { at[ROW], at[COL], at[CHAN] };
    start[axis] = 0;
    return (struct line){ view_at(v, start[ROW], start[COL], start[CHAN]), step[axis],
                          input_dim(call, 0)[axis] };
}

/* Does place `i` of the line come before place `j`?  What is no number comes after all that are. */
static bool before(const struct line *l, bool smallest, int32_t i, int32_t j)
{
    const float a = l->first[i * l->step], b = l->first[j * l->step];
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b) ? i < j : isnan(b);
    if (a != b)
        return smallest ? a < b : a > b;
    return i < j;
}

/* The place that comes next after `last`, -1: the first of all. */
static int32_t next_place(const struct line *l, bool smallest, int32_t last)
{
    int32_t best = -1;
    for (int32_t i = 0; i < l->len; i++)
        if ((last < 0 || before(l, smallest, last, i)) &&
            (best < 0 || before(l, smallest, i, best)))
            best = i;
    return best;
}

/* All results of one line, of which those in the region are written. */
static void one_line(const struct kernel_call *call, int32_t at[AXES])
{
    const struct op *op = call->op;
    const enum axis axis = op->u.top_k.axis;
    const struct line l = line_through(call, at);
    int32_t place = -1;
    for (int32_t n = 0; n < call->region.hi[axis]; n++) {
        place = next_place(&l, op->u.top_k.smallest, place);
        if (n < call->region.lo[axis])
            continue;
        at[axis] = n;
        *view_at(&call->out, at[ROW], at[COL], at[CHAN]) =
            op->u.top_k.indices ? (float)place : l.first[place * l.step];
    }
}

void top_k_run(const struct kernel_call *call)
{
    struct box r = call->region;
    r.hi[call->op->u.top_k.axis] = r.lo[call->op->u.top_k.axis] + 1;
    for (int32_t y = r.lo[ROW]; y < r.hi[ROW]; y++)
        for (int32_t x = r.lo[COL]; x < r.hi[COL]; x++)
            for (int32_t k = r.lo[CHAN]; k < r.hi[CHAN]; k++)
                one_line(call, (int32_t[AXES]){ y, x, k });
    act_region(call);
}
