#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/worker_impl.h"

enum {
    MAX_SESSIONS = 16,
    REAP_MS = 10, /* how often closed sessions are looked at while there are any */
};

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
    worker_answer(w, &h, body);
}

void worker_close_session(struct worker *w, struct session *s)
{
    pthread_mutex_lock(&w->lock);
    s->closed = true;
    worker_cancel_all_locked(s);
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
        worker_close_session(w, s);
    worker_reap(w);
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
    w->limits = (struct session_limits){ .node = worker_name_of(w, w->self),
                                         .max_memory = allowed_memory(w),
                                         .in_use = in_use,
                                         .pool = w->pool };
    w->load_why.text[0] = '\0';
    w->load.data = w;
    int err = store_find(w->store, next->plan.sha, w->file, sizeof w->file);
    if (err < 0)
        diag(&w->load_why, err, "%s: the plan's model is not in the cache",
             worker_name_of(w, w->self));
    else if ((err = uv_queue_work(w->loop, &w->load, load_work, load_done)) < 0)
        diag(&w->load_why, err, "%s", uv_strerror(err));
    if (err == 0)
        return;
    w->load_status = err;
    load_done(&w->load, 0);
}

static void on_reap(uv_timer_t *timer) { worker_reap(timer->data); }

void worker_reap(struct worker *w)
{
    while (reap_one(w))
        ;
    if (!any_closed(w))
        uv_timer_stop(&w->reaper);
    else if (!uv_is_active((uv_handle_t *)&w->reaper))
        uv_timer_start(&w->reaper, on_reap, REAP_MS, REAP_MS);
    if (w->closing)
        worker_close_step(w);
    else
        load_next(w);
}

void worker_forget_plan(struct worker *w, const struct header *h)
{
    for (struct session *s = w->sessions; s; s = s->next)
        if (!s->closed && s->epoch == h->epoch && s->number == h->plan)
            worker_close_session(w, s);
    worker_reap(w);
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
        worker_close_session(w, oldest);
    }
}

/* Closes what a plan of `epoch` and `number` makes stale. */
static void make_room(struct worker *w, uint32_t epoch, uint32_t number)
{
    for (struct session *s = w->sessions; s; s = s->next)
        if (!s->closed && (s->epoch != epoch || s->number == number))
            worker_close_session(w, s);
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

void worker_take_plan(struct worker *w, const struct header *h, const uint8_t *body)
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
    worker_reap(w);
}
