/* Two meshes on two loops, four threads that send without a pause, two that receive by themselves
 * now and then, one mesh that goes and comes back.  For ThreadSanitizer; returns 0 when every byte
 * came as it was sent. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/mesh.h"
#include "proto/model.h"

enum { SENDERS = 2, SLOTS = 4, PAYLOAD = 30000, ROUNDS = 3, ROUND_MS = 400 };

struct node {
    uv_loop_t loop;
    uv_async_t stop;
    struct mesh *mesh;
    struct config config;
    int32_t self;
    pthread_t thread;
    _Atomic bool open, up, quit;
    uint8_t store[SENDERS * SLOTS][PAYLOAD];
    _Atomic uint64_t halos, messages, orders, damaged;
};

static void check(struct node *n, const uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (bytes[i] != (uint8_t)(len + i)) {
            atomic_fetch_add(&n->damaged, 1);
            return;
        }
}

static void fill(uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(len + i);
}

static void on_up(void *ctx, int32_t node, const struct msg_hello *hello)
{
    struct node *n = ctx;
    (void)node;
    (void)hello;
    atomic_store(&n->up, true);
}

static void on_down(void *ctx, int32_t node, const char *why)
{
    struct node *n = ctx;
    (void)node;
    (void)why;
    atomic_store(&n->up, false);
}

static void on_message(void *ctx, int32_t node, const struct header *h, const uint8_t *body)
{
    struct node *n = ctx;
    (void)node;
    check(n, body, h->length);
    atomic_fetch_add(&n->messages, 1);
}

static bool on_order(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    (void)node;
    atomic_fetch_add(&n->orders, 1);
    return h->frame % 3 != 0; /* now and then the loop shall hear of it, too */
}

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    (void)node;
    if (h->transfer >= SENDERS * SLOTS || h->length > PAYLOAD || h->frame % 7 == 6)
        return NULL;
    return n->store[h->transfer];
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct node *n = ctx;
    (void)node;
    check(n, n->store[h->transfer], h->length);
    atomic_fetch_add(&n->halos, 1);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    (void)ctx;
    (void)node;
    (void)h;
}

static void on_handle_closed(uv_handle_t *handle) { (void)handle; }

static void on_closed(void *ctx)
{
    struct node *n = ctx;
    uv_close((uv_handle_t *)&n->stop, on_handle_closed);
}

static void on_stop(uv_async_t *async)
{
    struct node *n = async->data;
    mesh_close(n->mesh, on_closed, n);
}

static void *run_loop(void *arg)
{
    struct node *n = arg;
    uv_run(&n->loop, UV_RUN_DEFAULT);
    return NULL;
}

static int open_node(struct node *n)
{
    const struct mesh_events e = { .ctx = n,
                                   .up = on_up,
                                   .down = on_down,
                                   .message = on_message,
                                   .order = on_order,
                                   .claim = on_claim,
                                   .arrived = on_arrived,
                                   .failed = on_failed };
    struct diag why = { "" };

    uv_loop_init(&n->loop);
    uv_async_init(&n->loop, &n->stop, on_stop);
    n->stop.data = n;
    if (mesh_open(&n->mesh, &n->loop, &n->config, n->self, NULL, &e, &why) < 0) {
        fprintf(stderr, "%s\n", why.text);
        return -1;
    }
    return -pthread_create(&n->thread, NULL, run_loop, n);
}

/* Stops the loop's thread; the mesh still refuses whoever sends. */
static void stop_node(struct node *n)
{
    uv_async_send(&n->stop);
    pthread_join(n->thread, NULL);
}

static int free_node(struct node *n)
{
    mesh_free(n->mesh);
    return uv_loop_close(&n->loop);
}

struct sender {
    pthread_t thread;
    struct node *node;
    uint32_t first; /* of its transfers */
    struct mesh_slot slot[SLOTS];
    uint8_t payload[SLOTS][PAYLOAD];
    bool broken;
};

static void *send_on(void *arg)
{
    struct sender *s = arg;
    struct node *n = s->node;
    uint8_t body[512];

    for (uint32_t frame = 1; !atomic_load(&n->quit); frame++) {
        for (uint32_t i = 0; i < SLOTS; i++) {
            struct mesh_slot *slot = &s->slot[i];
            if (atomic_load(&slot->busy))
                continue;
            const uint32_t len = (frame * 7919 + i * 104729) % PAYLOAD;
            fill(s->payload[i], len);
            slot->payload = s->payload[i];
            slot->more = frame % 5 == 0;
            slot->header = (struct header){
                .type = MSG_HALO, .frame = frame, .transfer = s->first + i, .length = len
            };
            (void)mesh_send_slot(n->mesh, 1 - n->self, slot);
        }
        mesh_flush(n->mesh, 1 - n->self);
        if (frame % 16 == 0) {
            const struct header h = { .type = MSG_MODEL_CHUNK, .length = frame % sizeof body };
            fill(body, h.length);
            (void)mesh_send(n->mesh, 1 - n->self, &h, body);
            (void)mesh_send(n->mesh, n->self, &h, body);
            mesh_nudge(n->mesh, 1 - n->self);
        }
        if (frame % 8 == 0) {
            const struct header h = { .type = MSG_FRAME, .frame = frame };
            (void)mesh_send(n->mesh, 1 - n->self, &h, NULL);
        }
        usleep(50);
    }
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&s->slot[i].busy))
            s->broken = true; /* the mesh is closed by now */
    return NULL;
}

