#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/coordinator_impl.h"
#include "daemon/log.h"
#include "libsplit/fastest.h"
#include "libsplit/tune.h"
#include "tiling/cost.h"

/* ---- networks: a model at one size */

void extents_fixed(struct extents *e, const struct onnx_model *m)
{
    *e = (struct extents){ .n = m->ninputs };
    for (int32_t i = 0; i < m->ninputs; i++) {
        e->input[i].rank = m->input[i].rank;
        for (int32_t a = 0; a < m->input[i].rank; a++)
            e->input[i].dim[a] = m->input[i].dim[a] < 0 ? 1 : (int32_t)m->input[i].dim[a];
    }
}

void extents_inputs(const struct extents *e, const struct onnx_model *m,
                    struct graph_input inputs[PLAN_MAX_INPUTS])
{
    for (int32_t i = 0; i < e->n; i++) {
        inputs[i] = (struct graph_input){ .name = m->input[i].name, .rank = e->input[i].rank };
        memcpy(inputs[i].dim, e->input[i].dim, sizeof e->input[i].dim);
    }
}

static bool extents_equal(const struct extents *a, const struct extents *b)
{
    if (a->n != b->n)
        return false;
    for (int32_t i = 0; i < a->n; i++)
        if (a->input[i].rank != b->input[i].rank ||
            memcmp(a->input[i].dim, b->input[i].dim,
                   (size_t)a->input[i].rank * sizeof a->input[i].dim[0]) != 0)
            return false;
    return true;
}

struct network *network_new(struct model *m)
{
    struct network *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->model = m;
    n->last_waiting = &n->waiting;
    memset(n->chosen, HALO_AUTO, sizeof n->chosen);
    return n;
}

bool network_takes_pictures(const struct network *n)
{
    const struct shape *s = &n->graph.input[0].shape;
    return n->graph.ninputs == 1 && shape_batch(s) == 1 &&
           shape_len(s, CHAN) == n->model->sidecar.pixels.channels;
}

static void network_free(struct network *n)
{
    if (n->state == NETWORK_BUILT)
        graph_done(&n->graph);
    free(n);
}

void network_free_all(struct model *m)
{
    while (m->networks) {
        struct network *n = m->networks;
        m->networks = n->next;
        network_free(n);
    }
}

/* Forgets what nobody uses: sizes that cannot be had at once, the least used beyond the cap. */
static void trim(struct model *m)
{
    int32_t kept = 0;

    for (struct network **at = &m->networks; *at;) {
        struct network *n = *at;
        const bool drop = n->state == NETWORK_FAILED || ++kept > NETWORKS_PER_MODEL;
        if (drop && !n->fixed && n->current && n->users == 1)
            deployment_retire(n->current); /* a user less once it is freed */
        if (drop && !n->fixed && n->users == 0) {
            *at = n->next;
            network_free(n);
        } else {
            at = &n->next;
        }
    }
}

void network_release(struct network *n)
{
    struct model *m = n->model;
    n->users--;
    trim(m);
}

static void on_build(uv_work_t *work)
{
    struct network *n = work->data;
    struct graph_input inputs[PLAN_MAX_INPUTS];

    extents_inputs(&n->extents, &n->model->onnx, inputs);
    n->status = graph_build(&n->graph, &n->model->onnx, inputs, n->extents.n, &n->why);
}

static void after_build(uv_work_t *work, int status)
{
    struct network *n = work->data;
    struct coordinator *c = n->model->c;

    c->works--;
    if (status < 0)
        n->status = diag(&n->why, status, "%s: %s", n->model->config->file, uv_strerror(status));
    n->state = n->status < 0 ? NETWORK_FAILED : NETWORK_BUILT;
    jobs_network(n);
    network_release(n);
    uv_async_send(&c->wake);
}

