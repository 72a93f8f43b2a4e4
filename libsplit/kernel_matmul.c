#include <string.h>

#include "libsplit/kernel_ops.h"

/* One output row after the other, each a sum of rows of the second input: the order of additions
 * does not depend on how rows are cut. */
void matmul_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const int32_t terms = input_dim(call, 0)[CHAN], n = box_len(*r, CHAN);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        float *restrict to = view_at(&call->out, y, 0, r->lo[CHAN]);
        const float *restrict factor = view_at(&call->in[0], y, 0, 0);
        memset(to, 0, (size_t)n * sizeof(*to));
        for (int32_t i = 0; i < terms; i++) {
            const float *restrict from = view_at(&call->in[1], i, 0, r->lo[CHAN]);
            for (int32_t k = 0; k < n; k++)
                to[k] += factor[i] * from[k];
        }
    }
    act_region(call);
}
