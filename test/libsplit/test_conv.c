/* Every way to compute a convolution, with every instruction set of this machine, over small
 * shapes of every kind: against the double-precision reference of net.c, and in pieces against
 * the whole. */
#include "libsplit/conv.h"
#include "libsplit/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "net.h"

static const float SENTINEL = -12345.5F;

static const struct conv_method *const ways[] = { &conv_direct,    &conv_winograd12,
                                                  &conv_winograd2, &conv_winograd24,
                                                  &conv_winograd4, &conv_depthwise,
                                                  &conv_gemm };

static void *must(void *p)
{
    cr_assert_not_null(p);
    return p;
}

/* A convolution, its inputs, and what it should yield. */
struct trial {
    struct net net;
    struct op *op;
    struct conv conv;
    struct geometry geo;
    float *x, *add; /* add: NULL without a second input */
    double *want;
    double largest;
};

static double activate(const struct act *act, double x)
{
    switch (act->kind) {
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_CLIP:
        return fmin(fmax(x, (double)act->a), (double)act->b);
    case ACT_LEAKY_RELU:
        return x < 0 ? (double)act->a * x : x;
    case ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    default:
        return x;
    }
}

static const struct act acts[] = { { .kind = ACT_NONE },
                                   { .kind = ACT_RELU },
                                   { .kind = ACT_CLIP, .a = -0.5F, .b = 1.25F },
                                   { .kind = ACT_LEAKY_RELU, .a = 0.125F },
                                   { .kind = ACT_SIGMOID } };

/* The caller made a net of one convolution. */
static void trial_init(struct trial *t)
{
    struct net *n = &t->net;
    t->op = &n->op[0];
    const int32_t out = t->op->output;
    t->x = net_floats(n, net_values(n, t->op->input[0]));
    double *value[2 * NET_MAX_OPS];
    net_reference(n, (const float *const *)&t->x, value);
    const int64_t values = net_values(n, out);
    t->want = must(malloc((size_t)values * sizeof(double)));
    memcpy(t->want, value[out], (size_t)values * sizeof(double));
    net_reference_done(n, value);

    t->op->act = acts[net_random(n, sizeof(acts) / sizeof(*acts))];
    if (net_random(n, 2)) {
        t->add = net_floats(n, values);
        const int32_t input[2] = { t->op->input[0], out }; /* any tensor of that shape will do */
        t->op->input = memcpy(net_floats(n, 2), input, sizeof(input));
        t->op->ninputs = 2;
    }
    for (int64_t i = 0; i < values; i++) {
        t->want[i] = activate(&t->op->act, t->want[i] + (t->add ? (double)t->add[i] : 0));
        t->largest = fmax(t->largest, fabs(t->want[i]));
    }
    t->conv = conv_of(&n->g, t->op);
    t->op->ninputs = 1; /* the geometry of the convolution alone */
    cr_assert_eq(graph_geometry(&n->g, 1, &t->geo), 0);
    t->op->ninputs = t->add ? 2 : 1;
}

static void trial_done(struct trial *t)
{
    free(t->want);
    geometry_done(&t->geo);
    net_done(&t->net);
}

/* `box` of a tensor in memory that holds nothing else, `gap` floats between pixels. */
static struct view crop(const struct tensor *x, const float *values, struct box box, ptrdiff_t gap)
{
    const ptrdiff_t pixel = box_len(box, CHAN) + gap, row = pixel * box_len(box, COL);
    const ptrdiff_t size = row * box_len(box, ROW);
    struct view v = { .box = box,
                      .row_stride = row,
                      .pixel_stride = pixel,
                      .data =
                          must(malloc((size_t)(size > 0 ? size - gap : 0) * sizeof(float) + 1)) };
    for (int32_t r = box.lo[ROW]; r < box.hi[ROW]; r++)
        for (int32_t c = box.lo[COL]; c < box.hi[COL]; c++)
            memcpy(view_at(&v, r, c, box.lo[CHAN]),
                   values + ((ptrdiff_t)r * x->dim[COL] + c) * x->dim[CHAN] + box.lo[CHAN],
                   (size_t)box_len(box, CHAN) * sizeof(float));
    return v;
}

