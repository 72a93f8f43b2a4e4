/* tiling/cost.h - how long a plan takes, roughly: what plans are compared by.
 *
 * Operators follow each other; each takes as long as its busiest node computes, and after it its
 * output travels as long as the busiest link takes.  What of the messages hides behind
 * computing is not looked at. */
#ifndef TILING_COST_H
#define TILING_COST_H

#include "tiling/plan.h"

struct cost {
    struct plan_costs of;         /* without zeros */
    double speed[PLAN_MAX_NODES]; /* of a node, 1: as fast as costs are about */
    bool pixels;                  /* the host sends inputs as bytes */
};

/* `o` has been checked. */
struct cost cost_make(const struct plan_options *o);

/* Microseconds that the making of a tensor takes, and its travelling. */
struct tensor_cost {
    double compute_us, travel_us;
};
/* Microseconds that all of a node's part would take on a node of speed 1. */
double cost_work_us(const struct cost *c, const struct plan *p, int32_t node);
struct tensor_cost cost_of(const struct cost *c, const struct plan *p, int32_t tensor);

#endif
