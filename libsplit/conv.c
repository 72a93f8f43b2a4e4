#include "libsplit/conv.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libsplit/kernel_ops.h"

struct conv conv_of(const struct graph *g, const struct op *op)
{
    const struct tensor *in = &g->tensor[op->input[0]], *out = &g->tensor[op->output];
    return (struct conv){
        .graph = g,
        .op = op,
        .win = op->u.conv.win,
        .group = op->u.conv.group,
        .cin = in->dim[CHAN] / op->u.conv.group,
        .cout = out->dim[CHAN] / op->u.conv.group,
        .in = { in->dim[ROW], in->dim[COL] },
        .out = { out->dim[ROW], out->dim[COL] },
        .groups = { 0, op->u.conv.group },
        .outs = { 0, out->dim[CHAN] / op->u.conv.group },
        .way = op->u.conv.way,
        .keep = op->u.conv.keep,
    };
}

void conv_hold(struct conv *c, struct span channels)
{
    if (c->group == 1)
        c->outs = channels;
    else
        c->groups = (struct span){ channels.lo / c->cout, (channels.hi - 1) / c->cout + 1 };
}

/* `op` with the weights behind `channels`. */
static struct conv conv_part(const struct graph *g, const struct op *op, struct span channels)
{
    struct conv c = conv_of(g, op);
    conv_hold(&c, channels);
    return c;
}

bool conv_is_padded(const struct conv *c, const struct box *r)
{
    for (enum axis a = ROW; a <= COL; a++) {
        const struct span inside = windows_inside(&c->win, a, c->in[a], r);
        if (span_len(inside) < box_len(*r, a))
            return true;
    }
    return false;
}

struct simd_act conv_activation(const struct act *act, struct act *rest)
{
    *rest = (struct act){ .kind = ACT_NONE };
    switch (act->kind) {
    case ACT_NONE:
        return (struct simd_act){ .kind = SIMD_NONE };
    case ACT_RELU:
        return (struct simd_act){ SIMD_CLAMP, 0, INFINITY };
    case ACT_CLIP:
        return (struct simd_act){ SIMD_CLAMP, act->a, act->b };
    case ACT_LEAKY_RELU:
        return (struct simd_act){ .kind = SIMD_LEAKY, .lo = act->a };
    default:
        *rest = *act;
        return (struct simd_act){ .kind = SIMD_NONE };
    }
}

void conv_finish(const struct kernel_call *call, const struct act *rest)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW] && rest->kind != ACT_NONE; y++)
        act_apply(rest, view_at(&call->out, y, r->lo[COL], r->lo[CHAN]), call->out.pixel_stride,
                  box_len(*r, COL), r->lo[CHAN], box_len(*r, CHAN));
}

/* ---- Choice ---- */

/* What a way costs, in the time of one multiply or add.  Fitted to one core of a Zen 5 server; the
 * ratio of arithmetic to memory is about that of a Raspberry Pi 4 or 5 with all cores at work. */
enum {
    FLOPS_PER_BYTE = 8, /* weights come from memory: they do not wait in a cache for a frame */
    FLOPS_PER_TRANSFORM2 = 28, /* per value of a transformed tile, F(2x2) */
    FLOPS_PER_TRANSFORM4 = 40, /* F(4x4) */
    FLOPS_PER_KERNEL2 = 250,   /* per kernel that is transformed in a frame */
    FLOPS_PER_KERNEL4 = 600,
    BLOCK_OVERHEAD = 12, /* a block of a product of depth k takes the time of depth k + 12 */
};

static double product_cost(double pixels, double depth, double cout)
{
    return 2 * pixels * (depth + BLOCK_OVERHEAD) * cout;
}

/* Weights are fetched while others are used: the slower of the two counts. */
static double read_cost(double weights) { return FLOPS_PER_BYTE * (double)sizeof(float) * weights; }

/* What a way takes beside each other: arithmetic, and weights (values) read meanwhile. */
struct price {
    double products, weights;
    double transforms; /* of tiles */
    double kernels;    /* made ready in every frame, once for each of so many blocks */
    double blocks;
};

static struct price direct_price(const struct conv *c)
{
    const double depth = (double)conv_depth(c);
    return (struct price){
        .products = product_cost((double)c->out[ROW] * c->out[COL], depth, c->cout),
        .weights = depth * c->cout,
    };
}

/* Output pixels of a way's tiles. */
static const struct {
    int32_t rows, cols;
} tile[CONV_WAYS] = {
    [CONV_DIRECT] = { 1, 1 },     [CONV_WINOGRAD12] = { 1, 2 }, [CONV_WINOGRAD2] = { 2, 2 },
    [CONV_WINOGRAD24] = { 2, 4 }, [CONV_WINOGRAD4] = { 4, 4 },
};

