#include "tiling/demand.h"

static struct plan_share *share_of(struct plan *p, int32_t tensor, int32_t node)
{
    return &p->share[(int64_t)tensor * (p->nodes + 1) + node];
}

void demand_place(struct plan *p, const struct placement *where, int32_t tensor)
{
    const bool is_input = geometry_is_input(p->geo, tensor);
    for (int32_t n = 0; n < p->nodes; n++) {
        struct plan_share *s = share_of(p, tensor, n);
        s->part = placement_part(where, tensor, n);
        s->own = is_input ? box_none() : s->part;
    }
    share_of(p, tensor, p->nodes)->own = is_input ? geometry_whole(p->geo, tensor) : box_none();
}

/* What a node runs to have all of `want`: whole rows. */
static struct box grown(const struct geometry *g, int32_t tensor, struct box own, struct box want)
{
    struct box b = box_hull(own, want);
    if (box_empty(b))
        return b;
    const int32_t *dim = g->tensor[tensor].dim;
    b.lo[COL] = 0;
    b.hi[COL] = dim[COL];
    return b;
}

bool demand_settle(struct plan *p, const struct readers *readers, int32_t tensor)
{
    const bool by_host = p->geo->tensor[tensor].output;
    bool changed = false;
    for (int32_t n = 0; n <= p->nodes; n++) {
        struct plan_share *s = share_of(p, tensor, n);
        const struct box before = s->run;
        s->want = n == p->nodes && by_host ? geometry_whole(p->geo, tensor) : box_none();
        for (int32_t i = readers->first[tensor]; n < p->nodes && i < readers->first[tensor + 1];
             i++) {
            const struct reader *r = &readers->reader[i];
            s->want = box_hull(s->want, plan_reads(p, r->op, r->input, n));
        }
        const bool recomputes = p->recomputed[tensor] && n < p->nodes;
        s->run = recomputes ? grown(p->geo, tensor, s->own, s->want) : s->own;
        changed |= !box_equal(before, s->run);
    }
    return changed;
}

bool demand_travels(const struct plan *p, int32_t tensor)
{
    for (int32_t n = 0; n < p->nodes; n++) {
        const struct plan_share *s = plan_share(p, tensor, n);
        if (!box_inside(s->want, s->run))
            return true;
    }
    return false;
}

int32_t demand_transfers(const struct plan *p, int32_t tensor, int32_t to,
                         struct plan_transfer out[DEMAND_MAX_TRANSFERS])
{
    const struct plan_share *receiver = plan_share(p, tensor, to);
    struct box missing[BOX_SUBTRACT_MAX];
    const int pieces = box_subtract(receiver->want, receiver->run, missing);
    int32_t count = 0;
    for (int i = 0; i < pieces; i++)
        for (int32_t from = 0; from <= p->nodes; from++) {
            const struct box b = box_intersect(missing[i], plan_share(p, tensor, from)->own);
            if (!box_empty(b))
                out[count++] = (struct plan_transfer){ tensor, (int16_t)from, (int16_t)to, b };
        }
    return count;
}
