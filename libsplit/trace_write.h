/* libsplit/trace_write.h - one frame over all nodes as JSON in Chrome's trace event format, which
 * ui.perfetto.dev and chrome://tracing show.
 *
 * A process is a node, its threads are "compute" and, where the host runs, "host".  Names are those
 * of `splitctl plan`; an arrow leads from where a message was sent to where it was unpacked.
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 *
 * Calls: trace_begin(), any of the others in any order, trace_end().  The caller checks `to` for
 * errors when it closes it.  Allocates. */
#ifndef LIBSPLIT_TRACE_WRITE_H
#define LIBSPLIT_TRACE_WRITE_H

#include <stdbool.h>
#include <stdio.h>

#include "libsplit/graph.h"
#include "tiling/trace.h"

/* Who took part; all is borrowed while the trace is written. */
struct trace_cast {
    const struct graph *g;
    const struct geometry *geo;
    int32_t nodes;
    const char *const *name; /* [nodes + 1], the host's last */
    int32_t host_on;         /* the node in whose process the host runs, `nodes`: in its own */
};

struct trace_writer {
    FILE *to;
    const struct trace_cast *cast;
    int64_t zero_ns; /* of the host's clock: where the file's time begins */
    bool any;        /* something has been written */
    char *text;      /* a step, described; grows */
    size_t text_bytes;
    FILE *describe; /* writes to `text` */
};

/* Returns 0 or -ENOMEM, and then there is nothing to end. */
int trace_begin(struct trace_writer *w, FILE *to, const struct trace_cast *cast, int64_t zero_ns);
void trace_end(struct trace_writer *w);

/* How far a node's clock is from the host's. */
struct trace_clock {
    int64_t offset_ns; /* the node's time minus the host's */
    int64_t error_ns;  /* at most; negative: nothing is known, and the offset is 0 */
};

/* What `node` did (`nodes`: the host) by its own clock; NULL where nothing has come. */
void trace_node(struct trace_writer *w, int32_t node, const struct program *pr,
                const struct trace *t, struct trace_clock clock);
/* Something that the host did beside its program, by the host's clock. */
void trace_host(struct trace_writer *w, const char *name, int64_t start_ns, int64_t end_ns);

#endif
