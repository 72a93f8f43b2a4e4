#include "libsplit/pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "chain.h"
#include "libsplit/cut.h"
#include "libsplit/session.h"

static struct pool *make_pool(int32_t threads, int64_t part_work)
{
    struct pool *p = NULL;
    struct diag why = { "" };
    cr_assert_eq(pool_new(&p, threads, part_work, &why), 0, "%s", why.text);
    return p;
}

/* ---- Jobs ---- */

struct tally {
    _Atomic int32_t calls[POOL_MAX_THREADS];
    int32_t parts;
};

static void count(void *ctx, int32_t i)
{
    struct tally *t = ctx;
    if (i >= 0 && i < t->parts)
        atomic_fetch_add(&t->calls[i], 1);
}

/* What a job wrote is there when pool_run() returns, and nothing is written later. */
static void check_job(struct pool *p, int32_t parts)
{
    struct tally t = { .parts = parts };
    pool_run(p, parts, count, &t);
    for (int32_t i = 0; i < parts; i++)
        cr_assert_eq(atomic_load(&t.calls[i]), 1, "part %d of %d", i, parts);
    memset(&t, 0xff, sizeof t); /* a late thread would stumble */
}

Test(pool, calls_every_part_once, .timeout = 60)
{
    for (int32_t threads = 1; threads <= 9; threads++) {
        struct pool *p = make_pool(threads, 1);
        for (int32_t job = 0; job < 3000; job++)
            check_job(p, 1 + job % threads);
        pool_free(p);
    }
}

Test(pool, as_many_threads_as_possible, .timeout = 60)
{
    struct pool *p = make_pool(POOL_MAX_THREADS, 1);
    for (int32_t job = 0; job < 200; job++)
        check_job(p, POOL_MAX_THREADS - job % 2);
    pool_free(p);
}

Test(pool, wakes_threads_that_sleep, .timeout = 60)
{
    struct pool *p = make_pool(3, 1);
    for (int32_t job = 0; job < 20; job++) {
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        if (job % 2)
            pool_wake(p);
        check_job(p, 3);
    }
    pool_free(p);
}

struct meeting {
    _Atomic int32_t arrived;
    int32_t parts;
};

static void meet(void *ctx, int32_t i)
{
    (void)i;
    struct meeting *m = ctx;
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < m->parts)
        nanosleep(&(struct timespec){ .tv_nsec = 1000 }, NULL);
}

/* Parts that wait for each other: there are as many threads as were asked for. */
Test(pool, parts_run_at_the_same_time, .timeout = 60)
{
    struct pool *p = make_pool(4, 1);
    for (int32_t job = 0; job < 50; job++) {
        struct meeting m = { .parts = 4 };
        pool_run(p, 4, meet, &m);
        cr_assert_eq(atomic_load(&m.arrived), 4);
    }
    pool_free(p);
}

Test(pool, a_thread_for_so_much_work)
{
    struct pool *p = make_pool(4, 100);
    static const struct {
        int64_t work;
        int32_t parts;
    } want[] = { { 0, 1 }, { 199, 1 }, { 200, 2 }, { 399, 3 }, { 400, 4 }, { INT64_MAX, 4 } };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        cr_assert_eq(pool_parts(p, want[i].work), want[i].parts);
    cr_assert_eq(pool_threads(p), 4);
    pool_free(p);
    cr_assert_eq(pool_threads(NULL), 1);
    cr_assert_eq(pool_parts(NULL, INT64_MAX), 1);
    pool_wake(NULL);
    check_job(NULL, 1);
}

Test(pool, refuses_impossible_numbers_of_threads)
{
    struct pool *p = NULL;
    struct diag why = { "" };
    cr_assert_eq(pool_new(&p, 0, 1, &why), -EINVAL);
    cr_assert_eq(pool_new(&p, POOL_MAX_THREADS + 1, 1, &why), -EINVAL);
    cr_assert(strstr(why.text, "65 threads"), "%s", why.text);
    cr_assert_null(p);
}

/* ---- Cuts ---- */

/* Some of the rows, or some of the channels. */
static struct box random_region(struct net *random, const int32_t dim[AXES])
{
    struct box r = box_whole(dim);
    const enum axis a = net_random(random, 2) ? ROW : CHAN;
    r.lo[a] = net_between(random, 0, dim[a] - 1);
    r.hi[a] = net_between(random, r.lo[a] + 1, dim[a]);
    return r;
}

/* The parts of every region are disjoint and together the region, whatever the operator. */
Test(cut, parts_are_the_region, .timeout = 60)
{
    int64_t along[AXES] = { 0 };
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct net n;
        struct geometry geo;
        struct diag why = { "" };
        wide_init(&n, seed);
        cr_assert_eq(graph_geometry(&n.g, 1, &geo), 0);
        cr_assert_eq(graph_pack(&n.g, NULL, &why), 0, "%s", why.text);
        struct pool *p = make_pool(2 + (int32_t)(seed % 7), 1);
        for (int32_t o = 0; o < n.g.nops; o++) {
            const struct op *op = &n.g.op[o];
            const struct box region = random_region(&n, geo.tensor[op->output].dim);
            const struct cut c = cut_choose(&n.g, &geo, o, region, p);
            struct box all = box_none();
            int64_t values = 0, pieces = 0;
            cr_assert(c.parts >= 1 && c.parts <= pool_threads(p));
            for (int32_t i = 0; i < c.parts; i++) {
                const struct part part = cut_part(&c, &n.g, op, region, i);
                cr_assert(box_inside(part.region, region));
                all = box_hull(all, part.region);
                if (c.parts > 1 && c.pieces > 0) {
                    cr_assert(part.pieces.lo >= 0 && part.pieces.hi <= c.pieces);
                    pieces += part.pieces.hi - part.pieces.lo;
                } else {
                    values += box_values(part.region);
                }
            }
            cr_assert(box_equal(all, region));
            cr_assert_eq(pieces ? pieces : values, pieces ? c.pieces : box_values(region));
            along[c.axis] += c.parts > 1;
        }
        pool_free(p);
        geometry_done(&geo);
        graph_unpack(&n.g);
        net_done(&n);
    }
    cr_assert(along[ROW] > 20 && along[CHAN] > 20, "both ways are tried");
}

