#include "libsplit/resident.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_BYTES = 2 << 20 }; /* of a huge page on x86-64, and on arm64 with pages of 4 KB */

/* Blocks from here on have a mapping of their own.  None where AddressSanitizer shall see who
 * writes beyond the end. */
#ifdef __SANITIZE_ADDRESS__
static const size_t own_bytes = SIZE_MAX;
#else
static const size_t own_bytes = 64 << 10;
#endif

static _Atomic bool keep_blocks;
static _Atomic size_t locked_bytes;

/* In front of every block. */
struct head {
    /* Bytes of its own mapping, which begins here; 0: it is malloc's. */
    _Alignas(RESIDENT_ALIGN) size_t mapped;
    size_t locked; /* of these */
};

void resident_keep(bool keep) { atomic_store(&keep_blocks, keep); }

/* A mapping that begins where a huge page can, if it is long enough for one. */
static void *map(size_t bytes)
{
    const size_t spare = bytes < HUGE_BYTES ? 0 : HUGE_BYTES;
    uint8_t *at =
        mmap(NULL, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return NULL;
    if (spare > 0) {
        const size_t before = (size_t)(-(uintptr_t)at & (HUGE_BYTES - 1));
        if (before > 0)
            (void)munmap(at, before);
        at += before;
        if (before < spare)
            (void)munmap(at + bytes, spare - before);
        (void)madvise(at, bytes, MADV_HUGEPAGE); /* a wish */
    }
    return at;
}

/* Returns how much of it is locked now: all or nothing. */
static size_t lock(void *at, size_t bytes)
{
    const size_t half = (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);

    if (atomic_fetch_add(&locked_bytes, bytes) + bytes <= half && mlock(at, bytes) == 0)
        return bytes;
    atomic_fetch_sub(&locked_bytes, bytes);
    return 0;
}

void *resident_alloc(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct head *h;

    if (bytes > SIZE_MAX - 2 * HUGE_BYTES)
        return NULL;
    const size_t all = sizeof *h + (bytes + RESIDENT_ALIGN - 1) / RESIDENT_ALIGN * RESIDENT_ALIGN;
    const size_t mapped = all < own_bytes ? 0 : (all + page - 1) / page * page;
    h = mapped > 0 ? map(mapped) : aligned_alloc(RESIDENT_ALIGN, all);
    if (!h)
        return NULL;
    const size_t locked = mapped > 0 && atomic_load(&keep_blocks) ? lock(h, mapped) : 0;
    memset(h, 0, all); /* no page faults in the first frame */
    *h = (struct head){ .mapped = mapped, .locked = locked };
    return h + 1;
}

void resident_free(void *p)
{
    struct head *h = p ? (struct head *)p - 1 : NULL;

    if (!h || h->mapped == 0) {
        free(h);
        return;
    }
    atomic_fetch_sub(&locked_bytes, h->locked);
    (void)munmap(h, h->mapped);
}
