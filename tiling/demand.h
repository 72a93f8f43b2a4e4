/* tiling/demand.h - what follows from who owns a tensor: what nodes run, want and send.
 *
 * For plan_build() and those that try out plans; everybody else reads the finished plan. */
#ifndef TILING_DEMAND_H
#define TILING_DEMAND_H

#include "tiling/placement.h"
#include "tiling/plan.h"
#include "tiling/readers.h"

/* Gives every node its part of `tensor`. */
void demand_place(struct plan *p, const struct placement *where, int32_t tensor);

/* Fixes what is run and wanted of `tensor`, whose readers' outputs are fixed.  Returns whether
 * anybody runs another part of it than before. */
bool demand_settle(struct plan *p, const struct readers *readers, int32_t tensor);

/* Does any node lack a part of `tensor`? */
bool demand_travels(const struct plan *p, int32_t tensor);

enum { DEMAND_MAX_TRANSFERS = BOX_SUBTRACT_MAX * (PLAN_MAX_NODES + 1) };

/* Lists what node `to` lacks of `tensor`, each piece from its owner; returns how many. */
int32_t demand_transfers(const struct plan *p, int32_t tensor, int32_t to,
                         struct plan_transfer out[DEMAND_MAX_TRANSFERS]);

#endif
