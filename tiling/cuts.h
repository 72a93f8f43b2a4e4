/* tiling/cuts.h - where maps of one height could be cut so that cuts follow those of another.
 *
 * All maps of a height are cut alike, or rows would travel between them.  Where a stride, a pad
 * or a resampling leads from one height to another, rows travel, too, unless the cuts of one are
 * the cuts of the other as the operator sees them; in proportion to the nodes' speed they need not
 * be. */
#ifndef TILING_CUTS_H
#define TILING_CUTS_H

#include "tiling/placement.h"

enum { CUTS_MAX_HEIGHTS = 32, CUTS_MAX_CANDIDATES = 8 };

/* Lists the heights, rising, of the tensors that are cut by rows where the plan likes; returns how
 * many, or 0 if there are more than CUTS_MAX_HEIGHTS. */
int32_t cuts_heights(const struct placement *where, int32_t height[CUTS_MAX_HEIGHTS]);

/* Lists cuts for maps of `height` rows that follow from those of maps of `from` rows, 0 for any
 * other; no two the same.  Returns how many. */
int32_t cuts_candidates(const struct placement *where, int32_t height, int32_t from,
                        struct bands out[CUTS_MAX_CANDIDATES]);

/* How maps of `height` rows are cut, each cut moved to the nearest place between rows that an
 * operator computes together: a node that is a little weaker than others would else leave them a
 * row that takes as long as several. */
struct bands cuts_between_units(const struct placement *where, int32_t height);

/* Cuts all tensors of `height` rows at `bands`, or only notes how they are cut. */
void cuts_set(struct placement *where, int32_t height, const struct bands *bands);
struct bands cuts_get(const struct placement *where, int32_t height);

#endif
