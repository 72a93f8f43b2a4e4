/* cli/client.h - the Open Inference Protocol v2 over HTTP, the client's side.
 *
 * Tensors travel with the binary tensor extension: a JSON header, then raw little-endian bytes.
 * A server that is busy (503) or not there yet is asked again, with growing pauses, until the
 * timeout of the options. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <argp.h>
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"
#include "libsplit/shape.h"

enum { CLIENT_MAX_OUTPUTS = 64 };

struct client_options {
    const char *server; /* NULL: $SPLITD_SERVER, or http://127.0.0.1:8080 */
    double timeout_s;   /* 0: 30 */
    const char *ca;     /* file of the authority of https://; NULL: $SPLITD_CA, or the system's */
    const char *token;  /* file of the text to show; NULL: $SPLITD_TOKEN, or none */
};

/* --server, --timeout, --ca and --token; a child parser whose input is a struct client_options. */
extern const struct argp client_argp;

struct client;

/* Returns 0, -EINVAL (no URL, no token), -ENOMEM or an error of the token's file, with `*why`. */
int client_new(struct client **c, const struct client_options *o, struct diag *why);
void client_free(struct client *c);
double client_timeout_s(const struct client *c);

/* Errors of the functions below: -EINVAL the server refused this request (4xx), -EREMOTEIO it
 * failed (5xx) or its answer makes no sense, -ENOMEM; anything else: it cannot be reached, or not
 * be trusted. */

/* GETs `path`; cJSON_Delete() the result. */
int client_get(struct client *c, const char *path, cJSON **json, struct diag *why);

/* GETs "/v2/models/<name>". */
int client_model(struct client *c, const char *name, cJSON **json, struct diag *why);

struct client_input {
    const char *name;
    struct shape shape;
    const float *values;  /* FP32, ONNX order; or NULL and then... */
    const uint8_t *bytes; /* ...one BYTES element */
    size_t len;
};

/* What is wanted of one output: the plain tensor, or one thing that the server makes of it. */
struct client_want {
    const char *name;
    int32_t classes;            /* > 0: the best so many classes */
    bool detections, class_map; /* boxes as JSON; the class of every pixel as PNG */
    const char *picture;        /* "png" or "jpeg", NULL: none */
};

struct client_output {
    char *name;
    struct shape shape;
    float *values;  /* FP32; NULL for BYTES */
    uint8_t *bytes; /* BYTES: each element a u32 length, then that many bytes */
    size_t len;
};

struct client_answer {
    int32_t n;
    struct client_output output[CLIENT_MAX_OUTPUTS];
    cJSON *trace; /* libsplit/trace_write.h, NULL if none came */
    /* What the server says about it, 0 where it does not: */
    double answer_bytes; /* that nodes sent the coordinator */
    double concealed;    /* halos that were late, so that the answer is not exact */
};

/* What is asked of a model. */
struct client_query {
    const struct client_input *in;
    const struct client_want *want; /* [nwant] */
    int32_t nwant;
    bool trace; /* what every node does and when, too */
};

/* POSTs one inference.  On 0 client_answer_done() frees; it is fine for a zeroed answer. */
int client_infer(struct client *c, const char *model, const struct client_query *q,
                 struct client_answer *a, struct diag *why);
void client_answer_done(struct client_answer *a);

/* The next element of a BYTES tensor from `*at` on: its bytes, and `*at` moved behind it.  NULL at
 * the end or where the bytes do not add up. */
const uint8_t *client_element(const struct client_output *o, size_t *at, size_t *len);

#endif
