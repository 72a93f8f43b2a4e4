/* tiling/program.h - what one node does for one frame, as a flat list of steps.
 *
 * A node interprets its program from first to last and knows nothing of partitioning.
 * SEND never waits; RECV waits for its message.  Order hides the network: the rows that
 * neighbours wait for are computed first and sent, then the rest.
 *
 * The host has a program too (node number `nodes`): it only sends and receives. */
#ifndef TILING_PROGRAM_H
#define TILING_PROGRAM_H

#include <stdio.h>

#include "tiling/plan.h"

enum step_kind { STEP_RUN = 1, STEP_SEND = 2, STEP_RECV = 3 };

struct step {
    enum step_kind kind;
    int32_t what;     /* RUN: operator.  SEND, RECV: tensor */
    int32_t transfer; /* SEND, RECV: index in the plan, the message's name on the wire */
    int32_t peer;     /* SEND, RECV: the other node, or `nodes` for the host */
    /* SEND, RECV: part of the tensor.  RUN: part of the output; but of a GEO_PARTIAL the
     * node's share of the *input*, which may be box_none(): see program_output(). */
    struct box box;
    uint8_t halo;  /* SEND, RECV: enum halo, HALO_F32 to and from the host */
    bool may_miss; /* SEND, RECV: plan_may_miss(); false to and from the host */
};

/* A tensor's storage on this node; `box` holds everything it computes or receives. */
struct buffer {
    int32_t tensor;
    struct box box;
};

struct program {
    int32_t node, nodes;
    int32_t ntransfers; /* of the whole plan: transfer < ntransfers in every step */
    int32_t nbuffers, nsteps;
    struct buffer *buffer; /* by rising tensor */
    struct step *step;
};

/* Each transfer is a step of two programs. */
enum {
    PROGRAM_MAX_STEPS = 1 << 20,
    PROGRAM_MAX_TRANSFERS = (PLAN_MAX_NODES + 1) * PROGRAM_MAX_STEPS / 2
};

/* Compiles the part of `node` (0..nodes; nodes is the host).  Returns 0, -ENOMEM or -E2BIG
 * (more steps or transfers than the caps). */
int program_compile(struct program *pr, const struct plan *p, int32_t node);
void program_done(struct program *pr);

/* Checks a program that came from elsewhere against the geometry of the node's own copy of
 * the model: indices in range, boxes inside their tensors, buffers present and large
 * enough, every value written (by RUN or RECV) at most once and before it is read, no
 * transfer used twice.  After 0 the executor may trust it; an input of which an operator
 * reads nothing (padding, an empty share) may still have no buffer.  Returns 0, -ENOMEM or
 * -EPROTO, with the first bad step in `*step` (may be NULL; -1 if it is no step: a count,
 * the node or a buffer). */
int program_check(const struct program *pr, const struct geometry *g, int32_t *step);

/* The part of its operator's output that RUN step `s` writes: s->box, or, for a GEO_PARTIAL,
 * the whole of the node's row.  The node's share of the input may well be less than its
 * buffer of it, which also holds received rows. */
struct box program_output(const struct program *pr, const struct geometry *g, const struct step *s);

/* The buffer of `tensor`, NULL if the node never holds any of it. */
const struct buffer *program_buffer(const struct program *pr, int32_t tensor);

/* Names for the text dump; NULL entries print as numbers. */
struct program_names {
    const char *(*op)(const void *ctx, int32_t op);
    const char *(*tensor)(const void *ctx, int32_t tensor);
    const void *ctx;
};
/* One line per step: "RUN conv1 rows 0..14 of 112", "SEND conv1 rows 13..14 of 112 to node 1
 * (7168 bytes)", or "(1792 bytes of q8)"; a GEO_PARTIAL also says what its share is: "RUN mean rows
 * 0..1 of 2 over rows 0..14 of 112".  Columns and channels are named where a box does not hold all
 * of them. `names` may be NULL. */
void program_dump(const struct program *pr, const struct geometry *g,
                  const struct program_names *names, FILE *to);
/* One of these lines, without its end. */
void program_dump_step(const struct program *pr, const struct geometry *g,
                       const struct program_names *names, int32_t step, FILE *to);

#endif
