/* daemon/api.h - Open Inference Protocol v2 (KServe) over HTTP, and /splitd/status.
 *
 *   GET  /v2/health/live, /v2/health/ready, /v2, /v2/models/{m}, /v2/models/{m}/ready
 *   POST /v2/models/{m}/infer   JSON data, binary tensor extension, or a JPEG/PNG as one BYTES
 *                               element; output parameter "classification": k gives top-k as
 *                               BYTES "score:index:label", "picture": "png" | "jpeg" (image task)
 *                               gives the encoded picture as BYTES
 *   GET  /splitd/status         nodes, epoch, models, figures of each model's last frame:
 *
 *     { "cluster": "attic", "coordinator": "pi1", "version": "0.1.0", "epoch": 3, "ready": true,
 *       "nodes":  [ { "name": "pi1", "address": "tcp://...", "up": true } ],
 *       "models": [ { "name": "resnet18", "ready": true, "problem": "",
 *                     "task": "raw" | "classify" | "image",
 *                     "nodes": [ { "name": "pi1", "rows": [0, 56],      of the first cut tensor
 *                                  "of_rows": 112, "compute_ms": 1.5, "wait_ms": 0.25,
 *                                  "pack_ms": 0.01, "sent_bytes": 1, "received_bytes": 1,
 *                                  "halo_sent_bytes": 1, "arena_bytes": 1,
 *                                  "weight_bytes": 1 } ] } ] }
 *
 * Errors are {"error": "..."} with 400, 404, 405, 413, 500, 503 (Retry-After) or 504. */
#ifndef DAEMON_API_H
#define DAEMON_API_H

#include "daemon/coordinator.h"
#include "daemon/http.h"

struct api;
int api_new(struct api **a, struct coordinator *c, const struct config *config);
void api_free(struct api *a); /* after http_close() and coordinator_close() */
void api_handle(void *ctx, struct http_call *call, const char *method, const char *path,
                const uint8_t *body, size_t len); /* an http_handler; ctx is the struct api */

#endif
