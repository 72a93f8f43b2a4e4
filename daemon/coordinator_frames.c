#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/coordinator_impl.h"
#include "daemon/log.h"
#include "libsplit/clock.h"

static size_t message_bytes(const struct deployment *d, const struct step *s)
{
    return codec_bound((size_t)(box_values(s->box) * d->geo.tensor[s->what].batch));
}

/* Payloads start at multiples of a cache line. */
static size_t round_up(size_t n) { return (n + 63) & ~(size_t)63; }

int flight_init(struct flight *f, struct deployment *d)
{
    d->nsends = 0;
    d->send_bytes = d->receive_bytes = 0;
    for (int32_t i = 0; i < d->host.nsteps; i++) {
        const struct step *s = &d->host.step[i];
        const bool sends = s->kind == STEP_SEND;
        *(sends ? &d->send_bytes : &d->receive_bytes) += round_up(message_bytes(d, s));
        d->nsends += sends;
    }
    f->deployment = d;
    f->inbox = mailbox_new(&d->host, &d->geo);
    f->slot = calloc((size_t)d->nsends + 1, sizeof *f->slot);
    f->payload = malloc(d->send_bytes + 1);
    return f->inbox && f->slot && f->payload ? 0 : -ENOMEM; /* flight_done() frees the rest */
}

void flight_done(struct flight *f)
{
    mailbox_free(f->inbox);
    free(f->slot);
    free(f->payload);
}

static bool slots_busy(const struct flight *f)
{
    for (int32_t i = 0; f->slot && i < f->deployment->nsends; i++)
        if (f->slot[i].busy)
            return true;
    return false;
}

static bool claims_open(const struct flight *f)
{
    struct coordinator *c = f->deployment->c;
    uv_mutex_lock(&c->lock);
    const bool open = f->claims > 0;
    uv_mutex_unlock(&c->lock);
    return open;
}

/* Also used for deployments that never got so far as to have flights. */
bool flight_idle(const struct flight *f)
{
    return !f->deployment || (!f->working && !slots_busy(f) && f->claims == 0);
}

/* From now on messages of `frame` are welcome; 0: none are. */
static void accept_frame(struct flight *f, uint32_t frame)
{
    struct coordinator *c = f->deployment->c;
    uv_mutex_lock(&c->lock);
    f->accepts = frame;
    f->full = frame != 0 && mailbox_full(f->inbox); /* a host that receives nothing */
    uv_mutex_unlock(&c->lock);
}

static uint32_t all_done(const struct deployment *d) { return bit(d->nodes) - 1; }

/* A drained flight may carry the next frame. */
static bool drained(const struct flight *f)
{
    return f->done == all_done(f->deployment) && !f->working && !slots_busy(f) && !claims_open(f);
}

static void maybe_free(struct flight *f)
{
    if (f->state == FLIGHT_DRAINING && drained(f))
        f->state = FLIGHT_FREE;
}

bool flights_landed(struct deployment *d)
{
    bool landed = true;

    for (int32_t i = 0; i < DEPTH; i++) {
        maybe_free(&d->flight[i]);
        landed = landed && d->flight[i].state == FLIGHT_FREE;
    }
    return landed;
}

static void send_to_nodes(const struct flight *f, enum msg_type type)
{
    const struct deployment *d = f->deployment;
    const struct job *j = type == MSG_FRAME ? f->job : NULL;
    const int flags = (j && j->trace ? HEADER_TRACE : 0) | (j && j->r->brief ? HEADER_BRIEF : 0) |
                      (j && f->fresh ? HEADER_FRESH : 0);
    const struct header h = { .type = type,
                              .flags = (uint16_t)flags,
                              .epoch = d->epoch,
                              .plan = d->number,
                              .frame = f->frame };
    for (int32_t i = 0; i < d->nodes; i++)
        (void)coordinator_send(d->c, d->member[i], &h, NULL); /* a loss is reported by the mesh */
}

static void start_draining(struct flight *f)
{
    f->state = FLIGHT_DRAINING;
    f->job->flight = NULL;
    f->job = NULL;
    f->drain_ms = uv_now(f->deployment->c->loop) + DRAIN_MS;
    accept_frame(f, 0);
    coordinator_tick_on(f->deployment->c);
}

