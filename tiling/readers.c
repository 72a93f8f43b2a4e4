#include "tiling/readers.h"

#include <errno.h>
#include <stdlib.h>

static int32_t count_reads(const struct geometry *g)
{
    int32_t reads = 0; /* at most GEO_MAX_TENSORS * GEO_MAX_INPUTS */
    for (int32_t o = 0; o < g->nops; o++)
        reads += g->op[o].ninputs;
    return reads;
}

static void fill(struct readers *r, const struct geometry *g)
{
    for (int32_t o = 0; o < g->nops; o++)
        for (int32_t i = 0; i < g->op[o].ninputs; i++)
            r->first[g->input[g->op[o].first + i].tensor]++;
    int32_t sum = 0;
    for (int32_t t = 0; t <= g->ntensors; t++) {
        sum += r->first[t];
        r->first[t] = sum;
    }
    /* Filled from behind, so that each ends where it begins. */
    for (int32_t o = g->nops - 1; o >= 0; o--)
        for (int32_t i = g->op[o].ninputs - 1; i >= 0; i--)
            r->reader[--r->first[g->input[g->op[o].first + i].tensor]] = (struct reader){ o, i };
}

int readers_init(struct readers *r, const struct geometry *g)
{
    struct readers made = {
        .first = calloc((size_t)g->ntensors + 1, sizeof(*made.first)),
        .reader = calloc((size_t)count_reads(g) + 1, sizeof(*made.reader)),
    };
    if (!made.first || !made.reader) {
        readers_done(&made);
        return -ENOMEM;
    }
    fill(&made, g);
    *r = made;
    return 0;
}

void readers_done(struct readers *r)
{
    free(r->first);
    free(r->reader);
    *r = (struct readers){ 0 };
}
