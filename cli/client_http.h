/* cli/client_http.h - one HTTP exchange by libcurl, with patience. */
#ifndef CLI_CLIENT_HTTP_H
#define CLI_CLIENT_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"

/* The largest answer that is taken. */
enum { HTTP_MAX_REPLY_BYTES = 1 << 30 };

struct http;

/* `base` such as "http://127.0.0.1:8080" is copied ("http://" may be left out).  Returns 0, -EINVAL
 * or -ENOMEM, with `*why`. */
int http_new(struct http **h, const char *base, double timeout_s, struct diag *why);
void http_free(struct http *h);

struct http_reply {
    long status;
    size_t json_len; /* Inference-Header-Content-Length, or len */
    uint8_t *body;   /* owned */
    size_t len;
};

/* GET if `body` is NULL, else POST.  `json_len` < len: what follows it is binary tensor data.
 * Asks again on 503 and while nothing listens, until the timeout.  Returns 0 with whatever status
 * came (http_reply_done() frees), or -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH, -EIO, -EFBIG,
 * -ENOMEM, with `*why`. */
int http_ask(struct http *h, const char *path, const uint8_t *body, size_t len, size_t json_len,
             struct http_reply *r, struct diag *why);
void http_reply_done(struct http_reply *r);

/* Escapes a piece of a path; free() the result, NULL if memory is short. */
char *http_escape(const char *text);

const char *http_base(const struct http *h);

#endif