struct network *network_get(struct model *m, const struct extents *e)
{
    for (struct network **at = &m->networks; *at; at = &(*at)->next) {
        struct network *n = *at;
        if (n->state == NETWORK_FAILED || !extents_equal(&n->extents, e))
            continue;
        *at = n->next; /* to the front */
        n->next = m->networks;
        m->networks = n;
        return n;
    }
    struct network *n = network_new(m);
    if (!n)
        return NULL;
    n->extents = *e;
    n->next = m->networks;
    m->networks = n;
    n->users++; /* the work */
    n->work.data = n;
    trim(m);
    coordinator_work(m->c, WORK_UNKNOWN, &n->work, on_build, after_build);
    return n;
}

/* ---- deployments: preparing, on the pool */

/* How the tensors of a node's program travel. */
static int encode_recipes(const struct deployment *d, struct msg_plan *msg, struct diag *why)
{
    const char *file = d->network->model->config->file;
    const size_t bytes = recipes_write(&d->halo.recipes, &msg->program, NULL);

    if (bytes == 0)
        return 0;
    if (bytes > PLAN_MAX_RECIPE_BYTES)
        return diag(why, -EMSGSIZE, "%s: its recipes of halos take %zu bytes, expected at most %d",
                    file, bytes, PLAN_MAX_RECIPE_BYTES);
    msg->recipes = malloc(bytes);
    if (!msg->recipes)
        return diag(why, -ENOMEM, "%s: out of memory", file);
    msg->recipe_bytes = (uint32_t)bytes;
    recipes_write(&d->halo.recipes, &msg->program, msg->recipes);
    return 0;
}

/* Outputs beyond what a message has room for stay values. */
static void put_answers(const struct deployment *d, struct msg_plan *msg)
{
    const int32_t n = d->network->graph.noutputs;

    msg->nanswers = n < PLAN_MAX_ANSWERS ? n : PLAN_MAX_ANSWERS;
    for (int32_t i = 0; i < msg->nanswers; i++) {
        const struct answer_rule *a = &d->answer[i];
        msg->answer[i] = (struct plan_answer){ .form = (uint8_t)a->form,
                                               .activation = (uint8_t)a->score.activation,
                                               .object = a->score.object,
                                               .classes = a->score.classes,
                                               .offset = a->score.offset,
                                               .scale = a->scale,
                                               .shift = a->shift,
                                               .least = a->least };
    }
}

static int choose_answers(struct deployment *d)
{
    const struct network *n = d->network;

    d->answer = calloc((size_t)n->graph.noutputs + 1, sizeof *d->answer);
    if (!d->answer)
        return -ENOMEM;
    answer_choose(&n->graph, &n->model->sidecar, &d->plan, d->answer);
    for (int32_t i = PLAN_MAX_ANSWERS; i < n->graph.noutputs; i++)
        d->answer[i] = (struct answer_rule){ .form = ANSWER_VALUES };
    return 0;
}

/* How each operator is computed, the same on all nodes. */
static int put_ways(const struct graph *g, const struct plan *p, struct msg_plan *msg,
                    struct diag *why)
{
    msg->ways = malloc((size_t)g->nops + 1);
    if (!msg->ways)
        return diag(why, -ENOMEM, "out of memory for the ways of %d operators", g->nops);
    msg->nways = (uint32_t)g->nops;
    graph_ways_of_plan(g, p, msg->ways);
    return 0;
}

