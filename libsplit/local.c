#include "libsplit/local.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/clock.h"
#include "libsplit/mailbox.h"

struct node {
    struct exchange exchange; /* first: see node_of() */
    struct local *local;
    int32_t index;
    struct pool *pool; /* NULL for the host and without more threads */
    struct exec *exec; /* NULL for the host */
    struct mailbox *box;
    uint8_t *reserved; /* the message that it fills */
    struct exec_stats stats;
    struct trace *trace; /* NULL unless local_trace() was called */
    pthread_t thread;
    bool started;
};

struct local {
    const struct graph *g;
    const struct program *host; /* its program */
    bool takes_pixels;
    struct codec_pixels pixels;
    int32_t nodes;
    int64_t late_ns;   /* see local_options */
    struct node *node; /* [nodes + 1], the host last */
    void (*tap)(void *ctx, int32_t from, int32_t transfer, const uint8_t *msg, size_t len);
    void *tap_ctx;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t start, done;
    uint64_t frame;   /* threads run one frame each time it changes */
    int64_t frame_ns; /* when it was started */
    int32_t running;
    int error; /* the first of the frame */
    bool quit;
};

/* ---- Exchange between threads ---- */

static struct node *node_of(struct exchange *x) { return (struct node *)x; }

static int reserve(struct exchange *x, const struct step *s, size_t cap, uint8_t **to)
{
    struct node *n = node_of(x);
    struct mailbox *box = n->local->node[s->peer].box;
    n->reserved = mailbox_claim(box, s->transfer, cap);
    if (!n->reserved)
        return mailbox_gave_up(box, s->transfer) ? -EBUSY : -ECANCELED;
    *to = n->reserved;
    return 0;
}

static int send(struct exchange *x, const struct step *s, size_t len)
{
    const struct node *n = node_of(x);
    const struct local *l = n->local;
    if (l->tap)
        l->tap(l->tap_ctx, n->index, s->transfer, n->reserved, len);
    mailbox_post(l->node[s->peer].box, s->transfer, len);
    return 0;
}

/* Nobody can be lost without local_run() knowing, so nothing is waited for in vain. */
static int recv(struct exchange *x, const struct step *s, const uint8_t **msg, size_t *len)
{
    const struct node *n = node_of(x);
    if (!s->may_miss || n->local->late_ns == 0)
        return mailbox_wait(n->box, s->transfer, INT64_MAX, msg, len);
    return mailbox_wait_or_give_up(n->box, s->transfer, clock_ns() + n->local->late_ns, msg, len);
}

static void release(struct exchange *x, const struct step *s)
{
    (void)x;
    (void)s; /* slots are emptied all at once, before the next frame */
}

/* ---- Threads ---- */

/* Notes the first error of a frame and ends the frame on all nodes. */
static void fail(struct local *l, int err)
{
    pthread_mutex_lock(&l->lock);
    if (!l->error)
        l->error = err;
    pthread_mutex_unlock(&l->lock);
    for (int32_t n = 0; n <= l->nodes; n++)
        mailbox_cancel(l->node[n].box);
}

/* Waits for a frame after `*seen`.  Returns false when the cluster ends. */
static bool wait_for_frame(struct local *l, uint64_t *seen)
{
    pthread_mutex_lock(&l->lock);
    while (l->frame == *seen && !l->quit)
        pthread_cond_wait(&l->start, &l->lock);
    *seen = l->frame;
    const bool go = !l->quit;
    pthread_mutex_unlock(&l->lock);
    return go;
}

static void note(struct trace *t, enum trace_kind kind, int32_t step, int64_t *since_ns)
{
    if (!t)
        return;
    const int64_t now = clock_ns();
    trace_add(t, kind, step, *since_ns, now);
    *since_ns = now;
}

static void frame_done(struct local *l)
{
    pthread_mutex_lock(&l->lock);
    if (--l->running == 0)
        pthread_cond_signal(&l->done);
    pthread_mutex_unlock(&l->lock);
}

