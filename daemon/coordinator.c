#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/coordinator_impl.h"
#include "daemon/log.h"
#include "proto/links.h"

const char *node_name(const struct coordinator *c, int32_t node)
{
    return c->config->node[node].name;
}

void coordinator_work(struct coordinator *c, size_t bytes, uv_work_t *req, uv_work_cb work,
                      uv_after_work_cb after)
{
    int rc = 0;

    c->works++;
    if (bytes > LOOP_BYTES)
        rc = uv_queue_work(c->loop, req, work, after);
    else
        work(req);
    if (rc < 0 || bytes <= LOOP_BYTES)
        after(req, rc);
}

int coordinator_send(struct coordinator *c, int32_t node, const struct header *h, const void *body)
{
    return c->mesh ? mesh_send(c->mesh, node, h, body) : -ENOTCONN;
}

/* ---- closing: done when nothing of ours is in anybody's hands */

static void maybe_closed(struct coordinator *c);

static void on_handle_closed(uv_handle_t *h)
{
    struct coordinator *c = h->data;
    if (--c->open_handles == 0)
        c->closed_cb(c->closed_ctx);
}

static void maybe_closed(struct coordinator *c)
{
    if (!c->closing || c->closed || c->works > 0 || c->jobs || c->ended || c->destitute ||
        c->deployments)
        return;
    c->closed = true;
    uv_close((uv_handle_t *)&c->tick, on_handle_closed);
    uv_close((uv_handle_t *)&c->join, on_handle_closed);
    uv_close((uv_handle_t *)&c->pump, on_handle_closed);
    uv_close((uv_handle_t *)&c->wake, on_handle_closed);
}

/* Every network that is wanted, on the nodes that are there. */
static void deploy_all(struct coordinator *c)
{
    for (int32_t i = 0; i < c->config->nmodels; i++)
        for (struct network *n = c->model[i].networks; n; n = n->next)
            network_deploy(n);
    uv_async_send(&c->wake);
}

/* ---- timers */

/* New plans, by the speeds that were measured. */
static void recut(struct coordinator *c)
{
    c->epoch++;
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if (c->members & bit(i))
            log_event(LOG_INFO, "speed", "node=%s speed=%.2f epoch=%u action=replan",
                      node_name(c, i), c->speed.used[i], c->epoch);
    for (struct deployment *d = c->deployments; d; d = d->next)
        deployment_retire(d);
    deploy_all(c);
}

static void on_tick(uv_timer_t *t)
{
    struct coordinator *c = t->data;

    if (!c->closing && speed_tick(&c->speed, c->members, uv_now(c->loop)))
        recut(c);
    jobs_tick(c);
    deployments_tick(c);
    jobs_report(c);
    if (!c->jobs && !c->deployments)
        uv_timer_stop(t);
    maybe_closed(c);
}

void coordinator_tick_on(struct coordinator *c)
{
    if (!c->closed && !uv_is_active((uv_handle_t *)&c->tick))
        uv_timer_start(&c->tick, on_tick, TICK_MS, TICK_MS);
}

static void on_wake(uv_async_t *a)
{
    struct coordinator *c = a->data;

    if (c->closed)
        return;
    flights_arrived(c);
    jobs_report(c);
    maybe_closed(c);
}

static void on_pump(uv_timer_t *t) { models_pump(t->data); }

/* ---- membership */

static const struct msg_health health_unknown = { .temperature_mc = HEALTH_NO_TEMPERATURE };

static uint32_t all_nodes(const struct coordinator *c)
{
    return (uint32_t)((UINT64_C(1) << c->config->nnodes) - 1);
}

/* Nodes that are up and hold, or will never hold, every model. */
static uint32_t settled_nodes(const struct coordinator *c)
{
    uint32_t settled = 0;
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if ((c->up & bit(i)) && models_settled(c, i))
            settled |= bit(i);
    return settled;
}

