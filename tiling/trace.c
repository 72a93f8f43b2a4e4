#include "tiling/trace.h"

#include <stdlib.h>
#include <string.h>

struct trace *trace_new(const struct program *pr)
{
    /* Two for every message, and the queue. */
    const int64_t most = 2 * (int64_t)pr->nsteps + 1;
    const int32_t capacity = most < TRACE_MAX_EVENTS ? (int32_t)most : TRACE_MAX_EVENTS;
    const size_t bytes = sizeof(struct trace) + (size_t)capacity * sizeof(struct trace_event);
    struct trace *t = malloc(bytes);
    if (!t)
        return NULL;
    memset(t, 0, bytes); /* no page faults while the frame runs */
    t->capacity = capacity;
    return t;
}

bool trace_event_fits(const struct trace_event *e, const struct program *pr)
{
    static const enum step_kind of[TRACE_KINDS] = {
        [TRACE_RUN] = STEP_RUN,   [TRACE_PACK] = STEP_SEND,   [TRACE_SEND] = STEP_SEND,
        [TRACE_WAIT] = STEP_RECV, [TRACE_UNPACK] = STEP_RECV,
    };
    if (e->start_ns > e->end_ns || (unsigned)e->kind >= TRACE_KINDS)
        return false;
    if (e->kind == TRACE_QUEUE)
        return e->step == 0;
    return e->step >= 0 && e->step < pr->nsteps && pr->step[e->step].kind == of[e->kind];
}

const char *trace_kind_name(enum trace_kind kind)
{
    static const char *const name[TRACE_KINDS] = {
        [TRACE_RUN] = "compute", [TRACE_PACK] = "pack",     [TRACE_SEND] = "send",
        [TRACE_WAIT] = "wait",   [TRACE_UNPACK] = "unpack", [TRACE_QUEUE] = "queue",
    };
    return name[kind];
}
