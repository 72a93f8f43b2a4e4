#include "libsplit/exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libsplit/arena.h"
#include "libsplit/kernel.h"
#include "libsplit/runs.h"

struct exec {
    const struct graph *g;
    const struct geometry *geo;
    const struct program *pr;
    bool takes_pixels;
    struct codec_pixels pixels;
    float *arena;
    float **data;   /* [pr->nbuffers], in the arena */
    float *scratch; /* in the arena */
};

/* ---- Planning ---- */

static void touch(struct arena_item *it, int32_t step)
{
    if (it->first > step)
        it->first = step;
    if (it->last < step)
        it->last = step;
}

static void touch_tensor(struct arena_item *item, const struct program *pr, int32_t tensor,
                         int32_t step)
{
    const struct buffer *b = program_buffer(pr, tensor);
    if (b)
        touch(&item[b - pr->buffer], step);
}

/* One item per buffer, in use from its first write to its last read. */
static void find_lifetimes(struct arena_item *item, const struct graph *g, const struct program *pr)
{
    for (int32_t s = 0; s < pr->nsteps; s++) {
        const struct step *st = &pr->step[s];
        if (st->kind != STEP_RUN) {
            touch_tensor(item, pr, st->what, s);
            continue;
        }
        const struct op *op = &g->op[st->what];
        touch_tensor(item, pr, op->output, s);
        for (int32_t i = 0; i < op->ninputs; i++)
            touch_tensor(item, pr, op->input[i], s);
    }
}

/* Scratch that the hungriest operator of the program wants. */
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
    return most > INT64_MAX ? INT64_MAX : (int64_t)most;
}

/* Places all buffers and, as item number pr->nbuffers, the scratch.  Returns the bytes of the
 * arena and `*items` to free, or a negative errno. */
static int64_t plan_arena(const struct graph *g, const struct geometry *geo,
                          const struct program *pr, struct arena_item **items)
{
    struct arena_item *item = calloc((size_t)pr->nbuffers + 1, sizeof(*item));
    if (!item)
        return -ENOMEM;
    for (int32_t b = 0; b < pr->nbuffers; b++) {
        const int64_t values = box_values(pr->buffer[b].box);
        item[b] = (struct arena_item){ .first = INT32_MAX, .last = -1 };
        if (__builtin_mul_overflow(values * (int64_t)sizeof(float),
                                   (int64_t)geo->tensor[pr->buffer[b].tensor].batch,
                                   &item[b].bytes)) {
            free(item);
            return -EOVERFLOW;
        }
    }
    item[pr->nbuffers] =
        (struct arena_item){ .bytes = scratch_bytes(g, pr), .first = 0, .last = INT32_MAX };
    find_lifetimes(item, g, pr);
    const int64_t total = arena_plan(item, pr->nbuffers + 1);
    if (total < 0)
        free(item);
    else
        *items = item;
    return total;
}

int64_t exec_arena_bytes(const struct graph *g, const struct geometry *geo,
                         const struct program *pr)
{
    struct arena_item *item = NULL;
    const int64_t bytes = plan_arena(g, geo, pr, &item);
    free(item);
    return bytes;
}

int64_t exec_weight_bytes(const struct graph *g, const struct program *pr)
{
    bool *counted = calloc((size_t)g->nops + 1, sizeof(*counted));
    if (!counted)
        return -ENOMEM;
    int64_t bytes = 0;
    for (int32_t s = 0; s < pr->nsteps; s++) {
        const int32_t o = pr->step[s].what;
        if (pr->step[s].kind != STEP_RUN || counted[o])
            continue;
        counted[o] = true;
        const struct kernel *k = &kernels[g->op[o].type];
        if (k->packed_bytes)
            bytes += (int64_t)k->packed_bytes(g, &g->op[o]);
    }
    free(counted);
    return bytes;
}

struct exec *exec_new(const struct graph *g, const struct geometry *geo, const struct program *pr,
                      const struct codec_pixels *pixels, struct diag *why)
{
    struct arena_item *item = NULL;
    struct exec *e = calloc(1, sizeof(*e));
    const int64_t bytes = plan_arena(g, geo, pr, &item);
    if (!e || bytes < 0 || (uint64_t)bytes > SIZE_MAX - ARENA_ALIGN)
        goto fail;
    e->g = g;
    e->geo = geo;
    e->pr = pr;
    e->takes_pixels = pixels != NULL;
    if (pixels)
        e->pixels = *pixels;
    e->data = calloc((size_t)pr->nbuffers + 1, sizeof(*e->data));
    e->arena = aligned_alloc(ARENA_ALIGN, (size_t)bytes + ARENA_ALIGN);
    if (!e->data || !e->arena)
        goto fail;
    /* Written once, so that the first frame does not take a page fault every 4 KB. */
    memset(e->arena, 0, (size_t)bytes);
    for (int32_t b = 0; b < pr->nbuffers; b++)
        e->data[b] = e->arena + item[b].offset / (int64_t)sizeof(float);
    e->scratch = e->arena + item[pr->nbuffers].offset / (int64_t)sizeof(float);
    free(item);
    return e;

fail:
    free(item);
    exec_free(e);
    if (bytes < 0)
        diag(why, -ENOMEM, "node %d: the tensors of its program cannot be placed in memory: %s",
             pr->node, strerror((int)-bytes));
    else
        diag(why, -ENOMEM, "node %d: not enough memory for %lld bytes of tensors", pr->node,
             (long long)bytes);
    return NULL;
}

