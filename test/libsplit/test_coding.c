/* What travels by recipes, on clusters of 1 to 8 nodes. */
#include "libsplit/coding.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "libsplit/kernel.h"
#include "libsplit/session.h"
#include "net.h"

enum { MAX_NODES = 8, ROWS = 24, COLS = 20, OUT = 4 };

/* Convolutions with ReLU and one without, and at the end a mean, so that halos of both kinds and
 * sums travel. */
static void deep_net(struct net *n, bool with_mean)
{
    const struct window w = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    net_init(n, 5);
    const int32_t in = net_input(n, ROWS, COLS, 3, 1);
    const int32_t first = net_conv(n, in, 16, 1, w);
    n->op[n->g.nops - 1].act = (struct act){ .kind = ACT_RELU };
    const int32_t second = net_conv(n, first, 16, 1, w);
    const int32_t third = net_conv(n, second, OUT, 1, w);
    net_output(n, with_mean ? net_reduce(n, third, REDUCE_MEAN) : third);
}

/* Recipes of all tensors but the input: step `step`, every other one without contexts where
 * `mixed`, the others with some that know nothing. */
struct cookbook {
    struct recipes recipes;
    uint8_t tensor_halo[2 * NET_MAX_OPS];
};

static struct context *plain_context(int32_t channels, bool with_before)
{
    struct context *x = calloc(1, sizeof *x);
    *x = (struct context){ .channels = channels, .with_sign = true, .with_before = with_before };
    x->predictor = calloc((size_t)channels * CONTEXT_QUESTIONS, sizeof *x->predictor);
    for (int32_t c = 0; c < channels && with_before; c++)
        x->predictor[c * CONTEXT_QUESTIONS] =
            (struct predictor){ .bias = -64, .near = { [NEAR_BEFORE] = 40 } };
    return x;
}

static void cookbook_init(struct cookbook *b, const struct net *n, enum halo mode, float step,
                          bool mixed)
{
    cr_assert_eq(recipes_init(&b->recipes, n->g.ntensors), 0);
    b->recipes.own = calloc((size_t)n->g.ntensors, sizeof *b->recipes.own);
    b->recipes.nown = n->g.ntensors;
    for (int32_t t = 0; t < n->g.ntensors; t++) {
        struct recipe *r = &b->recipes.own[t];
        r->channels = n->g.tensor[t].dim[CHAN];
        r->quantizer =
            (struct quantizer){ .step = step, .threshold = step / 2, .gain = 1, .with_sign = true };
        if (t % 2 || !mixed)
            r->context = plain_context(r->channels, false);
        if (mode == HALO_VIDEO && r->context)
            r->video = plain_context(r->channels, true);
        b->recipes.of[t] = r;
        b->tensor_halo[t] = n->g.tensor[t].op == GEO_NO_OP ? HALO_F32 : (uint8_t)mode;
    }
}

struct cluster {
    struct net n;
    struct cookbook book;
    struct split_session *s;
    struct exec_stats stats[MAX_NODES];
    float answer[ROWS * COLS * OUT];
    bool may_miss[2 * NET_MAX_OPS];
    bool dawdles; /* node 1 is late with a message, once */
};

enum { LATE_MS = 300 };

static void dawdle(void *ctx, int32_t from, int32_t transfer, const uint8_t *msg, size_t len)
{
    struct cluster *c = ctx;
    (void)transfer;
    (void)msg;
    (void)len;
    if (from != 1 || !c->dawdles)
        return;
    c->dawdles = false;
    nanosleep(&(struct timespec){ .tv_nsec = 3 * LATE_MS * 1000000 }, NULL);
}

static void open_coded(struct cluster *c, int32_t nodes, enum halo mode, float step, bool with_mean,
                       bool mixed)
{
    struct diag why = { "" };
    memset(c, 0, sizeof *c);
    deep_net(&c->n, with_mean);
    cookbook_init(&c->book, &c->n, mode, step, mixed);
    struct plan_options o = { .nodes = nodes,
                              .policy = PLAN_EXCHANGE,
                              .tensor_halo = c->book.tensor_halo };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    graph_may_miss(&c->n.g, c->may_miss);
    o.may_miss = c->may_miss;
    const struct local_options local = { .recipes = &c->book.recipes,
                                         .late_ns = LATE_MS * INT64_C(1000000),
                                         .tap = dawdle,
                                         .tap_ctx = c };
    cr_assert_eq(session_open_graph(&c->s, &c->n.g, &o, &local, &why), 0, "%s", why.text);
}

