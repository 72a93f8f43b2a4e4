#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { ROUNDS = 3000 };

Test(plan_cut, bands_touch_and_are_proportional)
{
    struct rng r = { 1 };
    for (int round = 0; round < 20000; round++) {
        const int32_t nodes = rng_int(&r, 1, PLAN_MAX_NODES);
        const int32_t rows = rng_chance(&r, 5) ? BOX_MAX_EXTENT : rng_int(&r, 1, 300);
        int32_t weight[PLAN_MAX_NODES];
        int64_t total = 0;
        for (int32_t n = 0; n < nodes; n++)
            total += weight[n] = rng_int(&r, 1, rng_chance(&r, 50) ? 5 : 1000000);

        cr_assert_eq(plan_cut(weight, nodes, rows, 0), 0);
        cr_assert_eq(plan_cut(weight, nodes, rows, nodes), rows);
        for (int32_t n = 0; n < nodes; n++) {
            const int64_t len =
                plan_cut(weight, nodes, rows, n + 1) - plan_cut(weight, nodes, rows, n);
            const int64_t error = len * total - (int64_t)rows * weight[n];
            cr_assert(len >= 0);
            cr_assert(error > -total && error < total, "less than a row from its share");
        }
    }
}

Test(plan_cut, thirteen_columns_on_six_nodes)
{
    const int32_t weight[] = { 1, 1, 1, 1, 1, 1 }, want[] = { 0, 2, 4, 6, 8, 10, 13 };
    for (int32_t n = 0; n <= 6; n++)
        cr_assert_eq(plan_cut(weight, 6, 13, n), want[n]);
}

Test(plan_cut, at_the_nearest_multiple)
{
    const int32_t weight[] = { 1, 1, 1, 1 }, want[] = { 0, 4, 8, 12, 14 };
    for (int32_t n = 0; n <= 4; n++)
        cr_assert_eq(plan_cut_aligned(weight, 4, 14, n, 4), want[n]);
    struct rng r = { 2 };
    for (int round = 0; round < 20000; round++) {
        const int32_t nodes = rng_int(&r, 1, PLAN_MAX_NODES), align = rng_int(&r, 1, 9);
        const int32_t rows = rng_chance(&r, 5) ? BOX_MAX_EXTENT : rng_int(&r, 1, 300);
        int32_t w[PLAN_MAX_NODES], last = 0;
        for (int32_t n = 0; n < nodes; n++)
            w[n] = rng_int(&r, 1, 5);
        for (int32_t n = 0; n <= nodes; n++) {
            const int32_t at = plan_cut_aligned(w, nodes, rows, n, align);
            cr_assert(at >= last && (at % align == 0 || at == rows));
            cr_assert(at == rows || abs(at - plan_cut(w, nodes, rows, n)) <= align / 2 + 1);
            last = at;
        }
        cr_assert_eq(last, rows);
    }
}

/* Operators compute several rows together, in one way or another. */
static void ways_at_random(struct net *net, uint64_t seed)
{
    struct rng r = { ~seed };
    for (int32_t o = 0; o < net->g.nops; o++) {
        struct geo_op *op = &net->g.op[o];
        op->nways = rng_int(&r, 0, GEO_MAX_WAYS);
        for (int32_t w = 0; w < op->nways; w++)
            op->way[w] = (struct geo_way){ .row_unit = rng_int(&r, 0, 4),
                                           .row_more = rng_int(&r, 0, 2),
                                           .work = rng_int(&r, 0, 1000000),
                                           .band_work = rng_int(&r, 0, 100000),
                                           .weight_bytes = rng_int(&r, 0, 1000000) };
    }
    cr_assert_eq(geometry_check(&net->g), 0);
}

/* The main property: whatever the network, the cuts and the number of nodes, the plan keeps
 * its invariant and the programs compute what one computer does. */
Test(plan, any_network_on_any_nodes_gives_what_one_gives, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct rng r = { seed };
        const int32_t nodes = rng_int(&r, 1, PLAN_MAX_NODES);
        struct net net;
        uint64_t cut_seed;
        struct plan p;
        net_random(&net, &r, nodes);
        ways_at_random(&net, seed);
        const struct plan_options o = net_options(&r, nodes, &cut_seed);

        int32_t tensor = -1;
        cr_assert_eq(plan_build(&p, &net.g, &o), 0, "seed %d", (int)seed);
        cr_assert_eq(plan_check(&p, &tensor), 0, "seed %d: tensor %d", (int)seed, tensor);
        const char *wrong = sim_cluster(&net, &p);
        cr_assert_null(wrong, "seed %d: %s", (int)seed, wrong);
        plan_done(&p);
        net_done(&net);
    }
}

