/* tiling/trace.h - what one frame did on one node, and when: for `splitctl trace`.
 *
 * Made only when somebody asks.  One thread writes it while its frame runs, without allocating;
 * it is read when the frame has ended. */
#ifndef TILING_TRACE_H
#define TILING_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "tiling/program.h"

enum trace_kind {
    TRACE_RUN,    /* an operator's kernel */
    TRACE_PACK,   /* values into the bytes of a message */
    TRACE_SEND,   /* handing the message to the link */
    TRACE_WAIT,   /* for a message */
    TRACE_UNPACK, /* and its bytes into values */
    TRACE_QUEUE,  /* from the order to run the frame to its first step; `step` is 0 */
    TRACE_KINDS
};

struct trace_event {
    int64_t start_ns, end_ns; /* of the node's CLOCK_MONOTONIC, start <= end */
    int32_t step;             /* in the node's program */
    enum trace_kind kind;
};

/* Of longer programs the end is left out. */
enum { TRACE_MAX_EVENTS = 1 << 16 };

struct trace {
    int32_t n, capacity;
    struct trace_event event[];
};

/* Room for a frame of `pr`; free() it.  NULL when memory is short. */
struct trace *trace_new(const struct program *pr);

static inline void trace_add(struct trace *t, enum trace_kind kind, int32_t step, int64_t start_ns,
                             int64_t end_ns)
{
    if (t->n < t->capacity)
        t->event[t->n++] = (struct trace_event){ start_ns, end_ns, step, kind };
}

/* Is there such a step in `pr`, and of a kind for which `e` can be?  For events from elsewhere. */
bool trace_event_fits(const struct trace_event *e, const struct program *pr);

/* "compute", "pack", "send", "wait", "unpack", "queue". */
const char *trace_kind_name(enum trace_kind kind);

#endif
