#include "tiling/choose.h"

#include <errno.h>
#include <stdlib.h>

#include "tiling/cost.h"
#include "tiling/cuts.h"

/* Most weights of an operator that a node streams, and holds, only to compute itself what it
 * could have received. */
#define MAX_EXTRA_WEIGHT_BYTES ((int64_t)4 << 20)

/* What channels must save, of the operator's time by rows: rows send less, and sooner. */
static const double CHANNELS_MARGIN = 0.05;

/* What a microsecond of computing once more must save, in the first walk and in those after it:
 * the best bargains come first. At the end it is still two, because some of the travelling hides
 * behind computing. */
static const double PRICE[] = { 16, 8, 4, 2 };
static const double RECOMPUTE_MARGIN_US = 1;

/* How much longer all nodes may compute, because other frames wait for the processor. */
static const double MOST_EXTRA_WORK = 0.25;

/* What cutting all maps of a height elsewhere must save, of a frame. */
static const double CUT_MARGIN = 1e-3;

enum {
    WALKS = 4,
    CUT_WALKS = 3,
    MOST_TENSORS_TO_CUT = 4096, /* bounds the time for networks that nobody has seen */
    PRICES = sizeof(PRICE) / sizeof(PRICE[0]),
    /* Tensors that are tried together: an inverted residual block with squeeze-and-excite. */
    MAX_TOGETHER = 12,
    NONE = -1,
};

struct chooser {
    struct plan *p;
    struct placement *where;
    const struct readers *readers;
    struct cost cost;
    struct tensor_cost *us; /* [ntensors]: of the plan as it is */
    bool *stale;            /* [ntensors]: to be settled */
    double price;           /* of computing, in microseconds of travelling */
    double spare_us;        /* computing that may still be added */
};

/* What can be chosen for a tensor. */
struct choice {
    enum axis along;
    bool recomputed;
};

static int32_t maker(const struct chooser *c, int32_t t) { return c->p->geo->tensor[t].op; }

/* ---- Trying out ---- */

static double sum(struct tensor_cost us) { return us.compute_us + us.travel_us; }

/* Settles `t` and adds to `*longer` what the plan takes longer.  Returns whether who makes `t`
 * reads something else now. */
static bool settle(struct chooser *c, int32_t t, struct tensor_cost *longer)
{
    const struct tensor_cost before = c->us[t];
    const bool changed = demand_settle(c->p, c->readers, t);
    c->us[t] = cost_of(&c->cost, c->p, t);
    longer->compute_us += c->us[t].compute_us - before.compute_us;
    longer->travel_us += c->us[t].travel_us - before.travel_us;
    return changed;
}

/* Settles `t` and whatever that changes.  Returns how much longer the plan takes. */
static struct tensor_cost update(struct chooser *c, int32_t t)
{
    const struct geometry *g = c->p->geo;
    struct tensor_cost longer = { 0 };
    int32_t stale = 1;
    c->stale[t] = true;
    /* Readers stand behind the operator whose output they read. */
    for (int32_t o = maker(c, t); stale > 0; o--) {
        const struct geo_op *op = &g->op[o];
        if (!c->stale[op->out])
            continue;
        c->stale[op->out] = false;
        stale--;
        if (!settle(c, op->out, &longer))
            continue;
        for (int32_t i = 0; i < op->ninputs; i++) {
            const int32_t in = g->input[op->first + i].tensor;
            if (geometry_is_input(g, in)) {
                settle(c, in, &longer);
            } else if (!c->stale[in]) {
                c->stale[in] = true;
                stale++;
            }
        }
    }
    return longer;
}

/* Returns how much longer the plan takes. */
static struct tensor_cost put(struct chooser *c, int32_t t, struct choice choice)
{
    c->where->along[t] = choice.along;
    c->p->recomputed[t] = choice.recomputed;
    demand_place(c->p, c->where, t);
    return update(c, t);
}

