#include <errno.h>
#include <string.h>

#include "libsplit/gemm.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

/* Columns of one product.  Blocks start at multiples of this in the whole map, so that a
 * product covers the same pixels however rows are cut: equal extents, equal bits. */
enum { BLOCK = 256 };

struct conv {
    struct window win;
    int32_t group, cin, cout; /* channels of one group */
};

static struct conv conv_of(const struct graph *g, const struct op *op)
{
    return (struct conv){
        .win = op->u.conv.win,
        .group = op->u.conv.group,
        .cin = g->tensor[op->input[0]].dim[CHAN] / op->u.conv.group,
        .cout = g->tensor[op->output].dim[CHAN] / op->u.conv.group,
    };
}

/* One input channel per group: a product has nothing to gain. */
static bool is_depthwise(const struct conv *cv) { return cv->group > 1 && cv->cin == 1; }

/* Values behind one output value: the depth of the product. */
static int32_t depth(const struct conv *cv)
{
    return cv->win.kernel[ROW] * cv->win.kernel[COL] * cv->cin;
}

/* Packed weights: (group, ky, kx, cin, cout), depthwise (ky, kx, group * cout). */
static struct weight_layout layout_of(const struct op *op, const struct conv *cv)
{
    const int64_t *from = op->u.conv.weight.stride;
    const int64_t kh = cv->win.kernel[ROW], kw = cv->win.kernel[COL];
    const int64_t cin = cv->cin, cout = cv->cout;
    const int64_t pixel = is_depthwise(cv) ? cv->group * cout : cin * cout;
    return (struct weight_layout){
        .extent = { cv->group, cout, cin, kh, kw },
        .from = { cout * from[0], from[0], from[1], from[2], from[3] },
        .to = { is_depthwise(cv) ? cout : kh * kw * cin * cout, 1, cout, kw * pixel, pixel },
    };
}

int conv_prepare(const struct graph *g, const struct op *op, void **packed)
{
    const struct conv cv = conv_of(g, op);
    const struct weight_layout l = layout_of(op, &cv);
    float *w = weights_pack(g, op, &l);
    if (!w)
        return -ENOMEM;
    *packed = w;
    return 0;
}

size_t conv_packed_bytes(const struct graph *g, const struct op *op)
{
    const struct conv cv = conv_of(g, op);
    const struct weight_layout l = layout_of(op, &cv);
    return (size_t)weights_count(&l) * sizeof(float);
}