struct job *flight_give_up(struct flight *f)
{
    struct job *j = f->job;

    if (f->state != FLIGHT_RUNNING)
        return NULL;
    send_to_nodes(f, MSG_CANCEL);
    start_draining(f);
    return j;
}

static void maybe_collect(struct flight *f);

/* ---- start: the inputs into messages and on their way, on the pool */

/* The message of send number `n`, at step `step`. */
static void pack(struct flight *f, int32_t step, int32_t n, uint8_t *to)
{
    const struct deployment *d = f->deployment;
    const struct step *s = &d->host.step[step];
    const size_t len = host_pack(&d->network->graph, s, f->job->input, to);

    f->job->r->input_bytes += (int64_t)len;
    f->slot[n].payload = to;
    f->slot[n].header = (struct header){ .type = MSG_HALO,
                                         .epoch = d->epoch,
                                         .plan = d->number,
                                         .frame = f->frame,
                                         .transfer = (uint32_t)s->transfer,
                                         .length = (uint32_t)len };
}

static void send_input(struct flight *f, int32_t node, int32_t n)
{
    struct coordinator *c = f->deployment->c;
    const int rc = mesh_send_slot(c->mesh, node, &f->slot[n]);

    if (rc < 0 && rc != -ENOTCONN) /* a loss is reported by the mesh */
        log_event(LOG_WARN, "input-not-sent", "node=%s reason=\"%s\"", node_name(c, node),
                  strerror(-rc));
}

/* Packs and sends what goes to this node itself, or what goes to others. */
static void feed(struct flight *f, bool others)
{
    const struct deployment *d = f->deployment;
    struct job_trace *trace = f->job->trace;
    uint8_t *to = f->payload;
    int64_t now_ns = clock_ns();

    for (int32_t i = 0, n = 0; i < d->host.nsteps; i++) {
        const struct step *s = &d->host.step[i];
        if (s->kind != STEP_SEND)
            continue;
        const int32_t node = d->member[s->peer];
        if ((node != d->c->config->coordinator) == others) {
            pack(f, i, n, to);
            job_trace_step(trace, TRACE_PACK, i, &now_ns);
            send_input(f, node, n);
            job_trace_step(trace, TRACE_SEND, i, &now_ns);
        }
        to += round_up(message_bytes(d, s));
        n++;
    }
}

/* What others compute on travels while ours is packed. */
static void on_feed(uv_work_t *work)
{
    struct flight *f = work->data;

    f->job->r->input_bytes = 0;
    feed(f, true);
    feed(f, false);
}

/* Something happened while the pool was at work. */
static void not_fed(struct flight *f, int status)
{
    struct job *j = flight_give_up(f);

    if (j->over) {
        job_over(j);
    } else if (status < 0) {
        job_end(j, OUTCOME_FAILED, "%s", uv_strerror(status));
    } else {
        job_wait(j, true);
        network_deploy(j->network);
    }
}

static void frame_lost(struct flight *f, int32_t node, int status);

static void after_feed(uv_work_t *work, int status)
{
    struct flight *f = work->data;
    struct deployment *d = f->deployment;

    d->c->works--;
    f->working = false;
    f->state = FLIGHT_RUNNING;
    if (f->job->over || status < 0 || d->state != DEPLOY_READY)
        not_fed(f, status);
    else if (f->lost < 0)
        frame_lost(f, f->lost_by, f->lost);
    else
        maybe_collect(f); /* the last answer may have come before this */
    maybe_free(f);
}

/* Nothing that anybody waits for is under way. */
static bool all_quiet(const struct coordinator *c)
{
    for (const struct deployment *d = c->deployments; d; d = d->next)
        for (int32_t i = 0; i < DEPTH; i++)
            if (d->flight[i].job)
                return false;
    return true;
}

