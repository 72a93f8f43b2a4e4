/* How much faster than one node a cluster could be at most, were messages free and nodes alike:
 * all multiply-adds over the sum of those of each operator's busiest node.  With SPLITD_EXACT=1
 * bands of rows need not begin at Winograd's tiles.
 *
 *     bench_bound MODEL.onnx...
 *
 *   rows     bands of rows only
 *   planned  rows or channels, as a session or a cluster plans
 *   free     the same for a network that costs nothing
 *   weights  the largest part of a node, with the planned placement, of what one node holds */
#include <stdio.h>
#include <string.h>

#include "libsplit/exec.h"
#include "libsplit/graph.h"
#include "tiling/plan.h"

static const struct plan_costs free_network = { .link_bytes_per_us = 1000000, .message_us = 1 };

static int64_t weights_of(const struct graph *g, const struct plan *p, int32_t node)
{
    struct program pr;
    if (program_compile(&pr, p, node))
        return -1;
    const int64_t bytes = exec_weight_bytes(g, &pr);
    program_done(&pr);
    return bytes;
}

static int64_t largest_weights(const struct graph *g, const struct plan *p)
{
    int64_t most = 0;
    for (int32_t n = 0; n < p->nodes; n++) {
        const int64_t bytes = weights_of(g, p, n);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Fills what one way to place tensors yields; `weights` may be NULL. */
static int measure(const struct graph *g, const struct geometry *geo, enum plan_placement placement,
                   struct plan_costs costs, double *bound, int64_t *weights)
{
    struct plan_options o = { .placement = placement, .nodes = geo->nodes, .costs = costs };
    /* What is computed twice to save messages is none of the network's work. */
    o.policy = PLAN_EXCHANGE;
    for (int32_t n = 0; n < o.nodes; n++)
        o.weight[n] = 1;
    struct plan p;
    const int err = plan_build(&p, geo, &o);
    if (err)
        return err;
    *bound = plan_bound(&p);
    if (weights)
        *weights = largest_weights(g, &p);
    plan_done(&p);
    return 0;
}

static int print_bounds(const struct graph *g, const char *name, int32_t nodes)
{
    const struct plan_costs usual = { 0 };
    struct geometry geo;
    double rows = 0, planned = 0, best = 0, alone = 0;
    int64_t all = 0, most = 0;
    int err = graph_geometry(g, 1, &geo);
    if (err)
        return err;
    err = measure(g, &geo, PLAN_ROWS, usual, &alone, &all);
    geometry_done(&geo);
    if (!err)
        err = graph_geometry(g, nodes, &geo);
    if (err)
        return err;
    err = measure(g, &geo, PLAN_ROWS, usual, &rows, NULL);
    if (!err)
        err = measure(g, &geo, PLAN_MIXED, usual, &planned, &most);
    if (!err)
        err = measure(g, &geo, PLAN_MIXED, free_network, &best, NULL);
    geometry_done(&geo);
    if (!err)
        printf("%-24s %5d  %6.2f  %7.2f  %6.2f  %6.0f %%\n", name, nodes, rows, planned, best,
               all > 0 ? 100.0 * (double)most / (double)all : 0);
    return err;
}

static int print_model(const char *file)
{
    struct onnx_model m;
    struct graph g;
    struct diag why = { "" };
    const char *slash = strrchr(file, '/');
    if (onnx_open(&m, file, &why)) {
        fprintf(stderr, "bench_bound: %s\n", why.text);
        return 1;
    }
    int err = graph_build(&g, &m, NULL, 0, &why);
    if (err) {
        fprintf(stderr, "bench_bound: %s\n", why.text);
    } else {
        for (int32_t nodes = 2; nodes <= 8 && !err; nodes *= 2)
            err = print_bounds(&g, slash ? slash + 1 : file, nodes);
        if (err)
            fprintf(stderr, "bench_bound: %s: %s\n", file, strerror(-err));
        graph_done(&g);
    }
    onnx_close(&m);
    return err != 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    if (failed)
        fputs("bench_bound: which models?\n", stderr);
    else
        printf("%-24s %5s  %6s  %7s  %6s  %8s\n", "model", "nodes", "rows", "planned", "free",
               "weights");
    for (int i = 1; i < argc; i++)
        failed |= print_model(argv[i]);
    return failed;
}
