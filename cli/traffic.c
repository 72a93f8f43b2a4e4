#include "cli/traffic.h"

#include "libsplit/coding.h"

int64_t traffic_bytes(const struct plan *p, const struct graph *g, const struct plan_transfer *t,
                      bool pixels)
{
    const int64_t n = box_values(t->box) * g->tensor[t->tensor].batch;
    if (pixels && t->from == p->nodes)
        return 1 + n;
    const int64_t most = (int64_t)codec_bound((size_t)n);
    const int64_t bytes = (int64_t)codec_len(coding_mode(plan_halo(p, t)), (size_t)n);
    return bytes < most ? bytes : most;
}
