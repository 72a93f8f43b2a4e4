#include "tiling/plan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tiling/choose.h"

enum { MAX_WEIGHT = 1000000, MAX_COST = 1000000 };

static const char *const policies[] = {
    [PLAN_AUTO] = "auto",
    [PLAN_EXCHANGE] = "exchange",
    [PLAN_RECOMPUTE] = "recompute",
};

const char *plan_policy_name(enum plan_policy p) { return policies[p]; }

int plan_policy_parse(const char *name)
{
    for (int p = PLAN_AUTO; p <= PLAN_RECOMPUTE; p++)
        if (strcmp(policies[p], name) == 0)
            return p;
    return -EINVAL;
}

int32_t plan_cut(const int32_t *weight, int32_t nodes, int32_t len, int32_t n)
{
    int64_t before = 0, total = 0; /* sums of weights: < 2^24 */
    for (int32_t i = 0; i < nodes; i++) {
        if (i < n)
            before += weight[i];
        total += weight[i];
    }
    assert(total > 0);
    return (int32_t)(len * before / total);
}

int32_t plan_cut_aligned(const int32_t *weight, int32_t nodes, int32_t len, int32_t n,
                         int32_t align)
{
    const int32_t at = plan_cut(weight, nodes, len, n);
    if (at == len)
        return len;
    const int64_t nearest = ((int64_t)at + align / 2) / align * align;
    return nearest < len ? (int32_t)nearest : len;
}

static bool costs_ok(const struct plan_costs *c)
{
    const int32_t all[] = { c->macs_per_us, c->weight_bytes_per_us, c->link_bytes_per_us,
                            c->message_us };
    for (int i = 0; i < 4; i++)
        if (all[i] < 0 || all[i] > MAX_COST)
            return false;
    return true;
}

static int options_check(const struct plan_options *o, const struct geometry *g)
{
    if (o->nodes < 1 || o->nodes > PLAN_MAX_NODES || o->nodes != g->nodes ||
        (unsigned)o->halo >= HALO_MODES || (unsigned)o->policy > PLAN_RECOMPUTE)
        return -EINVAL;
    for (int32_t t = 0; o->tensor_halo && t < g->ntensors; t++)
        if (o->tensor_halo[t] >= HALO_MODES)
            return -EINVAL;
    switch (o->placement) {
    case PLAN_WHOLE:
        return o->whole >= 0 && o->whole < o->nodes ? 0 : -EINVAL;
    case PLAN_ROWS:
    case PLAN_MIXED:
        if (o->usual_weight < 0)
            return -EINVAL;
        for (int32_t n = 0; n < o->nodes; n++)
            if (o->weight[n] < 1 || o->weight[n] > MAX_WEIGHT)
                return -EINVAL;
        return costs_ok(&o->costs) ? 0 : -EINVAL;
    }
    return -EINVAL;
}

struct box plan_reads(const struct plan *p, int32_t op, int32_t i, int32_t node)
{
    const struct geo_op *it = &p->geo->op[op];
    if (it->kind == GEO_PARTIAL)
        return plan_share(p, p->geo->input[it->first].tensor, node)->part;
    return geometry_need(p->geo, op, i, plan_share(p, it->out, node)->run);
}

static int32_t list_all_transfers(const struct plan *p, struct plan_transfer *out)
{
    struct plan_transfer some[DEMAND_MAX_TRANSFERS];
    int32_t count = 0; /* at most GEO_MAX_TENSORS * 17 * 6 * 17 < 2^27 */
    for (int32_t t = 0; t < p->geo->ntensors; t++)
        for (int32_t to = 0; to <= p->nodes; to++) {
            const int32_t n = demand_transfers(p, t, to, some);
            if (out)
                memcpy(out + count, some, (size_t)n * sizeof(*out));
            count += n;
        }
    return count;
}

