/* Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms
 * for Convolutional Neural Networks", 2016), and F(1x2, 3x3) and F(2x4, 3x3), made of their parts.
 *
 * A tile of r x m output pixels needs (r + 2) x (m + 2) input pixels.  Both its input and the
 * kernel are transformed to as many positions; at each position one matrix product over the
 * channels takes place, for many tiles at once; the result is transformed back.  That is
 * (r + 2) (m + 2) products instead of 9 r m.
 *
 * Tiles stand at multiples of r from the first row of the region.  Regions that begin and end
 * at multiples of r (or at the end of the map) therefore give, bit for bit, what one region
 * gives; others differ in the last bits.
 *
 * The last row and column of tiles may end early: fewer output pixels take fewer points to
 * interpolate, and the kernels at a point are the same whatever the others are.  F(3, 3) does
 * without the last point of F(4, 3), as F(1, 3) without that of F(2, 3), and all that F(2, 3) has
 * F(4, 3) has, too.  Where a band is so low that its kernels take longer to read than the products
 * take, all tiles are low: more products, fewer kernels. */
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

/* Output pixels of a whole tile, 1 x 2, 2 x 2, 2 x 4 or 4 x 4.  All that is transformed has places
 * for the positions of cols x cols: those of 1 x 2 are rows 0, 1 and 2 of 2 x 2, those of 2 x 4 are
 * rows 0, 1, 2 and 5 of 4 x 4. */
