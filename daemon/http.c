#include "daemon/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/http_guard.h"
#include "daemon/log.h"

enum {
    SILENT_SECONDS = 10,
    MAX_CONNECTIONS = 512,         /* of libmicrohttpd, which then accepts no more */
    CROWD = 448,                   /* from here on a new client costs the slowest its place */
    CONNECTION_BYTES = 128 * 1024, /* headers, and twice what is received in one piece */
    BODIES = 4,                    /* bodies of the largest size that may be held at once */
    EAGER = 64,    /* times what has come of a body: so much room is made, where more will come */
    TICK_MS = 250, /* MHD 0.9.75 says "no timeout" at its connection limit and then hangs */
    FLUSH_MS = 200,
    BACKLOG = 128,
};

struct http_server {
    uv_loop_t *loop;
    struct MHD_Daemon *mhd;
    struct guard guard;
    uv_poll_t poll;
    uv_timer_t timer;
    http_handler handler;
    void *ctx;
    const char *aligned;         /* http_options.aligned */
    size_t max_body, held_bytes; /* of all calls' bodies */
    uint16_t port;
    int32_t open_handles;
    struct http_call *calls; /* all that are not freed */
    bool closing, stopped;
    uint64_t stop_at; /* closing: no later than this, uv_now() */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

enum call_state {
    CALL_READING,  /* the body comes in */
    CALL_WAITING,  /* with the handler */
    CALL_ANSWERED, /* `response` is there, MHD has not asked for it */
    CALL_QUEUED    /* MHD has the response */
};

struct http_call {
    struct http_server *server;
    struct http_call *next, **link;
    struct MHD_Connection *connection; /* NULL once it is gone */
    struct visitor *visitor;           /* the connection's; as long as that is there */
    enum call_state state;
    bool suspended;
    uint8_t *store; /* of the body, which begins at `shift` */
    size_t shift, len, cap;
    size_t expected; /* bytes of the body; 0: it comes in chunks */
    size_t dropped;  /* bytes of a body that is refused */
    unsigned status; /* of the answer; 0 while there is none */
    size_t answer_len;
    struct MHD_Response *response;
};

static void run(struct http_server *s);

static void on_timer(uv_timer_t *t) { run(t->data); }

/* Lets MHD work in the next turn of the loop, never within its own callbacks. */
static void wake(struct http_server *s)
{
    if (!s->stopped)
        uv_timer_start(&s->timer, on_timer, 0, 0);
}

/* ---- connections */

static struct visitor *visitor_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = cls;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*socket_context)
            guard_leave(&s->guard, *socket_context);
        free(*socket_context);
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct visitor *v = info ? malloc(sizeof *v) : NULL;
    *socket_context = v;
    if (v) /* else its requests are refused */
        guard_enter(&s->guard, v, info->connect_fd, uv_now(s->loop));
}

/* ---- calls */

static struct http_call *call_new(struct http_server *s, struct MHD_Connection *connection)
{
    struct http_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->server = s;
    call->connection = connection;
    call->visitor = visitor_of(connection);
    call->next = s->calls;
    call->link = &s->calls;
    if (s->calls)
        s->calls->link = &call->next;
    s->calls = call;
    return call;
}

static void call_drop_body(struct http_call *call)
{
    call->server->held_bytes -= call->cap;
    free(call->store);
    call->store = NULL;
    call->len = call->cap = 0;
}

static void maybe_closed(struct http_server *s);

static void call_free(struct http_call *call)
{
    struct http_server *s = call->server;

    *call->link = call->next;
    if (call->next)
        call->next->link = call->link;
    call_drop_body(call);
    if (call->response)
        MHD_destroy_response(call->response);
    free(call);
    maybe_closed(s);
}

/* ---- responses */

static struct MHD_Response *make_response(const char *content_type, const struct http_field *fields,
                                          size_t nfields, uint8_t *body, size_t len)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(
        len, body, body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!r) {
        free(body);
        return NULL;
    }
    if (content_type)
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    for (size_t i = 0; i < nfields; i++)
        MHD_add_response_header(r, fields[i].name, fields[i].value);
    return r;
}

/* ---- refusals */

static void note_refusal(struct MHD_Connection *connection, unsigned status, const char *reason)
{
    const struct visitor *v = visitor_of(connection);
    char remote[VISITOR_REMOTE_BYTES];
    const bool matters = status == MHD_HTTP_UNAUTHORIZED || status >= 500;

    log_event(matters ? LOG_WARN : LOG_INFO, "request-refused", "remote=%s status=%u reason=\"%s\"",
              v ? visitor_remote(v, remote) : "?", status, reason);
}

