#include "libsplit/exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/arena.h"
#include "libsplit/clock.h"
#include "libsplit/coding.h"
#include "libsplit/cut.h"
#include "libsplit/kernel.h"
#include "libsplit/place.h"
#include "libsplit/resident.h"

/* Where everything lies that a frame touches. */
struct layout {
    struct place *place;     /* [pr->nbuffers] */
    struct arena_item *item; /* [pr->nbuffers + 1], of the roots; the last is the scratch */
    int64_t bytes;           /* of the arena */
    int64_t scratch_bytes;   /* of each thread's scratch, a multiple of ARENA_ALIGN */
};

struct exec {
    const struct graph *g;
    const struct geometry *geo;
    const struct program *pr;
    struct coding *coding;
    struct pool *pool;
    struct cut *cut; /* [pr->nsteps], of the RUN steps */
    struct layout layout;
    float *arena;
    float **data;                    /* [pr->nbuffers], in the arena */
    float *scratch;                  /* in the arena: a piece for each thread */
    const struct answer_rule *brief; /* of the frame that runs: see exec_run() */
};

/* ---- Planning ---- */

static void touch(struct arena_item *it, int32_t step)
{
    if (it->first > step)
        it->first = step;
    if (it->last < step)
        it->last = step;
}

static void touch_tensor(struct layout *l, const struct program *pr, int32_t tensor, int32_t step)
{
    const struct buffer *b = program_buffer(pr, tensor);
    if (b)
        touch(&l->item[l->place[b - pr->buffer].root], step);
}

/* One item per root buffer, in use from the first write to the last read of what lies in it. */
static void find_lifetimes(struct layout *l, const struct graph *g, const struct program *pr)
{
    for (int32_t s = 0; s < pr->nsteps; s++) {
        const struct step *st = &pr->step[s];
        if (st->kind != STEP_RUN) {
            touch_tensor(l, pr, st->what, s);
            continue;
        }
        const struct op *op = &g->op[st->what];
        touch_tensor(l, pr, op->output, s);
        for (int32_t i = 0; i < op->ninputs; i++)
            touch_tensor(l, pr, op->input[i], s);
    }
}

/* Scratch that the hungriest operator of the program wants on one thread, rounded up so that no
 * two threads write to one cache line. */
static int64_t scratch_bytes(const struct graph *g, const struct program *pr)
{
    size_t most = 0;
    for (int32_t s = 0; s < pr->nsteps; s++) {
        if (pr->step[s].kind != STEP_RUN)
            continue;
        const struct op *op = &g->op[pr->step[s].what];
        const struct kernel *k = &kernels[op->type];
        const size_t bytes = k->scratch_bytes ? k->scratch_bytes(g, op) : 0;
        most = bytes > most ? bytes : most;
    }
    if (most > INT64_MAX - ARENA_ALIGN)
        return INT64_MAX;
    return ((int64_t)most + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static void layout_done(struct layout *l)
{
    free(l->place);
    free(l->item);
}

/* Places all buffers and the scratch.  Returns 0 or a negative errno; layout_done() frees in
 * either case. */
static int layout_init(struct layout *l, const struct graph *g, const struct geometry *geo,
                       const struct program *pr, int32_t threads)
{
    const size_t n = (size_t)pr->nbuffers + 1;
    *l = (struct layout){ .place = calloc(n, sizeof(*l->place)),
                          .item = calloc(n, sizeof(*l->item)) };
    if (!l->place || !l->item || place_buffers(g, geo, pr, l->place))
        return -ENOMEM;
    for (int32_t b = 0; b < pr->nbuffers; b++) {
        const int64_t values = box_values(pr->buffer[b].box);
        l->item[b] = (struct arena_item){ .first = INT32_MAX, .last = -1 };
        if (l->place[b].root == b &&
            __builtin_mul_overflow(values * (int64_t)sizeof(float),
                                   (int64_t)geo->tensor[pr->buffer[b].tensor].batch,
                                   &l->item[b].bytes))
            return -EOVERFLOW;
    }
    struct arena_item *scratch = &l->item[pr->nbuffers];
    *scratch = (struct arena_item){ .first = 0, .last = INT32_MAX };
    l->scratch_bytes = scratch_bytes(g, pr);
    if (__builtin_mul_overflow(l->scratch_bytes, (int64_t)threads, &scratch->bytes))
        return -EOVERFLOW;
    find_lifetimes(l, g, pr);
    l->bytes = arena_plan(l->item, pr->nbuffers + 1);
    return l->bytes < 0 ? (int)l->bytes : 0;
}

int64_t exec_arena_bytes(const struct graph *g, const struct geometry *geo,
                         const struct program *pr, int32_t threads)
{
    struct layout l;
    const int err = layout_init(&l, g, geo, pr, threads);
    layout_done(&l);
    return err ? err : l.bytes + coding_bytes(pr, geo);
}

int64_t exec_message_bytes(const struct geometry *geo, const struct program *pr)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < pr->nsteps; i++) {
        const struct step *s = &pr->step[i];
        if (s->kind != STEP_RUN)
            bytes += (int64_t)codec_bound((size_t)box_values(s->box) *
                                          (size_t)geo->tensor[s->what].batch);
    }
    return bytes;
}

