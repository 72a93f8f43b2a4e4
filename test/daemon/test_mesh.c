#include "daemon/mesh.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/link.h"
#include "libsplit/clock.h"
#include "proto/beat.h"
#include "proto/model.h"

enum { MOST = 1 << 20, STORES = 64 };

/* A node under test and everything that happened to it. */
struct node {
    struct mesh *mesh;
    struct config config;
    const struct tls *tls;
    int32_t self;
    int ups, downs, messages;
    char down_why[160];
    bool in_order; /* control messages came with rising frame numbers */
    uint32_t last_frame;
    bool closed;
    /* HALOs, by transfer; whoever receives writes. */
    uint8_t *store[STORES];
    _Atomic uint32_t claims, arrived, failed;
    _Atomic pthread_t arrived_on; /* the thread of the last arrival */
    bool drop;
};

static uint8_t pattern(uint32_t transfer, size_t i) { return (uint8_t)(transfer * 37 + i * 11); }

static void on_up(void *ctx, int32_t node, const struct msg_hello *hello)
{
    struct node *n = ctx;
    cr_assert_str_eq(hello->node, n->config.node[node].name);
    n->ups++;
}

static void on_down(void *ctx, int32_t node, const char *why)
{
    struct node *n = ctx;
    (void)node;
    n->downs++;
    snprintf(n->down_why, sizeof n->down_why, "%s", why);
}

static void on_message(void *ctx, int32_t node, const struct header *h, const uint8_t *body)
{
    struct node *n = ctx;
    (void)node;
    if (n->messages > 0 && h->frame != n->last_frame + 1)
        n->in_order = false;
    n->last_frame = h->frame;
    for (uint32_t i = 0; i < h->length; i++)
        if (body[i] != pattern(h->frame, i))
            n->in_order = false;
    n->messages++;
}

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    (void)node;
    atomic_fetch_add(&n->claims, 1);
    return n->drop ? NULL : n->store[h->transfer % STORES];
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    (void)node;
    (void)h;
    atomic_store(&n->arrived_on, pthread_self());
    atomic_fetch_add(&n->arrived, 1);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    (void)node;
    (void)h;
    atomic_fetch_add(&n->failed, 1);
}

static uint16_t free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    cr_assert(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

static uint16_t port_of(const struct config *c, int32_t node)
{
    return (uint16_t)atoi(strrchr(c->node[node].address, ':') + 1);
}

static void make_config(struct config *c, int32_t nodes, bool tcp)
{
    *c = (struct config){ .nnodes = nodes, .heartbeat_ms = 50, .lost_ms = 500 };
    strcpy(c->cluster, "attic");
    for (int32_t i = 0; i < nodes; i++) {
        snprintf(c->node[i].name, sizeof c->node[i].name, "pi%d", i);
        if (tcp)
            snprintf(c->node[i].address, sizeof c->node[i].address, "tcp://127.0.0.1:%u",
                     free_port());
        else
            snprintf(c->node[i].address, sizeof c->node[i].address, "ipc:///tmp/splitd-mesh-%d-%d",
                     (int)getpid(), i);
    }
}

static uv_loop_t *make_loop(void)
{
    uv_loop_t *loop = malloc(sizeof *loop);
    cr_assert(loop && uv_loop_init(loop) == 0);
    return loop;
}

static void free_loop(uv_loop_t *loop)
{
    cr_assert_eq(uv_run(loop, UV_RUN_NOWAIT), 0, "a handle was left open");
    cr_assert_eq(uv_loop_close(loop), 0);
    free(loop);
}

static int try_open(struct node *n, uv_loop_t *loop, const struct config *c, int32_t self,
                    struct diag *why)
{
    *n = (struct node){ .config = *c, .self = self, .in_order = true, .tls = n->tls };
    for (int i = 0; i < STORES; i++)
        cr_assert(n->store[i] = malloc(MOST));
    const struct mesh_events e = { .ctx = n,
                                   .up = on_up,
                                   .down = on_down,
                                   .message = on_message,
                                   .claim = on_claim,
                                   .arrived = on_arrived,
                                   .failed = on_failed };
    return mesh_open(&n->mesh, loop, &n->config, self, n->tls, &e, why);
}

static void open_node(struct node *n, uv_loop_t *loop, const struct config *c, int32_t self)
{
    struct diag why = { "" };
    cr_assert_eq(try_open(n, loop, c, self, &why), 0, "%s", why.text);
}

static void free_stores(struct node *n)
{
    for (int i = 0; i < STORES; i++)
        free(n->store[i]);
}

static void on_closed(void *ctx)
{
    struct node *n = ctx;
    n->closed = true;
}

static void on_timeout(uv_timer_t *t) { *(bool *)t->data = true; }

/* Runs the loop until `done(ctx)` or `ms` have passed; says whether it was done. */
static bool run_until(uv_loop_t *loop, bool (*done)(void *ctx), void *ctx, uint64_t ms)
{
    bool late = false;
    uv_timer_t t, beat;
    bool ignored;

    uv_timer_init(loop, &t);
    uv_timer_init(loop, &beat); /* conditions may change on other threads */
    t.data = &late;
    beat.data = &ignored;
    uv_update_time(loop);
    uv_timer_start(&t, on_timeout, ms, 0);
    uv_timer_start(&beat, on_timeout, 1, 1);
    while (!done(ctx) && !late)
        uv_run(loop, UV_RUN_ONCE);
    const bool was = done(ctx);
    uv_close((uv_handle_t *)&t, NULL);
    uv_close((uv_handle_t *)&beat, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    return was;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void pump(uv_loop_t *loop, uint64_t ms) { run_until(loop, never, NULL, ms); }

static bool is_closed(void *ctx) { return ((struct node *)ctx)->closed; }
static bool is_up(void *ctx) { return ((struct node *)ctx)->ups > ((struct node *)ctx)->downs; }
static bool is_down(void *ctx) { return ((struct node *)ctx)->downs > 0; }

static void close_node(struct node *n, uv_loop_t *loop)
{
    const uint64_t start = uv_hrtime();
    mesh_close(n->mesh, on_closed, n);
    cr_assert(run_until(loop, is_closed, n, 2000));
    cr_assert_lt((uv_hrtime() - start) / 1000000, 500, "closing took too long");
    cr_assert_eq(mesh_send(n->mesh, n->self, &(struct header){ .type = MSG_FRAME }, NULL),
                 -ENOTCONN);
    mesh_free(n->mesh);
    free_stores(n);
}

/* ---- a peer made of a plain socket, which can misbehave */

static int raw_connect(const struct config *c, int32_t node)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(port_of(c, node)) };
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

static void raw_write(int fd, const void *p, size_t n)
{
    cr_assert_eq(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* Reads `n` bytes while the loop runs; false when the other side closes first or is silent. */
static bool raw_read(uv_loop_t *loop, int fd, void *to, size_t n)
{
    size_t got = 0;
    for (int i = 0; i < 3000 && got < n; i++) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, 0) > 0) {
            const ssize_t r = recv(fd, (char *)to + got, n - got, 0);
            if (r <= 0)
                return false;
            got += (size_t)r;
        } else {
            pump(loop, 1);
        }
    }
    return got == n;
}

/* True when the other side closes within `ms`; what it sends before is thrown away. */
static bool raw_closed(uv_loop_t *loop, int fd, int ms)
{
    char junk[4096];
    for (int i = 0; i < ms; i++) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        while (poll(&p, 1, 0) > 0)
            if (recv(fd, junk, sizeof junk, 0) <= 0)
                return true;
        pump(loop, 1);
    }
    return false;
}

