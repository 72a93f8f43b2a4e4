/* daemon/worker_impl.h - what the worker's files share: daemon/worker.c has its life and its
 * events, daemon/worker_frames.c frames and HALOs, daemon/worker_plans.c programs,
 * daemon/worker_models.c files. */
#ifndef DAEMON_WORKER_IMPL_H
#define DAEMON_WORKER_IMPL_H

#include <limits.h>
#include <pthread.h>

#include "daemon/session.h"
#include "daemon/worker.h"

struct worker {
    uv_loop_t *loop;
    const struct config *config;
    int32_t self;
    struct store *store;
    struct mesh *mesh; /* set once, under the lock */
    uv_async_t async;  /* the compute thread has something for the loop */
    uv_timer_t reaper;

    pthread_mutex_t lock;       /* held for a few instructions at a time; guards what follows */
    uint64_t starts;            /* frames so far: a clock for eviction */
    struct session *sessions;   /* changed by the loop only, under the lock */
    struct lane *first, **last; /* to be run */
    pthread_cond_t work;
    bool receives; /* the compute thread: it has no work and pulls */
    bool quit;
    bool ended;       /* a frame ended while a claim was open: the loop looks after it */
    bool thread_done; /* the compute thread is about to return */

    struct pool *pool; /* the compute thread's */
    pthread_t thread;
    bool joined;

    struct session *loading; /* on the pool */
    uv_work_t load;
    char file[PATH_MAX];
    struct session_limits limits;
    int load_status;
    struct diag load_why;
    int keeping; /* models on their way to the disk */

    int handles;
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static inline const char *worker_name_of(const struct worker *w, int32_t node)
{
    return w->config->node[node].name;
}

/* To the coordinator.  One that is not there learns nothing; its loss is handled elsewhere.  Any
 * thread. */
void worker_answer(struct worker *w, const struct header *h, const void *body);

/* ---- daemon/worker_frames.c */

void *worker_compute(void *worker); /* the compute thread, until `quit` */
/* There is work, and there was none while `receives` was so.  Without the lock, for which who wakes
 * up would have to go to sleep again. */
void worker_wake(struct worker *w, bool receives);
/* A FRAME, a CANCEL of a frame: whatever thread receives. */
void worker_start_frame(struct worker *w, const struct header *h);
void worker_cancel_frame(struct worker *w, const struct header *h);
void worker_cancel_all_locked(struct session *s); /* all that it runs; the lock is held */
/* Answers for frames that had ended before their last claim did.  The loop. */
void worker_finish_ended(struct worker *w);

/* ---- daemon/worker_plans.c.  The loop. */

void worker_take_plan(struct worker *w, const struct header *h, const uint8_t *body);
/* The coordinator needs the plan no more. */
void worker_forget_plan(struct worker *w, const struct header *h);
/* No new frame, no new claim; freed as soon as nothing uses it. */
void worker_close_session(struct worker *w, struct session *s);
/* Frees closed sessions, and comes back for those that something still uses; then loads the next
 * plan, or goes on with closing. */
void worker_reap(struct worker *w);

/* ---- daemon/worker_models.c.  The loop. */

void worker_take_offer(struct worker *w, const struct header *h, const uint8_t *body);
void worker_take_chunk(struct worker *w, const struct header *h, const uint8_t *body);

/* ---- daemon/worker.c */

/* Goes on with closing as far as it can now. */
void worker_close_step(struct worker *w);

#endif