static int encode_program(struct deployment *d, int32_t node, struct diag *why)
{
    const struct model *m = d->network->model;
    const struct extents *e = &d->network->extents;
    const struct config *config = d->c->config;
    struct msg_plan msg = { .depth = DEPTH,
                            .late_ms = config->conceal ? (uint32_t)config->late_ms : 0,
                            .ninputs = e->n };
    int rc = program_compile(&msg.program, &d->plan, node);

    if (rc < 0)
        return diag(why, rc, "%s: out of memory", m->config->file);
    memcpy(msg.sha, m->sha, sizeof msg.sha);
    memcpy(msg.member, d->member, sizeof msg.member);
    for (int32_t i = 0; i < e->n; i++) {
        msg.input[i].rank = e->input[i].rank;
        memcpy(msg.input[i].dim, e->input[i].dim, sizeof e->input[i].dim);
    }
    if (network_takes_pictures(d->network)) {
        const struct codec_pixels *px = &m->sidecar.pixels;
        msg.pixels.channels = (uint8_t)px->channels;
        msg.pixels.scale = px->scale;
        memcpy(msg.pixels.mean, px->mean, sizeof msg.pixels.mean);
        memcpy(msg.pixels.std, px->std, sizeof msg.pixels.std);
    }

    rc = encode_recipes(d, &msg, why);
    if (rc == 0)
        rc = put_ways(&d->network->graph, &d->plan, &msg, why);
    if (rc < 0)
        goto out;
    put_answers(d, &msg);

    const size_t bytes = plan_msg_bytes(&msg);
    if (bytes > header_cap(MSG_PLAN)) {
        rc = diag(why, -EMSGSIZE, "%s: the program of a node takes %zu bytes, expected at most %u",
                  m->config->file, bytes, header_cap(MSG_PLAN));
        goto out;
    }
    d->message[node] = malloc(bytes);
    if (!d->message[node]) {
        rc = diag(why, -ENOMEM, "%s: out of memory", m->config->file);
        goto out;
    }
    const int len = plan_msg_encode(&msg, d->message[node], bytes);
    if (len < 0) {
        rc =
            diag(why, len, "%s: its programs are too long for %d nodes", m->config->file, d->nodes);
        goto out;
    }
    d->message_bytes[node] = (size_t)len;
    rc = 0;
out:
    plan_msg_done(&msg);
    return rc;
}

static void log_fewer(const struct deployment *d, const struct fastest *f)
{
    char times[(PLAN_MAX_NODES + 1) * 24] = "";
    size_t len = 0;

    for (int32_t i = 1; i <= d->nodes; i++)
        if (f->estimate_us[i] > 0)
            len += (size_t)snprintf(times + len, sizeof times - len, " on_%d_ms=%.1f", i,
                                    f->estimate_us[i] / 1e3);
    log_event(LOG_INFO, "fewer-nodes", "model=%s nodes=%d of=%d%s", d->network->model->config->name,
              f->nodes, d->nodes, times);
}

/* Leaves out of the deployment the nodes without which it is faster. */
static void keep_members(struct deployment *d, const struct fastest *f)
{
    if (f->nodes < d->nodes)
        log_fewer(d, f);
    d->nodes = f->nodes;
    for (int32_t i = 0; i < f->nodes; i++) { /* member[] rises: what is read is not yet written */
        d->member[i] = d->member[f->member[i]];
        d->weight[i] = d->weight[f->member[i]];
    }
}

/* Outputs of which nodes are to send classes or candidates stay in whole rows. */
static int build_plan(struct deployment *d, struct plan_options *options)
{
    const struct network *n = d->network;
    struct fastest fastest;
    bool *whole = calloc((size_t)n->graph.ntensors + 1, sizeof *whole);

    if (!whole)
        return -ENOMEM;
    answer_whole_pixels(&n->graph, &n->model->sidecar, whole);
    options->whole_pixels = whole;
    const int rc = fastest_plan(&fastest, &d->geo, &d->plan, &n->graph, options, d->least);
    free(whole);
    if (rc == 0)
        keep_members(d, &fastest);
    return rc;
}

/* What nodes may do without. */
static int choose_missing(struct deployment *d)
{
    const struct graph *g = &d->network->graph;

    if (!d->c->config->conceal)
        return 0;
    d->may_miss = calloc((size_t)g->ntensors + 1, sizeof *d->may_miss);
    if (!d->may_miss)
        return -ENOMEM;
    graph_may_miss(g, d->may_miss);
    return 0;
}