static void raw_hello(int fd, const char *cluster, const char *name, uint64_t boot)
{
    uint8_t bytes[HEADER_BYTES + HELLO_MAX_BYTES];
    struct msg_hello hello = { .boot = boot };
    strcpy(hello.cluster, cluster);
    strcpy(hello.node, name);
    const int n = hello_encode(&hello, bytes + HEADER_BYTES, HELLO_MAX_BYTES);
    header_encode(&(struct header){ .type = MSG_HELLO, .length = (uint32_t)n }, bytes);
    raw_write(fd, bytes, HEADER_BYTES + (size_t)n);
}

static struct msg_hello raw_ack(uv_loop_t *loop, int fd)
{
    uint8_t head[HEADER_BYTES], body[HELLO_MAX_BYTES];
    struct msg_hello ack;
    struct header h;
    cr_assert(raw_read(loop, fd, head, sizeof head), "no answer to HELLO");
    cr_assert_eq(header_decode(&h, head), 0);
    cr_assert_eq(h.type, MSG_HELLO_ACK);
    cr_assert(raw_read(loop, fd, body, h.length));
    cr_assert_eq(hello_ack_decode(&ack, body, h.length), 0);
    return ack;
}

static void raw_header(int fd, const struct header *h)
{
    uint8_t bytes[HEADER_BYTES];
    header_encode(h, bytes);
    raw_write(fd, bytes, sizeof bytes);
}

/* Node pi1 of two; the test plays pi0. */
struct stage {
    uv_loop_t *loop;
    struct config config;
    struct node node;
};

static void stage_open(struct stage *s)
{
    s->loop = make_loop();
    make_config(&s->config, 2, true);
    s->node.tls = NULL;
    open_node(&s->node, s->loop, &s->config, 1);
}

static void stage_close(struct stage *s)
{
    close_node(&s->node, s->loop);
    free_loop(s->loop);
}

static int stage_join(struct stage *s, uint64_t boot)
{
    const int fd = raw_connect(&s->config, 1);
    raw_hello(fd, "attic", "pi0", boot);
    cr_assert_eq(raw_ack(s->loop, fd).status, HELLO_OK);
    cr_assert(run_until(s->loop, is_up, &s->node, 1000));
    return fd;
}

/* ---- a thread that receives by itself */

struct puller {
    struct stage *stage;
    pthread_t thread;
    uint32_t want; /* arrivals */
    _Atomic bool enough, ended;
};

static bool has_enough(void *ctx)
{
    struct puller *p = ctx;
    return atomic_load(&p->enough) || atomic_load(&p->stage->node.arrived) >= p->want;
}

static void *pull_on(void *arg)
{
    struct puller *p = arg;

    while (!has_enough(p) && mesh_pull(p->stage->node.mesh, 0, has_enough, p, INT64_MAX))
        ;
    atomic_store(&p->ended, true);
    return NULL;
}

static bool has_ended(void *ctx) { return atomic_load(&((struct puller *)ctx)->ended); }

static void start_puller(struct puller *p, struct stage *s, uint32_t want)
{
    *p = (struct puller){ .stage = s, .want = want };
    cr_assert_eq(pthread_create(&p->thread, NULL, pull_on, p), 0);
    pump(s->loop, 10);
    cr_assert(!has_ended(p));
}

static void end_puller(struct puller *p)
{
    cr_assert(run_until(p->stage->loop, has_ended, p, 1000), "it goes on pulling");
    pthread_join(p->thread, NULL);
}

/* Without the loop, whose tick takes back what nobody pulls. */
static void end_puller_alone(struct puller *p)
{
    for (int ms = 0; ms < 5000 && !has_ended(p); ms++)
        usleep(1000);
    cr_assert(has_ended(p), "it goes on pulling");
    pthread_join(p->thread, NULL);
}

static void raw_halo(uv_loop_t *loop, int fd, uint32_t transfer, uint32_t len)
{
    uint8_t *body = malloc(len);
    for (uint32_t i = 0; i < len; i++)
        body[i] = pattern(transfer, i);
    raw_header(fd, &(struct header){ .type = MSG_HALO, .transfer = transfer, .length = len });
    raw_write(fd, body, len / 3);
    pump(loop, 2);
    raw_write(fd, body + len / 3, len - len / 3);
    free(body);
}

