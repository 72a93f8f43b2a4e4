/* libsplit/session.h - opening a session on a graph that is already there (tests, tools). */
#ifndef LIBSPLIT_SESSION_H
#define LIBSPLIT_SESSION_H

#include "libsplit/local.h"
#include "libsplit/split.h"

/* Plans `g` by `o` and starts its nodes.  `g` is kept and packed; it stays the caller's, who
 * frees it after split_close() (graph_unpack() frees what was packed).  `local` may be NULL.
 * Errors as split_open(). */
int session_open_graph(struct split_session **s, struct graph *g, const struct plan_options *o,
                       const struct local_options *local, struct diag *why);

#endif
