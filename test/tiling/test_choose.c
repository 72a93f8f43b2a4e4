/* Exchange or recompute: what nodes do about values that they lack. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "sim.h"
#include "tiling/cost.h"

enum { NODES = 4 };

static struct plan_options options(enum plan_policy policy, int32_t nodes)
{
    struct plan_options o = { .placement = PLAN_MIXED, .policy = policy, .nodes = nodes };
    for (int32_t n = 0; n < nodes; n++)
        o.weight[n] = 1;
    return o;
}

static struct plan plan_of(const struct net *net, const struct plan_options *o)
{
    struct plan p;
    cr_assert_eq(plan_build(&p, &net->g, o), 0);
    cr_assert_eq(plan_check(&p, NULL), 0);
    return p;
}

/* Values of `tensor` that nodes send each other. */
static int64_t sent(const struct plan *p, int32_t tensor)
{
    int64_t values = 0;
    for (int32_t i = 0; i < p->ntransfers; i++)
        if (p->transfer[i].tensor == tensor && p->transfer[i].from < p->nodes &&
            p->transfer[i].to < p->nodes)
            values += box_values(p->transfer[i].box);
    return values;
}

/* A convolution as a network has it, with its weights and its work. */
static int32_t conv(struct net *net, int32_t in, int32_t kernel, int32_t channels)
{
    const int32_t from = net->g.tensor[in].dim[CHAN];
    const bool depthwise = from == channels && kernel > 1;
    const int32_t out = net_conv_to(net, in, kernel, channels, depthwise);
    const struct geo_tensor *t = &net->g.tensor[out];
    struct geo_op *op = &net->g.op[t->op];
    const int64_t taps = (int64_t)kernel * kernel * (depthwise ? 1 : from);
    op->weight_bytes = taps * channels * 4;
    op->macs = taps * t->dim[ROW] * t->dim[COL] * channels;
    return out;
}

/* An inverted residual block: a convolution of one pixel widens the map, one that looks at
 * neighbours follows channel by channel, a third narrows it again. */
struct block {
    int32_t narrow, wide, filtered, out;
};

static struct block block(struct net *net, int32_t narrow)
{
    const int32_t channels = net->g.tensor[narrow].dim[CHAN];
    struct block b = { .narrow = narrow };
    b.wide = conv(net, narrow, 1, 6 * channels);
    b.filtered = conv(net, b.wide, 3, 6 * channels);
    b.out = net_binary(net, conv(net, b.filtered, 1, channels), narrow);
    return b;
}

Test(choose, the_narrowest_map_is_exchanged)
{
    struct net net;
    net_init(&net, NODES);
    const struct block first = block(&net, conv(&net, net_input(&net, 56, 56, 256), 3, 24));
    const struct block second = block(&net, first.out);
    net_finish(&net);
    struct plan_options o = options(PLAN_EXCHANGE, NODES);
    o.costs = (struct plan_costs){ .message_us = 1 };
    struct plan p = plan_of(&net, &o);
    const int64_t rows = 2 * (NODES - 1), values = rows * 56 * 24;
    cr_assert_eq(sent(&p, first.wide), 6 * values);
    cr_assert_eq(sent(&p, first.narrow), 0);
    plan_done(&p);
    o.policy = PLAN_AUTO;
    p = plan_of(&net, &o);
    for (int i = 0; i < 2; i++) {
        const struct block *b = i ? &second : &first;
        cr_assert(p.recomputed[b->wide]);
        cr_assert_eq(sent(&p, b->wide), 0);
        cr_assert_eq(sent(&p, b->narrow), values);
        cr_assert_not(p.recomputed[b->filtered]);
        cr_assert_eq(sent(&p, b->filtered), 0);
    }
    plan_done(&p);
    net_done(&net);
}

/* Where messages cost much and computing little, several layers are fused: their halos are
 * recomputed from a wider one in front of them. */
Test(choose, rounds_are_saved_by_fusing_layers)
{
    enum { LAYERS = 4 };
    struct net net;
    net_init(&net, NODES);
    int32_t layer[LAYERS + 1] = { conv(&net, net_input(&net, 64, 8, 3), 1, 8) };
    for (int i = 0; i < LAYERS; i++)
        layer[i + 1] = net_conv(&net, layer[i], 3, 1, 1, 0);
    net_finish(&net);
    struct plan_options o = options(PLAN_AUTO, NODES);
    o.placement = PLAN_ROWS;
    o.costs = (struct plan_costs){ .message_us = 1000 };
    struct plan p = plan_of(&net, &o);
    struct plan_traffic t;
    plan_traffic(&p, &t);
    cr_assert_eq(t.halo_messages, 2 * (NODES - 1), "one round");
    for (int i = 1; i < LAYERS; i++)
        cr_assert(p.recomputed[layer[i]]);
    cr_assert_null(sim_cluster(&net, &p));
    /* One row more for every layer. */
    cr_assert_eq(box_len(plan_share(&p, layer[0], 1)->want, ROW), 16 + 2 * LAYERS);
    plan_done(&p);
    net_done(&net);
}

