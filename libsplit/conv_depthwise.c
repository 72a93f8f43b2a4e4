/* Depthwise convolution: every channel has a kernel of its own.
 *
 * Rows of 3x3 windows that lie on the map keep the nine weights in registers and compute two
 * output rows at once; all other pixels gather the taps that exist.  Both sum a pixel's taps
 * in the same order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/conv.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

/* Input rows of one column of output blocks: they are read again for the next output rows. */
enum { NEAR_BYTES = 32 << 10, MIN_PIXELS = 8 };

enum { MAX_TAPS = 1 << 10 };

struct depthwise {
    int64_t stride; /* floats from one tap's weights to the next: channels, rounded up */
    float *weights; /* (ky, kx, stride) */
    float *bias;    /* (stride), zeros where the model has none */
};

static int32_t taps_of(const struct conv *c) { return c->win.kernel[ROW] * c->win.kernel[COL]; }

/* A vector may reach over the end of the last tap. */
static int64_t stride_of(const struct conv *c)
{
    return ((int64_t)span_len(c->groups) + SIMD_MAX_WIDTH - 1) / SIMD_MAX_WIDTH * SIMD_MAX_WIDTH;
}

static bool depthwise_fits(const struct conv *c)
{
    return c->cin == 1 && c->cout == 1 && conv_depth(c) <= MAX_TAPS;
}

static size_t depthwise_packed_bytes(const struct conv *c, const struct simd *simd)
{
    (void)simd;
    return (size_t)(stride_of(c) * (taps_of(c) + 1) + 2 * SIMD_MAX_WIDTH) * sizeof(float) +
           sizeof(struct depthwise);
}

static size_t depthwise_scratch_bytes(const struct conv *c, const struct simd *simd)
{
    (void)simd;
    return 2 * (size_t)taps_of(c) * sizeof(const float *);
}

static void depthwise_release(void *packed)
{
    struct depthwise *d = packed;
    if (!d)
        return;
    weights_free(d->weights);
    weights_free(d->bias);
    free(d);
}

static int depthwise_prepare(const struct conv *c, const struct simd *simd, void **packed)
{
    (void)simd;
    struct depthwise *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->stride = stride_of(c);
    d->weights = weights_alloc(d->stride * taps_of(c) + SIMD_MAX_WIDTH);
    d->bias = weights_alloc(d->stride + SIMD_MAX_WIDTH);
    if (!d->weights || !d->bias) {
        depthwise_release(d);
        return -ENOMEM;
    }
    const int64_t *from = c->op->u.conv.weight.stride;
    const struct weight_layout l = {
        .extent = { c->group, 1, 1, c->win.kernel[ROW], c->win.kernel[COL] },
        .from = { from[0], from[0], from[1], from[2], from[3] },
        .to = { 1, 0, 0, d->stride * c->win.kernel[COL], d->stride },
    };
    for (int32_t i = 0; i < span_len(c->groups); i++)
        weights_pack_part(d->weights + i, c->op, &l, c->groups.lo + i, (struct span){ 0, 1 },
                          (struct span){ 0, 1 });
    if (c->graph->model)
        onnx_forget(c->graph->model, c->op->u.conv.weight.t);
    if (c->op->u.conv.bias)
        memcpy(d->bias, c->op->u.conv.bias + c->groups.lo,
               (size_t)span_len(c->groups) * sizeof(float));
    *packed = d;
    return 0;
}

/* ---- Running ---- */

struct job {
    const struct conv *c;
    const struct simd *simd;
    const struct depthwise *d;
    const struct kernel_call *call;
    struct simd_act act;
    int32_t k, channels;  /* first channel, number of channels */
    int32_t held;         /* place of the first among those at hand */
    const float **x, **w; /* [taps], in the scratch */
};

/* Any pixel: the taps that fall on the map, in order. */
static void gather_pixel(const struct job *j, int32_t y, int32_t x)
{
    const struct window *w = &j->c->win;
    int32_t taps = 0;
    for (int32_t ky = 0; ky < w->kernel[ROW]; ky++) {
        const int32_t iy = y * w->stride[ROW] - w->pad[ROW] + ky * w->dilation[ROW];
        if (iy < 0 || iy >= j->c->in[ROW])
            continue;
        for (int32_t kx = 0; kx < w->kernel[COL]; kx++) {
            const int32_t ix = x * w->stride[COL] - w->pad[COL] + kx * w->dilation[COL];
            if (ix < 0 || ix >= j->c->in[COL])
                continue;
            j->x[taps] = view_at(&j->call->in[0], iy, ix, j->k);
            j->w[taps++] = j->d->weights + (ky * w->kernel[COL] + kx) * j->d->stride + j->held;
        }
    }
    j->simd->taps(j->x, j->w, taps, j->d->bias + j->held, view_at(&j->call->out, y, x, j->k),
                  j->channels, &j->act);
}

