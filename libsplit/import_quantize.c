/* QuantizeLinear and DequantizeLinear in floats: what a quantized network holds between the two
 * is the same numbers, and weights are dequantized when they are loaded. */
#include "libsplit/import.h"

#include <errno.h>

/* Scale (input 1) or zero point (input 2): one number, or one per place on `axis`. */
static int parameter(struct import *im, int32_t i, const struct shape *x, struct value *v)
{
    int32_t axis;
    const struct value *in = import_input(im, i);
    if (!in || !in->constant)
        return refuse(im, -ENOTSUP, "input %d is no constant", i);
    *v = *in;
    if (in->constant->count == 1) {
        v->shape = shape_make(0, NULL);
        return 0;
    }
    int rc = import_axis(im, onnx_attr_int(im->node, "axis", 1), x->rank, &axis);
    if (rc)
        return rc;
    if (in->shape.rank != 1 || in->shape.dim[0] != x->dim[axis])
        return refuse(im, -ENOTSUP, "input %d is neither one number nor one per place on axis %d",
                      i, axis);
    return import_append_axes(im, v, x->rank - 1 - axis);
}

/* x = x (kind) input `i`. */
static int apply(struct import *im, enum binary_kind kind, int32_t i, struct value *x)
{
    struct value p;
    const int rc = parameter(im, i, &x->shape, &p);
    return rc ? rc : import_binary(im, kind, x, &p, x);
}

int import_quantize_linear(struct import *im)
{
    struct value x;
    const struct value *zero = import_input(im, 2);
    const enum onnx_type type = zero && zero->constant ? zero->constant->type : ONNX_UINT8;
    struct act range = { .kind = ACT_CLIP, .a = 0, .b = 255 };
    if (type == ONNX_INT8) {
        range.a = -128;
        range.b = 127;
    } else if (type != ONNX_UINT8) {
        return refuse(im, -ENOTSUP, "to data type %d; uint8 and int8 are supported", (int)type);
    }
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = apply(im, BINARY_DIV, 1, &x);
    if (rc == 0)
        rc = import_act(im, (struct act){ .kind = ACT_ROUND }, &x);
    if (rc == 0 && zero)
        rc = apply(im, BINARY_ADD, 2, &x);
    if (rc == 0)
        rc = import_act(im, range, &x);
    return rc ? rc : import_define(im, 0, &x);
}

int import_dequantize_linear(struct import *im)
{
    struct value x;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0 && import_input(im, 2))
        rc = apply(im, BINARY_SUB, 2, &x);
    if (rc == 0)
        rc = apply(im, BINARY_MUL, 1, &x);
    return rc ? rc : import_define(im, 0, &x);
}
