/* libsplit/pool.h - threads that share the work of one operator after the other.
 *
 * A job is cut into parts beforehand, at most one for each thread; the caller is one of the
 * threads.  A thread takes its own part first, and then any that nobody has begun, so that a
 * thread which the machine has no time for holds nobody up.  Between jobs threads spin for some
 * tens of microseconds and then sleep. */
#ifndef LIBSPLIT_POOL_H
#define LIBSPLIT_POOL_H

#include <stdint.h>

#include "libsplit/diag.h"

enum { POOL_MAX_THREADS = 64 };

/* The usual `part_work` of pool_new(): some microseconds of one core, several times what it
 * takes to hand a part to a thread that spins. */
#define POOL_PART_WORK INT64_C(200000)

struct pool;

/* `threads` is 1..POOL_MAX_THREADS, the caller of pool_run() included.  `part_work` is the least
 * work, in multiply-adds, that is worth a thread.  Returns 0, -EINVAL, -ENOMEM or an error of
 * pthread_create(3), with `*why`. */
int pool_new(struct pool **p, int32_t threads, int64_t part_work, struct diag *why);
void pool_free(struct pool *p); /* no job may run */

/* NULL stands for a pool of the caller alone. */
int32_t pool_threads(const struct pool *p);
/* Parts that are worth while for `work` multiply-adds, 1..pool_threads(). */
int32_t pool_parts(const struct pool *p, int64_t work);

/* A job is about to come: threads that sleep get up, which may take as long as a small job.  Costs
 * next to nothing where none does. */
void pool_wake(struct pool *p);

/* Calls `part` once for each of 0..parts-1, from any of the threads, and returns when all calls
 * have.  `parts` is 1..pool_threads().  One job at a time; allocates nothing. */
void pool_run(struct pool *p, int32_t parts, void (*part)(void *ctx, int32_t i), void *ctx);

#endif
