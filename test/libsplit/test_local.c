/* N virtual nodes must give what one gives. */
#include "libsplit/local.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "chain.h"
#include "libsplit/conv.h"
#include "libsplit/kernel.h"
#include "libsplit/session.h"

static void *must(void *p)
{
    cr_assert_not_null(p);
    return p;
}

struct values {
    float *port[NET_MAX_PORTS];
    int32_t n;
};

static struct values make_values(const struct net *n, const struct port *port, int32_t count)
{
    struct values v = { .n = count };
    for (int32_t i = 0; i < count; i++)
        v.port[i] = must(calloc((size_t)net_values(n, port[i].tensor), sizeof(float)));
    return v;
}

static void free_values(struct values *v)
{
    for (int32_t i = 0; i < v->n; i++)
        free(v->port[i]);
}

static struct values random_inputs(struct net *n)
{
    struct values v = make_values(n, n->in, n->g.ninputs);
    for (int32_t i = 0; i < v.n; i++)
        for (int64_t k = 0; k < net_values(n, n->in[i].tensor); k++)
            v.port[i][k] = (float)net_random(n, 1 << 16) / (1 << 15) - 1;
    return v;
}

static struct values run_on(struct net *n, const struct plan_options *o, const struct values *in)
{
    struct split_session *s = NULL;
    struct diag why = { "" };
    cr_assert_eq(session_open_graph(&s, &n->g, o, NULL, &why), 0, "%s", why.text);
    struct values out = make_values(n, n->out, n->g.noutputs);
    struct exec_stats stats[PLAN_MAX_NODES];
    for (int frame = 0; frame < 2; frame++) /* the second finds what the first left behind */
        cr_assert_eq(split_run(s, (const float *const *)in->port, out.port, stats, &why), 0, "%s",
                     why.text);
    split_close(s);
    return out;
}

/* Cuts every tensor elsewhere, leaving some nodes without rows. */
static int32_t random_cut(void *ctx, int32_t tensor, int32_t rows, int32_t n)
{
    const uint64_t seed = *(const uint64_t *)ctx;
    struct net source; /* for its random numbers only */
    net_init(&source, seed + (uint64_t)tensor * 1000003);
    int32_t cut[PLAN_MAX_NODES + 1], count = PLAN_MAX_NODES;
    for (int32_t i = 0; i < count; i++)
        cut[i] = net_between(&source, 0, rows);
    /* Monotone: the n-th smallest. */
    for (int32_t i = 1; i < count; i++)
        for (int32_t k = i; k > 0 && cut[k] < cut[k - 1]; k--) {
            const int32_t swap = cut[k];
            cut[k] = cut[k - 1];
            cut[k - 1] = swap;
        }
    return cut[n];
}

struct cuts {
    uint64_t seed;
    int32_t nodes;
};

static int32_t cut_with_ends(void *ctx, int32_t tensor, int32_t rows, int32_t n)
{
    struct cuts *c = ctx;
    if (n == 0)
        return 0;
    return n == c->nodes ? rows : random_cut(&c->seed, tensor, rows, n);
}

/* Some tensors by rows, some by channels. */
static enum axis random_axis(void *ctx, int32_t tensor)
{
    const struct cuts *c = ctx;
    struct net source;
    net_init(&source, c->seed ^ (uint64_t)tensor * 7919);
    return net_random(&source, 2) ? CHAN : ROW;
}

static bool random_recompute(void *ctx, int32_t tensor)
{
    const struct cuts *c = ctx;
    struct net source;
    net_init(&source, c->seed ^ (uint64_t)tensor * 104729);
    return net_random(&source, 2) != 0;
}

static void expect_same(const struct net *n, const struct values *got, const struct values *want,
                        bool exact, uint64_t seed, const struct plan_options *o)
{
    for (int32_t i = 0; i < want->n; i++) {
        const int64_t count = net_values(n, n->out[i].tensor);
        double largest = 0;
        for (int64_t k = 0; k < count; k++)
            if (isfinite(want->port[i][k]))
                largest = fmax(largest, fabs((double)want->port[i][k]));
        for (int64_t k = 0; k < count; k++) {
            const float a = got->port[i][k], b = want->port[i][k];
            const bool equal = memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
            cr_assert(equal || (!exact && fabs((double)a - (double)b) <= 1e-6 * largest),
                      "seed %d, %d nodes, output %d value %lld: %.9g, one node %.9g", (int)seed,
                      o->nodes, i, (long long)k, (double)a, (double)b);
        }
    }
}