static void expect_halo(const struct node *n, uint32_t transfer, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq(n->store[transfer][i], pattern(transfer, i), "byte %u of %u", i, transfer);
}

static bool has_three(void *ctx) { return atomic_load(&((struct node *)ctx)->arrived) == 3; }

Test(mesh, a_thread_may_receive_by_itself)
{
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 2);
    raw_halo(s.loop, fd, 1, 30000);
    raw_halo(s.loop, fd, 2, 100000);
    end_puller(&p);
    expect_halo(&s.node, 1, 30000);
    expect_halo(&s.node, 2, 100000);
    cr_assert(pthread_equal(atomic_load(&s.node.arrived_on), p.thread));

    mesh_give_back(s.node.mesh, 0);
    raw_halo(s.loop, fd, 3, 30000);
    cr_assert(run_until(s.loop, has_three, &s.node, 1000));
    expect_halo(&s.node, 3, 30000);
    cr_assert(!pthread_equal(atomic_load(&s.node.arrived_on), p.thread));
    close(fd);
    stage_close(&s);
}

Test(mesh, a_puller_looks_around_when_nudged)
{
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 1);
    atomic_store(&p.enough, true);
    mesh_nudge(s.node.mesh, 0);
    end_puller_alone(&p);

    p = (struct puller){ .stage = &s, .want = 1 };
    const int64_t start_ns = clock_ns();
    cr_assert(mesh_pull(s.node.mesh, 0, has_enough, &p, start_ns + 30 * 1000000));
    const int64_t spent_ns = clock_ns() - start_ns;
    cr_assert(spent_ns >= 30 * 1000000 && spent_ns < 1000 * 1000000);
    close(fd);
    stage_close(&s);
}

/* A payload comes in three parts: to a puller, to the loop, to a puller. */
Test(mesh, a_payload_may_change_hands)
{
    enum { PART = 40000 };
    uint8_t body[3 * PART];
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    for (uint32_t i = 0; i < sizeof body; i++)
        body[i] = pattern(1, i);
    start_puller(&p, &s, 1);
    raw_header(fd, &(struct header){ .type = MSG_HALO, .transfer = 1, .length = sizeof body });
    raw_write(fd, body, PART);
    pump(s.loop, 5);
    atomic_store(&p.enough, true);
    mesh_nudge(s.node.mesh, 0);
    end_puller_alone(&p);

    mesh_give_back(s.node.mesh, 0);
    raw_write(fd, body + PART, PART);
    pump(s.loop, 20);
    cr_assert_eq(atomic_load(&s.node.arrived), 0);

    start_puller(&p, &s, 1);
    raw_write(fd, body + 2 * PART, PART);
    end_puller_alone(&p);
    expect_halo(&s.node, 1, sizeof body);
    cr_assert(pthread_equal(atomic_load(&s.node.arrived_on), p.thread));
    cr_assert_eq(atomic_load(&s.node.claims), 1);
    close(fd);
    stage_close(&s);
}

static void raw_beat(int fd)
{
    uint8_t body[BEAT_BYTES];

    beat_encode(&(struct msg_beat){ .sent_ns = clock_ns() }, body);
    raw_header(fd, &(struct header){ .type = MSG_HEARTBEAT, .length = sizeof body });
    raw_write(fd, body, sizeof body);
}

/* A node that has not listened for longer than lost_ms judges by what has come meanwhile. */
Test(mesh, who_was_not_listened_to_is_not_silent)
{
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 1);
    raw_halo(s.loop, fd, 1, 3000);
    end_puller_alone(&p);
    raw_beat(fd);
    usleep(700 * 1000); /* the loop, too */
    pump(s.loop, 50);
    cr_assert_eq(s.node.downs, 0, "%s", s.node.down_why);

    raw_beat(fd); /* to the loop */
    usleep(700 * 1000);
    pump(s.loop, 50);
    cr_assert_eq(s.node.downs, 0, "%s", s.node.down_why);

    usleep(700 * 1000);
    pump(s.loop, 50);
    cr_assert_eq(s.node.downs, 1);
    close(fd);
    stage_close(&s);
}

static bool has_message(void *ctx) { return ((struct node *)ctx)->messages > 0; }

Test(mesh, what_a_puller_leaves_is_read_all_the_same)
{
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 1);
    raw_halo(s.loop, fd, 1, 3000);
    end_puller(&p);
    raw_header(fd, &(struct header){ .type = MSG_FRAME, .frame = 1 });
    cr_assert(run_until(s.loop, has_message, &s.node, 400));
    close(fd);
    stage_close(&s);
}

Test(mesh, control_messages_pass_a_puller)
{
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 1);
    for (uint32_t frame = 1; frame <= 3 * LINK_MAX_IN; frame++)
        raw_header(fd, &(struct header){ .type = MSG_FRAME, .frame = frame });
    raw_halo(s.loop, fd, 1, 3000);
    for (int ms = 0; ms < 2000 && s.node.messages < 3 * LINK_MAX_IN; ms += 10)
        pump(s.loop, 10);
    cr_assert_eq(s.node.messages, 3 * LINK_MAX_IN);
    cr_assert(s.node.in_order);
    end_puller(&p);
    cr_assert_eq(atomic_load(&s.node.arrived), 1);
    close(fd);
    stage_close(&s);
}

