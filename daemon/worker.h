/* daemon/worker.h - a node's part: receives models and programs, runs frames.
 *
 * Programs are loaded on libuv's thread pool; frames run one after the other, in the order in which
 * the coordinator starts them, on the compute thread and those of its pool (libsplit/pool.h), of
 * which there are config_threads() together.  Nothing is allocated while a frame runs. */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "daemon/mesh.h"
#include "daemon/store.h"

struct worker;

int worker_new(struct worker **w, uv_loop_t *loop, const struct config *config, int32_t self,
               struct store *store, struct diag *why);
/* After this the worker may send.  (The mesh needs the worker's events first.) */
void worker_attach(struct worker *w, struct mesh *mesh);
/* Cancels what runs, joins the compute thread, then calls `closed` on the loop.  Within 500 ms, or
 * what the operator takes that runs.  The mesh
 * must be closed before and freed after: see mesh_close(). */
void worker_close(struct worker *w, void (*closed)(void *ctx), void *ctx);

/* A FRAME whose plan is not here (evicted, of an older epoch) is answered with FRAME_DONE -ESTALE;
 * every other FRAME with exactly one FRAME_DONE: 0, -ECANCELED after CANCEL, -ETIMEDOUT, -EPIPE (a
 * link is down), -EBADMSG, -EBUSY (the lane of frame % depth is taken).
 *
 * Events of the mesh, for messages without HEADER_TO_HOST.  Loop thread: MODEL_OFFER,
 * MODEL_CHUNK, PLAN, FRAME, CANCEL from the coordinator (from anyone else: the message is
 * dropped and logged). */
void worker_message(struct worker *w, int32_t node, const struct header *h, const uint8_t *body);
void worker_down(struct worker *w, int32_t node);
void worker_up(struct worker *w);
/* Whatever thread receives.  FRAME and CANCEL: see mesh_events. */
bool worker_order(struct worker *w, int32_t node, const struct header *h);
uint8_t *worker_claim(struct worker *w, int32_t node, const struct header *h);
void worker_arrived(struct worker *w, int32_t node, const struct header *h);
void worker_failed(struct worker *w, int32_t node, const struct header *h);

#endif
