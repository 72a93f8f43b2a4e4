#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/coordinator.h"
#include "daemon/mesh.h"
#include "daemon/store.h"
#include "daemon/worker.h"
#include "libsplit/halo_file.h"
#include "libsplit/npy.h"
#include "proto/frame.h"
#include "proto/model.h"
#include "proto/plan.h"

/* One or two nodes in one process and on one loop, as daemon/main.c joins them, and the
 * coordinator on the first.  The knobs spoil messages to the workers. */

enum { NODES = 2, REQUESTS = 16 };

struct rig;

struct node {
    struct rig *rig;
    int32_t index;
    struct store *store;
    struct worker *worker;
    struct mesh *mesh;
    bool mesh_closed; /* by the test itself */
};

struct rig {
    uv_loop_t loop;
    uv_timer_t limit, beat;
    struct config config;
    struct node node[NODES];
    struct coordinator *coordinator;
    char dir[64];
    int closed;
    /* Knobs: */
    bool swallow_frames; /* FRAMEs never reach a worker */
    int fail_frames;     /* so many FRAMEs are answered with `fail_status` */
    int32_t fail_status;
    int refuse_plans;   /* so many PLANs are answered with -ENOMEM */
    uint32_t concealed; /* what every node says of its frames */
    int fresh;          /* FRAMEs with HEADER_FRESH that were seen */
    int frames;         /* that were seen */
};

static void answer(struct node *n, const struct header *to, enum msg_type type, const void *body,
                   size_t len)
{
    struct header h = *to;
    h.type = type;
    h.length = (uint32_t)len;
    cr_assert_eq(mesh_send(n->mesh, 0, &h, body), 0);
}

static bool spoiled(struct node *n, const struct header *h)
{
    struct rig *r = n->rig;

    if (h->type == MSG_FRAME)
        r->frames++;
    if (h->type == MSG_FRAME && h->flags & HEADER_FRESH)
        r->fresh++;
    if (h->type == MSG_FRAME && r->swallow_frames)
        return true;
    if (h->type == MSG_FRAME && r->fail_frames > 0) {
        const struct msg_frame_done done = { .status = r->fail_status };
        uint8_t body[FRAME_DONE_BYTES];
        r->fail_frames--;
        frame_done_encode(&done, NULL, body);
        answer(n, h, MSG_FRAME_DONE, body, sizeof body);
        return true;
    }
    if (h->type == MSG_PLAN && r->refuse_plans > 0) {
        const struct msg_plan_ack ack = { .status = -ENOMEM, .detail = "no room in here" };
        uint8_t body[PLAN_ACK_MAX_BYTES];
        r->refuse_plans--;
        answer(n, h, MSG_PLAN_ACK, body, (size_t)plan_ack_encode(&ack, body, sizeof body));
        return true;
    }
    return false;
}

static void on_up(void *ctx, int32_t node, const struct msg_hello *hello)
{
    struct node *n = ctx;
    if (n->index == 0)
        coordinator_up(n->rig->coordinator, node, hello);
    worker_up(n->worker);
}

static void on_down(void *ctx, int32_t node, const char *why)
{
    struct node *n = ctx;
    worker_down(n->worker, node);
    if (n->index == 0)
        coordinator_down(n->rig->coordinator, node, why);
}

static void frame_done(struct rig *r, int32_t node, const struct header *h, const uint8_t *body)
{
    uint8_t other[FRAME_DONE_BYTES];
    struct msg_frame_done done;
    int32_t nevents;

    cr_assert_eq(frame_done_decode(&done, &nevents, body, h->length), 0);
    done.concealed = r->concealed;
    frame_done_encode(&done, NULL, other);
    coordinator_message(r->coordinator, node, h, r->concealed > 0 ? other : body);
}

static void on_message(void *ctx, int32_t node, const struct header *h, const uint8_t *body)
{
    struct node *n = ctx;
    if (h->type == MSG_FRAME_DONE)
        frame_done(n->rig, node, h, body);
    else if (h->type == MSG_MODEL_STATE || h->type == MSG_PLAN_ACK || h->type == MSG_FRAME_DONE ||
             h->type == MSG_LINKS)
        coordinator_message(n->rig->coordinator, node, h, body);
    else if (!spoiled(n, h))
        worker_message(n->worker, node, h, body);
}

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    return h->flags & HEADER_TO_HOST ? coordinator_claim(n->rig->coordinator, node, h)
                                     : worker_claim(n->worker, node, h);
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    if (h->flags & HEADER_TO_HOST)
        coordinator_arrived(n->rig->coordinator, node, h);
    else
        worker_arrived(n->worker, node, h);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    if (h->flags & HEADER_TO_HOST)
        coordinator_failed(n->rig->coordinator, node, h);
    else
        worker_failed(n->worker, node, h);
}

