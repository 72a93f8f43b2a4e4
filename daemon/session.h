/* daemon/session.h - a plan that a node has loaded: graph, program, and `depth` lanes in which
 * frames run.
 *
 * Who may free it: a claim writes into a lane's mailbox, and a link sends from a lane's payloads,
 * both at their own pace.  A session is therefore closed first (no new claim, no new frame) and
 * freed once session_idle(): no lane runs, no claim is open, no slot is in a link's queue.  A link
 * that dies ends its claims and gives its slots back, so this comes within lost_ms.  A lane goes on
 * to its next frame while a claim is open on a message that was given up: see libsplit/mailbox.h.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/mesh.h"
#include "libsplit/exec.h"
#include "libsplit/mailbox.h"
#include "proto/plan.h"

/* What a lane does.  A HALO may come before its FRAME: the lane opens with whichever is first. */
enum lane_state {
    LANE_FREE,
    LANE_OPEN,    /* HALOs of `frame` have come or are coming */
    LANE_STARTED, /* FRAME has come: queued or running */
    LANE_ENDED,   /* run, but a claim is still open */
};

/* How a frame went: what FRAME_DONE tells. */
struct frame_end {
    uint32_t epoch, plan, frame;
    int32_t status;
    struct exec_stats stats;
    struct trace *trace; /* owned; NULL: none was wanted */
};

struct lane {
    struct exchange exchange; /* first: the executor's calls come with it */
    struct session *session;
    struct exec *exec;
    struct mailbox *mailbox;
    struct trace *trace;       /* of the frame that was started, NULL unless it is wanted */
    bool brief;                /* it answers in the forms that the plan says */
    bool fresh;                /* its messages build on none before: see exec_forget() */
    int64_t started_ns;        /* when it was */
    struct mesh_slot *out;     /* [session->nsends] */
    uint8_t *payload;          /* of all of `out` */
    int64_t deadline_ns;       /* of the frame that runs, CLOCK_MONOTONIC */
    _Atomic int32_t waits_for; /* the node from which it pulls, -1: none */
    _Atomic bool cancelled;
    _Atomic bool failed; /* the last frame, on some node: see exec_forget() */
    struct lane *next;   /* in the compute thread's queue */

    /* Guarded by the worker's lock: */
    enum lane_state state;
    uint32_t frame;       /* that the lane is for, unless it is free */
    uint32_t last;        /* that it was for before */
    bool used;            /* `last` means something */
    int32_t claims;       /* open */
    struct frame_end end; /* LANE_ENDED */
};

struct session {
    struct session *next; /* the worker's */
    uint32_t epoch, number;
    struct msg_plan plan;
    int32_t coordinator; /* index in cluster.json */
    struct mesh *mesh;
    struct pool *pool; /* the worker's */
    bool ready;        /* loaded; guarded by the worker's lock */
    bool withdrawn;    /* takes no more frames; guarded by the worker's lock */
    bool closed;       /* to be freed; guarded by the worker's lock */
    bool loading;      /* on the pool, or queued for it: loop only */
    uint64_t used;     /* when a frame last started; guarded by the worker's lock */

    struct onnx_model model;
    struct graph graph;
    struct geometry geo;
    struct recipes recipes;
    struct answer_rule *answer; /* [graph.noutputs] of a brief frame */
    bool has_model, has_graph, has_geo;
    struct lane lane[PLAN_MAX_DEPTH];
    int32_t nsends;
    int32_t *send_of; /* [ntransfers] index in lane.out, -1: not sent by this program */
    int16_t *from;    /* [ntransfers] index in cluster.json of the sender, -1: not received */
    bool *by_host;    /* [ntransfers] it is the host that sends it */
    uint32_t peers;   /* nodes that send something else than what the host does */
    int64_t arena_bytes, weight_bytes; /* of all lanes, messages included; of the weights */
};

/* Takes the program out of `plan`.  NULL when memory is short. */
struct session *session_new(struct msg_plan *plan, uint32_t epoch, uint32_t number,
                            int32_t coordinator, struct mesh *mesh);
void session_free(struct session *s); /* see above */

/* What a session may take. */
struct session_limits {
    const char *node;   /* its name, for messages */
    int64_t max_memory; /* bytes, 0: no limit */
    int64_t in_use;     /* by other sessions */
    struct pool *pool;  /* the compute thread's, kept; NULL: it works alone */
};

/* Everything from the model's file to lanes that are ready.  Slow: for the pool.  Returns 0 or a
 * negative errno with a sentence: -ENOMEM (over the limit, with the figures), -EPROTO (the
 * program does not fit the model) and the errors of onnx_open() and graph_build(). */
int session_load(struct session *s, const char *file, const struct session_limits *limits,
                 struct diag *why);

static inline struct lane *session_lane(struct session *s, uint32_t frame)
{
    return &s->lane[frame % s->plan.depth];
}

/* The worker's lock is held. */
bool session_idle(struct session *s);

/* Runs the frame for which the lane was started, and fills its trace.  Returns 0, an error of the
 * exchange or that of exec_run().  What it sends last may wait for FRAME_DONE or mesh_flush().
 * Compute thread, no lock held. */
int lane_run(struct lane *l, int64_t deadline_ns, struct exec_stats *stats);
/* The frame that runs, or comes next, ends with -ECANCELED.  Any thread. */
void lane_cancel(struct lane *l);

#endif