int64_t exec_bytes(const struct exec *e) { return e->layout.bytes + coding_bytes(e->pr, e->geo); }

int64_t exec_weight_bytes(const struct graph *g, const struct program *pr)
{
    struct span *channels = calloc((size_t)g->nops + 1, sizeof(*channels));
    if (!channels)
        return -ENOMEM;
    program_channels(g, pr, 1, channels);
    int64_t bytes = 0;
    for (int32_t o = 0; o < g->nops; o++) {
        const struct kernel *k = &kernels[g->op[o].type];
        if (k->packed_bytes && channels[o].lo < channels[o].hi)
            bytes += (int64_t)k->packed_bytes(g, &g->op[o], channels[o]);
    }
    free(channels);
    return bytes;
}

/* How the threads share each operator. */
static void choose_cuts(struct exec *e)
{
    for (int32_t i = 0; i < e->pr->nsteps; i++) {
        const struct step *s = &e->pr->step[i];
        if (s->kind == STEP_RUN)
            e->cut[i] =
                cut_choose(e->g, e->geo, s->what, program_output(e->pr, e->geo, s), e->pool);
    }
}

struct exec *exec_new(const struct graph *g, const struct geometry *geo, const struct program *pr,
                      const struct recipes *recipes, const struct codec_pixels *pixels,
                      struct pool *pool, struct diag *why)
{
    struct exec *e = calloc(1, sizeof(*e));
    if (!e) {
        diag(why, -ENOMEM, "node %d: not enough memory", pr->node);
        return NULL;
    }
    e->g = g;
    e->geo = geo;
    e->pr = pr;
    e->pool = pool;
    if (recipes_check(recipes, geo, pr, why))
        goto fail;
    const int err = layout_init(&e->layout, g, geo, pr, pool_threads(pool));
    const int64_t bytes = e->layout.bytes;
    if (err || (uint64_t)bytes > SIZE_MAX - ARENA_ALIGN) {
        diag(why, -ENOMEM, "node %d: the tensors of its program cannot be placed in memory: %s",
             pr->node, strerror(err ? -err : EOVERFLOW));
        goto fail;
    }
    e->coding = coding_new(pr, geo, recipes, pixels);
    e->cut = calloc((size_t)pr->nsteps + 1, sizeof(*e->cut));
    e->data = calloc((size_t)pr->nbuffers + 1, sizeof(*e->data));
    e->arena = resident_alloc((size_t)bytes);
    if (!e->coding || !e->cut || !e->data || !e->arena) {
        diag(why, -ENOMEM, "node %d: not enough memory for %lld bytes of tensors", pr->node,
             (long long)bytes);
        goto fail;
    }
    for (int32_t b = 0; b < pr->nbuffers; b++) {
        const struct place *p = &e->layout.place[b];
        e->data[b] = e->arena + e->layout.item[p->root].offset / (int64_t)sizeof(float) + p->offset;
    }
    e->scratch = e->arena + e->layout.item[pr->nbuffers].offset / (int64_t)sizeof(float);
    choose_cuts(e);
    return e;

fail:
    exec_free(e);
    return NULL;
}

