/* Operators that work value by value, and Softmax. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* ---- activations */

static int import_activation(struct import *im, struct act act)
{
    struct value x;
    const int rc = import_tensor(im, 0, &x);
    const struct op op = { .type = OP_ACTIVATION, .act = act };
    return rc < 0 ? rc : import_simple(im, &op, &x, &x.shape);
}

int import_relu(struct import *im)
{
    return import_activation(im, (struct act){ .kind = ACT_RELU });
}

int import_sigmoid(struct import *im)
{
    return import_activation(im, (struct act){ .kind = ACT_SIGMOID });
}

int import_tanh(struct import *im)
{
    return import_activation(im, (struct act){ .kind = ACT_TANH });
}

int import_hard_swish(struct import *im)
{
    return import_activation(im, (struct act){ .kind = ACT_HARD_SWISH });
}

int import_leaky_relu(struct import *im)
{
    const float a = onnx_attr_float(im->node, "alpha", 0.01f);
    return import_activation(im, (struct act){ .kind = ACT_LEAKY_RELU, .a = a });
}

int import_hard_sigmoid(struct import *im)
{
    const float a = onnx_attr_float(im->node, "alpha", 0.2f);
    const float b = onnx_attr_float(im->node, "beta", 0.5f);
    return import_activation(im, (struct act){ .kind = ACT_HARD_SIGMOID, .a = a, .b = b });
}

/* Bounds are attributes until opset 10 and inputs from 11 on. */
int import_clip(struct import *im)
{
    float lo = onnx_attr_float(im->node, "min", -INFINITY);
    float hi = onnx_attr_float(im->node, "max", INFINITY);
    int rc = import_scalar(im, 1, lo, &lo);
    if (rc == 0)
        rc = import_scalar(im, 2, hi, &hi);
    if (rc < 0)
        return rc;
    return import_activation(im, (struct act){ .kind = ACT_CLIP, .a = lo, .b = hi });
}

/* Min and Max of a tensor and single numbers clip it. */
static int import_bound(struct import *im, bool upper)
{
    struct value x = { .tensor = -1 };
    float bound = upper ? INFINITY : -INFINITY;
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        const struct value *v = import_input(im, i);
        if (!v)
            return refuse(im, -EINVAL, "input %d is missing", i);
        if (!v->constant) {
            if (x.tensor >= 0)
                return refuse(im, -ENOTSUP, "more than one computed input");
            x = *v;
            continue;
        }
        if (v->constant->count != 1)
            return refuse(im, -ENOTSUP, "a constant of more than one value");
        const float f = onnx_float(v->constant, 0);
        bound = upper ? fminf(bound, f) : fmaxf(bound, f);
    }
    for (int32_t i = 0; i < im->node->ninputs; i++)
        if (import_input(im, i)->shape.rank > x.shape.rank)
            return refuse(im, -ENOTSUP, "a constant with more axes than the input");
    const struct op op = {
        .type = OP_ACTIVATION,
        .act = { .kind = ACT_CLIP, .a = upper ? -INFINITY : bound, .b = upper ? bound : INFINITY }
    };
    return import_simple(im, &op, &x, &x.shape);
}

int import_min(struct import *im) { return import_bound(im, true); }
int import_max(struct import *im) { return import_bound(im, false); }

/* The slope is one number, or one per channel by the rules of broadcasting. */
int import_prelu(struct import *im)
{
    struct value x;
    const struct onnx_tensor *slope;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_constant(im, 1, false, &slope);
    if (rc < 0)
        return rc;
    struct act act = { .kind = ACT_LEAKY_RELU };
    if (slope->rank > x.shape.rank)
        return refuse(im, -EINVAL, "the slope has %d axes, the input %d", slope->rank,
                      x.shape.rank);
    if (slope->count == 1) {
        act.a = onnx_float(slope, 0);
        return import_activation(im, act);
    }
    /* Until opset 6 a list of slopes was for axis 1. */
    const bool old = im->model->opset < 7 && slope->rank == 1 && x.shape.axis[CHAN] == 1;
    const int32_t shift = old ? 1 : x.shape.rank - slope->rank;
    for (int32_t i = 0; i < slope->rank; i++)
        if (slope->dim[i] != 1 &&
            (shape_role(&x.shape, i + shift) != CHAN || slope->dim[i] != x.shape.dim[i + shift]))
            return refuse(im, -ENOTSUP, "a slope that is neither one number nor one per channel");
    float *copy;
    if ((rc = import_floats(im, slope, shape_len(&x.shape, CHAN), &copy)) < 0)
        return rc;
    act = (struct act){ .kind = ACT_PRELU, .slope = copy };
    return import_activation(im, act);
}

/* ---- Softmax */

