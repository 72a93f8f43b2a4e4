#include <math.h>

#include "libsplit/kernel_ops.h"
#include "libsplit/nms.h"

enum { PLACE = 3 }; /* image, class and box */

size_t nms_scratch_bytes(const struct graph *g, const struct op *op)
{
    return (size_t)g->tensor[op->input[0]].dim[COL] * sizeof(struct detection);
}

/* Corners may come in any order. */
static struct detection read_box(const float *box, bool centre)
{
    if (centre)
        return (struct detection){ .row = box[1] - box[3] / 2,
                                   .col = box[0] - box[2] / 2,
                                   .row_end = box[1] + box[3] / 2,
                                   .col_end = box[0] + box[2] / 2 };
    return (struct detection){ .row = fminf(box[0], box[2]),
                               .col = fminf(box[1], box[3]),
                               .row_end = fmaxf(box[0], box[2]),
                               .col_end = fmaxf(box[1], box[3]) };
}

/* The boxes of one class of one image that are left, best first, in `d`.  Returns how many. */
static int32_t select_boxes(const struct kernel_call *call, int32_t image, int32_t class,
                            struct detection *d)
{
    const struct op *op = call->op;
    const float *score = view_at(&call->in[1], image, class, 0);
    const int32_t boxes = input_dim(call, 0)[COL];
    int32_t n = 0;
    for (int32_t i = 0; i < boxes; i++) {
        if (!(score[i] > op->u.nms.score)) /* nor is NaN */
            continue;
        d[n] = read_box(view_at(&call->in[0], image, i, 0), op->u.nms.centre);
        d[n].score = score[i];
        d[n++].place = i;
    }
    return nms(d, n, op->u.nms.iou, op->u.nms.per_class);
}

/* Column `at` of the output, as far as it is in the region. */
static void put(const struct kernel_call *call, int32_t at, const float place[PLACE])
{
    const struct box *r = &call->region;
    if (at < r->lo[COL] || at >= r->hi[COL])
        return;
    for (int32_t k = r->lo[CHAN]; k < r->hi[CHAN]; k++)
        *view_at(&call->out, 0, at, k) = place[k];
}

void nms_run(const struct kernel_call *call)
{
    const int32_t *scores = input_dim(call, 1);
    struct detection *d = (void *)call->scratch;
    int32_t at = 0;
    for (int32_t image = 0; image < scores[ROW]; image++)
        for (int32_t class = 0; class < scores[COL]; class ++) {
            const int32_t n = select_boxes(call, image, class, d);
            for (int32_t i = 0; i < n; i++)
                put(call, at++, (const float[]){ (float)image, (float)class, (float)d[i].place });
        }
    for (; at < call->region.hi[COL]; at++)
        put(call, at, (const float[]){ NAN, NAN, NAN });
    act_region(call);
}
