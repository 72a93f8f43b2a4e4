#include "cli/need.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/local.h"
#include "libsplit/answer.h"
#include "libsplit/conv.h"
#include "libsplit/exec.h"
#include "libsplit/fastest.h"
#include "tiling/program.h"

enum { FRAMES = 2, THREADS = 4 }; /* under way at a time; of a node that does not say how many */

struct job {
    const struct config *config;
    const struct local_model *model;
    struct graph graph;
    struct halo_choice halo;
    bool *whole_pixels;
};

/* What node `i` of the plan takes, which is this one of the cluster. */
static int need_of(const struct job *j, const struct plan *p, int32_t i, int32_t node,
                   int64_t *bytes, struct diag *why)
{
    const struct config_node *n = &j->config->node[node];
    struct program pr;

    const int err = program_compile(&pr, p, i);
    if (err)
        return diag(why, err, "the program of %s: %s", n->name, strerror(-err));
    const int64_t arena =
        exec_arena_bytes(&j->graph, p->geo, &pr, n->threads > 0 ? n->threads : THREADS);
    *bytes = exec_weight_bytes(&j->graph, &pr) + FRAMES * (arena + exec_message_bytes(p->geo, &pr));
    program_done(&pr);
    return arena < 0
               ? diag(why, (int)arena, "the buffers of %s: %s", n->name, strerror((int)-arena))
               : 0;
}

static bool is_over(const struct job *j, int32_t node, int64_t bytes)
{
    const int64_t most = j->config->node[node].max_memory;
    return most > 0 && bytes > most;
}

/* Fills `bytes`, with zeros of nodes that are left out.  Sets `*over` if a node refuses its part.
 */
static int need_of_plan(struct job *j, const struct plan *p, const struct fastest *f,
                        int64_t bytes[CONFIG_MAX_NODES], bool *over, struct diag *why)
{
    int err = 0;
    bool shrinks = false;

    *over = false;
    memset(bytes, 0, CONFIG_MAX_NODES * sizeof *bytes);
    for (int32_t i = 0; !err && i < f->nodes; i++) {
        err = need_of(j, p, i, f->member[i], &bytes[f->member[i]], why);
        shrinks |= is_over(j, f->member[i], bytes[f->member[i]]);
    }
    /* Such nodes do without the kernels that are kept for speed alone. */
    shrinks = shrinks && !err && conv_keep_none(&j->graph);
    for (int32_t i = 0; !err && i < f->nodes; i++) {
        int64_t *to = &bytes[f->member[i]];
        if (shrinks && is_over(j, f->member[i], *to))
            err = need_of(j, p, i, f->member[i], to, why);
        *over |= is_over(j, f->member[i], *to);
    }
    if (shrinks && !err)
        err = conv_choose_all(&j->graph, NULL, conv_budget());
    return err;
}

/* As the coordinator does, which leaves nodes out unless those that stay refuse. */
static int need_of_job(struct job *j, int64_t bytes[CONFIG_MAX_NODES], struct diag *why)
{
    const struct config *c = j->config;
    const struct shape *in = &j->graph.input[0].shape;
    bool over = true;
    int err = 0;

    for (int32_t least = 1; over && !err && least <= c->nnodes;) {
        struct plan_options o = { .placement = PLAN_MIXED,
                                  .nodes = c->nnodes,
                                  .policy = c->policy,
                                  .costs = c->costs,
                                  .halo = j->halo.mode,
                                  .tensor_halo = j->halo.tensor_halo,
                                  .whole_pixels = j->whole_pixels,
                                  .busy = UINT32_C(1) << c->coordinator };
        struct fastest f;
        struct geometry geo;
        struct plan p;
        o.pixels = j->graph.ninputs == 1 && shape_batch(in) == 1 &&
                   shape_len(in, CHAN) == j->model->sidecar.pixels.channels;
        for (int32_t i = 0; i < c->nnodes; i++)
            o.weight[i] = c->node[i].weight;
        err = fastest_plan(&f, &geo, &p, &j->graph, &o, least);
        if (err)
            return diag(why, err, "planning for %d nodes: %s", c->nnodes, strerror(-err));
        err = need_of_plan(j, &p, &f, bytes, &over, why);
        plan_done(&p);
        geometry_done(&geo);
        least = f.nodes + 1;
    }
    return err;
}

static int need_of_model(const struct local_model *m, const struct config *c,
                         int64_t bytes[CONFIG_MAX_NODES], struct diag *why)
{
    struct job j = { .config = c, .model = m };

    int err = graph_build(&j.graph, m->onnx, NULL, 0, why);
    if (err)
        return err;
    err = halo_choose(&j.halo, m->has_halo ? &m->halo : NULL, &j.graph, c->halo, why);
    if (err)
        goto out;
    j.whole_pixels = calloc((size_t)j.graph.ntensors + 1, sizeof *j.whole_pixels);
    if (!j.whole_pixels) {
        err = diag(why, -ENOMEM, "%s: out of memory", m->file);
        goto out;
    }
    answer_whole_pixels(&j.graph, &m->sidecar, j.whole_pixels);
    err = need_of_job(&j, bytes, why);
out:
    free(j.whole_pixels);
    halo_choice_done(&j.halo);
    graph_done(&j.graph);
    return err;
}

int need_bytes(const char *file, const char *sidecar, const struct config *c,
               int64_t bytes[CONFIG_MAX_NODES], struct diag *why)
{
    const struct local_options o = { .halo = c->halo, .sidecar = sidecar };
    struct local_model m;

    int err = local_load(&m, file, &o, why);
    if (err)
        return err;
    err = need_of_model(&m, c, bytes, why);
    local_done(&m);
    return err;
}
