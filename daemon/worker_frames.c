#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "daemon/worker_impl.h"
#include "libsplit/clock.h"
#include "proto/frame.h"

/* Frees the trace. */
static void answer_frame(struct worker *w, struct frame_end *o)
{
    const struct exec_stats *st = &o->stats;
    const struct msg_frame_done done = { .status = o->status,
                                         .compute_ns = (uint64_t)st->compute_ns,
                                         .wait_ns = (uint64_t)st->wait_ns,
                                         .pack_ns = (uint64_t)st->pack_ns,
                                         .send_ns = (uint64_t)st->send_ns,
                                         .sent_bytes = (uint64_t)st->sent_bytes,
                                         .received_bytes = (uint64_t)st->received_bytes,
                                         .halo_sent_bytes = (uint64_t)st->halo_sent_bytes,
                                         .sent_messages = (uint32_t)st->sent_messages,
                                         .received_messages = (uint32_t)st->received_messages,
                                         .concealed = (uint32_t)st->concealed };
    uint8_t plain[FRAME_DONE_BYTES];
    uint8_t *body = o->trace ? malloc(frame_done_bytes(o->trace->n)) : plain;

    if (!body) { /* then without */
        free(o->trace);
        o->trace = NULL;
        body = plain;
    }
    const struct header h = { .type = MSG_FRAME_DONE,
                              .epoch = o->epoch,
                              .plan = o->plan,
                              .frame = o->frame,
                              .length = (uint32_t)frame_done_bytes(o->trace ? o->trace->n : 0) };
    frame_done_encode(&done, o->trace, body);
    worker_answer(w, &h, body);
    if (o->trace)
        free(body);
    free(o->trace);
}

/* ---- lanes.  The lock is held where a name ends in _locked. */

/* The session whose frames may run, NULL if there is none. */
static struct session *open_session_locked(struct worker *w, uint32_t epoch, uint32_t plan)
{
    struct session *s = w->sessions;

    while (s && (s->epoch != epoch || s->number != plan || !s->ready || s->withdrawn || s->closed))
        s = s->next;
    return s;
}

static bool newer(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }

/* The lane is ready for the next frame: whatever still comes for this one is dropped. */
static void retire_locked(struct lane *l)
{
    mailbox_clear(l->mailbox);
    atomic_store(&l->cancelled, false);
    l->state = LANE_FREE;
    l->last = l->frame;
    l->used = true;
}

/* Turns the lane to `frame`, if it may.  A frame of which only HALOs have come was given up by
 * the coordinator when a newer one is under way. */
static bool open_lane_locked(struct lane *l, uint32_t frame)
{
    if (l->state == LANE_OPEN && newer(frame, l->frame) && !mailbox_filling(l->mailbox))
        retire_locked(l);
    if (l->state == LANE_FREE && (!l->used || newer(frame, l->last))) {
        l->frame = frame;
        l->state = LANE_OPEN;
    }
    return l->state != LANE_FREE && l->state != LANE_ENDED && l->frame == frame;
}

/* ---- the compute thread */

static bool has_work(void *ctx)
{
    struct worker *w = ctx;

    pthread_mutex_lock(&w->lock);
    const bool yes = w->first || w->quit;
    pthread_mutex_unlock(&w->lock);
    return yes;
}

/* `lock` is held.  On any node but the coordinator's work comes over the coordinator's link, so
 * this thread receives from it: no other need wake up for a FRAME, nor for the input behind it. */
static void sleep_locked(struct worker *w)
{
    const int32_t host = w->config->coordinator;
    bool pulled = false;

    if (w->mesh && host != w->self) {
        w->receives = true;
        pthread_mutex_unlock(&w->lock);
        pulled = mesh_pull(w->mesh, host, has_work, w, INT64_MAX);
        pthread_mutex_lock(&w->lock);
        w->receives = false;
    }
    if (!pulled && !w->first && !w->quit)
        pthread_cond_wait(&w->work, &w->lock);
}

