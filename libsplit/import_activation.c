/* Operators of one value: y = f(x). */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Attributes that become act.a and act.b, and their values where they are not given. */
struct function {
    const char *op_type;
    enum act_kind kind;
    const char *a, *b;
    float a_default, b_default;
};

static const struct function functions[] = {
    { "Abs", ACT_ABS, NULL, NULL, 0, 0 },
    { "Acos", ACT_ACOS, NULL, NULL, 0, 0 },
    { "Acosh", ACT_ACOSH, NULL, NULL, 0, 0 },
    { "Asin", ACT_ASIN, NULL, NULL, 0, 0 },
    { "Asinh", ACT_ASINH, NULL, NULL, 0, 0 },
    { "Atan", ACT_ATAN, NULL, NULL, 0, 0 },
    { "Atanh", ACT_ATANH, NULL, NULL, 0, 0 },
    { "Ceil", ACT_CEIL, NULL, NULL, 0, 0 },
    { "Celu", ACT_CELU, "alpha", NULL, 1, 0 },
    { "Cos", ACT_COS, NULL, NULL, 0, 0 },
    { "Cosh", ACT_COSH, NULL, NULL, 0, 0 },
    { "Elu", ACT_ELU, "alpha", NULL, 1, 0 },
    { "Erf", ACT_ERF, NULL, NULL, 0, 0 },
    { "Exp", ACT_EXP, NULL, NULL, 0, 0 },
    { "Floor", ACT_FLOOR, NULL, NULL, 0, 0 },
    { "Gelu", ACT_GELU, NULL, NULL, 0, 0 },
    { "HardSigmoid", ACT_HARD_SIGMOID, "alpha", "beta", 0.2F, 0.5F },
    { "HardSwish", ACT_HARD_SWISH, NULL, NULL, 0, 0 },
    { "LeakyRelu", ACT_LEAKY_RELU, "alpha", NULL, 0.01F, 0 },
    { "Log", ACT_LOG, NULL, NULL, 0, 0 },
    { "Mish", ACT_MISH, NULL, NULL, 0, 0 },
    { "Neg", ACT_NEG, NULL, NULL, 0, 0 },
    { "Not", ACT_NOT, NULL, NULL, 0, 0 },
    { "Reciprocal", ACT_RECIPROCAL, NULL, NULL, 0, 0 },
    { "Relu", ACT_RELU, NULL, NULL, 0, 0 },
    { "Round", ACT_ROUND, NULL, NULL, 0, 0 },
    { "Selu", ACT_SELU, "alpha", "gamma", 1.67326319F, 1.05070102F },
    { "Shrink", ACT_SHRINK, "lambd", "bias", 0.5F, 0 },
    { "Sigmoid", ACT_SIGMOID, NULL, NULL, 0, 0 },
    { "Sign", ACT_SIGN, NULL, NULL, 0, 0 },
    { "Sin", ACT_SIN, NULL, NULL, 0, 0 },
    { "Sinh", ACT_SINH, NULL, NULL, 0, 0 },
    { "Softplus", ACT_SOFTPLUS, NULL, NULL, 0, 0 },
    { "Softsign", ACT_SOFTSIGN, NULL, NULL, 0, 0 },
    { "Sqrt", ACT_SQRT, NULL, NULL, 0, 0 },
    { "Tan", ACT_TAN, NULL, NULL, 0, 0 },
    { "Tanh", ACT_TANH, NULL, NULL, 0, 0 },
    { "ThresholdedRelu", ACT_THRESHOLDED_RELU, "alpha", NULL, 1, 0 },
};

int import_act(struct import *im, struct act act, struct value *v)
{
    const struct op op = { .type = OP_ACTIVATION, .act = act };
    const int32_t input = v->tensor;
    const struct shape shape = v->shape;
    return import_emit(im, &op, &input, 1, &shape, v);
}

/* The whole node is `act`. */
static int simple_act(struct import *im, struct act act)
{
    struct value x;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_act(im, act, &x);
    return rc ? rc : import_define(im, 0, &x);
}

static const struct function *function_named(const char *op_type)
{
    size_t i = 0;
    while (i < sizeof functions / sizeof functions[0] - 1 &&
           strcmp(functions[i].op_type, op_type) != 0)
        i++;
    return &functions[i];
}

int import_function(struct import *im)
{
    const struct function *f = function_named(im->node->op_type);
    struct act act = { .kind = f->kind };
    if (f->a)
        act.a = onnx_attr_float(im->node, f->a, f->a_default);
    if (f->b)
        act.b = onnx_attr_float(im->node, f->b, f->b_default);
    if (strcmp(onnx_attr_string(im->node, "approximate", "none"), "tanh") == 0)
        act.kind = ACT_GELU_TANH;
    return simple_act(im, act);
}

/* Bounds are attributes until opset 10 and inputs from 11 on. */
int import_clip(struct import *im)
{
    float lo = onnx_attr_float(im->node, "min", -INFINITY);
    float hi = onnx_attr_float(im->node, "max", INFINITY);
    int rc = import_scalar(im, 1, lo, &lo);
    if (rc == 0)
        rc = import_scalar(im, 2, hi, &hi);
    if (rc)
        return rc;
    return simple_act(im, (struct act){ .kind = ACT_CLIP, .a = lo, .b = hi });
}

/* True if `slope`, with `shift` extents of 1 before its own, is one number per channel of `s`. */
static bool is_per_channel(const struct onnx_tensor *slope, int32_t shift, const struct shape *s)
{
    for (int32_t i = 0; i < slope->rank; i++)
        if (slope->dim[i] != 1 &&
            (shape_role(s, i + shift) != CHAN || slope->dim[i] != s->dim[i + shift]))
            return false;
    return true;
}

/* A slope that is one number, or one per channel, can be fused into the operator before. */
int import_prelu(struct import *im)
{
    struct value x;
    const struct value *s = import_input(im, 1);
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (!s || s->shape.rank > x.shape.rank)
        return refuse(im, -EINVAL, "the slope is missing or has more axes than the input");
    const struct onnx_tensor *slope = s->constant;
    if (slope && slope->count == 1)
        return simple_act(im, (struct act){ .kind = ACT_LEAKY_RELU, .a = onnx_float(slope, 0) });
    /* Until opset 6 a list of slopes was for axis 1. */
    const bool old = im->model->opset < 7 && s->shape.rank == 1;
    const int32_t shift = old ? 1 : x.shape.rank - s->shape.rank;
    if (!slope || !is_per_channel(slope, shift, &x.shape)) {
        struct value operand = *s;
        if (old)
            rc = import_append_axes(im, &operand, x.shape.rank - 2);
        if (rc == 0)
            rc = import_binary(im, BINARY_PRELU, &x, &operand, &x);
        return rc ? rc : import_define(im, 0, &x);
    }
    struct act act = { .kind = ACT_PRELU };
    float *copy;
    if ((rc = import_floats(im, slope, shape_len(&x.shape, CHAN), &copy)))
        return rc;
    act.slope = copy;
    return simple_act(im, act);
}
