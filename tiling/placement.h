/* tiling/placement.h - along which axis every tensor is cut among the nodes, and where.
 *
 * Bands of rows let most operators run on what their node holds, but every node needs all
 * weights, and a map of few rows leaves nodes idle.  Bands of channels give a node its share of
 * the weights and of the work whatever the height of the map; the price is that the next
 * convolution gathers all channels from everybody.
 *
 * PLAN_MIXED takes for every tensor the axis that makes its operator, and those that read it,
 * cheaper by plan_options.costs: arithmetic and weights of the busiest node, bytes through the
 * busiest link, messages.  It is a rule and not a search: one walk with the operators, each by
 * its own cost, then a few that change one tensor at a time. */
#ifndef TILING_PLACEMENT_H
#define TILING_PLACEMENT_H

#include "tiling/plan.h"

/* Where band n begins; the last entry is the length of the axis. */
struct bands {
    int32_t at[PLAN_MAX_NODES + 1];
};

struct placement {
    const struct geometry *geo;         /* borrowed */
    const struct plan_options *options; /* borrowed, checked */
    enum axis *along;                   /* [ntensors]: ROW or CHAN */
    struct bands *rows, *chans;         /* [ntensors]; chans is NULL unless PLAN_MIXED */
};

/* Chooses.  Returns 0, -EINVAL (a callback of the options breaks its promise) or -ENOMEM.  On
 * success placement_done() frees. */
int placement_init(struct placement *p, const struct geometry *g, const struct plan_options *o);
void placement_done(struct placement *p);

/* The band of `tensor` that falls to `node`. */
struct box placement_part(const struct placement *p, int32_t tensor, int32_t node);

/* Is `op` cheap enough for every node that needs its result to compute it?  So are the small
 * layers between a reduction and the map that it scales (squeeze-and-excite): one exchange
 * of partial sums instead of two round trips. */
bool placement_replicates(const struct placement *p, int32_t op);

#endif
