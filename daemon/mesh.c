#include "daemon/mesh_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/log.h"

enum {
    TICK_MOST_MS = 200,
    CLOSE_TICK_MS = 5,
    READY = 16,     /* links that are served before the loop looks at anything else */
    CLOSE_MS = 300, /* BYE and what waits before it get this long to leave */
};

/* A message to self on its way through the loop. */
struct echo {
    struct echo *next;
    struct header header;
    uint8_t body[];
};

void mesh_wake(void *mesh) { uv_async_send(&((struct mesh *)mesh)->async); }

static int send_empty(struct link *l, enum msg_type type)
{
    return link_send(l, &(struct header){ .type = type }, NULL);
}

/* ---- links that are up */

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct mesh *m = ctx;
    return m->events.claim(m->events.ctx, node, h);
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct mesh *m = ctx;
    m->events.arrived(m->events.ctx, node, h);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    struct mesh *m = ctx;
    m->events.failed(m->events.ctx, node, h);
}

static bool on_order(void *ctx, int32_t node, const struct header *h)
{
    struct mesh *m = ctx;
    return m->events.order && (h->type == MSG_FRAME || h->type == MSG_CANCEL) &&
           m->events.order(m->events.ctx, node, h);
}

int mesh_new_link(struct mesh *m, struct link **l, nng_stream *s, bool tls)
{
    const struct link_events events = { .ctx = m,
                                        .wake = mesh_wake,
                                        .claim = on_claim,
                                        .arrived = on_arrived,
                                        .failed = on_failed,
                                        .order = on_order };
    return link_new(l, s, tls, m->watch, &events);
}

/* Takes the link of `node` away from the senders and ends it. */
static void drop_link(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    struct link *l = p->link;

    pthread_mutex_lock(&p->lock);
    p->link = NULL;
    pthread_mutex_unlock(&p->lock);
    link_shut(l);
    pthread_mutex_lock(&p->pull); /* it is being left */
    link_stats(l, &p->before);
    link_free(l);
    pthread_mutex_unlock(&p->pull);
    p->redial_ms = mesh_now_ms(m);
    p->backoff_ms = REDIAL_FIRST_MS;
}

void mesh_link_down(struct mesh *m, int32_t node, const char *reason)
{
    char why[160];

    /* The reason may live in the link. */
    snprintf(why, sizeof why, "%s", reason);
    if (link_garbage(m->peer[node].link))
        log_event(LOG_WARN, "garbage-on-link", "node=%s reason=\"%s\"", mesh_name(m, node), why);
    drop_link(m, node);
    log_event(LOG_WARN, "link-lost", "node=%s reason=\"%s\"", mesh_name(m, node), why);
    m->events.down(m->events.ctx, node, why);
}

void mesh_link_up(struct mesh *m, int32_t node, struct link *l, const struct msg_hello *hello)
{
    struct peer *p = &m->peer[node];
    char remote[LINK_REMOTE_BYTES];

    p->boot = hello->boot;
    p->backoff_ms = REDIAL_FIRST_MS;
    p->beat_ms = mesh_now_ms(m);
    p->complaint[0] = '\0';
    pthread_mutex_lock(&p->lock);
    p->link = l;
    pthread_mutex_unlock(&p->lock);
    log_event(LOG_INFO, "link-up", "node=%s remote=%s", mesh_name(m, node), link_remote(l, remote));
    if (memcmp(hello->config, m->config->sha, sizeof hello->config) != 0)
        log_event(LOG_WARN, "config-differs", "node=%s action=none", mesh_name(m, node));
    m->events.up(m->events.ctx, node, hello);
    link_admit(l, node);
}

/* Hands the messages of `node` to the daemon.  A bounded number, so that one busy peer does not
 * keep the loop from the others. */