static void expect_reference(const struct net *n, const struct values *got, const struct values *in,
                             uint64_t seed)
{
    double *want[2 * NET_MAX_OPS];
    net_reference(n, (const float *const *)in->port, want);
    for (int32_t i = 0; i < got->n; i++) {
        const int32_t t = n->out[i].tensor;
        double largest = 0;
        for (int64_t k = 0; k < net_values(n, t); k++)
            largest = fmax(largest, fabs(want[t][k]));
        float *nhwc = must(calloc((size_t)net_values(n, t), sizeof(float)));
        shape_from_onnx(&n->out[i].shape, nhwc, got->port[i]);
        for (int64_t k = 0; k < net_values(n, t); k++)
            cr_assert(fabs((double)nhwc[k] - want[t][k]) <= 1e-4 * (1 + largest) ||
                          !isfinite(want[t][k]),
                      "seed %d, output %d value %lld: %g, want %g", (int)seed, i, (long long)k,
                      (double)nhwc[k], want[t][k]);
        free(nhwc);
    }
    net_reference_done(n, want);
}

/* The reference takes NHWC inputs, the session ONNX's order. */
static struct values to_nhwc(const struct net *n, const struct values *in)
{
    struct values v = make_values(n, n->in, n->g.ninputs);
    for (int32_t i = 0; i < v.n; i++)
        shape_from_onnx(&n->in[i].shape, v.port[i], in->port[i]);
    return v;
}

/* `n` on one node is what the plainest loops yield, and on many what it is on one, whatever the
 * plan.  Ends `n`. */
static void check_nodes(struct net *n, bool reduces, uint64_t seed)
{
    struct values in = random_inputs(n), nhwc = to_nhwc(n, &in);
    const struct plan_options one = { .placement = PLAN_ROWS, .nodes = 1, .weight = { 1 } };
    struct values want = run_on(n, &one, &in);
    expect_reference(n, &want, &nhwc, seed);

    for (int way = 0; way < 8; way++) {
        struct plan_options o = { .placement = way < 3 ? PLAN_ROWS : PLAN_MIXED };
        o.nodes = net_random(n, 8) ? net_between(n, 2, 8) : PLAN_MAX_NODES;
        for (int32_t i = 0; i < o.nodes; i++)
            o.weight[i] = way == 0 ? 1 : net_between(n, 1, 9);
        struct cuts cuts = { seed, o.nodes };
        o.cut_ctx = &cuts;
        o.policy = (enum plan_policy)(way % 3);
        if (way % 2 == 0)
            o.cut = cut_with_ends;
        if (way >= 3)
            o.along = random_axis;
        if (way >= 5)
            o.recompute = random_recompute;
        struct values got = run_on(n, &o, &in);
        expect_same(n, &got, &want, !reduces, seed, &o);
        free_values(&got);
    }
    free_values(&want);
    free_values(&nhwc);
    free_values(&in);
    graph_unpack(&n->g);
    net_done(n);
}

static void chain_case(uint64_t seed)
{
    struct net n;
    const bool reduces = chain_init(&n, seed, 1 + (int32_t)(seed % 12));
    check_nodes(&n, reduces, seed);
}

enum { CHAINS = 250 };

/* Four tests, so that they run side by side. */
Test(local, chains_are_the_same_on_many_nodes_1)
{
    for (uint64_t seed = 0; seed < CHAINS; seed++)
        chain_case(seed);
}
Test(local, chains_are_the_same_on_many_nodes_2)
{
    for (uint64_t seed = CHAINS; seed < 2 * CHAINS; seed++)
        chain_case(seed);
}
Test(local, chains_are_the_same_on_many_nodes_3)
{
    for (uint64_t seed = 2 * CHAINS; seed < 3 * CHAINS; seed++)
        chain_case(seed);
}
Test(local, chains_are_the_same_on_many_nodes_4)
{
    for (uint64_t seed = 3 * CHAINS; seed < 4 * CHAINS; seed++)
        chain_case(seed);
}