void http_note_refusal(const struct http_call *call, unsigned status, const char *reason)
{
    if (call->connection)
        note_refusal(call->connection, status, reason);
}

/* Before the handler is asked; the connection ends with it. */
static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status,
                              const char *sentence)
{
    static const struct http_field close_field = { MHD_HTTP_HEADER_CONNECTION, "close" };
    static const struct http_field busy[] = { { MHD_HTTP_HEADER_CONNECTION, "close" },
                                              { MHD_HTTP_HEADER_RETRY_AFTER, "1" } };
    const bool retry = status == MHD_HTTP_SERVICE_UNAVAILABLE;
    char *text = NULL;

    note_refusal(connection, status, sentence);
    const int n = asprintf(&text, "{\"error\":\"%s\"}", sentence);
    if (n < 0)
        return MHD_NO;
    struct MHD_Response *r = make_response("application/json", retry ? busy : &close_field,
                                           retry ? 2 : 1, (uint8_t *)text, (size_t)n);
    if (!r)
        return MHD_NO;
    const enum MHD_Result ok = MHD_queue_response(connection, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result queue_answer(struct http_call *call)
{
    struct MHD_Response *r = call->response;

    call->response = NULL;
    call->state = CALL_QUEUED;
    guard_answer(call->visitor, call->answer_len, uv_now(call->server->loop));
    if (!r)
        return refuse(call->connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    if (call->server->closing)
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    const enum MHD_Result ok = MHD_queue_response(call->connection, call->status, r);
    MHD_destroy_response(r);
    return ok;
}

void http_reply(struct http_call *call, unsigned status, const char *content_type,
                const struct http_field *fields, size_t nfields, uint8_t *body, size_t len)
{
    call_drop_body(call);
    if (!call->connection) { /* the server was closed meanwhile */
        free(body);
        call_free(call);
        return;
    }
    call->response = make_response(content_type, fields, nfields, body, len);
    call->status = status;
    call->answer_len = len;
    call->state = CALL_ANSWERED;
    if (call->suspended) {
        call->suspended = false;
        MHD_resume_connection(call->connection);
        wake(call->server);
    }
}

const char *http_header(const struct http_call *call, const char *name)
{
    return call->connection ? MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name)
                            : NULL;
}

/* ---- requests */

struct framing {
    int32_t lengths, codings;
    const char *length, *coding;
};

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    struct framing *f = cls;
    (void)kind;
    if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        f->lengths++;
        f->length = value;
    } else if (strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        f->codings++;
        f->coding = value;
    }
    return MHD_YES;
}

/* RFC 9112 section 6.3: two readers that frame a message differently can be played against
 * each other (request smuggling).  NULL if the framing is beyond doubt. */
static const char *framing_doubt(const struct framing *f)
{
    if (f->lengths > 0 && f->codings > 0)
        return "Content-Length and Transfer-Encoding exclude each other";
    if (f->lengths > 1)
        return "more than one Content-Length";
    if (f->codings > 1 ||
        (f->codings == 1 && (!f->coding || strcasecmp(f->coding, "chunked") != 0)))
        return "the only Transfer-Encoding that is known here is chunked";
    if (f->lengths == 1 &&
        (!f->length || f->length[0] == '\0' || f->length[strspn(f->length, "0123456789")] != '\0'))
        return "Content-Length is not a number";
    return NULL;
}

