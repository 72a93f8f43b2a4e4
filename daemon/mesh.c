#include "daemon/mesh.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/link.h"
#include "daemon/log.h"

enum {
    MAX_STRANGERS = 32,    /* accepted streams that have not said HELLO */
    HELLO_MS = 1000,       /* how long they may take */
    LINGER_MS = 200,       /* a refusal gets this long to reach the peer */
    REDIAL_FIRST_MS = 50,  /* doubles... */
    REDIAL_LAST_MS = 1000, /* ...up to this */
    DIAL_MS = 2000,
    TICK_MOST_MS = 200,
    CLOSE_TICK_MS = 5,
    CLOSE_MS = 300, /* BYE and what waits before it get this long to leave */
};

/* Another node of the cluster. */
struct peer {
    struct mesh *mesh;
    pthread_mutex_t lock; /* guards `link` against its end; only the loop writes it */
    pthread_mutex_t pull; /* held, often for long, by who pulls; before `lock` */
    struct link *link;    /* up, else NULL */
    uint64_t boot;        /* of the process at the other end */
    int64_t rtt_us;
    int64_t beat_ms;               /* when the last heartbeat was sent */
    struct mesh_link_stats before; /* of links that are gone */

    /* Where we dial: */
    nng_stream_dialer *dialer;
    nng_aio *dial;
    bool dialling;
    _Atomic bool dialled;  /* `dial` has ended: look at its result */
    struct link *greeting; /* HELLO is on its way */
    int64_t hello_ms;
    uint64_t hello_ns;
    int64_t redial_ms, backoff_ms;
    char complaint[64]; /* what was logged about the last failure: not every time again */
};

/* A stream that was accepted and may become a peer's. */
struct stranger {
    struct link *link; /* NULL: free */
    int64_t until_ms;
    bool refused; /* lingers so that the peer can read why */
};

/* A message to self on its way through the loop. */
struct echo {
    struct echo *next;
    struct header header;
    uint8_t body[];
};

struct mesh {
    uv_loop_t *loop;
    uv_async_t async;
    uv_timer_t timer;
    const struct config *config;
    int32_t self;
    uint64_t boot;
    struct mesh_events events;

    struct peer peer[CONFIG_MAX_NODES];
    nng_stream_listener *listener; /* NULL: every other node is dialled */
    nng_aio *accept;
    bool accepting;
    _Atomic bool accepted; /* `accept` has ended: look at its result */
    struct stranger stranger[MAX_STRANGERS];

    pthread_rwlock_t self_lock; /* held for reading while a slot goes to self */
    bool shut;                  /* nothing passes any more; guarded by self_lock */
    pthread_mutex_t echo_lock;
    struct echo *first_echo, **last_echo;
    size_t echoes, echo_bytes;

    bool closing;
    int64_t close_by_ms;
    int handles; /* of libuv that are open */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static const char *name_of(const struct mesh *m, int32_t node)
{
    return m->config->node[node].name;
}

/* libuv's clock, which stands still while a callback runs: one moment for one decision. */
static int64_t now_ms(const struct mesh *m) { return (int64_t)uv_now(m->loop); }

/* Any thread. */
static void wake(void *ctx)
{
    struct mesh *m = ctx;
    uv_async_send(&m->async);
}

static int errno_of(int rv)
{
    switch (rv) {
    case NNG_EADDRINUSE:
        return -EADDRINUSE;
    case NNG_ENOMEM:
        return -ENOMEM;
    case NNG_EPERM:
        return -EACCES;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
        return -EINVAL;
    case NNG_ENOFILES:
        return -EMFILE;
    default:
        return -EIO;
    }
}

static void say_hello(const struct mesh *m, struct msg_hello *hello, enum hello_status status)
{
    *hello = (struct msg_hello){ .status = status, .boot = m->boot };
    memcpy(hello->cluster, m->config->cluster, sizeof hello->cluster);
    memcpy(hello->node, name_of(m, m->self), sizeof hello->node);
    memcpy(hello->config, m->config->sha, sizeof hello->config);
    hello->threads = (uint16_t)config_threads(m->config, m->self);
}

static int send_empty(struct link *l, enum msg_type type)
{
    return link_send(l, &(struct header){ .type = type }, NULL);
}

static int send_hello(const struct mesh *m, struct link *l, enum msg_type type,
                      enum hello_status status)
{
    uint8_t body[HELLO_MAX_BYTES];
    struct msg_hello hello;

