#include "daemon/session.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/clock.h"
#include "libsplit/conv.h"
#include "libsplit/tune.h"

enum {
    NONE = -1,
    LOOK_AROUND_NS = 20 * 1000 * 1000, /* whether the frame was cancelled */
    LEAVES_NS = 1000 * 1000,           /* a message that may miss, if nothing holds it up */
};

/* More memory than any machine has, and small enough that sums of such do not overflow. */
#define MOST_BYTES (INT64_C(1) << 44)

/* ---- the executor's way out */

static struct lane *lane_of(struct exchange *x) { return (struct lane *)x; }

static struct mesh_slot *out_of(struct lane *l, int32_t transfer)
{
    const struct session *s = l->session;
    return &l->out[s->send_of[transfer]];
}

static int64_t earlier(int64_t a_ns, int64_t b_ns) { return a_ns < b_ns ? a_ns : b_ns; }

/* Does the lane do without the message of `st` when it is late? */
static bool may_miss(const struct lane *l, const struct step *st)
{
    return st->may_miss && l->session->plan.late_ms > 0;
}

/* The message of an earlier frame has reached its receiver, or that frame would not have ended;
 * all that can be missing is word that it left.  But one that its receiver has given up may be
 * stuck. */
static bool wait_until_sent(const struct lane *l, struct mesh_slot *slot, int64_t until_ns)
{
    while (atomic_load(&slot->busy)) {
        const int64_t now = clock_ns();
        if (atomic_load(&l->cancelled) || now >= until_ns)
            return false;
        (void)mesh_slot_wait(slot, earlier(now + LOOK_AROUND_NS, until_ns));
    }
    return true;
}

static int reserve(struct exchange *x, const struct step *st, size_t cap, uint8_t **to)
{
    struct lane *l = lane_of(x);
    struct mesh_slot *slot = out_of(l, st->transfer);
    const bool spare = may_miss(l, st);

    (void)cap; /* as set aside by give_payloads() */
    if (atomic_load(&l->cancelled))
        return -ECANCELED;
    if (!wait_until_sent(l, slot, spare ? clock_ns() + LEAVES_NS : l->deadline_ns))
        return spare ? -EBUSY : -ECANCELED;
    *to = l->payload + (slot->payload - l->payload);
    return 0;
}

static int send_message(struct exchange *x, const struct step *st, size_t len)
{
    struct lane *l = lane_of(x);
    const struct session *s = l->session;
    struct mesh_slot *slot = out_of(l, st->transfer);
    const bool to_host = st->peer == s->plan.program.nodes;

    if (atomic_load(&l->cancelled))
        return -ECANCELED;
    slot->header.frame = l->frame;
    slot->header.length = (uint32_t)len;
    const int err =
        mesh_send_slot(s->mesh, to_host ? s->coordinator : s->plan.member[st->peer], slot);
    return err == 0 ? 0 : -EPIPE;
}

struct awaited {
    struct lane *lane;
    int32_t transfer;
};

static bool has_come(void *ctx)
{
    const struct awaited *a = ctx;
    return mailbox_ready(a->lane->mailbox, a->transfer);
}

/* This thread has nothing else to do, so it receives. */
static void receive_from(struct lane *l, int32_t node, int32_t transfer, int64_t until_ns)
{
    struct awaited a = { .lane = l, .transfer = transfer };

    atomic_store(&l->waits_for, node);
    while (!has_come(&a) && clock_ns() < until_ns &&
           mesh_pull(l->session->mesh, node, has_come, &a, until_ns))
        ;
    atomic_store(&l->waits_for, NONE);
}

/* The host's link goes back to the loop when the input is there, if nothing else comes over it in
 * this frame: CANCEL and the FRAMEs to come do. */
