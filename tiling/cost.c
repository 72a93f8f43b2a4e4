#include "tiling/cost.h"

#include "tiling/demand.h"

static int32_t or_default(int32_t value, int32_t otherwise) { return value ? value : otherwise; }

struct cost cost_make(const struct plan_options *o)
{
    struct cost c = {
        .of = {
            .macs_per_us = or_default(o->costs.macs_per_us, 20000),
            .weight_bytes_per_us = or_default(o->costs.weight_bytes_per_us, 4000),
            .link_bytes_per_us = or_default(o->costs.link_bytes_per_us, 100),
            .message_us = or_default(o->costs.message_us, 200),
        },
        .pixels = o->pixels,
    };
    double total = 0;
    for (int32_t n = 0; n < o->nodes; n++)
        total += o->weight[n];
    for (int32_t n = 0; n < o->nodes; n++)
        c.speed[n] = o->placement == PLAN_WHOLE ? 1 : o->weight[n] * o->nodes / total;
    return c;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* Arithmetic and weights behind `run`, on a node of speed 1. */
static double run_us(const struct cost *c, const struct geometry *g, int32_t op, struct box run)
{
    const struct geo_op *it = &g->op[op];
    const struct box whole = geometry_whole(g, it->out);
    const double share = (double)box_values(run) / (double)box_values(whole);
    const double channels = (double)box_len(run, CHAN) / box_len(whole, CHAN);
    const double images = g->tensor[it->out].batch;
    return (double)it->macs * images * share / c->of.macs_per_us +
           (double)it->weight_bytes * channels / c->of.weight_bytes_per_us;
}

static double compute_us(const struct cost *c, const struct plan *p, int32_t tensor)
{
    double slowest = 0;
    if (geometry_is_input(p->geo, tensor))
        return 0;
    for (int32_t n = 0; n < p->nodes; n++) {
        const struct box run = plan_share(p, tensor, n)->run;
        if (!box_empty(run))
            slowest =
                larger(slowest, run_us(c, p->geo, p->geo->tensor[tensor].op, run) / c->speed[n]);
    }
    return slowest;
}

double cost_work_us(const struct cost *c, const struct plan *p, int32_t node)
{
    double us = 0;
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        const struct box run = plan_share(p, t, node)->run;
        if (!geometry_is_input(p->geo, t) && !box_empty(run))
            us += run_us(c, p->geo, p->geo->tensor[t].op, run);
    }
    return us;
}

/* What one node, or the host, sends and receives of a tensor. */
struct traffic {
    double in, out; /* bytes */
    int32_t messages_in, messages_out;
};

static double message_bytes(const struct cost *c, const struct plan *p,
                            const struct plan_transfer *m)
{
    const int64_t values = box_values(m->box) * p->geo->tensor[m->tensor].batch;
    if (c->pixels && geometry_is_input(p->geo, m->tensor))
        return (double)values;
    /* What is dropped is missed: were it free, whole maps would be. */
    const enum halo halo = plan_halo(p, m);
    return (double)halo_bytes(halo == HALO_DROP ? HALO_F32 : halo, values);
}

static double travel_us(const struct cost *c, const struct plan *p, int32_t tensor)
{
    struct traffic traffic[PLAN_MAX_NODES + 1] = { { 0 } };
    struct plan_transfer m[DEMAND_MAX_TRANSFERS];
    for (int32_t to = 0; to <= p->nodes; to++) {
        const int32_t count = demand_transfers(p, tensor, to, m);
        for (int32_t i = 0; i < count; i++) {
            struct traffic *sender = &traffic[m[i].from], *receiver = &traffic[to];
            const double bytes = message_bytes(c, p, &m[i]);
            receiver->in += bytes;
            receiver->messages_in++;
            if (m[i].from == p->nodes)
                continue; /* the picture goes out in any case */
            sender->out += bytes;
            sender->messages_out++;
        }
    }
    double bytes = 0, messages = 0;
    for (int32_t n = 0; n <= p->nodes; n++) {
        bytes = larger(bytes, larger(traffic[n].in, traffic[n].out));
        messages = larger(messages, larger(traffic[n].messages_in, traffic[n].messages_out));
    }
    return bytes / c->of.link_bytes_per_us + messages * c->of.message_us;
}

struct tensor_cost cost_of(const struct cost *c, const struct plan *p, int32_t tensor)
{
    return (struct tensor_cost){ compute_us(c, p, tensor), travel_us(c, p, tensor) };
}

double plan_estimate_us(const struct plan *p, const struct plan_options *o)
{
    const struct cost c = cost_make(o);
    double sum = 0;
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        const struct tensor_cost of = cost_of(&c, p, t);
        sum += of.compute_us + of.travel_us;
    }
    return sum;
}