/* ---- the loop */

static void on_limit(uv_timer_t *t) { *(bool *)t->data = true; }
static void on_beat(uv_timer_t *t) { (void)t; }

static bool run_until(struct rig *r, bool (*done)(void *ctx), void *ctx, uint64_t ms)
{
    bool late = false;

    uv_update_time(&r->loop);
    r->limit.data = &late;
    uv_timer_start(&r->limit, on_limit, ms, 0);
    uv_timer_start(&r->beat, on_beat, 1, 1);
    while (!done(ctx) && !late)
        uv_run(&r->loop, UV_RUN_ONCE);
    uv_timer_stop(&r->limit);
    uv_timer_stop(&r->beat);
    return done(ctx);
}

static void open_node(struct rig *r, int32_t i)
{
    struct node *n = &r->node[i];
    struct diag why;
    char state[128];
    const struct mesh_events events = { .ctx = n,
                                        .up = on_up,
                                        .down = on_down,
                                        .message = on_message,
                                        .claim = on_claim,
                                        .arrived = on_arrived,
                                        .failed = on_failed };

    n->rig = r;
    n->index = i;
    snprintf(state, sizeof state, "%s/state%d", r->dir, i);
    cr_assert_eq(store_open(&n->store, state, &why), 0, "%s", why.text);
    cr_assert_eq(worker_new(&n->worker, &r->loop, &r->config, i, n->store, &why), 0, "%s",
                 why.text);
    cr_assert_eq(mesh_open(&n->mesh, &r->loop, &r->config, i, NULL, &events, &why), 0, "%s",
                 why.text);
    worker_attach(n->worker, n->mesh);
    if (i == 0)
        coordinator_attach(r->coordinator, n->mesh);
}

/* A copy of the network, by link, that was calibrated: its halo file vouches for q8. */
static void calibrate_fashion(const char *dir)
{
    struct halo_file f = {
        .nodes = NODES, .budget = "1%", .measured = { .inputs = 1 }, .within = halo_bit(HALO_Q8)
    };
    char path[128], halo[160], *real = realpath("conf/demo/fashion.onnx", NULL);
    struct onnx_model m;
    struct diag why;

    snprintf(path, sizeof path, "%s/fashion.onnx", dir);
    cr_assert(real && symlink(real, path) == 0);
    free(real);
    cr_assert_eq(onnx_open(&m, path, &why), 0, "%s", why.text);
    halo_file_model(&m, f.model);
    onnx_close(&m);
    cr_assert_eq(halo_file_path(path, halo, sizeof halo), 0);
    cr_assert_eq(halo_file_save(&f, halo, &why), 0, "%s", why.text);
}

static bool calibrated; /* the network of the rigs to come */
/* Of the rigs to come: computing takes so long that all nodes take part. */
static const char *costs = "\"costs\": { \"macs_per_us\": 1 },";

/* `extra`: members of cluster.json, with a comma at the end. */
static struct rig *rig_open(int32_t nodes, const char *extra)
{
    struct rig *r = calloc(1, sizeof *r);
    struct diag why;
    char json[2048], fashion[128] = "conf/demo/fashion.onnx";

    strcpy(r->dir, "/tmp/splitd-coord-XXXXXX");
    cr_assert(mkdtemp(r->dir));
    if (calibrated) {
        calibrate_fashion(r->dir);
        snprintf(fashion, sizeof fashion, "%s/fashion.onnx", r->dir);
    }
    snprintf(json, sizeof json,
             "{ %s %s \"cluster\": \"rig\", \"coordinator\": \"a\","
             " \"nodes\": [ { \"name\": \"a\", \"address\": \"ipc://%s/a\" }%s%s%s ],"
             " \"models\": [ { \"name\": \"fashion\", \"file\": \"%s\" },"
             "               { \"name\": \"superres\", \"file\": \"conf/demo/superres.onnx\" },"
             "               { \"name\": \"broken\", \"file\": \"%s/none.onnx\" } ] }",
             extra, costs, r->dir, nodes > 1 ? ", { \"name\": \"b\", \"address\": \"ipc://" : "",
             nodes > 1 ? r->dir : "", nodes > 1 ? "/b\" }" : "", fashion, r->dir);
    cr_assert_eq(config_parse(&r->config, json, strlen(json), "rig", &why), 0, "%s", why.text);
    cr_assert_eq(uv_loop_init(&r->loop), 0);
    uv_timer_init(&r->loop, &r->limit);
    uv_timer_init(&r->loop, &r->beat);
    cr_assert_eq(coordinator_new(&r->coordinator, &r->loop, &r->config, NULL, &why), 0, "%s",
                 why.text);
    for (int32_t i = 0; i < nodes; i++)
        open_node(r, i);
    return r;
}