/* Runs `region`, or the pieces `some` of it if there are any, into the whole map `out`. */
static void compute_pieces(struct trial *t, const struct simd *simd, const struct conv_method *way,
                           const void *packed, struct box region, struct span some, float *out)
{
    struct net *n = &t->net;
    const struct tensor *y = &n->tensor[t->op->output];
    const ptrdiff_t gap = net_between(n, 0, 3), pixel = box_len(region, CHAN) + gap;
    const ptrdiff_t pixels = (ptrdiff_t)box_len(region, ROW) * box_len(region, COL);
    const size_t scratch = way->scratch_bytes(&t->conv, simd);
    float *store = must(malloc((size_t)(pixels * pixel) * sizeof(float)));
    for (ptrdiff_t i = 0; i < pixels * pixel; i++)
        store[i] = SENTINEL;
    struct view in[2] = { crop(&n->tensor[t->op->input[0]], t->x,
                               geometry_need(&t->geo, 0, 0, region), net_between(n, 0, 3)) };
    if (t->add)
        in[1] = crop(y, t->add, region, net_between(n, 0, 3));
    const struct kernel_call call = {
        .graph = &n->g,
        .op = t->op,
        .in = in,
        .out = { .data = store,
                 .box = region,
                 .row_stride = pixel * box_len(region, COL),
                 .pixel_stride = pixel },
        .region = region,
        .pieces = some,
        .nodes = 1,
        .scratch = must(aligned_alloc(64, (scratch + 64) / 64 * 64)),
    };
    way->run(&t->conv, simd, packed, &call);
    for (int32_t r = region.lo[ROW]; r < region.hi[ROW]; r++)
        for (int32_t c = region.lo[COL]; c < region.hi[COL]; c++) {
            const float *from = view_at(&call.out, r, c, region.lo[CHAN]);
            memcpy(out + ((ptrdiff_t)r * y->dim[COL] + c) * y->dim[CHAN] + region.lo[CHAN], from,
                   (size_t)box_len(region, CHAN) * sizeof(float));
            for (ptrdiff_t k = box_len(region, CHAN); k < pixel; k++)
                cr_assert_eq(from[k], SENTINEL, "%s %s wrote between pixels", simd->name,
                             way->name);
        }
    free(call.scratch);
    free(in[0].data);
    free(in[1].data);
    free(store);
}

static void compute(struct trial *t, const struct simd *simd, const struct conv_method *way,
                    const void *packed, struct box region, float *out)
{
    compute_pieces(t, simd, way, packed, region, (struct span){ 0, 0 }, out);
}

/* Pieces, some at a time, are together the whole: every value is one of one piece. */
static void check_pieces(struct trial *t, const struct simd *simd, const struct conv_method *way,
                         const void *packed, const float *whole)
{
    const int64_t values = net_values(&t->net, t->op->output);
    const struct box all = box_whole(t->net.tensor[t->op->output].dim);
    const int32_t count = way->pieces ? way->pieces(&all) : 0;
    float *some = must(malloc((size_t)values * sizeof *some));
    int64_t seen = 0;
    for (int32_t i = 0, end; i < count; i = end) {
        end = i + net_between(&t->net, 1, count - i);
        compute_pieces(t, simd, way, packed, all, (struct span){ i, end }, some);
        for (int64_t k = 0; k < values; k++)
            if (some[k] != SENTINEL) {
                cr_assert_eq(some[k], whole[k], "%s %s: pieces differ from the whole", simd->name,
                             way->name);
                seen++;
            }
    }
    cr_assert_eq(seen, count ? values : 0);
    free(some);
}