/* A puller that sleeps until much of a payload is there leaves a link on which little is heard. */
Test(mesh, small_messages_are_heard_after_a_large_one)
{
    enum { LEN = 100000 };
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 2);
    raw_halo(s.loop, fd, 1, LEN);
    for (uint32_t frame = 1; frame <= LINK_MAX_IN; frame++) /* the loop holds the link */
        raw_header(fd, &(struct header){ .type = MSG_FRAME, .frame = frame });
    for (int ms = 0; ms < 1000 && s.node.messages < LINK_MAX_IN; ms += 10)
        pump(s.loop, 10);
    raw_header(fd, &(struct header){ .type = MSG_FRAME, .frame = LINK_MAX_IN + 1 });
    for (int ms = 0; ms < 1000 && s.node.messages <= LINK_MAX_IN; ms += 10)
        pump(s.loop, 10);
    cr_assert_eq(s.node.messages, LINK_MAX_IN + 1);
    cr_assert(s.node.in_order);

    end_puller(&p); /* it leaves a link that is held */
    cr_assert_eq(atomic_load(&s.node.arrived), 1);
    close(fd);
    stage_close(&s);
}

/* What the socket does not take is sent when it does, whoever receives meanwhile. */
Test(mesh, a_puller_keeps_nobody_from_sending)
{
    enum { SLOTS = 8 };
    static uint8_t payload[MOST];
    static struct mesh_slot slot[SLOTS];
    struct stage s;
    struct puller p;
    stage_open(&s);
    const int fd = stage_join(&s, 1);

    start_puller(&p, &s, 1);
    for (uint32_t i = 0; i < SLOTS; i++) {
        slot[i] =
            (struct mesh_slot){ .payload = payload,
                                .header = { .type = MSG_HALO, .transfer = i, .length = MOST } };
        cr_assert_eq(mesh_send_slot(s.node.mesh, 0, &slot[i]), 0);
    }
    cr_assert_gt(mesh_backlog(s.node.mesh, 0), 0);
    uint8_t *got = malloc(HEADER_BYTES + MOST);
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct header h;
        do { /* a heartbeat may be among them */
            cr_assert(raw_read(s.loop, fd, got, HEADER_BYTES));
            cr_assert_eq(header_decode(&h, got), 0);
            cr_assert(raw_read(s.loop, fd, got, h.length));
        } while (h.type == MSG_HEARTBEAT);
        cr_assert_eq(h.transfer, i);
    }
    cr_assert_eq(mesh_backlog(s.node.mesh, 0), 0);
    for (int i = 0; i < SLOTS; i++)
        cr_assert_not(atomic_load(&slot[i].busy));
    free(got);
    raw_halo(s.loop, fd, 1, 10);
    end_puller(&p);
    close(fd);
    stage_close(&s);
}

/* Nobody receives while a node computes.  The end of a stream is heard of before a tick all the
 * same, and after what came before it. */
Test(mesh, the_end_of_a_link_that_was_taken_is_seen_at_once)
{
    struct stage s = { .loop = make_loop() };
    make_config(&s.config, 2, true);
    s.config.heartbeat_ms = 1000;
    s.config.lost_ms = 5000;
    open_node(&s.node, s.loop, &s.config, 1);
    const int fd = stage_join(&s, 1);

    pump(s.loop, 210); /* after a tick */
    mesh_take(s.node.mesh, 0);
    raw_halo(s.loop, fd, 1, 100000);
    pump(s.loop, 20);
    cr_assert_eq(atomic_load(&s.node.arrived), 0);
    shutdown(fd, SHUT_WR);
    cr_assert(run_until(s.loop, is_down, &s.node, 50));
    cr_assert_eq(atomic_load(&s.node.arrived), 1);
    close(fd);
    stage_close(&s);
}

/* A message that another one follows waits for it, or for word that there is none. */
Test(mesh, messages_may_leave_together)
{
    const uint8_t payload[100] = { 0 };
    uint8_t got[3 * (HEADER_BYTES + sizeof payload)];
    struct mesh_slot slot[2];
    struct stage s = { .loop = make_loop() };
    make_config(&s.config, 2, true);
    s.config.heartbeat_ms = 1000; /* what leaves is a sign of life: no heartbeat comes between */
    s.config.lost_ms = 5000;
    open_node(&s.node, s.loop, &s.config, 1);
    const int fd = stage_join(&s, 1);

    for (int i = 0; i < 2; i++) {
        slot[i] = (struct mesh_slot){ .payload = payload,
                                      .more = true,
                                      .header = { .type = MSG_HALO, .length = sizeof payload } };
        cr_assert_eq(mesh_send_slot(s.node.mesh, 0, &slot[i]), 0);
    }
    pump(s.loop, 20);
    cr_assert_eq(recv(fd, got, sizeof got, MSG_DONTWAIT), -1);
    cr_assert(atomic_load(&slot[0].busy) && atomic_load(&slot[1].busy));
    cr_assert_eq(mesh_send(s.node.mesh, 0, &(struct header){ .type = MSG_FRAME_DONE }, NULL), 0);
    cr_assert_not(atomic_load(&slot[0].busy) || atomic_load(&slot[1].busy));
    cr_assert_eq(recv(fd, got, sizeof got, 0), (ssize_t)(sizeof got - sizeof payload));

    cr_assert_eq(mesh_send_slot(s.node.mesh, 0, &slot[0]), 0);
    cr_assert(atomic_load(&slot[0].busy));
    mesh_flush(s.node.mesh, 0);
    cr_assert_not(atomic_load(&slot[0].busy));
    cr_assert_eq(recv(fd, got, sizeof got, 0), (ssize_t)(HEADER_BYTES + sizeof payload));
    close(fd);
    stage_close(&s);
}