/* Is the part of its output that the step computes made of rows that are computed together anyway,
 * counted from the first that the node computes? */
static bool step_is_aligned(const struct plan *p, int32_t node, const struct step *s)
{
    if (s->kind != STEP_RUN || p->geo->op[s->what].kind == GEO_PARTIAL)
        return true;
    const int32_t unit = geometry_row_unit(p->geo, s->what);
    const struct box all = plan_share(p, p->geo->op[s->what].out, node)->run;
    return (s->box.lo[ROW] - all.lo[ROW]) % unit == 0 &&
           ((s->box.hi[ROW] - all.lo[ROW]) % unit == 0 || s->box.hi[ROW] == all.hi[ROW]);
}

Test(plan, pieces_of_an_operator_are_rows_computed_together)
{
    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct rng r = { seed };
        struct net net;
        struct plan p;
        struct plan_options o = { .nodes = rng_int(&r, 1, PLAN_MAX_NODES) };
        net_random(&net, &r, o.nodes);
        ways_at_random(&net, seed);
        for (int32_t n = 0; n < o.nodes; n++)
            o.weight[n] = rng_int(&r, 1, 3);
        cr_assert_eq(plan_build(&p, &net.g, &o), 0);
        for (int32_t n = 0; n < o.nodes; n++) {
            struct program pr;
            cr_assert_eq(program_compile(&pr, &p, n), 0);
            for (int32_t s = 0; s < pr.nsteps; s++)
                cr_assert(step_is_aligned(&p, n, &pr.step[s]), "seed %d, step %d", (int)seed, s);
            program_done(&pr);
        }
        plan_done(&p);
        net_done(&net);
    }
}

static void grow(struct box *b, struct rng *r, const int32_t dim[AXES])
{
    const int x = rng_int(r, 0, AXES - 1);
    if (b->hi[x] < dim[x])
        b->hi[x]++;
    else if (b->lo[x] > 0)
        b->lo[x]--;
}

static void shrink(struct box *b, struct rng *r)
{
    const int x = rng_int(r, 0, AXES - 1);
    if (rng_chance(r, 50))
        b->lo[x]++;
    else
        b->hi[x]--;
}

static void shift(struct box *b, struct rng *r)
{
    const int x = rng_int(r, 0, AXES - 1);
    const int32_t by = rng_chance(r, 50) ? 1 : -1;
    b->lo[x] += by;
    b->hi[x] += by;
}

/* Breaks `p` in one place.  Returns false if it chose a place that it cannot break. */
static bool inject_fault(struct plan *p, struct rng *r)
{
    const int32_t t = rng_int(r, 0, p->geo->ntensors - 1), n = rng_int(r, 0, p->nodes);
    struct plan_share *s = &p->share[(int64_t)t * (p->nodes + 1) + n];
    struct plan_transfer *m = p->ntransfers ? &p->transfer[rng_int(r, 0, p->ntransfers - 1)] : NULL;
    const struct box before = s->own;

    switch (rng_int(r, 0, 10)) {
    case 0:
        grow(&s->own, r, p->geo->tensor[t].dim);
        return !box_equal(before, s->own);
    case 1:
        shrink(&s->own, r);
        return !box_empty(before);
    case 2:
        shift(&s->own, r);
        return !box_empty(before);
    case 3:
        if (box_empty(s->run))
            return false;
        s->run = box_none();
        return !box_empty(before);
    case 4:
        if (box_empty(s->want))
            return false;
        shrink(&s->want, r);
        return true;
    case 5:
        if (box_empty(s->part))
            return false;
        shrink(&s->part, r);
        return true;
    case 6:
        if (box_empty(s->part))
            return false;
        shift(&s->part, r);
        return true;
    default:
        if (!m)
            return false;
    }
    switch (rng_int(r, 0, 5)) {
    case 0:
        *m = p->transfer[--p->ntransfers]; /* drops the last, doubles it or reorders */
        return true;
    case 1:
        shift(&m->box, r);
        return true;
    case 2:
        shrink(&m->box, r);
        return true;
    case 3:
        if (p->ntransfers == 1)
            return false;
        *m = m == p->transfer ? m[1] : m[-1];
        return true;
    case 4:
        m->from = (int16_t)((m->from + rng_int(r, 1, p->nodes)) % (p->nodes + 1));
        return true;
    default:
        m->to = (int16_t)((m->to + rng_int(r, 1, p->nodes)) % (p->nodes + 1));
        return true;
    }
}

