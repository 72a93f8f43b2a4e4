#include "tiling/placement.h"

#include <errno.h>
#include <stdlib.h>

/* The node that takes tensors which are not cut. */
static int32_t lone_node(const struct plan_options *o)
{
    if (o->placement == PLAN_WHOLE)
        return o->whole;
    int32_t strongest = 0;
    for (int32_t n = 1; n < o->nodes; n++)
        if (o->weight[n] > o->weight[strongest])
            strongest = n;
    return strongest;
}

static struct bands all_on(int32_t node, int32_t nodes, int32_t len)
{
    struct bands b = { { 0 } };
    for (int32_t n = node + 1; n <= nodes; n++)
        b.at[n] = len;
    return b;
}

static struct bands in_proportion(const struct plan_options *o, int32_t len, int32_t align)
{
    struct bands b;
    for (int32_t n = 0; n <= o->nodes; n++)
        b.at[n] = plan_cut_aligned(o->weight, o->nodes, len, n, align);
    return b;
}

static int as_told(struct bands *b, const struct plan_options *o, int32_t t, int32_t len)
{
    b->at[0] = 0;
    for (int32_t n = 1; n <= o->nodes; n++) {
        b->at[n] = o->cut(o->cut_ctx, t, len, n);
        if (b->at[n] < b->at[n - 1])
            return -EINVAL;
    }
    return b->at[o->nodes] == len ? 0 : -EINVAL;
}

static int row_bands(struct placement *p, int32_t t)
{
    const struct plan_options *o = p->options;
    const int32_t rows = p->geo->tensor[t].dim[ROW];
    if (geometry_is_partial(p->geo, t)) {
        for (int32_t n = 0; n <= o->nodes; n++)
            p->rows[t].at[n] = n;
        return 0;
    }
    if (o->placement == PLAN_WHOLE || rows == 1) {
        p->rows[t] = all_on(lone_node(o), o->nodes, rows);
        return 0;
    }
    if (o->cut)
        return as_told(&p->rows[t], o, t, rows);
    p->rows[t] = in_proportion(o, rows, 1);
    return 0;
}

static int32_t round_up(int32_t len, int32_t step) { return (len + step - 1) / step * step; }

/* How long the slowest node takes for its band, in channels of a node of weight 1; kernels
 * compute whole vectors of 8 channels. */
static int64_t slowest_band(const struct plan_options *o, const struct bands *b)
{
    enum { VECTOR = 8, SCALE = 1 << 20 };
    int64_t slowest = 0;
    for (int32_t n = 0; n < o->nodes; n++) {
        const int64_t time =
            (int64_t)round_up(b->at[n + 1] - b->at[n], VECTOR) * SCALE / o->weight[n];
        slowest = time > slowest ? time : slowest;
    }
    return slowest;
}

/* Channels are cut at multiples of 16, which keeps all vectors full, unless nodes share the work
 * better by multiples of 8 or at any place that `unit` allows. */
static struct bands cut_channels(const struct plan_options *o, int32_t channels, int32_t unit)
{
    const int32_t want[] = { 16, 8, 1 };
    struct bands best = { { 0 } };
    for (int i = 0; i < 3; i++) {
        const int32_t step = unit > want[i] ? unit : round_up(want[i], unit);
        const struct bands b = in_proportion(o, channels, step);
        if (i == 0 || slowest_band(o, &b) < slowest_band(o, &best))
            best = b;
    }
    return best;
}

static bool is_same(struct reach r) { return r.num == 1 && r.den == 1 && r.lo == 0 && r.hi == 0; }

/* Channels of `t` between which there is no cut.  An operator that takes channels as they come
 * takes those of its main input. */
static int32_t unit_of(const struct geometry *g, const int32_t *unit, int32_t t)
{
    if (geometry_is_input(g, t))
        return 1;
    const struct geo_op *op = &g->op[g->tensor[t].op];
    if (op->channel_unit > 1 || op->ninputs == 0)
        return op->channel_unit > 1 ? op->channel_unit : 1;
    const struct geo_input *in = &g->input[op->first];
    const bool follows =
        is_same(in->reach[CHAN]) && g->tensor[in->tensor].dim[CHAN] == g->tensor[t].dim[CHAN];
    return follows ? unit[in->tensor] : 1;
}

/* The tensors that an operator reads come before the one it yields in the order of operators,
 * though not always in that of tensors. */
static int channel_bands(struct placement *p)
{
    const struct geometry *g = p->geo;
    int32_t *unit = calloc((size_t)g->ntensors + 1, sizeof(*unit));
    if (!unit)
        return -ENOMEM;
    int r = 0;
    for (int32_t t = 0; t < g->ntensors; t++)
        unit[t] = 1;
    for (int32_t o = 0; o < g->nops; o++)
        unit[g->op[o].out] = unit_of(g, unit, g->op[o].out);
    for (int32_t t = 0; t < g->ntensors && !r; t++) {
        const int32_t channels = g->tensor[t].dim[CHAN];
        if (p->options->cut)
            r = as_told(&p->chans[t], p->options, t, channels);
        else if (unit[t] >= channels)
            p->chans[t] = all_on(lone_node(p->options), p->options->nodes, channels);
        else
            p->chans[t] = cut_channels(p->options, channels, unit[t]);
    }
    free(unit);
    return r;
}

struct box placement_part(const struct placement *p, int32_t tensor, int32_t node)
{
    const enum axis a = p->along[tensor];
    const struct bands *b = a == ROW ? &p->rows[tensor] : &p->chans[tensor];
    return box_band(geometry_whole(p->geo, tensor), a, b->at[node], b->at[node + 1]);
}

static int axes_as_told(struct placement *p)
{
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        if (geometry_is_partial(p->geo, t))
            continue;
        p->along[t] = p->options->along(p->options->cut_ctx, t);
        if (p->along[t] != ROW && p->along[t] != CHAN)
            return -EINVAL;
    }
    return 0;
}

int placement_init(struct placement *p, const struct geometry *g, const struct plan_options *o)
{
    const size_t ntensors = (size_t)g->ntensors + 1;
    const bool mixed = o->placement == PLAN_MIXED && o->nodes > 1;
    struct placement made = {
        .geo = g,
        .options = o,
        .along = calloc(ntensors, sizeof(*made.along)), /* ROW */
        .rows = calloc(ntensors, sizeof(*made.rows)),
        .chans = mixed ? calloc(ntensors, sizeof(*made.chans)) : NULL,
    };
    int r = made.along && made.rows && (made.chans || !mixed) ? 0 : -ENOMEM;
    for (int32_t t = 0; t < g->ntensors && !r; t++)
        r = row_bands(&made, t);
    if (!r && mixed)
        r = channel_bands(&made);
    if (!r && mixed && o->along)
        r = axes_as_told(&made);
    if (r)
        placement_done(&made);
    else
        *p = made;
    return r;
}

void placement_done(struct placement *p)
{
    free(p->along);
    free(p->rows);
    free(p->chans);
    *p = (struct placement){ 0 };
}
