/* Convolution as strips of im2col times the weights, by OpenBLAS: the fallback on machines that
 * nobody wrote vectors for, and the oracle of the other ways. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/conv.h"
#include "libsplit/gemm.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

/* Columns of one product.  Blocks start at multiples of this in the whole map, so that a
 * product covers the same pixels however rows are cut: equal extents, equal bits. */
enum { BLOCK = 256 };

/* Output channels of one product, counted from the first of their group, for the same reason. */
enum { CHANNELS = 64 };

static bool gemm_fits(const struct conv *c) { return conv_depth(c) <= INT32_MAX; }

/* The weights at hand, widened to whole products. */
static struct span held(const struct conv *c)
{
    return (struct span){
        .lo = c->outs.lo / CHANNELS * CHANNELS,
        .hi = min_i32((c->outs.hi + CHANNELS - 1) / CHANNELS * CHANNELS, c->cout),
    };
}

/* Packed weights: (group, ky, kx, cin, channel held). */
static struct weight_layout layout_of(const struct conv *c)
{
    const int64_t *from = c->op->u.conv.weight.stride;
    const int64_t kh = c->win.kernel[ROW], kw = c->win.kernel[COL];
    const int64_t cin = c->cin, cout = c->cout, line = span_len(held(c)), pixel = cin * line;
    return (struct weight_layout){
        .extent = { c->group, cout, cin, kh, kw },
        .from = { cout * from[0], from[0], from[1], from[2], from[3] },
        .to = { kh * kw * pixel, 1, line, kw * pixel, pixel },
    };
}

static int gemm_prepare(const struct conv *c, const struct simd *simd, void **packed)
{
    (void)simd;
    const struct weight_layout l = layout_of(c);
    *packed = weights_pack(c->graph, c->op, &l, c->groups, held(c));
    return *packed ? 0 : -ENOMEM;
}

static size_t gemm_packed_bytes(const struct conv *c, const struct simd *simd)
{
    (void)simd;
    const struct weight_layout l = layout_of(c);
    return (size_t)weights_count(&l, c->groups, held(c)) * sizeof(float);
}

static size_t gemm_scratch_bytes(const struct conv *c, const struct simd *simd)
{
    (void)simd;
    return (size_t)min_i32(c->out[COL], BLOCK) * (size_t)(conv_depth(c) + CHANNELS) * sizeof(float);
}

/* The taps [lo, hi) of a window whose first tap reads `at`, that fall inside [0, len). */
static struct span taps_inside(int32_t at, int32_t kernel, int32_t dilation, int32_t len)
{
    struct span s = { 0, kernel };
    if (at < 0)
        s.lo = min_i32((-at + dilation - 1) / dilation, kernel);
    if (at + (kernel - 1) * dilation >= len)
        s.hi = at >= len ? 0 : (len - 1 - at) / dilation + 1;
    if (s.hi < s.lo)
        s.hi = s.lo;
    return s;
}

/* Copies the taps of one kernel row for one output pixel; `from` is the pixel of tap 0, which
 * may lie outside the map as long as taps.lo does not. */
static void gather_taps(float *restrict to, const struct view *in, int32_t iy, int32_t ix,
                        int32_t k0, const struct conv *c, struct span taps)
{
    const int32_t kw = c->win.kernel[COL], dil = c->win.dilation[COL], cin = c->cin;
    const size_t pixel = (size_t)cin * sizeof(float);
    memset(to, 0, (size_t)taps.lo * pixel);
    memset(to + (ptrdiff_t)taps.hi * cin, 0, (size_t)(kw - taps.hi) * pixel);
    if (taps.hi <= taps.lo)
        return;
    const float *from = view_at(in, iy, ix + taps.lo * dil, k0);
    if (dil == 1 && in->pixel_stride == cin) {
        memcpy(to + (ptrdiff_t)taps.lo * cin, from, (size_t)(taps.hi - taps.lo) * pixel);
        return;
    }
    for (int32_t t = taps.lo; t < taps.hi; t++, from += dil * in->pixel_stride)
        memcpy(to + (ptrdiff_t)t * cin, from, pixel);
}

/* im2col of output pixels [c0, c1) of row y: a (c1 - c0, ky, kx, cin), zeros for padding. */
static void gather_row(const struct kernel_call *call, const struct conv *c, int32_t group,
                       int32_t y, int32_t c0, int32_t c1, float *a)
{
    const struct window *w = &c->win;
    const int32_t *dim = input_dim(call, 0);
    const int32_t line = w->kernel[COL] * c->cin;
    const int32_t y0 = y * w->stride[ROW] - w->pad[ROW];
    const struct span rows = taps_inside(y0, w->kernel[ROW], w->dilation[ROW], dim[ROW]);
    for (int32_t x = c0; x < c1; x++, a += conv_depth(c)) {
        const int32_t x0 = x * w->stride[COL] - w->pad[COL];
        const struct span cols = taps_inside(x0, w->kernel[COL], w->dilation[COL], dim[COL]);
        memset(a, 0, (size_t)rows.lo * (size_t)line * sizeof(float));
        for (int32_t ky = rows.lo; ky < rows.hi; ky++)
            gather_taps(a + (ptrdiff_t)ky * line, &call->in[0], y0 + ky * w->dilation[ROW], x0,
                        group * c->cin, c, cols);
        memset(a + (ptrdiff_t)rows.hi * line, 0,
               (size_t)(w->kernel[ROW] - rows.hi) * (size_t)line * sizeof(float));
    }
}

