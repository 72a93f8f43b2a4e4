/* libsplit/futex.h - threads of one process sleep on a word: futex(2). */
#ifndef LIBSPLIT_FUTEX_H
#define LIBSPLIT_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Sleeps while `*word` is `value`, at most until `deadline_ns` of CLOCK_MONOTONIC (INT64_MAX: for
 * ever).  May return early: look again. */
static inline void futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline_ns)
{
    const struct timespec until = { .tv_sec = (time_t)(deadline_ns / 1000000000),
                                    .tv_nsec = (long)(deadline_ns % 1000000000) };
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, &until, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

#endif