void worker_wake(struct worker *w, bool receives)
{
    if (!receives)
        pthread_cond_signal(&w->work);
    else if (!pthread_equal(pthread_self(), w->thread))
        mesh_nudge(w->mesh, w->config->coordinator);
}

static struct lane *next_lane(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->first && !w->quit)
        sleep_locked(w);
    struct lane *l = w->first;
    if (l) {
        w->first = l->next;
        if (!w->first)
            w->last = &w->first;
    }
    pthread_mutex_unlock(&w->lock);
    return l;
}

static void run_lane(struct worker *w, struct lane *l)
{
    const int64_t deadline =
        (int64_t)uv_hrtime() + w->config->request_timeout_ms * INT64_C(1000000);
    struct frame_end o = { .epoch = l->session->epoch, .plan = l->session->number };

    o.status = lane_run(l, deadline, &o.stats);

    pthread_mutex_lock(&w->lock);
    /* While its sender still writes here no frame may take the lane. */
    const bool over = !mailbox_filling(l->mailbox);
    o.frame = l->frame;
    o.trace = l->trace;
    l->trace = NULL;
    if (over) {
        retire_locked(l);
    } else {
        l->state = LANE_ENDED;
        l->end = o;
    }
    const bool closed = l->session->closed;
    pthread_mutex_unlock(&w->lock);
    /* From here on the session may be gone. */
    if (over)
        answer_frame(w, &o);
    mesh_flush(w->mesh, w->config->coordinator);
    if (closed)
        uv_async_send(&w->async);
}

