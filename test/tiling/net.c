#include "net.h"

#include <criterion/criterion.h>
#include <stdlib.h>

void net_init(struct net *net, int32_t nodes)
{
    *net = (struct net){ 0 };
    cr_assert_eq(geometry_init(&net->g, nodes, NET_MAX_TENSORS, NET_MAX_TENSORS, NET_MAX_INPUTS),
                 0);
    net->g.ntensors = net->g.nops = net->g.ninputs = 0;
}

void net_done(struct net *net) { geometry_done(&net->g); }

static int32_t add_tensor(struct net *net, const int32_t dim[AXES], int32_t op)
{
    struct geometry *g = &net->g;
    cr_assert_lt(g->ntensors, NET_MAX_TENSORS);
    struct geo_tensor *t = &g->tensor[g->ntensors];
    *t = (struct geo_tensor){ .batch = 1, .op = op };
    for (int x = 0; x < AXES; x++)
        t->dim[x] = dim[x];
    return g->ntensors++;
}

/* Adds an operator; its inputs follow with add_reader().  Returns its output. */
static int32_t add_op(struct net *net, const int32_t dim[AXES], int64_t weight_bytes)
{
    struct geometry *g = &net->g;
    const int32_t out = add_tensor(net, dim, g->nops);
    g->op[g->nops++] = (struct geo_op){
        .kind = GEO_MAP, .out = out, .first = g->ninputs, .weight_bytes = weight_bytes
    };
    return out;
}

static void add_reader(struct net *net, int32_t in, const struct rule rule[AXES])
{
    struct geometry *g = &net->g;
    cr_assert_lt(g->ninputs, NET_MAX_INPUTS);
    struct geo_input *it = &g->input[g->ninputs];
    it->tensor = in;
    for (int x = 0; x < AXES; x++) {
        net->rule[g->ninputs][x] = rule[x];
        it->reach[x] = rule_reach(&rule[x]);
    }
    g->ninputs++;
    g->op[g->nops - 1].ninputs++;
}

static const int32_t *dims(const struct net *net, int32_t t) { return net->g.tensor[t].dim; }

static const struct rule same = { .kind = RULE_SAME };

static struct rule all(int32_t len) { return (struct rule){ .kind = RULE_ALL, .len = len }; }

int32_t net_input(struct net *net, int32_t rows, int32_t cols, int32_t chans)
{
    return add_tensor(net, (int32_t[]){ rows, cols, chans }, GEO_NO_OP);
}

static int32_t window_len(const struct rule *r, int32_t len, int32_t pad_end)
{
    return (len + r->pad + pad_end - r->dilation * (r->kernel - 1) - 1) / r->stride + 1;
}

int32_t net_conv(struct net *net, int32_t in, int32_t kernel, int32_t stride, int32_t pad,
                 int64_t weight_bytes)
{
    const int32_t *d = dims(net, in);
    const struct rule win = {
        .kind = RULE_WINDOW, .kernel = kernel, .stride = stride, .dilation = 1, .pad = pad
    };
    const struct rule rule[AXES] = { win, win, all(d[CHAN]) };
    const int32_t dim[AXES] = { window_len(&win, d[ROW], pad), window_len(&win, d[COL], pad),
                                d[CHAN] };
    const int32_t out = add_op(net, dim, weight_bytes);
    add_reader(net, in, rule);
    return out;
}

int32_t net_conv_to(struct net *net, int32_t in, int32_t kernel, int32_t chans, bool depthwise)
{
    const int32_t *d = dims(net, in);
    const struct rule win = {
        .kind = RULE_WINDOW, .kernel = kernel, .stride = 1, .dilation = 1, .pad = kernel / 2
    };
    const struct rule rule[AXES] = { win, win, depthwise ? same : all(d[CHAN]) };
    const int32_t out = add_op(net, (int32_t[]){ d[ROW], d[COL], chans }, 0);
    add_reader(net, in, rule);
    return out;
}

int32_t net_reduce(struct net *net, int32_t in)
{
    const int32_t *d = dims(net, in);
    const int32_t chans = d[CHAN], nodes = net->g.nodes;

    const int32_t partial = add_op(net, (int32_t[]){ nodes, 1, chans }, 0);
    net->g.op[net->g.nops - 1].kind = GEO_PARTIAL;
    net->sums[net->g.nops - 1] = true;
    add_reader(net, in, (struct rule[]){ all(d[ROW]), all(d[COL]), same });

    const int32_t out = add_op(net, (int32_t[]){ 1, 1, chans }, 0);
    net->sums[net->g.nops - 1] = true;
    add_reader(net, partial, (struct rule[]){ all(nodes), same, same });
    return out;
}