/* ---- Recomputing ---- */

/* Shares of a reduction lie where they are made, and inputs of the network come from the host. */
static bool may_recompute(const struct geometry *g, int32_t t)
{
    return !geometry_is_input(g, t) && !geometry_is_partial(g, t);
}

/* Is `t` a small tensor that follows from others of one row or from a reduction?  Then every node
 * computes it if it is cut by rows, that is, not cut. */
static bool is_small(const struct geometry *g, int32_t t)
{
    if (!may_recompute(g, t) || g->tensor[t].dim[ROW] != 1)
        return false;
    const struct geo_op *op = &g->op[g->tensor[t].op];
    if (op->weight_bytes > MAX_EXTRA_WEIGHT_BYTES)
        return false;
    for (int32_t i = 0; i < op->ninputs; i++) {
        const int32_t in = g->input[op->first + i].tensor;
        if (g->tensor[in].dim[ROW] != 1 && !geometry_is_partial(g, in))
            return false;
    }
    return true;
}

static struct choice by_rows(const struct geometry *g, int32_t t)
{
    return (struct choice){ ROW, is_small(g, t) };
}

/* Does a node hold no weights for `t` but those of its own part, or few? */
static bool weights_stay(const struct chooser *c, int32_t t)
{
    if (c->p->geo->op[maker(c, t)].weight_bytes <= MAX_EXTRA_WEIGHT_BYTES)
        return true;
    for (int32_t n = 0; n < c->p->nodes; n++) {
        const struct plan_share *s = plan_share(c->p, t, n);
        if (!box_empty(s->run) && (box_empty(s->own) || s->run.lo[CHAN] < s->own.lo[CHAN] ||
                                   s->run.hi[CHAN] > s->own.hi[CHAN]))
            return false;
    }
    return true;
}

static bool can_recompute(const struct chooser *c, int32_t t)
{
    return may_recompute(c->p->geo, t) && !c->p->recomputed[t] && demand_travels(c->p, t);
}

/* Of what the `count` tensors are made of and nodes would have to send, what is made last. */
static int32_t behind(const struct chooser *c, const int32_t *tensor, int32_t count)
{
    const struct geometry *g = c->p->geo;
    int32_t last = NONE;
    for (int32_t k = 0; k < count; k++) {
        const struct geo_op *op = &g->op[maker(c, tensor[k])];
        for (int32_t i = 0; i < op->ninputs; i++) {
            const int32_t in = g->input[op->first + i].tensor;
            if (can_recompute(c, in) && (last == NONE || maker(c, in) > maker(c, last)))
                last = in;
        }
    }
    return last;
}

/* As exchanging and computing once more are compared. */
static double weigh(const struct chooser *c, struct tensor_cost longer)
{
    return c->price * longer.compute_us + longer.travel_us;
}

static struct tensor_cost plus(struct tensor_cost a, struct tensor_cost b)
{
    return (struct tensor_cost){ a.compute_us + b.compute_us, a.travel_us + b.travel_us };
}

static struct tensor_cost put_recomputed(struct chooser *c, int32_t t, bool recomputed)
{
    return put(c, t, (struct choice){ c->where->along[t], recomputed });
}

/* Recomputes `t`, or it and some tensors behind it, if that pays. */
static void recompute_from(struct chooser *c, int32_t t)
{
    int32_t tried[MAX_TOGETHER], count = 0, keep = 0;
    struct tensor_cost longer = { 0 }, kept = { 0 };
    double best = -RECOMPUTE_MARGIN_US;
    for (int32_t next = t; next != NONE && count < MAX_TOGETHER; next = behind(c, tried, count)) {
        longer = plus(longer, put_recomputed(c, next, true));
        tried[count++] = next;
        if (!weights_stay(c, next) || longer.compute_us > c->spare_us)
            break;
        if (weigh(c, longer) < best) {
            best = weigh(c, longer);
            kept = longer;
            keep = count;
        }
    }
    c->spare_us -= kept.compute_us;
    while (count > keep)
        put_recomputed(c, tried[--count], false);
}