void *worker_compute(void *arg)
{
    struct worker *w = arg;

    pthread_setname_np(pthread_self(), "compute"); /* for top and perf */
    for (struct lane *l; (l = next_lane(w)) != NULL;)
        run_lane(w, l);
    pthread_mutex_lock(&w->lock);
    w->thread_done = true;
    uv_async_send(&w->async);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- HALOs.  Whatever thread receives. */

static bool is_expected(const struct session *s, int32_t node, uint32_t transfer)
{
    return transfer < (uint32_t)s->plan.program.ntransfers && s->from[transfer] == node;
}

uint8_t *worker_claim(struct worker *w, int32_t node, const struct header *h)
{
    uint8_t *to = NULL;

    pthread_mutex_lock(&w->lock);
    struct session *s = open_session_locked(w, h->epoch, h->plan);
    if (s && is_expected(s, node, h->transfer)) {
        struct lane *l = session_lane(s, h->frame);
        if (open_lane_locked(l, h->frame))
            to = mailbox_claim(l->mailbox, (int32_t)h->transfer, h->length);
        if (to)
            l->claims++;
    }
    pthread_mutex_unlock(&w->lock);
    return to;
}

/* The lane in which a claim is open.  No other session has the same epoch and number as long as
 * it lives: load_next() waits for that. */
static struct lane *claimed_lane_locked(struct worker *w, const struct header *h)
{
    struct session *s = w->sessions;

    while (s->epoch != h->epoch || s->number != h->plan)
        s = s->next;
    return session_lane(s, h->frame);
}

static void end_claim_locked(struct worker *w, struct lane *l)
{
    l->claims--;
    if (l->state == LANE_ENDED && !mailbox_filling(l->mailbox)) {
        w->ended = true;
        uv_async_send(&w->async);
    }
}

void worker_arrived(struct worker *w, int32_t node, const struct header *h)
{
    (void)node;
    pthread_mutex_lock(&w->lock);
    struct lane *l = claimed_lane_locked(w, h);
    mailbox_post(l->mailbox, (int32_t)h->transfer, h->length);
    end_claim_locked(w, l);
    pthread_mutex_unlock(&w->lock);
}

void worker_failed(struct worker *w, int32_t node, const struct header *h)
{
    (void)node;
    pthread_mutex_lock(&w->lock);
    struct lane *l = claimed_lane_locked(w, h);
    mailbox_abandon(l->mailbox, (int32_t)h->transfer);
    end_claim_locked(w, l);
    pthread_mutex_unlock(&w->lock);
}

/* ---- frames */

/* Queues the frame.  `*trace` gets room for what it will do, if the coordinator wants to know; none
 * if memory is short: the frame matters more. */
static int start_locked(struct worker *w, const struct header *h, struct trace **trace)
{
    struct session *s = open_session_locked(w, h->epoch, h->plan);
    struct lane *l = s ? session_lane(s, h->frame) : NULL;

    if (!s)
        return -ESTALE;
    if (h->flags & HEADER_TRACE)
        *trace = trace_new(&s->plan.program);
    if (!open_lane_locked(l, h->frame) || l->state != LANE_OPEN)
        return -EBUSY;
    s->used = ++w->starts;
    l->state = LANE_STARTED;
    l->trace = *trace;
    l->brief = (h->flags & HEADER_BRIEF) != 0;
    l->fresh = (h->flags & HEADER_FRESH) != 0;
    l->started_ns = clock_ns();
    l->next = NULL;
    *w->last = l;
    w->last = &l->next;
    return 0;
}

void worker_start_frame(struct worker *w, const struct header *h)
{
    struct trace *trace = NULL;

    pthread_mutex_lock(&w->lock);
    const int status = start_locked(w, h, &trace);
    const bool receives = w->receives;
    pthread_mutex_unlock(&w->lock);
    if (status == 0)
        worker_wake(w, receives);
    else
        answer_frame(w, &(struct frame_end){ .epoch = h->epoch,
                                             .plan = h->plan,
                                             .frame = h->frame,
                                             .status = status,
                                             .trace = trace });
}

static void cancel_locked(struct lane *l)
{
    if (l->state == LANE_STARTED)
        lane_cancel(l);
    else if (l->state == LANE_OPEN && !mailbox_filling(l->mailbox))
        retire_locked(l);
}

void worker_cancel_frame(struct worker *w, const struct header *h)
{
    pthread_mutex_lock(&w->lock);
    struct session *s = open_session_locked(w, h->epoch, h->plan);
    struct lane *l = s ? session_lane(s, h->frame) : NULL;
    if (l && l->frame == h->frame) {
        atomic_store(&l->failed, true);
        cancel_locked(l);
    }
    pthread_mutex_unlock(&w->lock);
}

void worker_cancel_all_locked(struct session *s)
{
    for (int32_t i = 0; s->ready && i < s->plan.depth; i++)
        cancel_locked(&s->lane[i]);
}

void worker_finish_ended(struct worker *w)
{
    for (struct session *s = w->sessions; s; s = s->next) {
        for (int32_t i = 0; i < s->plan.depth; i++) {
            struct lane *l = &s->lane[i];
            pthread_mutex_lock(&w->lock);
            const bool over = l->state == LANE_ENDED && !mailbox_filling(l->mailbox);
            struct frame_end end = l->end;
            if (over) {
                l->end.trace = NULL;
                retire_locked(l);
            }
            pthread_mutex_unlock(&w->lock);
            if (over)
                answer_frame(w, &end);
        }
    }
}

/* The loop, which ends the session, hears of it after the FRAMEs that come behind. */
static void withdraw(struct worker *w, const struct header *h)
{
    pthread_mutex_lock(&w->lock);
    struct session *s = open_session_locked(w, h->epoch, h->plan);
    if (s)
        s->withdrawn = true;
    pthread_mutex_unlock(&w->lock);
}

bool worker_order(struct worker *w, int32_t node, const struct header *h)
{
    if (node != w->config->coordinator)
        return false;
    if (h->type == MSG_FRAME)
        worker_start_frame(w, h);
    else if (h->frame > 0)
        worker_cancel_frame(w, h);
    else
        withdraw(w, h);
    return h->type == MSG_FRAME || h->frame > 0;
}