static void start(struct flight *f, struct job *j)
{
    struct deployment *d = f->deployment;
    struct coordinator *c = d->c;

    f->alone = d->tried && all_quiet(c);
    f->state = FLIGHT_FEEDING;
    f->job = j;
    f->frame = d->next_frame++;
    f->done = 0;
    f->fresh = f->fresh || f->concealed > 0;
    f->concealed = 0;
    f->lost = 0;
    f->work.data = f;
    f->working = true;
    mailbox_clear(f->inbox);
    f->started = ++c->counts.frames;
    c->counts.repeated += j->flew;
    j->flew = true;
    j->flight = f;
    j->state = JOB_FLYING;
    job_trace_start(j->trace, d);
    j->r->frame = f->frame;
    j->r->epoch = d->epoch;
    j->r->nodes = d->nodes;
    f->sent_ns = clock_ns();
    accept_frame(f, f->frame);
    /* FRAME first: a node gets ready for its rows while they are on their way. */
    send_to_nodes(f, MSG_FRAME);
    f->fresh = false;
    coordinator_work(c, j->pixels ? d->send_bytes / sizeof(float) : d->send_bytes, &f->work,
                     on_feed, after_feed);
}

bool flights_dispatch(struct network *n)
{
    const uint64_t now = uv_now(n->model->c->loop);

    if (n->heir && n->heir->state == DEPLOY_READY && flights_landed(n->current))
        network_switch(n);
    else if (n->heir && n->heir->state == DEPLOY_READY)
        return n->waiting != NULL; /* it takes over soon */
    struct deployment *d = n->current;
    while (d && d->state == DEPLOY_READY && n->waiting && n->waiting->not_before_ms <= now) {
        struct flight *f = &d->flight[d->next_frame % DEPTH];
        struct job *j = n->waiting;
        maybe_free(f);
        if (f->state != FLIGHT_FREE || (d->tried && !flights_landed(d)))
            break; /* frames start in order, those that are timed one at a time */
        job_unwait(j);
        start(f, j);
    }
    return n->waiting != NULL;
}

/* ---- end: messages into outputs, on the pool */

static int unpack(struct flight *f)
{
    const struct deployment *d = f->deployment;
    struct job *j = f->job;
    const uint8_t *msg;
    size_t len;
    int64_t now_ns = clock_ns();

    const struct answer_rule *answer = j->r->brief ? d->answer : NULL;
    if (job_outputs(j, answer) < 0)
        return -ENOMEM;
    const struct host_brief brief = { .answer = answer, .bytes = j->bytes };
    j->r->answer_bytes = 0;
    for (int32_t i = 0; i < d->host.nsteps; i++) {
        const struct step *s = &d->host.step[i];
        if (s->kind != STEP_RECV)
            continue;
        int rc = mailbox_wait(f->inbox, s->transfer, 0, &msg, &len);
        if (rc == 0)
            rc = host_unpack(&d->network->graph, s, msg, len, answer ? &brief : NULL, j->output);
        if (rc < 0)
            return rc;
        j->r->answer_bytes += (int64_t)len;
        job_trace_step(j->trace, TRACE_UNPACK, i, &now_ns);
    }
    host_pass(&d->network->graph, j->input, &d->network->model->sidecar.pixels, j->output);
    return 0;
}

static void on_collect(uv_work_t *work)
{
    struct flight *f = work->data;
    f->status = unpack(f);
    job_trace_write(f->job->trace, f->deployment, f->job->r->arrived_ns);
}

static void retry(struct job *j, bool may_help, const char *who, int status);

static void after_collect(uv_work_t *work, int status)
{
    struct flight *f = work->data;
    struct deployment *d = f->deployment;
    struct network *n = d->network;
    struct job *j = f->job;

    d->c->works--;
    f->working = false;
    if (status == 0)
        status = f->status;
    start_draining(f); /* every node is done with it */
    maybe_free(f);
    if (j->over)
        job_over(j);
    else if (status < 0)
        retry(j, false, "the answer's messages", status);
    else
        job_collected(j);
    (void)flights_dispatch(n);
}

/* How long its client waited, decoding included, or as long as the frame kept those in line behind
 * the last one waiting; 0 if another frame was in the way. */