static void expect_near(const struct trial *t, const struct simd *simd,
                        const struct conv_method *way, const float *got)
{
    const double allowed =
        (way == &conv_winograd4 || way == &conv_winograd24 ? 3e-5 : 1e-5) * (1 + t->largest);
    for (int64_t i = 0; i < net_values(&t->net, t->op->output); i++)
        cr_assert(fabs((double)got[i] - t->want[i]) <= allowed, "%s %s: value %lld is %g, want %g",
                  simd->name, way->name, (long long)i, (double)got[i], t->want[i]);
}

/* Bands of channels, each with the weights behind it alone, give what all of them give. */
static void check_channels(struct trial *t, const struct simd *simd, const struct conv_method *way,
                           const float *whole)
{
    struct net *n = &t->net;
    const struct conv all = t->conv;
    const int32_t *dim = n->tensor[t->op->output].dim;
    const size_t bytes = (size_t)net_values(n, t->op->output) * sizeof(float);
    float *pieces = must(calloc(1, bytes));
    struct span held = { 0, 0 };
    for (; held.lo < dim[CHAN]; held.lo = held.hi) {
        held.hi = net_between(n, held.lo + 1, dim[CHAN]);
        conv_hold(&t->conv, held);
        void *packed;
        cr_assert_leq(way->packed_bytes(&t->conv, simd), way->packed_bytes(&all, simd));
        cr_assert_eq(way->prepare(&t->conv, simd, &packed), 0);
        struct box band = box_band(box_whole(dim), CHAN, held.lo, held.hi);
        compute(t, simd, way, packed, band, pieces);
        band.lo[CHAN] = net_between(n, held.lo, held.hi - 1);
        compute(t, simd, way, packed, band, pieces);
        way->release(packed);
        t->conv = all;
    }
    cr_assert_eq(memcmp(whole, pieces, bytes), 0, "%s %s: bands of channels differ from the whole",
                 simd->name, way->name);
    free(pieces);
}

/* The whole map, bands of rows, and any box, each into `whole`, which all must leave alike. */
static void check_way(struct trial *t, const struct simd *simd, const struct conv_method *way,
                      float *whole)
{
    struct net *n = &t->net;
    const int32_t *dim = n->tensor[t->op->output].dim;
    const size_t bytes = (size_t)net_values(n, t->op->output) * sizeof(float);
    float *pieces = must(malloc(bytes));
    void *packed;
    cr_assert_eq(way->prepare(&t->conv, simd, &packed), 0);
    compute(t, simd, way, packed, box_whole(dim), whole);
    expect_near(t, simd, way, whole);

    const int32_t step = way->cut_rows;
    for (int32_t r = 0; r < dim[ROW];) {
        struct box band = box_whole(dim);
        band.lo[ROW] = r;
        r = r + step * net_between(n, 1, 3);
        band.hi[ROW] = r = r < dim[ROW] ? r : dim[ROW];
        compute(t, simd, way, packed, band, pieces);
    }
    cr_assert_eq(memcmp(whole, pieces, bytes), 0, "%s %s: bands of rows differ from the whole",
                 simd->name, way->name);
    check_pieces(t, simd, way, packed, whole);

    struct box box;
    for (int a = 0; a < AXES; a++) {
        box.lo[a] = net_between(n, 0, dim[a] - 1);
        box.hi[a] = net_between(n, box.lo[a] + 1, dim[a]);
    }
    compute(t, simd, way, packed, box, pieces);
    expect_near(t, simd, way, pieces);
    way->release(packed);
    free(pieces);
    check_channels(t, simd, way, whole);
}

/* Transformed kernels give the same bits whether they are kept or made anew in every frame. */
static void check_kept(struct trial *t, const struct simd *simd, const struct conv_method *way,
                       const float *whole)
{
    const size_t bytes = (size_t)net_values(&t->net, t->op->output) * sizeof(float);
    const size_t plain = way->packed_bytes(&t->conv, simd);
    float *kept = must(malloc(bytes));
    t->conv.keep = true;
    cr_assert(way->packed_bytes(&t->conv, simd) > plain, "%s keeps nothing", way->name);
    check_way(t, simd, way, kept);
    t->conv.keep = false;
    cr_assert_eq(memcmp(whole, kept, bytes), 0, "%s %s: kept kernels differ", simd->name,
                 way->name);
    free(kept);
}

