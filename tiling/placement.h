/* tiling/placement.h - along which axis every tensor is cut among the nodes, and where.
 *
 * Bands of rows let most operators run on what their node holds, but every node needs all
 * weights, and a map of few rows leaves nodes idle.  Bands of channels give a node its share of
 * the weights and of the work whatever the height of the map; the price is that the next
 * convolution gathers all channels from everybody.  tiling/choose.h weighs them. */
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

/* Every tensor by rows, or as options.along says.  Returns 0, -EINVAL (a callback of the options
 * breaks its promise) or -ENOMEM.  On success placement_done() frees. */
int placement_init(struct placement *p, const struct geometry *g, const struct plan_options *o);
void placement_done(struct placement *p);

/* The band of `tensor` that falls to `node`. */
struct box placement_part(const struct placement *p, int32_t tensor, int32_t node);

#endif
