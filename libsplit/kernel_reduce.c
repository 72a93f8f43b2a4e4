#include <math.h>

#include "libsplit/kernel_ops.h"
#include "libsplit/simd.h"

/* A share crosses the network as two floats a channel, the value and what rounding it to a
 * float lost: 48 bits, so that the result does not depend on how rows are cut. */

size_t partial_scratch_bytes(const struct graph *g, const struct op *op)
{
    return (size_t)g->tensor[op->input[0]].dim[CHAN] * sizeof(double);
}

static void max_row(double *restrict acc, const float *restrict x, ptrdiff_t pixel, int32_t pixels,
                    int32_t n)
{
    for (int32_t i = 0; i < pixels; i++, x += pixel)
        for (int32_t k = 0; k < n; k++)
            acc[k] = (double)x[k] > acc[k] ? (double)x[k] : acc[k];
}

void partial_run(const struct kernel_call *call)
{
    const struct simd *simd = simd_best();
    const bool max = call->op->u.reduce.kind == REDUCE_MAX;
    const struct box *s = &call->share, *r = &call->region;
    const int32_t n = input_dim(call, 0)[CHAN];
    double *acc = (void *)call->scratch;
    for (int32_t k = 0; k < n; k++)
        acc[k] = max ? -INFINITY : 0;
    for (int32_t y = s->lo[ROW]; !box_empty(*s) && y < s->hi[ROW]; y++) {
        const float *x = view_at(&call->in[0], y, s->lo[COL], s->lo[CHAN]);
        const ptrdiff_t pixel = call->in[0].pixel_stride;
        if (max)
            max_row(acc + s->lo[CHAN], x, pixel, box_len(*s, COL), box_len(*s, CHAN));
        else
            simd->sum(x, pixel, box_len(*s, COL), acc + s->lo[CHAN], box_len(*s, CHAN));
    }

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

/* ---- Over any axes ---- */

/* What has been seen so far of the values behind one result. */
struct tally {
    enum reduce_kind kind;
    bool last;
    double value;
    int32_t at, n;
};

static struct tally empty_tally(const struct op *op)
{
    struct tally t = { .kind = op->u.reduce.kind, .last = op->u.reduce.last };
    switch (t.kind) {
    case REDUCE_SUM:
    case REDUCE_MEAN:
        t.value = 0;
        break;
    case REDUCE_PROD:
        t.value = 1;
        break;
    case REDUCE_MAX:
    case REDUCE_ARG_MAX:
        t.value = -INFINITY;
        break;
    case REDUCE_MIN:
    case REDUCE_ARG_MIN:
        t.value = INFINITY;
        break;
    }
    return t;
}

static void take_arg(struct tally *t, double x)
{
    const bool better = t->kind == REDUCE_ARG_MAX ? x > t->value : x < t->value;
    if (better || (t->last && x == t->value)) {
        t->value = x;
        t->at = t->n;
    }
}

static void take(struct tally *t, double x)
{
    switch (t->kind) {
    case REDUCE_SUM:
    case REDUCE_MEAN:
        t->value += x;
        break;
    case REDUCE_PROD:
        t->value *= x;
        break;
    case REDUCE_MAX:
        t->value = x > t->value ? x : t->value;
        break;
    case REDUCE_MIN:
        t->value = x < t->value ? x : t->value;
        break;
    case REDUCE_ARG_MAX:
    case REDUCE_ARG_MIN:
        take_arg(t, x);
        break;
    }
    t->n++;
}

static float result(const struct tally *t)
{
    if (t->kind == REDUCE_ARG_MAX || t->kind == REDUCE_ARG_MIN)
        return (float)t->at;
    return (float)(t->kind == REDUCE_MEAN ? t->value / t->n : t->value);
}

/* The result at one place: over the axes that are reduced all of the input, on the others that
 * place. */
static float reduce_at(const struct kernel_call *call, const int32_t at[AXES])
{
    const int32_t *dim = input_dim(call, 0);
    struct box b;
    for (int a = 0; a < AXES; a++) {
        const bool over = call->op->u.reduce.over[a];
        b.lo[a] = over ? 0 : at[a];
        b.hi[a] = over ? dim[a] : at[a] + 1;
    }
    struct tally t = empty_tally(call->op);
    for (int32_t y = b.lo[ROW]; y < b.hi[ROW]; y++)
        for (int32_t x = b.lo[COL]; x < b.hi[COL]; x++) {
            const float *from = view_at(&call->in[0], y, x, b.lo[CHAN]);
            for (int32_t k = 0; k < box_len(b, CHAN); k++)
                take(&t, (double)from[k]);
        }
    return result(&t);
}

void reduce_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    int32_t at[AXES];
    for (at[ROW] = r->lo[ROW]; at[ROW] < r->hi[ROW]; at[ROW]++)
        for (at[COL] = r->lo[COL]; at[COL] < r->hi[COL]; at[COL]++) {
            float *to = view_at(&call->out, at[ROW], at[COL], r->lo[CHAN]);
            for (at[CHAN] = r->lo[CHAN]; at[CHAN] < r->hi[CHAN]; at[CHAN]++)
                *to++ = reduce_at(call, at);
        }
    act_region(call);
}
