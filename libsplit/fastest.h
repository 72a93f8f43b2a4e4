/* libsplit/fastest.h - the fastest plan of a network on some nodes, or on fewer of them.
 *
 * A small network is computed by one node sooner than messages travel, and a larger one often by
 * four sooner than by eight.  Estimates (plan_estimate_us()) say which; where two take as long,
 * more nodes are taken. */
#ifndef LIBSPLIT_FASTEST_H
#define LIBSPLIT_FASTEST_H

#include "libsplit/graph.h"
#include "tiling/plan.h"

/* Which nodes a plan is for. */
struct fastest {
    int32_t nodes;
    uint8_t member[PLAN_MAX_NODES]; /* node i of the plan is this one of those asked for; rising */
    double estimate_us[PLAN_MAX_NODES + 1]; /* by number of nodes; 0: not tried */
};

/* Builds a plan by `o` for its o->nodes nodes or, if that is faster, for the strongest `least` or
 * more of them (the first of equals); numbers of nodes in steps of about a quarter are tried.  On
 * success `o` has the weights of those that take part, and geometry_done() and plan_done() free.
 * 1 <= least <= o->nodes, and whatever o->cut_ctx leads to must do for any number of nodes.
 * Returns 0, -EINVAL (as plan_build()) or -ENOMEM. */
int fastest_plan(struct fastest *f, struct geometry *geo, struct plan *p, const struct graph *g,
                 struct plan_options *o, int32_t least);

#endif