static int receive_message(struct exchange *x, const struct step *st, const uint8_t **msg,
                           size_t *len)
{
    struct lane *l = lane_of(x);
    const struct session *s = l->session;
    const int32_t node = s->from[st->transfer];
    const bool spare = may_miss(l, st);
    const int64_t late_ns = clock_ns() + s->plan.late_ms * INT64_C(1000000);
    const int64_t until_ns = spare ? earlier(late_ns, l->deadline_ns) : l->deadline_ns;

    receive_from(l, node, st->transfer, until_ns);
    if (s->by_host[st->transfer] && !(s->peers >> node & 1))
        mesh_give_back(s->mesh, node);
    return spare ? mailbox_wait_or_give_up(l->mailbox, st->transfer, until_ns, msg, len)
                 : mailbox_wait(l->mailbox, st->transfer, until_ns, msg, len);
}

static void release_message(struct exchange *x, const struct step *st)
{
    (void)x;
    (void)st; /* a lane's mailbox is cleared as a whole when its frame has ended */
}

static void for_peers(const struct session *s, void (*what)(struct mesh *m, int32_t node))
{
    for (int32_t i = 0; i < CONFIG_MAX_NODES; i++)
        if (s->peers >> i & 1)
            what(s->mesh, i);
}

/* On the coordinator's node the peers' answers come next, and the loop waits for them.  On others
 * what comes next is for this thread: the loop has the links back at the next tick. */
static bool loop_is_next(const struct session *s)
{
    return s->plan.member[s->plan.program.node] == s->coordinator;
}

int lane_run(struct lane *l, int64_t deadline_ns, struct exec_stats *stats)
{
    *stats = (struct exec_stats){ 0 };
    if (atomic_load(&l->cancelled))
        return -ECANCELED;
    if (atomic_exchange(&l->failed, false) || l->fresh)
        exec_forget(l->exec);
    l->deadline_ns = deadline_ns;
    if (l->trace)
        trace_add(l->trace, TRACE_QUEUE, 0, l->started_ns, clock_ns());
    for_peers(l->session, mesh_take);
    const int err =
        exec_run(l->exec, &l->exchange, l->brief ? l->session->answer : NULL, l->trace, stats);
    if (loop_is_next(l->session))
        for_peers(l->session, mesh_give_back);
    return err;
}

void lane_cancel(struct lane *l)
{
    atomic_store(&l->cancelled, true);
    mailbox_cancel(l->mailbox);
    const int32_t node = atomic_load(&l->waits_for);
    if (node != NONE)
        mesh_nudge(l->session->mesh, node);
}

bool session_idle(struct session *s)
{
    if (s->loading)
        return false;
    for (int32_t i = 0; s->ready && i < s->plan.depth; i++) {
        struct lane *l = &s->lane[i];
        if (l->state == LANE_STARTED || l->state == LANE_ENDED || l->claims > 0)
            return false;
        for (int32_t o = 0; o < s->nsends; o++)
            if (atomic_load_explicit(&l->out[o].busy, memory_order_acquire))
                return false;
    }
    return true;
}

/* ---- loading */

static size_t message_cap(const struct session *s, const struct step *st)
{
    const int64_t values = box_values(st->box) * (int64_t)s->geo.tensor[st->what].batch;
    return codec_bound((size_t)values);
}

/* Notes for every transfer who sends it or which slot it leaves by. */
static int route_transfers(struct session *s, struct diag *why)
{
    const struct program *pr = &s->plan.program;

    s->send_of = malloc(((size_t)pr->ntransfers + 1) * sizeof *s->send_of);
    s->from = malloc(((size_t)pr->ntransfers + 1) * sizeof(*s->from));
    s->by_host = calloc((size_t)pr->ntransfers + 1, sizeof *s->by_host);
    if (!s->send_of || !s->from || !s->by_host)
        return diag(why, -ENOMEM, "out of memory for %d transfers", pr->ntransfers);
    for (int32_t t = 0; t < pr->ntransfers; t++) {
        s->send_of[t] = NONE;
        s->from[t] = NONE;
    }
    for (int32_t i = 0; i < pr->nsteps; i++) {
        const struct step *st = &pr->step[i];
        if (st->kind == STEP_SEND)
            s->send_of[st->transfer] = s->nsends++;
        if (st->kind != STEP_RECV)
            continue;
        s->by_host[st->transfer] = st->peer == pr->nodes;
        s->from[st->transfer] =
            (int16_t)(st->peer == pr->nodes ? s->coordinator : s->plan.member[st->peer]);
        if (st->peer != pr->nodes)
            s->peers |= UINT32_C(1) << s->from[st->transfer];
    }
    return 0;
}

