/* Buffers inside buffers. */
#include "libsplit/place.h"

#include <criterion/criterion.h>

#include "libsplit/exec.h"
#include "net.h"

static const struct window three = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };

static int32_t concat(struct net *n, int32_t a, int32_t b)
{
    const int32_t *da = n->tensor[a].dim, *db = n->tensor[b].dim, in[2] = { a, b };
    struct op *op = net_op(n, OP_CONCAT, 2, in, da[ROW], da[COL], da[CHAN] + db[CHAN]);
    op->u.concat.axis = CHAN;
    return op->output;
}

/* A net compiled for node 0 of `nodes`. */
struct compiled {
    struct net net;
    struct geometry geo;
    struct plan plan;
    struct program pr;
    struct place place[2 * NET_MAX_OPS];
};

static void compile(struct compiled *c, int32_t nodes)
{
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes, .policy = PLAN_EXCHANGE };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    cr_assert_eq(graph_geometry(&c->net.g, nodes, &c->geo), 0);
    cr_assert_eq(plan_build(&c->plan, &c->geo, &o), 0);
    cr_assert_eq(program_compile(&c->pr, &c->plan, 0), 0);
    cr_assert_eq(place_buffers(&c->net.g, &c->geo, &c->pr, c->place), 0);
}

static void compiled_done(struct compiled *c)
{
    program_done(&c->pr);
    plan_done(&c->plan);
    geometry_done(&c->geo);
    net_done(&c->net);
}

static int32_t index_of(const struct compiled *c, int32_t tensor)
{
    return (int32_t)(program_buffer(&c->pr, tensor) - c->pr.buffer);
}

static const struct place *of(const struct compiled *c, int32_t tensor)
{
    return &c->place[index_of(c, tensor)];
}

static bool lies_alone(const struct compiled *c, int32_t tensor)
{
    return of(c, tensor)->root == index_of(c, tensor) && of(c, tensor)->offset == 0;
}

Test(place, inputs_are_slices_of_a_concat)
{
    struct compiled c = { 0 };
    net_init(&c.net, 1);
    const int32_t in = net_input(&c.net, 8, 6, 3, 1);
    const int32_t a = net_conv(&c.net, in, 4, 1, three), b = net_conv(&c.net, in, 5, 1, three);
    const int32_t both = concat(&c.net, a, b);
    net_output(&c.net, net_conv(&c.net, both, 2, 1, three));
    compile(&c, 1);
    cr_assert(lies_alone(&c, in) && lies_alone(&c, both));
    cr_assert_eq(of(&c, a)->root, index_of(&c, both));
    cr_assert_eq(of(&c, a)->offset, 0);
    cr_assert_eq(of(&c, a)->pixel_stride, 9);
    cr_assert_eq(of(&c, a)->row_stride, 9 * 6);
    cr_assert_eq(of(&c, b)->root, index_of(&c, both));
    cr_assert_eq(of(&c, b)->offset, 4);
    compiled_done(&c);
}

/* On the first of two nodes the joined tensor also holds a received row, below its own. */
Test(place, slices_leave_room_for_received_rows)
{
    struct compiled c = { 0 };
    net_init(&c.net, 2);
    const int32_t in = net_input(&c.net, 8, 6, 3, 1);
    const int32_t a = net_conv(&c.net, in, 4, 1, three), b = net_conv(&c.net, in, 5, 1, three);
    const int32_t both = concat(&c.net, a, b);
    net_output(&c.net, net_conv(&c.net, both, 2, 1, three));
    compile(&c, 2);
    cr_assert_eq(box_len(program_buffer(&c.pr, both)->box, ROW), 5);
    cr_assert_eq(box_len(program_buffer(&c.pr, b)->box, ROW), 4);
    cr_assert_eq(of(&c, b)->root, index_of(&c, both));
    cr_assert_eq(of(&c, b)->image_stride, 9 * 6 * 5);
    compiled_done(&c);
}

Test(place, slices_of_slices)
{
    struct compiled c = { 0 };
    net_init(&c.net, 3);
    const int32_t in = net_input(&c.net, 8, 6, 3, 1);
    const int32_t a = net_conv(&c.net, in, 4, 1, three), b = net_conv(&c.net, in, 5, 1, three);
    const int32_t inner = concat(&c.net, a, b), d = net_conv(&c.net, inner, 7, 1, three);
    const int32_t outer = concat(&c.net, d, inner);
    net_output(&c.net, net_conv(&c.net, outer, 2, 1, three));
    compile(&c, 1);
    cr_assert_eq(of(&c, inner)->root, index_of(&c, outer));
    cr_assert_eq(of(&c, inner)->offset, 7);
    cr_assert_eq(of(&c, b)->root, index_of(&c, outer));
    cr_assert_eq(of(&c, b)->offset, 7 + 4);
    cr_assert_eq(of(&c, b)->pixel_stride, 16);
    compiled_done(&c);
}

/* An input of the network, the second of two equal inputs, and what a second Concat joins. */
Test(place, what_cannot_move_stays)
{
    struct compiled c = { 0 };
    net_init(&c.net, 4);
    const int32_t in = net_input(&c.net, 8, 6, 3, 1);
    const int32_t a = net_conv(&c.net, in, 4, 1, three);
    const int32_t twice = concat(&c.net, a, a), again = concat(&c.net, in, a);
    net_output(&c.net, concat(&c.net, twice, again));
    compile(&c, 1);
    cr_assert(lies_alone(&c, in));
    /* The Concat whose place was looked for first, the last one, got it. */
    cr_assert_eq(of(&c, a)->pixel_stride, 15);
    cr_assert_eq(of(&c, a)->offset, 8 + 3);
    compiled_done(&c);
}