/* The nodes that both say that they have a link with `node`. */
static uint32_t neighbours(const struct coordinator *c, int32_t node)
{
    uint32_t found = bit(node);
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if (c->linked[i] & bit(node))
            found |= c->linked[node] & bit(i);
    return found;
}

static bool all_linked(const struct coordinator *c, uint32_t nodes, const uint32_t *reach)
{
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if ((nodes & bit(i)) && (nodes & ~reach[i]))
            return false;
    return true;
}

/* The most nodes of `among` of which every two can talk; of several such groups the one that keeps
 * most of the present members.  Looks at every subset, of sixteen nodes at most, and that only
 * when there is something wrong. */
static uint32_t largest_group(const struct coordinator *c, uint32_t among)
{
    uint32_t reach[CONFIG_MAX_NODES], best = 0;
    int32_t best_size = 0, best_kept = 0;

    for (int32_t i = 0; i < c->config->nnodes; i++)
        reach[i] = neighbours(c, i);
    for (uint32_t group = among; group; group = (group - 1) & among) {
        const int32_t size = __builtin_popcount(group);
        const int32_t kept = __builtin_popcount(group & c->members);
        if (size < best_size || (size == best_size && kept <= best_kept) ||
            !all_linked(c, group, reach))
            continue;
        best = group;
        best_size = size;
        best_kept = kept;
        if (best == among)
            break;
    }
    return best;
}

/* Nodes that a plan may have now.  A node belongs to the epoch from when it has its models until
 * its link with the coordinator or with another node is lost. */
static uint32_t eligible_nodes(const struct coordinator *c)
{
    return largest_group(c, (c->members & c->up) | settled_nodes(c));
}

static void log_left_out(const struct coordinator *c)
{
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if ((settled_nodes(c) & ~c->members) & bit(i))
            log_event(LOG_WARN, "node-left-out", "node=%s reason=\"it has no link with others\"",
                      node_name(c, i));
}

/* Makes the plans fit the nodes that are there. */
static void replan(struct coordinator *c)
{
    const uint32_t members = eligible_nodes(c);

    if (members != c->members) {
        c->members = members;
        c->epoch++;
        log_event(LOG_INFO, "epoch", "epoch=%u nodes=%d of=%d", c->epoch,
                  __builtin_popcount(members), c->config->nnodes);
        log_left_out(c);
        speed_forget(&c->speed, uv_now(c->loop));
        for (struct deployment *d = c->deployments; d; d = d->next)
            deployment_retire(d);
    }
    deploy_all(c);
}

static void on_join(uv_timer_t *t)
{
    struct coordinator *c = t->data;
    c->starting = false;
    replan(c);
}

void coordinator_replan_soon(struct coordinator *c)
{
    if (c->closing)
        return;
    if (c->starting && eligible_nodes(c) == all_nodes(c) && !models_loading(c)) {
        c->starting = false; /* nobody is left to wait for */
        uv_timer_start(&c->join, on_join, 0, 0);
        return;
    }
    if (!uv_is_active((uv_handle_t *)&c->join))
        uv_timer_start(&c->join, on_join, c->starting ? START_MS : JOIN_MS, 0);
}

void coordinator_up(struct coordinator *c, int32_t node, const struct msg_hello *hello)
{
    if (c->closing)
        return;
    c->up |= bit(node);
    snprintf(c->said[node].version, sizeof c->said[node].version, "%s",
             hello ? hello->version : SPLITD_VERSION);
    c->linked[node] = 0; /* until it says more */
    speed_reset(&c->speed, node);
    for (int32_t i = 0; i < c->config->nmodels; i++)
        for (struct network *n = c->model[i].networks; n; n = n->next) {
            n->unusable &= ~bit(node);
            n->least = 0;
        }
    models_offer(c, node);
    coordinator_replan_soon(c);
}

void coordinator_down(struct coordinator *c, int32_t node, const char *why)
{
    if (c->closing)
        return;
    c->up &= ~bit(node);
    c->said[node].health = health_unknown;
    models_forget(c, node);
    if (c->members & bit(node)) {
        log_event(LOG_WARN, "node-lost", "node=%s reason=\"%s\" action=replan", node_name(c, node),
                  why);
        replan(c);
    }
}