static bool is_ready(void *ctx) { return coordinator_ready(((struct rig *)ctx)->coordinator); }

static struct rig *rig_ready(int32_t nodes, const char *extra)
{
    struct rig *r = rig_open(nodes, extra);
    cr_assert(run_until(r, is_ready, r, 10000), "not ready after 10 s");
    return r;
}

static void on_closed(void *ctx) { ((struct rig *)ctx)->closed++; }
static bool all_closed(void *ctx) { return ((struct rig *)ctx)->closed == 0; }

static void wait_closed(struct rig *r, int parts)
{
    r->closed -= parts;
    cr_assert(run_until(r, all_closed, r, 2000), "%d parts did not close", -r->closed);
}

static int delete (const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void rig_close(struct rig *r)
{
    int parts = 1;

    coordinator_close(r->coordinator, on_closed, r);
    for (int32_t i = 0; i < r->config.nnodes; i++)
        if (!r->node[i].mesh_closed) {
            mesh_close(r->node[i].mesh, on_closed, r);
            parts++;
        }
    wait_closed(r, parts);
    for (int32_t i = 0; i < r->config.nnodes; i++)
        worker_close(r->node[i].worker, on_closed, r);
    wait_closed(r, r->config.nnodes);
    for (int32_t i = 0; i < r->config.nnodes; i++) {
        mesh_free(r->node[i].mesh);
        store_close(r->node[i].store);
    }
    coordinator_free(r->coordinator);
    uv_close((uv_handle_t *)&r->limit, NULL);
    uv_close((uv_handle_t *)&r->beat, NULL);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    cr_expect_eq(uv_loop_close(&r->loop), 0, "a handle is left");
    nftw(r->dir, delete, 8, FTW_DEPTH | FTW_PHYS);
    free(r);
}

/* ---- requests */

struct asked {
    struct request r;
    int done;
    enum outcome outcome;
    char why[600];
    int rendered;
    int32_t noutputs;
    struct shape shape; /* of the first output */
    float first[16];    /* of its values */
    struct request_tensor input;
    float *values; /* its values; free() them */
    char *traced;  /* a copy; free() it */
};

static void on_render(struct request *r)
{
    struct asked *a = r->ctx;
    a->rendered++;
    a->traced = r->traced ? strdup(r->traced) : NULL;
}

static void on_done(struct request *r, enum outcome outcome, const char *why)
{
    struct asked *a = r->ctx;

    a->done++;
    a->outcome = outcome;
    snprintf(a->why, sizeof a->why, "%s", why);
    if (outcome != OUTCOME_OK)
        return;
    a->noutputs = r->noutputs;
    a->shape = r->output[0].shape;
    for (int64_t i = 0; i < 16 && i < shape_values(&a->shape); i++)
        a->first[i] = r->output[0].values[i];
}

static bool is_done(void *ctx) { return ((struct asked *)ctx)->done > 0; }

static void prepare(struct asked *a, const char *model)
{
    *a = (struct asked){ 0 };
    a->r.model = model;
    a->r.ctx = a;
    a->r.render = on_render;
    a->r.done = on_done;
}

/* The tensor of test/fixtures/fashion_in.npy; free() values. */
static void prepare_tensor(struct rig *r, struct asked *a)
{
    struct model_info m;
    struct diag why;
    struct npy in;

    prepare(a, "fashion");
    cr_assert_eq(npy_load(&in, "test/fixtures/fashion_in.npy", &why), 0, "%s", why.text);
    coordinator_model(r->coordinator, 0, &m);
    a->values = in.values;
    a->input =
        (struct request_tensor){ m.onnx->input[0].name, shape_make(in.rank, in.dim), a->values };
    a->r.input = &a->input;
    a->r.ninputs = 1;
}

static void ask(struct rig *r, struct asked *a)
{
    coordinator_submit(r->coordinator, &a->r);
    cr_expect_eq(a->done, 0, "done is called later, never at once");
    cr_assert(run_until(r, is_done, a, 10000), "no answer within 10 s");
    cr_expect_eq(a->done, 1);
}

static void expect_answer(const struct asked *a)
{
    struct npy out;
    struct diag why;

    cr_assert_eq(a->outcome, OUTCOME_OK, "%s", a->why);
    cr_expect_eq(a->rendered, 1);
    cr_assert_eq(npy_load(&out, "test/fixtures/fashion_out.npy", &why), 0, "%s", why.text);
    cr_assert_eq(shape_values(&a->shape), out.count);
    for (int64_t i = 0; i < out.count; i++)
        cr_expect_float_eq(a->first[i], out.values[i], 1e-4f, "score %lld is %g, not %g",
                           (long long)i, (double)a->first[i], (double)out.values[i]);
    npy_done(&out);
}

static void asks_and_is_answered(struct rig *r)
{
    struct asked a;
    prepare_tensor(r, &a);
    ask(r, &a);
    expect_answer(&a);
    free(a.values);
}

/* ---- tests */

Test(coordinator, answers_on_one_node_and_on_two, .timeout = 60)
{
    for (int32_t nodes = 1; nodes <= NODES; nodes++) {
        struct rig *r = rig_ready(nodes, "");
        struct node_info info;
        for (int i = 0; i < 5; i++)
            asks_and_is_answered(r);
        coordinator_node(r->coordinator, nodes - 1, 0, &info);
        cr_expect(info.up);
        cr_expect_eq(info.rows, 28);
        cr_expect_eq(info.row_hi, 28);
        cr_expect(nodes == 1 ? info.row_lo == 0 : info.row_lo > 8 && info.row_lo < 20);
        cr_expect_gt(info.last.compute_ns, 0);
        cr_expect_gt(info.weight_bytes, 0);
        cr_expect_eq(coordinator_epoch(r->coordinator), 1,
                     "nodes that come together are one epoch");
        rig_close(r);
    }
}

static int count_text(const char *in, const char *what)
{
    int count = 0;
    for (const char *at = in; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

/* Whoever asks for a trace gets one, of all nodes and of the host, also when the frame had to be
 * repeated; whoever does not gets none. */
Test(coordinator, a_traced_request, .timeout = 60)
{
    struct rig *r = rig_ready(2, "");

    for (int round = 0; round < 4; round++) {
        struct asked a;
        prepare_tensor(r, &a);
        a.r.trace = round > 0;
        a.r.arrived_ns = (int64_t)uv_hrtime();
        if (round == 3) {
            r->fail_frames = 1;
            r->fail_status = -ECANCELED;
        }
        ask(r, &a);
        expect_answer(&a);
        cr_assert_eq(a.traced != NULL, round > 0);
        if (round > 0) {
            cJSON *json = cJSON_Parse(a.traced);
            cr_assert(cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(json, "traceEvents")));
            cJSON_Delete(json);
            cr_assert_eq(count_text(a.traced, "\"queue\",\"cat\""), 2, "one for each node");
            cr_assert_eq(count_text(a.traced, "\"splitd_clock\""), 2);
            cr_assert_gt(count_text(a.traced, "\"cat\":\"compute\""), 2);
            cr_assert_eq(count_text(a.traced, "\"ph\":\"s\""),
                         count_text(a.traced, "\"ph\":\"f\""));
            cr_assert_eq(count_text(a.traced, "\"arrange\""), 1);
            free(a.traced);
        }
        free(a.values);
    }
    rig_close(r);
}

static bool all_done(void *ctx)
{
    const struct asked *a = ctx;
    for (int i = 0; i < REQUESTS; i++)
        if (a[i].done == 0)
            return false;
    return true;
}

Test(coordinator, many_requests_share_the_cluster, .timeout = 60)
{
    static struct asked a[REQUESTS];
    struct rig *r = rig_ready(2, "");

    for (int i = 0; i < REQUESTS; i++) {
        prepare_tensor(r, &a[i]);
        coordinator_submit(r->coordinator, &a[i].r);
    }
    cr_assert(run_until(r, all_done, a, 10000));
    for (int i = 0; i < REQUESTS; i++) {
        expect_answer(&a[i]);
        free(a[i].values);
    }
    rig_close(r);
}

static uint8_t *read_file(const char *file, size_t *len)
{
    FILE *in = fopen(file, "rb");
    uint8_t *bytes = malloc(1 << 20);
    cr_assert_not_null(in, "%s", file);
    *len = fread(bytes, 1, 1 << 20, in);
    fclose(in);
    return bytes;
}

/* Every picture size is a network of its own; more than are kept come and go. */
Test(coordinator, pictures_of_many_sizes, .timeout = 120)
{
    struct rig *r = rig_ready(2, "");
    struct asked a;

    for (int32_t size = 8; size < 8 + 12; size++) {
        struct image im;
        size_t len;
        uint8_t *png;
        cr_assert_eq(image_init(&im, size, 2 * size, 3), 0);
        cr_assert_eq(image_encode_png(&im, &png, &len), 0);
        image_done(&im);
        prepare(&a, "superres");
        a.r.picture = png;
        a.r.picture_bytes = len;
        ask(r, &a);
        cr_assert_eq(a.outcome, OUTCOME_OK, "%s", a.why);
        cr_expect_eq(a.shape.rank, 4);
        cr_expect_eq(a.shape.dim[2], 2 * size);
        cr_expect_eq(a.shape.dim[3], 4 * size);
        free(png);
    }
    rig_close(r);
}

Test(coordinator, refuses_with_a_sentence, .timeout = 60)
{
    struct rig *r = rig_ready(1, "");
    const int32_t wrong[] = { 1, 1, 28, 27 }, batch[] = { 2, 1, 28, 28 };
    struct asked a;
    size_t len;

    prepare(&a, "nobody");
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_NOT_FOUND);
    cr_expect_not_null(strstr(a.why, "nobody"));

    prepare(&a, "broken");
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_UNAVAILABLE);
    cr_expect_not_null(strstr(a.why, "none.onnx"), "%s", a.why);

    prepare(&a, "fashion"); /* neither picture nor tensor */
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_BAD_REQUEST);
    cr_expect_not_null(strstr(a.why, "is missing"), "%s", a.why);

    prepare_tensor(r, &a);
    a.input.shape = shape_make(4, wrong);
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_BAD_REQUEST);
    cr_expect_not_null(strstr(a.why, "1x1x28x27"), "%s", a.why);
    a.done = 0;
    a.input.shape = shape_make(3, batch);
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_BAD_REQUEST);
    free(a.values);

    prepare(&a, "fashion");
    a.r.picture = (const uint8_t *)"no picture";
    a.r.picture_bytes = 10;
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_BAD_REQUEST);
    cr_expect_neq(a.why[0], '\0');

    uint8_t *png = read_file("conf/demo/fashion/1-trouser.png", &len);
    prepare(&a, "fashion");
    a.r.picture = png;
    a.r.picture_bytes = len / 2;
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_BAD_REQUEST);
    a.done = 0;
    a.r.picture_bytes = len;
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_OK, "%s", a.why);
    free(png);

    asks_and_is_answered(r);
    rig_close(r);
}

