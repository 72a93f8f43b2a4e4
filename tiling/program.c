#include "tiling/program.h"

#include <errno.h>
#include <stdlib.h>

/* A program in the making.  The first error sticks and later steps are dropped. */
struct compiler {
    const struct plan *plan;
    int32_t node;
    int32_t *first_transfer; /* [ntensors + 1]: where the transfers of each tensor begin */
    bool *received;          /* [ntensors] */
    struct step *step;
    int32_t nsteps, capacity;
    int error;
};

static void append(struct compiler *c, struct step s)
{
    if (c->error)
        return;
    if (c->nsteps == PROGRAM_MAX_STEPS) {
        c->error = -E2BIG;
        return;
    }
    if (c->nsteps == c->capacity) {
        const int32_t capacity = c->capacity ? 2 * c->capacity : 64;
        struct step *grown = realloc(c->step, (size_t)capacity * sizeof(*grown));
        if (!grown) {
            c->error = -ENOMEM;
            return;
        }
        c->step = grown;
        c->capacity = capacity;
    }
    c->step[c->nsteps++] = s;
}

static void run(struct compiler *c, int32_t op, struct box b)
{
    append(c, (struct step){ .kind = STEP_RUN, .what = op, .box = b });
}

static void run_all(struct compiler *c, int32_t op, const struct box *b, int count)
{
    for (int i = 0; i < count; i++)
        run(c, op, b[i]);
}

static void append_message(struct compiler *c, enum step_kind kind, int32_t transfer, int32_t peer)
{
    const struct plan_transfer *m = &c->plan->transfer[transfer];
    append(c, (struct step){ .kind = kind,
                             .what = m->tensor,
                             .transfer = transfer,
                             .peer = peer,
                             .box = m->box,
                             .halo = (uint8_t)plan_halo(c->plan, m),
                             .may_miss = plan_may_miss(c->plan, m) });
}

/* Sends what nodes [lo, hi) wait for of tensor `t`. */
static void send_to(struct compiler *c, int32_t t, int32_t lo, int32_t hi)
{
    for (int32_t i = c->first_transfer[t]; i < c->first_transfer[t + 1]; i++) {
        const struct plan_transfer *m = &c->plan->transfer[i];
        if (m->from == c->node && m->to >= lo && m->to < hi)
            append_message(c, STEP_SEND, i, m->to);
    }
}

/* The smallest box that holds all of tensor `t` that nodes [lo, hi) wait for. */
static struct box border(const struct compiler *c, int32_t t, int32_t lo, int32_t hi)
{
    struct box hull = box_none();
    for (int32_t i = c->first_transfer[t]; i < c->first_transfer[t + 1]; i++) {
        const struct plan_transfer *m = &c->plan->transfer[i];
        if (m->from == c->node && m->to >= lo && m->to < hi)
            hull = box_hull(hull, m->box);
    }
    return hull;
}

/* `b`, a part of `all`, widened to all columns and channels and to multiples of `unit` rows,
 * counted from those of `all`.  Kernels give the same bits for such rows whatever else they run
 * with them, but not for a part of a row. */
static struct box in_whole_rows(struct box b, struct box all, int32_t unit)
{
    if (box_empty(b))
        return b;
    const int32_t first = all.lo[ROW];
    const int64_t hi = first + ((int64_t)b.hi[ROW] - first + unit - 1) / unit * unit;
    all.lo[ROW] = first + (b.lo[ROW] - first) / unit * unit;
    if (hi < all.hi[ROW])
        all.hi[ROW] = (int32_t)hi;
    return all;
}

static void receive(struct compiler *c, int32_t t)
{
    if (c->received[t])
        return;
    c->received[t] = true;
    for (int32_t i = c->first_transfer[t]; i < c->first_transfer[t + 1]; i++) {
        const struct plan_transfer *m = &c->plan->transfer[i];
        if (m->to == c->node)
            append_message(c, STEP_RECV, i, m->from);
    }
}

/* Every piece of an operator's run box streams its weights once more; that is worth it only
 * where they are no more than what the operator writes. */
static bool pays_in_pieces(const struct compiler *c, const struct geo_op *op, struct box all)
{
    const int64_t values = box_values(all) * c->plan->geo->tensor[op->out].batch;
    const double channels = (double)box_len(all, CHAN) / c->plan->geo->tensor[op->out].dim[CHAN];
    return (double)op->weight_bytes * channels <= (double)values * sizeof(float);
}

/* Removes `hole` from the `count` boxes at `from`; returns how many are left at `to`. */
static int subtract_all(const struct box *from, int count, struct box hole, struct box *to)
{
    int left = 0;
    for (int i = 0; i < count; i++)
        left += box_subtract(from[i], hole, to + left);
    return left;
}

/* Runs `o` on `all` and sends what others wait for.  Where it pays, first comes what the lower
 * nodes wait for, then the higher nodes, and the rest while their messages fly.  The host waits
 * for the end of the frame anyway. */