/* Losses are seen by both sides and by the coordinator within moments of each other: only when all
 * have spoken is it clear who is at fault. */
static void links_changed(struct coordinator *c, int32_t node, const struct header *h,
                          const uint8_t *body)
{
    const uint32_t before = c->linked[node];

    if (links_decode(&c->linked[node], body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "node=%s type=LINKS", node_name(c, node));
        return;
    }
    flights_link_lost(c, node, before & ~c->linked[node]);
    coordinator_replan_soon(c);
}

void coordinator_message(struct coordinator *c, int32_t node, const struct header *h,
                         const uint8_t *body)
{
    if (c->closing && h->type != MSG_FRAME_DONE)
        return;
    switch (h->type) {
    case MSG_MODEL_STATE:
        models_state(c, node, body, h->length);
        break;
    case MSG_PLAN_ACK:
        deployment_ack(c, node, h, body);
        break;
    case MSG_LINKS:
        links_changed(c, node, h, body);
        break;
    case MSG_FRAME_DONE:
        flight_frame_done(c, node, h, body);
        jobs_report(c); /* the answer may be out already */
        break;
    case MSG_HEALTH:
        if (health_decode(&c->said[node].health, body, h->length) < 0)
            log_event(LOG_WARN, "message-dropped", "node=%s reason=\"HEALTH does not decode\"",
                      node_name(c, node));
        break;
    default:
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not for a coordinator\"",
                  node_name(c, node), (int)h->type);
    }
}

/* ---- life */

int coordinator_new(struct coordinator **out, uv_loop_t *loop, const struct config *config,
                    const char *state_dir, struct diag *why)
{
    struct coordinator *c = calloc(1, sizeof *c);
    int rc = -ENOMEM;

    if (!c)
        return diag(why, -ENOMEM, "the coordinator: out of memory");
    c->loop = loop;
    c->config = config;
    c->state_dir = state_dir;
    c->starting = true;
    speed_init(&c->speed, config);
    for (int32_t i = 0; i < CONFIG_MAX_NODES; i++)
        c->said[i].health = health_unknown;
    /* Messages of a coordinator that ran before this one must not be taken for its own: workers and
     * links may outlive it. */
    if (getrandom(&c->plans, sizeof c->plans, 0) != sizeof c->plans) {
        diag(why, -errno, "no random number for the plans: %s", strerror(errno));
        rc = -errno;
        goto fail;
    }
    c->model = calloc((size_t)config->nmodels + 1, sizeof *c->model);
    if (!c->model) {
        diag(why, rc, "the coordinator: out of memory");
        goto fail;
    }
    rc = uv_mutex_init(&c->lock);
    if (rc < 0) {
        diag(why, rc, "the coordinator: %s", uv_strerror(rc));
        goto fail;
    }
    rc = uv_async_init(loop, &c->wake, on_wake);
    if (rc < 0) {
        uv_mutex_destroy(&c->lock);
        diag(why, rc, "the coordinator: %s", uv_strerror(rc));
        goto fail;
    }
    uv_timer_init(loop, &c->tick);
    uv_timer_init(loop, &c->join);
    uv_timer_init(loop, &c->pump);
    c->tick.data = c->join.data = c->pump.data = c->wake.data = c;
    c->open_handles = 4;
    models_load(c);
    *out = c;
    return 0;
fail:
    free(c->model);
    free(c);
    return rc;
}

void coordinator_attach(struct coordinator *c, struct mesh *mesh)
{
    c->mesh = mesh;
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if (mesh_is_up(mesh, i))
            coordinator_up(c, i, NULL);
}

void coordinator_pump_on(struct coordinator *c)
{
    if (!c->closing && !uv_is_active((uv_handle_t *)&c->pump))
        uv_timer_start(&c->pump, on_pump, 0, PUMP_MS);
}