struct tile_size {
    int32_t rows, cols;
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

/* Places of positions. */
static int32_t positions_of(struct tile_size s) { return (s.cols + 2) * (s.cols + 2); }

/* Positions that count, and which of these is the one at place `q`, one of them. */
static int32_t used_positions(struct tile_size s) { return (s.rows + 2) * (s.cols + 2); }
static int32_t used_position(struct tile_size s, int32_t q)
{
    const int32_t n = s.cols + 2;
    return min_i32(q / n, s.rows + 1) * n + q % n;
}

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
static ptrdiff_t kept_at(const struct conv_panels *l, struct tile_size s, int32_t p, int32_t chunk)
{
    const int64_t v0 = conv_panel_at(l, p), channels = (conv_panel_at(l, p + 1) - v0) * l->width;
    const int64_t chunks = chunks_of(l->depth);
    return used_positions(s) * (v0 * l->width * l->depth + chunk_at(l->depth, chunk) * channels +
                                (p * chunks + chunk) * SKEW);
}

static int64_t weights_size(const struct conv *c, const struct conv_panels *l, struct tile_size s)
{
    return c->keep ? kept_at(l, s, l->panels, 0) : TAPS * conv_panels_size(l);
}

static size_t packed_bytes(const struct conv *c, const struct simd *simd, struct tile_size s)
{
    const struct conv_panels l = conv_panels(span_len(c->outs), c->cin, simd);
    return (size_t)(weights_size(c, &l, s) + (int64_t)l.vectors * l.width) * sizeof(float) +
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

/* Transforms the plain kernels of a chunk of panel `p` to all positions. */
static void transform_chunk(const struct conv_panels *l, const struct simd *simd,
                            struct tile_size s, int32_t p, int32_t chunk, const float *plain,
                            float *to)
{
    const int32_t vectors = conv_panel_at(l, p + 1) - conv_panel_at(l, p);
    const int32_t depth = chunk_at(l->depth, chunk + 1) - chunk_at(l->depth, chunk);
    const ptrdiff_t step = (ptrdiff_t)vectors * l->width;
    for (int32_t v = 0; v < vectors; v++)
        simd->winograd_kernel[s.cols](plain + (ptrdiff_t)v * depth * TAPS * l->width, depth,
                                      to + v * l->width, step, depth * step + SKEW);
}

/* Floats that a chunk of any panel takes at all positions, at most. */
static int64_t chunk_size(const struct conv *c, const struct simd *simd, struct tile_size s)
{
    return positions_of(s) *
           ((int64_t)ceil_div(c->cin, chunks_of(c->cin)) * simd->vectors * simd->width + SKEW);
}

/* Keeps panel `p`, whose plain kernels are at hand; `all` has room for a chunk. */
static void keep_panel(const struct conv_panels *l, const struct simd *simd, struct tile_size s,
                       int32_t p, const float *plain, float *all, float *weights)
{
    const int32_t vectors = conv_panel_at(l, p + 1) - conv_panel_at(l, p), n = s.cols + 2;
    for (int32_t i = 0; i < chunks_of(l->depth); i++) {
        const int32_t depth = chunk_at(l->depth, i + 1) - chunk_at(l->depth, i);
        const int64_t row = n * ((int64_t)depth * vectors * l->width + SKEW);
        float *to = weights + kept_at(l, s, p, i);
        transform_chunk(l, simd, s, p, i, plain + plain_at(l, p, i) - plain_at(l, p, 0), all);
        for (int32_t r = 0; r < s.rows + 2; r++) {
            const int32_t from = r <= 2 || r <= s.rows ? r : n - 1;
            memcpy(to + r * row, all + from * row, (size_t)row * sizeof(float));
        }
    }
}

static int prepare(const struct conv *c, const struct simd *simd, struct tile_size s, void **packed)
{
    struct winograd *wg = calloc(1, sizeof(*wg));
    float *plain = NULL, *all = NULL;
    int err = -ENOMEM;
    if (!wg)
        return err;
    wg->layout = conv_panels(span_len(c->outs), c->cin, simd);
    const struct conv_panels *l = &wg->layout;
    wg->weights = weights_alloc(weights_size(c, l, s));
    wg->bias = weights_alloc((int64_t)l->vectors * l->width);
    if (c->keep) {
        plain = weights_alloc((int64_t)KERNEL * KERNEL * c->cin * simd->vectors * simd->width);
        all = weights_alloc(chunk_size(c, simd, s));
    }
    if (!wg->weights || !wg->bias || (c->keep && (!plain || !all)))
        goto out;
    for (int32_t p = 0; p < l->panels; p++) {
        pack_panel(c, l, p, c->keep ? plain : wg->weights + plain_at(l, p, 0));
        if (c->keep)
            keep_panel(l, simd, s, p, plain, all, wg->weights);
    }
    if (c->op->u.conv.bias)
        memcpy(wg->bias, c->op->u.conv.bias + c->outs.lo,
               (size_t)span_len(c->outs) * sizeof(float));
    *packed = wg;
    err = 0;
out:
    weights_free(plain);
    weights_free(all);
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

static struct blocks blocks_of(const struct conv *c, const struct simd *simd, struct tile_size s)
{
    const int32_t vectors = ceil_div(c->cout, simd->width);
    const int32_t chunks = chunks_of(c->cin), depth = ceil_div(c->cin, chunks);
    const int64_t vector_bytes = positions_of(s) * depth * simd->width * (int64_t)sizeof(float);
    struct blocks b = { .vectors = (int32_t)(GROUP_BYTES / vector_bytes) };
    b.vectors = min_i32(max_i32(b.vectors, simd->vectors), vectors);
    b.in_tile = ceil_div(depth, SIMD_MAX_WIDTH) * SIMD_MAX_WIDTH;
    b.out_tile = (ptrdiff_t)b.vectors * simd->width + SKEW;
    const int64_t tile_bytes =
        positions_of(s) * (chunks * b.in_tile + b.out_tile) * (int64_t)sizeof(float);
    b.tiles = max_i32((int32_t)(BLOCK_BYTES / tile_bytes), MIN_TILES);
    b.tiles = min_i32(b.tiles, ceil_div(c->out[ROW], s.rows) * ceil_div(c->out[COL], s.cols));
    b.in_position = b.tiles * b.in_tile + SKEW;
    b.in_chunk = positions_of(s) * b.in_position;
    b.out_position = b.tiles * b.out_tile + SKEW;
    return b;
}

int32_t conv_winograd_tiles(const struct conv *c, const struct simd *simd, int32_t rows,
                            int32_t cols)
{
    return blocks_of(c, simd, (struct tile_size){ rows, cols }).tiles;
}

/* Kernels of a group, transformed. */
static ptrdiff_t group_size(const struct conv *c, const struct simd *simd, struct tile_size s,
                            const struct blocks *b)
{
    const int64_t depth = ceil_div(c->cin, chunks_of(c->cin));
    return positions_of(s) * (depth * b->vectors * simd->width + b->vectors * SKEW);
}

static size_t scratch_bytes(const struct conv *c, const struct simd *simd, struct tile_size s)
{
    const struct blocks b = blocks_of(c, simd, s);
    const ptrdiff_t tiles = chunks_of(c->cin) * b.in_chunk + positions_of(s) * b.out_position;
    return (size_t)(c->cin + SIMD_MAX_WIDTH + tiles + (c->keep ? 0 : group_size(c, simd, s, &b))) *
           sizeof(float);
}

/* ---- Running ---- */

/* Tiles of a region along each axis: whole ones, then one of `left` output pixels unless that is 0.
 * They are numbered so that those that have a position follow each other: the one where the last
 * row and the last column meet, the others of the last row, whole ones, the last column. */
struct grid {
    int32_t whole[2], left[2];
};

struct job {
    const struct conv *c;
    const struct simd *simd;
    const struct winograd *wg;
    const struct kernel_call *call;
    struct tile_size size;
    struct grid grid;
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

static struct grid grid_of(const struct box *r, struct tile_size s)
{
    const int32_t rows = box_len(*r, ROW), cols = box_len(*r, COL);
    return (struct grid){ { rows / s.rows, cols / s.cols }, { rows % s.rows, cols % s.cols } };
}

/* How many tiles begin with the corner, with the last row, with whole ones, and all. */
static void grid_parts(const struct grid *g, int32_t end[4])
{
    const bool low = g->left[ROW] > 0, narrow = g->left[COL] > 0;
    end[0] = low && narrow;
    end[1] = end[0] + (low ? g->whole[COL] : 0);
    end[2] = end[1] + g->whole[ROW] * g->whole[COL];
    end[3] = end[2] + (narrow ? g->whole[ROW] : 0);
}

/* Output pixels of a tile. */
struct place {
    struct span at[2]; /* of the region's */
};

static struct place place_of(const struct job *j, int32_t t)
{
    const struct grid *g = &j->grid;
    int32_t end[4], row = g->whole[ROW], col = g->whole[COL];
    grid_parts(g, end);
    if (t >= end[2]) {
        row = t - end[2];
    } else if (t >= end[1]) {
        row = (t - end[1]) / g->whole[COL];
        col = (t - end[1]) % g->whole[COL];
    } else if (t >= end[0]) {
        col = t - end[0];
    }
    const struct box *r = &j->call->region;
    const int32_t y = r->lo[ROW] + row * j->size.rows, x = r->lo[COL] + col * j->size.cols;
    return (struct place){ { { y, min_i32(y + j->size.rows, r->hi[ROW]) },
                             { x, min_i32(x + j->size.cols, r->hi[COL]) } } };
}

/* Of the transforms: tiles of so few output pixels along an axis have their own. */
static bool is_short(int32_t m, int32_t pixels) { return m == 4 && pixels <= 2; }

/* Has a tile of so many output pixels along an axis, 1 to m, position `i` of m + 2? */
static bool has_position(int32_t m, int32_t pixels, int32_t i)
{
    if (is_short(m, pixels))
        return i <= 2 || (i == m + 1 && pixels == 2);
    return i <= m || pixels == m;
}

/* The tiles that have position `q`. */
static struct span tiles_at(const struct job *j, int32_t q)
{
    const struct grid *g = &j->grid;
    const int32_t m = j->size.cols, n = m + 2;
    int32_t end[4];
    grid_parts(g, end);
    if (!has_position(m, j->size.rows, q / n))
        return (struct span){ 0, 0 };
    const bool low = g->left[ROW] == 0 || has_position(m, g->left[ROW], q / n);
    const bool narrow = g->left[COL] == 0 || has_position(m, g->left[COL], q % n);
    return (struct span){ low && narrow ? 0 : low ? end[0] : end[1], narrow ? end[3] : end[2] };
}

static void transform_input(const struct job *j, struct tiles b)
{
    const struct view *in = &j->call->in[0];
    const int32_t m = j->size.cols, n = m + 2;
    for (int32_t t = 0; t < b.count; t++) {
        const struct place to = place_of(j, b.first + t);
        const int32_t y = to.at[ROW].lo - j->c->win.pad[ROW];
        const int32_t x = to.at[COL].lo - j->c->win.pad[COL];
        const bool low = is_short(m, span_len(to.at[ROW])),
                   narrow = is_short(m, span_len(to.at[COL]));
        const float *pixel[MAX_POSITIONS];
        for (int32_t r = 0; r < n; r++)
            for (int32_t q = 0; q < n; q++) {
                const bool held = y + r >= j->rows.lo && y + r < j->rows.hi &&
                                  x + q >= j->cols.lo && x + q < j->cols.hi;
                pixel[r * n + q] = held ? view_at(in, y + r, x + q, 0) : j->zeros;
            }
        for (int32_t i = 0, k = 0; i < chunks_of(j->c->cin); i++) {
            const int32_t end = chunk_at(j->c->cin, i + 1);
            j->simd->winograd_in[m][low][narrow](&(struct simd_tile){
                .x = pixel,
                .first = k,
                .v = j->in + i * j->blocks.in_chunk + t * j->blocks.in_tile,
                .v_position = j->blocks.in_position,
                .channels = end - k,
                .ahead = m * in->pixel_stride,
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
        const struct place to = place_of(j, b.first + t);
        const int32_t y = to.at[ROW].lo, x = to.at[COL].lo;
        const int32_t rows = span_len(to.at[ROW]), cols = span_len(to.at[COL]), m = j->size.cols;
        j->simd->winograd_out[m][is_short(m, rows)][is_short(m, cols)](&(struct simd_tile){
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
            .rows = rows,
            .cols = cols,
            .act = j->act,
        });
    }
}

/* Transformed kernels of a chunk of panel `p`. */
static const float *kernels_of(const struct job *j, const struct group *g, int32_t p, int32_t chunk)
{
    const struct tile_size s = j->size;
    const struct conv_panels *l = &j->wg->layout;
    if (j->c->keep)
        return j->wg->weights + kept_at(l, s, p, chunk);
    const int64_t depth = chunk_at(l->depth, chunk + 1) - chunk_at(l->depth, chunk);
    return j->kernels + positions_of(s) * ((conv_panel_at(l, p) - g->v0) * l->width * depth +
                                           (p - g->first) * (ptrdiff_t)SKEW);
}

/* Tiles `t` of a block, numbered from its first, at position `q` with panel `p` and the input
 * channels of one chunk. */
static void multiply(const struct job *j, const struct group *g, int32_t chunk, int32_t q,
                     int32_t p, struct span t)
{
    const struct conv_panels *l = &j->wg->layout;
    const int32_t v0 = conv_panel_at(l, p), vectors = conv_panel_at(l, p + 1) - v0;
    const int32_t depth = chunk_at(l->depth, chunk + 1) - chunk_at(l->depth, chunk);
    const ptrdiff_t step = (ptrdiff_t)vectors * l->width;
    const int32_t used = used_position(j->size, q);
    const float *weights =
        kernels_of(j, g, p, chunk) + (j->c->keep ? used : q) * (depth * step + SKEW);
    const float *in =
        j->in + chunk * j->blocks.in_chunk + q * j->blocks.in_position + t.lo * j->blocks.in_tile;
    float *out = j->out + q * j->blocks.out_position + t.lo * j->blocks.out_tile +
                 (ptrdiff_t)(v0 - g->v0) * l->width;
    struct simd_block b = {
        .rows = 1,
        .runs = 1,
        .len = depth,
        .in_pixel = j->blocks.in_tile,
        .out_pixel = j->blocks.out_tile,
        .add_pixel = j->blocks.out_tile,
        .last = l->width,
    };
    const int32_t tiles = span_len(t), count = ceil_div(tiles, j->simd->pixels[vectors]);
    /* All blocks but the first find the panel in the cache: together they fetch the next one,
     * which follows it in memory; plain kernels of the next chunk, if they are not kept. */
    const float *next = weights + depth * step;
    int32_t share = (int32_t)step;
    if (!j->c->keep) {
        share = ceil_div((int32_t)step * TAPS, used_positions(j->size));
        next = j->wg->weights + plain_at(l, p, chunk) + depth * step * TAPS +
               (ptrdiff_t)used * depth * share;
    }
    b.ahead_step = ceil_div(share, count);
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = conv_block_at(tiles, count, i);
        const int32_t pixels = conv_block_at(tiles, count, i + 1) - first;
        float *to = out + first * b.out_pixel;
        b.ahead = next + (ptrdiff_t)i * depth * b.ahead_step;
        j->simd->block[vectors][pixels](&b, in + first * b.in_pixel, weights, to, NULL,
                                        chunk > 0 ? to : NULL);
    }
}

static void multiply_group(const struct job *j, const struct group *g, struct tiles b)
{
    const struct conv_panels *l = &j->wg->layout;
    for (int32_t i = 0; i < chunks_of(l->depth); i++) {
        for (int32_t p = g->first; !j->c->keep && p < g->end; p++)
            transform_chunk(l, j->simd, j->size, p, i, j->wg->weights + plain_at(l, p, i),
                            (float *)kernels_of(j, g, p, i));
        for (int32_t q = 0; q < positions_of(j->size); q++) {
            const struct span all = tiles_at(j, q);
            const struct span t = { max_i32(all.lo - b.first, 0),
                                    min_i32(all.hi - b.first, b.count) };
            for (int32_t p = g->first; p < g->end && t.lo < t.hi; p++)
                multiply(j, g, i, q, p, t);
        }
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
        multiply_group(j, &g, b);
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
        const struct place to = place_of(j, b.first + t);
        for (int32_t y = to.at[ROW].lo; y < to.at[ROW].hi; y++)
            act_apply(rest, view_at(out, y, to.at[COL].lo, r->lo[CHAN]), out->pixel_stride,
                      span_len(to.at[COL]), r->lo[CHAN], channels);
    }
}

/* Tiles of region `r`. */
static int32_t tiles_of(const struct box *r, struct tile_size s)
{
    return ceil_div(box_len(*r, ROW), s.rows) * ceil_div(box_len(*r, COL), s.cols);
}

/* The input behind the region and no more, whatever else the node holds: equal bits. */
static struct span reach(const struct conv *c, enum axis a, const struct box *r)
{
    return (struct span){
        .lo = max_i32(r->lo[a] - c->win.pad[a], 0),
        .hi = min_i32(r->hi[a] - c->win.pad[a] + KERNEL - 1, c->in[a]),
    };
}

static void run(const struct conv *c, const struct simd *simd, struct tile_size s,
                const void *packed, const struct kernel_call *call)
{
    const struct box *r = &call->region;
    struct act rest;
    struct job j = { .c = c, .simd = simd, .wg = packed, .call = call, .size = s };
    j.act = conv_activation(&c->op->act, &rest);
    j.grid = grid_of(r, s);
    j.blocks = blocks_of(c, simd, s);
    j.rows = reach(c, ROW, r);
    j.cols = reach(c, COL, r);
    j.zeros = call->scratch;
    j.in = j.zeros + ceil_div(c->cin, SIMD_MAX_WIDTH) * SIMD_MAX_WIDTH;
    j.out = j.in + chunks_of(c->cin) * j.blocks.in_chunk;
    j.kernels = j.out + positions_of(s) * j.blocks.out_position;
    memset(j.zeros, 0, (size_t)c->cin * sizeof(float));

    const struct span all =
        span_len(call->pieces) ? call->pieces : (struct span){ 0, tiles_of(r, s) };
    const int32_t blocks = ceil_div(span_len(all), j.blocks.tiles);
    for (int32_t i = 0; i < blocks; i++) {
        const int32_t first = conv_block_at(span_len(all), blocks, i);
        const int32_t end = conv_block_at(span_len(all), blocks, i + 1);
        const struct tiles b = { all.lo + first, end - first };
        run_block(&j, b);
        finish_block(&j, b, &rest);
    }
}

/* ---- The sizes of tiles ---- */

/* The way whose tiles have a size. */
#define METHOD(high, wide, method, called)                                                         \
    static const struct tile_size size##high##wide = { high, wide };                               \
    static size_t packed_bytes##high##wide(const struct conv *c, const struct simd *simd)          \
    {                                                                                              \
        return packed_bytes(c, simd, size##high##wide);                                            \
    }                                                                                              \
    static size_t scratch_bytes##high##wide(const struct conv *c, const struct simd *simd)         \
    {                                                                                              \
        return scratch_bytes(c, simd, size##high##wide);                                           \
    }                                                                                              \
    static int prepare##high##wide(const struct conv *c, const struct simd *simd, void **packed)   \
    {                                                                                              \
        return prepare(c, simd, size##high##wide, packed);                                         \
    }                                                                                              \
    static void run##high##wide(const struct conv *c, const struct simd *simd, const void *packed, \
                                const struct kernel_call *call)                                    \
    {                                                                                              \
        run(c, simd, size##high##wide, packed, call);                                              \
    }                                                                                              \
    static int32_t pieces##high##wide(const struct box *r)                                         \
    {                                                                                              \
        return tiles_of(r, size##high##wide);                                                      \
    }                                                                                              \
    const struct conv_method method = {                                                            \
        .name = (called),                                                                          \
        .cut_rows = (high),                                                                        \
        .fits = winograd_fits,                                                                     \
        .packed_bytes = packed_bytes##high##wide,                                                  \
        .scratch_bytes = scratch_bytes##high##wide,                                                \
        .prepare = prepare##high##wide,                                                            \
        .release = winograd_release,                                                               \
        .run = run##high##wide,                                                                    \
        .pieces = pieces##high##wide,                                                              \
        .cut_channel = conv_cut_panels,                                                            \
    }

METHOD(1, 2, conv_winograd12, "winograd1x2");
METHOD(2, 2, conv_winograd2, "winograd2");
METHOD(2, 4, conv_winograd24, "winograd2x4");
METHOD(4, 4, conv_winograd4, "winograd4");
