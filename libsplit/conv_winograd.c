/* Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms
 * for Convolutional Neural Networks", 2016).
 *
 * A tile of m x m output pixels needs n x n input pixels, n = m + 2.  Both its input and the
 * kernel are transformed to n x n positions; at each position one matrix product over the
 * channels takes place, for many tiles at once; the result is transformed back.  That is n^2
 * products instead of 9 m^2.
 *
 * Tiles stand at multiples of m from the first row of the region.  Regions that begin and end
 * at multiples of m (or at the end of the map) therefore give, bit for bit, what one region
 * gives; others differ in the last bits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/conv.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

enum { KERNEL = 3, MAX_N = 6, MAX_POSITIONS = MAX_N * MAX_N };

/* Transformed tiles of a block, before and after the products, want to stay in a second-level
 * cache ... */
enum { BLOCK_BYTES = 768 << 10 };
/* ... but with fewer tiles than this the weights would be read too often. */
enum { MIN_TILES = 56 };

/* Floats between rows whose distance would otherwise be a multiple of 4 KiB, which all fall
 * into the same few lines of a cache. */
enum { SKEW = 16 };

/* Points 0, 1, -1 and infinity; and with 2 and -2. */
static const double G2[4][KERNEL] = { { 1, 0, 0 }, { .5, .5, .5 }, { .5, -.5, .5 }, { 0, 0, 1 } };
static const double G4[6][KERNEL] = { { 1. / 4, 0, 0 },
                                      { -1. / 6, -1. / 6, -1. / 6 },
                                      { -1. / 6, 1. / 6, -1. / 6 },
                                      { 1. / 24, 1. / 12, 1. / 6 },
                                      { 1. / 24, -1. / 12, 1. / 6 },
                                      { 0, 0, 1 } };

struct winograd {
    struct conv_panels layout; /* depth = cin */
    float *weights;            /* (position, panel, cin, panel's channels) */
    float *bias;               /* (vectors * width) */
};

static int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

static bool winograd_fits(const struct conv *c)
{
    const struct window *w = &c->win;
    for (int a = 0; a < 2; a++)
        if (w->kernel[a] != KERNEL || w->stride[a] != 1 || w->dilation[a] != 1)
            return false;
    return c->group == 1;
}

static size_t packed_bytes(const struct conv *c, const struct simd *simd, int32_t m)
{
    const struct conv_panels l = conv_panels(span_len(c->outs), c->cin, simd);
    const int64_t positions = (m + 2) * (m + 2);
    return (size_t)(conv_panels_size(&l) * positions + (int64_t)l.vectors * l.width) *
               sizeof(float) +
           sizeof(struct winograd);
}

static void winograd_release(void *packed)
{
    struct winograd *wg = packed;
    if (!wg)
        return;
    free(wg->weights);
    free(wg->bias);
    free(wg);
}

/* ---- Weights ---- */

/* U = G g G^T of one kernel; g (ky, kx) with `stride` floats from tap to tap. */
static void transform_kernel(const float *g, ptrdiff_t stride, int32_t n, const double (*G)[KERNEL],
                             float *u, ptrdiff_t u_position)
{
    for (int32_t i = 0; i < n; i++) {
        double row[KERNEL];
        for (int32_t x = 0; x < KERNEL; x++)
            row[x] = G[i][0] * (double)g[x * stride] + G[i][1] * (double)g[(KERNEL + x) * stride] +
                     G[i][2] * (double)g[(2 * KERNEL + x) * stride];
        for (int32_t j = 0; j < n; j++, u += u_position)
            *u = (float)(G[j][0] * row[0] + G[j][1] * row[1] + G[j][2] * row[2]);
    }
}

