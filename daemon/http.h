/* daemon/http.h - libmicrohttpd on the libuv loop: bytes of requests in, responses out.
 *
 * Knows HTTP, not inference: daemon/api.c is the handler.  Refuses, with 400 and a closed
 * connection, what libmicrohttpd 0.9.75 lets through (Content-Length beside Transfer-Encoding, two
 * Content-Lengths, unknown codings), 413 beyond max_body (before reading it), and cuts off
 * clients that are silent for 10 s or hold more than 256 connections. */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "libsplit/diag.h"

struct http_server;
struct http_call; /* one request that waits for its answer */

/* Loop thread.  `body` stays until http_reply().  The handler answers now or later, exactly once. */
typedef void (*http_handler)(void *ctx, struct http_call *call, const char *method,
                             const char *path, const uint8_t *body, size_t len);

int http_open(struct http_server **s, uv_loop_t *loop, const char *host, uint16_t port,
              size_t max_body, http_handler handler, void *ctx, struct diag *why);
void http_close(struct http_server *s, void (*closed)(void *ctx), void *ctx);

/* A request header, NULL if it is not there. */
const char *http_header(const struct http_call *call, const char *name);

struct http_field {
    const char *name, *value;
};
/* Takes `body` (free()d when sent).  `fields`: extra response headers. */
void http_reply(struct http_call *call, unsigned status, const char *content_type,
                const struct http_field *fields, size_t nfields, uint8_t *body, size_t len);

#endif