static int prepare(struct deployment *d, struct diag *why)
{
    const struct network *n = d->network;
    const char *file = n->model->config->file;
    struct plan_options options = { .placement = PLAN_MIXED,
                                    .nodes = d->nodes,
                                    .policy = d->c->config->policy,
                                    .costs = d->c->config->costs,
                                    .pixels = network_takes_pictures(n) };
    int32_t tensor = -1;

    memcpy(options.weight, d->weight, sizeof options.weight);
    for (int32_t i = 0; i < d->nodes; i++)
        if (d->member[i] == d->c->config->coordinator)
            options.busy = bit(i);
    int rc = halo_choose(&d->halo, n->model->has_halo ? &n->model->halo : NULL, &n->graph,
                         d->wanted, why);
    if (rc < 0)
        return rc;
    options.halo = d->halo.mode;
    rc = choose_missing(d);
    if (rc < 0)
        return diag(why, rc, "%s: out of memory", file);
    options.tensor_halo = d->halo.tensor_halo;
    options.may_miss = d->may_miss;
    rc = build_plan(d, &options);
    if (rc < 0)
        return diag(why, rc, "%s: no plan for %d nodes: %s", file, d->nodes, strerror(-rc));
    rc = plan_check(&d->plan, &tensor);
    if (rc < 0)
        return diag(why, rc, "%s: the plan for %d nodes breaks its invariant at tensor %s", file,
                    d->nodes, tensor >= 0 ? n->graph.tensor[tensor].name : "?");
    rc = choose_answers(d);
    if (rc == 0)
        rc = program_compile(&d->host, &d->plan, d->nodes);
    if (rc < 0)
        return diag(why, rc, "%s: out of memory", file);
    const struct cost cost = cost_make(&options);
    for (int32_t i = 0; i < d->nodes; i++)
        d->work_us[i] = cost_work_us(&cost, &d->plan, i);
    for (int32_t i = 0; i < d->nodes; i++) {
        rc = encode_program(d, i, why);
        if (rc < 0)
            return rc;
    }
    for (int32_t i = 0; i < DEPTH; i++) {
        rc = flight_init(&d->flight[i], d);
        if (rc < 0)
            return diag(why, rc, "%s: out of memory for the messages of a frame", file);
    }
    return 0;
}

static void on_prepare(uv_work_t *work)
{
    struct deployment *d = work->data;
    d->status = prepare(d, &d->why);
}

static void drop_messages(struct deployment *d)
{
    for (int32_t i = 0; i < PLAN_MAX_NODES; i++) {
        free(d->message[i]);
        d->message[i] = NULL;
    }
}

/* No node can or will run it. */
static void refuse_network(struct network *n, const struct diag *why)
{
    if (n->fixed)
        n->model->problem = *why;
    log_event(LOG_ERROR, "plan-impossible", "model=%s reason=\"%s\"", n->model->config->name,
              why->text);
    while (n->waiting)
        job_end(n->waiting, OUTCOME_UNAVAILABLE, "%s", why->text);
}

static void offer_programs(struct deployment *d)
{
    struct coordinator *c = d->c;

    d->state = DEPLOY_OFFERED;
    d->ack_ms = uv_now(c->loop) + ACK_MS;
    for (int32_t i = 0; i < d->nodes; i++) {
        const struct header h = { .type = MSG_PLAN,
                                  .epoch = d->epoch,
                                  .plan = d->number,
                                  .length = (uint32_t)d->message_bytes[i] };
        const int rc = coordinator_send(c, d->member[i], &h, d->message[i]);
        if (rc < 0 && rc != -ENOTCONN) /* a loss is reported by the mesh */
            log_event(LOG_WARN, "plan-not-sent", "node=%s reason=\"%s\"",
                      node_name(c, d->member[i]), strerror(-rc));
    }
    drop_messages(d);
}

static void give_up_heir(struct network *n, const char *why);

static void after_prepare(uv_work_t *work, int status)
{
    struct deployment *d = work->data;
    struct network *n = d->network;

    d->c->works--;
    d->working = false;
    if (status < 0)
        d->status = diag(&d->why, status, "%s: %s", n->model->config->file, uv_strerror(status));
    if (d->state == DEPLOY_PREPARING && d->status < 0 && d == n->heir) {
        give_up_heir(n, d->why.text);
    } else if (d->state == DEPLOY_PREPARING && d->status < 0) {
        n->unusable = UINT32_MAX; /* until a node joins or comes back */
        n->refusal = d->why;
        deployment_retire(d);
        refuse_network(n, &d->why);
    } else if (d->state == DEPLOY_PREPARING) {
        offer_programs(d);
    }
    uv_async_send(&d->c->wake);
}

