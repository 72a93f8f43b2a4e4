#include "tiling/placement.h"

#include <errno.h>
#include <stdlib.h>

/* Most weights that a node streams to compute a one-row tensor itself rather than wait for
 * a message. */
#define REPLICATE_MAX_WEIGHT_BYTES ((int64_t)4 << 20)

/* ---- Bands ---- */

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
    p->rows[t] = in_proportion(o, rows, geometry_align(p->geo, t));
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

bool placement_replicates(const struct placement *p, int32_t op)
{
    const struct geometry *g = p->geo;
    const struct geo_op *it = &g->op[op];
    if (it->kind != GEO_MAP || p->along[it->out] != ROW || g->tensor[it->out].dim[ROW] != 1 ||
        it->weight_bytes > REPLICATE_MAX_WEIGHT_BYTES)
        return false;
    for (int32_t i = 0; i < it->ninputs; i++) {
        const int32_t in = g->input[it->first + i].tensor;
        if (g->tensor[in].dim[ROW] != 1 && !geometry_is_partial(g, in))
            return false;
    }
    return true;
}

/* ---- Costs ---- */

/* What one node sends and receives. */
struct traffic {
    double in, out; /* bytes */
    int32_t messages_in, messages_out;
};

struct chooser {
    struct placement *p;
    struct plan_costs cost;
    double speed[PLAN_MAX_NODES]; /* of a node, 1 on average */
    int32_t *first_reader;        /* [ntensors + 1], in reader[] */
    int32_t *reader;              /* operators */
};

static double larger(double a, double b) { return a > b ? a : b; }

static bool is_replicated(const struct placement *p, int32_t t)
{
    return !geometry_is_input(p->geo, t) && placement_replicates(p, p->geo->tensor[t].op);
}

/* What operator `op` makes of its input number `i` on `node`, whose part of the output is `out`. */
static struct box reads(const struct placement *p, int32_t op, int32_t i, int32_t node,
                        struct box out)
{
    if (p->geo->op[op].kind == GEO_PARTIAL)
        return placement_part(p, p->geo->input[p->geo->op[op].first].tensor, node);
    return geometry_need(p->geo, op, i, out);
}

/* Adds what `node` receives of tensor `t` to read `need`. */
static void add_transfers(const struct placement *p, int32_t t, int32_t node, struct box need,
                          struct traffic *traffic)
{
    const double bytes = (double)p->geo->tensor[t].batch * sizeof(float);
    if (geometry_is_input(p->geo, t)) {
        traffic[node].in += (double)box_values(need) * bytes;
        traffic[node].messages_in += !box_empty(need);
        return;
    }
    if (is_replicated(p, t))
        return;
    for (int32_t from = 0; from < p->options->nodes; from++) {
        const struct box b = box_intersect(need, placement_part(p, t, from));
        if (from == node || box_empty(b))
            continue;
        traffic[node].in += (double)box_values(b) * bytes;
        traffic[from].out += (double)box_values(b) * bytes;
        traffic[node].messages_in++;
        traffic[from].messages_out++;
    }
}

static double traffic_us(const struct chooser *c, const struct traffic *traffic)
{
    double bytes = 0, messages = 0;
    for (int32_t n = 0; n < c->p->options->nodes; n++) {
        bytes = larger(bytes, larger(traffic[n].in, traffic[n].out));
        messages = larger(messages, larger(traffic[n].messages_in, traffic[n].messages_out));
    }
    return bytes / c->cost.link_bytes_per_us + messages * c->cost.message_us;
}

/* Arithmetic and weights behind `run`, on a node of speed 1. */
static double compute_us(const struct chooser *c, int32_t op, struct box run)
{
    const struct geo_op *it = &c->p->geo->op[op];
    const struct box whole = geometry_whole(c->p->geo, it->out);
    const double share = (double)box_values(run) / (double)box_values(whole);
    const double channels = (double)box_len(run, CHAN) / box_len(whole, CHAN);
    const double images = c->p->geo->tensor[it->out].batch;
    return (double)it->macs * images * share / c->cost.macs_per_us +
           (double)it->weight_bytes * channels / c->cost.weight_bytes_per_us;
}

/* The time of `op` with its tensors placed as they are. */
static double op_us(const struct chooser *c, int32_t op)
{
    const struct placement *p = c->p;
    const struct geo_op *it = &p->geo->op[op];
    struct traffic traffic[PLAN_MAX_NODES] = { { 0 } };
    const bool everywhere = placement_replicates(p, op);
    double slowest = 0;
    int32_t parts = 0;
    for (int32_t n = 0; n < p->options->nodes; n++) {
        const struct box part = placement_part(p, it->out, n);
        const struct box run = everywhere ? geometry_whole(p->geo, it->out) : part;
        parts += !box_empty(part);
        if (box_empty(run))
            continue;
        slowest = larger(slowest, compute_us(c, op, run) / c->speed[n]);
        for (int32_t i = 0; i < it->ninputs; i++)
            add_transfers(p, p->geo->input[it->first + i].tensor, n, reads(p, op, i, n, run),
                          traffic);
    }
    const double host = p->geo->tensor[it->out].output ? parts * c->cost.message_us : 0;
    return slowest + traffic_us(c, traffic) + host;
}

