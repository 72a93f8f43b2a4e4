/* test/daemon/cluster.h - workers with real meshes in one process; the test is the coordinator. */
#ifndef TEST_DAEMON_CLUSTER_H
#define TEST_DAEMON_CLUSTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "daemon/mesh.h"
#include "daemon/store.h"
#include "daemon/worker.h"
#include "libsplit/host.h"
#include "libsplit/mailbox.h"
#include "proto/frame.h"
#include "proto/model.h"
#include "proto/plan.h"

enum { CLUSTER_MOST = 4, CLUSTER_DONES = 64, CLUSTER_TENSORS = 64 };

struct member {
    struct cluster *cluster;
    int32_t index;
    struct mesh *mesh;
    struct worker *worker;
    struct store *store;
    bool mesh_closed, worker_closed;
    /* Its last answers: */
    int models, plans, dones;
    struct msg_model_state model;
    struct msg_plan_ack plan;
    struct header done_header[CLUSTER_DONES];
    struct msg_frame_done done[CLUSTER_DONES];
    int32_t done_events[CLUSTER_DONES];
    struct trace_event first_event; /* of the last of them that had any */
};

struct cluster {
    uv_loop_t loop;
    uv_timer_t limit, beat;
    struct config config;
    struct member member[CLUSTER_MOST];
    char dir[64];

    /* The network and its plan, seen from the host: */
    struct onnx_model onnx;
    struct graph graph;
    struct geometry geo;
    struct plan plan;
    struct program host;
    bool planned;
    uint8_t sha[SHA256_BYTES];
    uint32_t epoch, number;
    int32_t depth;
    struct mailbox *inbox[PLAN_MAX_DEPTH];
    bool may_miss[CLUSTER_TENSORS]; /* where config.conceal is set */
    _Atomic bool loses;             /* what the last node sends the other workers */
};

/* A network that lies in the repository: 1x1x28x28 in, 1x10 out. */
#define CLUSTER_MODEL "conf/demo/fashion.onnx"
enum { CLUSTER_IN = 28 * 28, CLUSTER_OUT = 10 };

void cluster_open(struct cluster *c, int32_t nodes);
void cluster_close(struct cluster *c); /* all within 500 ms each; deletes what is on disk */

/* Runs the loop until `done(ctx)` or `ms` have passed; says whether it was done. */
bool cluster_run_until(struct cluster *c, bool (*done)(void *ctx), void *ctx, uint64_t ms);
void cluster_pump(struct cluster *c, uint64_t ms);

/* Offers the model to every node and sends it where it is wanted.  Says how many wanted it. */
int cluster_share_model(struct cluster *c);

/* Makes a plan over all nodes and sends it; cluster_acked() tells when all have answered. */
void cluster_plan(struct cluster *c, uint32_t epoch, uint32_t number, int32_t depth);
bool cluster_acked(struct cluster *c);
/* The body of PLAN for `node`, malloc()ed. */
uint8_t *cluster_plan_body(struct cluster *c, int32_t node, int32_t depth, size_t *len);

void cluster_send(struct cluster *c, int32_t node, enum msg_type type, uint32_t frame);
void cluster_start_traced(struct cluster *c, uint32_t frame); /* cluster_start(), HEADER_TRACE */
void cluster_start(struct cluster *c, uint32_t frame);        /* FRAME to all */
void cluster_feed(struct cluster *c, uint32_t frame, const float *input); /* the inputs */
/* Waits until every node has ended `frame`; returns the first status that is not 0.  Then the
 * answer stands in `output` if it came. */
int cluster_collect(struct cluster *c, uint32_t frame, float output[CLUSTER_OUT]);

/* Input number `seed`, and what one node of libsplit makes of it. */
void cluster_input(uint32_t seed, float input[CLUSTER_IN]);
void cluster_expect(const float input[CLUSTER_IN], float output[CLUSTER_OUT]);

#endif