/* Before opset 13 it ran over all axes from `axis` on, since then over that one only. */
static int import_any_softmax(struct import *im, bool log)
{
    struct value x;
    int32_t axis;
    const bool coerced = im->model->opset < 13;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc =
            import_axis(im, onnx_attr_int(im->node, "axis", coerced ? 1 : -1), x.shape.rank, &axis);
    if (rc < 0)
        return rc;
    uint32_t over = 0;
    for (int32_t i = axis; i < (coerced ? x.shape.rank : axis + 1); i++)
        if (x.shape.dim[i] > 1)
            over |= 1u << i;
    if ((rc = import_lay_unbatched(im, &x, over)) < 0)
        return rc;
    struct op op = { .type = OP_SOFTMAX };
    op.u.softmax.log = log;
    for (int32_t i = 0; i < x.shape.rank; i++)
        if (over >> i & 1)
            op.u.softmax.over[shape_role(&x.shape, i)] = true;
    return import_simple(im, &op, &x, &x.shape);
}

int import_softmax(struct import *im) { return import_any_softmax(im, false); }
int import_log_softmax(struct import *im) { return import_any_softmax(im, true); }

/* ---- BatchNormalization */

int import_batch_normalization(struct import *im)
{
    struct value x;
    float *param[4]; /* scale, bias, mean, variance */
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_only_outputs(im, 1);
    if (rc < 0)
        return rc;
    const bool training = im->model->opset < 7 ? !onnx_attr_int(im->node, "is_test", 0)
                                               : onnx_attr_int(im->node, "training_mode", 0) != 0;
    if (training)
        return refuse(im, -ENOTSUP, "training mode is not supported");
    if (!onnx_attr_int(im->node, "spatial", 1))
        return refuse(im, -ENOTSUP, "spatial = 0");
    if (x.shape.rank < 2 || x.shape.rank > 4)
        return refuse(im, -ENOTSUP, "an input with %d axes; 2 to 4 are supported", x.shape.rank);
    if (x.shape.axis[CHAN] != 1 && (rc = import_lay_usual(im, &x)) < 0)
        return rc;
    const int64_t channels = x.shape.dim[1];
    for (int32_t i = 0; i < 4; i++) {
        const struct onnx_tensor *t;
        if ((rc = import_constant(im, 1 + i, false, &t)) < 0 ||
            (rc = import_floats(im, t, channels, &param[i])) < 0)
            return rc;
    }
    const double epsilon = (double)onnx_attr_float(im->node, "epsilon", 1e-5f);
    for (int64_t c = 0; c < channels; c++) {
        const double scale = (double)param[0][c] / sqrt((double)param[3][c] + epsilon);
        param[1][c] = (float)((double)param[1][c] - (double)param[2][c] * scale);
        param[0][c] = (float)scale;
    }
    struct op op = { .type = OP_AFFINE };
    op.u.affine.scale = param[0];
    op.u.affine.bias = param[1];
    return import_simple(im, &op, &x, &x.shape);
}

/* ---- Add, Sub, Mul, Div */

/* `s` with extents of 1 put before its axes until it has `rank` of them. */
static struct shape widen(const struct shape *s, int32_t rank)
{
    const int32_t shift = rank - s->rank;
    struct shape w = { .rank = rank };
    for (int32_t i = 0; i < rank; i++)
        w.dim[i] = i < shift ? 1 : s->dim[i - shift];
    for (int a = 0; a < AXES; a++)
        w.axis[a] = (int8_t)(s->axis[a] < 0 ? -1 : s->axis[a] + shift);
    return w;
}

/* Extents of the result by numpy's rules; its axes are the usual ones. */
static int broadcast(struct import *im, const struct shape *a, const struct shape *b,
                     struct shape *out)
{
    char ta[SHAPE_TEXT_BYTES], tb[SHAPE_TEXT_BYTES];
    int32_t dim[SHAPE_MAX_RANK];
    for (int32_t i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i] && a->dim[i] != 1 && b->dim[i] != 1)
            return refuse(im, -EINVAL, "shapes %s and %s do not fit each other", shape_text(a, ta),
                          shape_text(b, tb));
        dim[i] = a->dim[i] == 1 ? b->dim[i] : a->dim[i];
    }
    *out = shape_make(a->rank, dim);
    return 0;
}

/* Brings an operand to the axes of the result. */
static int lay_operand(struct import *im, struct value *v, const struct shape *out)
{
    struct shape want = v->shape;
    memcpy(want.axis, out->axis, sizeof want.axis);
    const int rc = import_lay(im, v, &want);
    if (rc < 0)
        return rc;
    if (shape_batch(&v->shape) != shape_batch(out))
        return refuse(im, -ENOTSUP, "a tensor that is repeated along the batch");
    return 0;
}

/* The axes of the result: those of an operand that is not broadcast spare a move.  Otherwise the
 * usual ones, unless a tensor would have to be repeated along the batch. */
