#include <math.h>

#include "libsplit/kernel_ops.h"
#include "libsplit/simd.h"

/* The taps of a window at output pixel `at` of one axis that fall on the map. */
struct taps {
    int32_t first; /* input coordinate of tap `lo` */
    int32_t lo, hi;
    int32_t padded; /* taps on the map or on its padding */
};

static struct taps taps_at(const struct window *w, enum axis a, int32_t at, int32_t len)
{
    const int32_t start = at * w->stride[a] - w->pad[a];
    struct taps t = { .lo = w->kernel[a] };
    for (int32_t k = w->kernel[a] - 1; k >= 0; k--) {
        const int32_t i = start + k * w->dilation[a];
        if (i < len + w->pad_end[a])
            t.padded++;
        if (i < 0 || i >= len)
            continue;
        if (t.hi == 0)
            t.hi = k + 1;
        t.lo = k;
        t.first = i;
    }
    if (t.hi == 0)
        t.lo = 0;
    return t;
}

/* Taps of a window that one pass over the channels takes. */
enum { MAX_TAPS = 16 };

/* to[k] = what pooling makes of x[t][k], t in 0..taps-1; a sum is divided by `divisor`.  `to` may
 * be one of x. */
typedef void (*pool_taps)(const struct simd *simd, const float *const *x, int32_t taps,
                          float divisor, float *to, int32_t channels);

static void max_taps(const struct simd *simd, const float *const *x, int32_t taps, float divisor,
                     float *to, int32_t channels)
{
    (void)divisor;
    simd->max(x, taps, to, channels);
}

static void average_taps(const struct simd *simd, const float *const *x, int32_t taps,
                         float divisor, float *to, int32_t channels)
{
    simd->average(x, taps, divisor, to, channels);
}

/* The input pixel under tap (ky, kx), from the region's first channel. */
static const float *under(const struct kernel_call *call, struct taps rows, struct taps cols,
                          int32_t ky, int32_t kx)
{
    const struct window *w = &call->op->u.pool.win;
    return view_at(&call->in[0], rows.first + (ky - rows.lo) * w->dilation[ROW],
                   cols.first + (kx - cols.lo) * w->dilation[COL], call->region.lo[CHAN]);
}

static float divisor_of(const struct op *op, struct taps rows, struct taps cols)
{
    const int32_t count = op->u.pool.count_include_pad ? rows.padded * cols.padded
                                                       : (rows.hi - rows.lo) * (cols.hi - cols.lo);
    return (float)max_i32(count, 1); /* a window on padding alone gives 0 */
}

static void pool_pixel(const struct kernel_call *call, const struct simd *simd, pool_taps pool,
                       int32_t y, int32_t at, struct taps rows)
{
    const struct window *w = &call->op->u.pool.win;
    const struct taps cols = taps_at(w, COL, at, input_dim(call, 0)[COL]);
    float *to = view_at(&call->out, y, at, call->region.lo[CHAN]);
    const int32_t n = box_len(call->region, CHAN);
    const float *x[MAX_TAPS];
    int32_t taps = 0;
    for (int32_t ky = rows.lo; ky < rows.hi; ky++)
        for (int32_t kx = cols.lo; kx < cols.hi; kx++) {
            if (taps == MAX_TAPS) {
                pool(simd, x, taps, 1, to, n);
                x[0] = to; /* joins the taps that are left */
                taps = 1;
            }
            x[taps++] = under(call, rows, cols, ky, kx);
        }
    pool(simd, x, taps, divisor_of(call->op, rows, cols), to, n);
}

/* Windows at columns `xs` of row `y`, all on the map: from one to the next, all taps move alike. */
static void pool_whole(const struct kernel_call *call, const struct simd *simd, pool_taps pool,
                       int32_t y, struct taps rows, struct span xs)
{
    const struct window *w = &call->op->u.pool.win;
    const struct taps cols = taps_at(w, COL, xs.lo, input_dim(call, 0)[COL]);
    const float divisor = divisor_of(call->op, rows, cols);
    const ptrdiff_t step = w->stride[COL] * call->in[0].pixel_stride;
    const int32_t n = box_len(call->region, CHAN);
    const float *x[MAX_TAPS];
    int32_t taps = 0;
    for (int32_t ky = rows.lo; ky < rows.hi; ky++)
        for (int32_t kx = cols.lo; kx < cols.hi; kx++)
            x[taps++] = under(call, rows, cols, ky, kx);
    float *to = view_at(&call->out, y, xs.lo, call->region.lo[CHAN]);
    for (int32_t i = xs.lo; i < xs.hi; i++, to += call->out.pixel_stride) {
        for (int32_t t = 0; t < taps && i > xs.lo; t++)
            x[t] += step;
        pool(simd, x, taps, divisor, to, n);
    }
}

/* The place in ONNX's order of the whole input of a window's first largest value. */
static float place_of_max(const struct kernel_call *call, struct taps rows, struct taps cols,
                          int32_t k)
{
    const struct op *op = call->op;
    const struct window *w = &op->u.pool.win;
    const int32_t *dim = input_dim(call, 0);
    float max = -INFINITY;
    int32_t row = rows.first, col = cols.first;
    for (int32_t ky = rows.lo; ky < rows.hi; ky++)
        for (int32_t kx = cols.lo; kx < cols.hi; kx++) {
            const float value = under(call, rows, cols, ky, kx)[k - call->region.lo[CHAN]];
            if (!(value > max))
                continue;
            max = value;
            row = rows.first + (ky - rows.lo) * w->dilation[ROW];
            col = cols.first + (kx - cols.lo) * w->dilation[COL];
        }
    const int32_t plane = call->image * dim[CHAN] + k;
    const int32_t in_plane = op->u.pool.rows_first ? col * dim[ROW] + row : row * dim[COL] + col;
    return (float)(plane * dim[ROW] * dim[COL] + in_plane);
}

static void run_places(const struct kernel_call *call)
{
    const struct window *w = &call->op->u.pool.win;
    const int32_t *dim = input_dim(call, 0);
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const struct taps rows = taps_at(w, ROW, y, dim[ROW]);
            const struct taps cols = taps_at(w, COL, x, dim[COL]);
            for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++)
                *view_at(&call->out, y, x, k) = place_of_max(call, rows, cols, k);
        }
    act_region(call);
}

static void run(const struct kernel_call *call, pool_taps pool)
{
    const struct window *w = &call->op->u.pool.win;
    const struct simd *simd = simd_best();
    const int32_t *dim = input_dim(call, 0);
    const struct box *r = &call->region;
    struct span whole = { r->lo[COL], r->lo[COL] };
    if ((int64_t)w->kernel[ROW] * w->kernel[COL] <= MAX_TAPS)
        whole = windows_inside(w, COL, dim[COL], r);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        const struct taps rows = taps_at(w, ROW, y, dim[ROW]);
        for (int32_t x = r->lo[COL]; x < whole.lo; x++)
            pool_pixel(call, simd, pool, y, x, rows);
        if (whole.lo < whole.hi)
            pool_whole(call, simd, pool, y, rows, whole);
        for (int32_t x = whole.hi; x < r->hi[COL]; x++)
            pool_pixel(call, simd, pool, y, x, rows);
    }
    act_region(call);
}

void max_pool_run(const struct kernel_call *call)
{
    if (call->op->u.pool.places)
        run_places(call);
    else
        run(call, max_taps);
}

void average_pool_run(const struct kernel_call *call) { run(call, average_taps); }