/* Two frames are under way in turn, each behind the last of its own. */
Test(coordinator, a_frame_behind_concealed_halos_stands_alone, .timeout = 60)
{
    static const uint32_t concealed[] = { 0, 3, 0, 0, 0, 2, 1, 0, 0, 0 };
    struct rig *r = rig_ready(2, "\"late_halo\": \"conceal\", \"late_halo_ms\": 5000,");
    struct coordinator_counts counts;
    struct asked a;

    for (int i = 0; i < (int)(sizeof concealed / sizeof concealed[0]); i++) {
        r->concealed = concealed[i];
        r->fresh = 0;
        prepare_tensor(r, &a);
        ask(r, &a);
        expect_answer(&a);
        free(a.values);
        cr_expect_eq(a.r.concealed, 2 * (int32_t)concealed[i], "frame %d", i);
        cr_expect_eq(r->fresh, i > 1 && concealed[i - 2] > 0 ? 2 : 0, "frame %d", i);
    }
    coordinator_counts(r->coordinator, &counts);
    cr_expect_eq(counts.concealed, 12);
    rig_close(r);
}

/* ---- the fastest halos.  Answers by coarse ones are only about right. */

static void expect_about(const struct asked *a)
{
    struct npy out;
    struct diag why;

    cr_assert_eq(a->outcome, OUTCOME_OK, "%s", a->why);
    cr_assert_eq(npy_load(&out, "test/fixtures/fashion_out.npy", &why), 0, "%s", why.text);
    for (int64_t i = 0; i < out.count; i++)
        cr_assert_float_eq(a->first[i], out.values[i], 0.2F, "score %lld is %g, not %g",
                           (long long)i, (double)a->first[i], (double)out.values[i]);
    npy_done(&out);
}

