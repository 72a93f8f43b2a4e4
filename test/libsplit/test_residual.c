/* A convolution that takes over the sum behind it: the same values, one operator less. */
#include "libsplit/passes.h"

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "libsplit/kernel.h"
#include "libsplit/session.h"
#include "net.h"

static const struct window three = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };

static int32_t sum(struct net *n, int32_t a, int32_t b, enum act_kind act)
{
    const int32_t *dim = n->tensor[a].dim, in[2] = { a, b };
    struct op *op = net_op(n, OP_BINARY, 2, in, dim[ROW], dim[COL], dim[CHAN]);
    op->u.binary.kind = BINARY_ADD;
    op->act.kind = act;
    return op->output;
}

/* The only output, on `nodes` nodes; free() it. */
static float *answer(struct net *n, const float *input, int32_t nodes)
{
    struct split_session *s = NULL;
    struct diag why = { "" };
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    cr_assert_eq(session_open_graph(&s, &n->g, &o, NULL, &why), 0, "%s", why.text);
    float *out = calloc((size_t)net_values(n, n->out[0].tensor), sizeof(float));
    cr_assert_not_null(out);
    cr_assert_eq(split_run(s, &input, &out, NULL, &why), 0, "%s", why.text);
    split_close(s);
    graph_unpack(&n->g);
    return out;
}

/* Runs the pass: `operators` are left and the answer stays, on one node and on three. */
static void expect(struct net *n, int32_t operators)
{
    const size_t bytes = (size_t)net_values(n, n->out[0].tensor) * sizeof(float);
    const float *input = net_floats(n, net_values(n, n->in[0].tensor));
    float *before = answer(n, input, 1);
    cr_assert_eq(pass_residual(&n->g), 0);
    cr_assert_eq(pass_dead(&n->g), 0);
    cr_assert_eq(n->g.nops, operators);
    for (int32_t nodes = 1; nodes <= 3; nodes += 2) {
        float *after = answer(n, input, nodes);
        cr_assert_eq(memcmp(before, after, bytes), 0, "%d nodes", (int)nodes);
        free(after);
    }
    free(before);
    net_done(n);
}

Test(residual, around_a_convolution)
{
    struct net n;
    net_init(&n, 1);
    const int32_t in = net_input(&n, 13, 9, 24, 2);
    const int32_t a = net_conv(&n, in, 24, 1, three);
    net_output(&n, sum(&n, a, in, ACT_RELU));
    expect(&n, 1);
    cr_assert_eq(n.op[0].type, OP_CONV);
    cr_assert_eq(n.op[0].act.kind, ACT_RELU);
}

/* The sum stands behind both, so whichever takes it over finds the other there. */
Test(residual, of_two_convolutions_one_stays)
{
    for (int32_t swap = 0; swap < 2; swap++) {
        struct net n;
        net_init(&n, 2);
        const int32_t in = net_input(&n, 12, 12, 20, 1);
        const int32_t a = net_conv(&n, in, 40, 1, three), b = net_conv(&n, in, 40, 1, three);
        net_output(&n, swap ? sum(&n, b, a, ACT_NONE) : sum(&n, a, b, ACT_NONE));
        expect(&n, 2);
    }
}

Test(residual, depthwise_and_grouped)
{
    for (int32_t group = 5; group <= 20; group += 15) {
        struct net n;
        net_init(&n, 3);
        const int32_t in = net_input(&n, 12, 12, 20, 1);
        const int32_t a = net_conv(&n, in, 20, group, three);
        net_output(&n, sum(&n, in, a, ACT_SIGMOID));
        expect(&n, 1);
    }
}

Test(residual, not_what_others_read_too)
{
    struct net n;
    net_init(&n, 4);
    const int32_t in = net_input(&n, 12, 12, 20, 1), a = net_conv(&n, in, 20, 1, three);
    net_output(&n, sum(&n, sum(&n, a, in, ACT_RELU), a, ACT_NONE));
    expect(&n, 3);
}

Test(residual, not_behind_an_activation)
{
    struct net n;
    net_init(&n, 5);
    const int32_t in = net_input(&n, 12, 12, 20, 1), a = net_conv(&n, in, 20, 1, three);
    n.op[0].act.kind = ACT_RELU;
    net_output(&n, sum(&n, a, in, ACT_NONE));
    expect(&n, 2);
}

Test(residual, not_where_one_side_is_spread)
{
    struct net n;
    net_init(&n, 6);
    const struct window row = { { 1, 12 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    const int32_t in = net_input(&n, 12, 12, 20, 1);
    const int32_t a = net_conv(&n, in, 20, 1, row); /* one column */
    net_output(&n, sum(&n, in, a, ACT_NONE));
    expect(&n, 2);
}

Test(residual, not_twice_the_same)
{
    struct net n;
    net_init(&n, 7);
    const int32_t in = net_input(&n, 12, 12, 20, 1), a = net_conv(&n, in, 20, 1, three);
    net_output(&n, sum(&n, a, a, ACT_NONE));
    expect(&n, 2);
}