/* One operator that yields `dim` from `in`. */
static struct cut cut_of_conv(int32_t rows, int32_t in, int32_t out, struct window w,
                              int32_t threads)
{
    struct net n;
    struct geometry geo;
    struct pool *p = make_pool(threads, POOL_PART_WORK);
    net_init(&n, 1);
    net_output(&n, net_conv(&n, net_input(&n, rows, rows, in, 1), out, 1, w));
    cr_assert_eq(graph_geometry(&n.g, 1, &geo), 0);
    cr_assert_eq(graph_pack(&n.g, NULL, NULL), 0);
    const struct cut c = cut_choose(&n.g, &geo, 0, geometry_whole(&geo, 1), p);
    geometry_done(&geo);
    graph_unpack(&n.g);
    net_done(&n);
    pool_free(p);
    return c;
}

Test(cut, rows_of_large_maps_and_channels_of_small_ones)
{
    struct cut c = cut_of_conv(64, 64, 64, net_window(3, 1, 1), 4);
    cr_assert(c.axis == ROW && c.parts == 4);
    c = cut_of_conv(1, 1024, 1000, net_window(1, 1, 0), 4);
    cr_assert(c.axis == CHAN && c.parts == 4);
    c = cut_of_conv(28, 64, 64, net_window(3, 1, 1), 2);
    cr_assert(c.axis == ROW && c.parts == 2);
    cr_assert(c.pieces == 7 * 7 || getenv("SPLITD_SIMD") || getenv("SPLITD_EXACT"),
              "rows of tiles fall 4 to 3");
    c = cut_of_conv(4, 8, 8, net_window(3, 1, 1), 4);
    cr_assert_eq(c.parts, 1, "too little work");
}

/* ---- Equal bits ---- */

struct values {
    float *port[NET_MAX_PORTS];
};

static struct values make_values(struct net *n, const struct port *port, int32_t count)
{
    struct values v;
    for (int32_t i = 0; i < count; i++)
        v.port[i] = net_floats(n, net_values(n, port[i].tensor));
    return v;
}

static struct values run_on(struct net *n, const struct plan_options *o, int32_t threads,
                            const struct values *in)
{
    const struct local_options local = { .threads = threads, .part_work = 1 };
    struct split_session *s = NULL;
    struct diag why = { "" };
    cr_assert_eq(session_open_graph(&s, &n->g, o, &local, &why), 0, "%s", why.text);
    const struct values out = make_values(n, n->out, n->g.noutputs);
    for (int frame = 0; frame < 2; frame++) /* the second finds what the first left behind */
        cr_assert_eq(split_run(s, (const float *const *)in->port, out.port, NULL, &why), 0, "%s",
                     why.text);
    split_close(s);
    return out;
}

/* Any number of threads on any number of nodes gives the bits of one thread on as many. */
static void check_threads(struct net *n, uint64_t seed)
{
    const struct values in = make_values(n, n->in, n->g.ninputs);
    const int32_t nodes = 1 + (int32_t)(seed % 3);
    struct plan_options o = { .placement = seed % 2 ? PLAN_MIXED : PLAN_ROWS, .nodes = nodes };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1 + i % 2;
    const struct values want = run_on(n, &o, 1, &in);
    for (int32_t threads = 2; threads <= 4; threads++) {
        const struct values got = run_on(n, &o, threads, &in);
        for (int32_t i = 0; i < n->g.noutputs; i++)
            cr_assert_arr_eq(
                got.port[i], want.port[i], (size_t)net_values(n, n->out[i].tensor) * sizeof(float),
                "seed %d, %d nodes, %d threads, output %d", (int)seed, nodes, threads, i);
    }
    graph_unpack(&n->g);
    net_done(n);
}

Test(threads, any_chain_gives_the_bits_of_one_thread, .timeout = 120)
{
    for (uint64_t seed = 0; seed < 150; seed++) {
        struct net n;
        chain_init(&n, seed, 1 + (int32_t)(seed % 12));
        check_threads(&n, seed);
    }
}

Test(threads, any_wide_network_gives_the_bits_of_one_thread, .timeout = 120)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct net n;
        wide_init(&n, seed);
        check_threads(&n, seed);
    }
}

/* The same without anybody's vectors: OpenBLAS takes part. */
Test(threads, any_wide_network_on_any_machine, .timeout = 120)
{
    setenv("SPLITD_SIMD", "portable", 1);
    for (uint64_t seed = 100; seed < 130; seed++) {
        struct net n;
        wide_init(&n, seed);
        check_threads(&n, seed);
    }
}