/* All ways and instruction sets; those that round once per multiply-add agree in every bit. */
static void check_all(struct trial *t)
{
    trial_init(t);
    const size_t bytes = (size_t)net_values(&t->net, t->op->output) * sizeof(float);
    float *first = must(malloc(bytes)), *whole = must(malloc(bytes));
    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
        bool any = false;
        for (const struct simd *const *s = simd_usable(); *s && ways[w]->fits(&t->conv); s++) {
            check_way(t, *s, ways[w], whole);
            if (ways[w]->fits == conv_winograd2.fits)
                check_kept(t, *s, ways[w], whole);
            if ((*s)->fused && any)
                cr_assert_eq(memcmp(first, whole, bytes), 0, "%s: %s differs", ways[w]->name,
                             (*s)->name);
            if ((*s)->fused && !any)
                memcpy(first, whole, bytes);
            any |= (*s)->fused;
        }
    }
    free(first);
    free(whole);
    trial_done(t);
}

/* A map that the window fits on, with padding of up to `beyond` more than lets every window see
 * some of the map. */
static int32_t fitting_input(struct net *n, struct window *w, int32_t beyond, int32_t channels,
                             int32_t more)
{
    int32_t dim[2];
    for (int a = 0; a < 2; a++) {
        const int32_t span = (w->kernel[a] - 1) * w->dilation[a] + 1;
        w->pad[a] = net_between(n, 0, span - 1 + beyond);
        w->pad_end[a] = net_between(n, 0, span - 1 + beyond);
        const int32_t least = span - w->pad[a] - w->pad_end[a];
        dim[a] = net_between(n, least > 1 ? least : 1, (least > 1 ? least : 1) + more);
    }
    return net_input(n, dim[ROW], dim[COL], channels, 1);
}

static struct window square(int32_t kernel, int32_t stride, int32_t dilation)
{
    return (struct window){
        { kernel, kernel }, { stride, stride }, { dilation, dilation }, { 0, 0 }, { 0, 0 }
    };
}

/* Channels 1 to 40 on both sides: every number of vectors, every tail. */
Test(conv, channels)
{
    for (int32_t k = 1; k <= 40; k++)
        for (int32_t kernel = 1; kernel <= 3; kernel += 2) {
            struct trial t = { 0 };
            net_init(&t.net, (uint64_t)k);
            struct window w = square(kernel, 1, 1);
            const int32_t in = fitting_input(&t.net, &w, 0, net_between(&t.net, 1, 40), 11);
            net_conv(&t.net, in, k, 1, w);
            check_all(&t);
        }
}

/* More channels than a panel has. */
Test(conv, many_channels)
{
    for (int32_t k = 60; k < 210; k += 13) {
        struct trial t = { 0 };
        net_init(&t.net, (uint64_t)k);
        struct window w = square(3, 1, 1);
        const int32_t in = fitting_input(&t.net, &w, 0, net_between(&t.net, 30, 80), 9);
        net_conv(&t.net, in, k, 1, w);
        check_all(&t);
    }
}

/* Kernels 1..7 by 1..7, strides 1..3, dilations 1..3, groups. */
Test(conv, windows)
{
    for (int32_t i = 0; i < 7 * 7 * 3 * 3; i++) {
        struct trial t = { 0 };
        net_init(&t.net, (uint64_t)i);
        struct net *n = &t.net;
        struct window w = { .kernel = { 1 + i % 7, 1 + i / 7 % 7 },
                            .stride = { 1 + i / 49 % 3, 1 + i / 147 % 3 },
                            .dilation = { net_between(n, 1, 3), net_between(n, 1, 3) } };
        const int32_t group = net_random(n, 3) ? 1 : net_between(n, 2, 4);
        const int32_t in = fitting_input(n, &w, i % 3, group * net_between(n, 1, 20), 12);
        net_conv(n, in, group * net_between(n, 1, 40), group, w);
        check_all(&t);
    }
}