Test(mesh, a_puller_leaves_a_link_that_is_lost)
{
    struct stage s;
    struct puller p;
    stage_open(&s);
    int fd = stage_join(&s, 1);

    start_puller(&p, &s, 1);
    raw_header(fd, &(struct header){ .type = MSG_HALO, .transfer = 1, .length = 3000 });
    pump(s.loop, 10);
    close(fd);
    end_puller(&p);
    cr_assert(run_until(s.loop, is_down, &s.node, 1000));
    cr_assert_eq(atomic_load(&s.node.failed), 1);
    cr_assert(!mesh_pull(s.node.mesh, 0, has_enough, &p, INT64_MAX));

    /* Silence is a loss for a puller, too; and so is the end of the mesh. */
    fd = stage_join(&s, 2);
    s.node.downs = 0;
    start_puller(&p, &s, 1);
    cr_assert(run_until(s.loop, is_down, &s.node, 2000));
    cr_assert(strstr(s.node.down_why, "silent"), "%s", s.node.down_why);
    end_puller(&p);
    close(fd);
    s.node.ups = s.node.downs = 0;
    fd = stage_join(&s, 3);
    start_puller(&p, &s, 1);
    mesh_close(s.node.mesh, on_closed, &s.node);
    end_puller(&p);
    cr_assert(run_until(s.loop, is_closed, &s.node, 2000));
    mesh_free(s.node.mesh);
    free_stores(&s.node);
    close(fd);
    free_loop(s.loop);
}

/* ---- two and three meshes */

struct trio {
    struct node *node;
    int n;
    int want;
};

static bool all_up(void *ctx)
{
    const struct trio *t = ctx;
    for (int i = 0; i < t->n; i++)
        if (t->node[i].ups - t->node[i].downs != t->n - 1)
            return false;
    return true;
}

static bool has_messages(void *ctx)
{
    const struct trio *t = ctx;
    for (int i = 0; i < t->n; i++)
        if (t->node[i].messages < t->want)
            return false;
    return true;
}

static void send_control(struct node *from, int32_t to, uint32_t frame, uint32_t len)
{
    static uint8_t body[MODEL_CHUNK_BYTES];
    for (uint32_t i = 0; i < len; i++)
        body[i] = pattern(frame, i);
    const struct header h = { .type = MSG_MODEL_CHUNK, .frame = frame, .length = len };
    cr_assert_eq(mesh_send(from->mesh, to, &h, body), 0);
}

/* Every node knows how late it is at every other: here all have one clock. */
static bool all_clocks(void *ctx)
{
    const struct trio *t = ctx;
    for (int i = 0; i < t->n; i++)
        for (int32_t k = 0; k < t->n; k++) {
            int64_t offset_ns, error_ns;
            if (!mesh_clock(t->node[i].mesh, k, &offset_ns, &error_ns))
                return false;
            cr_assert(offset_ns <= error_ns && -offset_ns <= error_ns);
            cr_assert(i != k || error_ns == 0);
        }
    return true;
}

static void three_nodes_meet(bool tcp)
{
    static struct node node[3];
    struct trio t = { node, 3, 0 };
    struct config c;
    uv_loop_t *loop = make_loop();

    make_config(&c, 3, tcp);
    for (int i = 2; i >= 0; i--)
        open_node(&node[i], loop, &c, i);
    cr_assert(run_until(loop, all_up, &t, 3000), "not every pair has a link");
    for (int i = 0; i < 3; i++)
        for (int32_t k = 0; k < 3; k++)
            cr_assert(mesh_is_up(node[i].mesh, k));

    /* Messages of all sizes keep their order. */
    for (uint32_t f = 1; f <= 200; f++) {
        send_control(&node[0], 1, f, (f * 977) % 60000);
        send_control(&node[1], 2, f, f % 3);
        send_control(&node[2], 0, f, 0);
    }
    t.want = 200;
    cr_assert(run_until(loop, has_messages, &t, 5000));
    for (int i = 0; i < 3; i++)
        cr_assert(node[i].in_order);

    cr_assert(run_until(loop, all_clocks, &t, 3000), "clocks are not compared");
    struct mesh_link_stats st; /* over ipc NNG's word that a message has left comes later */
    mesh_stats(node[0].mesh, 1, &st);
    cr_assert_geq(st.sent_messages, 201); /* HELLO too */
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(node[i].downs, i, "the nodes that are left see each one go");
        close_node(&node[i], loop);
        pump(loop, 100);
    }
    free_loop(loop);
}

Test(mesh, three_nodes_meet_over_tcp) { three_nodes_meet(true); }
Test(mesh, three_nodes_meet_over_ipc) { three_nodes_meet(false); }

struct expect {
    struct node *node;
    uint32_t arrived;
};

static bool nothing_waits(void *ctx) { return mesh_backlog(((struct node *)ctx)->mesh, 1) == 0; }

static bool has_arrived(void *ctx)
{
    const struct expect *e = ctx;
    return atomic_load(&e->node->arrived) >= e->arrived;
}

static void halos_arrive(bool tcp)
{
    static struct node node[2];
    static struct mesh_slot slot[STORES];
    struct trio t = { node, 2, 0 };
    struct config c;
    uv_loop_t *loop = make_loop();

    make_config(&c, 2, tcp);
    c.lost_ms = 5000; /* filling the payloads keeps the loop from sending heartbeats */
    open_node(&node[0], loop, &c, 0);
    open_node(&node[1], loop, &c, 1);
    cr_assert(run_until(loop, all_up, &t, 3000));
    for (uint32_t i = 0; i < STORES; i++) {
        /* Below, at and above the size of one read, and of a socket's buffer. */
        const uint32_t len = i == 0 ? 0 : i < 32 ? i * 700 + i : MOST - i;
        uint8_t *payload = malloc(len + 1);
        for (uint32_t k = 0; k < len; k++)
            payload[k] = pattern(i, k);
        slot[i].payload = payload;
        slot[i].header = (struct header){ .type = MSG_HALO, .transfer = i, .length = len };
        cr_assert_eq(mesh_send_slot(node[0].mesh, 1, &slot[i]), 0);
    }
    struct expect e = { &node[1], STORES };
    cr_assert(run_until(loop, has_arrived, &e, 10000));
    for (uint32_t i = 0; i < STORES; i++) {
        for (uint32_t k = 0; k < slot[i].header.length; k++)
            if (node[1].store[i][k] != pattern(i, k))
                cr_assert_fail("transfer %u byte %u", i, k);
    }
    cr_assert_eq(atomic_load(&node[1].failed), 0);

    /* To be dropped: the next message still is found. */
    node[1].drop = true;
    pump(loop, 20);
    cr_assert_not(atomic_load(&slot[40].busy));
    cr_assert_eq(mesh_send_slot(node[0].mesh, 1, &slot[40]), 0);
    send_control(&node[0], 1, 7, 5);
    t = (struct trio){ &node[1], 1, 1 };
    cr_assert(run_until(loop, has_messages, &t, 3000));
    cr_assert_eq(atomic_load(&node[1].arrived), STORES);
    cr_assert(run_until(loop, nothing_waits, &node[0], 100)); /* over ipc NNG's word comes later */
    close_node(&node[0], loop);
    close_node(&node[1], loop);
    for (int i = 0; i < STORES; i++)
        free((void *)(uintptr_t)slot[i].payload);
    free_loop(loop);
}

