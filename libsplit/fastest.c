#include "libsplit/fastest.h"

#include <errno.h>
#include <string.h>

static int build(struct geometry *geo, struct plan *p, const struct graph *g,
                 const struct plan_options *o)
{
    int err = graph_geometry(g, o->nodes, geo);
    if (err)
        return err;
    err = plan_build(p, geo, o);
    if (err)
        geometry_done(geo);
    return err;
}

static int estimate(double *us, const struct graph *g, const struct plan_options *o)
{
    struct geometry geo;
    struct plan p;
    const int err = build(&geo, &p, g, o);
    if (err)
        return err;
    *us = plan_estimate_us(&p, o);
    plan_done(&p);
    geometry_done(&geo);
    return 0;
}

/* How many of `nodes` nodes are stronger than node `i`, or as strong and before it. */
static int32_t rank(const struct plan_options *o, int32_t i)
{
    int32_t before = 0;
    for (int32_t n = 0; n < o->nodes; n++)
        before += o->weight[n] > o->weight[i] || (o->weight[n] == o->weight[i] && n < i);
    return before;
}

/* `all` for the strongest `count` of its nodes, which `member` lists.  Costs stay about the same
 * node as before. */
static struct plan_options for_strongest(const struct plan_options *all, int32_t count,
                                         uint8_t member[PLAN_MAX_NODES])
{
    struct plan_options o = *all;
    int64_t sum = 0;
    o.nodes = 0;
    o.busy = 0;
    memset(o.weight, 0, sizeof o.weight);
    for (int32_t n = 0; n < all->nodes; n++) {
        sum += all->weight[n];
        if (rank(all, n) >= count)
            continue;
        member[o.nodes] = (uint8_t)n;
        o.busy |= (all->busy >> n & 1) << o.nodes;
        o.weight[o.nodes++] = all->weight[n];
    }
    if (o.usual_weight == 0)
        o.usual_weight = (int32_t)((sum + all->nodes / 2) / all->nodes);
    return o;
}

int fastest_plan(struct fastest *f, struct geometry *geo, struct plan *p, const struct graph *g,
                 struct plan_options *o, int32_t least)
{
    struct fastest best = { .nodes = o->nodes };
    uint8_t member[PLAN_MAX_NODES];
    if (o->nodes < 1 || o->nodes > PLAN_MAX_NODES || least < 1 || least > o->nodes)
        return -EINVAL;
    for (int32_t count = o->nodes; count >= least && o->nodes > 1; count -= (count + 3) / 4) {
        const struct plan_options some = for_strongest(o, count, member);
        const int err = estimate(&best.estimate_us[count], g, &some);
        if (err)
            return err;
        if (best.estimate_us[count] < best.estimate_us[best.nodes])
            best.nodes = count;
    }
    const struct plan_options some = for_strongest(o, best.nodes, best.member);
    const int err = build(geo, p, g, &some);
    if (err)
        return err;
    *f = best;
    *o = some;
    return 0;
}