int plan_build(struct plan *p, const struct geometry *g, const struct plan_options *o)
{
    int r = geometry_check(g);
    if (!r)
        r = options_check(o, g);
    if (r)
        return r;

    struct plan made = {
        .geo = g,
        .nodes = o->nodes,
        .halo = o->halo,
        .tensor_halo = o->tensor_halo,
        .may_miss = o->may_miss,
    };
    struct placement where = { 0 };
    struct readers readers = { 0 };
    made.share = calloc((size_t)g->ntensors * (size_t)(o->nodes + 1) + 1, sizeof(*made.share));
    made.recomputed = calloc((size_t)g->ntensors + 1, sizeof(*made.recomputed));
    r = made.share && made.recomputed ? placement_init(&where, g, o) : -ENOMEM;
    if (!r)
        r = readers_init(&readers, g);
    if (!r)
        r = choose(&made, &where, &readers, o);
    if (r)
        goto out;

    made.ntransfers = list_all_transfers(&made, NULL);
    made.transfer = calloc((size_t)made.ntransfers + 1, sizeof(*made.transfer));
    if (!made.transfer) {
        r = -ENOMEM;
        goto out;
    }
    list_all_transfers(&made, made.transfer);

out:
    readers_done(&readers);
    placement_done(&where);
    if (r)
        plan_done(&made);
    else
        *p = made;
    return r;
}

void plan_done(struct plan *p)
{
    free(p->share);
    free(p->recomputed);
    free(p->transfer);
    *p = (struct plan){ 0 };
}

enum halo plan_halo(const struct plan *p, const struct plan_transfer *m)
{
    const bool with_host = m->from == p->nodes || m->to == p->nodes;
    if (p->tensor_halo && !with_host)
        return (enum halo)p->tensor_halo[m->tensor];
    /* Errors of sums add up, and a tensor of one row is no border but all there is. */
    const bool is_border =
        !geometry_is_partial(p->geo, m->tensor) && p->geo->tensor[m->tensor].dim[ROW] > 1;
    return is_border && !with_host ? p->halo : HALO_F32;
}

/* All columns and channels of some rows, or nothing. */
static bool is_band(struct box b, struct box whole)
{
    return box_empty(b) || box_equal(b, box_rows(whole, b.lo[ROW], b.hi[ROW]));
}

bool plan_may_miss(const struct plan *p, const struct plan_transfer *m)
{
    if (!p->may_miss || !p->may_miss[m->tensor] || m->from == p->nodes || m->to == p->nodes ||
        geometry_is_partial(p->geo, m->tensor))
        return false;
    const struct box whole = geometry_whole(p->geo, m->tensor);
    const struct plan_share *to = plan_share(p, m->tensor, m->to);
    const bool gathered = box_len(to->want, ROW) == box_len(whole, ROW);
    const bool beside = box_empty(to->run) || !box_empty(box_intersect(to->want, to->run));
    return !gathered && beside && is_band(to->run, whole) &&
           is_band(plan_share(p, m->tensor, m->from)->own, whole);
}

void plan_traffic(const struct plan *p, struct plan_traffic *t)
{
    struct plan_traffic sum = { 0 };
    for (int32_t i = 0; i < p->ntransfers; i++) {
        const struct plan_transfer *m = &p->transfer[i];
        const int64_t values = box_values(m->box) * p->geo->tensor[m->tensor].batch;
        if (m->from == p->nodes || m->to == p->nodes) {
            sum.host_values += values;
            sum.host_messages++;
        } else {
            sum.halo_values += values;
            sum.halo_messages++;
        }
    }
    *t = sum;
}

/* What part of the work of `op` falls to `node`. */
static double work_share(const struct plan *p, int32_t op, int32_t node)
{
    const struct geo_op *it = &p->geo->op[op];
    const int32_t t = it->kind == GEO_PARTIAL ? p->geo->input[it->first].tensor : it->out;
    const struct plan_share *s = plan_share(p, t, node);
    const int64_t values = box_values(it->kind == GEO_PARTIAL ? s->part : s->run);
    return (double)values / (double)box_values(geometry_whole(p->geo, t));
}

double plan_bound(const struct plan *p)
{
    double one = 0, cluster = 0;
    for (int32_t o = 0; o < p->geo->nops; o++) {
        double busiest = 0;
        for (int32_t n = 0; n < p->nodes; n++) {
            const double share = work_share(p, o, n);
            busiest = share > busiest ? share : busiest;
        }
        const double macs = (double)p->geo->op[o].macs * p->geo->tensor[p->geo->op[o].out].batch;
        one += macs;
        cluster += macs * busiest;
    }
    return cluster > 0 ? one / cluster : 1;
}