/* Bytes of one lane's messages, in and out.  A program cannot receive more than its buffers
 * hold, but nothing else keeps it from sending them over and over. */
static int count_messages(const struct session *s, int64_t *in, int64_t *out, struct diag *why)
{
    const struct program *pr = &s->plan.program;
    int64_t held = 0;

    *in = *out = 0;
    for (int32_t i = 0; i < pr->nsteps; i++) {
        const struct step *st = &pr->step[i];
        if (st->kind == STEP_RUN)
            continue;
        const size_t cap = message_cap(s, st);
        if (cap > header_cap(MSG_HALO))
            return diag(why, -EMSGSIZE, "step %d moves %zu bytes in one message, %u are allowed", i,
                        cap, header_cap(MSG_HALO));
        *(st->kind == STEP_SEND ? out : in) += (int64_t)cap;
    }
    for (int32_t i = 0; i < pr->nbuffers; i++) {
        const struct buffer *b = &pr->buffer[i];
        const int64_t bytes = box_values(b->box) * 4 * s->geo.tensor[b->tensor].batch;
        held += bytes < MOST_BYTES ? bytes : MOST_BYTES;
    }
    if (*out > (held + pr->nsteps) * (PLAN_MAX_NODES + 1))
        return diag(why, -EPROTO, "the program sends %lld bytes of the %lld that it holds",
                    (long long)*out, (long long)held);
    return 0;
}

static long long megabytes(int64_t bytes) { return (long long)((bytes + 999999) / 1000000); }

/* Says what the session will take before it takes any of it. */
static int check_memory(struct session *s, const struct session_limits *limits, struct diag *why)
{
    const struct program *pr = &s->plan.program;
    const int64_t arena = exec_arena_bytes(&s->graph, &s->geo, pr, pool_threads(s->pool));
    const int64_t weights = exec_weight_bytes(&s->graph, pr);
    int64_t in, out;

    if (arena < 0 || weights < 0)
        return diag(why, arena < 0 ? (int)arena : (int)weights,
                    "%s: the memory of the program cannot be told", limits->node);
    if (arena > MOST_BYTES || weights > MOST_BYTES)
        return diag(why, -ENOMEM, "%s: needs %lld MB", limits->node,
                    megabytes(arena > weights ? arena : weights));
    const int err = count_messages(s, &in, &out, why);
    if (err < 0)
        return err;
    s->weight_bytes = weights;
    s->arena_bytes = (arena + in + out) * s->plan.depth;
    const int64_t need = s->arena_bytes + weights + limits->in_use;
    if (limits->max_memory == 0 || need <= limits->max_memory)
        return 0;
    if (limits->in_use > 0)
        return diag(why, -ENOMEM,
                    "%s: needs %lld MB, %lld MB allowed: %lld MB weights + %lld MB activations + "
                    "%lld MB of other models",
                    limits->node, megabytes(need), megabytes(limits->max_memory),
                    megabytes(weights), megabytes(s->arena_bytes), megabytes(limits->in_use));
    return diag(why, -ENOMEM,
                "%s: needs %lld MB, %lld MB allowed: %lld MB weights + %lld MB activations",
                limits->node, megabytes(need), megabytes(limits->max_memory), megabytes(weights),
                megabytes(s->arena_bytes));
}

