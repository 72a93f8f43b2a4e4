/* libsplit/place.h - how the buffers of a program lie in memory: alone, or one inside another.
 *
 * What a Concat along channels joins is written where the Concat would put it: a slice of the
 * channels of its pixels.  Nothing is copied, and there is one buffer less. */
#ifndef LIBSPLIT_PLACE_H
#define LIBSPLIT_PLACE_H

#include <stddef.h>

#include "libsplit/graph.h"
#include "tiling/program.h"

struct place {
    int32_t root;     /* the buffer that this one lies in; itself where it lies alone */
    ptrdiff_t offset; /* of its first value from the root's first, in floats */
    ptrdiff_t row_stride, pixel_stride, image_stride; /* in floats */
};

/* Fills place[0..pr->nbuffers).  Buffers that are sent or received lie alone and dense.  Returns
 * 0 or -ENOMEM. */
int place_buffers(const struct graph *g, const struct geometry *geo, const struct program *pr,
                  struct place *place);

#endif
