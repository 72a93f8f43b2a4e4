#include "cli/need.h"

#include <errno.h>
#include <string.h>

#include "libsplit/exec.h"
#include "libsplit/graph.h"
#include "libsplit/onnx.h"
#include "tiling/plan.h"
#include "tiling/program.h"

enum { FRAMES = 2, THREADS = 4 }; /* under way at a time; of a node that does not say how many */

static int need_of(const struct graph *g, const struct plan *p, const struct config *c,
                   int32_t node, int64_t *bytes, struct diag *why)
{
    const int32_t threads = c->node[node].threads > 0 ? c->node[node].threads : THREADS;
    struct program pr;

    const int err = program_compile(&pr, p, node);
    if (err)
        return diag(why, err, "the program of %s: %s", c->node[node].name, strerror(-err));
    const int64_t arena = exec_arena_bytes(g, p->geo, &pr, threads);
    *bytes = exec_weight_bytes(g, &pr) + FRAMES * (arena + exec_message_bytes(p->geo, &pr));
    program_done(&pr);
    return arena < 0 ? diag(why, (int)arena, "the buffers of %s: %s", c->node[node].name,
                            strerror((int)-arena))
                     : 0;
}

static int need_of_plan(const struct graph *g, const struct geometry *geo, const struct config *c,
                        int64_t *bytes, struct diag *why)
{
    struct plan_options o = {
        .placement = PLAN_MIXED, .nodes = c->nnodes, .policy = c->policy, .costs = c->costs
    };
    struct plan p;

    for (int32_t i = 0; i < c->nnodes; i++)
        o.weight[i] = c->node[i].weight;
    int err = plan_build(&p, geo, &o);
    if (err)
        return diag(why, err, "planning for %d nodes: %s", c->nnodes, strerror(-err));
    for (int32_t i = 0; !err && i < c->nnodes; i++)
        err = need_of(g, &p, c, i, &bytes[i], why);
    plan_done(&p);
    return err;
}

static int need_of_graph(const struct graph *g, const struct config *c, int64_t *bytes,
                         struct diag *why)
{
    struct geometry geo;

    int err = graph_geometry(g, c->nnodes, &geo);
    if (err)
        return diag(why, err, "planning for %d nodes: %s", c->nnodes, strerror(-err));
    err = need_of_plan(g, &geo, c, bytes, why);
    geometry_done(&geo);
    return err;
}

int need_bytes(const char *file, const struct config *c, int64_t bytes[CONFIG_MAX_NODES],
               struct diag *why)
{
    struct onnx_model m;
    struct graph g;

    int err = onnx_open(&m, file, why);
    if (err)
        return err;
    err = graph_build(&g, &m, NULL, 0, why);
    if (!err) {
        err = need_of_graph(&g, c, bytes, why);
        graph_done(&g);
    }
    onnx_close(&m);
    return err;
}
