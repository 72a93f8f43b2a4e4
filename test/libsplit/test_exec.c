#include "libsplit/exec.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "chain.h"
#include "libsplit/host.h"
#include "libsplit/kernel.h"
#include "libsplit/runs.h"
#include "tiling/plan.h"

/* ---- Runs ---- */

static struct box random_box(struct net *random, struct box inside)
{
    struct box b;
    for (int a = 0; a < AXES; a++) {
        b.lo[a] = net_between(random, inside.lo[a], inside.hi[a] - 1);
        b.hi[a] = net_between(random, b.lo[a] + 1, inside.hi[a]);
    }
    return b;
}

/* Runs name exactly the values of the box, in the order of images, rows, columns, channels. */
Test(runs, walk_a_box_in_order)
{
    struct net random;
    net_init(&random, 1);
    for (int round = 0; round < 2000; round++) {
        const struct box all = { { 0, 0, 0 }, { 6, 6, 6 } };
        const struct box stored = random_box(&random, all), part = random_box(&random, stored);
        const int32_t batch = net_between(&random, 1, 3);
        struct runs r;
        bool more = runs_begin(&r, stored, part, batch);
        size_t count = 0, in_run = 0;
        for (int32_t b = 0; b < batch; b++)
            for (int32_t y = part.lo[ROW]; y < part.hi[ROW]; y++)
                for (int32_t x = part.lo[COL]; x < part.hi[COL]; x++)
                    for (int32_t k = part.lo[CHAN]; k < part.hi[CHAN]; k++) {
                        const size_t at =
                            (size_t)((((b * box_len(stored, ROW) + y - stored.lo[ROW]) *
                                           box_len(stored, COL) +
                                       x - stored.lo[COL]) *
                                      box_len(stored, CHAN)) +
                                     k - stored.lo[CHAN]);
                        cr_assert(more);
                        cr_assert_eq(r.first + in_run, count);
                        cr_assert_eq(r.offset + in_run, at);
                        count++;
                        if (++in_run == r.len) {
                            more = runs_next(&r);
                            in_run = 0;
                        }
                    }
        cr_assert_not(more);
    }
    struct runs r;
    cr_assert_not(runs_begin(&r, box_none(), box_none(), 1));
}

Test(runs, whole_rows_are_one_run)
{
    struct runs r;
    const struct box stored = { { 2, 0, 0 }, { 9, 5, 3 } };
    const struct box band = { { 4, 0, 0 }, { 7, 5, 3 } };
    cr_assert(runs_begin(&r, stored, band, 1));
    cr_assert_eq(r.len, 45);
    cr_assert_eq(r.offset, 30);
    cr_assert_not(runs_next(&r));
    cr_assert(runs_begin(&r, stored, stored, 4));
    cr_assert_eq(r.len, 7 * 15 * 4);
    cr_assert_not(runs_next(&r));
}

/* ---- One node, its messages in the hands of the test ---- */

struct station {
    struct exchange exchange;
    const struct graph *g;
    const struct program *host;
    struct host_input input;
    uint8_t *in, *out; /* the last message each way */
    size_t in_len;
    int32_t held; /* messages not released */
    size_t spoil; /* length to claim instead of the true one, if not 0 */
    int recv_error;
    float *output[NET_MAX_PORTS];
};

static struct station *station_of(struct exchange *x) { return (struct station *)x; }

static int reserve(struct exchange *x, const struct step *s, size_t cap, uint8_t **to)
{
    (void)s;
    struct station *st = station_of(x);
    free(st->out);
    *to = st->out = malloc(cap);
    return 0;
}

static const struct step *host_step(const struct station *s, enum step_kind kind, int32_t transfer)
{
    for (int32_t i = 0; i < s->host->nsteps; i++)
        if (s->host->step[i].kind == kind && s->host->step[i].transfer == transfer)
            return &s->host->step[i];
    return NULL;
}

static int send(struct exchange *x, const struct step *step, size_t len)
{
    struct station *s = station_of(x);
    return host_unpack(s->g, host_step(s, STEP_RECV, step->transfer), s->out, len, NULL, s->output);
}

