/* daemon/speed.h - how fast nodes are, by what their own frames took: processors that throttle, or
 * that have something else to do, get fewer rows.
 *
 * A node's speed is the work that its part of a plan was estimated at (tiling/cost.h), by the time
 * in which it was done, in proportion to the weight that cluster.json gives the node, 1 being the
 * average of those that are there.  The estimate need not be right, only as wrong for one node as
 * for the others.
 *
 * Speeds are looked at in windows of half a second, or longer where frames are, and the median of
 * the last 9 or 27 counts: what lasts a moment moves nothing.  Neither does what lies
 * within the scatter of the windows themselves, by which times of throttled processors differ
 * although their speeds do not, nor less than 25 %, nor what would make the busiest node less than
 * 10 % faster.  Rows are taken away at once and given back by a quarter at a time; when that was
 * too much, the next attempt waits longer, so that nodes whose speed comes and goes do not move
 * everybody's rows all the time.
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
    SPEED_WINDOWS = 27,    /* that are kept */
    SPEED_PAUSE_MS = 3000, /* between two changes, at first */
    SPEED_PAUSE_MOST_MS = 60000,
    SPEED_WEIGHT_SCALE = 1000,
};

struct speed {
    int32_t nodes;
    int32_t weight[CONFIG_MAX_NODES]; /* of cluster.json */
    double used[CONFIG_MAX_NODES];    /* what plans go by */
    double seen[CONFIG_MAX_NODES];    /* the median; 0: nothing is known */
    /* What the last windows found, the newest last, of `judged` nodes (a bit each). */
    double found[SPEED_WINDOWS][CONFIG_MAX_NODES];
    int32_t windows;
    uint32_t judged;
    /* Of this window: */
    double work_us[CONFIG_MAX_NODES], spent_us[CONFIG_MAX_NODES];
    int32_t frames[CONFIG_MAX_NODES];
    uint64_t window_ms; /* when it began */
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