/* A product over a part of a row sums in another order than one over the row.  It came to that
 * when a border piece was narrower than the map (1874, 4123, 9824, 13864) and when a transposed
 * convolution took all columns that the node held (3171, 15488). */
Test(local, products_never_depend_on_the_cut)
{
    static const uint64_t seeds[] = { 1874, 3171, 4123, 9824, 13864, 15488 };
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
        chain_case(seeds[i]);
}

/* The number of layers that would go by Winograd's algorithm, whose last bits depend on the cut. */
static int32_t winograd_layers(const struct net *n)
{
    int32_t layers = 0;
    for (int32_t i = 0; i < n->g.nops; i++) {
        if (n->op[i].type != OP_CONV)
            continue;
        const struct conv c = conv_of(&n->g, &n->op[i]);
        const struct conv_method *method = conv_choose(&c, simd_best());
        layers += method == &conv_winograd2 || method == &conv_winograd4;
    }
    return layers;
}

/* What SPLITD_EXACT=1 promises, of every machine whose kernels run here; the last is one that
 * nobody wrote vectors for. */
static void check_kernels(const struct simd *simd)
{
    enum { NETWORKS = 60 };
    int32_t given_up = 0;
    setenv("SPLITD_SIMD", simd->name, 1);
    for (uint64_t seed = 0; seed < NETWORKS; seed++) {
        struct net n;
        const bool reduces = wide_init(&n, seed);
        setenv("SPLITD_EXACT", "0", 1);
        given_up += winograd_layers(&n);
        setenv("SPLITD_EXACT", "1", 1);
        cr_assert_eq(winograd_layers(&n), 0);
        check_nodes(&n, reduces, seed);
    }
    cr_assert(given_up > 0 || simd == &simd_portable, "%s", simd->name);
    for (uint64_t seed = 0; seed < NETWORKS; seed++)
        chain_case(seed);
}

Test(local, exact_kernels_are_the_same_on_many_nodes)
{
    for (const struct simd *const *s = simd_usable(); *s; s++)
        check_kernels(*s);
}

Test(local, placement_on_one_node_is_the_same)
{
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct net n;
        chain_init(&n, seed, 6);
        struct values in = random_inputs(&n);
        struct plan_options o = { .placement = PLAN_ROWS, .nodes = 1, .weight = { 1 } };
        struct values want = run_on(&n, &o, &in);
        o = (struct plan_options){ .placement = PLAN_WHOLE, .nodes = 3, .weight = { 1, 1, 1 } };
        o.whole = 2;
        struct values got = run_on(&n, &o, &in);
        expect_same(&n, &got, &want, true, seed, &o);
        free_values(&got);
        free_values(&want);
        free_values(&in);
        graph_unpack(&n.g);
        net_done(&n);
    }
}

/* ---- Weights ---- */

static enum axis by_channels(void *ctx, int32_t tensor)
{
    (void)ctx;
    (void)tensor;
    return CHAN;
}