Test(plan, check_finds_every_injected_fault)
{
    int faults = 0;
    for (uint64_t seed = 1; seed <= 5000; seed++) {
        struct rng r = { seed };
        const int32_t nodes = rng_int(&r, 1, PLAN_MAX_NODES);
        struct net net;
        uint64_t cut_seed;
        struct plan p;
        net_random(&net, &r, nodes);
        const struct plan_options o = net_options(&r, nodes, &cut_seed);
        cr_assert_eq(plan_build(&p, &net.g, &o), 0);

        if (inject_fault(&p, &r)) {
            int32_t tensor = -1;
            faults++;
            cr_assert_eq(plan_check(&p, &tensor), -EPROTO, "seed %d", (int)seed);
            cr_assert(tensor >= 0 && tensor < net.g.ntensors);
        }
        plan_done(&p);
        net_done(&net);
    }
    cr_assert_gt(faults, 2000);
}

/* A plan that exchanges whatever is missing. */
static struct plan plan_of(const struct net *net, struct plan_options o)
{
    struct plan p;
    o.policy = PLAN_EXCHANGE;
    o.nodes = net->g.nodes;
    for (int32_t n = 0; n < o.nodes; n++)
        o.weight[n] = o.weight[n] ? o.weight[n] : 1;
    cr_assert_eq(plan_build(&p, &net->g, &o), 0);
    cr_assert_eq(plan_check(&p, NULL), 0);
    const char *wrong = sim_cluster(net, &p);
    cr_assert_null(wrong, "%s", wrong);
    return p;
}

/* Faults that leave all counts of values right. */

static struct net three_bands(int32_t *map)
{
    struct net net;
    net_init(&net, 3);
    *map = net_conv(&net, net_input(&net, 9, 4, 2), 1, 1, 0, 0);
    net_conv(&net, *map, 3, 1, 1, 0);
    net_finish(&net);
    return net;
}

static struct plan_transfer *transfer_of(const struct plan *p, int32_t tensor, int32_t from,
                                         int32_t to)
{
    for (int32_t i = 0; i < p->ntransfers; i++)
        if (p->transfer[i].tensor == tensor && p->transfer[i].from == from &&
            p->transfer[i].to == to)
            return &p->transfer[i];
    cr_assert_fail("no such transfer");
    return NULL;
}

Test(plan, check_refuses_a_message_to_oneself)
{
    int32_t map;
    struct net net = three_bands(&map);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    struct plan_transfer *m = transfer_of(&p, map, 0, 1);
    m->from = 1;
    m->box = box_rows(m->box, 3, 4);
    cr_assert_eq(plan_check(&p, NULL), -EPROTO);
    plan_done(&p);
    net_done(&net);
}

Test(plan, check_refuses_the_same_rows_twice)
{
    int32_t map;
    struct net net = three_bands(&map);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    *transfer_of(&p, map, 2, 1) = *transfer_of(&p, map, 0, 1);
    cr_assert_eq(plan_check(&p, NULL), -EPROTO);
    plan_done(&p);
    net_done(&net);
}

Test(plan, check_refuses_a_message_too_many)
{
    int32_t map;
    struct net net = three_bands(&map);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    const size_t count = (size_t)p.ntransfers;
    p.transfer = realloc(p.transfer, (count + 1) * sizeof(*p.transfer));
    cr_assert_not_null(p.transfer);
    p.transfer[count] = p.transfer[0];
    p.ntransfers++;
    cr_assert_eq(plan_check(&p, NULL), -EPROTO);
    plan_done(&p);
    net_done(&net);
}

static void drop(struct plan *p, struct plan_transfer *m)
{
    memmove(m, m + 1, (size_t)(p->transfer + p->ntransfers - m - 1) * sizeof(*m));
    p->ntransfers--;
}

/* A node cannot compute an input of the network. */
Test(plan, check_refuses_an_input_from_nowhere)
{
    int32_t map;
    struct net net = three_bands(&map);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    p.share[0].run = p.share[0].want;
    drop(&p, transfer_of(&p, 0, p.nodes, 0));
    cr_assert_eq(plan_check(&p, NULL), -EPROTO);
    plan_done(&p);
    net_done(&net);
}

