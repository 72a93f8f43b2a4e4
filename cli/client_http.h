/* cli/client_http.h - one HTTP exchange by libcurl, with patience. */
#ifndef CLI_CLIENT_HTTP_H
#define CLI_CLIENT_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"

/* The largest answer that is taken. */
enum { HTTP_MAX_REPLY_BYTES = 1 << 30 };

struct http;

struct http_target {
    const char *base;  /* such as "http://127.0.0.1:8080"; "http://" may be left out */
    const char *ca;    /* file of the only authority to trust; NULL: the system's */
    const char *token; /* shown with every request; NULL: none */
};

/* Copies `to`.  Returns 0, -EINVAL or -ENOMEM, with `*why`. */
int http_new(struct http **h, const struct http_target *to, double timeout_s, struct diag *why);
void http_free(struct http *h);

struct http_reply {
    long status;
    size_t json_len; /* Inference-Header-Content-Length, or len */
    uint8_t *body;   /* owned */
    size_t len;
};

/* GET if `body` is NULL, else POST.  `json_len` < len: what follows it is binary tensor data.
 * Asks again on 503 and while nobody listens or answers, until the timeout.  Returns 0 with
 * whatever status came (http_reply_done() frees), or -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH,
 * -EKEYREJECTED (its certificate is not to be trusted), -EIO, -EFBIG, -ENOMEM, with `*why`. */
int http_ask(struct http *h, const char *path, const uint8_t *body, size_t len, size_t json_len,
             struct http_reply *r, struct diag *why);
void http_reply_done(struct http_reply *r);

/* Escapes a piece of a path; free() the result, NULL if memory is short. */
char *http_escape(const char *text);

const char *http_base(const struct http *h);

#endif
