/* daemon/api.h - Open Inference Protocol v2 (KServe) over HTTP, /splitd/status and /metrics.
 *
 *   GET  /v2/health/live, /v2/health/ready, /v2, /v2/models/{m}, /v2/models/{m}/ready
 *   POST /v2/models/{m}/infer   see daemon/api_infer.h; or, with Content-Type image/jpeg or
 *                               image/png, the bytes of one picture as the body
 *   GET  /metrics               the same figures for Prometheus: daemon/metrics.c
 *   GET  /splitd/status         nodes, epoch, models, figures of each model's last frame:
 *
 *     { "cluster", "coordinator", "version", "epoch",
 *       "nodes":  [ { "name", "address", "up", "member", "speed", "version",
 *                     "temperature_c": null if not known,
 *                     "throttled": bits of libsplit/board.h,
 *                     "models": [ { "model", "rows": [first, end, of], "compute_ms", "wait_ms",
 *                                   "pack_ms", "send_ms", "sent_bytes", "received_bytes",
 *                                   "halo_bytes", "sent_messages", "received_messages",
 *                                   "concealed", "arena_bytes", "weight_bytes" } ] } ],
 *       "models": [ { "name", "ready", "problem": "" if none, "task": null while it loads,
 *                     "halo": how values travel between nodes, null without a plan,
 *                     "halo_ms": { "tq": 20.5, ... } what the ways took that were tried } ],
 *       "queue": { "waiting", "running", "limit" },
 *       "counters": { "answered", "answered_ms", "refused", "failed", "frames", "repeated",
 *                     "concealed" } }
 *
 * rows are those of the first tensor that is cut, 0 0 0 if there is none.
 * /v2/models/{m}/versions/1 is another name of /v2/models/{m}.  Errors are {"error": "..."}
 * with 400, 401 (a token is set and was not shown; health needs none), 404, 405 (Allow), 413, 500,
 * 503 (Retry-After) or 504. */
#ifndef DAEMON_API_H
#define DAEMON_API_H

#include "daemon/coordinator.h"
#include "daemon/http.h"

enum { API_MAX_BODY = 64 << 20 }; /* bytes of a request */
/* The header that says how much of a body is JSON: tensors follow it, best aligned. */
#define API_HEADER_LENGTH "Inference-Header-Content-Length"

struct api;
/* Reads the token of `config`.  Returns 0 or a negative errno with a sentence. */
int api_new(struct api **a, uv_loop_t *loop, struct coordinator *c, const struct config *config,
            struct diag *why);
/* Nothing is submitted to the coordinator any more: call it before coordinator_close(). */
void api_stop(struct api *a);
void api_free(struct api *a); /* after http_close() and coordinator_close() */
void api_handle(void *ctx, struct http_call *call, const char *method, const char *path,
                const uint8_t *body, size_t len); /* an http_handler; ctx is the struct api */

#endif