/* Output channels [lo, hi), as a panel of `channels`; `plain` has room for its kernels. */
static void pack_panel(const struct conv *c, int32_t lo, int32_t hi, int32_t channels, int32_t m,
                       float *plain, float *to, ptrdiff_t to_position)
{
    const int64_t taps = (int64_t)KERNEL * KERNEL;
    const int64_t *from = c->op->u.conv.weight.stride;
    const struct weight_layout l = {
        .extent = { 1, c->cout, c->cin, KERNEL, KERNEL },
        .from = { 0, from[0], from[1], from[2], from[3] },
        .to = { 0, 1, taps * channels, (int64_t)KERNEL * channels, channels },
    };
    weights_pack_outputs(plain, c->op, &l, 0, lo, hi);
    if (c->graph->model && (weights_by_output(&l) || hi == c->outs.hi))
        onnx_forget(c->graph->model, c->op->u.conv.weight.t);
    for (int32_t i = 0; i < c->cin; i++)
        for (int32_t o = 0; o < hi - lo; o++)
            transform_kernel(plain + (ptrdiff_t)i * taps * channels + o, channels, m + 2,
                             m == 2 ? G2 : G4, to + (ptrdiff_t)i * channels + o, to_position);
}

static int prepare(const struct conv *c, const struct simd *simd, int32_t m, void **packed)
{
    struct winograd *wg = calloc(1, sizeof(*wg));
    float *plain = NULL;
    int err = -ENOMEM;
    if (!wg)
        return err;
    wg->layout = conv_panels(span_len(c->outs), c->cin, simd);
    const struct conv_panels *l = &wg->layout;
    const int64_t position = conv_panels_size(l);
    wg->weights = weights_alloc(position * (m + 2) * (m + 2));
    wg->bias = weights_alloc((int64_t)l->vectors * l->width);
    plain = weights_alloc((int64_t)KERNEL * KERNEL * c->cin * simd->vectors * simd->width);
    if (!wg->weights || !wg->bias || !plain)
        goto out;
    for (int32_t p = 0; p < l->panels; p++) {
        const int32_t lo = conv_panel_at(l, p) * l->width, end = conv_panel_at(l, p + 1) * l->width;
        pack_panel(c, c->outs.lo + lo, min_i32(c->outs.lo + end, c->outs.hi), end - lo, m, plain,
                   wg->weights + (ptrdiff_t)lo * l->depth, position);
    }
    if (c->op->u.conv.bias)
        memcpy(wg->bias, c->op->u.conv.bias + c->outs.lo,
               (size_t)span_len(c->outs) * sizeof(float));
    *packed = wg;
    err = 0;
out:
    free(plain);
    if (err)
        winograd_release(wg);
    return err;
}

/* ---- Scratch ---- */

/* Where transformed tiles lie: (position, tile, channel), before and after the products. */
struct tiles {
    int32_t count; /* of a block */
    ptrdiff_t in_tile, in_position, out_tile, out_position;
};

/* The same whatever part of the weights is at hand: so is the scratch. */
static struct tiles tiles_of(const struct conv *c, const struct simd *simd, int32_t m)
{
    const struct conv_panels l = conv_panels(c->cout, c->cin, simd);
    const int64_t per_tile =
        (int64_t)(m + 2) * (m + 2) * (c->cin + l.vectors * l.width) * (int64_t)sizeof(float);
    const int64_t all = (int64_t)ceil_div(c->out[ROW], m) * ceil_div(c->out[COL], m);
    int64_t count = BLOCK_BYTES / per_tile;
    if (count < MIN_TILES)
        count = MIN_TILES;
    if (count > all)
        count = all;
    struct tiles t = { .count = (int32_t)count };
    t.in_tile = ceil_div(c->cin, SIMD_MAX_WIDTH) * SIMD_MAX_WIDTH + SKEW;
    t.out_tile = (ptrdiff_t)l.vectors * l.width + SKEW;
    t.in_position = t.count * t.in_tile + SKEW;
    t.out_position = t.count * t.out_tile + SKEW;
    return t;
}

static size_t scratch_bytes(const struct conv *c, const struct simd *simd, int32_t m)
{
    const struct tiles t = tiles_of(c, simd, m);
    return (size_t)((m + 2) * (m + 2) * (t.in_position + t.out_position) + t.in_tile) *
           sizeof(float);
}

/* ---- Running ---- */