static void serve_peer(struct mesh *m, int32_t node)
{
    struct link *l = m->peer[node].link;
    struct header h;
    uint8_t *body;
    int served = 0;
    bool bye = false;

    while (!bye && served < LINK_MAX_IN && link_next(l, &h, &body)) {
        bye = h.type == MSG_BYE;
        if (!bye && !m->closing) /* an event may have closed the mesh */
            m->events.message(m->events.ctx, node, &h, body);
        free(body);
        served++;
    }
    if (bye) {
        mesh_link_down(m, node, "stopped on purpose");
        return;
    }
    if (served == LINK_MAX_IN) {
        mesh_wake(m);
        return;
    }
    const char *why = link_lost(l);
    if (why)
        mesh_link_down(m, node, why);
}

/* ---- messages to self */

static int send_echo(struct mesh *m, const struct header *h, const void *body)
{
    if (m->shut)
        return -ENOTCONN;
    if (h->length > header_cap(h->type))
        return -EMSGSIZE;
    struct echo *e = malloc(sizeof *e + h->length);
    if (!e)
        return -ENOMEM;
    e->next = NULL;
    e->header = *h;
    if (h->length > 0)
        memcpy(e->body, body, h->length);

    pthread_mutex_lock(&m->echo_lock);
    const bool full = m->echoes >= LINK_MAX_OUT || m->echo_bytes + h->length > LINK_MAX_OUT_BYTES;
    if (!full) {
        *m->last_echo = e;
        m->last_echo = &e->next;
        m->echoes++;
        m->echo_bytes += h->length;
        mesh_wake(m);
    }
    pthread_mutex_unlock(&m->echo_lock);
    if (full)
        free(e);
    return full ? -ENOBUFS : 0;
}

static struct echo *next_echo(struct mesh *m)
{
    pthread_mutex_lock(&m->echo_lock);
    struct echo *e = m->first_echo;
    if (e) {
        m->first_echo = e->next;
        if (!m->first_echo)
            m->last_echo = &m->first_echo;
        m->echoes--;
        m->echo_bytes -= e->header.length;
    }
    pthread_mutex_unlock(&m->echo_lock);
    return e;
}

static void serve_echoes(struct mesh *m)
{
    for (int served = 0; served < LINK_MAX_IN; served++) {
        struct echo *e = next_echo(m);
        if (!e)
            return;
        if (!m->closing)
            m->events.message(m->events.ctx, m->self, &e->header, e->body);
        free(e);
    }
    mesh_wake(m);
}

/* A slot to self goes straight from the sender's storage to the receiver's. */
static int send_slot_to_self(struct mesh *m, const struct mesh_slot *s)
{
    if (m->shut)
        return -ENOTCONN;
    uint8_t *to = m->events.claim(m->events.ctx, m->self, &s->header);
    if (!to)
        return 0;
    memcpy(to, s->payload, s->header.length);
    m->events.arrived(m->events.ctx, m->self, &s->header);
    return 0;
}

/* ---- the loop */

static void on_ready(uv_poll_t *poll, int status, int events)
{
    const struct mesh *m = poll->data;
    struct epoll_event ready[READY];
    const int n = epoll_wait(m->watch, ready, READY, 0);

    (void)status;
    (void)events;
    for (int i = 0; i < n; i++)
        link_ready(ready[i].data.ptr, ready[i].events);
}

static void on_async(uv_async_t *async)
{
    struct mesh *m = async->data;

    if (m->closing)
        return;
    for (int32_t i = 0; i < m->config->nnodes; i++)
        if (m->peer[i].link)
            serve_peer(m, i);
    meet_serve(m);
    serve_echoes(m);
}