/* Where memory is short, without the kernels that are kept for speed alone. */
static int fit_memory(struct session *s, const struct session_limits *limits, struct diag *why)
{
    const int err = check_memory(s, limits, why);
    return err == -ENOMEM && conv_keep_none(&s->graph) ? check_memory(s, limits, why) : err;
}

/* Sets aside the storage of every message that the lane sends. */
static int give_payloads(const struct session *s, struct lane *l)
{
    const struct program *pr = &s->plan.program;
    size_t bytes = 0;

    for (int32_t i = 0; i < pr->nsteps; i++)
        if (pr->step[i].kind == STEP_SEND)
            bytes += message_cap(s, &pr->step[i]);
    l->out = calloc((size_t)s->nsends + 1, sizeof *l->out);
    l->payload = malloc(bytes + 1);
    if (!l->out || !l->payload)
        return -ENOMEM;
    memset(l->payload, 0, bytes); /* no page faults in the first frame */

    size_t at = 0;
    for (int32_t i = 0; i < pr->nsteps; i++) {
        const struct step *st = &pr->step[i];
        if (st->kind != STEP_SEND)
            continue;
        struct mesh_slot *slot = &l->out[s->send_of[st->transfer]];
        slot->payload = l->payload + at;
        slot->header = (struct header){ .type = MSG_HALO,
                                        .flags = st->peer == pr->nodes ? HEADER_TO_HOST : 0,
                                        .epoch = s->epoch,
                                        .plan = s->number,
                                        .transfer = (uint32_t)st->transfer };
        slot->more = i == pr->nsteps - 1 && st->peer == pr->nodes; /* FRAME_DONE */
        at += message_cap(s, st);
    }
    return 0;
}

static int make_lane(struct session *s, struct lane *l, struct diag *why)
{
    struct codec_pixels pixels = { .channels = s->plan.pixels.channels,
                                   .scale = s->plan.pixels.scale };

    memcpy(pixels.mean, s->plan.pixels.mean, sizeof pixels.mean);
    memcpy(pixels.std, s->plan.pixels.std, sizeof pixels.std);
    l->session = s;
    l->waits_for = NONE;
    l->exchange = (struct exchange){ .reserve = reserve,
                                     .send = send_message,
                                     .recv = receive_message,
                                     .release = release_message };
    l->exec = exec_new(&s->graph, &s->geo, &s->plan.program, &s->recipes,
                       s->plan.pixels.channels > 0 ? &pixels : NULL, s->pool, why);
    if (!l->exec)
        return -ENOMEM;
    l->mailbox = mailbox_new(&s->plan.program, &s->geo);
    if (!l->mailbox || give_payloads(s, l) < 0)
        return diag(why, -ENOMEM, "out of memory for the messages of a frame");
    return 0;
}

/* The model for the extents that the plan was made for. */
static int open_model(struct session *s, const char *file, struct diag *why)
{
    struct graph_input input[PLAN_MAX_INPUTS];
    int err = onnx_open(&s->model, file, why);

    if (err < 0)
        return err;
    s->has_model = true;
    if (s->plan.ninputs > s->model.ninputs)
        return diag(why, -EPROTO, "%s: the plan is for %d inputs, the model has %d", file,
                    s->plan.ninputs, s->model.ninputs);
    for (int32_t i = 0; i < s->plan.ninputs; i++) {
        input[i] =
            (struct graph_input){ .name = s->model.input[i].name, .rank = s->plan.input[i].rank };
        memcpy(input[i].dim, s->plan.input[i].dim, sizeof input[i].dim);
    }
    err = graph_build(&s->graph, &s->model, input, s->plan.ninputs, why);
    if (err < 0)
        return err;
    s->has_graph = true;
    if (s->plan.nways > 0)
        err = graph_set_ways(&s->graph, s->plan.ways, (int32_t)s->plan.nways);
    if (err < 0)
        return diag(why, err, "%s: the ways to compute its operators are not the plan's", file);
    err = graph_geometry(&s->graph, s->plan.program.nodes, &s->geo);
    if (err < 0)
        return diag(why, err, "%s: out of memory", file);
    s->has_geo = true;
    return 0;
}