/* By channels, every node holds its share of the weights and no more. */
Test(local, weights_are_shared_out)
{
    enum { NODES = 4, CHANNELS = 256 };
    struct net n;
    net_init(&n, 3);
    const struct window w = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    const int32_t in = net_input(&n, 6, 5, 32, 1);
    net_output(&n, net_conv(&n, net_conv(&n, in, CHANNELS, 1, w), CHANNELS, 1, w));
    struct values x = random_inputs(&n);
    const struct plan_options one = { .nodes = 1, .weight = { 1 } };
    struct plan_options o = { .placement = PLAN_MIXED, .nodes = NODES, .along = by_channels };
    for (int32_t i = 0; i < NODES; i++)
        o.weight[i] = 1;
    struct values want = run_on(&n, &one, &x), got = run_on(&n, &o, &x);
    expect_same(&n, &got, &want, true, 3, &o);
    graph_unpack(&n.g);

    struct geometry geo;
    struct plan plan;
    cr_assert_eq(graph_geometry(&n.g, NODES, &geo), 0);
    cr_assert_eq(plan_build(&plan, &geo, &o), 0);
    for (int32_t i = 0; i < NODES; i++) {
        struct program pr;
        cr_assert_eq(program_compile(&pr, &plan, i), 0);
        cr_assert_lt(NODES * exec_weight_bytes(&n.g, &pr),
                     geo.op[0].weight_bytes + geo.op[1].weight_bytes + 1024);
        cr_assert_eq(graph_pack(&n.g, &pr, NULL), 0);
        /* What is packed serves this program, and those before it. */
        cr_assert_eq(n.g.op[0].packed_channels.lo, 0);
        cr_assert_eq(n.g.op[0].packed_channels.hi, (i + 1) * CHANNELS / NODES);
        program_done(&pr);
    }
    plan_done(&plan);
    geometry_done(&geo);
    free_values(&want);
    free_values(&got);
    free_values(&x);
    graph_unpack(&n.g);
    net_done(&n);
}

/* ---- Late messages ---- */

/* A map of ROWS rows and its largest values in windows of 3x3: one exchange on two or more nodes.
 */
enum { LATE_NODES = 3, ROWS = 18, COLS = 4 };

static void late_net(struct net *n)
{
    const struct window w = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    net_init(n, 7);
    const int32_t in = net_input(n, ROWS, COLS, 2, 1);
    const int32_t map = net_op(n, OP_ACTIVATION, 1, &in, ROWS, COLS, 2)->output;
    n->op[0].act.kind = ACT_SIGMOID;
    net_output(n, net_pool(n, map, OP_MAX_POOL, w, false));
}

/* A link that holds back what node 1 sends the others until these have answered the host. */
struct late_link {
    struct split_session *s;
    _Atomic bool holds;
    _Atomic int answered; /* nodes */
};

static const struct step *send_of(const struct program *pr, int32_t transfer)
{
    for (int32_t i = 0; i < pr->nsteps; i++)
        if (pr->step[i].kind == STEP_SEND && pr->step[i].transfer == transfer)
            return &pr->step[i];
    return NULL;
}

static void hold(void *ctx, int32_t from, int32_t transfer, const uint8_t *msg, size_t len)
{
    struct late_link *l = ctx;
    (void)msg;
    (void)len;
    if (!l->holds)
        return;
    const bool answers = send_of(split_program(l->s, from), transfer)->peer == LATE_NODES;
    if (answers)
        l->answered++;
    while (from == 1 && !answers && l->answered < LATE_NODES - 1)
        sched_yield();
}

/* Everything of the map on one node, of what is made of it on all. */
static int32_t map_on_node_1(void *ctx, int32_t tensor, int32_t rows, int32_t n)
{
    (void)ctx;
    return tensor == 1 ? (n < 2 ? 0 : rows) : rows * n / LATE_NODES;
}

enum late_way { ALL_COMES, NEAREST_ROW, ZEROS };

/* The row of the map that node `node` takes for row `row`; ROWS: zeros. */
static int32_t row_as_seen(enum late_way way, int32_t node, int32_t row)
{
    const int32_t lo = node * ROWS / LATE_NODES, hi = (node + 1) * ROWS / LATE_NODES;
    if (way == ALL_COMES || node == 1)
        return row;
    if (way == ZEROS)
        return ROWS;
    return row < lo ? lo : row >= hi ? hi - 1 : row;
}

static float expected(const float *in, enum late_way way, int32_t y, int32_t x)
{
    float most = -INFINITY;
    for (int32_t r = y > 0 ? y - 1 : 0; r <= y + 1 && r < ROWS; r++) {
        const int32_t row = row_as_seen(way, y / (ROWS / LATE_NODES), r);
        for (int32_t c = x > 0 ? x - 1 : 0; c <= x + 1 && c < COLS; c++)
            most = fmaxf(most, row < ROWS ? 1 / (1 + expf(-in[row * COLS + c])) : 0);
    }
    return most;
}

