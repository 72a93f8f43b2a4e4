/* The fastest plan among those for fewer nodes. */
#include <criterion/criterion.h>
#include <errno.h>

#include "libsplit/fastest.h"
#include "net.h"

enum { NODES = 8 };

static struct plan_options options(int32_t message_us)
{
    struct plan_options o = { .placement = PLAN_MIXED, .nodes = NODES };
    o.costs = (struct plan_costs){ .macs_per_us = 100, .message_us = message_us };
    for (int32_t n = 0; n < NODES; n++)
        o.weight[n] = 1000;
    return o;
}

/* Convolutions, then the mean of every channel: messages of halos and of sums. */
static void make_net(struct net *n)
{
    const struct window same = {
        .kernel = { 3, 3 }, .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad = { 1, 1 }
    };
    net_init(n, 1);
    int32_t map = net_input(n, 32, 32, 3, 1);
    for (int i = 0; i < 4; i++)
        map = net_conv(n, map, 16, 1, same);
    net_output(n, net_reduce(n, map, REDUCE_MEAN));
}

struct result {
    struct fastest f;
    struct geometry geo;
    struct plan plan;
    double us;
};

static struct result fastest_of(const struct net *n, struct plan_options *o, int32_t least)
{
    struct result r;
    cr_assert_eq(fastest_plan(&r.f, &r.geo, &r.plan, &n->g, o, least), 0);
    cr_assert_eq(plan_check(&r.plan, NULL), 0);
    cr_assert_eq(r.plan.nodes, r.f.nodes);
    cr_assert_eq(o->nodes, r.f.nodes);
    r.us = plan_estimate_us(&r.plan, o);
    plan_done(&r.plan);
    geometry_done(&r.geo);
    return r;
}

Test(fastest, no_number_of_nodes_that_was_tried_is_faster)
{
    struct net n;
    int32_t before = NODES + 1;
    make_net(&n);
    for (int32_t message_us = 1; message_us < 1000000; message_us *= 3) {
        struct plan_options o = options(message_us);
        const struct result r = fastest_of(&n, &o, 1);
        cr_assert_float_eq(r.f.estimate_us[r.f.nodes], r.us, 1e-6);
        for (int32_t k = 1; k <= NODES; k++)
            cr_assert(r.f.estimate_us[k] == 0 || r.f.estimate_us[k] >= r.us);
        for (int32_t i = 0; i < r.f.nodes; i++)
            cr_assert_eq(r.f.member[i], i, "the first of equals");
        cr_assert_leq(r.f.nodes, before, "the dearer messages are, the fewer nodes");
        before = r.f.nodes;
        if (message_us == 1)
            cr_assert_eq(r.f.nodes, NODES);
    }
    cr_assert_eq(before, 1);
    net_done(&n);
}

Test(fastest, the_strongest_nodes_are_kept)
{
    struct net n;
    make_net(&n);
    struct plan_options o = options(1000000);
    o.weight[2] = 1500;
    o.weight[6] = 3000;
    const struct result one = fastest_of(&n, &o, 1);
    cr_assert_eq(one.f.nodes, 1);
    cr_assert_eq(one.f.member[0], 6);
    cr_assert_eq(o.weight[0], 3000);
    /* Costs are still about an average one of all eight. */
    struct plan_options even = options(1000000);
    const struct result weaker = fastest_of(&n, &even, 1);
    cr_assert_lt(one.us, weaker.us);

    o = options(1000000);
    o.weight[2] = 1500;
    o.weight[6] = 3000;
    const struct result two = fastest_of(&n, &o, 2);
    cr_assert_geq(two.f.nodes, 2);
    cr_assert_eq(two.f.member[0], two.f.nodes == 2 ? 2 : 0);
    net_done(&n);
}

Test(fastest, options_out_of_range)
{
    struct net n;
    struct fastest f;
    struct geometry geo;
    struct plan p;
    make_net(&n);
    struct plan_options o = options(1);
    cr_assert_eq(fastest_plan(&f, &geo, &p, &n.g, &o, 0), -EINVAL);
    cr_assert_eq(fastest_plan(&f, &geo, &p, &n.g, &o, NODES + 1), -EINVAL);
    o.weight[3] = 0;
    cr_assert_eq(fastest_plan(&f, &geo, &p, &n.g, &o, 1), -EINVAL);
    o = options(1);
    o.nodes = PLAN_MAX_NODES + 1;
    cr_assert_eq(fastest_plan(&f, &geo, &p, &n.g, &o, 1), -EINVAL);
    net_done(&n);
}
