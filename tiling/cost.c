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
    const double usual = o->usual_weight > 0 ? o->usual_weight : total / o->nodes;
    for (int32_t n = 0; n < o->nodes; n++)
        c.speed[n] = o->placement == PLAN_WHOLE ? 1 : o->weight[n] / usual;
    return c;
}

static double larger(double a, double b) { return a > b ? a : b; }

static int32_t ways_of(const struct geo_op *op) { return op->nways > 0 ? op->nways : 1; }

static struct geo_way way_of(const struct geo_op *op, int32_t i)
{
    return op->nways > 0 ? op->way[i]
                         : (struct geo_way){ .work = op->macs, .weight_bytes = op->weight_bytes };
}

/* `rows`, and what is computed with them. */
static double in_units(int32_t rows, const struct geo_way *way)
{
    const int32_t unit = way->row_unit > 1 ? way->row_unit : 1, units = (rows + unit - 1) / unit;
    return way->row_more > 0 ? (double)rows + (double)units * way->row_more : (double)units * unit;
}

/* What it takes a node of speed 1 to compute `run` in a way. */
static double run_us(const struct cost *c, const struct geometry *g, const struct geo_op *op,
                     const struct geo_way *way, struct box run)
{
    const struct box whole = geometry_whole(g, op->out);
    const double rows = in_units(box_len(run, ROW), way) / in_units(box_len(whole, ROW), way);
    const double cols = (double)box_len(run, COL) / box_len(whole, COL);
    const double channels = (double)box_len(run, CHAN) / box_len(whole, CHAN);
    const double images = g->tensor[op->out].batch;
    const double work =
        ((double)way->work * rows * cols + (double)way->band_work) * channels * images;
    return larger(work / c->of.macs_per_us,
                  (double)way->weight_bytes * channels / c->of.weight_bytes_per_us);
}

/* What the slowest node takes to make `tensor`, no input, if all do so in a way. */
static double slowest_us(const struct cost *c, const struct plan *p, int32_t tensor,
                         const struct geo_way *way)
{
    const struct geo_op *op = &p->geo->op[p->geo->tensor[tensor].op];
    double slowest = 0;
    for (int32_t n = 0; n < p->nodes; n++) {
        const struct box run = plan_share(p, tensor, n)->run;
        if (!box_empty(run))
            slowest = larger(slowest, run_us(c, p->geo, op, way, run) / c->speed[n]);
    }
    return slowest;
}

/* The way in which nodes make `tensor`, no input, and in `*us` what it takes the slowest. */
static struct geo_way best_way(const struct cost *c, const struct plan *p, int32_t tensor,
                               double *us)
{
    const struct geo_op *op = &p->geo->op[p->geo->tensor[tensor].op];
    struct geo_way best = way_of(op, 0);
    *us = slowest_us(c, p, tensor, &best);
    for (int32_t i = 1; i < ways_of(op); i++) {
        const double with = slowest_us(c, p, tensor, &op->way[i]);
        if (with < *us) {
            best = op->way[i];
            *us = with;
        }
    }
    return best;
}

static double compute_us(const struct cost *c, const struct plan *p, int32_t tensor)
{
    double us = 0;
    if (!geometry_is_input(p->geo, tensor))
        best_way(c, p, tensor, &us);
    return us;
}

double cost_work_us(const struct cost *c, const struct plan *p, int32_t node)
{
    double us = 0;
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        const struct box run = plan_share(p, t, node)->run;
        if (geometry_is_input(p->geo, t) || box_empty(run))
            continue;
        double slowest;
        const struct geo_way way = best_way(c, p, t, &slowest);
        us += run_us(c, p->geo, &p->geo->op[p->geo->tensor[t].op], &way, run);
    }
    return us;
}

/* What one node, or the host, sends and receives of a tensor. */
struct traffic {
    double in, out; /* bytes */
    double work;    /* to code them: multiply-adds */
    int32_t messages_in, messages_out;
};

static struct traffic message_traffic(const struct cost *c, const struct plan *p,
                                      const struct plan_transfer *m)
{
    const int64_t values = box_values(m->box) * p->geo->tensor[m->tensor].batch;
    if (c->pixels && geometry_is_input(p->geo, m->tensor))
        return (struct traffic){ .in = (double)values };
    /* What is dropped is missed: were it free, whole maps would be. */
    const enum halo as = plan_halo(p, m), halo = as == HALO_DROP ? HALO_F32 : as;
    return (struct traffic){ .in = (double)halo_bytes(halo, values),
                             .work = (double)halo_work(halo, values) };
}

static double travel_us(const struct cost *c, const struct plan *p, int32_t tensor)
{
    struct traffic traffic[PLAN_MAX_NODES + 1] = { { 0 } };
    struct plan_transfer m[DEMAND_MAX_TRANSFERS];
    for (int32_t to = 0; to <= p->nodes; to++) {
        const int32_t count = demand_transfers(p, tensor, to, m);
        for (int32_t i = 0; i < count; i++) {
            struct traffic *sender = &traffic[m[i].from], *receiver = &traffic[to];
            const struct traffic one = message_traffic(c, p, &m[i]);
            receiver->in += one.in;
            receiver->work += one.work;
            receiver->messages_in++;
            if (m[i].from == p->nodes)
                continue; /* the picture goes out in any case */
            sender->out += one.in;
            sender->work += one.work;
            sender->messages_out++;
        }
    }
    double bytes = 0, messages = 0, work = 0;
    for (int32_t n = 0; n <= p->nodes; n++) {
        work = larger(work, traffic[n].work);
        bytes = larger(bytes, larger(traffic[n].in, traffic[n].out));
        messages = larger(messages, larger(traffic[n].messages_in, traffic[n].messages_out));
    }
    return bytes / c->of.link_bytes_per_us + work / c->of.macs_per_us + messages * c->of.message_us;
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
