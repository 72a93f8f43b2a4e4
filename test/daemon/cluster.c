#include "test/daemon/cluster.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libsplit/split.h"

/* ---- what daemon/main.c does: events to the worker or to the host */

static void on_up(void *ctx, int32_t node, const struct msg_hello *hello)
{
    (void)ctx;
    (void)node;
    (void)hello;
}

static void on_down(void *ctx, int32_t node, const char *why)
{
    struct member *m = ctx;
    (void)why;
    worker_down(m->worker, node);
}

static void host_message(struct member *from, const struct header *h, const uint8_t *body)
{
    switch (h->type) {
    case MSG_MODEL_STATE:
        cr_assert_eq(model_state_decode(&from->model, body, h->length), 0);
        from->models++;
        break;
    case MSG_PLAN_ACK:
        cr_assert_eq(plan_ack_decode(&from->plan, body, h->length), 0);
        from->plans++;
        break;
    case MSG_LINKS:
        break;
    case MSG_FRAME_DONE:
        cr_assert_lt(from->dones, CLUSTER_DONES);
        cr_assert_eq(frame_done_decode(&from->done[from->dones], &from->done_events[from->dones],
                                       body, h->length),
                     0);
        if (from->done_events[from->dones] > 0)
            from->first_event = frame_done_event(body, 0);
        from->done_header[from->dones++] = *h;
        break;
    default:
        cr_assert_fail("message %d for the host", (int)h->type);
    }
}

static void on_message(void *ctx, int32_t node, const struct header *h, const uint8_t *body)
{
    struct member *m = ctx;
    const bool answer = h->type == MSG_MODEL_STATE || h->type == MSG_PLAN_ACK ||
                        h->type == MSG_FRAME_DONE || h->type == MSG_LINKS;
    if (answer && m->index == 0)
        host_message(&m->cluster->member[node], h, body);
    else
        worker_message(m->worker, node, h, body);
}

static bool on_order(void *ctx, int32_t node, const struct header *h)
{
    return worker_order(((struct member *)ctx)->worker, node, h);
}

static struct mailbox *inbox_of(struct member *m, const struct header *h)
{
    return m->cluster->inbox[h->frame % (uint32_t)m->cluster->depth];
}

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct member *m = ctx;
    const struct cluster *c = m->cluster;
    if (!(h->flags & HEADER_TO_HOST) && c->loses && node == c->config.nnodes - 1)
        return NULL;
    if (!(h->flags & HEADER_TO_HOST))
        return worker_claim(m->worker, node, h);
    return m->index == 0 ? mailbox_claim(inbox_of(m, h), (int32_t)h->transfer, h->length) : NULL;
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct member *m = ctx;
    if (h->flags & HEADER_TO_HOST)
        mailbox_post(inbox_of(m, h), (int32_t)h->transfer, h->length);
    else
        worker_arrived(m->worker, node, h);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    struct member *m = ctx;
    if (h->flags & HEADER_TO_HOST)
        mailbox_abandon(inbox_of(m, h), (int32_t)h->transfer);
    else
        worker_failed(m->worker, node, h);
}

/* ---- the loop */

static void on_limit(uv_timer_t *t) { *(bool *)t->data = true; }
static void on_beat(uv_timer_t *t) { (void)t; }