static void expect_frame(struct late_link *l, const struct values *in, struct values *out,
                         enum late_way way)
{
    struct exec_stats stats[LATE_NODES];
    struct diag why = { "" };
    l->answered = 0;
    cr_assert_eq(split_run(l->s, (const float *const *)in->port, out->port, stats, &why), 0, "%s",
                 why.text);
    for (int32_t i = 0; i < LATE_NODES; i++)
        cr_assert_eq(stats[i].concealed, way != ALL_COMES && i != 1, "node %d", i);
    for (int32_t i = 0; i < 2 * ROWS * COLS; i++) { /* channel by channel */
        const int32_t y = i / COLS % ROWS, x = i % COLS;
        const float want = expected(in->port[0] + i / (ROWS * COLS) * ROWS * COLS, way, y, x);
        cr_assert_float_eq(out->port[0][i], want, 1e-5F, "row %d column %d: %g, want %g", y, x,
                           (double)out->port[0][i], (double)want);
    }
}

static void late_case(struct plan_options o, const struct local_options *local,
                      struct late_link *link, enum late_way way)
{
    struct net n;
    struct diag why = { "" };
    bool may_miss[2 * NET_MAX_OPS];
    late_net(&n);
    graph_may_miss(&n.g, may_miss);
    o.may_miss = may_miss;
    cr_assert_eq(session_open_graph(&link->s, &n.g, &o, local, &why), 0, "%s", why.text);
    struct values in = random_inputs(&n), out = make_values(&n, n.out, 1);
    for (int frame = 0; frame < 4; frame++) {
        link->holds = frame == 1 || frame == 2;
        expect_frame(link, &in, &out, link->holds ? way : ALL_COMES);
    }
    split_close(link->s);
    free_values(&in);
    free_values(&out);
    graph_unpack(&n.g);
    net_done(&n);
}

static const struct plan_options late_plan = { .nodes = LATE_NODES,
                                               .weight = { 1, 1, 1 },
                                               .policy = PLAN_EXCHANGE };

/* And what comes too late harms no later frame. */
Test(local, late_rows_are_the_nearest_of_the_nodes_own)
{
    struct late_link link = { .holds = false };
    late_case(late_plan,
              &(struct local_options){ .late_ns = 500000000, .tap = hold, .tap_ctx = &link }, &link,
              NEAREST_ROW);
}

Test(local, late_rows_of_a_map_that_a_node_has_none_of_are_zeros)
{
    struct late_link link = { .holds = false };
    struct plan_options o = late_plan;
    o.cut = map_on_node_1;
    late_case(o, &(struct local_options){ .late_ns = 500000000, .tap = hold, .tap_ctx = &link },
              &link, ZEROS);
}

static void dawdle(void *ctx, int32_t from, int32_t transfer, const uint8_t *msg, size_t len)
{
    const struct late_link *l = ctx;
    (void)transfer;
    (void)msg;
    (void)len;
    if (l->holds && from == 1)
        nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
}

Test(local, late_rows_are_waited_for_unless_it_is_said)
{
    struct late_link link = { .holds = false };
    late_case(late_plan, &(struct local_options){ .tap = dawdle, .tap_ctx = &link }, &link,
              ALL_COMES);
}

