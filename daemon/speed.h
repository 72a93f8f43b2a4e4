/* daemon/speed.h - how fast nodes are, by what their own frames took: processors that throttle, or
 * that have something else to do, get fewer rows.
 *
 * A node's speed is the work that its part of a plan was estimated at (tiling/cost.h), by the time
 * in which it was done, in proportion to the weight that cluster.json gives the node, 1 being the
 * average of those that are there.  The estimate need not be right, only as wrong for one node as
 * for the others.
 *
 * Nothing changes for less than 25 % that last less than two seconds, or that would make the
 * busiest node less than 10 % faster.  Rows are taken away at once and given back by a quarter at a
 * time; when that was too much, the next attempt waits longer, so that nodes whose speed comes and
 * goes do not move everybody's rows all the time.
 *
 * Pure: no clock, no loop. */
#ifndef DAEMON_SPEED_H
#define DAEMON_SPEED_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"

enum {
    SPEED_WINDOW_MS = 500,
    SPEED_FRAMES = 3,      /* of every node, or the window goes on */
    SPEED_LAST_MS = 2000,  /* that a difference has to last */
    SPEED_PAUSE_MS = 3000, /* between two changes, at first */
    SPEED_PAUSE_MOST_MS = 60000,
    SPEED_WEIGHT_SCALE = 1000,
};

struct speed {
    int32_t nodes;
    int32_t weight[CONFIG_MAX_NODES]; /* of cluster.json */
    double used[CONFIG_MAX_NODES];    /* what plans go by */
    double seen[CONFIG_MAX_NODES];    /* smoothed; 0: nothing is known */
    /* Of this window: */
    double work_us[CONFIG_MAX_NODES], spent_us[CONFIG_MAX_NODES];
    int32_t frames[CONFIG_MAX_NODES];
    uint64_t window_ms;  /* when it began */
    uint64_t differs_ms; /* since when speeds are not those in use, 0: they are */
    uint64_t changed_ms, pause_ms;
    bool raised; /* the last change gave rows back */
};

void speed_init(struct speed *s, const struct config *c);
/* Nothing is known of the node any more: it is as cluster.json says. */
void speed_reset(struct speed *s, int32_t node);
/* Other nodes than before are there: what was seen is no longer in proportion. */
void speed_forget(struct speed *s, uint64_t now_ms);

/* A frame of `node` was estimated at `work_us` > 0 and took `spent_us`. */
void speed_sample(struct speed *s, int32_t node, double work_us, double spent_us);
/* Some times a second, with the nodes that take part (a bit each).  Returns whether plans should be
 * made anew, by what is in `used` then. */
bool speed_tick(struct speed *s, uint32_t nodes, uint64_t now_ms);

/* The weight of `node` for a plan, 1..1000000. */
int32_t speed_weight(const struct speed *s, int32_t node);

#endif
