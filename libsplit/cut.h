/* libsplit/cut.h - shares the region of an operator among the threads of a node.
 *
 * Which way a region is cut is chosen once, when a program is loaded.  The parts give, bit for
 * bit, what the region gives as a whole. */
#ifndef LIBSPLIT_CUT_H
#define LIBSPLIT_CUT_H

#include "libsplit/kernel.h"
#include "libsplit/pool.h"

struct cut {
    enum axis axis; /* ROW or CHAN */
    int32_t pieces; /* ROW: these are shared in place of rows; 0: rows are */
    int32_t parts;  /* 1: not cut */
};

/* How the threads of `pool` share `region` of what `op` yields: by rows, or the pieces that its
 * kernel computes in place of them; by channels where these are too few, or where the weights are
 * larger than the maps (each thread then reads its own weights instead of all of them).  `op` is
 * packed. */
struct cut cut_choose(const struct graph *g, const struct geometry *geo, int32_t op,
                      struct box region, const struct pool *pool);

struct part {
    struct box region;  /* box_none() if nothing falls to it */
    struct span pieces; /* of that region; empty: all of it */
};

/* Part `i` of cut->parts.  Together the parts are `region`. */
struct part cut_part(const struct cut *cut, const struct graph *g, const struct op *op,
                     struct box region, int32_t i);

#endif