int32_t net_dense(struct net *net, int32_t in, int64_t weight_bytes)
{
    const int32_t *d = dims(net, in);
    const int32_t out = add_op(net, (int32_t[]){ 1, 1, d[CHAN] }, weight_bytes);
    add_reader(net, in, (struct rule[]){ all(d[ROW]), all(d[COL]), all(d[CHAN]) });
    return out;
}

int32_t net_binary(struct net *net, int32_t a, int32_t b)
{
    const int32_t in[] = { a, b };
    int32_t dim[AXES];
    for (int x = 0; x < AXES; x++) {
        const int32_t da = dims(net, a)[x], db = dims(net, b)[x];
        if (da != db && da != 1 && db != 1)
            return -1;
        dim[x] = da > db ? da : db;
    }
    const int32_t out = add_op(net, dim, 0);
    for (int i = 0; i < 2; i++) {
        struct rule rule[AXES];
        for (int x = 0; x < AXES; x++)
            rule[x] = dims(net, in[i])[x] == dim[x] ? same : all(1);
        add_reader(net, in[i], rule);
    }
    return out;
}

void net_finish(struct net *net)
{
    struct geometry *g = &net->g;
    bool read[NET_MAX_TENSORS] = { false };
    for (int32_t i = 0; i < g->ninputs; i++)
        read[g->input[i].tensor] = true;
    for (int32_t t = 0; t < g->ntensors; t++) {
        if (!read[t] && !geometry_is_input(g, t))
            g->tensor[t].output = true;
        net->at[t + 1] = net->at[t] + box_values(geometry_whole(g, t));
    }
    cr_assert_eq(geometry_check(g), 0);
}

/* Makers of random operators: each returns its output, or -1 if `in` does not suit it. */

static int64_t random_weight_bytes(struct rng *r)
{
    switch (rng_int(r, 0, 3)) {
    case 0:
        return 0;
    case 1:
        return rng_int(r, 1, 2000);
    case 2:
        return (int64_t)4 << 20;
    default:
        return (int64_t)8 << 20;
    }
}

static struct rule random_taps(struct rng *r, enum rule_kind kind)
{
    return (struct rule){ .kind = kind,
                          .kernel = rng_int(r, 1, 5),
                          .stride = rng_chance(r, 60) ? 1 : rng_int(r, 2, 3),
                          .dilation = rng_chance(r, 70) ? 1 : rng_int(r, 2, 6),
                          .pad = rng_int(r, 0, 4) };
}

static bool fits(const int32_t dim[AXES])
{
    for (int x = 0; x < AXES; x++)
        if (dim[x] < 1)
            return false;
    return dim[ROW] <= NET_MAX_LEN && dim[COL] <= 8 && dim[CHAN] <= 6;
}

static int32_t random_window(struct net *net, struct rng *r, int32_t in)
{
    const int32_t *d = dims(net, in);
    const bool depthwise = rng_chance(r, 30);
    struct rule rule[AXES] = { random_taps(r, RULE_WINDOW), random_taps(r, RULE_WINDOW),
                               depthwise ? same : all(d[CHAN]) };
    int32_t dim[AXES] = { 0, 0, depthwise ? d[CHAN] : rng_int(r, 1, 6) };
    for (int x = ROW; x <= COL; x++) {
        const int32_t room = d[x] + 2 * rule[x].pad - rule[x].dilation * (rule[x].kernel - 1);
        if (room < 1)
            return -1;
        dim[x] = window_len(&rule[x], d[x], rng_int(r, 0, rule[x].pad));
    }
    if (!fits(dim))
        return -1;
    const int32_t out = add_op(net, dim, random_weight_bytes(r));
    net->g.op[net->g.nops - 1].channel_unit = rng_int(r, 0, 3);
    net->g.op[net->g.nops - 1].macs = rng_int(r, 0, 1 << 30);
    add_reader(net, in, rule);
    return out;
}

static int32_t random_transposed(struct net *net, struct rng *r, int32_t in)
{
    const int32_t *d = dims(net, in);
    const struct rule rule[AXES] = { random_taps(r, RULE_TRANSPOSED), same, all(d[CHAN]) };
    const int32_t dim[AXES] = { (d[ROW] - 1) * rule[ROW].stride +
                                    rule[ROW].dilation * (rule[ROW].kernel - 1) + 1 -
                                    2 * rule[ROW].pad,
                                d[COL], rng_int(r, 1, 3) };
    if (!fits(dim))
        return -1;
    const int32_t out = add_op(net, dim, random_weight_bytes(r));
    add_reader(net, in, rule);
    return out;
}