static void keep_alive(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    const int64_t now = mesh_now_ms(m), silent = link_silent_ms(p->link);

    link_give_back(p->link); /* what a puller has left does not wait for ever */
    if (silent >= m->config->lost_ms) {
        char why[64];
        snprintf(why, sizeof why, "silent for %lld ms", (long long)silent);
        mesh_link_down(m, node, why);
        return;
    }
    /* What waits in the queue is as good a sign of life. */
    if (now - p->beat_ms >= m->config->heartbeat_ms && link_backlog(p->link) == 0) {
        p->beat_ms = now;
        (void)link_beat(p->link); /* a failure shows in link_lost() */
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct mesh *m = timer->data;

    for (int32_t i = 0; i < m->config->nnodes; i++)
        if (m->peer[i].link)
            keep_alive(m, i);
    meet_tend(m);
}

/* ---- life */

void mesh_free(struct mesh *m)
{
    if (!m)
        return;
    meet_close(m);
    for (int32_t i = 0; i < m->config->nnodes; i++) {
        pthread_mutex_destroy(&m->peer[i].lock);
        pthread_mutex_destroy(&m->peer[i].pull);
    }
    for (struct echo *e; (e = next_echo(m)) != NULL;)
        free(e);
    pthread_mutex_destroy(&m->echo_lock);
    pthread_rwlock_destroy(&m->self_lock);
    if (m->watch >= 0)
        close(m->watch);
    free(m);
}

int mesh_open(struct mesh **out, uv_loop_t *loop, const struct config *config, int32_t self,
              const struct tls *tls, const struct mesh_events *events, struct diag *why)
{
    struct mesh *m = calloc(1, sizeof *m);
    int err = 0;

    if (!m)
        return diag(why, -ENOMEM, "the mesh: out of memory");
    m->loop = loop;
    m->config = config;
    m->self = self;
    m->tls = tls;
    m->events = *events;
    m->last_echo = &m->first_echo;
    pthread_mutex_init(&m->echo_lock, NULL);
    pthread_rwlock_init(&m->self_lock, NULL);
    for (int32_t i = 0; i < config->nnodes; i++) {
        pthread_mutex_init(&m->peer[i].lock, NULL);
        pthread_mutex_init(&m->peer[i].pull, NULL);
        m->peer[i].mesh = m;
        m->peer[i].backoff_ms = REDIAL_FIRST_MS;
    }
    m->watch = epoll_create1(EPOLL_CLOEXEC);
    if (m->watch < 0)
        err = diag(why, -errno, "the mesh: %s", strerror(errno));
    else if (getrandom(&m->boot, sizeof m->boot, 0) != sizeof m->boot)
        err = diag(why, -errno, "no random number for the boot id: %s", strerror(errno));
    if (err == 0)
        err = meet_open(m, why);
    if (err == 0) {
        err = uv_async_init(loop, &m->async, on_async);
        if (err < 0)
            diag(why, err, "the mesh: %s", uv_strerror(err));
    }
    if (err < 0) {
        mesh_free(m);
        return err;
    }

    uv_timer_init(loop, &m->timer);
    uv_poll_init(loop, &m->poll, m->watch); /* fails for descriptors that cannot be watched only */
    m->async.data = m->timer.data = m->poll.data = m;
    m->handles = 3;
    uv_poll_start(&m->poll, UV_READABLE, on_ready);
    /* Twice a heartbeat, so that a loss is seen soon after lost_ms. */
    const int32_t half = config->heartbeat_ms / 2;
    const uint64_t tick = (uint64_t)(half < TICK_MOST_MS ? half : TICK_MOST_MS);
    uv_timer_start(&m->timer, on_tick, 0, tick);
    *out = m;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct mesh *m = handle->data;

    if (--m->handles == 0)
        m->closed(m->closed_ctx);
}

static bool all_sent(struct mesh *m)
{
    for (int32_t i = 0; i < m->config->nnodes; i++)
        if (m->peer[i].link && link_backlog(m->peer[i].link) > 0)
            return false;
    return true;
}

static void on_close_tick(uv_timer_t *timer)
{
    struct mesh *m = timer->data;

    if (!all_sent(m) && mesh_now_ms(m) < m->close_by_ms)
        return;
    for (int32_t i = 0; i < m->config->nnodes; i++)
        if (m->peer[i].link)
            drop_link(m, i);
    meet_close(m);
    pthread_rwlock_wrlock(&m->self_lock);
    m->shut = true;
    pthread_rwlock_unlock(&m->self_lock);
    /* Neither a link nor a sender can wake the loop any more. */
    uv_close((uv_handle_t *)&m->poll, on_handle_closed);
    uv_close((uv_handle_t *)&m->async, on_handle_closed);
    uv_close((uv_handle_t *)&m->timer, on_handle_closed);
}

void mesh_close(struct mesh *m, void (*closed)(void *ctx), void *ctx)
{
    m->closing = true;
    m->closed = closed;
    m->closed_ctx = ctx;
    m->close_by_ms = mesh_now_ms(m) + CLOSE_MS;
    for (int32_t i = 0; i < m->config->nnodes; i++)
        if (m->peer[i].link)
            (void)send_empty(m->peer[i].link, MSG_BYE); /* a peer that misses it sees the end */
    uv_timer_start(&m->timer, on_close_tick, 0, CLOSE_TICK_MS);
}

bool mesh_is_up(const struct mesh *m, int32_t node)
{
    return node == m->self || m->peer[node].link != NULL;
}

int mesh_send(struct mesh *m, int32_t node, const struct header *h, const void *body)
{
    struct peer *p = &m->peer[node];

    if (node == m->self) {
        pthread_rwlock_rdlock(&m->self_lock);
        const int echoed = send_echo(m, h, body);
        pthread_rwlock_unlock(&m->self_lock);
        return echoed;
    }
    pthread_mutex_lock(&p->lock);
    const int err = p->link ? link_send(p->link, h, body) : -ENOTCONN;
    pthread_mutex_unlock(&p->lock);
    return err;
}

int mesh_send_slot(struct mesh *m, int32_t node, struct mesh_slot *s)
{
    struct peer *p = &m->peer[node];

    if (node == m->self) {
        pthread_rwlock_rdlock(&m->self_lock);
        const int copied = send_slot_to_self(m, s);
        pthread_rwlock_unlock(&m->self_lock);
        return copied;
    }
    pthread_mutex_lock(&p->lock);
    const int err = p->link ? link_send_slot(p->link, s) : -ENOTCONN;
    pthread_mutex_unlock(&p->lock);
    return err;
}

void mesh_flush(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];

    pthread_mutex_lock(&p->lock);
    if (p->link)
        link_flush(p->link);
    pthread_mutex_unlock(&p->lock);
}