/* The time of the operator that yields tensor `t`. */
static double making_us(const struct chooser *c, int32_t t)
{
    return op_us(c, c->p->geo->tensor[t].op);
}

/* And of its readers: all that depends on where the tensor is. */
static double around_us(const struct chooser *c, int32_t t)
{
    double sum = making_us(c, t);
    for (int32_t i = c->first_reader[t]; i < c->first_reader[t + 1]; i++)
        sum += op_us(c, c->reader[i]);
    return sum;
}

/* ---- Choice ---- */

/* Is there a choice for tensor `t`?  Shares of a reduction lie where they are made, and inputs of
 * the network come from the host. */
static bool is_free(const struct geometry *g, int32_t t)
{
    return !geometry_is_input(g, t) && !geometry_is_partial(g, t) && g->tensor[t].dim[CHAN] > 1;
}

/* What channels must save, of the operator's time by rows: rows send less, and sooner. */
static const double MARGIN = 0.05;

/* Cuts tensor `t` along the axis with which `cost` is lower.  Returns whether that is another than
 * before. */
static bool take_cheaper(struct chooser *c, int32_t t,
                         double (*cost)(const struct chooser *c, int32_t t))
{
    enum axis *along = &c->p->along[t];
    const enum axis before = *along;
    *along = ROW;
    const double rows = cost(c, t) - MARGIN * making_us(c, t);
    *along = CHAN;
    if (cost(c, t) >= rows)
        *along = ROW;
    return *along != before;
}

static void choose(struct chooser *c)
{
    enum { WALKS = 4 };
    const struct geometry *g = c->p->geo;
    for (int32_t o = 0; o < g->nops; o++)
        if (is_free(g, g->op[o].out))
            take_cheaper(c, g->op[o].out, making_us);
    bool changed = true;
    for (int walk = 0; walk < WALKS && changed; walk++) {
        changed = false;
        for (int32_t i = 0; i < g->nops; i++) {
            /* Against the stream first: a tensor learns what its readers have become. */
            const int32_t t = g->op[walk % 2 ? i : g->nops - 1 - i].out;
            if (is_free(g, t))
                changed |= take_cheaper(c, t, around_us);
        }
    }
}

static int32_t or_default(int32_t value, int32_t otherwise) { return value ? value : otherwise; }

static struct plan_costs with_defaults(struct plan_costs c)
{
    return (struct plan_costs){
        .macs_per_us = or_default(c.macs_per_us, 20000),
        .weight_bytes_per_us = or_default(c.weight_bytes_per_us, 4000),
        .link_bytes_per_us = or_default(c.link_bytes_per_us, 100),
        .message_us = or_default(c.message_us, 60),
    };
}

static void index_readers(struct chooser *c)
{
    const struct geometry *g = c->p->geo;
    for (int32_t o = 0; o < g->nops; o++)
        for (int32_t i = 0; i < g->op[o].ninputs; i++)
            c->first_reader[g->input[g->op[o].first + i].tensor]++;
    int32_t sum = 0;
    for (int32_t t = 0; t <= g->ntensors; t++) {
        sum += c->first_reader[t];
        c->first_reader[t] = sum;
    }
    /* Filled from behind, so that each ends where it begins. */
    for (int32_t o = g->nops - 1; o >= 0; o--)
        for (int32_t i = g->op[o].ninputs - 1; i >= 0; i--)
            c->reader[--c->first_reader[g->input[g->op[o].first + i].tensor]] = o;
}

static int32_t count_reads(const struct geometry *g)
{
    int32_t reads_in_all = 0; /* at most GEO_MAX_TENSORS * GEO_MAX_INPUTS */
    for (int32_t o = 0; o < g->nops; o++)
        reads_in_all += g->op[o].ninputs;
    return reads_in_all;
}

static int choose_by_cost(struct placement *p)
{
    const struct geometry *g = p->geo;
    const struct plan_options *o = p->options;
    struct chooser c = {
        .p = p,
        .cost = with_defaults(o->costs),
        .first_reader = calloc((size_t)g->ntensors + 1, sizeof(*c.first_reader)),
        .reader = calloc((size_t)count_reads(g) + 1, sizeof(*c.reader)),
    };
    int r = -ENOMEM;
    if (c.first_reader && c.reader) {
        double total = 0;
        for (int32_t n = 0; n < o->nodes; n++)
            total += o->weight[n];
        for (int32_t n = 0; n < o->nodes; n++)
            c.speed[n] = o->weight[n] * o->nodes / total;
        index_readers(&c);
        choose(&c);
        r = 0;
    }
    free(c.first_reader);
    free(c.reader);
    return r;
}

static int choose_as_told(struct placement *p)
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
    if (!r && mixed)
        r = o->along ? choose_as_told(&made) : choose_by_cost(&made);
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
