/* Pooling. */
#include "libsplit/import.h"

#include <errno.h>

/* Output 1 of a MaxPool: where in the whole input its values stood. */
static int define_places(struct import *im, struct op *op, const struct value *x,
                         const struct shape *out)
{
    struct value places;
    if (im->node->noutputs < 2 || !im->node->output[1][0])
        return 0;
    if (shape_values(&x->shape) > IMPORT_MAX_EXACT)
        return refuse(im, -ENOTSUP, "indices of %lld values", (long long)shape_values(&x->shape));
    op->u.pool.places = true;
    op->u.pool.rows_first = onnx_attr_int(im->node, "storage_order", 0) != 0;
    const int rc = import_emit(im, op, &x->tensor, 1, out, &places);
    return rc ? rc : import_define(im, 1, &places);
}

static int import_pool(struct import *im, enum op_type type)
{
    struct value x;
    struct window_attrs w;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_only_outputs(im, type == OP_MAX_POOL ? 2 : 1);
    if (rc == 0)
        rc = import_window(im, &x.shape, NULL, type == OP_MAX_POOL, &w);
    if (rc == 0)
        rc = import_lay_usual(im, &x);
    if (rc)
        return rc;
    for (int32_t i = 0; i < w.axes; i++) {
        const int64_t span = ((int64_t)w.win.kernel[i] - 1) * w.win.dilation[i] + 1;
        if (w.win.pad[i] >= span || w.win.pad_end[i] >= span)
            return refuse(im, -EINVAL, "padding of %d and %d for a kernel that spans %lld",
                          w.win.pad[i], w.win.pad_end[i], (long long)span);
    }
    struct op op = { .type = type };
    op.u.pool.win = w.win;
    op.u.pool.count_include_pad = onnx_attr_int(im->node, "count_include_pad", 0) != 0;
    struct shape out = x.shape;
    for (int32_t i = 0; i < w.axes; i++)
        out.dim[2 + i] = w.out[i];
    rc = import_simple(im, &op, &x, &out);
    return rc ? rc : define_places(im, &op, &x, &out);
}

int import_max_pool(struct import *im) { return import_pool(im, OP_MAX_POOL); }
int import_average_pool(struct import *im) { return import_pool(im, OP_AVERAGE_POOL); }

static int import_global(struct import *im, enum reduce_kind kind)
{
    struct value x;
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (x.shape.rank < 3)
        return refuse(im, -EINVAL, "an input with %d axes has no space", x.shape.rank);
    rc = import_lay_usual(im, &x);
    if (rc == 0) /* all axes but batch and channels */
        rc = import_reduced(im, kind, &x, (1u << x.shape.rank) - 4);
    return rc ? rc : import_define(im, 0, &x);
}

int import_global_average_pool(struct import *im) { return import_global(im, REDUCE_MEAN); }
int import_global_max_pool(struct import *im) { return import_global(im, REDUCE_MAX); }

/* The extents that are given, or those that the MaxPool's input most likely had. */
int import_max_unpool(struct import *im)
{
    struct value x, places;
    struct window_attrs w;
    int64_t want[SHAPE_MAX_RANK];
    int32_t n;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_tensor(im, 1, &places);
    if (rc == 0)
        rc = import_window_transposed(im, &x.shape, NULL, &w);
    if (rc == 0)
        rc = import_ints(im, NULL, 2, want, SHAPE_MAX_RANK, &n);
    if (rc == 0)
        rc = import_lay_usual(im, &x);
    if (rc == 0)
        rc = import_lay_usual(im, &places);
    if (rc)
        return rc;
    struct shape out = x.shape;
    struct op op = { .type = OP_MAX_UNPOOL, .u.max_unpool.plane = { w.out[ROW], w.out[COL] } };
    for (int32_t i = 0; i < w.axes; i++)
        out.dim[2 + i] = w.out[i];
    if (!shape_same_dims(&x.shape, &places.shape) || shape_values(&out) > IMPORT_MAX_EXACT)
        return refuse(im, -ENOTSUP, "indices of another shape than the values, or above %d",
                      IMPORT_MAX_EXACT);
    if (n >= 0 && n != out.rank)
        return refuse(im, -EINVAL, "an output shape of %d extents for %d axes", n, out.rank);
    for (int32_t i = 0; i < n; i++) {
        if (want[i] < (i < 2 ? out.dim[i] : 1) || want[i] > (i < 2 ? out.dim[i] : BOX_MAX_EXTENT))
            return refuse(im, -EINVAL, "an output of extent %lld on axis %d", (long long)want[i],
                          i);
        out.dim[i] = (int32_t)want[i];
    }
    struct value v;
    const int32_t input[2] = { x.tensor, places.tensor };
    rc = import_emit(im, &op, input, 2, &out, &v);
    return rc ? rc : import_define(im, 0, &v);
}
