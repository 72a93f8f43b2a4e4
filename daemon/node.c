#include "daemon/node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/api.h"
#include "daemon/log.h"
#include "daemon/mesh.h"
#include "daemon/store.h"
#include "daemon/tls.h"
#include "daemon/worker.h"
#include "libsplit/board.h"
#include "proto/health.h"

enum {
    DRAIN_TICK_MS = 20,
    HEALTH_MS = 2000, /* the coordinator hears of temperature as often */
};

struct node {
    uv_loop_t *loop;
    const struct config *config;
    int32_t self;
    struct store *store;
    struct worker *worker;
    struct mesh *mesh;
    struct coordinator *coordinator; /* these three: on the coordinator's node */
    struct api *api;
    struct http_server *http;
    struct tls *tls; /* NULL: none */
    uv_timer_t drain, health;
    uint64_t drain_until;      /* uv_now() */
    int to_close;              /* parts whose `closed` has not come, and one for who counts them */
    void (*closed)(void *ctx); /* set: the node is closing */
    void *closed_ctx;
};

/* ---- who gets what from the mesh */

static bool is_for_coordinator(const struct header *h)
{
    return h->type == MSG_MODEL_STATE || h->type == MSG_PLAN_ACK || h->type == MSG_FRAME_DONE ||
           h->type == MSG_LINKS || h->type == MSG_HEALTH;
}

static void on_up(void *ctx, int32_t peer, const struct msg_hello *hello)
{
    struct node *n = ctx;
    if (n->coordinator)
        coordinator_up(n->coordinator, peer, hello);
    worker_up(n->worker);
}

static void on_down(void *ctx, int32_t peer, const char *why)
{
    struct node *n = ctx;
    worker_down(n->worker, peer);
    if (n->coordinator)
        coordinator_down(n->coordinator, peer, why);
}

static void on_message(void *ctx, int32_t peer, const struct header *h, const uint8_t *body)
{
    struct node *n = ctx;

    if (!is_for_coordinator(h))
        worker_message(n->worker, peer, h, body);
    else if (n->coordinator)
        coordinator_message(n->coordinator, peer, h, body);
    else
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not the coordinator\"",
                  n->config->node[peer].name, (int)h->type);
}

static bool on_order(void *ctx, int32_t peer, const struct header *h)
{
    return worker_order(((struct node *)ctx)->worker, peer, h);
}

static uint8_t *on_claim(void *ctx, int32_t peer, const struct header *h)
{
    struct node *n = ctx;

    if (h->flags & HEADER_TO_HOST)
        return n->coordinator ? coordinator_claim(n->coordinator, peer, h) : NULL;
    return worker_claim(n->worker, peer, h);
}

static void on_arrived(void *ctx, int32_t peer, const struct header *h)
{
    struct node *n = ctx;
    if (h->flags & HEADER_TO_HOST)
        coordinator_arrived(n->coordinator, peer, h);
    else
        worker_arrived(n->worker, peer, h);
}

static void on_failed(void *ctx, int32_t peer, const struct header *h)
{
    struct node *n = ctx;
    if (h->flags & HEADER_TO_HOST)
        coordinator_failed(n->coordinator, peer, h);
    else
        worker_failed(n->worker, peer, h);
}

/* ---- closing.  First the clients get their answers and the peers our leave; then nothing
 * comes from the mesh any more and the rest can close. */

static void on_freed(uv_handle_t *h)
{
    struct node *n = h->data;

    if (--n->to_close > 0)
        return;
    void (*const closed)(void *ctx) = n->closed;
    void *const ctx = n->closed_ctx;

    free(n);
    closed(ctx);
}

static void close_end(void *ctx)
{
    struct node *n = ctx;

    if (--n->to_close > 0)
        return;
    mesh_free(n->mesh);
    coordinator_free(n->coordinator);
    api_free(n->api);
    store_close(n->store);
    tls_free(n->tls);
    n->to_close = 2;
    uv_close((uv_handle_t *)&n->drain, on_freed);
    uv_close((uv_handle_t *)&n->health, on_freed);
}

static void close_rest(void *ctx)
{
    struct node *n = ctx;

    if (--n->to_close > 0)
        return;
    n->to_close = 1 + (n->http != NULL) + (n->worker != NULL);
    if (n->http)
        http_close(n->http, close_end, n);
    if (n->worker)
        worker_close(n->worker, close_end, n);
    close_end(n);
}

static bool is_busy(const struct node *n)
{
    struct coordinator_counts counts;

    if (!n->coordinator)
        return false;
    coordinator_counts(n->coordinator, &counts);
    return counts.waiting + counts.running > 0;
}

static void on_drain(uv_timer_t *t)
{
    struct node *n = t->data;

    if (is_busy(n) && uv_now(n->loop) < n->drain_until)
        return;
    uv_timer_stop(t);
    uv_timer_stop(&n->health);
    n->to_close = 1 + (n->coordinator != NULL) + (n->mesh != NULL);
    if (n->coordinator)
        coordinator_close(n->coordinator, close_rest, n);
    if (n->mesh)
        mesh_close(n->mesh, close_rest, n);
    close_rest(n);
}