void coordinator_pump_off(struct coordinator *c) { uv_timer_stop(&c->pump); }

void coordinator_close(struct coordinator *c, void (*closed)(void *ctx), void *ctx)
{
    c->closing = true;
    c->closed_cb = closed;
    c->closed_ctx = ctx;
    for (struct job *j = c->jobs, *next; j; j = next) {
        next = j->next;
        job_end(j, OUTCOME_UNAVAILABLE, "the coordinator is stopping");
    }
    for (struct deployment *d = c->deployments; d; d = d->next)
        deployment_retire(d);
    models_forget_all(c);
    uv_timer_stop(&c->join);
    coordinator_tick_on(c);
    uv_async_send(&c->wake);
}

void coordinator_free(struct coordinator *c)
{
    if (!c)
        return;
    models_free(c);
    uv_mutex_destroy(&c->lock);
    free(c->model);
    free(c);
}

/* ---- what the API asks */

int32_t coordinator_models(const struct coordinator *c) { return c->config->nmodels; }

static bool model_ready(const struct model *m)
{
    const struct coordinator *c = m->c;

    if (m->state != MODEL_LOADED || c->closing)
        return false;
    if (m->open)
        return (c->members & m->have) != 0;
    const struct deployment *d = m->fixed->current;
    return d && d->state == DEPLOY_READY;
}

void coordinator_model(const struct coordinator *c, int32_t i, struct model_info *info)
{
    const struct model *m = &c->model[i];
    const struct network *n = m->networks;
    const struct deployment *d = n ? n->current : NULL;

    *info =
        (struct model_info){ .name = m->config->name,
                             .ready = model_ready(m),
                             .problem = m->problem.text,
                             .onnx = m->state == MODEL_LOADED ? &m->onnx : NULL,
                             .graph =
                                 m->state == MODEL_LOADED && m->fixed ? &m->fixed->graph : NULL,
                             .sidecar = m->state == MODEL_LOADED ? &m->sidecar : NULL,
                             .halo = d && d->state == DEPLOY_READY ? halo_name(d->halo.mode) : NULL,
                             .trial = n && n->trial.n > 0 ? &n->trial : NULL };
}

bool coordinator_ready(const struct coordinator *c)
{
    if (c->closing || c->members == 0 || models_loading(c))
        return false;
    for (int32_t i = 0; i < c->config->nmodels; i++)
        if (c->model[i].problem.text[0] == '\0' && !model_ready(&c->model[i]))
            return false;
    return true;
}

uint32_t coordinator_epoch(const struct coordinator *c) { return c->epoch; }

void coordinator_counts(const struct coordinator *c, struct coordinator_counts *counts)
{
    *counts = c->counts;
    counts->waiting = counts->running = 0;
    for (const struct job *j = c->jobs; j; j = j->next)
        if (j->state == JOB_FLYING)
            counts->running++;
        else
            counts->waiting++;
}

/* The last that was measured; while nothing new is known, what plans go by. */
static double node_speed(const struct coordinator *c, int32_t node)
{
    const struct speed *s = &c->speed;
    return s->seen[node] > 0 ? s->seen[node] : s->used[node];
}

void coordinator_node(const struct coordinator *c, int32_t node, int32_t model,
                      struct node_info *info)
{
    *info = (struct node_info){ .name = c->config->node[node].name,
                                .address = c->config->node[node].address,
                                .version = c->said[node].version,
                                .up = (c->up & bit(node)) != 0,
                                .member = (c->members & bit(node)) != 0,
                                .speed = node_speed(c, node),
                                .health = c->said[node].health };
    if (c->mesh)
        mesh_stats(c->mesh, node, &info->link);
    if (model < 0 || model >= c->config->nmodels)
        return;
    const struct model_figures *f = &c->model[model].figures[node];
    info->row_lo = f->row_lo;
    info->row_hi = f->row_hi;
    info->rows = f->rows;
    info->last = f->last;
    info->arena_bytes = f->arena_bytes;
    info->weight_bytes = f->weight_bytes;
}