/* Sends `t` again, if that pays: those behind it may have become cheaper to send. */
static void exchange_again(struct chooser *c, int32_t t)
{
    const struct tensor_cost longer = put_recomputed(c, t, false);
    if (weigh(c, longer) < -RECOMPUTE_MARGIN_US)
        c->spare_us -= longer.compute_us;
    else
        put_recomputed(c, t, true);
}

/* Against the stream: what is read is known, what it is made of still free. */
static void walk_recomputed(struct chooser *c)
{
    const struct geometry *g = c->p->geo;
    for (int32_t o = g->nops - 1; o >= 0; o--)
        if (can_recompute(c, g->op[o].out))
            recompute_from(c, g->op[o].out);
    for (int32_t o = 0; o < g->nops; o++)
        if (c->p->recomputed[g->op[o].out] && !is_small(g, g->op[o].out))
            exchange_again(c, g->op[o].out);
}

static void choose_recomputed(struct chooser *c)
{
    for (int32_t t = 0; t < c->p->geo->ntensors; t++)
        c->spare_us += MOST_EXTRA_WORK * c->us[t].compute_us;
    for (int i = 0; i < PRICES; i++) {
        c->price = PRICE[i];
        walk_recomputed(c);
    }
}

/* ---- Rows or channels ---- */

static bool is_free(const struct chooser *c, int32_t t)
{
    const struct geometry *g = c->p->geo;
    const bool *whole_pixels = c->where->options->whole_pixels;
    return may_recompute(g, t) && g->tensor[t].dim[CHAN] > 1 && !(whole_pixels && whole_pixels[t]);
}

/* The making of `t`, and the travelling of what it is made of. */
static double making_us(const struct chooser *c, int32_t t)
{
    const struct geo_op *op = &c->p->geo->op[maker(c, t)];
    double us = c->us[t].compute_us;
    for (int32_t i = 0; i < op->ninputs; i++)
        us += c->us[c->p->geo->input[op->first + i].tensor].travel_us;
    return us;
}

/* Cuts `t` along the axis with which the plan takes less time; `blindly` does not look at who
 * reads it.  Returns whether that is another than before. */
static bool choose_axis(struct chooser *c, int32_t t, bool blindly)
{
    const enum axis before = c->where->along[t];
    const struct choice rows = by_rows(c->p->geo, t);
    if (before != ROW)
        put(c, t, rows);
    const double making = making_us(c, t), read = c->us[t].travel_us;
    double longer = sum(put(c, t, (struct choice){ CHAN, false }));
    if (blindly)
        longer -= c->us[t].travel_us - read;
    if (longer >= -CHANNELS_MARGIN * making)
        put(c, t, rows);
    return c->where->along[t] != before;
}

/* One walk with the stream, each tensor by how it is made; then some that look at its readers, too,
 * against the stream first: a tensor learns what its readers have become. */
static void choose_axes(struct chooser *c)
{
    const struct geometry *g = c->p->geo;
    for (int32_t o = 0; o < g->nops; o++)
        if (is_free(c, g->op[o].out))
            choose_axis(c, g->op[o].out, true);
    bool changed = true;
    for (int walk = 0; walk < WALKS && changed; walk++) {
        changed = false;
        for (int32_t i = 0; i < g->nops; i++) {
            const int32_t t = g->op[walk % 2 ? i : g->nops - 1 - i].out;
            if (is_free(c, t))
                changed |= choose_axis(c, t, false);
        }
    }
}

/* ---- Cuts ---- */