/* ---- deployments: life */

static void deployment_free(struct deployment *d)
{
    drop_messages(d);
    for (int32_t i = 0; i < DEPTH; i++)
        flight_done(&d->flight[i]);
    program_done(&d->host);
    free(d->answer);
    plan_done(&d->plan);
    free(d->may_miss);
    halo_choice_done(&d->halo);
    geometry_done(&d->geo);
    network_release(d->network);
    free(d);
}

static uint32_t usable_nodes(const struct network *n)
{
    const struct model *m = n->model;
    return m->c->members & m->c->up & m->have & ~n->unusable;
}

static struct deployment *deployment_new(struct network *n, uint32_t nodes, enum halo halo)
{
    struct coordinator *c = n->model->c;
    struct deployment *d = calloc(1, sizeof *d);

    if (!d)
        return NULL;
    d->c = c;
    d->network = n;
    d->epoch = c->epoch;
    d->number = ++c->plans;
    d->nodes_mask = nodes;
    d->wanted = halo;
    d->least = 1;
    for (int32_t i = 0; i < c->config->nnodes; i++)
        if (nodes & bit(i)) {
            d->member[d->nodes] = (uint8_t)i;
            d->weight[d->nodes++] = speed_weight(&c->speed, i);
        }
    if (n->least > 1)
        d->least = n->least < d->nodes ? n->least : d->nodes;
    d->next_frame = 1;
    d->work.data = d;
    return d;
}

/* Nodes that could take part, although the plan may do with fewer. */
static int32_t asked(const struct deployment *d) { return __builtin_popcount(d->nodes_mask); }

/* What cluster.json leaves open is measured where a calibration says what is allowed. */
static bool is_open(const struct network *n, int32_t nodes)
{
    return n->model->c->config->halo == HALO_AUTO && n->model->has_halo && nodes > 1;
}

/* How halos are to travel in a new plan for so many nodes.  A trial begins anew with it: times of
 * another plan say nothing. */
static enum halo halo_of(struct network *n, int32_t nodes)
{
    if (!is_open(n, nodes))
        return n->model->c->config->halo;
    if (n->chosen[nodes] != HALO_AUTO)
        return (enum halo)n->chosen[nodes];
    trial_begin(&n->trial, n->model->halo.within);
    return trial_halo(&n->trial);
}

/* Has a new one prepared, which becomes `*as`.  Where memory is short, NULL: the next request or
 * change tries again. */
static void deploy(struct network *n, uint32_t nodes, enum halo halo, struct deployment **as)
{
    struct coordinator *c = n->model->c;
    struct deployment *d = deployment_new(n, nodes, halo);

    *as = d;
    if (!d)
        return;
    d->tried = is_open(n, asked(d)) && n->chosen[asked(d)] == HALO_AUTO;
    n->users++;
    uv_mutex_lock(&c->lock);
    d->next = c->deployments;
    c->deployments = d;
    uv_mutex_unlock(&c->lock);
    d->working = true;
    coordinator_tick_on(c);
    coordinator_work(c, WORK_UNKNOWN, &d->work, on_prepare, after_prepare);
}

void network_deploy(struct network *n)
{
    struct coordinator *c = n->model->c;
    const uint32_t nodes = usable_nodes(n);
    struct deployment *d = n->current;

    if (n->model->state != MODEL_LOADED || n->state != NETWORK_BUILT || c->closing)
        return;
    if (d && d->nodes_mask == nodes && d->epoch == c->epoch)
        return;
    if (d)
        deployment_retire(d);
    if (!n->fixed && !n->waiting)
        return; /* made again when it is asked for */
    if (nodes == 0) {
        if (n->unusable)
            refuse_network(n, &n->refusal);
        return;
    }
    deploy(n, nodes, halo_of(n, __builtin_popcount(nodes)), &n->current);
}

