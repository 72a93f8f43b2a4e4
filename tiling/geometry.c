#include "tiling/geometry.h"

#include <errno.h>
#include <stdlib.h>

static bool count_ok(int32_t n, int32_t cap) { return n >= 0 && n <= cap; }

static bool counts_ok(int32_t ntensors, int32_t nops, int32_t ninputs)
{
    return count_ok(ntensors, GEO_MAX_TENSORS) && count_ok(nops, ntensors) &&
           count_ok(ninputs, GEO_MAX_TENSORS * GEO_MAX_INPUTS);
}

int geometry_init(struct geometry *g, int32_t nodes, int32_t ntensors, int32_t nops,
                  int32_t ninputs)
{
    if (!counts_ok(ntensors, nops, ninputs))
        return -EINVAL;

    /* One more than asked for, so that no allocation is empty and NULL means failure. */
    struct geometry made = {
        .nodes = nodes,
        .ntensors = ntensors,
        .nops = nops,
        .ninputs = ninputs,
        .tensor = calloc((size_t)ntensors + 1, sizeof(*made.tensor)),
        .op = calloc((size_t)nops + 1, sizeof(*made.op)),
        .input = calloc((size_t)ninputs + 1, sizeof(*made.input)),
    };
    if (!made.tensor || !made.op || !made.input) {
        geometry_done(&made);
        return -ENOMEM;
    }
    *g = made;
    return 0;
}

void geometry_done(struct geometry *g)
{
    free(g->tensor);
    free(g->op);
    free(g->input);
    *g = (struct geometry){ 0 };
}

static bool tensor_ok(const struct geometry *g, int32_t t)
{
    const struct geo_tensor *it = &g->tensor[t];
    if (it->batch < 1)
        return false;
    int64_t values = it->batch;
    for (int x = 0; x < AXES; x++) {
        if (it->dim[x] < 1 || it->dim[x] > BOX_MAX_EXTENT)
            return false;
        values *= it->dim[x]; /* < 2^59: at most 2^31 before, 2^28 more */
        if (values > BOX_MAX_VALUES)
            return false;
    }
    return it->op == GEO_NO_OP || (it->op >= 0 && it->op < g->nops && g->op[it->op].out == t);
}

static bool way_ok(const struct geo_way *w)
{
    return w->row_unit >= 0 && w->row_unit <= BOX_MAX_EXTENT && w->row_more >= 0 &&
           w->row_more <= BOX_MAX_EXTENT && w->work >= 0 && w->band_work >= 0 &&
           w->weight_bytes >= 0;
}

static bool op_ok(const struct geometry *g, int32_t o)
{
    const struct geo_op *op = &g->op[o];
    if (op->kind != GEO_MAP && op->kind != GEO_PARTIAL)
        return false;
    if (op->out < 0 || op->out >= g->ntensors || g->tensor[op->out].op != o)
        return false;
    if (!count_ok(op->nways, GEO_MAX_WAYS))
        return false;
    for (int32_t i = 0; i < op->nways; i++)
        if (!way_ok(&op->way[i]))
            return false;
    if (op->weight_bytes < 0 || op->macs < 0 || op->channel_unit < 0 ||
        op->channel_unit > BOX_MAX_EXTENT)
        return false;
    if (!count_ok(op->ninputs, GEO_MAX_INPUTS) || op->first < 0 ||
        op->first > g->ninputs - op->ninputs)
        return false;
    if (op->kind == GEO_PARTIAL && (op->ninputs != 1 || g->tensor[op->out].dim[ROW] != g->nodes))
        return false;

    for (int32_t i = 0; i < op->ninputs; i++) {
        const struct geo_input *in = &g->input[op->first + i];
        if (in->tensor < 0 || in->tensor >= g->ntensors || g->tensor[in->tensor].op >= o)
            return false;
        for (int x = 0; x < AXES; x++)
            if (in->reach[x].den < 1)
                return false;
    }
    return true;
}

int geometry_check(const struct geometry *g)
{
    if (g->nodes < 1 || !counts_ok(g->ntensors, g->nops, g->ninputs))
        return -EINVAL;
    for (int32_t t = 0; t < g->ntensors; t++)
        if (!tensor_ok(g, t))
            return -EINVAL;
    for (int32_t o = 0; o < g->nops; o++)
        if (!op_ok(g, o))
            return -EINVAL;
    return 0;
}

struct box geometry_need(const struct geometry *g, int32_t op, int32_t i, struct box out)
{
    const struct geo_input *in = &g->input[g->op[op].first + i];
    return reach_box(in->reach, out, g->tensor[in->tensor].dim);
}