Test(plan, check_refuses_to_forget_an_output)
{
    int32_t map;
    struct net net = three_bands(&map);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    const int32_t out = map + 1;
    p.share[out * (p.nodes + 1) + p.nodes].want = box_none();
    for (int32_t n = 0; n < p.nodes; n++)
        drop(&p, transfer_of(&p, out, n, p.nodes));
    cr_assert_eq(plan_check(&p, NULL), -EPROTO);
    plan_done(&p);
    net_done(&net);
}

/* A node's share of a reduction goes to the row of its own number. */
Test(plan, check_refuses_another_nodes_row)
{
    struct net net;
    net_init(&net, 2);
    const int32_t shares = net_reduce(&net, net_input(&net, 9, 4, 2)) - 1;
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    struct plan_share *s = &p.share[shares * (p.nodes + 1)];
    s[0].own = s[0].run = box_rows(s[0].own, 1, 2);
    s[1].own = s[1].run = box_rows(s[1].own, 0, 1);
    transfer_of(&p, shares, 1, 0)->box = s[1].own;
    cr_assert_eq(plan_check(&p, NULL), -EPROTO);
    plan_done(&p);
    net_done(&net);
}

Test(plan, halo_of_a_convolution)
{
    struct net net;
    net_init(&net, 2);
    const int32_t in = net_input(&net, 8, 4, 2);
    const int32_t a = net_conv(&net, in, 3, 1, 1, 0), b = net_conv(&net, a, 3, 1, 1, 0);
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ .weight = { 3, 1 } });

    const struct box all = geometry_whole(&net.g, a);
    cr_assert(box_equal(plan_share(&p, a, 0)->own, box_rows(all, 0, 6)));
    cr_assert(box_equal(plan_share(&p, a, 0)->want, box_rows(all, 0, 7)));
    cr_assert(box_equal(plan_share(&p, a, 1)->run, box_rows(all, 6, 8)));
    cr_assert(box_equal(plan_share(&p, a, 1)->want, box_rows(all, 5, 8)));
    cr_assert(box_equal(plan_share(&p, b, p.nodes)->want, all));

    struct plan_traffic t;
    plan_traffic(&p, &t);
    cr_assert_eq(t.halo_messages, 2);
    cr_assert_eq(t.halo_values, 2 * 4 * 2);
    cr_assert_eq(t.host_messages, 4);
    cr_assert_eq(t.host_values, (7 + 3 + 8) * 4 * 2);
    plan_done(&p);
    net_done(&net);
}

/* Squeeze-and-excite: the nodes exchange partial sums and nothing else. */
Test(plan, small_layers_behind_a_reduction_are_replicated)
{
    enum { NODES = 3, CHANS = 2 };
    struct net net;
    net_init(&net, NODES);
    const int32_t map = net_conv(&net, net_input(&net, 9, 4, CHANS), 1, 1, 0, 0);
    const int32_t small = net_dense(&net, net_reduce(&net, map), 1000);
    net_binary(&net, map, small);
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ .weight = { 1, 2, 1 } });

    const struct box all = geometry_whole(&net.g, small);
    for (int32_t n = 0; n < NODES; n++) {
        cr_assert(box_equal(plan_share(&p, small, n)->run, all));
        cr_assert(box_equal(plan_share(&p, small, n)->own, n == 1 ? all : box_none()));
    }
    struct plan_traffic t;
    plan_traffic(&p, &t);
    cr_assert_eq(t.halo_messages, NODES * (NODES - 1));
    cr_assert_eq(t.halo_values, NODES * (NODES - 1) * CHANS);
    plan_done(&p);
    net_done(&net);
}

/* The tail of a classifier runs on the strongest node alone, and nobody repeats it. */
Test(plan, a_tail_runs_once)
{
    struct net net;
    net_init(&net, 4);
    const int32_t map = net_conv(&net, net_input(&net, 8, 8, 2), 3, 1, 1, 0);
    const int32_t a = net_dense(&net, map, (int64_t)100 << 20), b = net_dense(&net, a, 10);
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ .weight = { 1, 2, 5, 5 } });
    for (int32_t n = 0; n < 4; n++) {
        cr_assert_eq(box_empty(plan_share(&p, a, n)->run), n != 2);
        cr_assert_eq(box_empty(plan_share(&p, b, n)->run), n != 2);
    }
    plan_done(&p);
    net_done(&net);
}