static struct price winograd_price(const struct conv *c, const struct simd *simd, int32_t rows,
                                   int32_t cols)
{
    const int32_t down = (c->out[ROW] + rows - 1) / rows, across = (c->out[COL] + cols - 1) / cols;
    const double tiles = (double)down * across, positions = (rows + 2) * (cols + 2);
    /* A tile that ends early, of r x q pixels, has (r + 2) * (q + 2). */
    const double used = (double)(c->out[ROW] + 2 * down) * (c->out[COL] + 2 * across);
    const double filters = (double)c->cin * c->cout;
    return (struct price){
        .products = product_cost(used, c->cin, c->cout),
        .weights = c->keep ? positions * filters : (double)conv_depth(c) * c->cout,
        .transforms = positions * tiles * ((double)c->cin + c->cout) *
                      (cols == 2 ? FLOPS_PER_TRANSFORM2 : FLOPS_PER_TRANSFORM4),
        .kernels = c->keep ? 0 : filters * (cols == 2 ? FLOPS_PER_KERNEL2 : FLOPS_PER_KERNEL4),
        .blocks = ceil(tiles / conv_winograd_tiles(c, simd, rows, cols)),
    };
}

static struct price price_of(const struct conv *c, const struct simd *simd, enum conv_way way)
{
    return way == CONV_DIRECT ? direct_price(c)
                              : winograd_price(c, simd, tile[way].rows, tile[way].cols);
}

/* Results must not depend on how a map is cut, not even in the last bit. */
static bool wants_exact(void)
{
    const char *exact = getenv("SPLITD_EXACT");
    return exact && strcmp(exact, "1") == 0;
}

bool conv_is_free(const struct conv *c, const struct simd *simd)
{
    return !conv_depthwise.fits(c) && simd != &simd_portable && conv_direct.fits(c) &&
           conv_winograd4.fits(c) && !wants_exact();
}

double conv_cost(const struct conv *c, const struct simd *simd, enum conv_way way)
{
    const struct price p = price_of(c, simd, way);
    /* A way other than the plain one must promise 5 % more than it. */
    return (way == CONV_DIRECT ? 0.95 : 1) * fmax(p.products, read_cost(p.weights)) + p.transforms +
           p.blocks * p.kernels;
}

/* The way that was set, or the cheapest. */
static enum conv_way way_of(const struct conv *c, const struct simd *simd)
{
    enum conv_way best = CONV_DIRECT;
    if (c->way != CONV_BY_COST)
        return c->way;
    for (enum conv_way way = CONV_DIRECT + 1; way < CONV_WAYS; way++)
        if (conv_cost(c, simd, way) < conv_cost(c, simd, best))
            best = way;
    return best;
}

/* The first block's kernels are made ready however low a band is, those of the others with its
 * rows. */
static struct geo_way geo_way(const struct conv *c, const struct simd *simd, enum conv_way way)
{
    const struct price p = price_of(c, simd, way);
    const double more = p.blocks > 1 ? p.blocks - 1 : 0;
    return (struct geo_way){
        .row_unit = tile[way].rows,
        .row_more = way == CONV_DIRECT ? 0 : 2,
        .work = (int64_t)((p.products + p.transforms + more * p.kernels) / 2),
        .band_work = (int64_t)(p.kernels / 2),
        .weight_bytes = (int64_t)(p.weights * sizeof(float)),
    };
}

int32_t conv_geo_ways(const struct graph *g, const struct op *op, struct geo_way way[GEO_MAX_WAYS])
{
    const struct simd *simd = simd_best();
    const struct conv c = conv_of(g, op);
    if (!conv_is_free(&c, simd))
        return 0;
    int32_t n = 0;
    for (int w = way_of(&c, simd); w >= CONV_DIRECT; w--)
        way[n++] = geo_way(&c, simd, (enum conv_way)w);
    return n;
}

const struct conv_method *conv_choose(const struct conv *c, const struct simd *simd)
{
    static const struct conv_method *const method[CONV_WAYS] = {
        [CONV_DIRECT] = &conv_direct,       [CONV_WINOGRAD12] = &conv_winograd12,
        [CONV_WINOGRAD2] = &conv_winograd2, [CONV_WINOGRAD24] = &conv_winograd24,
        [CONV_WINOGRAD4] = &conv_winograd4,
    };
    if (conv_depthwise.fits(c))
        return &conv_depthwise;
    if (simd == &simd_portable || !conv_direct.fits(c))
        return &conv_gemm;
    return conv_is_free(c, simd) ? method[way_of(c, simd)] : &conv_direct;
}