/* Places and settles all tensors anew.  Returns what the plan takes. */
static double replan(struct chooser *c)
{
    const struct geometry *g = c->p->geo;
    struct tensor_cost longer = { 0 };
    double us = 0;
    for (int32_t t = 0; t < g->ntensors; t++)
        demand_place(c->p, c->where, t);
    for (int32_t o = g->nops - 1; o >= 0; o--)
        settle(c, g->op[o].out, &longer);
    for (int32_t t = 0; t < g->ntensors; t++) {
        if (geometry_is_input(g, t))
            settle(c, t, &longer);
        us += sum(c->us[t]);
    }
    return us;
}

/* Cuts maps of `height` rows where the plan takes the least time, of `*us` now.  Returns whether
 * that is elsewhere. */
static bool choose_cut(struct chooser *c, int32_t height, double *us)
{
    struct bands candidate[CUTS_MAX_CANDIDATES], best = cuts_get(c->where, height);
    const int32_t count = cuts_candidates(c->where, height, 0, candidate);
    bool changed = false;
    for (int32_t i = 0; i < count; i++) {
        cuts_set(c->where, height, &candidate[i]);
        const double with = replan(c);
        if (with < *us * (1 - CUT_MARGIN)) {
            *us = with;
            best = candidate[i];
            changed = true;
        }
    }
    cuts_set(c->where, height, &best);
    replan(c);
    return changed;
}

/* The maps of the lower heights follow from those of height[from], and those of the higher ones. */
static void follow_from(struct chooser *c, const int32_t *height, int32_t count, int32_t from)
{
    struct bands b[CUTS_MAX_CANDIDATES];
    for (int32_t i = from - 1; i >= 0; i--)
        for (int32_t k = i + 1; k <= from; k++)
            if (cuts_candidates(c->where, height[i], height[k], b) > 0) {
                cuts_set(c->where, height[i], &b[0]);
                break;
            }
    for (int32_t i = from + 1; i < count; i++)
        for (int32_t k = i - 1; k >= 0; k--)
            if (cuts_candidates(c->where, height[i], height[k], b) > 0) {
                cuts_set(c->where, height[i], &b[0]);
                break;
            }
}

static void set_all(struct chooser *c, const int32_t *height, int32_t count, const struct bands *b)
{
    for (int32_t i = 0; i < count; i++)
        cuts_set(c->where, height[i], &b[i]);
}

static void get_all(const struct chooser *c, const int32_t *height, int32_t count, struct bands *b)
{
    for (int32_t i = 0; i < count; i++)
        b[i] = cuts_get(c->where, height[i]);
}

/* All maps cut as they are, or as follows from those of one height, as these are or between units:
 * whatever takes the least time. */
static double choose_leader(struct chooser *c, const int32_t *height, int32_t count)
{
    struct bands before[CUTS_MAX_HEIGHTS], best[CUTS_MAX_HEIGHTS];
    double us = replan(c);
    get_all(c, height, count, before);
    get_all(c, height, count, best);
    for (int32_t i = 0; i < 2 * count; i++) {
        set_all(c, height, count, before);
        if (i >= count) {
            const struct bands b = cuts_between_units(c->where, height[i - count]);
            cuts_set(c->where, height[i - count], &b);
        }
        follow_from(c, height, count, i % count);
        const double with = replan(c);
        if (with < us * (1 - CUT_MARGIN)) {
            us = with;
            get_all(c, height, count, best);
        }
    }
    set_all(c, height, count, best);
    replan(c);
    return us;
}

/* From the lowest maps, whose rows weigh most, to the highest, and back. */
static void choose_cuts(struct chooser *c)
{
    int32_t height[CUTS_MAX_HEIGHTS];
    const int32_t count = cuts_heights(c->where, height);
    if (c->p->geo->ntensors > MOST_TENSORS_TO_CUT)
        return;
    double us = choose_leader(c, height, count);
    bool changed = true;
    for (int walk = 0; walk < CUT_WALKS && changed; walk++) {
        changed = false;
        for (int32_t i = 0; i < count; i++)
            changed |= choose_cut(c, height[walk % 2 ? count - 1 - i : i], &us);
    }
}

/* ---- Who gets which band ---- */

