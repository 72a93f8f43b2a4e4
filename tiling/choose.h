/* tiling/choose.h - rows or channels, exchange or recompute: what is left to choose of a plan.
 *
 * Two questions for every tensor.  Is it cut by rows or by channels (tiling/placement.h)?  And is
 * it sent to who reads it, or computed there once more, from more of what it is made of?  The
 * second answer to the second question covers what the field has several names for: where a
 * convolution of one pixel widens the map before one that looks at neighbours, the narrow map is
 * exchanged; where several layers in a row are recomputed, they are fused, and one message takes
 * the place of several; and small layers between a reduction and the map that it scales
 * (squeeze-and-excite) run everywhere instead of being asked for.
 *
 * It is a rule and not a search: walks over the operators that change one tensor, or a few that
 * follow each other, and keep what makes the plan faster by tiling/cost.h.  So the plan is never
 * slower, by that estimate, than one that exchanges everything. */
#ifndef TILING_CHOOSE_H
#define TILING_CHOOSE_H

#include "tiling/demand.h"

/* Chooses what `o` leaves open and fixes part, own, run and want of every tensor accordingly.
 * Changes where->along.  Returns 0 or -ENOMEM. */
int choose(struct plan *p, struct placement *where, const struct readers *readers,
           const struct plan_options *o);

#endif