void deployment_retire(struct deployment *d)
{
    const bool preparing = d->state == DEPLOY_PREPARING;

    if (d->state == DEPLOY_RETIRED)
        return;
    d->state = DEPLOY_RETIRED;
    if (d->network->heir == d)
        d->network->heir = NULL;
    if (d->network->current == d) {
        d->network->current = NULL;
        if (d->network->heir)
            deployment_retire(d->network->heir);
    }
    coordinator_tick_on(d->c); /* to free it */
    if (preparing)
        return; /* its flights belong to the pool */
    for (int32_t i = 0; i < DEPTH; i++) {
        /* What the pool feeds comes back by itself; what it collects is complete. */
        struct job *j = flight_give_up(&d->flight[i]);
        if (j)
            job_wait(j, true);
    }
}

struct deployment *deployment_find(struct coordinator *c, uint32_t number)
{
    struct deployment *d = c->deployments;
    while (d && d->number != number)
        d = d->next;
    return d;
}

int32_t deployment_plan_node(const struct deployment *d, int32_t node)
{
    for (int32_t i = 0; i < d->nodes; i++)
        if (d->member[i] == node)
            return i;
    return -1;
}

static void take_figures(const struct deployment *d)
{
    struct model *m = d->network->model;
    int32_t t = 0;

    while (t < d->geo.ntensors &&
           (geometry_is_input(&d->geo, t) || geometry_is_partial(&d->geo, t)))
        t++;
    memset(m->figures, 0, sizeof m->figures);
    for (int32_t i = 0; i < d->nodes; i++) {
        struct model_figures *f = &m->figures[d->member[i]];
        f->arena_bytes = d->ack[i].arena_bytes;
        f->weight_bytes = d->ack[i].weight_bytes;
        if (t < d->geo.ntensors) {
            const struct box own = plan_share(&d->plan, t, i)->own;
            f->row_lo = own.lo[ROW];
            f->row_hi = own.hi[ROW];
            f->rows = d->geo.tensor[t].dim[ROW];
        }
    }
}

/* ---- the fastest halos */

/* Nodes need it no more; a later epoch would tell them as well. */
static void withdraw(struct deployment *d)
{
    const struct header h = { .type = MSG_CANCEL, .epoch = d->epoch, .plan = d->number };

    deployment_retire(d);
    for (int32_t i = 0; i < d->nodes; i++)
        (void)coordinator_send(d->c, d->member[i], &h, NULL); /* a loss is reported by the mesh */
}

static void log_chosen(const struct network *n)
{
    const struct trial *t = &n->trial;
    char times[TRIAL_WAYS * 32] = "";
    size_t len = 0;

    for (int32_t i = 0; i < t->n; i++)
        if (trial_ns(t, i) > 0)
            len += (size_t)snprintf(times + len, sizeof times - len, " %s_ms=%.2f",
                                    halo_name(t->way[i].halo), (double)trial_ns(t, i) / 1e6);
    log_event(LOG_INFO, "halo-chosen", "model=%s nodes=%d halo=%s%s", n->model->config->name,
              n->current->nodes, halo_name(trial_halo(t)), times);
}

/* Goes on to the next way to send halos; after the last, to the one that is kept. */
static void try_next(struct network *n)
{
    struct deployment *d = n->current;
    const enum halo halo = trial_halo(&n->trial);

    d->tried = false;
    if (trial_over(&n->trial)) {
        n->chosen[asked(d)] = (uint8_t)halo;
        log_chosen(n);
    }
    if (halo != d->wanted)
        deploy(n, d->nodes_mask, halo, &n->heir);
}

void network_flew(struct deployment *d, int64_t ns)
{
    if (d->tried && d == d->network->current && trial_frame(&d->network->trial, ns))
        try_next(d->network);
}

/* Some node cannot run it: what runs goes on. */
static void give_up_heir(struct network *n, const char *why)
{
    struct deployment *d = n->heir;

    log_event(LOG_WARN, "plan-refused", "model=%s halo=%s reason=\"%s\" action=skip",
              n->model->config->name, halo_name(d->wanted), why);
    withdraw(d);
    if (trial_over(&n->trial)) {
        n->chosen[asked(n->current)] = (uint8_t)n->current->wanted;
        return;
    }
    trial_skip(&n->trial);
    try_next(n);
}

