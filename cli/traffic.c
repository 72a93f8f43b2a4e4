#include "cli/traffic.h"

#include "quant/codec.h"

int64_t traffic_bytes(const struct plan *p, const struct graph *g, const struct plan_transfer *t,
                      bool pixels)
{
    const int64_t n = box_values(t->box) * g->tensor[t->tensor].batch;
    if (pixels && t->from == p->nodes)
        return 1 + n;
    return (int64_t)codec_bound((size_t)n);
}