static void *node_main(void *arg)
{
    struct node *n = arg;
    uint64_t seen = 0;
    while (wait_for_frame(n->local, &seen)) {
        int64_t since = n->local->frame_ns;
        note(n->trace, TRACE_QUEUE, 0, &since);
        const int err = exec_run(n->exec, &n->exchange, NULL, n->trace, &n->stats);
        if (err)
            fail(n->local, err);
        frame_done(n->local);
    }
    return NULL;
}

/* ---- The host ---- */

static int host_send(struct local *l, int32_t step, const struct host_input *input, int64_t *now)
{
    const struct step *s = &l->host->step[step];
    struct trace *trace = l->node[l->nodes].trace;
    struct mailbox *box = l->node[s->peer].box;
    const size_t n = (size_t)box_values(s->box) * (size_t)l->g->tensor[s->what].batch;
    uint8_t *to = mailbox_claim(box, s->transfer, codec_bound(n));
    if (!to)
        return -ECANCELED;
    const size_t len = host_pack(l->g, s, input, to);
    note(trace, TRACE_PACK, step, now);
    mailbox_post(box, s->transfer, len);
    note(trace, TRACE_SEND, step, now);
    return 0;
}

static int host_receive(struct local *l, int32_t step, float *const *output, int64_t *now)
{
    const struct step *s = &l->host->step[step];
    struct trace *trace = l->node[l->nodes].trace;
    const uint8_t *msg;
    size_t len;
    int err = mailbox_wait(l->node[l->nodes].box, s->transfer, INT64_MAX, &msg, &len);
    note(trace, TRACE_WAIT, step, now);
    if (err)
        return err;
    err = host_unpack(l->g, s, msg, len, NULL, output);
    note(trace, TRACE_UNPACK, step, now);
    return err;
}

static int run_host(struct local *l, const struct host_input *input, float *const *output)
{
    int64_t now = l->frame_ns;
    int err = 0;
    for (int32_t i = 0; i < l->host->nsteps && !err; i++)
        err = l->host->step[i].kind == STEP_SEND ? host_send(l, i, input, &now)
                                                 : host_receive(l, i, output, &now);
    if (!err)
        host_pass(l->g, input, l->takes_pixels ? &l->pixels : NULL, output);
    return err;
}

void local_forget(struct local *l)
{
    for (int32_t n = 0; n < l->nodes; n++)
        exec_forget(l->node[n].exec);
}

/* Did a node do without a message in the last frame? */
static bool concealed(const struct local *l)
{
    for (int32_t n = 0; n < l->nodes; n++)
        if (l->node[n].stats.concealed > 0)
            return true;
    return false;
}

int local_run(struct local *l, const struct host_input *input, float *const *output,
              struct exec_stats *stats)
{
    for (int32_t i = 0; i < l->g->ninputs; i++)
        if (input[i].pixels && !l->takes_pixels)
            return -EINVAL;

    for (int32_t n = 0; n <= l->nodes; n++)
        if (l->node[n].trace)
            l->node[n].trace->n = 0;

    pthread_mutex_lock(&l->lock);
    l->error = 0;
    l->frame_ns = clock_ns();
    l->running = l->nodes;
    l->frame++;
    pthread_cond_broadcast(&l->start);
    pthread_mutex_unlock(&l->lock);

    const int err = run_host(l, input, output);
    if (err)
        fail(l, err);

    pthread_mutex_lock(&l->lock);
    while (l->running > 0)
        pthread_cond_wait(&l->done, &l->lock);
    const int first = l->error;
    pthread_mutex_unlock(&l->lock);

    for (int32_t n = 0; n <= l->nodes; n++)
        mailbox_clear(l->node[n].box);
    if (first || concealed(l))
        local_forget(l);
    if (!first && stats)
        for (int32_t n = 0; n < l->nodes; n++)
            stats[n] = l->node[n].stats;
    return first;
}