    say_hello(m, &hello, status);
    const int n = type == MSG_HELLO ? hello_encode(&hello, body, sizeof body)
                                    : hello_ack_encode(&hello, body, sizeof body);
    if (n < 0)
        return n;
    return link_send(l, &(struct header){ .type = type, .length = (uint32_t)n }, body);
}

static struct link_events link_events(struct mesh *m)
{
    return (struct link_events){ .ctx = m, .wake = wake };
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

static int new_link(struct mesh *m, struct link **l, nng_stream *s)
{
    struct link_events events = link_events(m);

    events.claim = on_claim;
    events.arrived = on_arrived;
    events.failed = on_failed;
    return link_new(l, s, &events);
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
    p->redial_ms = now_ms(m);
    p->backoff_ms = REDIAL_FIRST_MS;
}

static void link_down(struct mesh *m, int32_t node, const char *reason)
{
    char why[160];

    /* The reason may live in the link. */
    snprintf(why, sizeof why, "%s", reason);
    if (link_garbage(m->peer[node].link))
        log_event(LOG_WARN, "garbage-on-link", "node=%s reason=\"%s\"", name_of(m, node), why);
    drop_link(m, node);
    log_event(LOG_WARN, "link-lost", "node=%s reason=\"%s\"", name_of(m, node), why);
    m->events.down(m->events.ctx, node, why);
}

static void link_up(struct mesh *m, int32_t node, struct link *l, const struct msg_hello *hello)
{
    struct peer *p = &m->peer[node];
    char remote[LINK_REMOTE_BYTES];

    p->boot = hello->boot;
    p->backoff_ms = REDIAL_FIRST_MS;
    p->beat_ms = now_ms(m);
    p->complaint[0] = '\0';
    pthread_mutex_lock(&p->lock);
    p->link = l;
    pthread_mutex_unlock(&p->lock);
    log_event(LOG_INFO, "link-up", "node=%s remote=%s", name_of(m, node), link_remote(l, remote));
    if (memcmp(hello->config, m->config->sha, sizeof hello->config) != 0)
        log_event(LOG_WARN, "config-differs", "node=%s action=none", name_of(m, node));
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
        link_down(m, node, "stopped on purpose");
        return;
    }
    if (served == LINK_MAX_IN) {
        wake(m);
        return;
    }
    const char *why = link_lost(l);
    if (why)
        link_down(m, node, why);
}

/* ---- dialling */

static void on_dialled(void *arg)
{
    struct peer *p = arg;

    atomic_store(&p->dialled, true);
    wake(p->mesh);
}

static void dial(struct peer *p)
{
    p->dialling = true;
    nng_stream_dialer_dial(p->dialer, p->dial);
}

static void redial_later(struct mesh *m, struct peer *p)
{
    p->redial_ms = now_ms(m) + p->backoff_ms;
    p->backoff_ms = p->backoff_ms * 2 < REDIAL_LAST_MS ? p->backoff_ms * 2 : REDIAL_LAST_MS;
}

/* Gives up on a stream that never became a link.  Says why once, not at every attempt. */
static void greeting_failed(struct mesh *m, int32_t node, const char *event, const char *reason)
{
    struct peer *p = &m->peer[node];

    if (strncmp(p->complaint, reason, sizeof p->complaint - 1) != 0) {
        snprintf(p->complaint, sizeof p->complaint, "%s", reason);
        log_event(LOG_WARN, event, "node=%s address=%s reason=\"%s\"", name_of(m, node),
                  m->config->node[node].address, reason);
    }
    link_free(p->greeting);
    p->greeting = NULL;
    redial_later(m, p);
}

static void greet(struct mesh *m, int32_t node, nng_stream *s)
{
    struct peer *p = &m->peer[node];

    if (new_link(m, &p->greeting, s) < 0) {
        p->greeting = NULL;
        redial_later(m, p);
        return;
    }
    p->hello_ms = now_ms(m);
    p->hello_ns = uv_hrtime();
    link_start(p->greeting);
    if (send_hello(m, p->greeting, MSG_HELLO, HELLO_OK) < 0)
        greeting_failed(m, node, "link-failed", "HELLO could not be sent");
}

static void dial_ended(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    const int rv = nng_aio_result(p->dial);

    p->dialling = false;
    if (rv == 0)
        greet(m, node, nng_aio_get_output(p->dial, 0));
    else
        greeting_failed(m, node, "dial-failed", nng_strerror(rv));
}

/* The side that dialled reads the answer to its HELLO. */
static void judge_ack(struct mesh *m, int32_t node, const struct header *h, const uint8_t *body)
{
    struct peer *p = &m->peer[node];
    struct link *l = p->greeting;
    struct msg_hello ack;

    if (h->type != MSG_HELLO_ACK || hello_ack_decode(&ack, body, h->length) < 0) {
        greeting_failed(m, node, "garbage-on-link", "the answer to HELLO does not decode");
        return;
    }
    if (ack.status != HELLO_OK) {
        char reason[128];
        snprintf(reason, sizeof reason, "it says that %s %s", name_of(m, m->self),
                 hello_status_text(ack.status));
        greeting_failed(m, node, "peer-refuses-us", reason);
        return;
    }
    if (strcmp(ack.cluster, m->config->cluster) != 0) {
        greeting_failed(m, node, "peer-refused", hello_status_text(HELLO_OTHER_CLUSTER));
        return;
    }
    if (strcmp(ack.node, name_of(m, node)) != 0) {
        char reason[160];
        snprintf(reason, sizeof reason, "the node there is called %s", ack.node);
        greeting_failed(m, node, "peer-refused", reason);
        return;
    }
    p->greeting = NULL;
    p->rtt_us = (int64_t)((uv_hrtime() - p->hello_ns) / 1000);
    link_up(m, node, l, &ack);
}

static void serve_greeting(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    struct header h;
    uint8_t *body;

    if (link_next(p->greeting, &h, &body)) {
        judge_ack(m, node, &h, body);
        free(body);
        return;
    }
    if (link_other_version(p->greeting)) {
        greeting_failed(m, node, "peer-refused", hello_status_text(HELLO_OTHER_VERSION));
        return;
    }
    const char *why = link_lost(p->greeting);
    if (why)
        greeting_failed(m, node, link_garbage(p->greeting) ? "garbage-on-link" : "link-failed",
                        why);
}

/* ---- accepting */

static void on_accepted(void *arg)
{
    struct mesh *m = arg;

    atomic_store(&m->accepted, true);
    wake(m);
}

static void accept_next(struct mesh *m)
{
    m->accepting = true;
    nng_stream_listener_accept(m->listener, m->accept);
}

static void free_stranger(struct stranger *s)
{
    link_free(s->link);
    *s = (struct stranger){ 0 };
}

static void meet(struct mesh *m, nng_stream *stream)
{
    struct stranger *s = m->stranger;
    const struct stranger *end = m->stranger + MAX_STRANGERS;

    while (s < end && s->link)
        s++;
    if (s == end) {
        log_event(LOG_WARN, "peer-refused", "reason=\"%d streams have not said HELLO\"",
                  MAX_STRANGERS);
        nng_stream_close(stream);
        nng_stream_free(stream);
        return;
    }
    if (new_link(m, &s->link, stream) < 0) {
        s->link = NULL;
        return;
    }
    s->until_ms = now_ms(m) + HELLO_MS;
    link_start(s->link);
}

static void accept_ended(struct mesh *m)
{
    const int rv = nng_aio_result(m->accept);

    m->accepting = false;
    if (rv != 0) {
        /* Out of files, most likely.  The timer tries again. */
        log_event(LOG_WARN, "accept-failed", "reason=\"%s\"", nng_strerror(rv));
        return;
    }
    meet(m, nng_aio_get_output(m->accept, 0));
    accept_next(m);
}

static void refuse(struct mesh *m, struct stranger *s, enum hello_status status, const char *who)
{
    char remote[LINK_REMOTE_BYTES];

    log_event(LOG_WARN, "peer-refused", "remote=%s node=%s reason=\"%s\"",
              link_remote(s->link, remote), who, hello_status_text(status));
    if (send_hello(m, s->link, MSG_HELLO_ACK, status) < 0) {
        free_stranger(s);
        return;
    }
    s->refused = true;
    s->until_ms = now_ms(m) + LINGER_MS;
}

/* The node called `name` that should dial us; -ENOENT if there is none. */
static int32_t dialler_called(const struct mesh *m, const char *name)
{
    for (int32_t i = 0; i < m->self; i++)
        if (strcmp(name_of(m, i), name) == 0)
            return i;
    return -ENOENT;
}

/* A node that was started anew replaces its dead predecessor; one that is the same process
 * still has its link, whatever it thinks. */
static bool is_duplicate(const struct mesh *m, int32_t node, const struct msg_hello *hello)
{
    return m->peer[node].link && m->peer[node].boot == hello->boot;
}

/* The side that accepted reads HELLO. */
static void judge_hello(struct mesh *m, struct stranger *s, const struct header *h,
                        const uint8_t *body)
{
    struct link *l = s->link;
    struct msg_hello hello;

    if (h->type != MSG_HELLO || hello_decode(&hello, body, h->length) < 0) {
        char remote[LINK_REMOTE_BYTES];
        log_event(LOG_WARN, "garbage-on-link", "remote=%s reason=\"HELLO does not decode\"",
                  link_remote(l, remote));
        free_stranger(s);
        return;
    }
    if (strcmp(hello.cluster, m->config->cluster) != 0) {
        refuse(m, s, HELLO_OTHER_CLUSTER, hello.node);
        return;
    }
    const int32_t node = dialler_called(m, hello.node);
    if (node < 0) {
        refuse(m, s, HELLO_UNKNOWN_NODE, hello.node);
        return;
    }
    if (is_duplicate(m, node, &hello)) {
        refuse(m, s, HELLO_DUPLICATE, hello.node);
        return;
    }
    if (m->peer[node].link)
        link_down(m, node, "was started anew");
    if (send_hello(m, l, MSG_HELLO_ACK, HELLO_OK) < 0) {
        free_stranger(s);
        return;
    }
    *s = (struct stranger){ 0 };
    link_up(m, node, l, &hello);
}

static void serve_stranger(struct mesh *m, struct stranger *s)
{
    struct header h;
    uint8_t *body;

    if (s->refused)
        return;
    if (link_next(s->link, &h, &body)) {
        judge_hello(m, s, &h, body);
        free(body);
        return;
    }
    if (link_other_version(s->link)) {
        refuse(m, s, HELLO_OTHER_VERSION, "?");
        return;
    }
    const char *why = link_lost(s->link);
    if (!why)
        return;
    if (link_garbage(s->link)) {
        char remote[LINK_REMOTE_BYTES];
        log_event(LOG_WARN, "garbage-on-link", "remote=%s reason=\"%s\"",
                  link_remote(s->link, remote), why);
    }
    free_stranger(s);
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
        wake(m);
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
    wake(m);
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

static void on_async(uv_async_t *async)
{
    struct mesh *m = async->data;

    if (m->closing)
        return;
    if (atomic_exchange(&m->accepted, false))
        accept_ended(m);
    for (int32_t i = 0; i < m->config->nnodes; i++) {
        struct peer *p = &m->peer[i];
        if (atomic_exchange(&p->dialled, false))
            dial_ended(m, i);
        if (p->greeting)
            serve_greeting(m, i);
        if (p->link)
            serve_peer(m, i);
    }
    for (int i = 0; i < MAX_STRANGERS; i++)
        if (m->stranger[i].link)
            serve_stranger(m, &m->stranger[i]);
    serve_echoes(m);
}

static void keep_alive(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    const int64_t now = now_ms(m), silent = link_silent_ms(p->link);

    link_give_back(p->link);
    link_nudge(p->link);
    if (silent >= m->config->lost_ms) {
        char why[64];
        snprintf(why, sizeof why, "silent for %lld ms", (long long)silent);
        link_down(m, node, why);
        return;
    }
    /* What waits in the queue is as good a sign of life. */
    if (now - p->beat_ms >= m->config->heartbeat_ms && link_backlog(p->link) == 0) {
        p->beat_ms = now;
        (void)send_empty(p->link, MSG_HEARTBEAT); /* a failure shows in link_lost() */
    }
}

static void tend_peer(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    const int64_t now = now_ms(m);

    if (p->link)
        keep_alive(m, node);
    else if (p->greeting && now - p->hello_ms >= HELLO_MS)
        greeting_failed(m, node, "link-failed", "no answer to HELLO");
    else if (p->dialer && !p->dialling && !p->greeting && now >= p->redial_ms)
        dial(p);
}

static void on_tick(uv_timer_t *timer)
{
    struct mesh *m = timer->data;

    for (int32_t i = 0; i < m->config->nnodes; i++)
        tend_peer(m, i);
    for (int i = 0; i < MAX_STRANGERS; i++) {
        struct stranger *s = &m->stranger[i];
        if (!s->link || now_ms(m) < s->until_ms)
            continue;
        if (!s->refused) {
            char remote[LINK_REMOTE_BYTES];
            log_event(LOG_WARN, "peer-refused", "remote=%s reason=\"no HELLO within %d ms\"",
                      link_remote(s->link, remote), HELLO_MS);
        }
        free_stranger(s);
    }
    if (m->listener && !m->accepting && !atomic_load(&m->accepted))
        accept_next(m);
}

/* ---- life */

/* A halo is small and waited for: with Nagle's algorithm each would wait for the other side's
 * delayed acknowledgement, 40 ms.  Addresses without TCP do not know the option. */
static int without_delay(int rv) { return rv == NNG_ENOTSUP ? 0 : rv; }

static int listen_at(struct mesh *m, struct diag *why)
{
    const char *address = m->config->node[m->self].address;
    int rv = nng_stream_listener_alloc(&m->listener, address);

    if (rv == 0)
        rv = without_delay(nng_stream_listener_set_bool(m->listener, NNG_OPT_TCP_NODELAY, true));
    if (rv == 0)
        rv = nng_stream_listener_listen(m->listener);
    if (rv == 0)
        rv = nng_aio_alloc(&m->accept, on_accepted, m);
    if (rv == NNG_EADDRINUSE)
        return diag(why, -EADDRINUSE, "%s: cannot listen at %s: another process does",
                    name_of(m, m->self), address);
    if (rv != 0)
        return diag(why, errno_of(rv), "%s: cannot listen at %s: %s", name_of(m, m->self), address,
                    nng_strerror(rv));
    return 0;
}

static int prepare_dial(struct mesh *m, int32_t node, struct diag *why)
{
    struct peer *p = &m->peer[node];
    const char *address = m->config->node[node].address;
    int rv = nng_stream_dialer_alloc(&p->dialer, address);

    if (rv == 0)
        rv = without_delay(nng_stream_dialer_set_bool(p->dialer, NNG_OPT_TCP_NODELAY, true));
    if (rv == 0)
        rv = nng_aio_alloc(&p->dial, on_dialled, p);
    if (rv != 0)
        return diag(why, errno_of(rv), "%s: cannot dial %s: %s", name_of(m, node), address,
                    nng_strerror(rv));
    /* TCP asks a dead host ever more rarely: start afresh, or it is found late. */
    nng_aio_set_timeout(p->dial, DIAL_MS);
    return 0;
}

static void free_dialer(struct peer *p)
{
    if (p->dialer)
        nng_stream_dialer_close(p->dialer);
    if (p->dial) {
        nng_aio_stop(p->dial);
        /* A connection that was made and that nobody has looked at. */
        if (atomic_load(&p->dialled) && nng_aio_result(p->dial) == 0)
            nng_stream_free(nng_aio_get_output(p->dial, 0));
        nng_aio_free(p->dial);
    }
    if (p->dialer)
        nng_stream_dialer_free(p->dialer);
    p->dialer = NULL;
    p->dial = NULL;
}

static void free_listener(struct mesh *m)
{
    if (m->listener)
        nng_stream_listener_close(m->listener);
    if (m->accept) {
        nng_aio_stop(m->accept);
        if (atomic_load(&m->accepted) && nng_aio_result(m->accept) == 0)
            nng_stream_free(nng_aio_get_output(m->accept, 0));
        nng_aio_free(m->accept);
    }
    if (m->listener)
        nng_stream_listener_free(m->listener);
    m->listener = NULL;
    m->accept = NULL;
}

void mesh_free(struct mesh *m)
{
    if (!m)
        return;
    free_listener(m);
    for (int32_t i = 0; i < m->config->nnodes; i++) {
        struct peer *p = &m->peer[i];
        free_dialer(p);
        link_free(p->greeting);
        pthread_mutex_destroy(&p->lock);
        pthread_mutex_destroy(&p->pull);
    }
    for (struct echo *e; (e = next_echo(m)) != NULL;)
        free(e);
    pthread_mutex_destroy(&m->echo_lock);
    pthread_rwlock_destroy(&m->self_lock);
    free(m);
}

int mesh_open(struct mesh **out, uv_loop_t *loop, const struct config *config, int32_t self,
              const struct mesh_events *events, struct diag *why)
{
    struct mesh *m = calloc(1, sizeof *m);
    int err = 0;

    if (!m)
        return diag(why, -ENOMEM, "the mesh: out of memory");
    m->loop = loop;
    m->config = config;
    m->self = self;
    m->events = *events;
    m->last_echo = &m->first_echo;
    pthread_mutex_init(&m->echo_lock, NULL);
    pthread_rwlock_init(&m->self_lock, NULL);
    for (int32_t i = 0; i < config->nnodes; i++) {
        pthread_mutex_init(&m->peer[i].lock, NULL);
        pthread_mutex_init(&m->peer[i].pull, NULL);
        m->peer[i].mesh = m;
        m->peer[i].rtt_us = -1;
        m->peer[i].backoff_ms = REDIAL_FIRST_MS;
    }
    if (getrandom(&m->boot, sizeof m->boot, 0) != sizeof m->boot)
        err = diag(why, -errno, "no random number for the boot id: %s", strerror(errno));
    if (err == 0 && self > 0)
        err = listen_at(m, why);
    for (int32_t i = self + 1; err == 0 && i < config->nnodes; i++)
        err = prepare_dial(m, i, why);
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
    m->async.data = m->timer.data = m;
    m->handles = 2;
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

    if (!all_sent(m) && now_ms(m) < m->close_by_ms)
        return;
    for (int32_t i = 0; i < m->config->nnodes; i++)
        if (m->peer[i].link)
            drop_link(m, i);
    for (int i = 0; i < MAX_STRANGERS; i++)
        free_stranger(&m->stranger[i]);
    free_listener(m);
    for (int32_t i = 0; i < m->config->nnodes; i++) {
        free_dialer(&m->peer[i]);
        link_free(m->peer[i].greeting);
        m->peer[i].greeting = NULL;
    }
    pthread_rwlock_wrlock(&m->self_lock);
    m->shut = true;
    pthread_rwlock_unlock(&m->self_lock);
    /* Neither NNG nor a sender can wake the loop any more. */
    uv_close((uv_handle_t *)&m->async, on_handle_closed);
    uv_close((uv_handle_t *)&m->timer, on_handle_closed);
}

void mesh_close(struct mesh *m, void (*closed)(void *ctx), void *ctx)
{
    m->closing = true;
    m->closed = closed;
    m->closed_ctx = ctx;
    m->close_by_ms = now_ms(m) + CLOSE_MS;
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

bool mesh_pull(struct mesh *m, int32_t node, bool (*done)(void *ctx), void *ctx)
{
    struct peer *p = &m->peer[node];

    pthread_mutex_lock(&p->pull);
    pthread_mutex_lock(&p->lock);
    struct link *l = p->link;
    pthread_mutex_unlock(&p->lock);
    const bool pulled = l && link_pull(l, done, ctx);
    pthread_mutex_unlock(&p->pull);
    return pulled;
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

void mesh_stats(struct mesh *m, int32_t node, struct mesh_link_stats *s)
{
    struct peer *p = &m->peer[node];

    *s = p->before;
    if (p->link)
        link_stats(p->link, s);
    s->rtt_us = p->rtt_us;
}
