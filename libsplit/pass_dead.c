#include "libsplit/passes.h"

#include <errno.h>
#include <stdlib.h>

/* Marks the tensors that lead to an output; inputs of the network always stay. */
static void mark(const struct graph *g, bool *live)
{
    for (int32_t i = 0; i < g->ninputs; i++)
        live[g->input[i].tensor] = true;
    for (int32_t i = 0; i < g->noutputs; i++)
        live[g->output[i].tensor] = true;
    for (int32_t i = g->nops; i-- > 0;) {
        const struct op *op = &g->op[i];
        if (op_is_dead(op) || !live[op->output])
            continue;
        for (int32_t k = 0; k < op->ninputs; k++)
            live[op->input[k]] = true;
    }
}

/* Closes the gaps; place[t] is where tensor t went. */
static void compact(struct graph *g, const bool *live, int32_t *place)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->ntensors; i++) {
        place[i] = n;
        if (live[i])
            g->tensor[n++] = g->tensor[i];
    }
    g->ntensors = n;
    n = 0;
    for (int32_t i = 0; i < g->nops; i++) {
        if (op_is_dead(&g->op[i]) || !live[g->op[i].output])
            continue;
        struct op op = g->op[i];
        for (int32_t k = 0; k < op.ninputs; k++)
            op.input[k] = place[op.input[k]];
        op.output = place[op.output];
        g->tensor[op.output].op = n;
        g->op[n++] = op;
    }
    g->nops = n;
    for (int32_t i = 0; i < g->ninputs; i++)
        g->input[i].tensor = place[g->input[i].tensor];
    for (int32_t i = 0; i < g->noutputs; i++)
        g->output[i].tensor = place[g->output[i].tensor];
}

int pass_dead(struct graph *g)
{
    const size_t n = (size_t)g->ntensors + 1;
    bool *live = calloc(n, sizeof *live);
    int32_t *place = calloc(n, sizeof *place);
    const int rc = live && place ? 0 : -ENOMEM;
    if (rc == 0) {
        mark(g, live);
        compact(g, live, place);
    }
    free(place);
    free(live);
    return rc;
}