static int32_t random_unary(struct net *net, struct rng *r, int32_t in)
{
    (void)r;
    const int32_t out = add_op(net, dims(net, in), 0);
    add_reader(net, in, (struct rule[]){ same, same, same });
    return out;
}

static int32_t random_resample(struct net *net, struct rng *r, int32_t in)
{
    const int32_t *d = dims(net, in);
    const int32_t factor = rng_int(r, 2, 3);
    const bool up = rng_chance(r, 50);
    if (!up && (d[ROW] % factor || d[COL] % factor))
        return -1;
    const struct rule scale = { .kind = up ? RULE_UP : RULE_DOWN, .factor = factor };
    const struct rule rule[AXES] = { scale, scale, all(d[CHAN]) };
    const int32_t dim[AXES] = { up ? d[ROW] * factor : d[ROW] / factor,
                                up ? d[COL] * factor : d[COL] / factor, rng_int(r, 1, 3) };
    if (!fits(dim))
        return -1;
    const int32_t out = add_op(net, dim, 0);
    add_reader(net, in, rule);
    return out;
}

static int32_t random_slice(struct net *net, struct rng *r, int32_t in)
{
    const int axis = rng_int(r, 0, AXES - 1);
    const int32_t len = dims(net, in)[axis];
    int32_t step = rng_int(r, -3, 2);
    if (step >= 0)
        step++;
    const int32_t start = rng_int(r, 0, len - 1);
    const int32_t most = step > 0 ? (len - 1 - start) / step + 1 : start / -step + 1;

    struct rule rule[AXES] = { same, same, same };
    rule[axis] = (struct rule){ .kind = RULE_SHIFT, .offset = start, .step = step };
    int32_t dim[AXES] = { dims(net, in)[ROW], dims(net, in)[COL], dims(net, in)[CHAN] };
    dim[axis] = rng_int(r, 1, most);
    const int32_t out = add_op(net, dim, 0);
    add_reader(net, in, rule);
    return out;
}

static int32_t random_pad(struct net *net, struct rng *r, int32_t in)
{
    const int32_t before = rng_int(r, 0, 5), after = rng_int(r, 0, 5);
    struct rule rule[AXES] = { { .kind = RULE_SHIFT, .offset = -before, .step = 1 }, same, same };
    const int32_t dim[AXES] = { dims(net, in)[ROW] + before + after, dims(net, in)[COL],
                                dims(net, in)[CHAN] };
    if (!fits(dim))
        return -1;
    const int32_t out = add_op(net, dim, 0);
    add_reader(net, in, rule);
    return out;
}

/* A tensor with values that an operator may read: not the shares of a reduction. */
static int32_t pick(const struct net *net, struct rng *r)
{
    int32_t t;
    do
        t = rng_chance(r, 60) ? net->g.ntensors - 1 : rng_int(r, 0, net->g.ntensors - 1);
    while (geometry_is_partial(&net->g, t));
    return t;
}

static int32_t random_binary(struct net *net, struct rng *r, int32_t in)
{
    for (int tries = 0; tries < 8; tries++) {
        const int32_t out = net_binary(net, in, pick(net, r));
        if (out >= 0)
            return out;
    }
    return -1;
}

static int32_t random_concat(struct net *net, struct rng *r, int32_t in)
{
    const int axis = rng_int(r, 0, AXES - 1);
    int32_t part[4] = { in }, parts = 1;
    int32_t dim[AXES] = { dims(net, in)[ROW], dims(net, in)[COL], dims(net, in)[CHAN] };
    for (int tries = 0; tries < 8 && parts < 4; tries++) {
        const int32_t t = pick(net, r);
        bool suits = true;
        for (int x = 0; x < AXES; x++)
            suits &= x == axis || dims(net, t)[x] == dim[x];
        if (suits) {
            part[parts++] = t;
            dim[axis] += dims(net, t)[axis];
        }
    }
    if (!fits(dim))
        return -1;

    const int32_t out = add_op(net, dim, 0);
    int32_t place = 0;
    for (int i = 0; i < parts; i++) {
        struct rule rule[AXES] = { same, same, same };
        rule[axis] = (struct rule){ .kind = RULE_SHIFT, .offset = -place, .step = 1 };
        add_reader(net, part[i], rule);
        place += dims(net, part[i])[axis];
    }
    return out;
}

static int32_t random_whole(struct net *net, struct rng *r, int32_t in)
{
    if (rng_chance(r, 60))
        return net_dense(net, in, random_weight_bytes(r));
    const int32_t *d = dims(net, in);
    const int32_t out = add_op(net, d, 0);
    add_reader(net, in, (struct rule[]){ all(d[ROW]), all(d[COL]), same });
    return out;
}