static const char *halo_now(const struct rig *r, const struct trial **t)
{
    struct model_info m;
    coordinator_model(r->coordinator, 0, &m);
    *t = m.trial;
    return m.halo;
}

/* So many at once. */
static void ask_about(struct rig *r, int count)
{
    struct asked a[REQUESTS];

    for (int i = 0; i < count; i++) {
        prepare_tensor(r, &a[i]);
        coordinator_submit(r->coordinator, &a[i].r);
    }
    for (int i = 0; i < count; i++) {
        cr_assert(run_until(r, is_done, &a[i], 10000), "no answer within 10 s");
        expect_about(&a[i]);
        free(a[i].values);
    }
}

/* Asks until a choice was made and is in use; all answers are right on the way. */
static const struct trial *ask_until_chosen(struct rig *r, int at_once)
{
    const uint64_t end_ns = uv_hrtime() + UINT64_C(20000000000);
    const struct trial *t;
    for (const char *halo = ""; halo = halo_now(r, &t),
                    !halo || !t || !trial_over(t) || strcmp(halo, halo_name(trial_halo(t)));) {
        cr_assert_lt(uv_hrtime(), end_ns, "no choice after 20 s");
        ask_about(r, at_once);
    }
    ask_about(r, at_once);
    return t;
}

/* Switching repeats no frame.  On a busy machine rows may be cut anew meanwhile, which does. */
static void expect_no_repeats(const struct rig *r)
{
    struct coordinator_counts counts;
    coordinator_counts(r->coordinator, &counts);
    if (coordinator_epoch(r->coordinator) == 1)
        cr_expect_eq(counts.repeated, 0);
}