Test(choose, costly_layers_are_not_computed_twice)
{
    struct net net;
    net_init(&net, NODES);
    const int32_t map = conv(&net, net_input(&net, 28, 28, 128), 3, 256);
    conv(&net, map, 3, 128);
    net_finish(&net);
    const struct plan_options o = options(PLAN_AUTO, NODES);
    struct plan p = plan_of(&net, &o);
    cr_assert_not(p.recomputed[map]);
    cr_assert_gt(sent(&p, map), 0);
    plan_done(&p);
    net_done(&net);
}

/* A layer that widens the map may be recomputed, but not at the price of holding all its weights
 * on every node. */
Test(choose, weights_stay_shared_out)
{
    struct net net;
    net_init(&net, NODES);
    const int32_t hidden = net_dense(&net, net_input(&net, 7, 7, 64), (int64_t)64 << 20);
    net_dense(&net, hidden, (int64_t)64 << 20);
    net_finish(&net);
    struct plan_options o = options(PLAN_AUTO, NODES);
    o.costs = (struct plan_costs){ .message_us = 100000, .weight_bytes_per_us = 1000000 };
    struct plan p = plan_of(&net, &o);
    cr_assert_not(p.recomputed[hidden]);
    plan_done(&p);
    net_done(&net);
}

Test(choose, recompute_leaves_nothing_to_exchange)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng r = { seed };
        struct net net;
        const int32_t nodes = rng_int(&r, 2, PLAN_MAX_NODES);
        net_random(&net, &r, nodes);
        const struct plan_options o = options(PLAN_RECOMPUTE, nodes);
        struct plan p = plan_of(&net, &o);
        for (int32_t i = 0; i < p.ntransfers; i++)
            cr_assert(p.transfer[i].from == nodes || p.transfer[i].to == nodes ||
                          geometry_is_partial(&net.g, p.transfer[i].tensor),
                      "seed %d", (int)seed);
        plan_done(&p);
        net_done(&net);
    }
}

/* Of the same placement, with whatever costs. */
Test(choose, a_plan_is_never_slower_than_one_that_exchanges_everything)
{
    int recomputes = 0;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct rng r = { seed };
        struct net net;
        uint64_t cut_seed;
        const int32_t nodes = rng_int(&r, 1, PLAN_MAX_NODES);
        net_random(&net, &r, nodes);
        struct plan_options o = net_options(&r, nodes, &cut_seed);
        o.recompute = NULL;
        o.policy = PLAN_EXCHANGE;
        struct plan p = plan_of(&net, &o);
        const double exchange = plan_estimate_us(&p, &o);
        plan_done(&p);
        o.policy = PLAN_AUTO;
        p = plan_of(&net, &o);
        const double chosen = plan_estimate_us(&p, &o);
        cr_assert(chosen <= exchange * (1 + 1e-9) + 1e-6, "seed %d: %g us, exchange %g us",
                  (int)seed, chosen, exchange);
        recomputes += chosen < exchange;
        plan_done(&p);
        net_done(&net);
    }
    cr_assert_gt(recomputes, 500);
}

/* What a finished plan says, and cuts in proportion. */
struct told {
    const bool *recomputed;
    int32_t nodes;
};

static bool as_before(void *told, int32_t tensor)
{
    return ((const struct told *)told)->recomputed[tensor];
}

static int32_t even_cut(void *told, int32_t tensor, int32_t len, int32_t n)
{
    (void)tensor;
    return (int32_t)((int64_t)len * n / ((const struct told *)told)->nodes);
}

/* Step by step, each change settles what follows from it and nothing else: a second plan with the
 * same choices told from the start comes out the same. */