/* ---- The budget ---- */

/* What boards of 2 GB can spare, and the share of its memory that a smaller one gives. */
static const int64_t BUDGET_MOST = 256 << 20;
enum { BUDGET_SHARE = 8 };

static int64_t plain_bytes(const struct conv *c)
{
    return conv_depth(c) * c->cout * c->group * (int64_t)sizeof(float);
}

int64_t conv_budget(void)
{
    const int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const int64_t share = pages > 0 && page > 0 ? pages / BUDGET_SHARE * page : BUDGET_MOST;
    return share < BUDGET_MOST ? share : BUDGET_MOST;
}

/* What keeping kernels would change for one convolution. */
struct offer {
    int32_t op;
    enum conv_way way; /* if they are kept */
    int64_t bytes;     /* more */
    double gain;
};

/* By falling gain for a byte, then by number, so that equal networks choose alike. */
static int by_worth(const void *a, const void *b)
{
    const struct offer *x = a, *y = b;
    const double worth = x->gain * (double)y->bytes - y->gain * (double)x->bytes;
    if (worth != 0)
        return worth > 0 ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

/* Sets the way of operator `i`, `way` or by cost, without kept kernels.  Returns whether keeping
 * them gains anything. */
static bool choose_plain(struct graph *g, int32_t i, enum conv_way way, const struct simd *simd,
                         struct offer *offer)
{
    struct op *op = &g->op[i];
    struct conv plain = conv_of(g, op), kept;
    if (!conv_is_free(&plain, simd))
        return false;
    plain.way = way;
    plain.keep = false;
    kept = plain;
    kept.keep = true;
    plain.way = way_of(&plain, simd);
    kept.way = way_of(&kept, simd);
    op->u.conv.way = (uint8_t)plain.way;
    op->u.conv.keep = false;
    *offer = (struct offer){
        .op = i,
        .way = kept.way,
        .bytes = (int64_t)conv_choose(&kept, simd)->packed_bytes(&kept, simd) - plain_bytes(&kept),
        .gain = conv_cost(&plain, simd, plain.way) - conv_cost(&kept, simd, kept.way),
    };
    return offer->gain > 0 && offer->way != CONV_DIRECT && offer->bytes > 0;
}

int conv_choose_all(struct graph *g, const uint8_t *ways, int64_t budget)
{
    const struct simd *simd = simd_best();
    struct offer *offer = calloc((size_t)g->nops + 1, sizeof(*offer));
    if (!offer)
        return -ENOMEM;
    int32_t n = 0;
    for (int32_t i = 0; i < g->nops; i++)
        if (g->op[i].type == OP_CONV)
            n += choose_plain(g, i, ways ? (enum conv_way)ways[i] : CONV_BY_COST, simd, &offer[n]);
    qsort(offer, (size_t)n, sizeof(*offer), by_worth);
    int64_t most = BUDGET_MOST;
    for (int32_t i = 0; i < n; i++) {
        struct op *op = &g->op[offer[i].op];
        if (offer[i].bytes > most)
            continue;
        most -= offer[i].bytes;
        op->u.conv.way = (uint8_t)offer[i].way;
        op->u.conv.keep = offer[i].bytes <= budget;
        budget -= op->u.conv.keep ? offer[i].bytes : 0;
    }
    free(offer);
    return 0;
}

bool conv_keep_none(struct graph *g)
{
    bool kept = false;
    for (int32_t i = 0; i < g->nops; i++)
        if (g->op[i].type == OP_CONV) {
            kept |= g->op[i].u.conv.keep;
            g->op[i].u.conv.keep = false;
        }
    return kept;
}

/* ---- The kernel ---- */

/* What op->packed of an OP_CONV is. */
struct chosen {
    const struct conv_method *method;
    const struct simd *simd;
    void *packed;
};

int conv_prepare(const struct graph *g, const struct op *op, struct span channels, void **packed)
{
    const struct conv c = conv_part(g, op, channels);
    struct chosen *to = calloc(1, sizeof(*to));
    if (!to)
        return -ENOMEM;
    to->simd = simd_best();
    to->method = conv_choose(&c, to->simd);
    const int err = to->method->prepare(&c, to->simd, &to->packed);
    if (err)
        free(to);
    else
        *packed = to;
    return err;
}

void conv_release(void *packed)
{
    struct chosen *chosen = packed;
    if (chosen)
        chosen->method->release(chosen->packed);
    free(chosen);
}

size_t conv_packed_bytes(const struct graph *g, const struct op *op, struct span channels)
{
    const struct conv c = conv_part(g, op, channels);
    const struct simd *simd = simd_best();
    return conv_choose(&c, simd)->packed_bytes(&c, simd);
}

size_t conv_scratch_bytes(const struct graph *g, const struct op *op)
{
    const struct conv c = conv_of(g, op);
    const struct simd *simd = simd_best();
    return conv_choose(&c, simd)->scratch_bytes(&c, simd);
}

int32_t conv_pieces(const struct graph *g, const struct op *op, const struct box *region)
{
    const struct conv c = conv_of(g, op);
    const struct conv_method *method = conv_choose(&c, simd_best());
    return method->pieces ? method->pieces(region) : 0;
}

int32_t conv_cut_channel(const struct graph *g, const struct op *op, int32_t at)
{
    const struct chosen *chosen = op->packed;
    const struct conv c = conv_part(g, op, op->packed_channels);
    return chosen->method->cut_channel(&c, chosen->simd, at);
}

void conv_run(const struct kernel_call *call)
{
    const struct chosen *chosen = call->op->packed;
    const struct conv c = conv_part(call->graph, call->op, call->op->packed_channels);
    chosen->method->run(&c, chosen->simd, chosen->packed, call);
}

/* ---- Panels ---- */

struct conv_panels conv_panels(int32_t cout, int64_t depth, const struct simd *simd)
{
    const int32_t vectors = (cout + simd->width - 1) / simd->width;
    return (struct conv_panels){
        .width = simd->width,
        .depth = (int32_t)depth,
        .vectors = vectors,
        .panels = (vectors + simd->vectors - 1) / simd->vectors,
    };
}

int32_t conv_cut_panels(const struct conv *c, const struct simd *simd, int32_t at)
{
    if (c->group > 1)
        return at / c->cout * c->cout;
    const struct conv_panels l = conv_panels(span_len(c->outs), conv_depth(c), simd);
    const int64_t vector = clamp_i32(at - c->outs.lo, 0, span_len(c->outs)) / l.width;
    const int64_t panel = (vector * l.panels + l.vectors / 2) / l.vectors;
    return c->outs.lo + conv_panel_at(&l, (int32_t)panel) * l.width;
}

/* A block of a panel that is not wanted whole: computed beside the map, then copied. */
static void block_beside(const struct conv_run *run, const struct simd_block *b, int32_t vectors,
                         const float *in, const float *weights, const float *bias, int32_t at,
                         int32_t first, int32_t n)
{
    enum { WIDEST = SIMD_MAX_VECTORS * SIMD_MAX_WIDTH };
    float sum[SIMD_MAX_PIXELS * WIDEST];
    const int32_t channels = vectors * run->simd->width;
    const int32_t lo = max_i32(run->lo, at), hi = min_i32(run->hi, at + channels);
    struct simd_block beside = *b;
    beside.out_pixel = WIDEST;
    beside.last = run->simd->width;
    const float *add = NULL;
    if (run->add) {
        for (int32_t i = 0; i < n; i++) {
            float *to = sum + i * WIDEST;
            memset(to, 0, (size_t)channels * sizeof(float));
            memcpy(to + lo - at, run->add + (first + i) * b->add_pixel + lo - run->lo,
                   (size_t)(hi - lo) * sizeof(float));
        }
        add = sum;
        beside.add_pixel = WIDEST;
    }
    run->simd->block[vectors][n](&beside, in, weights, sum, bias, add);
    for (int32_t i = 0; i < n; i++)
        memcpy(run->out + (first + i) * b->out_pixel + lo - run->lo, sum + i * WIDEST + lo - at,
               (size_t)(hi - lo) * sizeof(float));
}

void conv_block(const struct conv_run *run, const struct conv_panels *l, int32_t p,
                const float *weights, const float *bias, int32_t first, int32_t n)
{
    const int32_t v0 = conv_panel_at(l, p), vectors = conv_panel_at(l, p + 1) - v0;
    const int32_t at = v0 * l->width, end = min_i32(at + vectors * l->width, run->cout);
    const float *w = weights + (ptrdiff_t)at * l->depth, *b = bias ? bias + at : NULL;
    const float *in = run->in + first * run->block.in_pixel;
    struct simd_block block = run->block;
    block.ahead_step = (ptrdiff_t)vectors * l->width;
    block.ahead = w + CONV_STEPS_AHEAD * block.ahead_step;
    if (run->lo > at || run->hi < end) {
        block_beside(run, &block, vectors, in, w, b, at, first, n);
        return;
    }
    block.last = end - at - (vectors - 1) * l->width;
    const ptrdiff_t k = at - run->lo;
    run->simd->block[vectors][n](&block, in, w, run->out + first * block.out_pixel + k, b,
                                 run->add ? run->add + first * block.add_pixel + k : NULL);
}