Test(coordinator, the_fastest_halos_are_measured, .timeout = 60)
{
    calibrated = true;
    struct rig *r = rig_ready(2, "");
    const struct trial *t = ask_until_chosen(r, 1);

    cr_expect_eq(t->n, 4);
    for (int32_t i = 0; i < t->n; i++)
        cr_expect_gt(trial_ns(t, i), 0, "%s was not timed", halo_name(t->way[i].halo));
    expect_no_repeats(r);
    rig_close(r);
}

Test(coordinator, halos_are_measured_under_load, .timeout = 60)
{
    calibrated = true;
    struct rig *r = rig_ready(2, "");
    const struct trial *t = ask_until_chosen(r, REQUESTS);

    cr_expect_gt(trial_ns(t, 0), 0);
    expect_no_repeats(r);
    rig_close(r);
}

Test(coordinator, halos_that_nodes_refuse_are_passed_over, .timeout = 60)
{
    calibrated = true;
    struct rig *r = rig_ready(2, "");
    const struct trial *t;

    r->refuse_plans = 3 * NODES; /* those of f32, f16 and q8 */
    t = ask_until_chosen(r, 1);
    cr_expect_eq(trial_halo(t), HALO_TQ);
    for (int32_t i = 1; i < t->n; i++)
        cr_expect_eq(trial_ns(t, i), 0);
    cr_expect_str_eq(halo_now(r, &t), "tq");
    rig_close(r);
}

Test(coordinator, a_node_is_lost_while_halos_are_measured, .timeout = 60)
{
    calibrated = true;
    for (int32_t frames = 5; frames < 30; frames += 8) {
        struct rig *r = rig_ready(2, "");
        const struct trial *t;
        for (int32_t i = 0; i < frames; i++)
            ask_about(r, 1);
        r->node[1].mesh_closed = true;
        r->closed--;
        mesh_close(r->node[1].mesh, on_closed, r);
        for (int i = 0; i < 10; i++)
            ask_about(r, 2);
        cr_assert(run_until(r, all_closed, r, 2000));
        cr_expect_not_null(halo_now(r, &t), "one node runs on");
        rig_close(r);
    }
}

Test(coordinator, halos_that_were_asked_for_are_not_measured, .timeout = 60)
{
    static const char *const extra[] = { "\"halo\": \"f32\",", "\"halo\": \"tq\"," };
    calibrated = true;
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        struct rig *r = rig_ready(2, extra[i]);
        const struct trial *t;
        for (int k = 0; k < 2 * (TRIAL_WARM + TRIAL_FRAMES); k++)
            ask_about(r, 1);
        cr_expect_str_eq(halo_now(r, &t), i == 0 ? "f32" : "tq");
        cr_expect_null(t);
        rig_close(r);
    }
}

Test(coordinator, a_frame_that_fails_in_passing_runs_again, .timeout = 60)
{
    static const int32_t status[] = { -EPIPE, -ETIMEDOUT, -ECANCELED, -ESTALE, -EBUSY };
    struct rig *r = rig_ready(2, "");

    for (size_t i = 0; i < sizeof status / sizeof status[0]; i++) {
        r->fail_status = status[i];
        r->fail_frames = 5;
        asks_and_is_answered(r);
        cr_expect_eq(r->fail_frames, 0);
    }
    rig_close(r);
}

