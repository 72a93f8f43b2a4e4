/* daemon/api.h - Open Inference Protocol v2 (KServe) over HTTP, and /splitd/status.
 *
 *   GET  /v2/health/live, /v2/health/ready, /v2, /v2/models/{m}, /v2/models/{m}/ready
 *   POST /v2/models/{m}/infer   JSON data, binary tensor extension, or a JPEG/PNG as one BYTES
 *                               element; output parameter "classification": k gives top-k as
 *                               BYTES "score:index:label", "picture": "png" | "jpeg" (image task)
 *                               gives the encoded picture as BYTES
 *   GET  /splitd/status         nodes, epoch, models, figures of the last frame (JSON)
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