struct job {
    const struct conv *c;
    const struct simd *simd;
    const struct winograd *wg;
    const struct kernel_call *call;
    int32_t m, across; /* tiles side by side */
    struct tiles tiles;
    struct span rows, cols; /* of input that may be read */
    struct simd_act act;
    float *zeros, *in, *out; /* (cin) zeros, transformed tiles; in the scratch */
};

/* First output pixel of tile `t` of the region. */
static int32_t tile_row(const struct job *j, int32_t t)
{
    return j->call->region.lo[ROW] + t / j->across * j->m;
}
static int32_t tile_col(const struct job *j, int32_t t)
{
    return j->call->region.lo[COL] + t % j->across * j->m;
}

static void transform_input(const struct job *j, int32_t first, int32_t count)
{
    const struct view *in = &j->call->in[0];
    const int32_t n = j->m + 2;
    for (int32_t t = 0; t < count; t++) {
        const int32_t y = tile_row(j, first + t) - j->c->win.pad[ROW];
        const int32_t x = tile_col(j, first + t) - j->c->win.pad[COL];
        const float *pixel[MAX_POSITIONS];
        for (int32_t r = 0; r < n; r++)
            for (int32_t q = 0; q < n; q++) {
                const bool held = y + r >= j->rows.lo && y + r < j->rows.hi &&
                                  x + q >= j->cols.lo && x + q < j->cols.hi;
                pixel[r * n + q] = held ? view_at(in, y + r, x + q, 0) : j->zeros;
            }
        j->simd->winograd_in[j->m](&(struct simd_tile){
            .x = pixel,
            .v = j->in + t * j->tiles.in_tile,
            .v_position = j->tiles.in_position,
            .channels = j->c->cin,
        });
    }
}

static void transform_output(const struct job *j, int32_t first, int32_t count)
{
    const struct box *r = &j->call->region;
    const struct view *out = &j->call->out, *add = &j->call->in[1];
    const bool adds = j->call->op->ninputs > 1;
    for (int32_t t = 0; t < count; t++) {
        const int32_t y = tile_row(j, first + t), x = tile_col(j, first + t), k = r->lo[CHAN];
        j->simd->winograd_out[j->m](&(struct simd_tile){
            .v = j->out + t * j->tiles.out_tile + k - j->c->outs.lo,
            .v_position = j->tiles.out_position,
            .channels = box_len(*r, CHAN),
            .out = view_at(out, y, x, k),
            .out_row = out->row_stride,
            .out_pixel = out->pixel_stride,
            .add = adds ? view_at(add, y, x, k) : NULL,
            .add_row = adds ? add->row_stride : 0,
            .add_pixel = adds ? add->pixel_stride : 0,
            .bias = j->wg->bias + k - j->c->outs.lo,
            .rows = min_i32(j->m, r->hi[ROW] - y),
            .cols = min_i32(j->m, r->hi[COL] - x),
            .act = j->act,
        });
    }
}

/* All tiles of a block at position `q` with panel `p`. */
static void multiply(const struct job *j, int32_t q, int32_t p, int32_t tiles)
{
    const struct conv_panels *l = &j->wg->layout;
    const int32_t v0 = conv_panel_at(l, p), vectors = conv_panel_at(l, p + 1) - v0;
    const float *weights =
        j->wg->weights + q * conv_panels_size(l) + (ptrdiff_t)v0 * l->width * l->depth;
    const float *in = j->in + q * j->tiles.in_position;
    float *out = j->out + q * j->tiles.out_position + (ptrdiff_t)v0 * l->width;
    struct simd_block b = {
        .rows = 1,
        .runs = 1,
        .len = l->depth,
        .in_pixel = j->tiles.in_tile,
        .out_pixel = j->tiles.out_tile,
        .last = l->width,
    };
    const int32_t count = ceil_div(tiles, j->simd->pixels[vectors]);
    /* All blocks but the first find the panel in the cache: together they fetch the next one,
     * which follows it in memory. */
    const ptrdiff_t step = (ptrdiff_t)vectors * l->width;
    b.ahead_step = step / count;
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = conv_block_at(tiles, count, i);
        const int32_t pixels = conv_block_at(tiles, count, i + 1) - first;
        b.ahead =
            weights + (count > 1 ? l->depth * (step + i * b.ahead_step) : CONV_STEPS_AHEAD * step);
        j->simd->block[vectors][pixels](&b, in + first * b.in_pixel, weights,
                                        out + first * b.out_pixel, NULL, NULL);
    }
}