Test(coordinator, a_frame_that_fails_for_good_is_an_error, .timeout = 60)
{
    struct rig *r = rig_ready(1, "");
    struct asked a;

    r->fail_status = -EBADMSG;
    r->fail_frames = 1000;
    prepare_tensor(r, &a);
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_FAILED);
    cr_expect_not_null(strstr(a.why, "a: "), "%s", a.why);
    cr_expect_eq(r->frames, 3);
    free(a.values);
    r->fail_frames = 0;
    asks_and_is_answered(r);
    rig_close(r);
}

Test(coordinator, silence_ends_in_a_timeout_and_is_overcome, .timeout = 60)
{
    struct rig *r = rig_ready(2, "\"request_timeout_ms\": 300,");
    struct asked a;

    r->swallow_frames = true;
    prepare_tensor(r, &a);
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_TIMEOUT);
    cr_expect_not_null(strstr(a.why, "300 ms"), "%s", a.why);
    cr_expect_eq(r->frames, 2);

    /* The frame never ends at its nodes, and every second one would wait for it: after a while
     * another plan takes over. */
    r->swallow_frames = false;
    for (int i = 0, right = 0; i < 60 && right < 4; i++) {
        a.done = a.rendered = 0;
        ask(r, &a);
        right += a.outcome == OUTCOME_OK;
    }
    expect_answer(&a);
    free(a.values);
    rig_close(r);
}

Test(coordinator, a_full_queue_says_so, .timeout = 60)
{
    static struct asked a[REQUESTS];
    struct rig *r = rig_ready(1, "\"queue\": 4, \"request_timeout_ms\": 400,");
    const int taken = 4 + 2; /* that wait, and that are under way at once */
    int busy = 0, late = 0;

    r->swallow_frames = true;
    for (int i = 0; i < REQUESTS; i++) {
        prepare_tensor(r, &a[i]);
        coordinator_submit(r->coordinator, &a[i].r);
    }
    cr_assert(run_until(r, all_done, a, 10000));
    for (int i = 0; i < REQUESTS; i++) {
        busy += a[i].outcome == OUTCOME_BUSY;
        late += a[i].outcome == OUTCOME_TIMEOUT;
        free(a[i].values);
    }
    cr_expect_eq(busy, REQUESTS - taken);
    cr_expect_eq(late, taken);
    rig_close(r);
}

Test(coordinator, a_client_may_leave_at_any_time, .timeout = 60)
{
    static struct asked a[REQUESTS];
    struct rig *r = rig_ready(2, "");

    for (int i = 0; i < REQUESTS; i++) {
        prepare_tensor(r, &a[i]);
        coordinator_submit(r->coordinator, &a[i].r);
        for (int turn = 0; turn < i; turn++)
            uv_run(&r->loop, UV_RUN_NOWAIT);
        coordinator_cancel(r->coordinator, &a[i].r);
    }
    cr_assert(run_until(r, all_done, a, 10000));
    for (int i = 0; i < REQUESTS; i++) {
        cr_expect(a[i].outcome == OUTCOME_FAILED || a[i].outcome == OUTCOME_OK, "%s", a[i].why);
        cr_expect_eq(a[i].done, 1);
        free(a[i].values);
    }
    asks_and_is_answered(r);
    rig_close(r);
}

Test(coordinator, a_node_that_refuses_its_part_is_left_out, .timeout = 60)
{
    struct rig *r = rig_open(2, "");
    struct asked a;

    r->refuse_plans = 1;
    cr_assert(run_until(r, is_ready, r, 10000));
    prepare_tensor(r, &a);
    ask(r, &a);
    expect_answer(&a);
    cr_expect_eq(a.r.nodes, 1);
    free(a.values);
    rig_close(r);
}

Test(coordinator, a_small_model_runs_on_one_node, .timeout = 60)
{
    struct asked a;
    costs = "";
    struct rig *r = rig_ready(2, "");

    prepare_tensor(r, &a);
    ask(r, &a);
    expect_answer(&a);
    cr_expect_eq(a.r.nodes, 1);
    free(a.values);
    rig_close(r);
}

Test(coordinator, nodes_share_what_is_too_much_for_one, .timeout = 60)
{
    struct asked a;
    costs = "";
    struct rig *r = rig_open(2, "");

    r->refuse_plans = 1;
    cr_assert(run_until(r, is_ready, r, 10000));
    prepare_tensor(r, &a);
    ask(r, &a);
    expect_answer(&a);
    cr_expect_eq(a.r.nodes, 2);
    free(a.values);
    rig_close(r);
}

