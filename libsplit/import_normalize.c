/* Normalizations, made of the operators that there are anyway. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>

/* x becomes x - mean, and that times inverse, which is 1 / sqrt(variance + epsilon); both over
 * the axes in `set`. */
static int normalize(struct import *im, struct value *x, uint32_t set, float epsilon,
                     struct value *mean, struct value *inverse)
{
    struct value centred;
    *mean = *x;
    int rc = import_reduced(im, REDUCE_MEAN, mean, set);
    if (rc == 0)
        rc = import_binary(im, BINARY_SUB, x, mean, &centred);
    if (rc == 0)
        rc = import_binary(im, BINARY_MUL, &centred, &centred, inverse);
    if (rc == 0)
        rc = import_reduced(im, REDUCE_MEAN, inverse, set);
    if (rc == 0)
        rc = import_with_number(im, BINARY_ADD, inverse, epsilon);
    if (rc == 0)
        rc = import_act(im, (struct act){ .kind = ACT_SQRT }, inverse);
    if (rc == 0)
        rc = import_act(im, (struct act){ .kind = ACT_RECIPROCAL }, inverse);
    return rc ? rc : import_binary(im, BINARY_MUL, &centred, inverse, x);
}

/* x * input 1 + input 2, which may be left out; the last axis of both is `axis` of x. */
static int scale_and_shift(struct import *im, struct value *x, int32_t axis)
{
    static const enum binary_kind kind[] = { BINARY_MUL, BINARY_ADD };
    for (int32_t i = 0; i < 2; i++) {
        const struct value *in = import_input(im, 1 + i);
        if (!in)
            continue;
        struct value v = *in;
        int rc = import_append_axes(im, &v, x->shape.rank - 1 - axis);
        if (rc == 0)
            rc = import_binary(im, kind[i], x, &v, x);
        if (rc)
            return rc;
    }
    return 0;
}

int import_layer_normalization(struct import *im)
{
    struct value x, mean, inverse;
    int32_t axis;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", -1), x.shape.rank, &axis);
    if (rc)
        return rc;
    const uint32_t set = (1u << x.shape.rank) - (1u << axis);
    const float epsilon = onnx_attr_float(im->node, "epsilon", 1e-5F);
    rc = normalize(im, &x, set, epsilon, &mean, &inverse);
    if (rc == 0)
        rc = scale_and_shift(im, &x, x.shape.rank - 1);
    if (rc == 0)
        rc = import_define(im, 0, &x);
    if (rc == 0)
        rc = import_define(im, 1, &mean);
    return rc ? rc : import_define(im, 2, &inverse);
}

int import_instance_normalization(struct import *im)
{
    struct value x, mean, inverse;
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (x.shape.rank < 3)
        return refuse(im, -EINVAL, "an input with %d axes has no space", x.shape.rank);
    const uint32_t space = (1u << x.shape.rank) - 4; /* all axes but batch and channels */
    const float epsilon = onnx_attr_float(im->node, "epsilon", 1e-5F);
    if ((rc = import_lay_usual(im, &x)))
        return rc;
    rc = normalize(im, &x, space, epsilon, &mean, &inverse);
    if (rc == 0)
        rc = scale_and_shift(im, &x, 1);
    return rc ? rc : import_define(im, 0, &x);
}

/* ONNX adds 1e-9 to the standard deviation. */
int import_mean_variance_normalization(struct import *im)
{
    struct value x, mean, inverse;
    int64_t list[SHAPE_MAX_RANK] = { 0, 2, 3 };
    int32_t n = -1, axis;
    uint32_t set = 0;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_ints(im, "axes", -1, list, SHAPE_MAX_RANK, &n);
    for (int32_t i = 0; i < (n < 0 ? 3 : n) && rc == 0; i++) {
        rc = import_axis(im, list[i], x.shape.rank, &axis);
        set |= rc == 0 ? 1u << axis : 0;
    }
    if (rc == 0)
        rc = normalize(im, &x, set, 1e-18F, &mean, &inverse);
    return rc ? rc : import_define(im, 0, &x);
}

int import_lrn(struct import *im)
{
    struct value x;
    struct op op = { .type = OP_LRN };
    const int64_t size = onnx_attr_int(im->node, "size", 0);
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (size < 1 || size > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "a window of %lld channels", (long long)size);
    if ((rc = import_lay_channels(im, &x)))
        return rc;
    op.u.lrn.size = (int32_t)size;
    op.u.lrn.alpha = onnx_attr_float(im->node, "alpha", 1e-4F);
    op.u.lrn.beta = onnx_attr_float(im->node, "beta", 0.75F);
    op.u.lrn.bias = onnx_attr_float(im->node, "bias", 1);
    return import_simple(im, &op, &x, &x.shape);
}