Test(choose, what_is_chosen_step_by_step_is_a_whole_plan)
{
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct rng r = { seed };
        struct net net;
        const int32_t nodes = rng_int(&r, 2, PLAN_MAX_NODES);
        struct told told = { .nodes = nodes };
        net_random(&net, &r, nodes);
        struct plan_options o = options(PLAN_AUTO, nodes);
        o.placement = PLAN_ROWS;
        o.costs = (struct plan_costs){ .macs_per_us = rng_int(&r, 0, 10000), .message_us = 10 };
        o.cut = even_cut;
        o.cut_ctx = &told;
        struct plan p = plan_of(&net, &o), again;
        told.recomputed = p.recomputed;
        o.recompute = as_before;
        again = plan_of(&net, &o);
        cr_assert_eq(p.ntransfers, again.ntransfers, "seed %d", (int)seed);
        for (int32_t t = 0; t < net.g.ntensors; t++)
            for (int32_t n = 0; n <= nodes; n++) {
                const struct plan_share *a = plan_share(&p, t, n), *b = plan_share(&again, t, n);
                cr_assert(box_equal(a->run, b->run) && box_equal(a->want, b->want), "seed %d",
                          (int)seed);
            }
        plan_done(&p);
        plan_done(&again);
        net_done(&net);
    }
}

/* A pad moves all rows; a stride halves them, and cuts of an odd number of rows in proportion are
 * not those of the other map. */
Test(choose, cuts_follow_from_one_height_to_the_next)
{
    struct net net;
    net_init(&net, NODES);
    const int32_t map = net_conv(&net, net_input(&net, 58, 58, 64), 3, 1, 1, 0);
    const int32_t half = net_conv(&net, map, 2, 2, 0, 0);
    const int32_t padded = net_conv(&net, half, 1, 1, 2, 0);
    net_finish(&net);
    struct plan_options o = options(PLAN_EXCHANGE, NODES);
    o.placement = PLAN_ROWS;
    o.costs = (struct plan_costs){ .macs_per_us = 1000000 };
    struct plan p = plan_of(&net, &o);
    cr_assert_eq(sent(&p, map), 0);
    cr_assert_eq(sent(&p, half), 0);
    for (int32_t n = 0; n + 1 < NODES; n++) {
        const int32_t cut = plan_share(&p, half, n)->own.hi[ROW];
        cr_assert_eq(plan_share(&p, map, n)->own.hi[ROW], 2 * cut);
        cr_assert_eq(plan_share(&p, padded, n)->own.hi[ROW], cut + 2);
    }
    plan_done(&p);
    net_done(&net);
}

/* Of a map of 56 rows on four nodes each has 14: tiles of four rows compute the two that
 * neighbours have, too, for nothing. */
Test(choose, rows_that_tiles_compute_anyway_are_not_exchanged)
{
    struct net net;
    net_init(&net, NODES);
    const int32_t first = conv(&net, net_input(&net, 56, 56, 64), 3, 64);
    const int32_t second = conv(&net, conv(&net, first, 3, 64), 3, 64);
    net_finish(&net);
    for (int32_t o = 0; o < net.g.nops; o++) {
        struct geo_op *op = &net.g.op[o];
        op->nways = 1;
        op->way[0] = (struct geo_way){ .row_unit = 4, .work = op->macs / 2 };
    }
    struct plan_options o = options(PLAN_AUTO, NODES);
    o.placement = PLAN_ROWS;
    o.costs = (struct plan_costs){ .message_us = 1 };
    struct plan p = plan_of(&net, &o);
    const int32_t between = net.g.input[net.g.op[net.g.tensor[second].op].first].tensor;
    cr_assert_eq(sent(&p, between), 0);
    cr_assert_eq(box_len(plan_share(&p, between, 1)->run, ROW), 16);
    cr_assert_gt(sent(&p, first), 0);
    plan_done(&p);
    net_done(&net);
}

Test(choose, policies_have_names)
{
    for (int i = PLAN_AUTO; i <= PLAN_RECOMPUTE; i++)
        cr_assert_eq(plan_policy_parse(plan_policy_name((enum plan_policy)i)), i);
    cr_assert_eq(plan_policy_parse("none"), -EINVAL);
    cr_assert_eq(plan_policy_parse(""), -EINVAL);
}

static enum axis by_channels(void *ctx, int32_t tensor)
{
    (void)ctx;
    (void)tensor;
    return CHAN;
}

/* What the making of the only operator's output takes on two nodes, each half of its rows or
 * channels. */
static double making_us(const struct net *net, enum axis along)
{
    struct plan_options o = options(PLAN_EXCHANGE, 2);
    if (along == CHAN)
        o.along = by_channels;
    else
        o.placement = PLAN_ROWS;
    o.costs = (struct plan_costs){
        .macs_per_us = 1, .weight_bytes_per_us = 1, .link_bytes_per_us = 1000000, .message_us = 1
    };
    struct plan p = plan_of(net, &o);
    const struct cost c = cost_make(&o);
    const double us = cost_of(&c, &p, net->g.op[0].out).compute_us;
    plan_done(&p);
    return us;
}