/* Reads decimal `text`, digits only.  False when it is more than `max`. */
static bool read_size(const char *text, size_t max, size_t *to)
{
    size_t value = 0;
    for (; *text; text++) {
        const size_t digit = (size_t)(*text - '0');
        if (digit > 9 || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *to = value;
    return value <= max;
}

/* How far from an aligned place the body begins. */
static size_t shift_of(const struct http_server *s, struct MHD_Connection *connection)
{
    enum { ALIGN = _Alignof(max_align_t) };
    size_t place = 0;
    const char *text =
        s->aligned ? MHD_lookup_connection_value(connection, MHD_HEADER_KIND, s->aligned) : NULL;

    if (!text || !read_size(text, s->max_body, &place))
        return 0;
    return (ALIGN - place % ALIGN) % ALIGN;
}

static enum MHD_Result begin(struct http_server *s, struct MHD_Connection *connection, void **slot)
{
    struct framing f = { 0 };
    size_t expected = 0;
    char text[80];

    MHD_get_connection_values(connection, MHD_HEADER_KIND, see_header, &f);
    const char *doubt = framing_doubt(&f);
    if (doubt)
        return refuse(connection, MHD_HTTP_BAD_REQUEST, doubt);
    if (f.length && !read_size(f.length, s->max_body, &expected)) {
        snprintf(text, sizeof text, "the body is larger than %zu bytes", s->max_body);
        return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, text);
    }
    if (s->closing)
        return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the server is stopping");
    struct visitor *v = visitor_of(connection);
    struct http_call *call = v ? call_new(s, connection) : NULL;
    *slot = call;
    if (!call)
        return MHD_NO;
    call->expected = expected;
    call->shift = shift_of(s, connection);
    guard_begin_body(v, uv_now(s->loop));
    return MHD_YES;
}

/* Grows the body's storage to `need` bytes: at once to all that are announced, unless only a small
 * part of these has come.  Returns 0, -ENOBUFS or -ENOMEM. */
static int reserve(struct http_call *call, size_t need)
{
    struct http_server *s = call->server;

    if (need <= call->cap)
        return 0;
    const bool announced = call->expected >= need;
    const size_t most = announced ? call->expected : s->max_body;
    const size_t times = announced ? EAGER : 2;
    const size_t cap = need > most / times ? most : need * times;
    if (s->held_bytes - call->cap + cap > BODIES * s->max_body)
        return -ENOBUFS;
    uint8_t *store = realloc(call->store, call->shift + cap);
    if (!store)
        return -ENOMEM;
    s->held_bytes += cap - call->cap;
    call->store = store;
    call->cap = cap;
    return 0;
}

/* MHD takes no answer in the middle of a body: after a failure the rest is thrown away, and
 * when it does not end soon, the connection is.  Returns whether to read on. */
static bool receive(struct http_call *call, const char *data, size_t len)
{
    const size_t max_body = call->server->max_body;

    guard_got_body(call->visitor, call->len + call->dropped + len);
    if (call->status == 0) {
        if (len > max_body - call->len)
            call->status = MHD_HTTP_CONTENT_TOO_LARGE;
        else if (reserve(call, call->len + len) < 0)
            call->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (call->status != 0) {
        call_drop_body(call);
        call->dropped += len;
        return call->dropped <= max_body;
    }
    memcpy(call->store + call->shift + call->len, data, len);
    call->len += len;
    return true;
}

static const uint8_t *body_of(const struct http_call *call)
{
    return call->store ? call->store + call->shift : NULL;
}

static enum MHD_Result refuse_body(struct http_call *call)
{
    const unsigned status = call->status;
    char text[80];

    call->state = CALL_QUEUED;
    if (status == MHD_HTTP_CONTENT_TOO_LARGE)
        snprintf(text, sizeof text, "the body is larger than %zu bytes", call->server->max_body);
    else
        snprintf(text, sizeof text, "too many large requests at once");
    return refuse(call->connection, status, text);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **slot)
{
    struct http_server *s = cls;
    struct http_call *call = *slot;
    (void)version;

    if (!call)
        return begin(s, connection, slot);
    if (call->state == CALL_READING && *data_len > 0) {
        const bool go_on = receive(call, data, *data_len);
        *data_len = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    if (call->state == CALL_READING) {
        if (call->status != 0)
            return refuse_body(call);
        call->state = CALL_WAITING;
        guard_wait(call->visitor);
        s->handler(s->ctx, call, method, url, body_of(call), call->len);
        if (call->state == CALL_WAITING) {
            call->suspended = true;
            MHD_suspend_connection(connection);
            return MHD_YES;
        }
    }
    if (call->state == CALL_ANSWERED)
        return queue_answer(call);
    if (call->state == CALL_WAITING) /* http_close() woke it */
        return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the server is stopping");
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    struct http_call *call = *slot;
    (void)cls, (void)connection;

    if (!call)
        return;
    *slot = NULL;
    if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        guard_expect_head(call->visitor, uv_now(call->server->loop));
    call->connection = NULL;
    call->visitor = NULL;
    if (call->state != CALL_WAITING) /* else the handler still holds it */
        call_free(call);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
    char text[256];
    (void)cls;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_event(LOG_INFO, "http-error", "text=\"%s\"", text);
}

/* ---- the loop */

static void stop(struct http_server *s);

static void run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;

    if (s->stopped)
        return;
    MHD_run(s->mhd);
    guard_sweep(&s->guard, uv_now(s->loop));
    if (s->closing && (!s->calls || uv_now(s->loop) >= s->stop_at)) {
        stop(s);
        return;
    }
    if (MHD_get_timeout(s->mhd, &ms) != MHD_YES || ms > TICK_MS)
        ms = TICK_MS;
    if (s->closing && ms > 10)
        ms = 10;
    uv_timer_start(&s->timer, on_timer, ms, 0);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    run(poll->data);
}

/* ---- opening and closing */

/* libmicrohttpd takes texts that it only reads as void pointers. */
static void *unconst(const char *text)
{
    void *p;
    memcpy(&p, &text, sizeof p);
    return p;
}

static int listen_on(const struct addrinfo *at)
{
    const int one = 1;
    int err;
    const int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    err = -errno;
    close(fd);
    return err;
}

static int open_socket(const char *host, uint16_t port, struct diag *why)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *found;
    char service[8];

    snprintf(service, sizeof service, "%u", port);
    const int gai = getaddrinfo(host, service, &hints, &found);
    if (gai != 0)
        return diag(why, -EADDRNOTAVAIL, "http.listen: %s: %s", host, gai_strerror(gai));
    const int fd = listen_on(found);
    freeaddrinfo(found);
    if (fd < 0)
        return diag(why, fd, "http.listen: %s:%u: %s", host, port, strerror(-fd));
    return fd;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    char service[8];

    if (getsockname(fd, (struct sockaddr *)&at, &len) < 0 ||
        getnameinfo((struct sockaddr *)&at, len, NULL, 0, service, sizeof service,
                    NI_NUMERICSERV) != 0)
        return 0;
    return (uint16_t)strtoul(service, NULL, 10);
}

static struct MHD_Daemon *start_mhd(struct http_server *s, const struct http_options *o, int fd)
{
    const bool secure = o->certificate != NULL;
    const unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (secure ? MHD_USE_TLS : 0);
    static const char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    const struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, unconst(o->certificate) },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, unconst(o->key) },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, unconst(priorities) },
        { MHD_OPTION_END, 0, NULL },
    };
    const struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };

    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENT_SECONDS, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)MAX_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_ARRAY, secure ? tls : none, MHD_OPTION_END);
}

