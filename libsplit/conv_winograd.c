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

enum { KERNEL = 3, TAPS = KERNEL * KERNEL, MAX_N = 6, MAX_POSITIONS = MAX_N * MAX_N };

/* Input channels whose products are summed up before they are added to those before them, so that
 * the transformed kernels of a panel stay near where they are made anew in every frame.  The same
 * for every instruction set, and whether or not kernels are kept: equal bits.  Half as many cost
 * 3 % of a network, a quarter 15 %. */
enum { CHUNK = 256 };

/* Transformed kernels whose panels take turns at one position, while its tiles are near ... */
enum { GROUP_BYTES = 640 << 10 };
/* ... and transformed tiles of a block, before and after the products, want to stay in a
 * second-level cache, ... */
enum { BLOCK_BYTES = 768 << 10 };
/* ... but with fewer tiles than this kernels would be read, or transformed, too often. */
enum { MIN_TILES = 56 };

/* Floats between rows whose distance would otherwise be a multiple of 4 KiB, which all fall
 * into the same few lines of a cache. */
enum { SKEW = 16 };

struct winograd {
    struct conv_panels layout; /* depth = cin */
    /* Transformed kernels: (panel, chunk, position, input channel, panel's channels), SKEW floats
     * behind every position; or plain ones: (panel, chunk, vector, input channel, tap, vector's
     * channels). */
    float *weights;
    float *bias; /* (vectors * width) */
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

static void winograd_release(void *packed)
{
    struct winograd *wg = packed;
    if (!wg)
        return;
    weights_free(wg->weights);
    weights_free(wg->bias);
    free(wg);
}

/* ---- Weights ---- */

static int32_t positions_of(int32_t m) { return (m + 2) * (m + 2); }

static int32_t chunks_of(int32_t cin) { return ceil_div(cin, CHUNK); }

/* First input channel of chunk `i`. */
static int32_t chunk_at(int32_t cin, int32_t i) { return conv_block_at(cin, chunks_of(cin), i); }

/* Where plain kernels of chunk `chunk` of panel `p` begin. */
static ptrdiff_t plain_at(const struct conv_panels *l, int32_t p, int32_t chunk)
{
    const int64_t v0 = conv_panel_at(l, p), vectors = conv_panel_at(l, p + 1) - v0;
    return (ptrdiff_t)TAPS * l->width * (v0 * l->depth + vectors * chunk_at(l->depth, chunk));
}

/* Where kept kernels of chunk `chunk` of panel `p` begin. */
static ptrdiff_t kept_at(const struct conv_panels *l, int32_t m, int32_t p, int32_t chunk)
{
    const int64_t v0 = conv_panel_at(l, p), channels = (conv_panel_at(l, p + 1) - v0) * l->width;
    const int64_t chunks = chunks_of(l->depth);
    return positions_of(m) * (v0 * l->width * l->depth + chunk_at(l->depth, chunk) * channels +
                              (p * chunks + chunk) * SKEW);
}

static int64_t weights_size(const struct conv *c, const struct conv_panels *l, int32_t m)
{
    return c->keep ? kept_at(l, m, l->panels, 0) : TAPS * conv_panels_size(l);
}

static size_t packed_bytes(const struct conv *c, const struct simd *simd, int32_t m)
{
    const struct conv_panels l = conv_panels(span_len(c->outs), c->cin, simd);
    return (size_t)(weights_size(c, &l, m) + (int64_t)l.vectors * l.width) * sizeof(float) +
           sizeof(struct winograd);
}

/* Plain kernels of panel `p`, all its input channels. */
static void pack_panel(const struct conv *c, const struct conv_panels *lay, int32_t p, float *to)
{
    const int64_t width = lay->width;
    const int64_t *from = c->op->u.conv.weight.stride;
    const struct weight_layout l = {
        .extent = { 1, c->cout, c->cin, KERNEL, KERNEL },
        .from = { 0, from[0], from[1], from[2], from[3] },
        .to = { 0, 1, TAPS * width, KERNEL * width, width },
    };
    for (int32_t i = 0; i < chunks_of(c->cin); i++) {
        const struct span ins = { chunk_at(c->cin, i), chunk_at(c->cin, i + 1) };
        for (int32_t v = conv_panel_at(lay, p); v < conv_panel_at(lay, p + 1); v++) {
            const int32_t lo = c->outs.lo + v * lay->width;
            const struct span outs = { lo, min_i32(lo + lay->width, c->outs.hi) };
            weights_pack_part(to, c->op, &l, 0, outs, ins);
            to += (ptrdiff_t)TAPS * lay->width * span_len(ins);
        }
    }
    if (c->graph->model && (weights_by_output(&l) || p + 1 == lay->panels))
        onnx_forget(c->graph->model, c->op->u.conv.weight.t);
}

/* Transforms the plain kernels of a chunk of panel `p`. */
static void transform_chunk(const struct conv_panels *l, const struct simd *simd, int32_t m,
                            int32_t p, int32_t chunk, const float *plain, float *to)
{
    const int32_t vectors = conv_panel_at(l, p + 1) - conv_panel_at(l, p);
    const int32_t depth = chunk_at(l->depth, chunk + 1) - chunk_at(l->depth, chunk);
    const ptrdiff_t step = (ptrdiff_t)vectors * l->width;
    for (int32_t v = 0; v < vectors; v++)
        simd->winograd_kernel[m](plain + (ptrdiff_t)v * depth * TAPS * l->width, depth,
                                 to + v * l->width, step, depth * step + SKEW);
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
    wg->weights = weights_alloc(weights_size(c, l, m));
    wg->bias = weights_alloc((int64_t)l->vectors * l->width);
    if (c->keep)
        plain = weights_alloc((int64_t)KERNEL * KERNEL * c->cin * simd->vectors * simd->width);
    if (!wg->weights || !wg->bias || (c->keep && !plain))
        goto out;
    for (int32_t p = 0; p < l->panels; p++) {
        pack_panel(c, l, p, c->keep ? plain : wg->weights + plain_at(l, p, 0));
        for (int32_t i = 0; c->keep && i < chunks_of(c->cin); i++)
            transform_chunk(l, simd, m, p, i, plain + plain_at(l, p, i) - plain_at(l, p, 0),
                            wg->weights + kept_at(l, m, p, i));
    }
    if (c->op->u.conv.bias)
        memcpy(wg->bias, c->op->u.conv.bias + c->outs.lo,
               (size_t)span_len(c->outs) * sizeof(float));
    *packed = wg;
    err = 0;
out:
    weights_free(plain);
    if (err)
        winograd_release(wg);
    return err;
}

/* ---- Scratch ---- */

/* How work is cut, and where what is transformed lies: tiles (chunk, position, tile, channel)
 * before the products and (position, tile, channel) after them, and the kernels of a group of
 * panels unless they are kept.  The same whatever part of the weights is at hand: so is the
 * scratch. */
struct blocks {
    int32_t tiles;   /* at most, of a block */
    int32_t vectors; /* at most, of a group of panels */
    ptrdiff_t in_tile, in_position, in_chunk, out_tile, out_position;
};

static struct blocks blocks_of(const struct conv *c, const struct simd *simd, int32_t m)
{
    const int32_t vectors = ceil_div(c->cout, simd->width);
    const int32_t chunks = chunks_of(c->cin), depth = ceil_div(c->cin, chunks);
    const int64_t vector_bytes = positions_of(m) * depth * simd->width * (int64_t)sizeof(float);
    struct blocks b = { .vectors = (int32_t)(GROUP_BYTES / vector_bytes) };
    b.vectors = min_i32(max_i32(b.vectors, simd->vectors), vectors);
    b.in_tile = ceil_div(depth, SIMD_MAX_WIDTH) * SIMD_MAX_WIDTH;
    b.out_tile = (ptrdiff_t)b.vectors * simd->width + SKEW;
    const int64_t tile_bytes =
        positions_of(m) * (chunks * b.in_tile + b.out_tile) * (int64_t)sizeof(float);
    b.tiles = max_i32((int32_t)(BLOCK_BYTES / tile_bytes), MIN_TILES);
    b.tiles = min_i32(b.tiles, ceil_div(c->out[ROW], m) * ceil_div(c->out[COL], m));
    b.in_position = b.tiles * b.in_tile + SKEW;
    b.in_chunk = positions_of(m) * b.in_position;
    b.out_position = b.tiles * b.out_tile + SKEW;
    return b;
}

int32_t conv_winograd_tiles(const struct conv *c, const struct simd *simd, int32_t m)
{
    return blocks_of(c, simd, m).tiles;
}

/* Kernels of a group, transformed. */
static ptrdiff_t group_size(const struct conv *c, const struct simd *simd, int32_t m,
                            const struct blocks *b)
{
    const int64_t depth = ceil_div(c->cin, chunks_of(c->cin));
    return positions_of(m) * (depth * b->vectors * simd->width + b->vectors * SKEW);
}

static size_t scratch_bytes(const struct conv *c, const struct simd *simd, int32_t m)
{
    const struct blocks b = blocks_of(c, simd, m);
    const ptrdiff_t tiles = chunks_of(c->cin) * b.in_chunk + positions_of(m) * b.out_position;
    return (size_t)(c->cin + SIMD_MAX_WIDTH + tiles + (c->keep ? 0 : group_size(c, simd, m, &b))) *
           sizeof(float);
}

/* ---- Running ---- */

struct job {
    const struct conv *c;
    const struct simd *simd;
    const struct winograd *wg;
    const struct kernel_call *call;
    int32_t m, across; /* tiles side by side */
    struct blocks blocks;
    struct span rows, cols; /* of input that may be read */
    struct simd_act act;
    /* In the scratch: (cin) zeros, transformed tiles, transformed kernels. */
    float *zeros, *in, *out, *kernels;
};

/* A block of tiles. */
struct tiles {
    int32_t first, count;
};

/* Panels [first, end), which begin with vector `v0` of those at hand. */
struct group {
    int32_t first, end, v0;
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

static void transform_input(const struct job *j, struct tiles b)
{
    const struct view *in = &j->call->in[0];
    const int32_t n = j->m + 2;
    for (int32_t t = 0; t < b.count; t++) {
        const int32_t y = tile_row(j, b.first + t) - j->c->win.pad[ROW];
        const int32_t x = tile_col(j, b.first + t) - j->c->win.pad[COL];
        const float *pixel[MAX_POSITIONS];
        for (int32_t r = 0; r < n; r++)
            for (int32_t q = 0; q < n; q++) {
                const bool held = y + r >= j->rows.lo && y + r < j->rows.hi &&
                                  x + q >= j->cols.lo && x + q < j->cols.hi;
                pixel[r * n + q] = held ? view_at(in, y + r, x + q, 0) : j->zeros;
            }
        for (int32_t i = 0, k = 0; i < chunks_of(j->c->cin); i++) {
            const int32_t end = chunk_at(j->c->cin, i + 1);
            j->simd->winograd_in[j->m](&(struct simd_tile){
                .x = pixel,
                .first = k,
                .v = j->in + i * j->blocks.in_chunk + t * j->blocks.in_tile,
                .v_position = j->blocks.in_position,
                .channels = end - k,
                .ahead = j->m * in->pixel_stride,
            });
            k = end;
        }
    }
}

/* What the products of `g` yield of the region. */
static void transform_output(const struct job *j, struct tiles b, const struct group *g)
{
    const struct box *r = &j->call->region;
    const struct view *out = &j->call->out, *add = &j->call->in[1];
    const struct conv_panels *l = &j->wg->layout;
    const bool adds = j->call->op->ninputs > 1;
    const int32_t first = j->c->outs.lo + g->v0 * l->width;
    const int32_t k = max_i32(r->lo[CHAN], first);
    const int32_t end = min_i32(r->hi[CHAN], j->c->outs.lo + conv_panel_at(l, g->end) * l->width);
    for (int32_t t = 0; t < b.count; t++) {
        const int32_t y = tile_row(j, b.first + t), x = tile_col(j, b.first + t);
        j->simd->winograd_out[j->m](&(struct simd_tile){
            .v = j->out + t * j->blocks.out_tile + k - first,
            .v_position = j->blocks.out_position,
            .channels = end - k,
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

/* Transformed kernels of a chunk of panel `p`. */
static const float *kernels_of(const struct job *j, const struct group *g, int32_t p, int32_t chunk)
{
    const struct conv_panels *l = &j->wg->layout;
    if (j->c->keep)
        return j->wg->weights + kept_at(l, j->m, p, chunk);
    const int64_t depth = chunk_at(l->depth, chunk + 1) - chunk_at(l->depth, chunk);
    return j->kernels + positions_of(j->m) * ((conv_panel_at(l, p) - g->v0) * l->width * depth +
                                              (p - g->first) * (ptrdiff_t)SKEW);
}

/* All tiles of a block at position `q` with panel `p` and the input channels of one chunk. */
static void multiply(const struct job *j, const struct group *g, int32_t chunk, int32_t q,
                     int32_t p, int32_t tiles)
{
    const struct conv_panels *l = &j->wg->layout;
    const int32_t v0 = conv_panel_at(l, p), vectors = conv_panel_at(l, p + 1) - v0;
    const int32_t depth = chunk_at(l->depth, chunk + 1) - chunk_at(l->depth, chunk);
    const ptrdiff_t step = (ptrdiff_t)vectors * l->width;
    const float *weights = kernels_of(j, g, p, chunk) + q * (depth * step + SKEW);
    const float *in = j->in + chunk * j->blocks.in_chunk + q * j->blocks.in_position;
    float *out = j->out + q * j->blocks.out_position + (ptrdiff_t)(v0 - g->v0) * l->width;
    struct simd_block b = {
        .rows = 1,
        .runs = 1,
        .len = depth,
        .in_pixel = j->blocks.in_tile,
        .out_pixel = j->blocks.out_tile,
        .add_pixel = j->blocks.out_tile,
        .last = l->width,
    };
    const int32_t count = ceil_div(tiles, j->simd->pixels[vectors]);
    const int32_t positions = positions_of(j->m);
    /* All blocks but the first find the panel in the cache: together they fetch the next one,
     * which follows it in memory; plain kernels of the next chunk, if they are not kept. */
    const float *next = weights + depth * step;
    b.ahead_step = ceil_div((int32_t)step, count);
    if (!j->c->keep) {
        b.ahead_step = ceil_div((int32_t)step * TAPS, positions * count);
        next = j->wg->weights + plain_at(l, p, chunk) + depth * step * TAPS +
               (ptrdiff_t)q * count * depth * b.ahead_step;
    }
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = conv_block_at(tiles, count, i);
        const int32_t pixels = conv_block_at(tiles, count, i + 1) - first;
        float *to = out + first * b.out_pixel;
        b.ahead = next + (ptrdiff_t)i * depth * b.ahead_step;
        j->simd->block[vectors][pixels](&b, in + first * b.in_pixel, weights, to, NULL,
                                        chunk > 0 ? to : NULL);
    }
}

static void multiply_group(const struct job *j, const struct group *g, int32_t tiles)
{
    const struct conv_panels *l = &j->wg->layout;
    for (int32_t i = 0; i < chunks_of(l->depth); i++) {
        for (int32_t p = g->first; !j->c->keep && p < g->end; p++)
            transform_chunk(l, j->simd, j->m, p, i, j->wg->weights + plain_at(l, p, i),
                            (float *)kernels_of(j, g, p, i));
        for (int32_t q = 0; q < positions_of(j->m); q++)
            for (int32_t p = g->first; p < g->end; p++)
                multiply(j, g, i, q, p, tiles);
    }
}

/* As many panels from `first` on, before `end`, as a group may have. */
static struct group group_at(const struct job *j, int32_t first, int32_t end)
{
    const struct conv_panels *l = &j->wg->layout;
    struct group g = { first, first + 1, conv_panel_at(l, first) };
    while (g.end < end && conv_panel_at(l, g.end + 1) - g.v0 <= j->blocks.vectors)
        g.end++;
    return g;
}

static void run_block(const struct job *j, struct tiles b)
{
    const struct box *r = &j->call->region;
    const struct conv_panels *l = &j->wg->layout;
    int32_t first = 0, end = l->panels;
    while (conv_panel_at(l, first + 1) * l->width <= r->lo[CHAN] - j->c->outs.lo)
        first++;
    while (conv_panel_at(l, end - 1) * l->width >= r->hi[CHAN] - j->c->outs.lo)
        end--;
    transform_input(j, b);
    for (struct group g = group_at(j, first, end); g.first < end; g = group_at(j, g.end, end)) {
        multiply_group(j, &g, b.count);
        transform_output(j, b, &g);
    }
}

/* The rest of the activation. */
static void finish_block(const struct job *j, struct tiles b, const struct act *rest)
{
    const struct box *r = &j->call->region;
    const struct view *out = &j->call->out;
    const int32_t channels = box_len(*r, CHAN);
    for (int32_t t = 0; t < b.count && rest->kind != ACT_NONE; t++) {
        const int32_t y0 = tile_row(j, b.first + t), x = tile_col(j, b.first + t);
        for (int32_t y = y0; y < min_i32(y0 + j->m, r->hi[ROW]); y++)
            act_apply(rest, view_at(out, y, x, r->lo[CHAN]), out->pixel_stride,
                      min_i32(j->m, r->hi[COL] - x), r->lo[CHAN], channels);
    }
}

/* Tiles of region `r`. */
static int32_t tiles_of(const struct box *r, int32_t m)
{
    return ceil_div(box_len(*r, ROW), m) * ceil_div(box_len(*r, COL), m);
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
    j.act = conv_activation(&c->op->act, &rest);
    j.across = ceil_div(box_len(*r, COL), m);
    j.blocks = blocks_of(c, simd, m);
    j.rows = reach(c, ROW, r);
    j.cols = reach(c, COL, r);
    j.zeros = call->scratch;
    j.in = j.zeros + ceil_div(c->cin, SIMD_MAX_WIDTH) * SIMD_MAX_WIDTH;
    j.out = j.in + chunks_of(c->cin) * j.blocks.in_chunk;
    j.kernels = j.out + positions_of(m) * j.blocks.out_position;
    memset(j.zeros, 0, (size_t)c->cin * sizeof(float));

    const struct span all =
        span_len(call->pieces) ? call->pieces : (struct span){ 0, tiles_of(r, m) };
    const int32_t blocks = ceil_div(span_len(all), j.blocks.tiles);
    for (int32_t i = 0; i < blocks; i++) {
        const int32_t first = conv_block_at(span_len(all), blocks, i);
        const int32_t end = conv_block_at(span_len(all), blocks, i + 1);
        const struct tiles b = { all.lo + first, end - first };
        run_block(&j, b);
        finish_block(&j, b, &rest);
    }
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

static int32_t pieces2(const struct box *r) { return tiles_of(r, 2); }
static int32_t pieces4(const struct box *r) { return tiles_of(r, 4); }

const struct conv_method conv_winograd2 = {
    .name = "winograd2",
    .cut_rows = 2,
    .fits = winograd_fits,
    .packed_bytes = packed_bytes2,
    .scratch_bytes = scratch_bytes2,
    .prepare = prepare2,
    .release = winograd_release,
    .run = run2,
    .pieces = pieces2,
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
    .pieces = pieces4,
    .cut_channel = conv_cut_panels,
};
