#include "daemon/worker.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/session.h"
#include "libsplit/clock.h"
#include "proto/frame.h"
#include "proto/links.h"
#include "proto/model.h"

enum {
    MAX_SESSIONS = 16,
    REAP_MS = 10, /* how often closed sessions are looked at while there are any */
};

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

static const char *name_of(const struct worker *w, int32_t node)
{
    return w->config->node[node].name;
}

/* ---- answers.  A coordinator that is not there learns nothing; its loss is handled elsewhere. */

static void answer(struct worker *w, const struct header *h, const void *body)
{
    if (w->mesh)
        (void)mesh_send(w->mesh, w->config->coordinator, h, body);
}

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
    answer(w, &h, body);
    if (o->trace)
        free(body);
    free(o->trace);
}

static void answer_plan(struct worker *w, uint32_t epoch, uint32_t plan, int status,
                        const struct session *s, const char *detail)
{
    struct msg_plan_ack ack = { .status = status };
    uint8_t body[PLAN_ACK_MAX_BYTES];

    if (s) {
        ack.arena_bytes = (uint64_t)s->arena_bytes;
        ack.weight_bytes = (uint64_t)s->weight_bytes;
    }
    snprintf(ack.detail, sizeof ack.detail, "%s", detail);
    const int n = plan_ack_encode(&ack, body, sizeof body);
    if (n < 0)
        return;
    const struct header h = {
        .type = MSG_PLAN_ACK, .epoch = epoch, .plan = plan, .length = (uint32_t)n
    };
    answer(w, &h, body);
}

static void answer_model(struct worker *w, const uint8_t sha[SHA256_BYTES], enum model_state state,
                         const char *detail)
{
    struct msg_model_state m = { .state = state };
    uint8_t body[MODEL_STATE_MAX_BYTES];

    memcpy(m.sha, sha, sizeof m.sha);
    snprintf(m.detail, sizeof m.detail, "%s", detail);
    const int n = model_state_encode(&m, body, sizeof body);
    if (n < 0)
        return;
    answer(w, &(struct header){ .type = MSG_MODEL_STATE, .length = (uint32_t)n }, body);
}