void exec_free(struct exec *e)
{
    if (!e)
        return;
    layout_done(&e->layout);
    coding_free(e->coding);
    resident_free(e->arena);
    free(e->data);
    free(e->cut);
    free(e);
}

/* ---- Running ---- */

/* Image `image` of what this node holds of `tensor`; an empty view if that is nothing. */
static struct view view_of(const struct exec *e, int32_t tensor, int32_t image)
{
    const struct buffer *b = program_buffer(e->pr, tensor);
    if (!b)
        return (struct view){ .box = box_none() };
    const struct place *p = &e->layout.place[b - e->pr->buffer];
    return (struct view){ .data = e->data[b - e->pr->buffer] + image * p->image_stride,
                          .box = b->box,
                          .row_stride = p->row_stride,
                          .pixel_stride = p->pixel_stride,
                          .image_stride = p->image_stride };
}

/* A RUN step for the threads that share it. */
struct job {
    const struct exec *e;
    const struct step *step;
    const struct cut *cut;
};

/* Computes part `i` of the region, all images.  On several threads at once. */
static void run_part(void *ctx, int32_t i)
{
    const struct job *job = ctx;
    const struct exec *e = job->e;
    const struct step *s = job->step;
    const struct op *op = &e->g->op[s->what];
    const int32_t batch = e->geo->tensor[op->output].batch;
    const ptrdiff_t scratch = (ptrdiff_t)(e->layout.scratch_bytes / (int64_t)sizeof(float));
    const struct part part = cut_part(job->cut, e->g, op, program_output(e->pr, e->geo, s), i);
    struct view in[OP_MAX_INPUTS];
    struct kernel_call call = {
        .graph = e->g,
        .op = op,
        .in = in,
        .region = part.region,
        .pieces = part.pieces,
        .share = s->box,
        .nodes = e->pr->nodes,
        .scratch = e->scratch + i * scratch,
    };
    if (box_empty(call.region))
        return;
    for (call.image = 0; call.image < batch; call.image++) {
        for (int32_t k = 0; k < op->ninputs; k++) {
            const bool follows =
                op->type != OP_RESHAPE && e->geo->tensor[op->input[k]].batch == batch;
            in[k] = view_of(e, op->input[k], follows ? call.image : 0);
        }
        call.out = view_of(e, op->output, call.image);
        kernels[op->type].run(&call);
    }
}

static void run_operator(const struct exec *e, int32_t step)
{
    struct job job = { e, &e->pr->step[step], &e->cut[step] };
    pool_run(e->pool, job.cut->parts, run_part, &job);
}

/* Where the time of a frame goes. */
struct watch {
    int64_t now_ns; /* until here it is accounted for */
    struct trace *trace;
    struct exec_stats sum;
};

/* Puts the time since the last lap down to `account`, one of w->sum. */
static void lap(struct watch *w, int64_t *account, enum trace_kind kind, int32_t step)
{
    const int64_t end = clock_ns();
    *account += end - w->now_ns;
    if (w->trace)
        trace_add(w->trace, kind, step, w->now_ns, end);
    w->now_ns = end;
}

/* The buffer of the tensor that a step moves. */
static float *buffer_of(const struct exec *e, const struct step *s)
{
    return e->data[program_buffer(e->pr, s->what) - e->pr->buffer];
}

/* In which form the tensor of SEND step `s` goes; NULL: as values. */
static const struct answer_rule *answer_of(const struct exec *e, const struct step *s)
{
    for (int32_t i = 0; e->brief && s->peer == e->pr->nodes && i < e->g->noutputs; i++)
        if (e->g->output[i].tensor == s->what && e->brief[i].form != ANSWER_VALUES)
            return &e->brief[i];
    return NULL;
}

