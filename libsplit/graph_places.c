/* Which tensors hold places, such as those of the largest values, or what is computed from them:
 * the place beside another says nothing of it, as a value does. */
#include "libsplit/graph.h"

static bool yields_places(const struct op *op)
{
    switch (op->type) {
    case OP_TOP_K:
        return op->u.top_k.indices;
    case OP_MAX_POOL:
        return op->u.pool.places;
    case OP_NMS:
        return true;
    case OP_PARTIAL:
    case OP_COMBINE:
    case OP_REDUCE:
        return op->u.reduce.kind == REDUCE_ARG_MAX || op->u.reduce.kind == REDUCE_ARG_MIN;
    default:
        return false;
    }
}

/* Does `op` look at input `i` only to know where to find or to put values of its input 0? */
static bool reads_places(const struct op *op, int32_t i)
{
    return i == 1 && (op->type == OP_GATHER || op->type == OP_MAX_UNPOOL ||
                      op->type == OP_GRID_SAMPLE || op->type == OP_ROI_ALIGN);
}

static void mark_places(const struct graph *g, bool *places)
{
    for (int32_t t = 0; t < g->ntensors; t++)
        places[t] = false;
    for (int32_t o = 0; o < g->nops; o++) {
        const struct op *op = &g->op[o];
        bool from_places = yields_places(op);
        for (int32_t i = 0; i < op->ninputs; i++) {
            if (reads_places(op, i))
                places[op->input[i]] = true;
            else
                from_places = from_places || places[op->input[i]];
        }
        if (from_places)
            places[op->output] = true;
    }
}

void graph_exact(const struct graph *g, bool *exact)
{
    mark_places(g, exact);
    for (int32_t t = 0; t < g->ntensors; t++)
        exact[t] = exact[t] || g->tensor[t].whole;
}

void graph_may_miss(const struct graph *g, bool *may_miss)
{
    graph_exact(g, may_miss);
    for (int32_t t = 0; t < g->ntensors; t++)
        may_miss[t] = !may_miss[t];
}
