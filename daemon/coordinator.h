/* daemon/coordinator.h - requests in, frames over the nodes, answers out.
 *
 * Owns the epoch: whenever a node comes or goes, the nodes that are there get a new plan and a
 * frame that was under way is run again from its kept input.  Clients see only a slower answer. */
#ifndef DAEMON_COORDINATOR_H
#define DAEMON_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "daemon/mesh.h"
#include "daemon/trial.h"
#include "libsplit/graph.h"
#include "libsplit/sidecar.h"
#include "proto/frame.h"
#include "proto/health.h"
#include "tiling/plan.h"

struct coordinator;

/* What happened to a request; maps to an HTTP status in daemon/api.c. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_BAD_REQUEST, /* 400: shape, type, picture */
    OUTCOME_NOT_FOUND,   /* 404: no such model */
    OUTCOME_BUSY,        /* 503: the queue is full */
    OUTCOME_UNAVAILABLE, /* 503: no nodes, model not ready */
    OUTCOME_TIMEOUT,     /* 504 */
    OUTCOME_FAILED       /* 500 */
};

struct request_tensor {
    const char *name;
    struct shape shape;
    const float *values; /* ONNX order */
};

/* Work that moves no more bytes than this is done on the loop: a board copies them in some 100 us,
 * as long as it takes to wake a thread of the pool and, when that is done, the loop. */
enum { LOOP_BYTES = 256 << 10 };

/* One inference.  The caller fills the first block and keeps the object until `done`. */
struct request {
    const char *model;
    /* Either one encoded picture (borrowed until done)... */
    const uint8_t *picture;
    size_t picture_bytes;
    /* ...or tensors, values in ONNX order (borrowed until done). */
    const struct request_tensor *input;
    int32_t ninputs;
    bool trace;         /* what every node does and when is wanted */
    bool brief;         /* nothing but what the task makes of the outputs is wanted */
    int64_t arrived_ns; /* when the request came, by CLOCK_MONOTONIC: where the trace begins */
    void *ctx;
    /* Optional.  Once the answer is there and before `done`: what takes time, such as formatting.
     * On a pool thread, or on the loop where it is short: where it takes no longer than to copy all
     * outputs `render_copies` times, LOOP_BYTES at most.  0: nobody knows how long it takes.  May
     * touch nothing but the request; the block below is valid. */
    void (*render)(struct request *r);
    int32_t render_copies;
    /* Loop thread.  `why`: a sentence, "" with OUTCOME_OK. */
    void (*done)(struct request *r, enum outcome outcome, const char *why);

    /* Valid in `render`, and in `done` with OUTCOME_OK. */
    int32_t noutputs;
    struct request_tensor *output;      /* all outputs of the model */
    const uint8_t *const *bytes;        /* of each, in place of values, as task_answer.bytes */
    int32_t rows, cols;                 /* of the network's input */
    int32_t picture_rows, picture_cols; /* of the picture, once decoded; 0: tensors came */
    const struct sidecar *sidecar;
    uint32_t frame, epoch;
    int32_t nodes;      /* that computed it */
    int32_t concealed;  /* halos that they did without */
    int64_t elapsed_ns; /* from submit to done */
    int64_t input_bytes,
        answer_bytes; /* payload to and from the nodes, of the frame that answered */
    /* JSON of libsplit/trace_write.h; NULL if none was wanted, or memory was short. */
    const char *traced;

    void *priv; /* the coordinator's */
};

/* Measures in which way each layer of a model is computed fastest, for all nodes, and keeps the
 * results in `state_dir` (kept; NULL: the ways that are expected to be fastest, unmeasured). */
int coordinator_new(struct coordinator **c, uv_loop_t *loop, const struct config *config,
                    const char *state_dir, struct diag *why);
void coordinator_attach(struct coordinator *c, struct mesh *mesh);
/* Ends every request with OUTCOME_UNAVAILABLE, then calls `closed` on the loop, when no pool
 * thread is at work and no message is on its way to or from its memory.  Events of the mesh may
 * still come until coordinator_free(); nothing may be submitted any more. */
void coordinator_close(struct coordinator *c, void (*closed)(void *ctx), void *ctx);
void coordinator_free(struct coordinator *c); /* after `closed`, and when the mesh is closed */

/* Takes `r` in and calls r->done exactly once, always later, from the loop.  Loop thread. */
void coordinator_submit(struct coordinator *c, struct request *r);
/* The client left: `done` will still be called, with OUTCOME_FAILED, once nothing uses `r`. */
void coordinator_cancel(struct coordinator *c, struct request *r);

/* For the API.  Loop thread; what is returned stays until the loop goes on. */
struct model_info {
    const char *name;
    bool ready;                    /* all nodes that are up hold it and its plan */
    const char *problem;           /* why it will never be ready, "" if it may */
    const struct onnx_model *onnx; /* NULL while it loads */
    const struct graph *graph;     /* NULL where the input's size is open */
    const struct sidecar *sidecar;
    /* Of the network that is fixed, or was asked for last: */
    const char *halo;          /* how values travel between nodes; NULL without a plan */
    const struct trial *trial; /* of the ways to choose from; NULL: nothing was measured */
};
int32_t coordinator_models(const struct coordinator *c);
void coordinator_model(const struct coordinator *c, int32_t i, struct model_info *info);
bool coordinator_ready(
    const struct coordinator *c); /* a node is up and no model is still loading */

/* Per node figures of the last frame of a model, for status and the demo's table. */
struct node_info {
    const char *name, *address;
    const char *version; /* of its program, "" before it was ever up */
    bool up;
    bool member;                  /* of the epoch: plans may use it */
    double speed;                 /* daemon/speed.h */
    struct msg_health health;     /* temperature HEALTH_NO_TEMPERATURE: not known */
    struct mesh_link_stats link;  /* from here to there; zeros for this node itself */
    int32_t row_lo, row_hi, rows; /* of the first operator's output; 0 0 0 without a plan */
    struct msg_frame_done last;
    uint64_t arena_bytes, weight_bytes;
};
struct coordinator_counts {
    int32_t waiting, running;           /* requests now */
    uint64_t answered, refused, failed; /* since the start: 200, 4xx and 503, the rest */
    uint64_t answered_ns;               /* from submit to done, of all that were answered */
    uint64_t frames, repeated;          /* frames started; of these, for another time */
    uint64_t concealed;                 /* halos, of frames that were answered */
};
void coordinator_counts(const struct coordinator *c, struct coordinator_counts *counts);
uint32_t coordinator_epoch(const struct coordinator *c);
void coordinator_node(const struct coordinator *c, int32_t node, int32_t model,
                      struct node_info *info);

/* Events of the mesh: up, down, messages from nodes, and HALOs with HEADER_TO_HOST. */
void coordinator_up(struct coordinator *c, int32_t node, const struct msg_hello *hello);
void coordinator_down(struct coordinator *c, int32_t node, const char *why);
void coordinator_message(struct coordinator *c, int32_t node, const struct header *h,
                         const uint8_t *body);
uint8_t *coordinator_claim(struct coordinator *c, int32_t node, const struct header *h);
void coordinator_arrived(struct coordinator *c, int32_t node, const struct header *h);
void coordinator_failed(struct coordinator *c, int32_t node, const struct header *h);

#endif
