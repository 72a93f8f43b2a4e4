#include "daemon/mesh_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/tls_link.h"

enum {
    HELLO_MS = 1000,       /* how long a stranger may take for it, and a node for the answer */
    LINGER_MS = 200,       /* a refusal gets this long to reach the peer */
    REDIAL_LAST_MS = 1000, /* the pauses grow up to this */
    DIAL_MS = 2000,
};

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void say_hello(const struct mesh *m, struct msg_hello *hello, enum hello_status status)
{
    *hello = (struct msg_hello){ .status = status, .boot = m->boot };
    memcpy(hello->cluster, m->config->cluster, sizeof hello->cluster);
    memcpy(hello->node, mesh_name(m, m->self), sizeof hello->node);
    memcpy(hello->config, m->config->sha, sizeof hello->config);
    hello->threads = (uint16_t)config_threads(m->config, m->self);
    hello->clock_ms = wall_ms();
    snprintf(hello->version, sizeof hello->version, "%s", SPLITD_VERSION);
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

/* Who reaches `node` does so over TLS. */
static bool is_secure(const struct mesh *m, int32_t node)
{
    return m->tls && strncmp(m->config->node[node].address, "tcp://", 6) == 0;
}

/* ---- dialling */

static void on_dialled(void *arg)
{
    struct peer *p = arg;

    atomic_store(&p->dialled, true);
    mesh_wake(p->mesh);
}

static void dial(struct peer *p)
{
    p->dialling = true;
    nng_stream_dialer_dial(p->dialer, p->dial);
}

static void redial_later(struct mesh *m, struct peer *p)
{
    p->redial_ms = mesh_now_ms(m) + p->backoff_ms;
    p->backoff_ms = p->backoff_ms * 2 < REDIAL_LAST_MS ? p->backoff_ms * 2 : REDIAL_LAST_MS;
}

/* Gives up on a stream that never became a link.  Says why once, not at every attempt. */
static void greeting_failed(struct mesh *m, int32_t node, const char *event, const char *reason)
{
    struct peer *p = &m->peer[node];

    if (strncmp(p->complaint, reason, sizeof p->complaint - 1) != 0) {
        snprintf(p->complaint, sizeof p->complaint, "%s", reason);
        log_event(LOG_WARN, event, "node=%s address=%s reason=\"%s\"", mesh_name(m, node),
                  m->config->node[node].address, reason);
    }
    link_free(p->greeting);
    p->greeting = NULL;
    redial_later(m, p);
}

static void greet(struct mesh *m, int32_t node, nng_stream *s)
{
    struct peer *p = &m->peer[node];

    if (mesh_new_link(m, &p->greeting, s, is_secure(m, node)) < 0) {
        p->greeting = NULL;
        redial_later(m, p);
        return;
    }
    p->hello_ms = mesh_now_ms(m);
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
        snprintf(reason, sizeof reason, "it says that %s %s", mesh_name(m, m->self),
                 hello_status_text(ack.status));
        greeting_failed(m, node, "peer-refuses-us", reason);
        return;
    }
    if (strcmp(ack.cluster, m->config->cluster) != 0) {
        greeting_failed(m, node, "peer-refused", hello_status_text(HELLO_OTHER_CLUSTER));
        return;
    }
    if (strcmp(ack.node, mesh_name(m, node)) != 0) {
        char reason[160];
        snprintf(reason, sizeof reason, "the node there is called %s", ack.node);
        greeting_failed(m, node, "peer-refused", reason);
        return;
    }
    p->greeting = NULL;
    mesh_link_up(m, node, l, &ack);
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
    mesh_wake(m);
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

/* A free place; when there is none, that of the one who has been silent for longest, so that
 * whoever fills them all keeps nobody out. */
static struct stranger *free_place(struct mesh *m)
{
    struct stranger *oldest = m->stranger;

    for (struct stranger *s = m->stranger; s < m->stranger + MAX_STRANGERS; s++) {
        if (!s->link)
            return s;
        if (s->until_ms < oldest->until_ms)
            oldest = s;
    }
    char remote[LINK_REMOTE_BYTES];
    log_event(LOG_WARN, "peer-refused", "remote=%s reason=\"%d streams have not said HELLO\"",
              link_remote(oldest->link, remote), MAX_STRANGERS);
    free_stranger(oldest);
    return oldest;
}

static void meet(struct mesh *m, nng_stream *stream)
{
    struct stranger *s = free_place(m);

    if (mesh_new_link(m, &s->link, stream, is_secure(m, m->self)) < 0) {
        s->link = NULL;
        return;
    }
    s->until_ms = mesh_now_ms(m) + HELLO_MS;
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

/* Answers a stranger who will not be linked, and lets the answer arrive. */
static void answer(struct mesh *m, struct stranger *s, enum hello_status status)
{
    if (send_hello(m, s->link, MSG_HELLO_ACK, status) < 0) {
        free_stranger(s);
        return;
    }
    s->answered = true;
    s->until_ms = mesh_now_ms(m) + LINGER_MS;
}

static void refuse(struct mesh *m, struct stranger *s, enum hello_status status, const char *who)
{
    char remote[LINK_REMOTE_BYTES];

    log_event(LOG_WARN, "peer-refused", "remote=%s node=%s reason=\"%s\"",
              link_remote(s->link, remote), who, hello_status_text(status));
    answer(m, s, status);
}

/* The node called `name` that should dial us; -ENOENT if there is none. */
static int32_t dialler_called(const struct mesh *m, const char *name)
{
    for (int32_t i = 0; i < m->self; i++)
        if (strcmp(mesh_name(m, i), name) == 0)
            return i;
    return -ENOENT;
}

/* A node that was started anew replaces its predecessor once that is silent, so that nobody takes
 * the place of one that lives: it will dial again soon.  One that is the same process still has its
 * link, whatever it thinks. */
static bool is_duplicate(const struct mesh *m, int32_t node, const struct msg_hello *hello)
{
    const struct peer *p = &m->peer[node];

    return p->link &&
           (p->boot == hello->boot || link_silent_ms(p->link) < 2 * m->config->heartbeat_ms);
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
    if (hello.node[0] == '\0') {
        answer(m, s, HELLO_OK); /* it only asks who is there */
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
        mesh_link_down(m, node, "was started anew");
    if (send_hello(m, l, MSG_HELLO_ACK, HELLO_OK) < 0) {
        free_stranger(s);
        return;
    }
    *s = (struct stranger){ 0 };
    mesh_link_up(m, node, l, &hello);
}

static void serve_stranger(struct mesh *m, struct stranger *s)
{
    struct header h;
    uint8_t *body;

    if (s->answered)
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
    char remote[LINK_REMOTE_BYTES];
    if (link_garbage(s->link))
        log_event(LOG_WARN, "garbage-on-link", "remote=%s reason=\"%s\"",
                  link_remote(s->link, remote), why);
    else
        log_event(LOG_WARN, "link-failed", "remote=%s reason=\"%s\"", link_remote(s->link, remote),
                  why);
    free_stranger(s);
}

/* ---- life */

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

/* Addresses without TCP do not know its options. */
static int if_tcp(int rv) { return rv == NNG_ENOTSUP ? 0 : rv; }

/* A halo is small and waited for: with Nagle's algorithm each would wait for the other side's
 * delayed acknowledgement, 40 ms.  Keepalive is for connections that lost their other end while the
 * loop, which sends heartbeats, could not run. */
static int tune_listener(nng_stream_listener *l)
{
    const int rv = if_tcp(nng_stream_listener_set_bool(l, NNG_OPT_TCP_NODELAY, true));
    return rv != 0 ? rv : if_tcp(nng_stream_listener_set_bool(l, NNG_OPT_TCP_KEEPALIVE, true));
}

static int tune_dialer(nng_stream_dialer *d)
{
    const int rv = if_tcp(nng_stream_dialer_set_bool(d, NNG_OPT_TCP_NODELAY, true));
    return rv != 0 ? rv : if_tcp(nng_stream_dialer_set_bool(d, NNG_OPT_TCP_KEEPALIVE, true));
}

enum { URL_BYTES = CONFIG_ADDRESS_MAX + 8 };

/* An address of cluster.json for NNG: tcp:// may mean TLS. */
static void url_of(const struct mesh *m, int32_t node, char url[URL_BYTES])
{
    snprintf(url, URL_BYTES, "%s%s", is_secure(m, node) ? "tls+" : "",
             m->config->node[node].address);
}

static int secure_listener(const struct mesh *m, nng_stream_listener *l)
{
    nng_tls_config *config;
    int rv = tls_link_listener(m->tls, &config);

    if (rv != 0)
        return rv;
    rv = nng_stream_listener_set_ptr(l, NNG_OPT_TLS_CONFIG, config);
    nng_tls_config_free(config); /* the listener holds it */
    return rv;
}

static int secure_dialer(const struct mesh *m, int32_t node, nng_stream_dialer *d)
{
    nng_tls_config *config;
    int rv = tls_link_dialler(m->tls, mesh_name(m, node), &config);

    if (rv != 0)
        return rv;
    rv = nng_stream_dialer_set_ptr(d, NNG_OPT_TLS_CONFIG, config);
    nng_tls_config_free(config);
    return rv;
}

static int listen_at(struct mesh *m, struct diag *why)
{
    char address[URL_BYTES];

    url_of(m, m->self, address);
    int rv = nng_stream_listener_alloc(&m->listener, address);
    if (rv == 0 && is_secure(m, m->self))
        rv = secure_listener(m, m->listener);
    if (rv == 0)
        rv = tune_listener(m->listener);
    if (rv == 0)
        rv = nng_stream_listener_listen(m->listener);
    if (rv == 0)
        rv = nng_aio_alloc(&m->accept, on_accepted, m);
    if (rv == NNG_EADDRINUSE)
        return diag(why, -EADDRINUSE, "%s: cannot listen at %s: another process does",
                    mesh_name(m, m->self), address);
    if (rv != 0)
        return diag(why, errno_of(rv), "%s: cannot listen at %s: %s", mesh_name(m, m->self),
                    address, nng_strerror(rv));
    return 0;
}

static int prepare_dial(struct mesh *m, int32_t node, struct diag *why)
{
    struct peer *p = &m->peer[node];
    char address[URL_BYTES];

    url_of(m, node, address);
    int rv = nng_stream_dialer_alloc(&p->dialer, address);
    if (rv == 0 && is_secure(m, node))
        rv = secure_dialer(m, node, p->dialer);
    if (rv == 0)
        rv = tune_dialer(p->dialer);
    if (rv == 0)
        rv = nng_aio_alloc(&p->dial, on_dialled, p);
    if (rv != 0)
        return diag(why, errno_of(rv), "%s: cannot dial %s: %s", mesh_name(m, node), address,
                    nng_strerror(rv));
    /* TCP asks a dead host ever more rarely: start afresh, or it is found late. */
    nng_aio_set_timeout(p->dial, DIAL_MS);
    return 0;
}

int meet_open(struct mesh *m, struct diag *why)
{
    /* Nobody dials the first node, but some ask who is there. */
    int err = listen_at(m, why);

    for (int32_t i = m->self + 1; err == 0 && i < m->config->nnodes; i++)
        err = prepare_dial(m, i, why);
    return err;
}

static void serve_node(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];

    if (atomic_exchange(&p->dialled, false))
        dial_ended(m, node);
    if (p->greeting)
        serve_greeting(m, node);
}

void meet_serve(struct mesh *m)
{
    if (atomic_exchange(&m->accepted, false))
        accept_ended(m);
    for (int32_t i = 0; i < m->config->nnodes; i++)
        serve_node(m, i);
    for (int i = 0; i < MAX_STRANGERS; i++)
        if (m->stranger[i].link)
            serve_stranger(m, &m->stranger[i]);
}

static void tend_node(struct mesh *m, int32_t node)
{
    struct peer *p = &m->peer[node];
    const int64_t now = mesh_now_ms(m);

    if (p->link)
        return;
    if (p->greeting && now - p->hello_ms >= HELLO_MS)
        greeting_failed(m, node, "link-failed", "no answer to HELLO");
    else if (p->dialer && !p->dialling && !p->greeting && now >= p->redial_ms)
        dial(p);
}

static void tend_stranger(struct mesh *m, struct stranger *s)
{
    char remote[LINK_REMOTE_BYTES];

    if (!s->link || mesh_now_ms(m) < s->until_ms)
        return;
    if (!s->answered)
        log_event(LOG_WARN, "peer-refused", "remote=%s reason=\"no HELLO within %d ms\"",
                  link_remote(s->link, remote), HELLO_MS);
    free_stranger(s);
}

void meet_tend(struct mesh *m)
{
    for (int32_t i = 0; i < m->config->nnodes; i++)
        tend_node(m, i);
    for (int i = 0; i < MAX_STRANGERS; i++)
        tend_stranger(m, &m->stranger[i]);
    if (m->listener && !m->accepting && !atomic_load(&m->accepted))
        accept_next(m);
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

void meet_close(struct mesh *m)
{
    for (int i = 0; i < MAX_STRANGERS; i++)
        free_stranger(&m->stranger[i]);
    free_listener(m);
    for (int32_t i = 0; i < m->config->nnodes; i++) {
        struct peer *p = &m->peer[i];
        free_dialer(p);
        link_free(p->greeting);
        p->greeting = NULL;
    }
}
