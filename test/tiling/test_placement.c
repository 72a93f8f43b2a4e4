/* Rows or channels: which tensors PLAN_MIXED cuts how. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "sim.h"

enum { CHANS = 64, ONE_MB = 1 << 20 };

/* The plan of a network whose tensors are too large for the simulator. */
static struct plan mixed_plan(const struct net *net, struct plan_options o)
{
    struct plan p;
    o.placement = PLAN_MIXED;
    o.nodes = net->g.nodes;
    for (int32_t n = 0; n < o.nodes; n++)
        o.weight[n] = o.weight[n] ? o.weight[n] : 1;
    cr_assert_eq(plan_build(&p, &net->g, &o), 0);
    cr_assert_eq(plan_check(&p, NULL), 0);
    return p;
}

/* A convolution of a square kernel as a network has it: with its weights and its work. */
static int32_t conv(struct net *net, int32_t in, int32_t kernel)
{
    const int32_t out = net_conv(net, in, kernel, 1, kernel / 2, 0);
    const struct geo_tensor *t = &net->g.tensor[out];
    struct geo_op *op = &net->g.op[t->op];
    const int64_t taps = (int64_t)kernel * kernel * t->dim[CHAN];
    op->weight_bytes = taps * t->dim[CHAN] * 4;
    op->macs = taps * t->dim[ROW] * t->dim[COL] * t->dim[CHAN];
    return out;
}

static bool is_by_channels(const struct plan *p, int32_t t)
{
    int32_t parts = 0;
    for (int32_t n = 0; n < p->nodes; n++) {
        const struct box b = plan_share(p, t, n)->part;
        if (!box_empty(b) && box_len(b, CHAN) == p->geo->tensor[t].dim[CHAN])
            return false;
        parts += !box_empty(b);
    }
    return parts > 1;
}

Test(placement, high_maps_by_rows_and_flat_ones_by_channels)
{
    struct net net;
    net_init(&net, 4);
    const int32_t high = conv(&net, net_input(&net, 112, 112, 64), 3);
    const int32_t flat = conv(&net, net_input(&net, 7, 7, 512), 3);
    net_finish(&net);
    struct plan p = mixed_plan(&net, (struct plan_options){ 0 });
    cr_assert_not(is_by_channels(&p, high));
    cr_assert(is_by_channels(&p, flat));
    for (int32_t n = 0; n < 4; n++) {
        const struct box whole = geometry_whole(&net.g, flat);
        cr_assert(
            box_equal(plan_share(&p, flat, n)->run, box_band(whole, CHAN, n * 128, (n + 1) * 128)));
    }
    plan_done(&p);
    net_done(&net);
}

/* A layer that reads all of its input and has more weights than anything else of the network. */
Test(placement, large_dense_layers_are_shared)
{
    struct net net;
    net_init(&net, 4);
    const int32_t first = net_dense(&net, net_input(&net, 7, 7, 512), (int64_t)100 * ONE_MB);
    const int32_t second = net_dense(&net, first, (int64_t)16 * ONE_MB);
    net_finish(&net);
    struct plan p = mixed_plan(&net, (struct plan_options){ 0 });
    cr_assert(is_by_channels(&p, first));
    cr_assert(is_by_channels(&p, second));
    struct plan_traffic t;
    plan_traffic(&p, &t);
    cr_assert_eq(t.halo_messages, 4 * 3, "everybody gathers the first");
    cr_assert_eq(t.halo_values, 3 * 512);
    plan_done(&p);
    net_done(&net);
}

Test(placement, whole_pixels_stay_on_a_node)
{
    struct net net;
    net_init(&net, 4);
    const int32_t flat = conv(&net, net_input(&net, 7, 7, 512), 3);
    net_finish(&net);
    bool whole[NET_MAX_TENSORS] = { false };
    struct plan p = mixed_plan(&net, (struct plan_options){ .whole_pixels = whole });
    cr_assert(is_by_channels(&p, flat));
    plan_done(&p);
    whole[flat] = true;
    p = mixed_plan(&net, (struct plan_options){ .whole_pixels = whole });
    cr_assert_not(is_by_channels(&p, flat));
    plan_done(&p);
    net_done(&net);
}

/* Messages that cost more than they save. */
Test(placement, a_slow_network_keeps_dense_layers_together)
{
    struct net net;
    net_init(&net, 4);
    const int32_t first = net_dense(&net, net_input(&net, 7, 7, 512), 8 * ONE_MB);
    const int32_t second = net_dense(&net, first, 8 * ONE_MB);
    net_finish(&net);
    struct plan p = mixed_plan(&net, (struct plan_options){ .costs = { .message_us = 1000000 } });
    cr_assert_not(is_by_channels(&p, first));
    cr_assert_not(is_by_channels(&p, second));
    plan_done(&p);
    net_done(&net);
}