Test(choose, a_low_band_costs_what_its_kernels_make_of_it)
{
    struct net net;
    net_init(&net, 2);
    net_conv_to(&net, net_input(&net, 20, 8, 4), 1, 4, false);
    net_finish(&net);
    struct geo_op *op = &net.g.op[0];
    op->macs = 1000;
    cr_assert_float_eq(making_us(&net, ROW), 500, 1e-9);
    op->nways = 1;
    op->way[0] = (struct geo_way){ .row_unit = 4, .work = 1000 };
    cr_assert_float_eq(making_us(&net, ROW), 600, 1e-9, "ten rows are three tiles of five");
    op->way[0].row_more = 2;
    cr_assert_float_eq(making_us(&net, ROW), 1000. * (10 + 3 * 2) / (20 + 5 * 2), 1e-9,
                       "the last takes less than whole ones");
    op->way[0].row_more = 0;
    op->way[0].band_work = 70;
    cr_assert_float_eq(making_us(&net, ROW), 670, 1e-9);
    op->way[0].weight_bytes = 900;
    cr_assert_float_eq(making_us(&net, ROW), 900, 1e-9, "weights are read meanwhile");
    op->way[1] = (struct geo_way){ .row_unit = 1, .work = 1500, .weight_bytes = 100 };
    op->nways = 2;
    cr_assert_float_eq(making_us(&net, ROW), 750, 1e-9, "by the way that takes less");
    net_done(&net);
}

/* Which way a machine takes was measured; a user's costs are what he says they are.  Were bands of
 * channels believed to wait for the weights of a way that bands of rows get around, all nodes
 * would compute whole layers. */
Test(choose, bands_of_channels_cost_no_more_than_the_best_way)
{
    struct net net;
    net_init(&net, 2);
    net_conv_to(&net, net_input(&net, 20, 8, 4), 1, 16, false);
    net_finish(&net);
    struct geo_op *op = &net.g.op[0];
    op->nways = 2;
    op->way[0] = (struct geo_way){ .row_unit = 4, .work = 1000, .weight_bytes = 4000 };
    op->way[1] = (struct geo_way){ .row_unit = 2, .work = 1500, .weight_bytes = 1000 };
    cr_assert_float_eq(making_us(&net, ROW), 1000, 1e-9);
    cr_assert_float_eq(making_us(&net, CHAN), 750, 1e-9);
    net_done(&net);
}

/* In proportion, the others would get a row more than fills their tiles. */
Test(choose, a_node_a_little_weaker_does_not_cost_the_others_a_tile)
{
    struct net net;
    net_init(&net, NODES);
    const int32_t map = conv(&net, net_input(&net, 64, 64, 64), 3, 32);
    net_finish(&net);
    struct geo_op *op = &net.g.op[0];
    op->nways = 1;
    op->way[0] = (struct geo_way){ .row_unit = 4, .work = op->macs };
    struct plan_options o = options(PLAN_AUTO, NODES);
    o.placement = PLAN_ROWS;
    for (int32_t n = 0; n < NODES; n++)
        o.weight[n] = n == 0 ? 97 : 100;
    struct plan p = plan_of(&net, &o);
    for (int32_t n = 0; n < NODES; n++)
        cr_assert_eq(box_len(plan_share(&p, map, n)->own, ROW), 16, "node %d has %d rows", n,
                     box_len(plan_share(&p, map, n)->own, ROW));
    plan_done(&p);
    net_done(&net);
}

/* What falls to `node`, one of eight, of a map of thirteen rows. */
static int32_t rows_of_thirteen(uint32_t busy, int32_t node)
{
    struct net net;
    net_init(&net, 8);
    const int32_t map = conv(&net, net_input(&net, 13, 13, 256), 3, 64);
    net_finish(&net);
    struct plan_options o = options(PLAN_AUTO, 8);
    o.placement = PLAN_ROWS;
    o.busy = busy;
    struct plan p = plan_of(&net, &o);
    const int32_t rows = box_len(plan_share(&p, map, node)->own, ROW);
    plan_done(&p);
    net_done(&net);
    return rows;
}

Test(choose, a_busy_node_gets_the_lesser_bands)
{
    int32_t all = 0, node = -1;
    for (int32_t n = 0; n < 8; n++) {
        all += rows_of_thirteen(0, n);
        if (rows_of_thirteen(0, n) == 2)
            node = n;
    }
    cr_assert_eq(all, 13);
    cr_assert_geq(node, 0, "some node has two rows");
    cr_assert_eq(rows_of_thirteen(UINT32_C(1) << node, node), 1);
}