static int recv(struct exchange *x, const struct step *step, const uint8_t **msg, size_t *len)
{
    struct station *s = station_of(x);
    if (s->recv_error)
        return s->recv_error;
    const struct step *st = host_step(s, STEP_SEND, step->transfer);
    const struct tensor *t = &s->g->tensor[st->what];
    free(s->in);
    s->in = malloc(codec_bound((size_t)(box_values(st->box) * t->batch)));
    s->in_len = host_pack(s->g, st, &s->input, s->in);
    *msg = s->in;
    *len = s->spoil ? s->spoil : s->in_len;
    s->held++;
    return 0;
}

static void release(struct exchange *x, const struct step *s)
{
    (void)s;
    station_of(x)->held--;
}

/* Everything for a net with one input on one node. */
struct rig {
    struct net net;
    struct geometry geo;
    struct plan plan;
    struct program node, host;
    struct station station;
    struct exec *exec;
    const float *input; /* NHWC */
};

static void rig_init(struct rig *r, const struct codec_pixels *pixels)
{
    struct diag why = { "" };
    const struct plan_options o = { .placement = PLAN_ROWS, .nodes = 1, .weight = { 1 } };
    cr_assert_eq(graph_geometry(&r->net.g, 1, &r->geo), 0);
    cr_assert_eq(plan_build(&r->plan, &r->geo, &o), 0);
    cr_assert_eq(program_compile(&r->node, &r->plan, 0), 0);
    cr_assert_eq(program_compile(&r->host, &r->plan, 1), 0);
    cr_assert_eq(graph_pack(&r->net.g, &r->node, &why), 0);
    r->exec = exec_new(&r->net.g, &r->geo, &r->node, NULL, pixels, NULL, &why);
    cr_assert_not_null(r->exec, "%s", why.text);
    r->station = (struct station){ .exchange = { reserve, send, recv, release },
                                   .g = &r->net.g,
                                   .host = &r->host };
    const int64_t n = net_values(&r->net, r->net.in[0].tensor);
    float *onnx = net_floats(&r->net, n), *nhwc = net_floats(&r->net, n);
    shape_from_onnx(&r->net.in[0].shape, nhwc, onnx);
    r->station.input.values = onnx;
    r->input = nhwc;
    for (int32_t i = 0; i < r->net.g.noutputs; i++)
        r->station.output[i] = net_floats(&r->net, net_values(&r->net, r->net.out[i].tensor));
}

static void rig_done(struct rig *r)
{
    free(r->station.in);
    free(r->station.out);
    exec_free(r->exec);
    program_done(&r->host);
    program_done(&r->node);
    plan_done(&r->plan);
    geometry_done(&r->geo);
    graph_unpack(&r->net.g);
    net_done(&r->net);
}

static const struct window same3 = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };

static void conv_net(struct net *n)
{
    net_init(n, 3);
    net_output(n, net_conv(n, net_input(n, 6, 5, 3, 2), 4, 1, same3));
}

Test(exec, computes_what_the_reference_says)
{
    struct rig r;
    conv_net(&r.net);
    rig_init(&r, NULL);
    struct exec_stats stats;
    cr_assert_eq(exec_run(r.exec, &r.station.exchange, NULL, NULL, &stats), 0);
    double *want[2 * NET_MAX_OPS];
    net_reference(&r.net, &r.input, want);
    for (int64_t i = 0; i < net_values(&r.net, 1); i++)
        cr_assert_float_eq((double)r.station.output[0][i], want[1][i], 1e-5);
    cr_assert_eq(r.station.held, 0);
    cr_assert_eq(stats.sent_messages, 1);
    cr_assert_eq(stats.received_messages, 1);
    cr_assert_eq(stats.received_bytes, 1 + 4 * 6 * 5 * 3 * 2);
    cr_assert_eq(stats.sent_bytes, 1 + 4 * 6 * 5 * 4 * 2);
    cr_assert_eq(stats.halo_sent_bytes, 0);
    net_reference_done(&r.net, want);
    rig_done(&r);
}