/* Places of largest values are no values, nor is what is read by them or made of them. */
Test(local, places_are_waited_for)
{
    struct net n;
    const struct window half = { { 2, 2 }, { 2, 2 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    net_init(&n, 7);
    const int32_t in = net_input(&n, 8, 8, 2, 1);
    const int32_t most = net_pool(&n, in, OP_MAX_POOL, half, false);
    const int32_t places = net_pool(&n, in, OP_MAX_POOL, half, false);
    n.op[1].u.pool.places = true;
    const int32_t sum = net_op(&n, OP_BINARY, 2, (int32_t[]){ places, most }, 4, 4, 2)->output;
    const int32_t back = net_op(&n, OP_MAX_UNPOOL, 2, (int32_t[]){ most, places }, 8, 8, 2)->output;
    const int32_t grid = net_op(&n, OP_ACTIVATION, 1, &most, 4, 4, 2)->output;
    const int32_t sampled = net_op(&n, OP_GRID_SAMPLE, 2, (int32_t[]){ in, grid }, 4, 4, 2)->output;
    bool may_miss[2 * NET_MAX_OPS];
    graph_may_miss(&n.g, may_miss);
    cr_assert(may_miss[in] && may_miss[most] && may_miss[back] && may_miss[sampled]);
    cr_assert(!may_miss[places] && !may_miss[sum] && !may_miss[grid]);
    net_done(&n);
}

/* ---- Pictures, errors ---- */

static const struct codec_pixels rgb = {
    .channels = 3, .scale = 1.0F / 255, .mean = { 0.5F, 0.4F, 0.3F }, .std = { 0.2F, 0.3F, 0.4F }
};

static void picture_net(struct net *n)
{
    net_init(n, 5);
    net_conv(n, net_input(n, 9, 7, 3, 1), 4, 1,
             (struct window){ { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } });
    net_output(n, 1);
    net_output(n, 0); /* the picture itself, normalized */
}

static struct split_session *open_with(struct net *n, int32_t nodes,
                                       const struct codec_pixels *pixels)
{
    struct split_session *s = NULL;
    struct diag why = { "" };
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    const struct local_options local = { .pixels = pixels };
    cr_assert_eq(session_open_graph(&s, &n->g, &o, &local, &why), 0, "%s", why.text);
    return s;
}

Test(local, pixels_are_the_values_they_stand_for)
{
    struct net n;
    picture_net(&n);
    uint8_t pixels[9 * 7 * 3];
    float nhwc[9 * 7 * 3], onnx[9 * 7 * 3];
    for (size_t i = 0; i < sizeof(pixels); i++)
        pixels[i] = (uint8_t)(i * 37);
    codec_pixel_values(nhwc, pixels, 0, sizeof(pixels), &rgb);
    shape_to_onnx(&n.in[0].shape, onnx, nhwc);
    struct values a = make_values(&n, n.out, 2), b = make_values(&n, n.out, 2);
    struct split_session *s = open_with(&n, 3, &rgb);
    cr_assert_eq(split_run_pixels(s, pixels, a.port, NULL, NULL), 0);
    cr_assert_eq(split_run(s, (const float *const[]){ onnx }, b.port, NULL, NULL), 0);
    for (int32_t i = 0; i < 2; i++)
        cr_assert(memcmp(a.port[i], b.port[i],
                         (size_t)net_values(&n, n.out[i].tensor) * sizeof(float)) == 0);
    cr_assert(memcmp(a.port[1], onnx, sizeof(onnx)) == 0);
    split_close(s);
    free_values(&a);
    free_values(&b);
    graph_unpack(&n.g);
    net_done(&n);
}

Test(local, refuses_pixels_where_none_are_expected)
{
    struct net n;
    picture_net(&n);
    uint8_t pixels[9 * 7 * 3] = { 0 };
    struct values out = make_values(&n, n.out, 2);
    struct split_session *s = open_with(&n, 2, NULL);
    struct diag why = { "" };
    cr_assert_eq(split_run_pixels(s, pixels, out.port, NULL, &why), -EINVAL);
    cr_assert(strlen(why.text) > 0);
    split_close(s);
    free_values(&out);
    graph_unpack(&n.g);
    net_done(&n);
}

Test(local, refuses_impossible_options)
{
    struct net n;
    picture_net(&n);
    struct split_session *s = NULL;
    struct diag why = { "" };
    struct plan_options o = { .nodes = PLAN_MAX_NODES + 1 };
    cr_assert_eq(session_open_graph(&s, &n.g, &o, NULL, &why), -EINVAL);
    cr_assert(strstr(why.text, "17 nodes"), "%s", why.text);
    o = (struct plan_options){ .nodes = 2, .weight = { 1, 0 } };
    cr_assert_eq(session_open_graph(&s, &n.g, &o, NULL, &why), -EINVAL);
    cr_assert_null(s);
    graph_unpack(&n.g);
    net_done(&n);
}

Test(local, statistics_add_up)
{
    struct net n;
    picture_net(&n);
    float onnx[9 * 7 * 3] = { 0 };
    struct values out = make_values(&n, n.out, 2);
    struct exec_stats stats[3];
    struct split_session *s = open_with(&n, 3, NULL);
    cr_assert_eq(split_run(s, (const float *const[]){ onnx }, out.port, stats, NULL), 0);
    for (int32_t i = 0; i < 3; i++) {
        int64_t sent = 0, received = 0;
        int32_t messages = 0;
        const struct program *pr = split_program(s, i);
        for (int32_t k = 0; k < pr->nsteps; k++) {
            const int64_t bytes = 1 + 4 * box_values(pr->step[k].box);
            sent += pr->step[k].kind == STEP_SEND ? bytes : 0;
            received += pr->step[k].kind == STEP_RECV ? bytes : 0;
            messages += pr->step[k].kind == STEP_SEND;
        }
        cr_assert_eq(stats[i].sent_bytes, sent);
        cr_assert_eq(stats[i].received_bytes, received);
        cr_assert_eq(stats[i].sent_messages, messages);
        cr_assert(stats[i].compute_ns > 0);
    }
    split_close(s);
    free_values(&out);
    graph_unpack(&n.g);
    net_done(&n);
}

/* Three convolutions, so that what is coarse spreads. */
static void deep_net(struct net *n)
{
    const struct window w = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    net_init(n, 5);
    const int32_t wide = net_conv(n, net_conv(n, net_input(n, 24, 20, 3, 1), 16, 1, w), 16, 1, w);
    net_output(n, net_conv(n, wide, 4, 1, w));
}

/* The coarser the halos, the fewer their bytes and the larger the error; rows that no halo reaches
 * stay exact, and so do the host's messages. */
Test(local, coarse_halos_are_short_and_nearly_the_same)
{
    static const double tolerance[] = { 0, 2e-3, 2e-2, 4e-1 };
    struct net n;
    deep_net(&n);
    struct values in = random_inputs(&n), exact = { 0 };
    int64_t exact_halo = 0, exact_sent = 0;
    for (int h = HALO_F32; h <= HALO_Q4; h++) {
        struct split_session *s = NULL;
        struct exec_stats stats[2];
        const struct plan_options o = {
            .policy = PLAN_EXCHANGE, .nodes = 2, .weight = { 1, 1 }, .halo = (enum halo)h
        };
        cr_assert_eq(session_open_graph(&s, &n.g, &o, NULL, NULL), 0);
        struct values out = make_values(&n, n.out, 1);
        cr_assert_eq(split_run(s, (const float *const *)in.port, out.port, stats, NULL), 0);
        const int64_t halo = stats[0].halo_sent_bytes, sent = stats[0].sent_bytes;
        split_close(s);
        if (h == HALO_F32) {
            exact = out;
            exact_halo = halo;
            exact_sent = sent;
            continue;
        }
        /* Each of 24 rows of 20, channels outermost; row 12 and its neighbours within 3 rows of
         * the cut are what halos reach. */
        double error = 0, largest = 0;
        for (int64_t i = 0; i < net_values(&n, n.out[0].tensor); i++) {
            const int64_t row = i / 20 % 24;
            const double e = fabs((double)out.port[0][i] - (double)exact.port[0][i]);
            if (row < 9 || row >= 15)
                cr_assert_eq(e, 0, "%s, row %d", halo_name((enum halo)h), (int)row);
            error = fmax(error, e);
            largest = fmax(largest, fabs((double)exact.port[0][i]));
        }
        cr_assert(error > 0 && error <= tolerance[h] * largest, "%s: %g of %g",
                  halo_name((enum halo)h), error, largest);
        cr_assert_eq(exact_sent - exact_halo, sent - halo, "to the host");
        cr_assert_leq(halo, halo_bytes((enum halo)h, exact_halo / 4) + 2 * CODEC_SCALED_HEAD);
        free_values(&out);
    }
    free_values(&exact);
    free_values(&in);
    graph_unpack(&n.g);
    net_done(&n);
}
