#include <math.h>
#include <string.h>

#include "libsplit/kernel_ops.h"
#include "libsplit/simd.h"

enum { MAX_TAPS = 4 };

/* The input pixels behind a place on one axis, -1 where there is none, with their weights. */
struct taps {
    int32_t n;
    int32_t at[MAX_TAPS];
    float weight[MAX_TAPS];
};

/* Mirrored at `lo` and `hi` until it lies between. */
static float reflect(float x, float lo, float hi)
{
    const float span = hi - lo;
    if (span <= 0)
        return lo;
    const float off = fabsf(x - lo), rest = fmodf(off, span);
    return fmodf(floorf(off / span), 2) == 0 ? lo + rest : hi - rest;
}

/* A place as those are meant that lie beyond the map of `len`.  What is no number becomes one. */
static float brought_back(const struct op *op, float x, int32_t len)
{
    const float last = (float)(len - 1), edge = op->u.grid_sample.corners ? 0 : 0.5F;
    if (op->u.grid_sample.beyond == SAMPLE_ZEROS)
        return fminf(fmaxf(x, -3), last + 3); /* far enough to meet no pixel */
    if (op->u.grid_sample.beyond == SAMPLE_REFLECTION)
        x = reflect(x, -edge, last + edge);
    return fminf(fmaxf(x, 0), last);
}

/* Pixel `x` of an axis: its number, -1 if it lies beyond the map and is 0 there. */
static int32_t pixel(const struct op *op, float x, int32_t len)
{
    const float at = brought_back(op, x, len);
    return at >= 0 && at <= (float)(len - 1) ? (int32_t)rintf(at) : -1;
}

/* `g` is -1 to 1 over the map. */
static struct taps taps_at(const struct op *op, float g, int32_t len)
{
    const bool corners = op->u.grid_sample.corners;
    const float x = corners ? (g + 1) / 2 * (float)(len - 1) : ((g + 1) * (float)len - 1) / 2;
    struct taps t = { .n = 1, .weight = { 1 } };
    switch (op->u.grid_sample.mode) {
    case RESIZE_NEAREST:
        t.at[0] = pixel(op, rintf(brought_back(op, x, len)), len);
        return t;
    case RESIZE_LINEAR: {
        const float at = brought_back(op, x, len), first = floorf(at);
        t.n = 2;
        t.weight[1] = at - first;
        t.weight[0] = 1 - t.weight[1];
        for (int32_t i = 0; i < 2; i++)
            t.at[i] = pixel(op, first + (float)i, len);
        return t;
    }
    case RESIZE_CUBIC:
        break;
    }
    /* Every pixel around is brought back, the place itself is not. */
    const float tame = fminf(fmaxf(x, -1e6F), 1e6F), first = floorf(tame);
    t.n = 4;
    cubic_weights(tame - first, -0.75F, t.weight);
    for (int32_t i = 0; i < 4; i++)
        t.at[i] = pixel(op, first + (float)(i - 1), len);
    return t;
}

static void sample_pixel(const struct kernel_call *call, const struct simd *simd, int32_t y,
                         int32_t x)
{
    const float *grid = view_at(&call->in[1], y, x, 0); /* column, then row */
    const int32_t *dim = input_dim(call, 0);
    const int32_t k0 = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    const struct taps rows = taps_at(call->op, grid[1], dim[ROW]);
    const struct taps cols = taps_at(call->op, grid[0], dim[COL]);
    const float *from[MAX_TAPS * MAX_TAPS];
    float weight[MAX_TAPS * MAX_TAPS], *to = view_at(&call->out, y, x, k0);
    int32_t taps = 0;
    for (int32_t i = 0; i < rows.n; i++)
        for (int32_t j = 0; j < cols.n; j++) {
            if (rows.at[i] < 0 || cols.at[j] < 0)
                continue;
            from[taps] = view_at(&call->in[0], rows.at[i], cols.at[j], k0);
            weight[taps++] = rows.weight[i] * cols.weight[j];
        }
    if (taps > 0)
        simd->blend(from, weight, taps, to, n);
    else
        memset(to, 0, (size_t)n * sizeof *to);
}

void grid_sample_run(const struct kernel_call *call)
{
    const struct simd *simd = simd_best();
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            sample_pixel(call, simd, y, x);
    act_region(call);
}
