/* libsplit/arena.h - places buffers that live at different times into one block of memory. */
#ifndef LIBSPLIT_ARENA_H
#define LIBSPLIT_ARENA_H

#include <stdint.h>

enum { ARENA_ALIGN = 64 };

struct arena_item {
    int64_t bytes;       /* >= 0 */
    int32_t first, last; /* in use from step `first` through step `last` */
    int64_t offset;      /* out: a multiple of ARENA_ALIGN */
};

/* Chooses offsets such that items in use at the same step do not overlap: first fit, the
 * largest item first (Greedy by Size, Pisarchyk and Lee, MLSys 2020).  Returns the bytes of the
 * block, -ENOMEM (no memory to plan in) or -EOVERFLOW (more than INT64_MAX bytes). */
int64_t arena_plan(struct arena_item *item, int32_t n);

#endif