bool cluster_run_until(struct cluster *c, bool (*done)(void *ctx), void *ctx, uint64_t ms)
{
    bool late = false;

    uv_update_time(&c->loop);
    c->limit.data = &late;
    uv_timer_start(&c->limit, on_limit, ms, 0);
    uv_timer_start(&c->beat, on_beat, 1, 1); /* what is waited for may happen on other threads */
    while (!done(ctx) && !late)
        uv_run(&c->loop, UV_RUN_ONCE);
    uv_timer_stop(&c->limit);
    uv_timer_stop(&c->beat);
    return done(ctx);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

void cluster_pump(struct cluster *c, uint64_t ms) { cluster_run_until(c, never, NULL, ms); }

/* ---- life */

static bool all_up(void *ctx)
{
    struct cluster *c = ctx;
    for (int32_t i = 0; i < c->config.nnodes; i++)
        for (int32_t k = 0; k < c->config.nnodes; k++)
            if (!mesh_is_up(c->member[i].mesh, k))
                return false;
    return true;
}

static void open_member(struct cluster *c, int32_t i)
{
    struct member *m = &c->member[i];
    struct diag why = { "" };
    char state[128];

    m->cluster = c;
    m->index = i;
    snprintf(state, sizeof state, "%s/state%d", c->dir, i);
    cr_assert_eq(store_open(&m->store, state, &why), 0, "%s", why.text);
    cr_assert_eq(worker_new(&m->worker, &c->loop, &c->config, i, m->store, &why), 0, "%s",
                 why.text);
    const struct mesh_events e = { .ctx = m,
                                   .up = on_up,
                                   .down = on_down,
                                   .message = on_message,
                                   .order = on_order,
                                   .claim = on_claim,
                                   .arrived = on_arrived,
                                   .failed = on_failed };
    cr_assert_eq(mesh_open(&m->mesh, &c->loop, &c->config, i, NULL, &e, &why), 0, "%s", why.text);
    worker_attach(m->worker, m->mesh);
}

/* Different ones: all are taken before any is free again. */
static void find_ports(int32_t n, uint16_t port[CLUSTER_MOST])
{
    int fd[CLUSTER_MOST];

    for (int32_t i = 0; i < n; i++) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof a;
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert(fd[i] >= 0 && bind(fd[i], (struct sockaddr *)&a, sizeof a) == 0);
        cr_assert_eq(getsockname(fd[i], (struct sockaddr *)&a, &len), 0);
        port[i] = ntohs(a.sin_port);
    }
    for (int32_t i = 0; i < n; i++)
        close(fd[i]);
}

void cluster_open(struct cluster *c, int32_t nodes)
{
    struct diag why = { "" };
    const int32_t timeout_ms = c->config.request_timeout_ms, late_ms = c->config.late_ms;
    const bool conceal = c->config.conceal;
    int64_t max_memory[CLUSTER_MOST];
    uint16_t port[CLUSTER_MOST];

    find_ports(nodes, port);
    for (int32_t i = 0; i < nodes; i++)
        max_memory[i] = c->config.node[i].max_memory;
    *c = (struct cluster){ .config = { .nnodes = nodes,
                                       .conceal = conceal,
                                       .late_ms = late_ms,
                                       .heartbeat_ms = 50,
                                       .lost_ms = 1000,
                                       .request_timeout_ms = timeout_ms ? timeout_ms : 10000 } };
    strcpy(c->config.cluster, "attic");
    strcpy(c->dir, "/tmp/splitd-worker-XXXXXX");
    cr_assert(mkdtemp(c->dir));
    cr_assert_eq(uv_loop_init(&c->loop), 0);
    uv_timer_init(&c->loop, &c->limit);
    uv_timer_init(&c->loop, &c->beat);
    for (int32_t i = 0; i < nodes; i++) {
        struct config_node *n = &c->config.node[i];
        snprintf(n->name, sizeof n->name, "pi%d", i);
        snprintf(n->address, sizeof n->address, "tcp://127.0.0.1:%u", port[i]);
        n->max_memory = max_memory[i];
    }
    for (int32_t i = 0; i < nodes; i++)
        open_member(c, i);
    cr_assert(cluster_run_until(c, all_up, c, 5000));

    cr_assert_eq(store_sha256(CLUSTER_MODEL, c->sha, NULL, &why), 0, "%s", why.text);
    cr_assert_eq(onnx_open(&c->onnx, CLUSTER_MODEL, &why), 0, "%s", why.text);
    cr_assert_eq(graph_build(&c->graph, &c->onnx, NULL, 0, &why), 0, "%s", why.text);
}

static void free_plan(struct cluster *c)
{
    if (!c->planned)
        return;
    for (int32_t i = 0; i < c->depth; i++)
        mailbox_free(c->inbox[i]);
    program_done(&c->host);
    plan_done(&c->plan);
    geometry_done(&c->geo);
    c->planned = false;
}