/* Forms that come from elsewhere: whatever a message of this program goes to the host in fits. */
static bool answers_fit(const struct session *s)
{
    const struct program *pr = &s->plan.program;

    for (int32_t i = 0; i < pr->nsteps; i++) {
        const struct step *st = &pr->step[i];
        for (int32_t k = 0; k < s->graph.noutputs; k++) {
            const struct geo_tensor *t = &s->geo.tensor[st->what];
            if (st->kind == STEP_SEND && st->peer == pr->nodes &&
                s->graph.output[k].tensor == st->what &&
                !answer_fits(&s->answer[k], t->dim, t->batch, st->box))
                return false;
        }
    }
    return true;
}

static int take_answers(struct session *s, const struct session_limits *limits, struct diag *why)
{
    s->answer = calloc((size_t)s->graph.noutputs + 1, sizeof *s->answer);
    if (!s->answer)
        return diag(why, -ENOMEM, "%s: out of memory", limits->node);
    for (int32_t i = 0; i < s->plan.nanswers && i < s->graph.noutputs; i++) {
        const struct plan_answer *a = &s->plan.answer[i];
        s->answer[i] = (struct answer_rule){
            .form = (enum answer_form)a->form,
            .scale = a->scale,
            .shift = a->shift,
            .least = a->least,
            .score = { a->object, a->classes, a->offset, (enum score_activation)a->activation },
        };
    }
    return answers_fit(s) ? 0
                          : diag(why, -EPROTO, "%s: the forms of the answers do not fit the model",
                                 limits->node);
}

int session_load(struct session *s, const char *file, const struct session_limits *limits,
                 struct diag *why)
{
    int32_t step;
    int err = open_model(s, file, why);

    if (err < 0)
        return err;
    s->pool = limits->pool;
    err = program_check(&s->plan.program, &s->geo, &step);
    if (err < 0)
        return diag(why, err, "%s: the program does not fit the model, step %d", limits->node,
                    step);
    err = take_answers(s, limits, why);
    if (err < 0)
        return err;
    err = recipes_read(&s->recipes, &s->geo, s->plan.recipes, s->plan.recipe_bytes, why);
    if (err == 0)
        err = fit_memory(s, limits, why);
    if (err == 0)
        err = route_transfers(s, why);
    if (err == 0)
        err = graph_pack(&s->graph, &s->plan.program, why);
    for (int32_t i = 0; err == 0 && i < s->plan.depth; i++)
        err = make_lane(s, &s->lane[i], why);
    return err;
}

/* ---- life */

struct session *session_new(struct msg_plan *plan, uint32_t epoch, uint32_t number,
                            int32_t coordinator, struct mesh *mesh)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->plan = *plan;
    plan->program = (struct program){ 0 };
    plan->recipes = NULL;
    plan->ways = NULL;
    s->epoch = epoch;
    s->number = number;
    s->coordinator = coordinator;
    s->mesh = mesh;
    return s;
}

static void free_lane(struct lane *l)
{
    exec_free(l->exec);
    mailbox_free(l->mailbox);
    free(l->trace);
    free(l->end.trace);
    free(l->out);
    free(l->payload);
}

void session_free(struct session *s)
{
    if (!s)
        return;
    for (int32_t i = 0; i < PLAN_MAX_DEPTH; i++)
        free_lane(&s->lane[i]);
    free(s->send_of);
    free(s->from);
    free(s->by_host);
    free(s->answer);
    if (s->has_geo)
        geometry_done(&s->geo);
    if (s->has_graph)
        graph_done(&s->graph);
    if (s->has_model)
        onnx_close(&s->model);
    recipes_done(&s->recipes);
    plan_msg_done(&s->plan);
    free(s);
}
