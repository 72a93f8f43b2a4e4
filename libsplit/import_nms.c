/* NonMaxSuppression: which boxes of which class are left. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>

static int check_inputs(struct import *im, const struct shape *boxes, const struct shape *scores)
{
    char a[SHAPE_TEXT_BYTES], b[SHAPE_TEXT_BYTES];
    if (boxes->rank == 3 && scores->rank == 3 && boxes->dim[0] == scores->dim[0] &&
        boxes->dim[1] == scores->dim[2] && boxes->dim[2] == 4)
        return 0;
    return refuse(im, -EINVAL,
                  "boxes of shape %s and scores of shape %s; images x boxes x 4 and images x "
                  "classes x boxes belong together",
                  shape_text(boxes, a), shape_text(scores, b));
}

/* Most boxes of a class, and the thresholds; all are constants. */
static int read_limits(struct import *im, int32_t boxes, struct op *op)
{
    int64_t list[1] = { 0 };
    int32_t n;
    int rc = import_ints(im, NULL, 2, list, 1, &n);
    if (rc == 0)
        rc = import_scalar(im, 3, 0, &op->u.nms.iou);
    if (rc == 0)
        rc = import_scalar(im, 4, -INFINITY, &op->u.nms.score);
    if (rc)
        return rc;
    if (list[0] < 1)
        return refuse(im, -EINVAL,
                      "max_output_boxes_per_class is 0 or left out, which leaves no boxes");
    if (boxes > IMPORT_MAX_EXACT)
        return refuse(im, -ENOTSUP, "%d boxes", boxes);
    op->u.nms.per_class = (int32_t)(list[0] < boxes ? list[0] : boxes);
    op->u.nms.centre = onnx_attr_int(im->node, "center_point_box", 0) != 0;
    return 0;
}

static int lay_map(struct import *im, struct value *v)
{
    const struct shape map = shape_make_map(v->shape.rank, v->shape.dim);
    return import_lay(im, v, &map);
}

int import_non_max_suppression(struct import *im)
{
    struct value boxes, scores, out;
    struct op op = { .type = OP_NMS };
    int rc = import_tensor(im, 0, &boxes);
    if (rc == 0)
        rc = import_tensor(im, 1, &scores);
    if (rc == 0)
        rc = check_inputs(im, &boxes.shape, &scores.shape);
    if (rc == 0)
        rc = read_limits(im, boxes.shape.dim[1], &op);
    if (rc == 0)
        rc = lay_map(im, &boxes);
    if (rc == 0)
        rc = lay_map(im, &scores);
    if (rc)
        return rc;
    int64_t most = (int64_t)scores.shape.dim[0] * scores.shape.dim[1] * op.u.nms.per_class;
    if (most > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "%lld boxes could be left", (long long)most);
    if (most < IMPORT_MIN_FOUND)
        most = IMPORT_MIN_FOUND;
    /* One row, so that one node does it all. */
    const struct shape shape = { .rank = 2, .dim = { (int32_t)most, 3 }, .axis = { -1, 0, 1 } };
    const int32_t input[2] = { boxes.tensor, scores.tensor };
    rc = import_emit(im, &op, input, 2, &shape, &out);
    if (rc)
        return rc;
    out.found = im->graph->nops; /* this operator's number, from 1 on */
    return import_define(im, 0, &out);
}