Test(mesh, halos_arrive_whole_over_tcp) { halos_arrive(true); }
Test(mesh, halos_arrive_whole_over_ipc) { halos_arrive(false); }

/* More than the inbox of a link holds: the sender is slowed down, nothing is lost. */
Test(mesh, a_slow_loop_slows_the_sender)
{
    static struct node node[2];
    struct trio t = { node, 2, 0 };
    struct config c;
    uv_loop_t *loop = make_loop();

    make_config(&c, 2, true);
    c.lost_ms = 5000; /* the loop does not send heartbeats while it stands still */
    open_node(&node[0], loop, &c, 0);
    open_node(&node[1], loop, &c, 1);
    cr_assert(run_until(loop, all_up, &t, 3000));
    for (uint32_t f = 1; f <= 100; f++)
        send_control(&node[0], 1, f, 200 * 1024);
    usleep(100 * 1000); /* time to overtake the loop, which stands still */
    t = (struct trio){ &node[1], 1, 100 };
    cr_assert(run_until(loop, has_messages, &t, 10000));
    cr_assert(node[1].in_order);
    cr_assert_eq(node[1].downs, 0);
    close_node(&node[0], loop);
    close_node(&node[1], loop);
    free_loop(loop);
}

Test(mesh, self_gets_its_own_messages)
{
    static struct node n;
    struct config c;
    uv_loop_t *loop = make_loop();
    uint8_t payload[100];
    struct mesh_slot slot = { .payload = payload,
                              .header = { .type = MSG_HALO, .transfer = 3, .length = 100 } };

    make_config(&c, 1, false);
    open_node(&n, loop, &c, 0);
    cr_assert(mesh_is_up(n.mesh, 0));
    for (uint32_t f = 1; f <= 100; f++)
        send_control(&n, 0, f, f);
    cr_assert_eq(n.messages, 0, "an event came inside mesh_send()");
    struct trio t = { &n, 1, 100 };
    cr_assert(run_until(loop, has_messages, &t, 1000));
    cr_assert(n.in_order);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = pattern(3, i);
    cr_assert_eq(mesh_send_slot(n.mesh, 0, &slot), 0);
    cr_assert_eq(atomic_load(&n.arrived), 1);
    cr_assert_arr_eq(n.store[3], payload, sizeof payload);
    close_node(&n, loop);
    free_loop(loop);
}

Test(mesh, an_address_in_use_is_named)
{
    static struct node a, b;
    struct config c;
    struct diag why = { "" };
    uv_loop_t *loop = make_loop();

    for (int tcp = 0; tcp < 2; tcp++) {
        make_config(&c, 2, tcp);
        open_node(&a, loop, &c, 1);
        cr_assert_eq(try_open(&b, loop, &c, 1, &why), -EADDRINUSE);
        cr_assert(strstr(why.text, c.node[1].address), "%s", why.text);
        free_stores(&b);
        close_node(&a, loop);
    }
    free_loop(loop);
}