static size_t encode(const struct exec *e, int32_t step, uint8_t *to)
{
    const struct step *s = &e->pr->step[step];
    const struct answer_rule *a = answer_of(e, s);
    const struct box stored = program_buffer(e->pr, s->what)->box;
    const size_t len = a ? answer_encode(a, buffer_of(e, s), stored, s->box, to) : 0;
    return len > 0 ? len : coding_put(e->coding, step, buffer_of(e, s), to);
}

static int send_box(const struct exec *e, int32_t step, struct exchange *x, struct watch *w)
{
    const struct step *s = &e->pr->step[step];
    if (coding_drops(e->coding, step))
        return 0;
    const size_t n = (size_t)box_values(s->box) * (size_t)e->geo->tensor[s->what].batch;
    uint8_t *to;
    int err = x->reserve(x, s, codec_bound(n), &to);
    if (err)
        return err == -EBUSY && s->may_miss ? 0 : err;
    const size_t len = encode(e, step, to);
    lap(w, &w->sum.pack_ns, TRACE_PACK, step);
    err = x->send(x, s, len);
    lap(w, &w->sum.send_ns, TRACE_SEND, step);
    w->sum.sent_bytes += (int64_t)len;
    w->sum.sent_messages++;
    if (s->peer != e->pr->nodes) {
        w->sum.halo_sent_bytes += (int64_t)len;
        w->sum.halo_sent_messages++;
    }
    return err;
}

/* Rows of the tensor of RECV step `step` that this node has computed. */
static struct box computed(const struct exec *e, int32_t step)
{
    const int32_t op = e->geo->tensor[e->pr->step[step].what].op;
    struct box rows = box_none();
    for (int32_t i = 0; i < step; i++)
        if (e->pr->step[i].kind == STEP_RUN && e->pr->step[i].what == op)
            rows = box_hull(rows, program_output(e->pr, e->geo, &e->pr->step[i]));
    return rows;
}

static void conceal(const struct exec *e, int32_t step, struct watch *w)
{
    coding_conceal(e->coding, step, computed(e, step), buffer_of(e, &e->pr->step[step]));
    lap(w, &w->sum.pack_ns, TRACE_UNPACK, step);
    w->sum.concealed++;
}

static int receive_box(const struct exec *e, int32_t step, struct exchange *x, struct watch *w)
{
    const struct step *s = &e->pr->step[step];
    const uint8_t *msg;
    size_t len;
    if (coding_drops(e->coding, step)) {
        coding_fill(e->coding, step, buffer_of(e, s));
        return 0;
    }
    int err = x->recv(x, s, &msg, &len);
    lap(w, &w->sum.wait_ns, TRACE_WAIT, step);
    if (err == -ETIME && s->may_miss) {
        conceal(e, step, w);
        return 0;
    }
    if (err)
        return err;
    pool_wake(e->pool); /* while the message is decoded */
    err = coding_get(e->coding, step, buffer_of(e, s), msg, len);
    x->release(x, s);
    lap(w, &w->sum.pack_ns, TRACE_UNPACK, step);
    w->sum.received_bytes += (int64_t)len;
    w->sum.received_messages++;
    return err;
}

static int run_step(const struct exec *e, int32_t step, struct exchange *x, struct watch *w)
{
    switch (e->pr->step[step].kind) {
    case STEP_RUN:
        run_operator(e, step);
        lap(w, &w->sum.compute_ns, TRACE_RUN, step);
        return 0;
    case STEP_SEND:
        return send_box(e, step, x, w);
    case STEP_RECV:
        return receive_box(e, step, x, w);
    }
    return -EINVAL;
}

int exec_run(struct exec *e, struct exchange *x, const struct answer_rule *brief,
             struct trace *trace, struct exec_stats *stats)
{
    struct watch w = { .now_ns = clock_ns(), .trace = trace };
    int err = 0;
    e->brief = brief;
    for (int32_t i = 0; i < e->pr->nsteps && !err; i++)
        err = run_step(e, i, x, &w);
    if (err)
        exec_forget(e);
    else if (stats)
        *stats = w.sum;
    return err;
}

void exec_forget(struct exec *e) { coding_forget(e->coding); }
