#include "tiling/plan.h"

#include <errno.h>

/* Do the `count` boxes cover `whole` exactly once? */
static bool is_partition(struct box whole, const struct box *boxes, int32_t count)
{
    int64_t values = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!box_inside(boxes[i], whole))
            return false;
        for (int32_t k = 0; k < i; k++)
            if (!box_empty(box_intersect(boxes[i], boxes[k])))
                return false;
        values += box_values(boxes[i]);
    }
    return values == box_values(whole);
}

/* The boxes of one node, or of the host. */
static bool share_ok(const struct plan *p, int32_t t, int32_t n)
{
    const struct plan_share *s = plan_share(p, t, n);
    const struct box whole = geometry_whole(p->geo, t);
    const bool host = n == p->nodes;
    if (!box_inside(s->own, s->run) || !box_inside(s->run, whole) || !box_inside(s->want, whole))
        return false;
    if (geometry_is_input(p->geo, t) != host && !box_empty(s->run))
        return false;
    if (p->recomputed[t] && !host && !box_inside(s->want, s->run))
        return false;
    if (geometry_is_partial(p->geo, t) && !host) {
        const struct box row = box_rows(whole, n, n + 1);
        return box_equal(s->own, row) && box_equal(s->run, row);
    }
    return !host || !p->geo->tensor[t].output || box_equal(s->want, whole);
}

static bool shares_ok(const struct plan *p, int32_t t)
{
    const struct box whole = geometry_whole(p->geo, t);
    struct box part[PLAN_MAX_NODES + 1], own[PLAN_MAX_NODES + 1];
    for (int32_t n = 0; n <= p->nodes; n++) {
        if (!share_ok(p, t, n))
            return false;
        part[n] = plan_share(p, t, n)->part;
        own[n] = plan_share(p, t, n)->own;
    }
    return is_partition(whole, own, p->nodes + 1) && is_partition(whole, part, p->nodes);
}

/* Do run and the `count` messages to `to` hold what it wants of `t`, nothing of it twice?  (What
 * a node owns is in its run, so none of the messages can be its own.) */
static bool messages_ok(const struct plan *p, int32_t t, int32_t to, const struct plan_transfer *m,
                        int32_t count)
{
    const struct plan_share *s = plan_share(p, t, to);
    int64_t held = box_values(box_intersect(s->want, s->run));
    for (int32_t i = 0; i < count; i++) {
        if (m[i].from < 0 || m[i].from > p->nodes || box_empty(m[i].box) ||
            !box_inside(m[i].box, plan_share(p, t, m[i].from)->own) ||
            !box_inside(m[i].box, s->want) || !box_empty(box_intersect(m[i].box, s->run)))
            return false;
        for (int32_t k = 0; k < i; k++)
            if (!box_empty(box_intersect(m[i].box, m[k].box)))
                return false;
        held += box_values(m[i].box);
    }
    return held == box_values(s->want);
}

/* Takes the messages of `t` from plan.transfer[] at `*next` on, in the order in which
 * plan_build() lists them. */
static bool transfers_ok(const struct plan *p, int32_t t, int32_t *next)
{
    for (int32_t to = 0; to <= p->nodes; to++) {
        const int32_t first = *next;
        while (*next < p->ntransfers && p->transfer[*next].tensor == t &&
               p->transfer[*next].to == to)
            ++*next;
        if (!messages_ok(p, t, to, p->transfer + first, *next - first))
            return false;
    }
    return true;
}

static bool needs_ok(const struct plan *p, int32_t op, int32_t i)
{
    const int32_t in = p->geo->input[p->geo->op[op].first + i].tensor;
    for (int32_t n = 0; n < p->nodes; n++)
        if (!box_inside(plan_reads(p, op, i, n), plan_share(p, in, n)->want))
            return false;
    return true;
}

static int broken(int32_t t, int32_t *tensor)
{
    if (tensor)
        *tensor = t;
    return -EPROTO;
}

int plan_check(const struct plan *p, int32_t *tensor)
{
    const struct geometry *g = p->geo;
    int32_t next = 0;
    for (int32_t t = 0; t < g->ntensors; t++)
        if (!shares_ok(p, t) || !transfers_ok(p, t, &next))
            return broken(t, tensor);
    if (next != p->ntransfers)
        return broken(p->transfer[next].tensor, tensor);
    for (int32_t o = 0; o < g->nops; o++)
        for (int32_t i = 0; i < g->op[o].ninputs; i++)
            if (!needs_ok(p, o, i))
                return broken(g->input[g->op[o].first + i].tensor, tensor);
    return 0;
}