static void run_and_send(struct compiler *c, int32_t o, struct box all)
{
    const struct geo_op *op = &c->plan->geo->op[o];
    const int32_t t = op->out, nodes = c->plan->nodes;
    const int32_t unit = geometry_row_unit(c->plan->geo, o);
    const struct box lower = in_whole_rows(border(c, t, 0, c->node), all, unit);
    const struct box higher = in_whole_rows(border(c, t, c->node + 1, nodes), all, unit);

    struct box later[BOX_SUBTRACT_MAX], second[BOX_SUBTRACT_MAX];
    struct box rest[BOX_SUBTRACT_MAX * BOX_SUBTRACT_MAX];
    const int nlater = box_subtract(all, lower, later);
    const int nrest = subtract_all(later, nlater, higher, rest);
    if (nrest == 0 || !pays_in_pieces(c, op, all)) {
        run(c, o, all);
        send_to(c, t, 0, nodes + 1);
        return;
    }

    if (!box_empty(lower))
        run(c, o, lower);
    send_to(c, t, 0, c->node);
    run_all(c, o, second, box_subtract(higher, lower, second));
    send_to(c, t, c->node + 1, nodes);
    run_all(c, o, rest, nrest);
    send_to(c, t, nodes, nodes + 1);
}

static void compile_node(struct compiler *c)
{
    const struct geometry *g = c->plan->geo;
    for (int32_t o = 0; o < g->nops; o++) {
        const struct geo_op *op = &g->op[o];
        const struct box all = plan_share(c->plan, op->out, c->node)->run;
        if (box_empty(all))
            continue;
        for (int32_t i = 0; i < op->ninputs; i++)
            receive(c, g->input[op->first + i].tensor);
        if (op->kind == GEO_PARTIAL) {
            run(c, o, plan_reads(c->plan, o, 0, c->node));
            send_to(c, op->out, 0, c->plan->nodes + 1);
        } else {
            run_and_send(c, o, all);
        }
    }
}

static void compile_host(struct compiler *c)
{
    const int32_t ntensors = c->plan->geo->ntensors;
    for (int32_t t = 0; t < ntensors; t++)
        send_to(c, t, 0, c->plan->nodes);
    for (int32_t t = 0; t < ntensors; t++)
        receive(c, t);
}

/* Lists what the node holds of every tensor at `out`, unless it is NULL; returns how many. */
static int32_t list_buffers(const struct plan *p, int32_t node, struct buffer *out)
{
    int32_t count = 0;
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        const struct plan_share *s = plan_share(p, t, node);
        const struct box b = box_hull(s->run, s->want);
        if (box_empty(b))
            continue;
        if (out)
            out[count] = (struct buffer){ t, b };
        count++;
    }
    return count;
}

static void index_transfers(const struct plan *p, int32_t *first)
{
    int32_t i = 0;
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        first[t] = i;
        while (i < p->ntransfers && p->transfer[i].tensor == t)
            i++;
    }
    first[p->geo->ntensors] = i;
}

int program_compile(struct program *pr, const struct plan *p, int32_t node)
{
    if (p->ntransfers > PROGRAM_MAX_TRANSFERS)
        return -E2BIG;

    const size_t ntensors = (size_t)p->geo->ntensors;
    const int32_t nbuffers = list_buffers(p, node, NULL);
    struct buffer *buffer = calloc((size_t)nbuffers + 1, sizeof(*buffer));
    struct compiler c = {
        .plan = p,
        .node = node,
        .first_transfer = calloc(ntensors + 1, sizeof(*c.first_transfer)),
        .received = calloc(ntensors + 1, sizeof(*c.received)),
    };
    if (!buffer || !c.first_transfer || !c.received) {
        c.error = -ENOMEM;
        goto out;
    }

    list_buffers(p, node, buffer);
    index_transfers(p, c.first_transfer);
    if (node == p->nodes)
        compile_host(&c);
    else
        compile_node(&c);

out:
    free(c.first_transfer);
    free(c.received);
    if (c.error) {
        free(buffer);
        free(c.step);
        return c.error;
    }
    *pr = (struct program){
        .node = node,
        .nodes = p->nodes,
        .ntransfers = p->ntransfers,
        .nbuffers = nbuffers,
        .nsteps = c.nsteps,
        .buffer = buffer,
        .step = c.step,
    };
    return 0;
}

void program_done(struct program *pr)
{
    free(pr->buffer);
    free(pr->step);
    *pr = (struct program){ 0 };
}

struct box program_output(const struct program *pr, const struct geometry *g, const struct step *s)
{
    const struct geo_op *op = &g->op[s->what];
    if (op->kind != GEO_PARTIAL)
        return s->box;
    return box_rows(geometry_whole(g, op->out), pr->node, pr->node + 1);
}

const struct buffer *program_buffer(const struct program *pr, int32_t tensor)
{
    int32_t lo = 0, hi = pr->nbuffers;
    while (lo < hi) {
        const int32_t mid = lo + (hi - lo) / 2;
        if (pr->buffer[mid].tensor < tensor)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < pr->nbuffers && pr->buffer[lo].tensor == tensor ? &pr->buffer[lo] : NULL;
}