bool mesh_slot_wait(struct mesh_slot *s, int64_t until_ns) { return link_slot_wait(s, until_ns); }

bool mesh_pull(struct mesh *m, int32_t node, bool (*done)(void *ctx), void *ctx, int64_t until_ns)
{
    struct peer *p = &m->peer[node];

    pthread_mutex_lock(&p->pull);
    pthread_mutex_lock(&p->lock);
    struct link *l = p->link;
    pthread_mutex_unlock(&p->lock);
    const bool pulled = l && link_pull(l, done, ctx, until_ns);
    pthread_mutex_unlock(&p->pull);
    return pulled;
}

void mesh_take(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];

    pthread_mutex_lock(&p->lock);
    if (p->link)
        link_take(p->link);
    pthread_mutex_unlock(&p->lock);
}

void mesh_give_back(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];

    pthread_mutex_lock(&p->lock);
    if (p->link)
        link_give_back(p->link);
    pthread_mutex_unlock(&p->lock);
}

void mesh_nudge(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];

    pthread_mutex_lock(&p->lock);
    if (p->link)
        link_nudge(p->link);
    pthread_mutex_unlock(&p->lock);
}

size_t mesh_backlog(struct mesh *m, int32_t node)
{
    if (node != m->self)
        return m->peer[node].link ? link_backlog(m->peer[node].link) : 0;
    pthread_mutex_lock(&m->echo_lock);
    const size_t bytes = m->echo_bytes;
    pthread_mutex_unlock(&m->echo_lock);
    return bytes;
}

bool mesh_clock(struct mesh *m, int32_t node, int64_t *offset_ns, int64_t *error_ns)
{
    if (node != m->self)
        return m->peer[node].link && link_clock(m->peer[node].link, offset_ns, error_ns);
    *offset_ns = *error_ns = 0;
    return true;
}

void mesh_stats(struct mesh *m, int32_t node, struct mesh_link_stats *s)
{
    struct peer *p = &m->peer[node];

    *s = p->before;
    if (p->link)
        link_stats(p->link, s);
}
