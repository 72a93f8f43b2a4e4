#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "daemon/speed.h"

enum { NODES = 4, TICK_MS = 20, FRAME_MS = 40 };

/* Four nodes that do their share of a frame in time, as fast as they are. */
struct world {
    struct speed s;
    double fast[NODES], noise;
    double tide, drift[NODES]; /* noise that lasts some frames */
    uint64_t frame_ms;
    double overhead_us; /* of a node's part of a frame, whatever its size */
    uint64_t now_ms;
    uint32_t seed;
    int changes;
};

static void open_world(struct world *w, const int32_t weight[NODES])
{
    static struct config c;

    c.nnodes = NODES;
    for (int i = 0; i < NODES; i++)
        c.node[i].weight = weight[i];
    *w = (struct world){ .now_ms = 5000, .seed = 1, .frame_ms = FRAME_MS };
    for (int i = 0; i < NODES; i++)
        w->fast[i] = weight[i];
    speed_init(&w->s, &c);
}

/* -1..1 */
static double chance(struct world *w)
{
    w->seed = w->seed * 1664525 + 1013904223;
    return (double)(w->seed >> 8) / (1 << 23) - 1;
}

static double share(const struct world *w, int node)
{
    double sum = 0;
    for (int i = 0; i < NODES; i++)
        sum += speed_weight(&w->s, i);
    return speed_weight(&w->s, node) / sum;
}

/* Microseconds that a frame takes. */
static double frame(struct world *w)
{
    double longest = 0;
    for (int i = 0; i < NODES; i++) {
        const double work = 100000 * share(w, i);
        w->drift[i] = 0.7 * w->drift[i] + w->tide * chance(w);
        const double spent =
            (w->overhead_us + work / w->fast[i]) * (1 + w->noise * chance(w) + w->drift[i]);
        speed_sample(&w->s, i, work, spent);
        longest = fmax(longest, spent);
    }
    return longest;
}

static void run(struct world *w, uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += TICK_MS) {
        w->now_ms += TICK_MS;
        if (w->now_ms % w->frame_ms == 0)
            frame(w);
        w->changes += speed_tick(&w->s, 15, w->now_ms);
    }
}

Test(speed, nodes_as_the_file_says_are_left_alone)
{
    struct world w;
    open_world(&w, (int32_t[]){ 1, 2, 1, 3 });
    w.noise = 0.3;
    run(&w, 600000);
    cr_expect_eq(w.changes, 0);
    cr_expect_eq(speed_weight(&w.s, 3), 3 * speed_weight(&w.s, 0));
}

/* Frames that take as long as the period of a quota: by where in it they begin, times differ by
 * half, and do so for a while. */
static void open_tidal_world(struct world *w)
{
    open_world(w, (int32_t[]){ 1, 1, 1, 1 });
    w->noise = 0.3;
    w->tide = 0.25;
    w->frame_ms = 100;
}

Test(speed, equal_nodes_that_scatter_are_left_alone)
{
    struct world w;
    open_tidal_world(&w);
    run(&w, 1200000);
    cr_expect_eq(w.changes, 0, "%d changes in twenty minutes", w.changes);
}

Test(speed, a_slow_node_is_found_among_those_that_scatter)
{
    struct world w;
    open_tidal_world(&w);
    run(&w, 60000);
    w.fast[2] = 0.4;
    run(&w, 15000);
    cr_expect_geq(w.changes, 1);
    cr_expect_lt(share(&w, 2), 0.18);
}

Test(speed, a_slow_node_gets_less_and_later_more_again)
{
    struct world w;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    w.noise = 0.1;
    run(&w, 10000);
    const double before = frame(&w);
    w.fast[2] = 0.4;
    const double slow = frame(&w);
    cr_expect_gt(slow, 2 * before);
    run(&w, 1800);
    cr_expect_eq(w.changes, 0, "not for less than two seconds");
    run(&w, 4000);
    cr_expect_eq(w.changes, 1);
    /* 3.4 nodes of work are left of 4. */
    cr_expect_lt(frame(&w), 1.35 * before);
    run(&w, 60000);
    cr_expect_leq(w.changes, 2);

    w.fast[2] = 1;
    run(&w, 40000);
    cr_expect_lt(frame(&w), 1.35 * before);
    cr_expect_leq(w.changes, 10);
}

/* A processor with a quota: as fast as ever until it is used up. */
Test(speed, a_quota_does_not_make_rows_swing)
{
    struct world w;
    double longest = 0;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    for (int i = 0; i < 3000; i++) {
        w.fast[2] = share(&w, 2) > 0.1 ? 0.3 : 1;
        run(&w, 100);
        if (i >= 1000)
            longest += frame(&w) / 2000;
    }
    cr_expect_leq(w.changes, 30, "%d changes in five minutes", w.changes);
    cr_expect_lt(longest, 50000, "%g us where even rows take 83000", longest);
}

Test(speed, a_moment_is_no_change)
{
    struct world w;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    for (int i = 0; i < 50; i++) {
        w.fast[1] = 0.3;
        run(&w, 700);
        w.fast[1] = 1;
        run(&w, 5000);
    }
    cr_expect_eq(w.changes, 0);
}

/* What comes and goes moves rows ever more rarely. */
Test(speed, changes_keep_ever_more_distance)
{
    struct world w;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    for (int i = 0; i < 60; i++) {
        w.fast[1] = i % 2 ? 1 : 0.3;
        run(&w, 10000);
    }
    cr_expect_leq(w.changes, 25, "%d changes in ten minutes", w.changes);
}

Test(speed, overhead_does_not_starve_a_node)
{
    struct world w;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    w.overhead_us = 20000; /* as much as the work */
    w.fast[0] = 0.5;
    run(&w, 300000);
    cr_expect_gt(share(&w, 0), 0.05);
    cr_expect_leq(w.changes, 5);
}

Test(speed, without_frames_nothing_happens)
{
    struct world w;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    w.fast[1] = 0.1;
    for (int i = 0; i < 1000; i++)
        cr_expect_not(speed_tick(&w.s, 15, 5000 + (uint64_t)i * 20));
    speed_forget(&w.s, 60000);
    cr_expect_eq(w.s.seen[1], 0);
}

/* A plan may leave a node out. */
Test(speed, a_node_without_work_keeps_nobody_from_being_judged)
{
    struct world w;
    bool changed = false;
    open_world(&w, (int32_t[]){ 1, 1, 1, 1 });
    for (int i = 0; i < 1000; i++) {
        for (int n = 0; n < 3; n++)
            speed_sample(&w.s, n, 1000, n == 1 ? 10000 : 1000);
        changed = speed_tick(&w.s, 15, 30000 + (uint64_t)i * 20) || changed;
    }
    cr_expect(changed);
    cr_expect_lt(speed_weight(&w.s, 1), speed_weight(&w.s, 0) / 2);
    cr_expect_eq(w.s.seen[3], 0);
}
