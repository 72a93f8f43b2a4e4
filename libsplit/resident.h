/* libsplit/resident.h - memory that every frame goes through: packed weights, the tensors' arena.
 *
 * Large blocks lie in huge pages where the kernel has some: a frame reads hundreds of MB of
 * weights, and with pages of 4 KB each takes 4096 / 64 = 64 cache lines until the next TLB miss.  A
 * process that asks for it keeps them out of swap, too: otherwise a node that has been idle for a
 * night fetches its weights from an SD card when the first picture comes.  Any thread. */
#ifndef LIBSPLIT_RESIDENT_H
#define LIBSPLIT_RESIDENT_H

#include <stdbool.h>
#include <stddef.h>

enum { RESIDENT_ALIGN = 64 }; /* a cache line, and the widest SIMD register */

/* Zeroed and present, aligned to RESIDENT_ALIGN.  NULL when memory is short. */
void *resident_alloc(size_t bytes);
/* `p` may be NULL. */
void resident_free(void *p);

/* Large blocks made from now on are locked in memory, as far as the process may lock any
 * (RLIMIT_MEMLOCK) and up to half of what the machine has: for a process that is there to compute,
 * not for a guest in somebody else's. */
void resident_keep(bool keep);

#endif