static int64_t waited_ns(const struct flight *f)
{
    const int64_t asked_ns = (int64_t)f->job->started_ns, before_ns = f->deployment->landed_ns;
    const bool alone = f->alone && f->started == f->deployment->c->counts.frames;
    return alone ? clock_ns() - (asked_ns > before_ns ? asked_ns : before_ns) : 0;
}

static void collect(struct flight *f)
{
    struct deployment *d = f->deployment;
    const struct job *j = f->job;

    f->state = FLIGHT_COLLECTING;
    j->r->concealed = (int32_t)f->concealed;
    accept_frame(f, 0);
    job_trace_note(j->trace, "gather", f->sent_ns, clock_ns());
    job_trace_clocks(j->trace, d);
    f->working = true;
    network_flew(d, waited_ns(f));
    d->landed_ns = clock_ns();
    coordinator_work(d->c, j->trace ? WORK_UNKNOWN : d->receive_bytes, &f->work, on_collect,
                     after_collect);
}

static void maybe_collect(struct flight *f)
{
    struct coordinator *c = f->deployment->c;

    uv_mutex_lock(&c->lock);
    const bool full = f->full;
    uv_mutex_unlock(&c->lock);
    if (full && f->state == FLIGHT_RUNNING && f->done == all_done(f->deployment))
        collect(f);
}

void flights_arrived(struct coordinator *c)
{
    for (struct deployment *d = c->deployments; d; d = d->next) {
        if (d->state != DEPLOY_READY)
            continue;
        for (int32_t i = 0; i < DEPTH; i++)
            maybe_collect(&d->flight[i]);
    }
}

/* ---- FRAME_DONE */

/* The job's frame came to nothing: once more, a little later, unless it is hopeless. */
static void retry(struct job *j, bool may_help, const char *who, int status)
{
    struct network *n = j->network;

    if (!may_help && ++j->failures >= MAX_FAILURES) {
        job_end(j, OUTCOME_FAILED, "%s: %s", who, strerror(-status));
        return;
    }
    j->not_before_ms = uv_now(j->c->loop) + RETRY_MS;
    job_wait(j, true);
    network_deploy(n);
}

/* Errors of links between nodes, and of nodes that lost their program: the next try, or the
 * next plan, may do better. */
static bool is_passing(int status)
{
    return status == -ECANCELED || status == -ETIMEDOUT || status == -EPIPE ||
           status == -ENOTCONN || status == -EBUSY || status == -ESTALE || status == -ENOENT;
}

/* The frame is tried again, unless that is hopeless. */
static void frame_lost(struct flight *f, int32_t node, int status)
{
    if (f->state == FLIGHT_FEEDING) { /* after_feed() comes back to it */
        f->lost = status;
        f->lost_by = node;
        return;
    }
    struct job *j = flight_give_up(f);
    if (j)
        retry(j, is_passing(status), node_name(f->deployment->c, node), status);
}

static void frame_failed(struct flight *f, int32_t node, int status)
{
    struct deployment *d = f->deployment;

    log_event(LOG_WARN, "frame-failed", "node=%s frame=%u plan=%u status=\"%s\"",
              node_name(d->c, node), f->frame, d->number, strerror(-status));
    frame_lost(f, node, status);
    if (status == -ENOENT || status == -ESTALE) {
        deployment_retire(d); /* the node does not know it any more */
        network_deploy(d->network);
    }
}

static bool touches(const struct deployment *d, int32_t node, uint32_t others)
{
    return (d->nodes_mask & bit(node)) && (d->nodes_mask & others);
}

void flights_link_lost(struct coordinator *c, int32_t node, uint32_t others)
{
    for (struct deployment *d = c->deployments; d; d = d->next)
        for (int32_t i = 0; i < DEPTH && touches(d, node, others); i++)
            if (d->state == DEPLOY_READY)
                frame_lost(&d->flight[i], node, -EPIPE);
}

static struct flight *flight_of(struct deployment *d, uint32_t frame)
{
    struct flight *f = &d->flight[frame % DEPTH];
    return f->frame == frame && f->state != FLIGHT_FREE ? f : NULL;
}