static bool has_problem(void *ctx)
{
    struct model_info m;
    coordinator_model(((struct rig *)ctx)->coordinator, 0, &m);
    return m.problem[0] != '\0';
}

Test(coordinator, a_model_that_every_node_refuses_has_a_problem, .timeout = 60)
{
    struct rig *r = rig_open(2, "");
    struct asked a;

    r->refuse_plans = 1000;
    cr_assert(run_until(r, has_problem, r, 10000));
    prepare_tensor(r, &a);
    ask(r, &a);
    cr_expect_eq(a.outcome, OUTCOME_UNAVAILABLE);
    cr_expect_not_null(strstr(a.why, "no room in here"), "%s", a.why);
    free(a.values);
    rig_close(r);
}

static bool one_node_left(void *ctx)
{
    struct node_info info;
    coordinator_node(((struct rig *)ctx)->coordinator, 1, 0, &info);
    return !info.up;
}

/* The second node goes while requests are under way: none of them fails. */
Test(coordinator, a_lost_node_only_costs_time, .timeout = 60)
{
    static struct asked a[REQUESTS];
    struct rig *r = rig_ready(2, "");

    for (int i = 0; i < REQUESTS; i++) {
        prepare_tensor(r, &a[i]);
        coordinator_submit(r->coordinator, &a[i].r);
    }
    for (int turn = 0; turn < 20; turn++)
        uv_run(&r->loop, UV_RUN_NOWAIT);
    mesh_close(r->node[1].mesh, on_closed, r);
    cr_assert(run_until(r, one_node_left, r, 5000));
    cr_assert(run_until(r, all_done, a, 10000));
    for (int i = 0; i < REQUESTS; i++) {
        expect_answer(&a[i]);
        free(a[i].values);
    }
    cr_expect_eq(coordinator_epoch(r->coordinator), 2);

    r->closed--; /* that of the mesh */
    cr_assert(run_until(r, all_closed, r, 2000));
    r->node[1].mesh_closed = true;
    rig_close(r);
}

/* Whatever its peers say, the coordinator stays: no assert, no wrong claim, no answer. */
Test(coordinator, messages_of_any_bytes, .timeout = 60)
{
    struct rig *r = rig_ready(2, "");
    uint8_t bytes[600];
    uint32_t seed = 1;

    for (int i = 0; i < 20000; i++) {
        struct header h = { .flags = HEADER_TO_HOST };
        for (size_t k = 0; k < sizeof bytes; k++) {
            seed = seed * 1664525 + 1013904223;
            bytes[k] = (uint8_t)(seed >> 24);
        }
        h.type = (enum msg_type)(MSG_MODEL_OFFER + bytes[0] % 8);
        h.epoch = bytes[1] % 3;
        h.plan = bytes[2] % 4;
        h.frame = bytes[3] % 4;
        h.transfer = bytes[4] % 8;
        h.length = (uint32_t)(bytes[5] | bytes[6] << 8) % sizeof bytes;
        if (h.length > header_cap(h.type))
            h.length = header_cap(h.type);
        cr_assert_null(coordinator_claim(r->coordinator, i % 2, &h), "no frame is under way");
        if (h.type != MSG_HALO && h.type != MSG_PLAN_ACK)
            coordinator_message(r->coordinator, i % 2, &h, bytes);
    }
    asks_and_is_answered(r);
    rig_close(r);
}

Test(coordinator, closes_with_requests_in_every_state, .timeout = 60)
{
    for (int turns = 0; turns < 12; turns += 2) {
        static struct asked a[REQUESTS];
        struct rig *r = rig_ready(2, "");
        for (int i = 0; i < REQUESTS; i++) {
            prepare_tensor(r, &a[i]);
            coordinator_submit(r->coordinator, &a[i].r);
        }
        for (int i = 0; i < turns; i++)
            uv_run(&r->loop, UV_RUN_NOWAIT);
        rig_close(r);
        for (int i = 0; i < REQUESTS; i++) {
            cr_expect_eq(a[i].done, 1);
            cr_expect(a[i].outcome == OUTCOME_UNAVAILABLE || a[i].outcome == OUTCOME_OK);
            free(a[i].values);
        }
    }
}

Test(coordinator, closes_before_it_is_ready, .timeout = 60)
{
    struct rig *r = rig_open(2, "");
    rig_close(r);
}