int http_open(struct http_server **out, uv_loop_t *loop, const struct http_options *o,
              http_handler handler, void *ctx, struct diag *why)
{
    struct http_server *s = calloc(1, sizeof *s);
    int rc;

    if (!s)
        return diag(why, -ENOMEM, "http: out of memory");
    s->loop = loop;
    s->handler = handler;
    s->ctx = ctx;
    s->aligned = o->aligned;
    s->max_body = o->max_body;
    s->guard.most = CROWD;

    const int fd = open_socket(o->host, o->port, why);
    if (fd < 0) {
        rc = fd;
        goto fail;
    }
    s->port = port_of(fd);
    s->mhd = start_mhd(s, o, fd);
    if (!s->mhd) {
        close(fd);
        rc = diag(why, -EIO, "http.listen: %s:%u: libmicrohttpd does not start", o->host, o->port);
        goto fail;
    }

    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    rc = info ? uv_poll_init(loop, &s->poll, info->epoll_fd) : -ENOTSUP;
    if (rc < 0) {
        MHD_stop_daemon(s->mhd);
        diag(why, rc, "http.listen: %s:%u: %s", o->host, o->port, uv_strerror(rc));
        goto fail;
    }
    uv_timer_init(loop, &s->timer);
    s->open_handles = 2;
    s->poll.data = s->timer.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_poll);
    wake(s);
    *out = s;
    return 0;
fail:
    free(s);
    return rc;
}

uint16_t http_port(const struct http_server *s) { return s->port; }

static void maybe_closed(struct http_server *s)
{
    if (!s->stopped || s->open_handles > 0 || s->calls)
        return;
    s->closed(s->closed_ctx);
    free(s);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct http_server *s = h->data;
    s->open_handles--;
    maybe_closed(s);
}

/* MHD must not be stopped while a connection is suspended. */
static void resume_all(struct http_server *s)
{
    for (struct http_call *call = s->calls; call; call = call->next)
        if (call->suspended) {
            call->suspended = false;
            MHD_resume_connection(call->connection);
        }
}

static void stop(struct http_server *s)
{
    s->stopped = true;
    uv_close((uv_handle_t *)&s->poll, on_handle_closed); /* before its descriptor is gone */
    uv_close((uv_handle_t *)&s->timer, on_handle_closed);
    resume_all(s);
    MHD_run(s->mhd);
    MHD_stop_daemon(s->mhd); /* on_completed() for all that are left */
}

void http_close(struct http_server *s, void (*closed)(void *ctx), void *ctx)
{
    s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    s->stop_at = uv_now(s->loop) + FLUSH_MS;
    const MHD_socket fd = MHD_quiesce_daemon(s->mhd);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    wake(s);
}
