/* TopK: the largest or smallest values along an axis, and their places. */
#include "libsplit/import.h"

#include <errno.h>

static int read_k(struct import *im, int32_t len, int64_t *k)
{
    int64_t list[1];
    int32_t n = 0;
    *k = onnx_attr_int(im->node, "k", 0);
    if (im->model->opset >= 10) {
        const int rc = import_ints(im, NULL, 1, list, 1, &n);
        if (rc)
            return rc;
        *k = n == 1 ? list[0] : 0;
    }
    if (*k < 1 || *k > len || len > IMPORT_MAX_EXACT)
        return refuse(im, -EINVAL, "%lld of %d values", (long long)*k, len);
    return 0;
}

int import_top_k(struct import *im)
{
    struct value x, out;
    int64_t k = 0;
    int32_t axis;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", -1), x.shape.rank, &axis);
    if (rc == 0)
        rc = read_k(im, x.shape.dim[axis], &k);
    if (rc == 0)
        rc = import_lay_unbatched(im, &x, 1u << axis);
    if (rc)
        return rc;
    struct op op = { .type = OP_TOP_K };
    struct shape s = x.shape;
    s.dim[axis] = (int32_t)k;
    op.u.top_k.axis = shape_role(&s, axis);
    op.u.top_k.smallest = !onnx_attr_int(im->node, "largest", 1);
    for (int32_t i = 0; i < 2 && rc == 0; i++) {
        op.u.top_k.indices = i == 1;
        rc = import_emit(im, &op, &x.tensor, 1, &s, &out);
        if (rc == 0)
            rc = import_define(im, i, &out);
    }
    return rc;
}