static void set_true(void *ctx) { *(bool *)ctx = true; }
static bool is_true(void *ctx) { return *(bool *)ctx; }

static int delete_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void close_member(struct cluster *c, struct member *m)
{
    const uint64_t start = uv_hrtime();

    mesh_close(m->mesh, set_true, &m->mesh_closed);
    cr_assert(cluster_run_until(c, is_true, &m->mesh_closed, 3000));
    worker_close(m->worker, set_true, &m->worker_closed);
    cr_assert(cluster_run_until(c, is_true, &m->worker_closed, 3000));
    mesh_free(m->mesh);
    store_close(m->store);
    cr_assert_lt((uv_hrtime() - start) / 1000000, 1000, "closing took too long");
}

void cluster_close(struct cluster *c)
{
    for (int32_t i = 0; i < c->config.nnodes; i++)
        close_member(c, &c->member[i]);
    free_plan(c);
    graph_done(&c->graph);
    onnx_close(&c->onnx);
    uv_close((uv_handle_t *)&c->limit, NULL);
    uv_close((uv_handle_t *)&c->beat, NULL);
    cr_assert_eq(uv_run(&c->loop, UV_RUN_DEFAULT), 0);
    cr_assert_eq(uv_loop_close(&c->loop), 0, "a handle was left open");
    nftw(c->dir, delete_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- models */

struct counts {
    struct cluster *c;
    int models, plans;
};

static bool all_answered(void *ctx)
{
    const struct counts *n = ctx;
    for (int32_t i = 0; i < n->c->config.nnodes; i++)
        if (n->c->member[i].models < n->models || n->c->member[i].plans < n->plans)
            return false;
    return true;
}

static uint8_t *read_model(size_t *size)
{
    FILE *f = fopen(CLUSTER_MODEL, "rb");
    cr_assert(f && fseek(f, 0, SEEK_END) == 0);
    *size = (size_t)ftell(f);
    uint8_t *bytes = malloc(*size);
    rewind(f);
    cr_assert(bytes && fread(bytes, 1, *size, f) == *size);
    fclose(f);
    return bytes;
}

static void send_chunks(struct cluster *c, int32_t node, const uint8_t *bytes, size_t size)
{
    static uint8_t body[MODEL_CHUNK_MAX_BYTES];
    enum { PIECE = 10000 };

    for (size_t at = 0; at < size; at += PIECE) {
        struct msg_model_chunk m = { .offset = at,
                                     .data = bytes + at,
                                     .len = size - at < PIECE ? size - at : PIECE };
        memcpy(m.sha, c->sha, sizeof m.sha);
        const int n = model_chunk_encode(&m, body, sizeof body);
        cr_assert_gt(n, 0);
        const struct header h = { .type = MSG_MODEL_CHUNK, .length = (uint32_t)n };
        cr_assert_eq(mesh_send(c->member[0].mesh, node, &h, body), 0);
    }
}

int cluster_share_model(struct cluster *c)
{
    struct msg_model_offer offer;
    uint8_t body[MODEL_OFFER_BYTES];
    size_t size;
    uint8_t *bytes = read_model(&size);
    int wanted = 0;

    memcpy(offer.sha, c->sha, sizeof offer.sha);
    offer.size = size;
    const int n = model_offer_encode(&offer, body, sizeof body);
    const struct header h = { .type = MSG_MODEL_OFFER, .length = (uint32_t)n };
    for (int32_t i = 0; i < c->config.nnodes; i++) {
        struct member *m = &c->member[i];
        m->models = 0;
        cr_assert_eq(mesh_send(c->member[0].mesh, i, &h, body), 0);
    }
    cr_assert(cluster_run_until(c, all_answered, &(struct counts){ c, 1, 0 }, 3000));
    for (int32_t i = 0; i < c->config.nnodes; i++) {
        struct member *m = &c->member[i];
        if (m->model.state == MODEL_NEED) {
            wanted++;
            send_chunks(c, i, bytes, size);
        } else {
            cr_assert_eq(m->model.state, MODEL_HAVE, "%s", m->model.detail);
            m->models++;
        }
    }
    cr_assert(cluster_run_until(c, all_answered, &(struct counts){ c, 2, 0 }, 3000));
    for (int32_t i = 0; i < c->config.nnodes; i++)
        cr_assert_eq(c->member[i].model.state, MODEL_HAVE, "%s", c->member[i].model.detail);
    free(bytes);
    return wanted;
}

/* ---- plans */

uint8_t *cluster_plan_body(struct cluster *c, int32_t node, int32_t depth, size_t *len)
{
    struct msg_plan m = { .depth = (uint8_t)depth,
                          .late_ms = c->config.conceal ? (uint32_t)c->config.late_ms : 0,
                          .ninputs = 1 };

    memcpy(m.sha, c->sha, sizeof m.sha);
    const struct shape *in = &c->graph.input[0].shape;
    m.input[0].rank = in->rank;
    memcpy(m.input[0].dim, in->dim, sizeof(int32_t) * (size_t)in->rank);
    for (int32_t i = 0; i < c->config.nnodes; i++)
        m.member[i] = (uint8_t)i;
    cr_assert_eq(program_compile(&m.program, &c->plan, node), 0);
    const size_t bytes = plan_msg_bytes(&m);
    uint8_t *body = malloc(bytes);
    const int n = plan_msg_encode(&m, body, bytes);
    cr_assert_gt(n, 0);
    program_done(&m.program);
    *len = (size_t)n;
    return body;
}

/* Both kinds of bands, so that sessions hold parts of rows and parts of weights. */
static enum axis by_turns(void *ctx, int32_t tensor)
{
    (void)ctx;
    return tensor % 2 ? CHAN : ROW;
}

void cluster_plan(struct cluster *c, uint32_t epoch, uint32_t number, int32_t depth)
{
    struct plan_options o = { .placement = PLAN_MIXED,
                              .nodes = c->config.nnodes,
                              .along = by_turns };

    free_plan(c);
    if (c->config.conceal) { /* of bands of rows only */
        cr_assert_leq(c->graph.ntensors, CLUSTER_TENSORS);
        graph_may_miss(&c->graph, c->may_miss);
        o.may_miss = c->may_miss;
        o.placement = PLAN_ROWS;
        o.policy = PLAN_EXCHANGE;
    }
    for (int32_t i = 0; i < o.nodes; i++)
        o.weight[i] = i + 1;
    cr_assert_eq(graph_geometry(&c->graph, o.nodes, &c->geo), 0);
    cr_assert_eq(plan_build(&c->plan, &c->geo, &o), 0);
    cr_assert_eq(program_compile(&c->host, &c->plan, o.nodes), 0);
    for (int32_t i = 0; i < depth; i++)
        cr_assert(c->inbox[i] = mailbox_new(&c->host, &c->geo));
    c->planned = true;
    c->epoch = epoch;
    c->number = number;
    c->depth = depth;
    for (int32_t i = 0; i < o.nodes; i++) {
        size_t len;
        uint8_t *body = cluster_plan_body(c, i, depth, &len);
        const struct header h = {
            .type = MSG_PLAN, .epoch = epoch, .plan = number, .length = (uint32_t)len
        };
        c->member[i].plans = 0;
        cr_assert_eq(mesh_send(c->member[0].mesh, i, &h, body), 0);
        free(body);
    }
}

bool cluster_acked(struct cluster *c)
{
    return cluster_run_until(c, all_answered, &(struct counts){ c, 0, 1 }, 5000);
}

/* ---- frames */

static void send_flagged(struct cluster *c, int32_t node, enum msg_type type, uint16_t flags,
                         uint32_t frame)
{
    const struct header h = {
        .type = type, .flags = flags, .epoch = c->epoch, .plan = c->number, .frame = frame
    };
    cr_assert_eq(mesh_send(c->member[0].mesh, node, &h, NULL), 0);
}

void cluster_send(struct cluster *c, int32_t node, enum msg_type type, uint32_t frame)
{
    send_flagged(c, node, type, 0, frame);
}

void cluster_start_traced(struct cluster *c, uint32_t frame)
{
    for (int32_t i = 0; i < c->config.nnodes; i++)
        send_flagged(c, i, MSG_FRAME, HEADER_TRACE, frame);
}

void cluster_start(struct cluster *c, uint32_t frame)
{
    for (int32_t i = 0; i < c->config.nnodes; i++)
        cluster_send(c, i, MSG_FRAME, frame);
}

static bool is_sent(void *ctx) { return !atomic_load(&((struct mesh_slot *)ctx)->busy); }

void cluster_feed(struct cluster *c, uint32_t frame, const float *input)
{
    static uint8_t payload[4 * CLUSTER_IN + 16];
    const struct host_input in = { .values = input };

    for (int32_t i = 0; i < c->host.nsteps; i++) {
        const struct step *s = &c->host.step[i];
        if (s->kind != STEP_SEND)
            continue;
        const size_t len = host_pack(&c->graph, s, &in, payload);
        struct mesh_slot slot = { .payload = payload,
                                  .header = { .type = MSG_HALO,
                                              .epoch = c->epoch,
                                              .plan = c->number,
                                              .frame = frame,
                                              .transfer = (uint32_t)s->transfer,
                                              .length = (uint32_t)len } };
        cr_assert_eq(mesh_send_slot(c->member[0].mesh, s->peer, &slot), 0);
        cr_assert(cluster_run_until(c, is_sent, &slot, 3000));
    }
}

/* The answer of `m` about `frame`, NULL as long as there is none. */
static const struct msg_frame_done *done_of(const struct member *m, uint32_t frame)
{
    for (int i = 0; i < m->dones; i++)
        if (m->done_header[i].frame == frame)
            return &m->done[i];
    return NULL;
}

struct awaited {
    struct cluster *c;
    uint32_t frame;
};

static bool all_done(void *ctx)
{
    const struct awaited *a = ctx;
    for (int32_t i = 0; i < a->c->config.nnodes; i++)
        if (!done_of(&a->c->member[i], a->frame))
            return false;
    return true;
}

static bool inbox_full(void *ctx) { return mailbox_full(ctx) != 0; }

int cluster_collect(struct cluster *c, uint32_t frame, float output[CLUSTER_OUT])
{
    struct mailbox *inbox = c->inbox[frame % (uint32_t)c->depth];
    int status = 0;

    cr_assert(cluster_run_until(c, all_done, &(struct awaited){ c, frame }, 15000),
              "frame %u did not end everywhere", frame);
    for (int32_t i = 0; i < c->config.nnodes && status == 0; i++)
        status = done_of(&c->member[i], frame)->status;
    if (status == 0)
        cr_assert(cluster_run_until(c, inbox_full, inbox, 3000));
    for (int32_t i = 0; status == 0 && i < c->host.nsteps; i++) {
        const struct step *s = &c->host.step[i];
        const uint8_t *msg;
        size_t len;
        if (s->kind != STEP_RECV)
            continue;
        cr_assert_eq(mailbox_wait(inbox, s->transfer, 0, &msg, &len), 0);
        cr_assert_eq(host_unpack(&c->graph, s, msg, len, NULL, &output), 0);
    }
    mailbox_clear(inbox);
    return status;
}

void cluster_input(uint32_t seed, float input[CLUSTER_IN])
{
    for (uint32_t i = 0; i < CLUSTER_IN; i++)
        input[i] = (float)((i * 2654435761u + seed * 40503u) >> 8 & 0xff) / 255;
}

void cluster_expect(const float input[CLUSTER_IN], float output[CLUSTER_OUT])
{
    struct split_model *m;
    struct split_session *s;
    struct diag why = { "" };

    cr_assert_eq(split_load(&m, CLUSTER_MODEL, &why), 0, "%s", why.text);
    cr_assert_eq(split_open(&s, m, &(struct split_options){ .nodes = 1 }, &why), 0, "%s", why.text);
    cr_assert_eq(split_run(s, &input, &output, NULL, &why), 0, "%s", why.text);
    split_close(s);
    split_unload(m);
}