/* A socket file that a killed process left behind is no obstacle; ours is gone after a close. */
Test(mesh, a_stale_socket_file_is_replaced)
{
    static struct node n;
    struct config c;
    uv_loop_t *loop = make_loop();

    make_config(&c, 2, false);
    const char *path = c.node[1].address + strlen("ipc://");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    strcpy(a.sun_path, path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    cr_assert_eq(access(path, F_OK), 0);

    open_node(&n, loop, &c, 1);
    close_node(&n, loop);
    cr_assert_neq(access(path, F_OK), 0, "the socket file was left behind");
    free_loop(loop);
}

Test(mesh, a_node_comes_back)
{
    static struct node node[2];
    struct trio t = { node, 2, 0 };
    struct config c;
    uv_loop_t *loop = make_loop();

    make_config(&c, 2, true);
    open_node(&node[0], loop, &c, 0);
    pump(loop, 120); /* the first attempts find nobody */
    for (int round = 0; round < 3; round++) {
        open_node(&node[1], loop, &c, 1);
        node[0].ups = node[0].downs = 0;
        cr_assert(run_until(loop, all_up, &t, 3000), "round %d", round);
        close_node(&node[1], loop);
        cr_assert(run_until(loop, is_down, &node[0], 1000));
        cr_assert_eq(mesh_send(node[0].mesh, 1, &(struct header){ .type = MSG_FRAME }, NULL),
                     -ENOTCONN);
    }
    close_node(&node[0], loop);
    free_loop(loop);
}

/* ---- peers that misbehave */

Test(mesh, strangers_are_told_why)
{
    struct stage s;
    stage_open(&s);
    static const struct {
        const char *cluster, *node;
        enum hello_status status;
    } cases[] = {
        { "cellar", "pi0", HELLO_OTHER_CLUSTER },
        { "attic", "pi7", HELLO_UNKNOWN_NODE },
        { "attic", "pi1", HELLO_UNKNOWN_NODE }, /* its own name */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int fd = raw_connect(&s.config, 1);
        raw_hello(fd, cases[i].cluster, cases[i].node, 1);
        const struct msg_hello ack = raw_ack(s.loop, fd);
        cr_assert_eq(ack.status, cases[i].status, "case %zu", i);
        cr_assert_str_eq(ack.node, "pi1");
        cr_assert(raw_closed(s.loop, fd, 600));
        close(fd);
    }
    cr_assert_eq(s.node.ups, 0);
    stage_close(&s);
}

/* "splitctl doctor" asks who is there, without being a node of any cluster. */
Test(mesh, who_only_asks_is_answered)
{
    struct stage s;
    stage_open(&s);
    const uint64_t before = (uint64_t)time(NULL) * 1000;
    for (int i = 0; i < 2; i++) {
        const int fd = raw_connect(&s.config, 1);
        raw_hello(fd, i == 0 ? "attic" : "", "", 1);
        const struct msg_hello ack = raw_ack(s.loop, fd);
        cr_assert_eq(ack.status, HELLO_OK);
        cr_assert_str_eq(ack.cluster, "attic");
        cr_assert_str_eq(ack.node, "pi1");
        cr_assert_str_eq(ack.version, SPLITD_VERSION);
        cr_assert(ack.clock_ms >= before && ack.clock_ms < before + 60000);
        cr_assert_arr_eq(ack.config, s.config.sha, sizeof ack.config);
        cr_assert(raw_closed(s.loop, fd, 600));
        close(fd);
    }
    cr_assert_eq(s.node.ups, 0);
    stage_close(&s);
}

Test(mesh, another_version_is_told_so)
{
    struct stage s;
    uint8_t bytes[HEADER_BYTES];
    stage_open(&s);
    const int fd = raw_connect(&s.config, 1);
    header_encode(&(struct header){ .type = MSG_HELLO, .length = 200 }, bytes);
    bytes[4] = PROTO_VERSION + 1;
    raw_write(fd, bytes, sizeof bytes);
    cr_assert_eq(raw_ack(s.loop, fd).status, HELLO_OTHER_VERSION);
    cr_assert(raw_closed(s.loop, fd, 600));
    close(fd);
    stage_close(&s);
}

Test(mesh, garbage_ends_a_stream_and_nothing_more)
{
    struct stage s;
    uint8_t junk[4096];
    struct header h = { .type = MSG_HALO, .length = 4 };
    stage_open(&s);
    const int good = stage_join(&s, 1);

    for (int round = 0; round < 6; round++) {
        const int fd = raw_connect(&s.config, 1);
        switch (round) {
        case 0: /* no message at all */
            for (size_t i = 0; i < sizeof junk; i++)
                junk[i] = (uint8_t)rand();
            raw_write(fd, junk, sizeof junk);
            break;
        case 1: /* HTTP */
            raw_write(fd, "GET / HTTP/1.1\r\nHost: pi1.local\r\n\r\n", 36);
            break;
        case 2: /* a HALO from someone who has not said HELLO */
            raw_header(fd, &h);
            raw_write(fd, "halo", 4);
            break;
        case 3: /* a length far beyond what the type may have */
            header_encode(&(struct header){ .type = MSG_HELLO }, junk);
            memset(junk + 24, 0xff, 4);
            raw_write(fd, junk, HEADER_BYTES);
            break;
        case 4: /* a HELLO that does not decode */
            raw_header(fd, &(struct header){ .type = MSG_HELLO, .length = 3 });
            raw_write(fd, "\xff\xff\xff", 3);
            break;
        case 5: /* the answer without the question */
            raw_header(fd, &(struct header){ .type = MSG_HELLO_ACK, .length = 3 });
            raw_write(fd, "\x00\x00\x00", 3);
            break;
        }
        cr_assert(raw_closed(s.loop, fd, 600), "round %d", round);
        close(fd);
    }
    cr_assert_eq(s.node.ups, 1);
    /* The good link may have died of silence, but not of its neighbours. */
    if (s.node.downs > 0)
        cr_assert(strstr(s.node.down_why, "silent"), "%s", s.node.down_why);
    close(good);
    stage_close(&s);
}

Test(mesh, a_link_that_breaks_the_protocol_goes_down)
{
    struct stage s;
    stage_open(&s);
    const int fd = stage_join(&s, 1);
    raw_hello(fd, "attic", "pi0", 1);
    cr_assert(run_until(s.loop, is_down, &s.node, 300));
    cr_assert(strstr(s.node.down_why, "HELLO twice"), "%s", s.node.down_why);
    close(fd);
    stage_close(&s);
}

Test(mesh, who_says_nothing_is_shown_out)
{
    struct stage s;
    int fd[40];
    stage_open(&s);
    for (int i = 0; i < 40; i++)
        fd[i] = raw_connect(&s.config, 1);
    /* More than may wait: the first ones at once, the others after a second. */
    cr_assert(raw_closed(s.loop, fd[0], 500));
    cr_assert_not(raw_closed(s.loop, fd[39], 100));
    for (int i = 0; i < 40; i++) {
        cr_assert(raw_closed(s.loop, fd[i], 1500));
        close(fd[i]);
    }
    close(stage_join(&s, 1));
    stage_close(&s);
}

Test(mesh, silence_is_a_loss)
{
    struct stage s;
    stage_open(&s);
    const int fd = stage_join(&s, 1);
    const uint64_t start = uv_hrtime();
    cr_assert(run_until(s.loop, is_down, &s.node, 2000));
    const uint64_t ms = (uv_hrtime() - start) / 1000000;
    cr_assert(strstr(s.node.down_why, "silent"), "%s", s.node.down_why);
    cr_assert(ms >= 400 && ms < 800, "%d ms", (int)ms);
    close(fd);
    stage_close(&s);
}

Test(mesh, heartbeats_keep_a_link_up)
{
    static struct node node[2];
    struct trio t = { node, 2, 0 };
    struct config c;
    uv_loop_t *loop = make_loop();

    make_config(&c, 2, true);
    open_node(&node[0], loop, &c, 0);
    open_node(&node[1], loop, &c, 1);
    cr_assert(run_until(loop, all_up, &t, 3000));
    pump(loop, 1000);
    cr_assert_eq(node[0].downs + node[1].downs, 0);
    close_node(&node[0], loop);
    close_node(&node[1], loop);
    free_loop(loop);
}

static bool has_claimed(void *ctx) { return atomic_load(&((struct node *)ctx)->claims) > 0; }

Test(mesh, a_claim_fails_when_its_link_dies)
{
    struct stage s;
    uint8_t half[50000] = { 0 };
    stage_open(&s);
    const int fd = stage_join(&s, 1);
    raw_header(fd, &(struct header){ .type = MSG_HALO, .transfer = 5, .length = 100000 });
    raw_write(fd, half, sizeof half);
    cr_assert(run_until(s.loop, has_claimed, &s.node, 1000));
    cr_assert_eq(atomic_load(&s.node.failed), 0);
    close(fd);
    cr_assert(run_until(s.loop, is_down, &s.node, 1000));
    cr_assert_eq(atomic_load(&s.node.failed), 1);
    cr_assert_eq(atomic_load(&s.node.arrived), 0);
    stage_close(&s);
}

Test(mesh, a_claim_fails_when_the_mesh_closes)
{
    struct stage s;
    stage_open(&s);
    const int fd = stage_join(&s, 1);
    raw_header(fd, &(struct header){ .type = MSG_HALO, .transfer = 5, .length = 1000 });
    cr_assert(run_until(s.loop, has_claimed, &s.node, 1000));
    stage_close(&s);
    cr_assert_eq(atomic_load(&s.node.failed), 1);
    close(fd);
}

Test(mesh, a_rebooted_node_replaces_its_predecessor)
{
    struct stage s;
    stage_open(&s);
    const int old = stage_join(&s, 1);

    const int same = raw_connect(&s.config, 1);
    raw_hello(same, "attic", "pi0", 1);
    cr_assert_eq(raw_ack(s.loop, same).status, HELLO_DUPLICATE);
    cr_assert_eq(s.node.downs, 0);

    /* Whoever says so while the other one lives is not believed. */
    const int early = raw_connect(&s.config, 1);
    raw_hello(early, "attic", "pi0", 2);
    cr_assert_eq(raw_ack(s.loop, early).status, HELLO_DUPLICATE);
    cr_assert_eq(s.node.downs, 0);

    pump(s.loop, 2 * (uint64_t)s.config.heartbeat_ms + 10);
    const int reborn = raw_connect(&s.config, 1);
    raw_hello(reborn, "attic", "pi0", 2);
    cr_assert_eq(raw_ack(s.loop, reborn).status, HELLO_OK);
    cr_assert_eq(s.node.ups, 2);
    cr_assert_eq(s.node.downs, 1);
    cr_assert(raw_closed(s.loop, old, 100));
    close(old);
    close(same);
    close(early);
    close(reborn);
    stage_close(&s);
}

Test(mesh, silent_strangers_keep_nobody_out)
{
    enum { CROWD = 50 };
    struct stage s;
    int stranger[CROWD];
    stage_open(&s);
    for (int i = 0; i < CROWD; i++) {
        stranger[i] = raw_connect(&s.config, 1);
        pump(s.loop, 1);
    }
    close(stage_join(&s, 1));
    for (int i = 0; i < CROWD; i++)
        close(stranger[i]);
    stage_close(&s);
}

Test(mesh, a_peer_that_does_not_read_is_lost)
{
    static uint8_t body[MODEL_CHUNK_BYTES];
    const struct header h = { .type = MSG_MODEL_CHUNK, .length = sizeof body };
    struct stage s;
    int err = 0, sent = 0;
    stage_open(&s);
    const int fd = stage_join(&s, 1);
    while (sent < 2000 && (err = mesh_send(s.node.mesh, 0, &h, body)) == 0)
        sent++;
    cr_assert_eq(err, -ENOBUFS);
    cr_assert_leq((size_t)sent * sizeof body, LINK_MAX_OUT_BYTES + (16u << 20));
    cr_assert(run_until(s.loop, is_down, &s.node, 300));
    close(fd);
    stage_close(&s);
}

Test(mesh, a_slot_comes_back_when_its_link_dies)
{
    static uint8_t payload[MOST];
    static struct mesh_slot slot[40];
    struct stage s;
    stage_open(&s);
    const int fd = stage_join(&s, 1);
    for (int i = 0; i < 40; i++) {
        slot[i] = (struct mesh_slot){ .payload = payload,
                                      .header = { .type = MSG_HALO, .length = MOST } };
        cr_assert_eq(mesh_send_slot(s.node.mesh, 0, &slot[i]), 0);
    }
    cr_assert_eq(mesh_send_slot(s.node.mesh, 0, &slot[39]), -EBUSY);
    cr_assert(run_until(s.loop, is_down, &s.node, 1000));
    for (int i = 0; i < 40; i++)
        cr_assert_not(atomic_load(&slot[i].busy));
    close(fd);
    stage_close(&s);
}

/* The node that was dialled answers under another name: two addresses were mixed up. */
Test(mesh, the_wrong_node_is_not_taken_for_the_right_one)
{
    static struct node a, b;
    struct config c, mixed;
    uv_loop_t *loop = make_loop();

    make_config(&c, 3, true);
    mixed = c;
    memcpy(mixed.node[1].address, c.node[2].address, sizeof mixed.node[1].address);
    memcpy(mixed.node[2].address, c.node[1].address, sizeof mixed.node[2].address);
    open_node(&a, loop, &mixed, 0);
    open_node(&b, loop, &c, 2);
    pump(loop, 500);
    cr_assert_eq(a.ups, 0);
    close_node(&a, loop);
    close_node(&b, loop);
    free_loop(loop);
}