/* Tells the coordinator with whom this node can talk. */
static void report_links(struct worker *w)
{
    uint32_t nodes = 0;
    uint8_t body[LINKS_BYTES];

    for (int32_t i = 0; w->mesh && i < w->config->nnodes; i++)
        nodes |= mesh_is_up(w->mesh, i) ? UINT32_C(1) << i : 0;
    links_encode(nodes, body);
    answer(w, &(struct header){ .type = MSG_LINKS, .length = LINKS_BYTES }, body);
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

/* There is work, and there was none while `receives` was so.  Without the lock, for which who wakes
 * up would have to go to sleep again. */
static void wake(struct worker *w, bool receives)
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

static void *compute(void *arg)
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

static void start_frame(struct worker *w, const struct header *h)
{
    struct trace *trace = NULL;

    pthread_mutex_lock(&w->lock);
    const int status = start_locked(w, h, &trace);
    const bool receives = w->receives;
    pthread_mutex_unlock(&w->lock);
    if (status == 0)
        wake(w, receives);
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

static void cancel_frame(struct worker *w, const struct header *h)
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

static void cancel_all_locked(struct session *s)
{
    for (int32_t i = 0; s->ready && i < s->plan.depth; i++)
        cancel_locked(&s->lane[i]);
}

/* Answers for frames that had ended before their last claim did. */
static void finish_ended(struct worker *w)
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

/* ---- sessions */

static void load_next(struct worker *w);
static void close_step(struct worker *w);

/* No new frame, no new claim; freed as soon as nothing uses it. */
static void close_session(struct worker *w, struct session *s)
{
    pthread_mutex_lock(&w->lock);
    s->closed = true;
    cancel_all_locked(s);
    pthread_mutex_unlock(&w->lock);
}

static bool reap_one(struct worker *w)
{
    struct session *idle = NULL;

    pthread_mutex_lock(&w->lock);
    for (struct session **at = &w->sessions; *at; at = &(*at)->next) {
        if ((*at)->closed && session_idle(*at)) {
            idle = *at;
            *at = idle->next;
            break;
        }
    }
    pthread_mutex_unlock(&w->lock);
    session_free(idle);
    return idle != NULL;
}

static bool any_closed(const struct worker *w)
{
    for (const struct session *s = w->sessions; s; s = s->next)
        if (s->closed)
            return true;
    return false;
}

static void on_reap(uv_timer_t *timer);

/* Frees closed sessions, and comes back for those that something still uses. */
static void reap(struct worker *w)
{
    while (reap_one(w))
        ;
    if (!any_closed(w))
        uv_timer_stop(&w->reaper);
    else if (!uv_is_active((uv_handle_t *)&w->reaper))
        uv_timer_start(&w->reaper, on_reap, REAP_MS, REAP_MS);
    if (w->closing)
        close_step(w);
    else
        load_next(w);
}

static void on_reap(uv_timer_t *timer) { reap(timer->data); }

/* The coordinator needs the plan no more. */
static void forget_plan(struct worker *w, const struct header *h)
{
    for (struct session *s = w->sessions; s; s = s->next)
        if (!s->closed && s->epoch == h->epoch && s->number == h->plan)
            close_session(w, s);
    reap(w);
}

/* Pool thread: touches nothing but the session and the load_ fields. */
static void load_work(uv_work_t *req)
{
    struct worker *w = req->data;

    w->load_status = session_load(w->loading, w->file, &w->limits, &w->load_why);
}

static void load_done(uv_work_t *req, int status)
{
    struct worker *w = req->data;
    struct session *s = w->loading;

    if (status < 0)
        w->load_status = diag(&w->load_why, status, "%s", uv_strerror(status));
    w->loading = NULL;
    pthread_mutex_lock(&w->lock);
    s->loading = false;
    s->ready = w->load_status == 0;
    s->used = ++w->starts; /* or the next plan would evict it before its first frame */
    pthread_mutex_unlock(&w->lock);

    if (!s->closed) {
        answer_plan(w, s->epoch, s->number, w->load_status, s,
                    w->load_status < 0 ? w->load_why.text : "");
        if (w->load_status < 0)
            log_event(LOG_WARN, "plan-refused", "epoch=%u plan=%u reason=\"%s\"", s->epoch,
                      s->number, w->load_why.text);
        else
            log_event(LOG_INFO, "plan-ready", "epoch=%u plan=%u weight_bytes=%lld arena_bytes=%lld",
                      s->epoch, s->number, (long long)s->weight_bytes, (long long)s->arena_bytes);
    }
    if (w->load_status < 0)
        close_session(w, s);
    reap(w);
}

/* What this node may use; without a limit in cluster.json, what there is: a plan for a huge
 * picture must not bring the machine down. */
static int64_t allowed_memory(const struct worker *w)
{
    const int64_t limit = w->config->node[w->self].max_memory;
    const int64_t pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);

    if (limit > 0)
        return limit;
    return pages > 0 && bytes > 0 ? pages * bytes : 0;
}

/* Puts the next plan on the pool: one at a time, and after closed ones are gone, so that the
 * memory of both is never held at once. */
static void load_next(struct worker *w)
{
    struct session *s = w->sessions;

    if (w->loading || any_closed(w))
        return;
    int64_t in_use = 0;
    struct session *next = NULL;
    for (; s; s = s->next) {
        if (s->ready)
            in_use += s->weight_bytes + s->arena_bytes;
        else
            next = s; /* the last in the list came first */
    }
    if (!next)
        return;
    w->loading = next;
    next->loading = true;
    w->limits = (struct session_limits){ .node = name_of(w, w->self),
                                         .max_memory = allowed_memory(w),
                                         .in_use = in_use,
                                         .pool = w->pool };
    w->load_why.text[0] = '\0';
    w->load.data = w;
    int err = store_find(w->store, next->plan.sha, w->file, sizeof w->file);
    if (err < 0)
        diag(&w->load_why, err, "%s: the plan's model is not in the cache", name_of(w, w->self));
    else if ((err = uv_queue_work(w->loop, &w->load, load_work, load_done)) < 0)
        diag(&w->load_why, err, "%s", uv_strerror(err));
    if (err == 0)
        return;
    w->load_status = err;
    load_done(&w->load, 0);
}

/* Makes room: the plan that was idle the longest goes. */
static void evict(struct worker *w)
{
    struct session *oldest = NULL;
    int n = 0;

    pthread_mutex_lock(&w->lock);
    for (struct session *s = w->sessions; s; s = s->next) {
        if (s->closed)
            continue;
        n++;
        if (s->ready && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    pthread_mutex_unlock(&w->lock);
    if (n >= MAX_SESSIONS && oldest) {
        log_event(LOG_INFO, "plan-evicted", "epoch=%u plan=%u", oldest->epoch, oldest->number);
        close_session(w, oldest);
    }
}

/* Closes what a plan of `epoch` and `number` makes stale. */
static void make_room(struct worker *w, uint32_t epoch, uint32_t number)
{
    for (struct session *s = w->sessions; s; s = s->next)
        if (!s->closed && (s->epoch != epoch || s->number == number))
            close_session(w, s);
    evict(w);
}

/* True when the plan's nodes are in cluster.json and it was made for this one. */
static bool plan_is_for(const struct worker *w, const struct msg_plan *plan)
{
    const struct program *pr = &plan->program;

    for (int32_t i = 0; i < pr->nodes; i++)
        if (plan->member[i] >= w->config->nnodes)
            return false;
    return pr->node < pr->nodes && plan->member[pr->node] == w->self;
}

static int count_sessions(const struct worker *w)
{
    int n = 0;

    for (const struct session *s = w->sessions; s; s = s->next)
        n++;
    return n;
}

static void take_plan(struct worker *w, const struct header *h, const uint8_t *body)
{
    struct msg_plan plan;
    int err = plan_msg_decode(&plan, body, h->length);

    if (err < 0) {
        answer_plan(w, h->epoch, h->plan, err, NULL, "the plan does not decode");
        return;
    }
    make_room(w, h->epoch, h->plan);
    struct session *s = NULL;
    const char *problem = "";
    if (!plan_is_for(w, &plan)) {
        err = -EPROTO;
        problem = "the plan is for another node or cluster.json";
    } else if (count_sessions(w) >= 4 * MAX_SESSIONS) {
        err = -EBUSY;
        problem = "too many plans wait to be loaded";
    } else if (!(s = session_new(&plan, h->epoch, h->plan, w->config->coordinator, w->mesh))) {
        err = -ENOMEM;
        problem = "out of memory";
    }
    plan_msg_done(&plan); /* what is left of it */
    if (err < 0) {
        answer_plan(w, h->epoch, h->plan, err, NULL, problem);
    } else {
        pthread_mutex_lock(&w->lock);
        s->next = w->sessions;
        w->sessions = s;
        pthread_mutex_unlock(&w->lock);
    }
    reap(w);
}

/* ---- models */

static void take_offer(struct worker *w, const struct header *h, const uint8_t *body)
{
    struct msg_model_offer m;
    struct diag why = { "" };
    char path[PATH_MAX];

    if (model_offer_decode(&m, body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "type=MODEL_OFFER reason=\"does not decode\"");
        return;
    }
    if (store_find(w->store, m.sha, path, sizeof path) == 0)
        answer_model(w, m.sha, MODEL_HAVE, "");
    else if (store_begin(w->store, m.sha, m.size, &why) == 0)
        answer_model(w, m.sha, MODEL_NEED, "");
    else
        answer_model(w, m.sha, MODEL_FAILED, why.text);
}

/* A complete file on its way to the disk. */
struct keeping {
    uv_work_t work;
    struct worker *worker;
    struct receipt *receipt;
    uint8_t sha[SHA256_BYTES];
    int status;
    struct diag why;
};

static void keep_work(uv_work_t *work)
{
    struct keeping *k = work->data;
    k->status = store_keep(k->receipt, &k->why);
}

static void model_failed(struct worker *w, const uint8_t sha[SHA256_BYTES], const char *why)
{
    log_event(LOG_WARN, "model-failed", "reason=\"%s\"", why);
    answer_model(w, sha, MODEL_FAILED, why);
}

static void keep_done(uv_work_t *work, int status)
{
    struct keeping *k = work->data;
    struct worker *w = k->worker;

    (void)status; /* never cancelled */
    if (k->status < 0)
        model_failed(w, k->sha, k->why.text);
    else
        answer_model(w, k->sha, MODEL_HAVE, "");
    free(k);
    w->keeping--;
    if (w->closing)
        close_step(w);
}

static void keep_model(struct worker *w, const uint8_t sha[SHA256_BYTES])
{
    struct keeping *k = calloc(1, sizeof *k);

    if (!k) {
        model_failed(w, sha, "out of memory"); /* the store forgets it at the next offer */
        return;
    }
    k->worker = w;
    k->work.data = k;
    memcpy(k->sha, sha, sizeof k->sha);
    k->receipt = store_take(w->store, sha);
    w->keeping++;
    const int err = uv_queue_work(w->loop, &k->work, keep_work, keep_done);
    if (err < 0) {
        keep_work(&k->work);
        keep_done(&k->work, 0);
    }
}

static void take_chunk(struct worker *w, const struct header *h, const uint8_t *body)
{
    struct msg_model_chunk m;
    struct diag why = { "" };

    if (model_chunk_decode(&m, body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "type=MODEL_CHUNK reason=\"does not decode\"");
        return;
    }
    const int state = store_append(w->store, &m, &why);
    if (state == 1)
        keep_model(w, m.sha);
    else if (state < 0)
        model_failed(w, m.sha, why.text);
}

/* ---- events on the loop */

void worker_message(struct worker *w, int32_t node, const struct header *h, const uint8_t *body)
{
    if (w->closing)
        return;
    if (node != w->config->coordinator) {
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not the coordinator\"",
                  name_of(w, node), (int)h->type);
        return;
    }
    switch (h->type) {
    case MSG_MODEL_OFFER:
        take_offer(w, h, body);
        return;
    case MSG_MODEL_CHUNK:
        take_chunk(w, h, body);
        return;
    case MSG_PLAN:
        take_plan(w, h, body);
        return;
    case MSG_FRAME:
        start_frame(w, h);
        return;
    case MSG_CANCEL:
        if (h->frame == 0)
            forget_plan(w, h);
        else
            cancel_frame(w, h);
        return;
    default:
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not for a worker\"",
                  name_of(w, node), (int)h->type);
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
        start_frame(w, h);
    else if (h->frame > 0)
        cancel_frame(w, h);
    else
        withdraw(w, h);
    return h->type == MSG_FRAME || h->frame > 0;
}

void worker_up(struct worker *w) { report_links(w); }

void worker_down(struct worker *w, int32_t node)
{
    report_links(w);
    if (node != w->config->coordinator)
        return;
    pthread_mutex_lock(&w->lock);
    for (struct session *s = w->sessions; s; s = s->next)
        cancel_all_locked(s);
    pthread_mutex_unlock(&w->lock);
}

static void on_async(uv_async_t *async)
{
    struct worker *w = async->data;

    pthread_mutex_lock(&w->lock);
    const bool ended = w->ended;
    w->ended = false;
    pthread_mutex_unlock(&w->lock);
    if (ended)
        finish_ended(w);
    reap(w);
}

/* ---- life */

int worker_new(struct worker **out, uv_loop_t *loop, const struct config *config, int32_t self,
               struct store *store, struct diag *why)
{
    struct worker *w = calloc(1, sizeof *w);

    if (!w)
        return diag(why, -ENOMEM, "the worker: out of memory");
    w->loop = loop;
    w->config = config;
    w->self = self;
    w->store = store;
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    int err = uv_async_init(loop, &w->async, on_async);
    if (err < 0) {
        diag(why, err, "the worker: %s", uv_strerror(err));
        goto fail;
    }
    w->async.data = w;
    err = pool_new(&w->pool, config_threads(config, self), POOL_PART_WORK, why);
    if (err < 0)
        goto fail_async;
    err = -pthread_create(&w->thread, NULL, compute, w);
    if (err < 0) {
        diag(why, err, "the worker: cannot start its thread: %s", strerror(-err));
        goto fail_async;
    }
    uv_timer_init(loop, &w->reaper);
    w->reaper.data = w;
    w->handles = 2;
    *out = w;
    return 0;

fail_async:
    /* The handle is the loop's until it has closed: it frees the worker then. */
    w->handles = 1;
    w->joined = true;
    close_step(w);
    return err;
fail:
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return err;
}

void worker_attach(struct worker *w, struct mesh *mesh)
{
    pthread_mutex_lock(&w->lock);
    w->mesh = mesh;
    pthread_mutex_unlock(&w->lock);
    report_links(w);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct worker *w = handle->data;
    void (*closed)(void *ctx) = w->closed;
    void *ctx = w->closed_ctx;

    if (--w->handles > 0)
        return;
    pool_free(w->pool);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
    if (closed)
        closed(ctx);
}

/* Goes on with closing as far as it can now. */
static void close_step(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const bool done = w->thread_done;
    pthread_mutex_unlock(&w->lock);
    if (done && !w->joined) {
        pthread_join(w->thread, NULL);
        w->joined = true;
    }
    if (!w->joined || w->sessions || w->keeping > 0 || uv_is_closing((uv_handle_t *)&w->async))
        return;
    uv_close((uv_handle_t *)&w->async, on_handle_closed);
    if (w->handles == 2)
        uv_close((uv_handle_t *)&w->reaper, on_handle_closed);
}

void worker_close(struct worker *w, void (*closed)(void *ctx), void *ctx)
{
    w->closing = true;
    w->closed = closed;
    w->closed_ctx = ctx;
    for (struct session *s = w->sessions; s; s = s->next)
        close_session(w, s);
    if (w->loading)
        (void)uv_cancel((uv_req_t *)&w->load); /* if it runs already, it comes to its end */
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    const bool receives = w->receives;
    pthread_mutex_unlock(&w->lock);
    wake(w, receives);
    reap(w);
}
