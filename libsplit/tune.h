/* libsplit/tune.h - which way computes each convolution fastest, by measuring.
 *
 * What convolutions are expected to cost (libsplit/conv.c) was fitted to one machine.  All nodes of
 * a cluster must compute a layer alike, or the last bits of their results would differ: one of them
 * measures, and tells the others its ways. */
#ifndef LIBSPLIT_TUNE_H
#define LIBSPLIT_TUNE_H

#include "libsplit/graph.h"
#include "tiling/plan.h"

struct tune_options {
    int64_t limit_ms; /* no measurement begins later than this; what is left stays as it was */
    /* A file of earlier results, replaced by new ones; NULL: none.  It counts only where network,
     * instruction set and processor are those that it was written for. */
    const char *cache;
};

/* Measures the ways of the convolutions of `g`, which graph_build() made, where the expected costs
 * are near each other and large enough to matter.  A way that is expected to be slower must be 5 %
 * faster to be taken.  One thread; takes the memory of one layer.  Returns how many layers changed
 * their way, or -ENOMEM.  A cache that cannot be read or written is as good as none. */
int graph_tune(struct graph *g, const struct tune_options *o);

/* ways[i] is the way of operator `i` of g->nops, an enum conv_way, 0 where there is no choice. */
void graph_ways(const struct graph *g, uint8_t *ways);
/* The ways for nodes that compute as plan `p` says.  On a band of rows, weights are read for fewer
 * products: a way that reads less of them may cost less than the one that is best for the whole
 * map.  Only ways whose tiles all cuts of `p` respect, too, and only where that is much: the last
 * bits are then no longer those of one node. */
void graph_ways_of_plan(const struct graph *g, const struct plan *p, uint8_t *ways);
/* Takes the ways of another machine, before anything else is done with `g`.  Returns 0, -EPROTO
 * (there are not g->nops of them, or one is none) or -ENOMEM. */
int graph_set_ways(struct graph *g, const uint8_t *ways, int32_t n);

#endif