static void cluster_open(struct cluster *c, int32_t nodes, enum halo mode, float step,
                         bool with_mean)
{
    open_coded(c, nodes, mode, step, with_mean, true);
}

static void cluster_close(struct cluster *c)
{
    split_close(c->s);
    recipes_done(&c->book.recipes);
    graph_unpack(&c->n.g);
    net_done(&c->n);
}

static int cluster_run(struct cluster *c, const float *in)
{
    return split_run(c->s, (const float *const[]){ in }, (float *const[]){ c->answer }, c->stats,
                     NULL);
}

static int64_t sent_bytes(const struct cluster *c)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < split_plan(c->s)->nodes; i++)
        bytes += c->stats[i].halo_sent_bytes;
    return bytes;
}

static void picture(float *in, unsigned seed)
{
    srand(seed);
    for (int i = 0; i < 3 * ROWS * COLS; i++)
        in[i] = (float)rand() / (float)RAND_MAX - 0.5F;
}

/* The finer the step, the smaller the error; and what no halo reaches is exact. */
Test(coding, recipes_are_as_exact_as_their_steps)
{
    static const float steps[] = { 1e-3F, 1e-2F, 1e-1F };
    static struct cluster exact, c;
    float in[3 * ROWS * COLS];
    picture(in, 1);
    for (int with_mean = 0; with_mean < 2; with_mean++) {
        cluster_open(&exact, 1, HALO_F32, 1, with_mean);
        cr_assert_eq(cluster_run(&exact, in), 0);
        for (int32_t nodes = 1; nodes <= MAX_NODES; nodes++)
            for (int k = 0; k < 3; k++) {
                cluster_open(&c, nodes, HALO_TQ, steps[k], with_mean);
                cr_assert_eq(cluster_run(&c, in), 0);
                double error = 0, largest = 0;
                for (int i = 0; i < (with_mean ? OUT : ROWS * COLS * OUT); i++) {
                    error = fmax(error, fabs((double)(c.answer[i] - exact.answer[i])));
                    largest = fmax(largest, fabs((double)exact.answer[i]));
                }
                cr_assert_leq(error, 40 * (double)steps[k] * (double)largest, "%d nodes, step %g",
                              nodes, (double)steps[k]);
                cr_assert_eq(error > 0, nodes > 1, "%d nodes, step %g", nodes, (double)steps[k]);
                cluster_close(&c);
            }
        cluster_close(&exact);
    }
}

/* No mode is longer than halves, and coarser steps take less. */
Test(coding, recipes_are_shorter_than_halves)
{
    static struct cluster halves, c;
    float in[3 * ROWS * COLS];
    picture(in, 2);
    for (int32_t nodes = 2; nodes <= MAX_NODES; nodes++) {
        cluster_open(&halves, nodes, HALO_F16, 1, false);
        cr_assert_eq(cluster_run(&halves, in), 0);
        int64_t last = sent_bytes(&halves);
        for (float step = 1e-6F; step < 10; step *= 10) {
            cluster_open(&c, nodes, HALO_TQ, step, false);
            cr_assert_eq(cluster_run(&c, in), 0);
            cr_assert_leq(sent_bytes(&c), last, "%d nodes, step %g", nodes, (double)step);
            last = sent_bytes(&c);
            cluster_close(&c);
        }
        cr_assert_lt(10 * last, sent_bytes(&halves));
        cluster_close(&halves);
    }
}

/* Frame after frame video gives what single frames give, also where the scene changes.  Steps are
 * wide enough for no single message to be longer than halves, which would stand in for it. */
Test(coding, video_gives_what_single_frames_give)
{
    static struct cluster single, video;
    float in[3 * ROWS * COLS];
    for (int32_t nodes = 2; nodes <= MAX_NODES; nodes++) {
        open_coded(&single, nodes, HALO_TQ, 2, true, false);
        open_coded(&video, nodes, HALO_VIDEO, 2, true, false);
        int64_t first = 0, still = 0;
        for (unsigned frame = 0; frame < 12; frame++) {
            picture(in, frame < 4 ? 0 : frame / 2);
            cr_assert_eq(cluster_run(&single, in), 0);
            cr_assert_eq(cluster_run(&video, in), 0);
            cr_assert(memcmp(single.answer, video.answer, OUT * sizeof(float)) == 0,
                      "%d nodes, frame %u", nodes, frame);
            first = frame == 0 ? sent_bytes(&video) : first;
            still = frame == 3 ? sent_bytes(&video) : still;
        }
        cr_assert_lt(still, first, "%d nodes: %lld and %lld bytes", nodes, (long long)still,
                     (long long)first);
        cluster_close(&single);
        cluster_close(&video);
    }
}