void exec_free(struct exec *e)
{
    if (!e)
        return;
    free(e->arena);
    free(e->data);
    free(e);
}

/* ---- Running ---- */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Image `image` of what this node holds of `tensor`; an empty view if that is nothing. */
static struct view view_of(const struct exec *e, int32_t tensor, int32_t image)
{
    const struct buffer *b = program_buffer(e->pr, tensor);
    if (!b)
        return (struct view){ .box = box_none() };
    const ptrdiff_t pixel = box_len(b->box, CHAN);
    const ptrdiff_t row = pixel * box_len(b->box, COL);
    const ptrdiff_t whole = row * box_len(b->box, ROW);
    return (struct view){ .data = e->data[b - e->pr->buffer] + image * whole,
                          .box = b->box,
                          .row_stride = row,
                          .pixel_stride = pixel,
                          .image_stride = whole };
}

static void run_operator(const struct exec *e, const struct step *s)
{
    const struct op *op = &e->g->op[s->what];
    const int32_t batch = e->geo->tensor[op->output].batch;
    struct view in[OP_MAX_INPUTS];
    struct kernel_call call = { .graph = e->g,
                                .op = op,
                                .in = in,
                                .region = program_output(e->pr, e->geo, s),
                                .share = s->box,
                                .nodes = e->pr->nodes,
                                .scratch = e->scratch };
    for (call.image = 0; call.image < batch; call.image++) {
        for (int32_t i = 0; i < op->ninputs; i++) {
            const bool follows =
                op->type != OP_RESHAPE && e->geo->tensor[op->input[i]].batch == batch;
            in[i] = view_of(e, op->input[i], follows ? call.image : 0);
        }
        call.out = view_of(e, op->output, call.image);
        kernels[op->type].run(&call);
    }
}

/* Values of the box of a SEND or RECV, all images. */
static size_t message_values(const struct exec *e, const struct step *s)
{
    return (size_t)box_values(s->box) * (size_t)e->geo->tensor[s->what].batch;
}

static int send_box(const struct exec *e, const struct step *s, struct exchange *x,
                    struct exec_stats *stats)
{
    const struct buffer *b = program_buffer(e->pr, s->what);
    const float *from = e->data[b - e->pr->buffer];
    const size_t n = message_values(e, s);
    uint8_t *to = x->reserve(x, s->peer, s->transfer, codec_bound(n));
    if (!to)
        return -ECANCELED;
    codec_set_mode(to, CODEC_F32);
    struct runs r;
    for (bool more = runs_begin(&r, b->box, s->box, e->geo->tensor[s->what].batch); more;
         more = runs_next(&r))
        codec_set_f32(to, r.first, from + r.offset, r.len);
    const size_t len = codec_len(CODEC_F32, n);
    stats->sent_bytes += (int64_t)len;
    stats->sent_messages++;
    if (s->peer != e->pr->nodes)
        stats->halo_sent_bytes += (int64_t)len;
    return x->send(x, s->peer, s->transfer, len);
}

/* Decodes a message into its place. */
static int store_box(const struct exec *e, const struct step *s, const uint8_t *msg, size_t len)
{
    const struct codec_pixels *pixels = e->takes_pixels ? &e->pixels : NULL;
    if (codec_check(msg, len, message_values(e, s), pixels))
        return -EBADMSG;
    const struct buffer *b = program_buffer(e->pr, s->what);
    float *to = e->data[b - e->pr->buffer];
    struct runs r;
    for (bool more = runs_begin(&r, b->box, s->box, e->geo->tensor[s->what].batch); more;
         more = runs_next(&r))
        codec_get_run(to + r.offset, r.first, r.len, msg, pixels);
    return 0;
}

static int receive_box(const struct exec *e, const struct step *s, struct exchange *x,
                       struct exec_stats *stats, int64_t *now)
{
    const uint8_t *msg;
    size_t len;
    int err = x->recv(x, s->transfer, &msg, &len);
    const int64_t arrived = now_ns();
    stats->wait_ns += arrived - *now;
    *now = arrived;
    if (err)
        return err;
    err = store_box(e, s, msg, len);
    x->release(x, s->transfer);
    stats->received_bytes += (int64_t)len;
    stats->received_messages++;
    return err;
}

int exec_run(struct exec *e, struct exchange *x, struct exec_stats *stats)
{
    struct exec_stats sum = { 0 };
    int64_t now = now_ns();
    for (int32_t i = 0; i < e->pr->nsteps; i++) {
        const struct step *s = &e->pr->step[i];
        int64_t *account = &sum.pack_ns;
        int err = 0;
        switch (s->kind) {
        case STEP_RUN:
            run_operator(e, s);
            account = &sum.compute_ns;
            break;
        case STEP_SEND:
            err = send_box(e, s, x, &sum);
            break;
        case STEP_RECV:
            err = receive_box(e, s, x, &sum, &now);
            break;
        }
        if (err)
            return err;
        const int64_t end = now_ns();
        *account += end - now;
        now = end;
    }
    if (stats)
        *stats = sum;
    return 0;
}