void network_switch(struct network *n)
{
    struct deployment *before = n->current;

    n->current = n->heir;
    n->heir = NULL;
    take_figures(n->current);
    withdraw(before);
}

/* ---- acknowledgements */

static void deployment_ready(struct deployment *d)
{
    struct network *n = d->network;

    d->state = DEPLOY_READY;
    if (n->fixed)
        n->model->problem.text[0] = '\0';
    if (d == n->current)
        take_figures(d);
    log_event(LOG_INFO, "plan-ready", "model=%s epoch=%u plan=%u nodes=%d", n->model->config->name,
              d->epoch, d->number, d->nodes);
    (void)flights_dispatch(n);
}

/* Goes on without the node that will not run its part. */
static void deployment_refused(struct deployment *d, int32_t i, int32_t status, const char *detail)
{
    struct network *n = d->network;
    struct coordinator *c = d->c;
    const int32_t node = d->member[i];

    if (d == n->heir) {
        give_up_heir(n, detail);
        return;
    }
    log_event(LOG_WARN, "plan-refused", "model=%s node=%s status=%d reason=\"%s\" action=replan",
              n->model->config->name, node_name(c, node), status, detail);
    diag(&n->refusal, status, "node %s: %s", node_name(c, node), detail);
    deployment_retire(d);
    if (status == -ENOENT)
        models_reoffer(n->model, node); /* its cache was emptied */
    else if (status == -ENOMEM && d->nodes < asked(d))
        n->least = d->nodes + 1; /* there are more to share it */
    else
        n->unusable |= bit(node);
    network_deploy(n);
}

void deployment_ack(struct coordinator *c, int32_t node, const struct header *h,
                    const uint8_t *body)
{
    struct deployment *d = deployment_find(c, h->plan);
    struct msg_plan_ack ack;

    if (!d || d->state != DEPLOY_OFFERED || h->epoch != d->epoch)
        return; /* of a plan that was given up meanwhile */
    const int32_t i = deployment_plan_node(d, node);
    if (i < 0 || plan_ack_decode(&ack, body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "node=%s type=PLAN_ACK", node_name(c, node));
        return;
    }
    if (ack.status != 0) {
        deployment_refused(d, i, ack.status, ack.detail);
        return;
    }
    d->ack[i].arena_bytes = ack.arena_bytes;
    d->ack[i].weight_bytes = ack.weight_bytes;
    d->acked |= bit(i);
    if (d->acked == bit(d->nodes) - 1)
        deployment_ready(d);
}

/* ---- time */

static bool deployment_unused(const struct deployment *d)
{
    if (d->state != DEPLOY_RETIRED || d->working)
        return false;
    for (int32_t i = 0; i < DEPTH; i++)
        if (!flight_idle(&d->flight[i]))
            return false;
    return true;
}

static void check_acks(struct deployment *d)
{
    if (d->state != DEPLOY_OFFERED || uv_now(d->c->loop) < d->ack_ms)
        return;
    for (int32_t i = 0; i < d->nodes; i++)
        if (!(d->acked & bit(i))) {
            deployment_refused(d, i, -ETIMEDOUT, "no answer to its program");
            return;
        }
}

void deployments_tick(struct coordinator *c)
{
    for (struct deployment *d = c->deployments; d; d = d->next) {
        check_acks(d);
        flights_tick(d);
    }
    uv_mutex_lock(&c->lock);
    struct deployment *unused = NULL;
    for (struct deployment **at = &c->deployments; *at;) {
        struct deployment *d = *at;
        if (deployment_unused(d)) {
            *at = d->next;
            d->next = unused;
            unused = d;
        } else {
            at = &d->next;
        }
    }
    uv_mutex_unlock(&c->lock);
    while (unused) {
        struct deployment *d = unused;
        unused = d->next;
        deployment_free(d);
    }
}