int local_trace(struct local *l, const struct program *programs)
{
    for (int32_t n = 0; n <= l->nodes; n++)
        if (!l->node[n].trace && !(l->node[n].trace = trace_new(&programs[n])))
            return -ENOMEM;
    return 0;
}

const struct trace *local_traced(const struct local *l, int32_t node, int64_t *start_ns)
{
    *start_ns = l->frame_ns;
    return l->node[node].trace;
}

/* ---- Life ---- */

static int node_init(struct local *l, int32_t index, const struct geometry *geo,
                     const struct program *pr, const struct local_options *o, struct diag *why)
{
    struct node *n = &l->node[index];
    n->exchange = (struct exchange){ reserve, send, recv, release };
    n->local = l;
    n->index = index;
    n->box = mailbox_new(pr, geo);
    if (!n->box)
        return diag(why, -ENOMEM, "node %d: not enough memory for its messages", index);
    if (index == l->nodes)
        return 0;
    if (o->threads > 1) {
        const int err =
            pool_new(&n->pool, o->threads, o->part_work ? o->part_work : POOL_PART_WORK, why);
        if (err)
            return err;
    }
    n->exec = exec_new(l->g, geo, pr, o->recipes, o->pixels, n->pool, why);
    return n->exec ? 0 : -ENOMEM;
}

int local_new(struct local **to, const struct graph *g, const struct geometry *geo,
              const struct program *programs, const struct local_options *options, struct diag *why)
{
    const struct local_options o = options ? *options : (struct local_options){ 0 };
    struct local *l = calloc(1, sizeof(*l));
    if (!l)
        return diag(why, -ENOMEM, "not enough memory");
    l->g = g;
    l->nodes = programs[0].nodes;
    l->host = &programs[l->nodes];
    l->takes_pixels = o.pixels != NULL;
    if (o.pixels)
        l->pixels = *o.pixels;
    l->late_ns = o.late_ns;
    l->tap = o.tap;
    l->tap_ctx = o.tap_ctx;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->start, NULL);
    pthread_cond_init(&l->done, NULL);
    int err = 0;
    l->node = calloc((size_t)l->nodes + 1, sizeof(*l->node));
    if (!l->node)
        err = diag(why, -ENOMEM, "not enough memory");
    for (int32_t n = 0; n <= l->nodes && !err; n++)
        err = node_init(l, n, geo, &programs[n], &o, why);
    for (int32_t n = 0; n < l->nodes && !err; n++) {
        err = -pthread_create(&l->node[n].thread, NULL, node_main, &l->node[n]);
        if (err)
            diag(why, err, "node %d: no thread for it: %s", n, strerror(-err));
        l->node[n].started = !err;
    }
    if (err)
        local_free(l);
    else
        *to = l;
    return err;
}

void local_free(struct local *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_cond_broadcast(&l->start);
    pthread_mutex_unlock(&l->lock);
    for (int32_t n = 0; l->node && n <= l->nodes; n++) {
        if (l->node[n].started)
            pthread_join(l->node[n].thread, NULL);
        exec_free(l->node[n].exec);
        pool_free(l->node[n].pool);
        mailbox_free(l->node[n].box);
        free(l->node[n].trace);
    }
    free(l->node);
    pthread_cond_destroy(&l->done);
    pthread_cond_destroy(&l->start);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int64_t local_arena_bytes(const struct local *l)
{
    int64_t bytes = 0;
    for (int32_t n = 0; n < l->nodes; n++)
        bytes += exec_bytes(l->node[n].exec);
    return bytes;
}

int64_t local_message_bytes(const struct local *l)
{
    int64_t bytes = 0;
    for (int32_t n = 0; n <= l->nodes; n++)
        bytes += (int64_t)mailbox_bytes(l->node[n].box);
    return bytes;
}