static void choose_axes(const struct value side[2], struct shape *out)
{
    bool repeats = false;
    for (int i = 1; i >= 0; i--) {
        if (side[i].constant)
            continue;
        struct shape s = side[i].shape;
        if (shape_same_dims(&s, out))
            *out = s;
    }
    for (int i = 0; i < 2; i++) {
        struct shape s = side[i].shape;
        memcpy(s.axis, out->axis, sizeof s.axis);
        repeats |= !side[i].constant && shape_batch(&s) != shape_batch(out);
    }
    if (repeats)
        *out = shape_make_map(out->rank, out->dim);
}

/* How the constant side lies over the result.  An extent of 1 stands still. */
static int constant_strides(struct import *im, const struct shape *c, const struct shape *out,
                            int64_t stride[AXES + 1])
{
    int64_t step[SHAPE_MAX_RANK];
    int images = 0;
    shape_steps(c, step);
    for (int a = 0; a <= AXES; a++)
        stride[a] = 0;
    for (int32_t i = 0; i < out->rank; i++) {
        const enum axis a = shape_role(out, i);
        images += a == AXES && out->dim[i] > 1;
        if (c->dim[i] > 1)
            stride[a] = step[i]; /* AXES: per image */
    }
    if (images > 1 && stride[AXES] != 0)
        return refuse(im, -ENOTSUP, "a constant that varies along several axes of the batch");
    return 0;
}

int import_binary(struct import *im, enum binary_kind kind, const struct value *a,
                  const struct value *b, struct value *out)
{
    const int32_t rank = a->shape.rank > b->shape.rank ? a->shape.rank : b->shape.rank;
    struct value side[2] = { *a, *b };
    struct shape shape;
    side[0].shape = widen(&a->shape, rank);
    side[1].shape = widen(&b->shape, rank);
    int rc = broadcast(im, &side[0].shape, &side[1].shape, &shape);
    if (rc < 0)
        return rc;
    choose_axes(side, &shape);
    struct op op = { .type = OP_BINARY };
    op.u.binary.kind = kind;
    int32_t input[2], n = 0;
    for (int i = 0; i < 2; i++) {
        if (side[i].constant) {
            op.u.binary.constant_first = i == 0;
            if ((rc = import_floats(im, side[i].constant, -1, &op.u.binary.constant)) < 0 ||
                (rc = constant_strides(im, &side[i].shape, &shape, op.u.binary.stride)) < 0)
                return rc;
        } else {
            if ((rc = lay_operand(im, &side[i], &shape)) < 0)
                return rc;
            input[n++] = side[i].tensor;
        }
    }
    if (n == 0)
        return refuse(im, -ENOTSUP, "both operands are constants");
    return import_emit(im, &op, input, n, &shape, out);
}

/* Until opset 6 the axes of b could be said to begin at `axis` of a; extents of 1 after them say
 * the same today. */
static int align_to_axis(struct import *im, const struct value *a, struct value *b)
{
    int64_t dim[SHAPE_MAX_RANK];
    int32_t axis, rank = b->shape.rank;
    if (im->model->opset >= 7 || !onnx_attr(im->node, "axis", ONNX_ATTR_INT))
        return 0;
    const int rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), a->shape.rank, &axis);
    if (rc < 0)
        return rc;
    if (axis + rank > a->shape.rank)
        return refuse(im, -EINVAL, "axis %d leaves no room for %d axes", axis, rank);
    for (int32_t i = 0; i < rank; i++)
        dim[i] = b->shape.dim[i];
    while (axis + rank < a->shape.rank)
        dim[rank++] = 1;
    if (!b->constant)
        return import_reshape_to(im, b, rank, dim);
    for (int32_t i = b->shape.rank; i < rank; i++)
        b->shape.dim[i] = 1;
    b->shape = shape_make(rank, b->shape.dim);
    return 0;
}

static int import_arithmetic(struct import *im, enum binary_kind kind)
{
    const struct value *a = import_input(im, 0), *b = import_input(im, 1);
    struct value out;
    if (!a || !b)
        return refuse(im, -EINVAL, "two inputs are needed");
    struct value aligned = *b;
    int rc = align_to_axis(im, a, &aligned);
    if (rc == 0)
        rc = import_binary(im, kind, a, &aligned, &out);
    return rc < 0 ? rc : import_define(im, 0, &out);
}

int import_add(struct import *im) { return import_arithmetic(im, BINARY_ADD); }
int import_sub(struct import *im) { return import_arithmetic(im, BINARY_SUB); }
int import_mul(struct import *im) { return import_arithmetic(im, BINARY_MUL); }
int import_div(struct import *im) { return import_arithmetic(im, BINARY_DIV); }

int import_sum(struct import *im)
{
    const struct value *first = import_input(im, 0);
    if (!first)
        return refuse(im, -EINVAL, "input 0 is missing");
    struct value sum = *first;
    for (int32_t i = 1; i < im->node->ninputs; i++) {
        const struct value *v = import_input(im, i);
        if (!v)
            return refuse(im, -EINVAL, "input %d is missing", i);
        const int rc = import_binary(im, BINARY_ADD, &sum, v, &sum);
        if (rc < 0)
            return rc;
    }
    return import_define(im, 0, &sum);
}