/* Output pixels [c0, c0 + n) of row y in one group: a (n, depth) times weights. */
struct strip {
    const struct view *out;
    int32_t y, c0, n, depth;
    const float *a;
    ptrdiff_t lda;
    int32_t first; /* output channel of the group */
    float *side;   /* (n, CHANNELS) */
};

/* Writes channels `wanted` of the group out of the product that yields channels `product`, with
 * `weight` (depth, product) in lines of `ldb`. */
static void multiply_channels(const struct strip *s, const float *weight, ptrdiff_t ldb,
                              struct span product, struct span wanted)
{
    const ptrdiff_t pixel = s->out->pixel_stride;
    float *to = view_at(s->out, s->y, s->c0, s->first + wanted.lo);
    if (product.lo == wanted.lo && product.hi == wanted.hi) {
        gemm(s->n, span_len(product), s->depth, s->a, s->lda, weight, ldb, to, pixel);
        return;
    }
    gemm(s->n, span_len(product), s->depth, s->a, s->lda, weight, ldb, s->side, CHANNELS);
    for (int32_t i = 0; i < s->n; i++)
        memcpy(to + i * pixel, s->side + (ptrdiff_t)i * CHANNELS + wanted.lo - product.lo,
               (size_t)span_len(wanted) * sizeof(float));
}

/* Output pixels [c0, c1) of row y in group `g`, without bias. */
static void multiply_group(const struct kernel_call *call, const struct conv *c,
                           const float *weights, int32_t g, int32_t y, int32_t c0, int32_t c1)
{
    const struct window *w = &c->win;
    const int32_t depth = (int32_t)conv_depth(c);
    const struct span at_hand = held(c);
    struct strip s = { .out = &call->out, .y = y, .c0 = c0, .n = c1 - c0, .depth = depth };
    s.side = call->scratch + (ptrdiff_t)s.n * depth;
    s.first = g * c->cout;
    if (w->kernel[ROW] == 1 && w->kernel[COL] == 1 && !conv_is_padded(c, &call->region)) {
        s.a = view_at(&call->in[0], y * w->stride[ROW] - w->pad[ROW],
                      c0 * w->stride[COL] - w->pad[COL], g * c->cin);
        s.lda = call->in[0].pixel_stride * w->stride[COL];
    } else {
        gather_row(call, c, g, y, c0, c1, call->scratch);
        s.a = call->scratch;
        s.lda = depth;
    }
    weights += (ptrdiff_t)(g - c->groups.lo) * depth * span_len(at_hand);
    const int32_t lo = max_i32(call->region.lo[CHAN] - s.first, 0),
                  hi = min_i32(call->region.hi[CHAN] - s.first, c->cout);
    for (int32_t k = lo / CHANNELS * CHANNELS; k < hi; k += CHANNELS) {
        const struct span product = { k, min_i32(k + CHANNELS, c->cout) };
        const struct span wanted = { max_i32(k, lo), min_i32(product.hi, hi) };
        multiply_channels(&s, weights + (k - at_hand.lo), span_len(at_hand), product, wanted);
    }
}

/* Output pixels [c0, c1) of row y, without bias. */
static void multiply_row(const struct kernel_call *call, const struct conv *c, const float *weights,
                         int32_t y, int32_t c0, int32_t c1)
{
    const struct box *r = &call->region;
    for (int32_t g = r->lo[CHAN] / c->cout; g * c->cout < r->hi[CHAN]; g++)
        multiply_group(call, c, weights, g, y, c0, c1);
}

/* Bias, the value to add, and activation of pixels [c0, c1) of row y. */
static void finish(const struct kernel_call *call, int32_t y, int32_t c0, int32_t c1)
{
    const struct op *op = call->op;
    const int32_t k0 = call->region.lo[CHAN], channels = box_len(call->region, CHAN);
    for (int32_t x = c0; x < c1; x++) {
        float *restrict pixel = view_at(&call->out, y, x, k0);
        for (int32_t i = 0; op->u.conv.bias && i < channels; i++)
            pixel[i] += op->u.conv.bias[k0 + i];
        const float *more = op->ninputs > 1 ? view_at(&call->in[1], y, x, k0) : NULL;
        for (int32_t i = 0; more && i < channels; i++)
            pixel[i] += more[i];
    }
    act_apply(&op->act, view_at(&call->out, y, c0, k0), call->out.pixel_stride, c1 - c0, k0,
              channels);
}

static void gemm_run(const struct conv *c, const struct simd *simd, const void *packed,
                     const struct kernel_call *call)
{
    (void)simd;
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t c0 = r->lo[COL], c1; c0 < r->hi[COL]; c0 = c1) {
            c1 = min_i32(r->hi[COL], (c0 / BLOCK + 1) * BLOCK);
            multiply_row(call, c, packed, y, c0, c1);
            finish(call, y, c0, c1);
        }
}

/* Between products, or between groups. */
static int32_t gemm_cut_channel(const struct conv *c, const struct simd *simd, int32_t at)
{
    (void)simd;
    const int32_t unit = c->group > 1 ? c->cout : CHANNELS;
    return min_i32((at + unit / 2) / unit * unit, c->group * c->cout);
}

const struct conv_method conv_gemm = {
    .name = "gemm",
    .cut_rows = 1,
    .fits = gemm_fits,
    .packed_bytes = gemm_packed_bytes,
    .scratch_bytes = gemm_scratch_bytes,
    .prepare = gemm_prepare,
    .release = weights_free,
    .run = gemm_run,
    .cut_channel = gemm_cut_channel,
};