Test(exec, refuses_messages_that_do_not_decode)
{
    struct rig r;
    conv_net(&r.net);
    rig_init(&r, NULL);
    static const uint8_t pixels[6 * 5 * 3 * 2];
    r.station.spoil = 7;
    cr_assert_eq(exec_run(r.exec, &r.station.exchange, NULL, NULL, NULL), -EBADMSG);
    r.station.spoil = 0;
    r.station.input = (struct host_input){ .pixels = pixels }; /* none are expected */
    cr_assert_eq(exec_run(r.exec, &r.station.exchange, NULL, NULL, NULL), -EBADMSG);
    cr_assert_eq(r.station.held, 0, "messages are released on failure too");
    rig_done(&r);
}

Test(exec, passes_errors_of_the_exchange_and_runs_again)
{
    struct rig r;
    conv_net(&r.net);
    rig_init(&r, NULL);
    r.station.recv_error = -ETIMEDOUT;
    cr_assert_eq(exec_run(r.exec, &r.station.exchange, NULL, NULL, NULL), -ETIMEDOUT);
    r.station.recv_error = 0;
    cr_assert_eq(exec_run(r.exec, &r.station.exchange, NULL, NULL, NULL), 0);
    rig_done(&r);
}

Test(exec, normalizes_pixels)
{
    static const struct codec_pixels rgb = {
        .channels = 3, .scale = 0.5F, .mean = { 1, 2, 3 }, .std = { 2, 2, 2 }
    };
    struct rig r;
    net_init(&r.net, 1);
    const int32_t in = net_input(&r.net, 4, 3, 3, 1);
    net_output(&r.net, net_op(&r.net, OP_ACTIVATION, 1, &in, 4, 3, 3)->output);
    rig_init(&r, &rgb);
    uint8_t pixels[36];
    for (size_t i = 0; i < sizeof(pixels); i++)
        pixels[i] = (uint8_t)(7 * i);
    r.station.input = (struct host_input){ .pixels = pixels };
    cr_assert_eq(exec_run(r.exec, &r.station.exchange, NULL, NULL, NULL), 0);
    for (size_t i = 0; i < sizeof(pixels); i++)
        cr_assert_eq(r.station.output[0][i], ((float)pixels[i] * 0.5F - (float)(1 + i % 3)) / 2);
    rig_done(&r);
}

/* A chain of equal layers takes the memory of two, and scratch, however long it is. */
Test(exec, arena_follows_liveness)
{
    int64_t bytes[2];
    for (int i = 0; i < 2; i++) {
        struct rig r;
        net_init(&r.net, 1);
        int32_t t = net_input(&r.net, 32, 32, 4, 1);
        for (int layer = 0; layer < (i ? 20 : 3); layer++) {
            t = net_op(&r.net, OP_ACTIVATION, 1, &t, 32, 32, 4)->output;
            r.net.op[layer].act.kind = ACT_TANH;
        }
        net_output(&r.net, t);
        rig_init(&r, NULL);
        bytes[i] = exec_arena_bytes(&r.net.g, &r.geo, &r.node, 1);
        rig_done(&r);
    }
    cr_assert_eq(bytes[0], bytes[1]);
    cr_assert_eq(bytes[0], 2 * 32 * 32 * 4 * 4);
}

Test(exec, weight_bytes_count_every_operator_once)
{
    struct rig r;
    conv_net(&r.net);
    rig_init(&r, NULL);
    cr_assert_geq(exec_weight_bytes(&r.net.g, &r.node), 3 * 3 * 3 * 4 * 4);
    rig_done(&r);
}

/* Sizes whose product overflows are refused with a sentence. */
Test(exec, refuses_what_does_not_fit)
{
    struct net n;
    net_init(&n, 1);
    const int32_t in = net_input(&n, 1 << 14, 1 << 14, 1 << 10, 1 << 28);
    net_output(&n, net_op(&n, OP_ACTIVATION, 1, &in, 1 << 14, 1 << 14, 1 << 10)->output);
    struct geometry geo;
    cr_assert_eq(graph_geometry(&n.g, 1, &geo), 0);
    const struct box whole = box_whole(n.tensor[0].dim);
    struct buffer buffer[2] = { { 0, whole }, { 1, whole } };
    struct step step = { .kind = STEP_RUN, .box = whole };
    const struct program pr = {
        .nodes = 1, .nbuffers = 2, .nsteps = 1, .buffer = buffer, .step = &step
    };
    struct diag why = { "" };
    cr_assert_null(exec_new(&n.g, &geo, &pr, NULL, NULL, NULL, &why));
    cr_assert(strlen(why.text) > 0);
    geometry_done(&geo);
    net_done(&n);
}