/* A layer whose weights are large is not repeated: its result is sent. */
Test(plan, large_weights_are_not_replicated)
{
    struct net net;
    net_init(&net, 2);
    const int32_t map = net_input(&net, 8, 4, 2);
    const int32_t large = net_dense(&net, net_reduce(&net, map), ((int64_t)4 << 20) + 1);
    net_binary(&net, map, large);
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    cr_assert_not(box_empty(plan_share(&p, large, 0)->run));
    cr_assert(box_empty(plan_share(&p, large, 1)->run));
    cr_assert_not(box_empty(plan_share(&p, large, 1)->want));
    plan_done(&p);
    net_done(&net);
}

Test(plan, whole_placement_leaves_the_others_idle)
{
    struct net net;
    net_init(&net, 3);
    net_conv(&net, net_conv(&net, net_input(&net, 9, 4, 2), 3, 2, 1, 0), 3, 1, 1, 0);
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ .placement = PLAN_WHOLE, .whole = 1 });
    struct plan_traffic t;
    plan_traffic(&p, &t);
    cr_assert_eq(t.halo_messages, 0);
    cr_assert_eq(t.host_messages, 2);
    plan_done(&p);
    net_done(&net);
}

Test(plan, a_halo_wider_than_bands_comes_from_all_its_owners)
{
    struct net net;
    net_init(&net, 16);
    const int32_t map = net_conv(&net, net_input(&net, 20, 2, 1), 1, 1, 0, 0);
    net_conv(&net, map, 13, 1, 6, 0);
    net_finish(&net);
    struct plan p = plan_of(&net, (struct plan_options){ 0 });
    int32_t senders = 0;
    for (int32_t i = 0; i < p.ntransfers; i++)
        senders += p.transfer[i].tensor == map && p.transfer[i].to == 8;
    cr_assert_gt(senders, 8);
    plan_done(&p);
    net_done(&net);
}

static int32_t cut_from_table(void *table, int32_t tensor, int32_t rows_of_map, int32_t n)
{
    (void)tensor;
    (void)rows_of_map;
    return ((const int32_t *)table)[n];
}

Test(plan, cuts_must_rise_to_the_last_row)
{
    struct net net;
    struct plan p;
    net_init(&net, 3);
    net_conv(&net, net_input(&net, 9, 4, 2), 1, 1, 0, 0);
    net_finish(&net);
    int32_t falls[] = { 0, 5, 3, 9 }, ends_early[] = { 0, 3, 5, 8 }, ends_late[] = { 0, 3, 5, 10 };
    int32_t starts_below[] = { 0, -1, 5, 9 }, good[] = { 0, 0, 9, 9 };
    int32_t *const bad[] = { falls, ends_early, ends_late, starts_below };
    struct plan_options o = { .nodes = 3, .weight = { 1, 1, 1 }, .cut = cut_from_table };
    for (int i = 0; i < 4; i++) {
        o.cut_ctx = bad[i];
        cr_assert_eq(plan_build(&p, &net.g, &o), -EINVAL, "table %d", i);
    }
    o.cut_ctx = good;
    cr_assert_eq(plan_build(&p, &net.g, &o), 0);
    cr_assert_null(sim_cluster(&net, &p));
    plan_done(&p);
    net_done(&net);
}

Test(plan, options_out_of_range)
{
    struct net net;
    struct plan p;
    net_init(&net, 2);
    net_conv(&net, net_input(&net, 8, 4, 2), 3, 1, 1, 0);
    net_finish(&net);
    const struct plan_options good = { .nodes = 2, .weight = { 1, 1000000 } };
    struct plan_options o = good;

#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        o = good;                                                                                  \
        o.field = (value);                                                                         \
        cr_assert_eq(plan_build(&p, &net.g, &o), -EINVAL, #field " = " #value);                    \
    } while (0)

    REFUSED(nodes, 0);
    REFUSED(nodes, 1); /* the geometry is for 2 */
    REFUSED(nodes, PLAN_MAX_NODES + 1);
    REFUSED(weight[1], 0);
    REFUSED(weight[0], 1000001);
    REFUSED(placement, 9);
    REFUSED(policy, PLAN_RECOMPUTE + 1);
    o = good;
    o.placement = PLAN_WHOLE;
    o.whole = 2;
    cr_assert_eq(plan_build(&p, &net.g, &o), -EINVAL);
#undef REFUSED
    cr_assert_eq(plan_build(&p, &net.g, &good), 0);
    plan_done(&p);
    net_done(&net);
}

