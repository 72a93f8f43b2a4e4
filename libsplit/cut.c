#include "libsplit/cut.h"

/* What one value costs beside its multiply-adds, in the time of a multiply-add: to be read,
 * written, and perhaps be put through an activation. */
enum { VALUE_WORK = 12 };

/* Channels of one cache line. */
enum { LINE = 16 };

static int64_t work_of(const struct geometry *geo, int32_t op, struct box region)
{
    const struct geo_tensor *out = &geo->tensor[geo->op[op].out];
    const double part =
        (double)box_values(region) / (double)box_values(box_whole(out->dim)) * out->batch;
    const double work =
        ((double)geo->op[op].macs + (double)VALUE_WORK * (double)box_values(box_whole(out->dim))) *
        part;
    return work < 1e18 ? (int64_t)work : (int64_t)1e18;
}

/* Bytes of the maps that the operator reads and writes. */
static double map_bytes(const struct geometry *geo, int32_t op, struct box region)
{
    double values = (double)box_values(region);
    for (int32_t i = 0; i < geo->op[op].ninputs; i++) {
        const int32_t t = geo->input[geo->op[op].first + i].tensor;
        values += (double)box_values(box_whole(geo->tensor[t].dim));
    }
    return values * (double)sizeof(float);
}

/* Where part `i` begins: a row, a channel or a piece. */
static int32_t part_begin(const struct cut *cut, const struct graph *g, const struct op *op,
                          struct box region, int32_t i)
{
    const int32_t lo = cut->pieces ? 0 : region.lo[cut->axis];
    const int32_t len = cut->pieces ? cut->pieces : box_len(region, cut->axis);
    const int32_t at = lo + (int32_t)((int64_t)len * i / cut->parts);
    if (cut->axis == ROW || i == 0 || i == cut->parts)
        return at;
    const struct kernel *k = &kernels[op->type];
    const int32_t to = k->cut_channel ? k->cut_channel(g, op, at) : at / LINE * LINE;
    return to < lo ? lo : to > lo + len ? lo + len : to;
}

struct part cut_part(const struct cut *cut, const struct graph *g, const struct op *op,
                     struct box region, int32_t i)
{
    if (cut->parts == 1)
        return (struct part){ .region = region };
    const struct span part = { part_begin(cut, g, op, region, i),
                               part_begin(cut, g, op, region, i + 1) };
    if (part.lo == part.hi)
        return (struct part){ .region = box_none() };
    if (cut->pieces)
        return (struct part){ .region = region, .pieces = part };
    return (struct part){ .region = box_band(region, cut->axis, part.lo, part.hi) };
}

/* The share of the region that its largest part is. */
static double largest_share(const struct cut *cut, const struct graph *g, const struct op *op,
                            struct box region)
{
    const int32_t len = cut->pieces ? cut->pieces : box_len(region, cut->axis);
    int32_t most = 0;
    for (int32_t i = 0; i < cut->parts; i++) {
        const int32_t part =
            part_begin(cut, g, op, region, i + 1) - part_begin(cut, g, op, region, i);
        most = part > most ? part : most;
    }
    return (double)most / len;
}

struct cut cut_choose(const struct graph *g, const struct geometry *geo, int32_t op,
                      struct box region, const struct pool *pool)
{
    const struct op *o = &g->op[op];
    const struct kernel *k = &kernels[o->type];
    const int32_t parts = pool_parts(pool, work_of(geo, op, region));
    const struct cut none = { .axis = ROW, .parts = 1 };
    if (parts == 1 || box_empty(region))
        return none;
    const struct cut rows = { ROW, k->pieces ? k->pieces(g, o, &region) : 0, parts };
    const struct cut channels = { CHAN, 0, parts };
    const double by_rows = largest_share(&rows, g, o, region);
    const double by_channels = largest_share(&channels, g, o, region);
    const bool heavy = (double)geo->op[op].weight_bytes > map_bytes(geo, op, region);
    /* What is read twice costs something: channels must promise a little more than rows, or rows
     * a little more than channels. */
    const struct cut better = by_channels * (heavy ? 0.9 : 1.1) < by_rows ? channels : rows;
    return (better.axis == ROW ? by_rows : by_channels) < 1 ? better : none;
}
