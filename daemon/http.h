/* daemon/http.h - libmicrohttpd on the libuv loop: bytes of requests in, responses out.
 *
 * Knows HTTP, not inference: daemon/api.c is the handler.  Refuses, with 400 and a closed
 * connection, what libmicrohttpd 0.9.75 lets through (Content-Length beside Transfer-Encoding, two
 * Content-Lengths, unknown codings), 413 beyond max_body (before reading it), and cuts off
 * clients that are silent for 10 s, that are slow (daemon/http_guard.h), and beyond 448
 * connections the slowest.  All bodies together may take 4 * max_body; a request beyond that gets
 * 503. */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "libsplit/diag.h"

struct http_server;
struct http_call; /* one request that waits for its answer */

/* Loop thread.  `body` stays until http_reply(), method and path only for the call.  The
 * handler answers now or later, exactly once, also after http_close() (the answer then goes
 * nowhere). */
typedef void (*http_handler)(void *ctx, struct http_call *call, const char *method,
                             const char *path, const uint8_t *body, size_t len);

struct http_options {
    const char *host; /* a numeric address or a name */
    uint16_t port;    /* 0: any free one */
    size_t max_body;
    /* A request header that holds a place in the body, counted in bytes: what lies there is aligned
     * for any type.  NULL: only the body's start is. */
    const char *aligned;
    const char *certificate, *key; /* PEM; NULL: no TLS */
};

/* Returns 0 or a negative errno with a sentence (-EADDRINUSE...).  `options` is read only here. */
int http_open(struct http_server **s, uv_loop_t *loop, const struct http_options *options,
              http_handler handler, void *ctx, struct diag *why);
uint16_t http_port(const struct http_server *s); /* the one that it listens on */

/* Stops listening, sends what is answered within 200 ms, closes every connection, and calls
 * `closed` on the loop once every call has been answered by its handler. */
void http_close(struct http_server *s, void (*closed)(void *ctx), void *ctx);

/* A request header, NULL if it is not there.  Valid from the handler until http_reply(), but
 * not after http_close(). */
const char *http_header(const struct http_call *call, const char *name);

/* One line in the log, request-refused, with who asked.  Call it before http_reply(). */
void http_note_refusal(const struct http_call *call, unsigned status, const char *reason);

struct http_field {
    const char *name, *value;
};
/* Takes `body` (free()d when sent; NULL with len 0: none), also when memory is short.
 * `fields`: extra response headers. */
void http_reply(struct http_call *call, unsigned status, const char *content_type,
                const struct http_field *fields, size_t nfields, uint8_t *body, size_t len);

#endif