void flight_frame_done(struct coordinator *c, int32_t node, const struct header *h,
                       const uint8_t *body)
{
    struct deployment *d = deployment_find(c, h->plan);
    struct msg_frame_done done;
    int32_t nevents;

    if (!d || d->state < DEPLOY_READY || d->working || h->epoch != d->epoch)
        return;
    const int32_t i = deployment_plan_node(d, node);
    struct flight *f = flight_of(d, h->frame);
    if (!f || i < 0)
        return; /* of a frame that is over */
    if (frame_done_decode(&done, &nevents, body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "node=%s type=FRAME_DONE", node_name(c, node));
        return;
    }
    if (!(f->done & bit(i)))
        f->concealed += done.concealed;
    f->done |= bit(i);
    const bool flies = f->state == FLIGHT_FEEDING || f->state == FLIGHT_RUNNING;
    if (flies)
        job_trace_take(f->job->trace, i, body, nevents);
    if (done.status == 0) {
        d->network->model->figures[node].last = done;
        if (d->work_us[i] > 0)
            speed_sample(&c->speed, node, d->work_us[i], (double)done.compute_ns / 1e3);
        maybe_collect(f);
    } else if (flies) {
        frame_failed(f, node, done.status);
    }
    maybe_free(f);
    (void)flights_dispatch(d->network);
}

void flights_tick(struct deployment *d)
{
    const uint64_t now = uv_now(d->c->loop);

    if (d->state != DEPLOY_READY)
        return;
    for (int32_t i = 0; i < DEPTH; i++) {
        struct flight *f = &d->flight[i];
        maybe_free(f);
        if (f->state == FLIGHT_DRAINING && now >= f->drain_ms) {
            log_event(LOG_WARN, "frame-stuck", "frame=%u plan=%u action=replan", f->frame,
                      d->number);
            deployment_retire(d);
            network_deploy(d->network);
            return;
        }
    }
    (void)flights_dispatch(d->network);
}

/* ---- outputs on their way in; NNG's threads */

/* Lock held.  The flight that `h` is for. */
static struct flight *addressed(struct coordinator *c, const struct header *h)
{
    struct deployment *d = deployment_find(c, h->plan);
    return d && d->epoch == h->epoch ? &d->flight[h->frame % DEPTH] : NULL;
}

/* Lock held.  A node may send the transfers that are its own, to the host, and no others. */
static bool is_senders(const struct deployment *d, int32_t node, uint32_t transfer)
{
    if (transfer >= (uint32_t)d->plan.ntransfers)
        return false;
    const struct plan_transfer *t = &d->plan.transfer[transfer];
    return t->to == d->nodes && t->from < d->nodes && d->member[t->from] == node;
}

uint8_t *coordinator_claim(struct coordinator *c, int32_t node, const struct header *h)
{
    uint8_t *to = NULL;

    uv_mutex_lock(&c->lock);
    struct flight *f = addressed(c, h);
    if (f && h->frame != 0 && f->accepts == h->frame &&
        is_senders(f->deployment, node, h->transfer)) {
        to = mailbox_claim(f->inbox, (int32_t)h->transfer, h->length);
        f->claims += to != NULL;
    }
    uv_mutex_unlock(&c->lock);
    return to;
}

static void claim_ends(struct coordinator *c, const struct header *h, bool arrived)
{
    bool wake = false;

    uv_mutex_lock(&c->lock);
    struct flight *f = addressed(c, h);
    if (f && f->claims > 0) { /* always: a claim keeps its deployment */
        if (arrived)
            mailbox_post(f->inbox, (int32_t)h->transfer, h->length);
        else
            mailbox_abandon(f->inbox, (int32_t)h->transfer);
        f->claims--;
        if (arrived && f->accepts == h->frame && mailbox_full(f->inbox))
            f->full = wake = true;
    }
    uv_mutex_unlock(&c->lock);
    if (wake)
        uv_async_send(&c->wake);
}

void coordinator_arrived(struct coordinator *c, int32_t node, const struct header *h)
{
    (void)node;
    claim_ends(c, h, true);
}

void coordinator_failed(struct coordinator *c, int32_t node, const struct header *h)
{
    (void)node;
    claim_ends(c, h, false);
}
