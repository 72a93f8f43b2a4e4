#include "libsplit/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/clock.h"
#include "libsplit/futex.h"

enum {
    SPIN_NS = 50000, /* before a thread sleeps: longer than operators too small for threads */
    LOOKS = 64,      /* between two readings of the clock while spinning */
    CACHE_LINE = 64,
};

enum { NONE = -1 };

struct worker {
    struct pool *pool;
    int32_t index; /* its own part, 1..threads-1 */
    pthread_t thread;
};

struct pool {
    int32_t threads, started; /* `started` of the threads beside the caller */
    int64_t part_work, spin_ns;
    struct worker worker[POOL_MAX_THREADS];

    /* The job.  Written before its bits appear in `open`, read after one was taken; the caller
     * goes on only when all that were taken are done. */
    void (*part)(void *ctx, int32_t i);
    void *ctx;

    /* Bit i is part i of the job, as long as nobody has taken it. */
    _Alignas(CACHE_LINE) _Atomic uint64_t open;
    /* Counts jobs: what idle threads sleep on. */
    _Alignas(CACHE_LINE) _Atomic uint32_t jobs;
    _Atomic int32_t sleepers;
    _Atomic bool quit;
    /* Parts that are not done: what the caller sleeps on. */
    _Alignas(CACHE_LINE) _Atomic uint32_t left;
    _Atomic bool caller_sleeps;
};

_Static_assert(POOL_MAX_THREADS <= 64, "struct pool.open has a bit for every part");

int32_t pool_threads(const struct pool *p) { return p ? p->threads : 1; }

int32_t pool_parts(const struct pool *p, int64_t work)
{
    const int64_t parts = p ? work / p->part_work : 1;
    return parts < 1 ? 1 : parts > pool_threads(p) ? pool_threads(p) : (int32_t)parts;
}

/* Part `own` if it is open, else any other, else NONE. */
static int32_t take(struct pool *p, int32_t own)
{
    uint64_t open = atomic_load(&p->open);
    while (open) {
        const int32_t i = open >> own & 1 ? own : __builtin_ctzll(open);
        if (atomic_compare_exchange_weak(&p->open, &open, open & ~(UINT64_C(1) << i)))
            return i;
    }
    return NONE;
}

/* The order "left, then caller_sleeps" here and "caller_sleeps, then left" in wait_for_parts()
 * makes sure that one of the two sees the other.  Sleepers on `jobs` rely on the same. */
static void part_done(struct pool *p)
{
    if (atomic_fetch_sub(&p->left, 1) == 1 && atomic_load(&p->caller_sleeps))
        futex_wake_all(&p->left);
}

static void run_parts(struct pool *p, int32_t own)
{
    for (int32_t i = take(p, own); i != NONE; i = take(p, own)) {
        p->part(p->ctx, i);
        part_done(p);
    }
}

/* Looks at `*word` for a while.  Returns whether it has changed from `value`. */
static bool spin(const struct pool *p, _Atomic uint32_t *word, uint32_t value)
{
    if (p->spin_ns == 0)
        return atomic_load(word) != value;
    const int64_t end = clock_ns() + p->spin_ns;
    do {
        for (int i = 0; i < LOOKS; i++)
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return true;
    } while (clock_ns() < end);
    return false;
}

/* ---- The threads beside the caller */

static void wait_for_job(struct pool *p, uint32_t seen)
{
    if (spin(p, &p->jobs, seen))
        return;
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->jobs) == seen)
        futex_wait(&p->jobs, seen, INT64_MAX);
    atomic_fetch_sub(&p->sleepers, 1);
}

static void *worker_main(void *arg)
{
    const struct worker *w = arg;
    struct pool *p = w->pool;
    for (;;) {
        /* Read first: whatever comes after it, a job or the end, changes it again. */
        const uint32_t seen = atomic_load(&p->jobs);
        if (atomic_load(&p->quit))
            return NULL;
        run_parts(p, w->index);
        wait_for_job(p, seen);
    }
}

/* Whatever changed before is seen by all threads after this. */
static void announce(struct pool *p)
{
    atomic_fetch_add(&p->jobs, 1);
    if (atomic_load(&p->sleepers) > 0)
        futex_wake_all(&p->jobs);
}

/* ---- The caller */

void pool_wake(struct pool *p)
{
    if (p && atomic_load(&p->sleepers) > 0)
        announce(p);
}

static void wait_for_parts(struct pool *p)
{
    uint32_t left = atomic_load(&p->left);
    while (left != 0 && spin(p, &p->left, left))
        left = atomic_load(&p->left);
    if (left == 0)
        return;
    atomic_store(&p->caller_sleeps, true);
    while ((left = atomic_load(&p->left)) != 0)
        futex_wait(&p->left, left, INT64_MAX);
    atomic_store(&p->caller_sleeps, false);
}

void pool_run(struct pool *p, int32_t parts, void (*part)(void *ctx, int32_t i), void *ctx)
{
    if (parts == 1) {
        part(ctx, 0);
        return;
    }
    p->part = part;
    p->ctx = ctx;
    atomic_store(&p->left, (uint32_t)parts);
    atomic_store(&p->open, UINT64_MAX >> (64 - parts));
    announce(p);
    run_parts(p, 0);
    wait_for_parts(p);
}

/* ---- Life */

/* Processors that this process may use. */
static int32_t processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int pool_new(struct pool **to, int32_t threads, int64_t part_work, struct diag *why)
{
    if (threads < 1 || threads > POOL_MAX_THREADS || part_work < 1)
        return diag(why, -EINVAL, "%d threads asked for, 1 to %d are possible", threads,
                    POOL_MAX_THREADS);
    struct pool *p = aligned_alloc(CACHE_LINE, sizeof *p);
    if (!p)
        return diag(why, -ENOMEM, "not enough memory for %d threads", threads);
    memset(p, 0, sizeof *p);
    p->threads = threads;
    p->part_work = part_work;
    /* Who spins keeps from running whom it waits for, where there are not processors enough. */
    p->spin_ns = threads <= processors() ? SPIN_NS : 0;
    int err = 0;
    for (int32_t i = 1; i < threads && !err; i++) {
        p->worker[i] = (struct worker){ .pool = p, .index = i };
        err = -pthread_create(&p->worker[i].thread, NULL, worker_main, &p->worker[i]);
        p->started += !err;
    }
    if (err) {
        diag(why, err, "only %d of %d threads can be started: %s", p->started + 1, threads,
             strerror(-err));
        pool_free(p);
    } else {
        *to = p;
    }
    return err;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->quit, true);
    announce(p);
    for (int32_t i = 1; i <= p->started; i++)
        pthread_join(p->worker[i].thread, NULL);
    free(p);
}