/* One channel a group: 3x3 has its own loops, strides 1 and 2, rows one and two at a time. */
Test(conv, depthwise)
{
    for (int32_t channels = 1; channels <= 70; channels++)
        for (int32_t kernel = 3; kernel <= 5; kernel += 2) {
            struct trial t = { 0 };
            net_init(&t.net, (uint64_t)channels);
            const int32_t stride = net_between(&t.net, 1, 3);
            struct window w = square(kernel, stride, net_random(&t.net, 4) ? 1 : 2);
            const int32_t in = fitting_input(&t.net, &w, 0, channels, 14);
            net_conv(&t.net, in, channels, channels, w);
            check_all(&t);
        }
}

/* Wider than the strips that depthwise rows are cut into, and than a block of columns. */
Test(conv, wide_rows)
{
    for (int32_t cols = 250; cols < 262; cols += 3)
        for (int32_t group = 1; group <= 40; group += 39) {
            struct trial t = { 0 };
            net_init(&t.net, (uint64_t)cols);
            struct window w = square(3, net_between(&t.net, 1, 2), 1);
            w.pad[ROW] = w.pad[COL] = w.pad_end[ROW] = w.pad_end[COL] = 1;
            net_conv(&t.net, net_input(&t.net, 7, cols, 40, 1), 40, group, w);
            check_all(&t);
        }
}

/* So many weights and tiles that work is cut into strips of rows and blocks of tiles. */
Test(conv, large)
{
    static const int32_t shape[][3] = { { 70, 64, 96 }, { 20, 300, 100 }, { 40, 16, 16 } };
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++) {
        struct trial t = { 0 };
        net_init(&t.net, i);
        struct window w = square(3, 1, 1);
        w.pad[ROW] = w.pad[COL] = w.pad_end[ROW] = w.pad_end[COL] = 1;
        net_conv(&t.net, net_input(&t.net, shape[i][0], 30, shape[i][1], 1), shape[i][2], 1, w);
        check_all(&t);
    }
}

/* ---- Which way ---- */

/* What the weights of `g` take beyond the plain ones. */
static int64_t kept_bytes(const struct graph *g)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < g->nops; i++) {
        const struct op *op = &g->op[i];
        struct op plain = *op;
        plain.u.conv.keep = false;
        if (op->u.conv.keep)
            bytes += (int64_t)(kernels[op->type].packed_bytes(g, op, all_channels(g, op)) -
                               kernels[op->type].packed_bytes(g, &plain, all_channels(g, &plain)));
    }
    return bytes;
}

/* Nothing exceeds the budget, and some of it is used; ways do not depend on it. */
Test(conv, budget)
{
    struct net n;
    uint8_t chosen[8], least[8];
    setenv("SPLITD_EXACT", "0", 1);
    net_init(&n, 1);
    struct window w = square(3, 1, 1);
    w.pad[ROW] = w.pad[COL] = w.pad_end[ROW] = w.pad_end[COL] = 1;
    int32_t t = net_input(&n, 56, 56, 32, 1);
    for (int32_t channels = 32; channels <= 128; channels *= 2)
        t = net_conv(&n, t, channels, 1, w);
    net_output(&n, t);
    cr_assert_leq(n.g.nops, (int32_t)sizeof chosen);
    int64_t bytes = 0;
    for (int64_t budget = 0; budget <= INT64_C(8) << 20; budget += 200000) {
        cr_assert_eq(conv_choose_all(&n.g, NULL, budget), 0);
        bytes = kept_bytes(&n.g);
        cr_assert_leq(bytes, budget);
        graph_ways(&n.g, budget == 0 ? least : chosen);
    }
    cr_assert(bytes > 0 || simd_best() == &simd_portable, "nothing is worth keeping");
    cr_assert_arr_eq(chosen, least, (size_t)n.g.nops);
    cr_assert_eq(conv_keep_none(&n.g), bytes > 0);
    cr_assert_eq(kept_bytes(&n.g), 0);
    net_done(&n);
}