static int32_t missing(const struct plan *p, int32_t tensor)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->ntransfers; i++)
        n += p->transfer[i].tensor == tensor && plan_may_miss(p, &p->transfer[i]);
    return n;
}

static enum axis channels_from_ctx(void *ctx, int32_t tensor)
{
    return tensor == *(const int32_t *)ctx ? CHAN : ROW;
}

/* Only rows beside a node's own may be made up from them. */
Test(plan, only_border_rows_may_miss)
{
    enum { NODES = 3 };
    struct net net;
    struct plan p;
    net_init(&net, NODES);
    const int32_t in = net_input(&net, 24, 6, 48);
    const int32_t a = net_conv(&net, in, 3, 1, 1, 0), b = net_conv(&net, a, 3, 1, 1, 0);
    const int32_t c = net_conv(&net, b, 3, 1, 1, 0);
    const int32_t share = c + 1, sum = net_reduce(&net, c);
    const int32_t dense = net_dense(&net, c, 0);
    (void)net_binary(&net, sum, dense);
    net_finish(&net);
    bool may_miss[NET_MAX_TENSORS];
    for (int t = 0; t < NET_MAX_TENSORS; t++)
        may_miss[t] = true;
    may_miss[a] = false;
    struct plan_options o = { .nodes = NODES, .weight = { 1, 1, 1 }, .policy = PLAN_EXCHANGE };

    cr_assert_eq(plan_build(&p, &net.g, &o), 0);
    cr_assert_eq(missing(&p, b), 0, "nothing may unless it is said");
    plan_done(&p);

    o.may_miss = may_miss;
    cr_assert_eq(plan_build(&p, &net.g, &o), 0);
    cr_assert_eq(missing(&p, in), 0, "the host is waited for");
    cr_assert_eq(missing(&p, a), 0, "it holds something else than values");
    cr_assert_eq(missing(&p, b), 2 * (NODES - 1), "both neighbours of every cut");
    cr_assert_eq(missing(&p, c), 0, "one node gathers it whole");
    cr_assert_eq(missing(&p, share), 0, "a share of a sum is no row");
    cr_assert_eq(missing(&p, sum), 0);
    for (int32_t n = 0; n <= NODES; n++) { /* sender and receiver know the same */
        struct program pr;
        cr_assert_eq(program_compile(&pr, &p, n), 0);
        for (int32_t i = 0; i < pr.nsteps; i++)
            if (pr.step[i].kind != STEP_RUN)
                cr_assert_eq(pr.step[i].may_miss,
                             plan_may_miss(&p, &p.transfer[pr.step[i].transfer]));
        program_done(&pr);
    }
    plan_done(&p);

    /* Who holds some channels of all rows waits for the others, and so does who reads them. */
    for (int32_t t = b; t <= c; t++) {
        o.placement = PLAN_MIXED;
        o.along = channels_from_ctx;
        o.cut_ctx = (void *)&t;
        cr_assert_eq(plan_build(&p, &net.g, &o), 0);
        cr_assert_eq(missing(&p, b), 0, "%d by channels", t);
        plan_done(&p);
    }
    net_done(&net);
}

static int32_t all_but_the_last_map_on_node_0(void *ctx, int32_t tensor, int32_t rows, int32_t n)
{
    (void)ctx;
    return n == 0 ? 0 : n == 1 && tensor == 2 ? rows / 2 : rows;
}

/* A map behind it may have rows on nodes that hold none of it. */
Test(plan, a_node_without_rows_may_miss_them)
{
    struct net net;
    struct plan p;
    net_init(&net, 2);
    const int32_t in = net_input(&net, 16, 4, 4), a = net_conv(&net, in, 3, 1, 1, 0);
    (void)net_conv(&net, a, 3, 1, 1, 0);
    net_finish(&net);
    const bool may_miss[NET_MAX_TENSORS] = { [1] = true };
    struct plan_options o = { .nodes = 2,
                              .weight = { 1, 1 },
                              .policy = PLAN_EXCHANGE,
                              .may_miss = may_miss,
                              .cut = all_but_the_last_map_on_node_0 };
    cr_assert_eq(plan_build(&p, &net.g, &o), 0);
    cr_assert_eq(missing(&p, a), 1);
    plan_done(&p);
    net_done(&net);
}