static void gather_pixels(const struct job *j, int32_t y, int32_t lo, int32_t hi)
{
    for (int32_t x = lo; x < hi; x++)
        gather_pixel(j, y, x);
}

/* `rows` (1 or 2) rows of `pixels` windows that lie on the map, from (y, x) on. */
static void fast_rows(const struct job *j, int32_t y, int32_t x, int32_t rows, int32_t pixels)
{
    const struct window *w = &j->c->win;
    const struct view *in = &j->call->in[0], *out = &j->call->out;
    const int32_t stride = w->stride[ROW];
    struct simd_depthwise d = {
        .in_pixel = in->pixel_stride,
        .w = j->d->weights + j->held,
        .bias = j->d->bias + j->held,
        .w_stride = j->d->stride,
        .out = view_at(out, y, x, j->k),
        .out_pixel = out->pixel_stride,
        .out_row = out->row_stride,
        .pixels = pixels,
        .channels = j->channels,
        .act = j->act,
    };
    for (int32_t i = 0; i < (rows - 1) * stride + 3; i++)
        d.row[i] = view_at(in, y * stride - w->pad[ROW] + i, x * stride - w->pad[COL], j->k);
    j->simd->depthwise[stride][rows](&d);
}

static bool has_fast_rows(const struct window *w)
{
    return w->kernel[ROW] == 3 && w->kernel[COL] == 3 && w->dilation[ROW] == 1 &&
           w->dilation[COL] == 1 && w->stride[ROW] == w->stride[COL] && w->stride[ROW] <= 2;
}

/* Columns [lo, hi) of rows [ys.lo, ys.hi), all windows on the map, in strips narrow enough for
 * the input rows to stay near from one output row to the next. */
static void fast_box(const struct job *j, struct span ys, int32_t lo, int32_t hi)
{
    const int64_t column =
        (int64_t)5 * j->channels * (int64_t)sizeof(float) * j->c->win.stride[COL];
    const int32_t most = max_i32((int32_t)(NEAR_BYTES / column), MIN_PIXELS);
    const int32_t count = (hi - lo + most - 1) / most;
    for (int32_t i = 0; i < count; i++) {
        const int32_t x = lo + conv_block_at(hi - lo, count, i);
        const int32_t pixels = lo + conv_block_at(hi - lo, count, i + 1) - x;
        for (int32_t y = ys.lo; y < ys.hi; y += 2)
            fast_rows(j, y, x, min_i32(2, ys.hi - y), pixels);
    }
}

/* Adds the second input, pixel by pixel, then activates. */
static void add_input(const struct kernel_call *call, const struct simd *simd,
                      const struct simd_act *act)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            float *to = view_at(&call->out, y, x, r->lo[CHAN]);
            simd->add(to, view_at(&call->in[1], y, x, r->lo[CHAN]), to, box_len(*r, CHAN), act);
        }
}

static void depthwise_run(const struct conv *c, const struct simd *simd, const void *packed,
                          const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const bool adds = call->op->ninputs > 1;
    struct act rest;
    const struct simd_act act = conv_activation(&c->op->act, &rest);
    struct job j = {
        .c = c,
        .simd = simd,
        .d = packed,
        .call = call,
        .act = adds ? (struct simd_act){ .kind = SIMD_NONE } : act,
        .k = r->lo[CHAN],
        .channels = box_len(*r, CHAN),
        .held = r->lo[CHAN] - c->groups.lo,
        .x = (const float **)(void *)call->scratch,
    };
    j.w = j.x + taps_of(c);
    struct span ys = { r->lo[ROW], r->lo[ROW] }, xs = { r->lo[COL], r->lo[COL] };
    if (has_fast_rows(&c->win)) {
        ys = windows_inside(&c->win, ROW, c->in[ROW], r);
        xs = windows_inside(&c->win, COL, c->in[COL], r);
    }
    if (ys.lo < ys.hi && xs.lo < xs.hi)
        fast_box(&j, ys, xs.lo, xs.hi);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        if (y < ys.lo || y >= ys.hi || xs.lo >= xs.hi) {
            gather_pixels(&j, y, r->lo[COL], r->hi[COL]);
            continue;
        }
        gather_pixels(&j, y, r->lo[COL], xs.lo);
        gather_pixels(&j, y, xs.hi, r->hi[COL]);
    }
    if (adds)
        add_input(call, simd, &act);
    conv_finish(call, &rest);
}

static int32_t depthwise_cut_channel(const struct conv *c, const struct simd *simd, int32_t at)
{
    (void)c;
    (void)simd;
    return at / SIMD_MAX_WIDTH * SIMD_MAX_WIDTH;
}

const struct conv_method conv_depthwise = {
    .name = "depthwise",
    .cut_rows = 1,
    .fits = depthwise_fits,
    .packed_bytes = depthwise_packed_bytes,
    .scratch_bytes = depthwise_scratch_bytes,
    .prepare = depthwise_prepare,
    .release = depthwise_release,
    .run = depthwise_run,
    .cut_channel = depthwise_cut_channel,
};