/* What follows takes its input as it lies; a residual's two sides lie alike. */
Test(placement, elementwise_operators_exchange_nothing)
{
    struct net net;
    net_init(&net, 4);
    const int32_t a = conv(&net, net_input(&net, 7, 7, 512), 3);
    const int32_t b = conv(&net, a, 3);
    const int32_t sum = net_binary(&net, a, b);
    net_finish(&net);
    struct plan p = mixed_plan(&net, (struct plan_options){ 0 });
    for (int32_t n = 0; n < 4; n++) {
        cr_assert(box_equal(plan_share(&p, sum, n)->run, plan_share(&p, b, n)->run));
        cr_assert(box_equal(plan_share(&p, b, n)->want, plan_share(&p, b, n)->run));
    }
    plan_done(&p);
    net_done(&net);
}

/* Squeeze-and-excite stays an exchange of partial sums. */
Test(placement, small_layers_behind_a_reduction_are_replicated)
{
    enum { NODES = 4 };
    struct net net;
    net_init(&net, NODES);
    const int32_t map = conv(&net, net_input(&net, 56, 56, CHANS), 1);
    const int32_t small = net_dense(&net, net_reduce(&net, map), 4 * CHANS * CHANS);
    net_binary(&net, map, small);
    net_finish(&net);
    struct plan p = mixed_plan(&net, (struct plan_options){ 0 });
    struct plan_traffic t;
    plan_traffic(&p, &t);
    cr_assert_eq(t.halo_messages, NODES * (NODES - 1));
    for (int32_t n = 0; n < NODES; n++)
        cr_assert(box_equal(plan_share(&p, small, n)->run, geometry_whole(&net.g, small)));
    plan_done(&p);
    net_done(&net);
}

static enum axis by_channels(void *ctx, int32_t tensor)
{
    (void)ctx;
    (void)tensor;
    return CHAN;
}

/* First channels of the bands of a map of `channels`. */
static void expect_cuts(int32_t channels, int32_t unit, const struct plan_options *o, int32_t nodes,
                        const int32_t *want)
{
    struct net net;
    net_init(&net, nodes);
    const int32_t out = net_conv(&net, net_input(&net, 4, 4, channels), 1, 1, 0, 0);
    net.g.op[0].channel_unit = unit;
    const int32_t follows = net_binary(&net, out, out);
    net_finish(&net);
    struct plan_options with = *o;
    with.along = by_channels;
    struct plan p = mixed_plan(&net, with);
    const struct box whole = geometry_whole(&net.g, out);
    for (int32_t n = 0; n < nodes; n++) {
        const struct box band = box_band(whole, CHAN, want[n], want[n + 1]);
        cr_assert(box_equal(plan_share(&p, out, n)->part, band), "%d channels, node %d", channels,
                  n);
        cr_assert(box_equal(plan_share(&p, follows, n)->part, band));
    }
    plan_done(&p);
    net_done(&net);
}

Test(placement, channels_are_cut_between_full_vectors)
{
    const struct plan_options even = { 0 }, uneven = { .weight = { 3, 1 } };
    expect_cuts(512, 1, &even, 4, (int32_t[]){ 0, 128, 256, 384, 512 });
    expect_cuts(125, 1, &even, 4, (int32_t[]){ 0, 32, 64, 96, 125 });
    expect_cuts(24, 1, &even, 3, (int32_t[]){ 0, 8, 16, 24 });
    expect_cuts(3, 1, &even, 3, (int32_t[]){ 0, 0, 0, 3 });
    expect_cuts(64, 1, &uneven, 2, (int32_t[]){ 0, 48, 64 });
    expect_cuts(60, 20, &even, 3, (int32_t[]){ 0, 20, 40, 60 });
    expect_cuts(20, 20, &even, 2, (int32_t[]){ 0, 20, 20 });
}

static enum axis by_columns(void *ctx, int32_t tensor)
{
    (void)ctx;
    (void)tensor;
    return COL;
}

Test(placement, options_out_of_range)
{
    struct net net;
    struct plan p;
    net_init(&net, 2);
    net_conv(&net, net_input(&net, 8, 4, 2), 3, 1, 1, 0);
    net_finish(&net);
    const struct plan_options good = { .placement = PLAN_MIXED, .nodes = 2, .weight = { 1, 1 } };
    struct plan_options o = good;
    o.along = by_columns;
    cr_assert_eq(plan_build(&p, &net.g, &o), -EINVAL);
    o = good;
    o.costs.message_us = -1;
    cr_assert_eq(plan_build(&p, &net.g, &o), -EINVAL);
    o = good;
    o.costs.macs_per_us = 1000001;
    cr_assert_eq(plan_build(&p, &net.g, &o), -EINVAL);
    cr_assert_eq(plan_build(&p, &net.g, &good), 0);
    plan_done(&p);
    net_done(&net);
}

/* Seven rows on four nodes: the busiest has two of seven; channels divide evenly. */
Test(placement, bound_counts_the_busiest_node)
{
    struct net net;
    net_init(&net, 4);
    conv(&net, net_input(&net, 7, 7, CHANS), 1);
    net_finish(&net);
    struct plan_options o = { .nodes = 4, .weight = { 1, 1, 1, 1 } };
    struct plan p;
    cr_assert_eq(plan_build(&p, &net.g, &o), 0);
    cr_assert_float_eq(plan_bound(&p), 3.5, 1e-9);
    plan_done(&p);
    o.along = by_channels;
    p = mixed_plan(&net, o);
    cr_assert_float_eq(plan_bound(&p), 4, 1e-9);
    plan_done(&p);
    net_done(&net);
}