/* By which part of its weight another node may differ and still count as alike. */
static const double ALIKE = 0.1;

/* The node about as strong as `node` that has the least to do, or `node` itself. */
static int32_t idlest_alike(const struct chooser *c, const struct plan_options *o, int32_t node)
{
    int32_t idlest = node;
    double least = cost_work_us(&c->cost, c->p, node) * (1 - CUT_MARGIN);
    for (int32_t n = 0; n < o->nodes; n++) {
        const double work = cost_work_us(&c->cost, c->p, n);
        const bool alike = abs(o->weight[n] - o->weight[node]) <= ALIKE * o->weight[node];
        if (alike && !(o->busy >> n & 1) && work < least) {
            least = work;
            idlest = n;
        }
    }
    return idlest;
}

/* `b` with the height of band `from` at place `to`, and the others in the order in which they were.
 */
static struct bands moved(const struct bands *b, int32_t nodes, int32_t from, int32_t to)
{
    struct bands out = { { 0 } };
    int32_t next = 0; /* of the others */
    for (int32_t n = 0; n < nodes; n++) {
        if (next == from)
            next++;
        const int32_t band = n == to ? from : next++;
        out.at[n + 1] = out.at[n] + b->at[band + 1] - b->at[band];
    }
    return out;
}

/* Gives a busy node the bands of the one about as strong that has the least to do, unless the plan
 * takes longer then. */
static void spare(struct chooser *c, const struct plan_options *o, int32_t busy)
{
    struct bands before[CUTS_MAX_HEIGHTS];
    int32_t height[CUTS_MAX_HEIGHTS];
    const int32_t count = cuts_heights(c->where, height), idlest = idlest_alike(c, o, busy);
    if (idlest == busy)
        return;
    const double us = replan(c);
    get_all(c, height, count, before);
    for (int32_t i = 0; i < count; i++) {
        const struct bands b = moved(&before[i], o->nodes, idlest, busy);
        cuts_set(c->where, height[i], &b);
    }
    if (replan(c) > us * (1 + CUT_MARGIN)) {
        set_all(c, height, count, before);
        replan(c);
    }
}

/* ---- All of it ---- */

static bool is_recomputed(const struct chooser *c, const struct plan_options *o, int32_t t)
{
    const struct geometry *g = c->p->geo;
    if (!may_recompute(g, t))
        return false;
    if (o->recompute)
        return o->recompute(o->cut_ctx, t);
    return o->policy == PLAN_RECOMPUTE || (c->where->along[t] == ROW && is_small(g, t));
}

int choose(struct plan *p, struct placement *where, const struct readers *readers,
           const struct plan_options *o)
{
    const size_t ntensors = (size_t)p->geo->ntensors + 1;
    struct chooser c = {
        .p = p,
        .where = where,
        .readers = readers,
        .cost = cost_make(o),
        .us = calloc(ntensors, sizeof(*c.us)),
        .stale = calloc(ntensors, sizeof(*c.stale)),
    };
    int r = -ENOMEM;
    if (c.us && c.stale) {
        for (int32_t t = 0; t < p->geo->ntensors; t++)
            p->recomputed[t] = is_recomputed(&c, o, t);
        replan(&c);
        if (o->placement == PLAN_MIXED && o->nodes > 1 && !o->along && o->policy != PLAN_RECOMPUTE)
            choose_axes(&c);
        const bool cuts = o->placement != PLAN_WHOLE && o->nodes > 1 && !o->cut;
        if (cuts)
            choose_cuts(&c);
        if (o->policy == PLAN_AUTO && !o->recompute) {
            choose_recomputed(&c);
            if (cuts)
                choose_cuts(&c);
        }
        for (int32_t n = 0; n < o->nodes && cuts; n++)
            if (o->busy >> n & 1)
                spare(&c, o, n);
        r = 0;
    }
    free(c.us);
    free(c.stale);
    return r;
}
