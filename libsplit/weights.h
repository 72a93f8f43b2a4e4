/* libsplit/weights.h - copies a convolution's weights into the layout that a kernel wants. */
#ifndef LIBSPLIT_WEIGHTS_H
#define LIBSPLIT_WEIGHTS_H

#include "libsplit/graph.h"

enum weight_axis { W_GROUP, W_OUT, W_IN, W_ROW, W_COL, W_AXES }; /* out, in: of one group */

/* Weight (g, o, i, y, x) of `extent` moves from element sum(index * from) of the constant to
 * sum(index * to) of the packed weights. */
struct weight_layout {
    int64_t extent[W_AXES], from[W_AXES], to[W_AXES];
};

/* Weights behind output channels `outs` of each of `groups`. */
int64_t weights_count(const struct weight_layout *l, struct span groups, struct span outs);

/* Packs these weights of `op` (OP_CONV or OP_CONV_TRANSPOSE), multiplied by op->u.conv.scale,
 * and lets go of the model's pages on the way.  The first of `outs` of the first of `groups` goes
 * to element 0.  weights_free() the result; NULL: no memory. */
float *weights_pack(const struct graph *g, const struct op *op, const struct weight_layout *l,
                    struct span groups, struct span outs);

/* Packs output channels `outs` and input channels `ins` of group `g` alone: the first of them goes
 * to `to`, the group's own place (to[W_GROUP]) does not count.  Lets nothing go. */
void weights_pack_part(float *to, const struct op *op, const struct weight_layout *l, int64_t g,
                       struct span outs, struct span ins);

/* Do the weights of one output channel lie together in the model, so that its pages can be let
 * go channel by channel? */
bool weights_by_output(const struct weight_layout *l);

/* Zeroed and resident (libsplit/resident.h).  NULL: no memory, or more than SIZE_MAX bytes. */
float *weights_alloc(int64_t count);
void weights_free(void *weights); /* may be NULL */

#endif