size_t conv_scratch_bytes(const struct graph *g, const struct op *op)
{
    const struct conv cv = conv_of(g, op);
    const int32_t cols = min_i32(g->tensor[op->output].dim[COL], BLOCK);
    return is_depthwise(&cv) ? 0 : (size_t)cols * (size_t)depth(&cv) * sizeof(float);
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
                        int32_t k0, const struct conv *cv, struct span taps)
{
    const int32_t kw = cv->win.kernel[COL], dil = cv->win.dilation[COL], cin = cv->cin;
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
static void gather_row(const struct kernel_call *call, const struct conv *cv, int32_t group,
                       int32_t y, int32_t c0, int32_t c1, float *a)
{
    const struct window *w = &cv->win;
    const int32_t *dim = input_dim(call, 0);
    const int32_t line = w->kernel[COL] * cv->cin;
    const int32_t y0 = y * w->stride[ROW] - w->pad[ROW];
    const struct span rows = taps_inside(y0, w->kernel[ROW], w->dilation[ROW], dim[ROW]);
    for (int32_t x = c0; x < c1; x++, a += depth(cv)) {
        const int32_t x0 = x * w->stride[COL] - w->pad[COL];
        const struct span cols = taps_inside(x0, w->kernel[COL], w->dilation[COL], dim[COL]);
        memset(a, 0, (size_t)rows.lo * (size_t)line * sizeof(float));
        for (int32_t ky = rows.lo; ky < rows.hi; ky++)
            gather_taps(a + (ptrdiff_t)ky * line, &call->in[0], y0 + ky * w->dilation[ROW], x0,
                        group * cv->cin, cv, cols);
        memset(a + (ptrdiff_t)rows.hi * line, 0,
               (size_t)(w->kernel[ROW] - rows.hi) * (size_t)line * sizeof(float));
    }
}

/* True when the input pixels themselves are the rows of the product. */
static bool reads_input_directly(const struct window *w)
{
    return w->kernel[ROW] == 1 && w->kernel[COL] == 1 && w->pad[ROW] == 0 && w->pad[COL] == 0 &&
           w->pad_end[ROW] == 0 && w->pad_end[COL] == 0;
}

/* One product per group: output pixels [c0, c1) of row y, without bias. */
static void multiply_row(const struct kernel_call *call, const struct conv *cv, int32_t y,
                         int32_t c0, int32_t c1)
{
    const struct window *w = &cv->win;
    const struct box *r = &call->region;
    const int32_t k = depth(cv);
    for (int32_t g = r->lo[CHAN] / cv->cout; g * cv->cout < r->hi[CHAN]; g++) {
        const int32_t lo = max_i32(r->lo[CHAN], g * cv->cout);
        const int32_t hi = min_i32(r->hi[CHAN], (g + 1) * cv->cout);
        const float *weight = (const float *)call->op->packed + (ptrdiff_t)g * k * cv->cout;
        const float *a = call->scratch;
        ptrdiff_t lda = k;
        if (reads_input_directly(w)) {
            a = view_at(&call->in[0], y * w->stride[ROW], c0 * w->stride[COL], g * cv->cin);
            lda = call->in[0].pixel_stride * w->stride[COL];
        } else {
            gather_row(call, cv, g, y, c0, c1, call->scratch);
        }
        gemm(c1 - c0, hi - lo, k, a, lda, weight + (lo - g * cv->cout), cv->cout,
             view_at(&call->out, y, c0, lo), call->out.pixel_stride);
    }
}

static void accumulate(float *restrict acc, const float *restrict x, const float *restrict w,
                       int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        acc[i] += x[i] * w[i];
}

/* One tap of a depthwise convolution for output channels [k0, k0 + n); `multiplier` output
 * channels share one input channel, `x` is that of channel k0. */
static void depthwise_tap(float *restrict acc, const float *restrict x, const float *restrict w,
                          int32_t k0, int32_t n, int32_t multiplier)
{
    if (multiplier == 1) {
        accumulate(acc, x, w, n);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        acc[i] += x[(k0 + i) / multiplier - k0 / multiplier] * w[i];
}

static void depthwise_row(const struct kernel_call *call, const struct conv *cv, int32_t y,
                          int32_t c0, int32_t c1)
{
    const struct window *w = &cv->win;
    const struct view *in = &call->in[0];
    const int32_t *dim = input_dim(call, 0);
    const int32_t channels = cv->group * cv->cout;
    const int32_t k0 = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    const float *weight = (const float *)call->op->packed + k0;
    const int32_t y0 = y * w->stride[ROW] - w->pad[ROW];
    const struct span rows = taps_inside(y0, w->kernel[ROW], w->dilation[ROW], dim[ROW]);
    for (int32_t x = c0; x < c1; x++) {
        float *acc = view_at(&call->out, y, x, k0);
        memset(acc, 0, (size_t)n * sizeof(float));
        const int32_t x0 = x * w->stride[COL] - w->pad[COL];
        const struct span cols = taps_inside(x0, w->kernel[COL], w->dilation[COL], dim[COL]);
        for (int32_t ky = rows.lo; ky < rows.hi; ky++)
            for (int32_t kx = cols.lo; kx < cols.hi; kx++)
                depthwise_tap(acc,
                              view_at(in, y0 + ky * w->dilation[ROW], x0 + kx * w->dilation[COL],
                                      k0 / cv->cout),
                              weight + (ptrdiff_t)(ky * w->kernel[COL] + kx) * channels, k0, n,
                              cv->cout);
    }
}

/* Bias and activation of `n` pixels; `x` is channel `k0` of the first. */
static void finish(const struct op *op, float *x, ptrdiff_t pixel_stride, int32_t n, int32_t k0,
                   int32_t channels)
{
    if (op->u.conv.bias) {
        const float *restrict bias = op->u.conv.bias + k0;
        for (int32_t p = 0; p < n; p++) {
            float *restrict pixel = x + p * pixel_stride;
            for (int32_t i = 0; i < channels; i++)
                pixel[i] += bias[i];
        }
    }
    act_apply(&op->act, x, pixel_stride, n, k0, channels);
}

void conv_run(const struct kernel_call *call)
{
    const struct conv cv = conv_of(call->graph, call->op);
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t c0 = r->lo[COL], c1; c0 < r->hi[COL]; c0 = c1) {
            c1 = min_i32(r->hi[COL], (c0 / BLOCK + 1) * BLOCK);
            if (is_depthwise(&cv))
                depthwise_row(call, &cv, y, c0, c1);
            else
                multiply_row(call, &cv, y, c0, c1);
            finish(call->op, view_at(&call->out, y, c0, r->lo[CHAN]), call->out.pixel_stride,
                   c1 - c0, r->lo[CHAN], box_len(*r, CHAN));
        }
}