/* ---- Host ---- */

Test(host, fills_every_output_that_is_the_tensor)
{
    struct net n;
    net_init(&n, 1);
    const int32_t in = net_input(&n, 3, 2, 2, 1);
    const int32_t t = net_op(&n, OP_ACTIVATION, 1, &in, 3, 2, 2)->output;
    net_output(&n, t);
    net_output(&n, in);
    net_output(&n, t);
    const struct step s = { .kind = STEP_RECV, .what = t, .box = { { 1, 0, 0 }, { 3, 2, 2 } } };
    float values[8], a[12] = { 0 }, b[12] = { 0 }, c[12] = { 0 };
    for (int i = 0; i < 8; i++)
        values[i] = (float)(i + 1);
    uint8_t msg[33];
    cr_assert_eq(codec_put_f32(msg, values, 8), 33);
    float *const output[] = { a, b, c };
    cr_assert_eq(host_unpack(&n.g, &s, msg, 33, NULL, output), 0);
    cr_assert(memcmp(a + 4, values, sizeof(values)) == 0);
    cr_assert(memcmp(c + 4, values, sizeof(values)) == 0);
    for (int i = 0; i < 12; i++)
        cr_assert_eq(b[i], 0);
    cr_assert_eq(host_unpack(&n.g, &s, msg, 32, NULL, output), -EBADMSG);

    float passed[12];
    shape_from_onnx(&n.in[0].shape, passed, a);
    host_pass(&n.g, &(struct host_input){ .values = a }, NULL, output);
    cr_assert(memcmp(b, passed, sizeof(passed)) == 0);
    net_done(&n);
}

/* What a SEND of `part` holds, from both orders of the same values. */
static void check_packed(struct net *n, struct box part)
{
    const struct tensor *t = &n->g.tensor[n->in[0].tensor];
    const int64_t all = net_values(n, n->in[0].tensor);
    const size_t values = (size_t)box_values(part) * (size_t)t->batch;
    float *onnx = net_floats(n, all), *nhwc = net_floats(n, all), *want = net_floats(n, all);
    const struct step s = { .kind = STEP_SEND, .what = n->in[0].tensor, .box = part };
    uint8_t *msg = malloc(codec_bound(values));
    struct runs r;
    shape_from_onnx(&n->in[0].shape, nhwc, onnx);
    for (bool more = runs_begin(&r, box_whole(t->dim), part, t->batch); more; more = runs_next(&r))
        memcpy(want + r.first, nhwc + r.offset, r.len * sizeof *want);
    const struct host_input input = { .values = onnx };
    cr_assert_eq(host_pack(&n->g, &s, &input, msg), codec_bound(values));
    cr_assert_eq(msg[0], CODEC_F32);
    cr_assert_arr_eq(msg + 1, want, values * sizeof *want);
    free(msg);
}

Test(host, packs_any_part_of_an_input)
{
    static const int32_t dims[][4] = { { 7, 5, 3, 1 },  { 3, 400, 3, 2 },  { 2, 3, 2100, 1 },
                                       { 4, 6, 1, 3 },  { 1, 1, 9, 2 },    { 5, 40, 30, 2 },
                                       { 2, 17, 4, 1 }, { 1, 1300, 2, 1 }, { 3, 1, 1024, 2 } };
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        struct net n;
        const int32_t *d = dims[i];
        net_init(&n, i);
        net_input(&n, d[0], d[1], d[2], d[3]);
        check_packed(&n, box_whole(d));
        for (int32_t k = 0; k < 12; k++) {
            struct box part;
            for (int a = 0; a < AXES; a++) {
                part.lo[a] = net_between(&n, 0, d[a] - 1);
                part.hi[a] = net_between(&n, part.lo[a] + 1, d[a]);
            }
            check_packed(&n, part);
        }
        net_done(&n);
    }
}