void node_close(struct node *n, uint64_t drain_ms, void (*closed)(void *ctx), void *ctx)
{
    const bool again = n->closed != NULL;

    n->closed = closed;
    n->closed_ctx = ctx;
    n->drain_until = again ? 0 : uv_now(n->loop) + drain_ms;
    if (again)
        return;
    if (n->api)
        api_stop(n->api);
    uv_timer_start(&n->drain, on_drain, 0, DRAIN_TICK_MS);
}

/* ---- starting */

static void on_health(uv_timer_t *t)
{
    struct node *n = t->data;
    struct msg_health m = { .temperature_mc = HEALTH_NO_TEMPERATURE };
    uint8_t body[HEALTH_BYTES];

    (void)board_temperature("", &m.temperature_mc);
    (void)board_throttled("", &m.throttled);
    health_encode(&m, body);
    /* Without a link it is not missed. */
    (void)mesh_send(n->mesh, n->config->coordinator,
                    &(struct header){ .type = MSG_HEALTH, .length = sizeof body }, body);
}

static int open_coordinator(struct node *n, const char *state_dir, struct diag *why)
{
    int rc = coordinator_new(&n->coordinator, n->loop, n->config, state_dir, why);
    if (rc == 0)
        rc = api_new(&n->api, n->loop, n->coordinator, n->config, why);
    return rc;
}

static int open_mesh(struct node *n, struct diag *why)
{
    const struct mesh_events events = { .ctx = n,
                                        .up = on_up,
                                        .down = on_down,
                                        .message = on_message,
                                        .order = on_order,
                                        .claim = on_claim,
                                        .arrived = on_arrived,
                                        .failed = on_failed };

    int rc = mesh_open(&n->mesh, n->loop, n->config, n->self, n->tls, &events, why);
    if (rc < 0)
        return rc;
    worker_attach(n->worker, n->mesh);
    if (n->coordinator)
        coordinator_attach(n->coordinator, n->mesh);
    uv_timer_start(&n->health, on_health, 0, HEALTH_MS);
    return 0;
}

static int open_http(struct node *n, struct diag *why)
{
    const struct config *c = n->config;
    const struct http_options options = { .host = c->http_host,
                                          .port = c->http_port,
                                          .max_body = API_MAX_BODY,
                                          .aligned = API_HEADER_LENGTH,
                                          .certificate = n->tls ? n->tls->certificate : NULL,
                                          .key = n->tls ? n->tls->key : NULL };

    return http_open(&n->http, n->loop, &options, api_handle, n->api, why);
}

int node_open(struct node **out, uv_loop_t *loop, const struct config *config, int32_t self,
              const char *state_dir, struct diag *why)
{
    struct node *n = *out = calloc(1, sizeof *n);

    if (!n)
        return diag(why, -ENOMEM, "out of memory");
    *n = (struct node){ .loop = loop, .config = config, .self = self };
    uv_timer_init(loop, &n->drain);
    uv_timer_init(loop, &n->health);
    n->drain.data = n->health.data = n;

    int rc = config->secure ? tls_open(&n->tls, config, self, why) : 0;
    if (rc == 0)
        rc = store_open(&n->store, state_dir, why);
    if (rc == 0)
        rc = worker_new(&n->worker, loop, config, self, n->store, why);
    if (rc == 0 && self == config->coordinator)
        rc = open_coordinator(n, state_dir, why);
    if (rc == 0)
        rc = open_mesh(n, why);
    if (rc == 0 && n->api)
        rc = open_http(n, why);
    if (rc < 0)
        return rc;
    if (n->http)
        log_event(LOG_INFO, "ready", "node=%s %s=%s:%u", config->node[self].name,
                  n->tls ? "https" : "http", config->http_host, http_port(n->http));
    else
        log_event(LOG_INFO, "ready", "node=%s", config->node[self].name);
    return 0;
}

/* ---- what it does */

__attribute__((format(printf, 4, 5))) static void add(char *text, size_t cap, size_t *at,
                                                      const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    const int len = vsnprintf(text + *at, cap - *at, fmt, ap);
    va_end(ap);
    if (len > 0)
        *at += (size_t)len < cap - *at ? (size_t)len : cap - *at - 1;
}

static int32_t count_up(const struct node *n)
{
    int32_t up = 0;
    for (int32_t i = 0; i < n->config->nnodes; i++)
        up += mesh_is_up(n->mesh, i);
    return up;
}

void node_status(const struct node *n, char *text, size_t cap)
{
    size_t at = 0;
    struct model_info m;

    if (!n->mesh || n->closed) {
        snprintf(text, cap, "not running");
        return;
    }
    if (!n->coordinator) {
        snprintf(text, cap, "%s of %s, %d of %d links", n->config->node[n->self].name,
                 n->config->cluster, count_up(n) - 1, n->config->nnodes - 1);
        return;
    }
    add(text, cap, &at, "epoch %u, %d of %d nodes", coordinator_epoch(n->coordinator), count_up(n),
        n->config->nnodes);
    for (int32_t i = 0; i < coordinator_models(n->coordinator); i++) {
        coordinator_model(n->coordinator, i, &m);
        add(text, cap, &at, ", %s%s", m.name,
            m.ready        ? ""
            : m.problem[0] ? " (broken)"
                           : " (loading)");
    }
}
