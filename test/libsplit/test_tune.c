/* Ways chosen by measuring: what is kept of them, what is refused, and that they change no result.
 */
#include "libsplit/tune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "libsplit/conv.h"
#include "net.h"

enum { OPS = 3, LINE_BYTES = 256 };

/* Two convolutions with a choice that matters, and one without. */
static void make_net(struct net *n)
{
    net_init(n, 1);
    const struct window same = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    const struct window point = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    const int32_t in = net_input(n, 28, 28, 64, 1);
    net_output(n, net_conv(n, net_conv(n, net_conv(n, in, 64, 1, same), 96, 1, same), 8, 1, point));
    cr_assert_eq(n->g.nops, OPS);
    cr_assert_eq(conv_choose_all(&n->g, NULL, conv_budget()), 0);
}

/* Is there a choice on this machine? */
static bool has_choice(const struct net *n)
{
    const struct conv c = conv_of(&n->g, &n->g.op[0]);
    return conv_is_free(&c, simd_best());
}

static void write_cache(const char *file, const char *key, const char *ways)
{
    FILE *f = fopen(file, "w");
    cr_assert_not_null(f);
    fprintf(f, "%s%s\n", key, ways);
    cr_assert_eq(fclose(f), 0);
}

/* The first line, newline included. */
static void read_key(const char *file, char key[LINE_BYTES])
{
    FILE *f = fopen(file, "r");
    cr_assert_not_null(f);
    cr_assert_not_null(fgets(key, LINE_BYTES, f));
    fclose(f);
}

Test(tune, no_time_changes_nothing)
{
    struct net n;
    uint8_t before[OPS], after[OPS];
    make_net(&n);
    graph_ways(&n.g, before);
    cr_assert_eq(graph_tune(&n.g, &(struct tune_options){ .limit_ms = -1 }), 0);
    graph_ways(&n.g, after);
    cr_assert_eq(memcmp(before, after, OPS), 0);
    net_done(&n);
}

Test(tune, measures_within_the_choice)
{
    struct net n;
    uint8_t ways[OPS];
    make_net(&n);
    cr_assert_geq(graph_tune(&n.g, &(struct tune_options){ .limit_ms = 60000 }), 0);
    graph_ways(&n.g, ways);
    for (int32_t i = 0; i < 2; i++)
        cr_assert(has_choice(&n) ? ways[i] >= CONV_DIRECT && ways[i] < CONV_WAYS
                                 : ways[i] == CONV_BY_COST);
    cr_assert_eq(ways[2], CONV_BY_COST);
    net_done(&n);
}

/* Results come from the file where it is for this network and machine, and only there. */
Test(tune, cache)
{
    struct net n;
    char file[] = "/tmp/splitd-tune-XXXXXX", key[LINE_BYTES];
    const int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    close(fd);
    const struct tune_options o = { .limit_ms = -1, .cache = file };
    make_net(&n);
    if (!has_choice(&n))
        cr_skip_test("no instruction set of ours");
    const uint8_t expected = n.g.op[0].u.conv.way;
    const enum conv_way other = expected == CONV_DIRECT ? CONV_WINOGRAD2 : CONV_DIRECT;
    cr_assert_eq(graph_tune(&n.g, &o), 0);
    read_key(file, key);

    char ways[] = "000";
    ways[0] = (char)('0' + other);
    ways[1] = (char)('0' + n.g.op[1].u.conv.way);
    write_cache(file, "of another machine\n", ways);
    cr_assert_eq(graph_tune(&n.g, &o), 0);
    write_cache(file, key, "9");
    cr_assert_eq(graph_tune(&n.g, &o), 0);
    write_cache(file, key, ways);
    cr_assert_eq(graph_tune(&n.g, &o), 1);
    cr_assert_eq(n.g.op[0].u.conv.way, other);
    cr_assert_eq(unlink(file), 0);
    net_done(&n);
}

Test(tune, ways_of_others_are_checked)
{
    struct net n;
    uint8_t ways[OPS + 1] = { CONV_WINOGRAD2, CONV_DIRECT, CONV_BY_COST };
    make_net(&n);
    cr_assert_eq(graph_set_ways(&n.g, ways, OPS - 1), -EPROTO);
    cr_assert_eq(graph_set_ways(&n.g, ways, OPS + 1), -EPROTO);
    cr_assert_eq(graph_set_ways(&n.g, ways, OPS), 0);
    if (has_choice(&n)) {
        cr_assert_eq(n.g.op[0].u.conv.way, CONV_WINOGRAD2);
        cr_assert_eq(n.g.op[1].u.conv.way, CONV_DIRECT);
    }
    ways[0] = CONV_WAYS;
    cr_assert_eq(graph_set_ways(&n.g, ways, OPS), -EPROTO);
    net_done(&n);
}

/* The ways of a convolution of `rows` rows, planned for `nodes` nodes. */
static enum conv_way way_in_bands(int32_t rows, int32_t nodes)
{
    const struct window same = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    struct net n;
    struct geometry geo;
    struct plan plan;
    uint8_t ways[1];
    net_init(&n, 1);
    net_output(&n, net_conv(&n, net_input(&n, rows, rows, 256, 1), 256, 1, same));
    cr_assert_eq(conv_choose_all(&n.g, NULL, conv_budget()), 0);
    cr_assert_eq(graph_geometry(&n.g, nodes, &geo), 0);
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    cr_assert_eq(plan_build(&plan, &geo, &o), 0);
    graph_ways_of_plan(&n.g, &plan, ways);
    if (nodes == 1)
        cr_assert_eq(ways[0], n.g.op[0].u.conv.way);
    plan_done(&plan);
    geometry_done(&geo);
    net_done(&n);
    return (enum conv_way)ways[0];
}

/* Sixteen tiles share the reading of the largest kernels; four of them do not pay for it. */
Test(tune, bands_are_computed_with_fewer_weights)
{
    const enum conv_way alone = way_in_bands(14, 1), fourth = way_in_bands(14, 4);
    cr_assert_leq(fourth, alone);
    if (alone == CONV_WINOGRAD4)
        cr_assert_lt(fourth, alone);
    cr_assert_eq(way_in_bands(112, 4), way_in_bands(112, 1), "bands of 28 rows are large enough");
    if (way_in_bands(28, 1) == CONV_WINOGRAD4)
        cr_assert_eq(way_in_bands(28, 7), CONV_WINOGRAD24, "lower tiles have fewer kernels");
}