struct puller {
    pthread_t thread;
    struct node *node;
    uint64_t until; /* halos */
};

static bool has_come(void *ctx)
{
    const struct puller *p = ctx;
    return atomic_load(&p->node->halos) >= p->until || atomic_load(&p->node->quit);
}

static void *pull_on(void *arg)
{
    struct puller *p = arg;
    struct node *n = p->node;

    for (int i = 0; !atomic_load(&n->quit); i++) {
        p->until = atomic_load(&n->halos) + 5;
        if (!mesh_pull(n->mesh, 1 - n->self, has_come, p, INT64_MAX) || i % 4 == 0)
            usleep(100);
        if (i % 16 == 0)
            mesh_give_back(n->mesh, 1 - n->self);
        if (i % 16 == 8)
            mesh_take(n->mesh, 1 - n->self);
    }
    return NULL;
}

static int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return -1;
    close(fd);
    return ntohs(a.sin_port);
}

static void make_config(struct config *c)
{
    *c = (struct config){ .nnodes = 2, .heartbeat_ms = 100, .lost_ms = 2000 };
    strcpy(c->cluster, "attic");
    for (int i = 0; i < 2; i++) {
        snprintf(c->node[i].name, sizeof c->node[i].name, "pi%d", i);
        snprintf(c->node[i].address, sizeof c->node[i].address, "tcp://127.0.0.1:%d", free_port());
    }
}

static int start_threads(struct node *n, struct sender *s, struct puller *p)
{
    atomic_store(&n->quit, false);
    *p = (struct puller){ .node = n };
    if (pthread_create(&p->thread, NULL, pull_on, p) != 0)
        return -1;
    for (uint32_t i = 0; i < SENDERS; i++) {
        s[i] = (struct sender){ .node = n, .first = i * SLOTS };
        if (pthread_create(&s[i].thread, NULL, send_on, &s[i]) != 0)
            return -1;
    }
    return 0;
}

/* Closes the mesh while its users go on, then ends them. */
static int end_node(struct node *n, struct sender *s, struct puller *p)
{
    int err = 0;

    stop_node(n);
    usleep(20 * 1000);
    atomic_store(&n->quit, true);
    pthread_join(p->thread, NULL);
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(s[i].thread, NULL);
        err |= s[i].broken;
    }
    return free_node(n) < 0 || err ? -1 : 0;
}

static bool wait_up(struct node *n)
{
    for (int i = 0; i < 5000 && !atomic_load(&n->up); i++)
        usleep(1000);
    return atomic_load(&n->up);
}

/* NNG's reaper destroys a dialer's mutex after the last of its streams has gone, and counts these
 * with atomics that ThreadSanitizer cannot see in a library that it has not compiled. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) { return "race:pthread_mutex_destroy\n"; }

int main(void)
{
    static struct node node[2];
    static struct sender sender[2][SENDERS];
    static struct puller puller[2];
    struct config c;

    log_init(LOG_ERROR);
    make_config(&c);
    for (int i = 0; i < 2; i++) {
        node[i].config = c;
        node[i].self = i;
    }
    if (open_node(&node[0]) < 0 || start_threads(&node[0], sender[0], &puller[0]) < 0)
        return 1;
    for (int round = 0; round < ROUNDS; round++) {
        atomic_store(&node[1].up, false);
        if (open_node(&node[1]) < 0 || start_threads(&node[1], sender[1], &puller[1]) < 0)
            return 1;
        if (!wait_up(&node[1])) {
            fprintf(stderr, "round %d: no link\n", round);
            return 1;
        }
        usleep(ROUND_MS * 1000);
        if (end_node(&node[1], sender[1], &puller[1]) < 0) {
            fprintf(stderr, "round %d: a slot or a handle was not given back\n", round);
            return 1;
        }
    }
    if (end_node(&node[0], sender[0], &puller[0]) < 0) {
        fprintf(stderr, "a slot or a handle was not given back\n");
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        printf("node %d: %llu halos, %llu messages, %llu orders, %llu damaged\n", i,
               (unsigned long long)node[i].halos, (unsigned long long)node[i].messages,
               (unsigned long long)node[i].orders, (unsigned long long)node[i].damaged);
        if (node[i].halos == 0 || node[i].messages == 0 || node[i].orders == 0 ||
            node[i].damaged > 0)
            return 1;
    }
    printf("%d passed, 0 failed\n", ROUNDS);
    return 0;
}