/* The input behind the region and no more, whatever else the node holds: equal bits. */
static struct span reach(const struct conv *c, enum axis a, const struct box *r)
{
    return (struct span){
        .lo = max_i32(r->lo[a] - c->win.pad[a], 0),
        .hi = min_i32(r->hi[a] - c->win.pad[a] + KERNEL - 1, c->in[a]),
    };
}

static void run(const struct conv *c, const struct simd *simd, int32_t m, const void *packed,
                const struct kernel_call *call)
{
    const struct box *r = &call->region;
    struct act rest;
    struct job j = { .c = c, .simd = simd, .wg = packed, .call = call, .m = m };
    const struct conv_panels *l = &j.wg->layout;
    const int32_t positions = (m + 2) * (m + 2);
    j.act = conv_activation(&c->op->act, &rest);
    j.across = ceil_div(box_len(*r, COL), m);
    j.tiles = tiles_of(c, simd, m);
    j.rows = reach(c, ROW, r);
    j.cols = reach(c, COL, r);
    j.zeros = call->scratch;
    j.in = j.zeros + j.tiles.in_tile;
    j.out = j.in + positions * j.tiles.in_position;
    memset(j.zeros, 0, (size_t)c->cin * sizeof(float));

    const int32_t all = j.across * ceil_div(box_len(*r, ROW), m);
    for (int32_t first = 0; first < all; first += j.tiles.count) {
        const int32_t count = min_i32(j.tiles.count, all - first);
        transform_input(&j, first, count);
        for (int32_t q = 0; q < positions; q++)
            for (int32_t p = 0; p < l->panels; p++)
                if (conv_panel_at(l, p) * l->width < r->hi[CHAN] - c->outs.lo &&
                    conv_panel_at(l, p + 1) * l->width > r->lo[CHAN] - c->outs.lo)
                    multiply(&j, q, p, count);
        transform_output(&j, first, count);
    }
    conv_finish(call, &rest);
}

/* ---- F(2x2, 3x3) and F(4x4, 3x3) ---- */

static size_t packed_bytes2(const struct conv *c, const struct simd *s)
{
    return packed_bytes(c, s, 2);
}
static size_t packed_bytes4(const struct conv *c, const struct simd *s)
{
    return packed_bytes(c, s, 4);
}
static size_t scratch_bytes2(const struct conv *c, const struct simd *s)
{
    return scratch_bytes(c, s, 2);
}
static size_t scratch_bytes4(const struct conv *c, const struct simd *s)
{
    return scratch_bytes(c, s, 4);
}
static int prepare2(const struct conv *c, const struct simd *s, void **packed)
{
    return prepare(c, s, 2, packed);
}
static int prepare4(const struct conv *c, const struct simd *s, void **packed)
{
    return prepare(c, s, 4, packed);
}
static void run2(const struct conv *c, const struct simd *s, const void *packed,
                 const struct kernel_call *call)
{
    run(c, s, 2, packed, call);
}
static void run4(const struct conv *c, const struct simd *s, const void *packed,
                 const struct kernel_call *call)
{
    run(c, s, 4, packed, call);
}

const struct conv_method conv_winograd2 = {
    .name = "winograd2",
    .cut_rows = 2,
    .fits = winograd_fits,
    .packed_bytes = packed_bytes2,
    .scratch_bytes = scratch_bytes2,
    .prepare = prepare2,
    .release = winograd_release,
    .run = run2,
    .cut_channel = conv_cut_panels,
};

const struct conv_method conv_winograd4 = {
    .name = "winograd4",
    .cut_rows = 4,
    .fits = winograd_fits,
    .packed_bytes = packed_bytes4,
    .scratch_bytes = scratch_bytes4,
    .prepare = prepare4,
    .release = winograd_release,
    .run = run4,
    .cut_channel = conv_cut_panels,
};