/* A message that was given up is one that later frames must not build on, at either end. */
Test(coding, video_stands_alone_after_a_late_message)
{
    static struct cluster single, video;
    float in[3 * ROWS * COLS];
    open_coded(&single, 2, HALO_TQ, 0.25F, false, false);
    open_coded(&video, 2, HALO_VIDEO, 0.25F, false, false);
    int64_t first = 0;
    for (unsigned frame = 0; frame < 6; frame++) {
        picture(in, 0);
        video.dawdles = frame == 2;
        cr_assert_eq(cluster_run(&single, in), 0);
        cr_assert_eq(cluster_run(&video, in), 0, "frame %u", frame);
        cr_assert_eq(video.stats[0].concealed > 0, frame == 2);
        cr_assert_eq(memcmp(single.answer, video.answer, sizeof single.answer) == 0, frame != 2,
                     "frame %u", frame);
        if (frame == 0 || frame == 3) /* all of it once more */
            cr_assert(first == 0 || sent_bytes(&video) == first);
        else if (frame != 2)
            cr_assert_lt(sent_bytes(&video), first);
        first = sent_bytes(&video) > first ? sent_bytes(&video) : first;
    }
    cluster_close(&single);
    cluster_close(&video);
}

/* Nothing is sent, and what nobody sent reads as the recipe says: the answer is that of a network
 * whose halos are constants. */
Test(coding, dropped_halos_are_not_sent)
{
    static struct cluster c, other;
    float in[3 * ROWS * COLS];
    picture(in, 3);
    for (int32_t nodes = 2; nodes <= MAX_NODES; nodes++) {
        cluster_open(&c, nodes, HALO_DROP, 1, false);
        cluster_open(&other, nodes, HALO_DROP, 1, false);
        struct recipe *r = &other.book.recipes.own[other.n.op[0].output];
        r->rest = calloc((size_t)r->channels, sizeof *r->rest);
        r->rest[0] = 3;
        for (int frame = 0; frame < 2; frame++) {
            cr_assert_eq(cluster_run(&c, in), 0);
            cr_assert_eq(cluster_run(&other, in), 0);
            cr_assert_eq(sent_bytes(&c), 0);
        }
        cr_assert_neq(memcmp(c.answer, other.answer, sizeof c.answer), 0);
        cr_assert(memcmp(c.answer, other.answer, 1 * sizeof(float)) == 0, "far from any halo");
        cluster_close(&c);
        cluster_close(&other);
    }
}

/* ---- Recipes of a plan */

/* What the coordinator writes is what a node reads; what a program lacks is noticed. */
Test(coding, recipes_travel_with_the_plan)
{
    static struct cluster c;
    cluster_open(&c, 3, HALO_VIDEO, 0.25F, true);
    for (int32_t node = 0; node < 3; node++) {
        const struct program *pr = split_program(c.s, node);
        const struct geometry *geo = split_plan(c.s)->geo;
        struct recipes r;
        struct diag why = { "" };
        const size_t len = recipes_write(&c.book.recipes, pr, NULL);
        uint8_t *bytes = malloc(len);
        cr_assert_eq(recipes_write(&c.book.recipes, pr, bytes), len);
        cr_assert_eq(recipes_read(&r, geo, bytes, len, &why), 0, "%s", why.text);
        cr_assert_eq(recipes_check(&r, geo, pr, &why), 0, "%s", why.text);
        uint8_t *again = malloc(len);
        cr_assert_eq(recipes_write(&r, pr, again), len);
        cr_assert(memcmp(bytes, again, len) == 0);
        r.of[c.n.op[0].output] = NULL;
        cr_assert_eq(recipes_check(&r, geo, pr, &why), -EPROTO);
        recipes_done(&r);
        for (size_t cut = 1; cut < len; cut++) {
            uint8_t *exact = malloc(cut);
            memcpy(exact, bytes, cut);
            if (recipes_read(&r, geo, exact, cut, &why) == 0) {
                cr_assert_lt(r.nown, geo->ntensors, "whole recipes are missing");
                recipes_done(&r);
            }
            free(exact);
        }
        free(bytes);
        free(again);
    }
    cluster_close(&c);
}