/* Sometimes as squeeze-and-excite: the result, through small layers, scales the map. */
static int32_t random_reduction(struct net *net, struct rng *r, int32_t in)
{
    int32_t t = net_reduce(net, in);
    if (rng_chance(r, 30))
        return t;
    for (int layers = rng_int(r, 0, 2); layers > 0; layers--)
        t = net_dense(net, t, random_weight_bytes(r));
    return rng_chance(r, 80) ? net_binary(net, in, t) : t;
}

void net_random(struct net *net, struct rng *r, int32_t nodes)
{
    static int32_t (*const maker[])(struct net *, struct rng *, int32_t) = {
        random_window,   random_window, random_window,    random_transposed, random_unary,
        random_resample, random_slice,  random_pad,       random_binary,     random_binary,
        random_concat,   random_whole,  random_reduction,
    };
    enum { MAKERS = sizeof(maker) / sizeof(maker[0]), MOST_AT_ONCE = 5 };

    net_init(net, nodes);
    for (int32_t inputs = rng_int(r, 1, 2); inputs > 0; inputs--)
        net_input(net, rng_int(r, 1, 40), rng_int(r, 1, 6), rng_int(r, 1, 6));

    const int32_t want = rng_int(r, 1, 20);
    for (int32_t tries = 0; net->g.nops < want && tries < 100; tries++) {
        cr_assert_lt(net->g.ntensors + MOST_AT_ONCE, NET_MAX_TENSORS);
        maker[rng_int(r, 0, MAKERS - 1)](net, r, pick(net, r));
    }
    for (int32_t t = 0; t < net->g.ntensors; t++)
        if (!geometry_is_partial(&net->g, t) && rng_chance(r, 5))
            net->g.tensor[t].output = true;
    net_finish(net);
}

static int by_value(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Any cuts at all, each tensor its own, the same at each call. */
static int32_t random_cut(void *seed, int32_t tensor, int32_t len, int32_t n)
{
    struct rng r = { *(const uint64_t *)seed + (uint64_t)tensor * 1000003u };
    const int32_t nodes = (int32_t)(*(const uint64_t *)seed >> 60) + 1;
    int32_t cut[PLAN_MAX_NODES + 1] = { 0 };
    for (int32_t i = 1; i < nodes; i++)
        cut[i] = rng_int(&r, 0, len);
    cut[nodes] = len;
    qsort(cut, (size_t)nodes + 1, sizeof(cut[0]), by_value);
    return cut[n];
}

static enum axis random_axis(void *seed, int32_t tensor)
{
    struct rng r = { *(const uint64_t *)seed ^ (uint64_t)tensor * 7919u };
    return rng_chance(&r, 50) ? ROW : CHAN;
}

static bool random_recompute(void *seed, int32_t tensor)
{
    struct rng r = { *(const uint64_t *)seed ^ (uint64_t)tensor * 104729u };
    return rng_chance(&r, 40);
}

/* Costs at which now rows, now channels are cheaper. */
static struct plan_costs random_costs(struct rng *r)
{
    return (struct plan_costs){
        .macs_per_us = rng_int(r, 0, 10000),
        .weight_bytes_per_us = rng_int(r, 0, 10000),
        .link_bytes_per_us = rng_int(r, 0, 1000000),
        .message_us = rng_int(r, 0, 100),
    };
}

struct plan_options net_options(struct rng *r, int32_t nodes, uint64_t *seed)
{
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes };
    const bool wild = rng_chance(r, 30);
    for (int32_t n = 0; n < nodes; n++)
        o.weight[n] = wild ? rng_int(r, 1, 1000000) : rng_int(r, 1, 5);
    if (rng_chance(r, 10)) {
        o.placement = PLAN_WHOLE;
        o.whole = rng_int(r, 0, nodes - 1);
        return o;
    }
    /* The four highest bits tell random_cut() the number of nodes. */
    *seed = rng_next(r) >> 4 | (uint64_t)(nodes - 1) << 60;
    o.cut_ctx = seed;
    o.busy = rng_chance(r, 50) ? UINT32_C(1) << rng_int(r, 0, nodes - 1) : 0;
    o.policy = (enum plan_policy)rng_int(r, PLAN_AUTO, PLAN_RECOMPUTE);
    o.costs = random_costs(r);
    o.pixels = rng_chance(r, 50);
    if (rng_chance(r, 30))
        o.recompute = random_recompute;
    if (rng_chance(r, 40))
        o.cut = random_cut;
    if (rng_chance(r, 60)) {
        o.placement = PLAN_MIXED;
        if (rng_chance(r, 70))
            o.along = random_axis;
    }
    return o;
}
