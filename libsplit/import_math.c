/* Arithmetic with broadcasting, Softmax, BatchNormalization. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <string.h>

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
    if (rc)
        return rc;
    uint32_t over = 0;
    for (int32_t i = axis; i < (coerced ? x.shape.rank : axis + 1); i++)
        if (x.shape.dim[i] > 1)
            over |= 1u << i;
    if ((rc = import_lay_unbatched(im, &x, over)))
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
    if (rc)
        return rc;
    const bool training = im->model->opset < 7 ? !onnx_attr_int(im->node, "is_test", 0)
                                               : onnx_attr_int(im->node, "training_mode", 0) != 0;
    if (training)
        return refuse(im, -ENOTSUP, "training mode is not supported");
    if (!onnx_attr_int(im->node, "spatial", 1))
        return refuse(im, -ENOTSUP, "spatial = 0");
    if ((rc = import_lay_channels(im, &x)))
        return rc;
    const int64_t channels = x.shape.dim[1];
    for (int32_t i = 0; i < 4; i++) {
        const struct onnx_tensor *t;
        if ((rc = import_constant(im, 1 + i, false, &t)) ||
            (rc = import_floats(im, t, channels, &param[i])))
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

/* Brings an operand to the axes of the result.  What is repeated along a part of the batch is
 * written out; a single image stands for all. */
static int lay_operand(struct import *im, struct value *v, const struct shape *out)
{
    struct shape want = v->shape;
    memcpy(want.axis, out->axis, sizeof want.axis);
    const int32_t batch = shape_batch(&want);
    if (batch == 1 || batch == shape_batch(out))
        return import_lay(im, v, &want);
    int rc = import_repeat(im, v, out->dim);
    if (rc == 0)
        rc = import_lay(im, v, out);
    return rc;
}

/* The axes of the result: those of an operand that is not broadcast spare a move.  Otherwise the
 * usual ones, unless a tensor would have to be repeated along the batch. */
static void choose_axes(const struct value *side, int n, struct shape *out)
{
    bool repeats = false;
    for (int i = n - 1; i >= 0; i--) {
        if (side[i].constant)
            continue;
        struct shape s = side[i].shape;
        if (shape_same_dims(&s, out))
            *out = s;
    }
    for (int i = 0; i < n; i++) {
        struct shape s = side[i].shape;
        memcpy(s.axis, out->axis, sizeof s.axis);
        const int32_t batch = shape_batch(&s);
        repeats |= !side[i].constant && batch != 1 && batch != shape_batch(out);
    }
    if (repeats)
        *out = shape_make_map(out->rank, out->dim);
}

/* How the constant side lies over the result; an extent of 1 stands still.  False where no
 * stride says so: a constant that varies along several axes of the batch. */
static bool constant_strides(const struct shape *c, const struct shape *out,
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
    return images <= 1 || stride[AXES] == 0;
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
    if (rc)
        return rc;
    choose_axes(side, 2, &shape);
    struct op op = { .type = OP_BINARY };
    op.u.binary.kind = kind;
    int32_t input[2], n = 0;
    for (int i = 0; i < 2; i++) {
        if (side[i].constant && !op.u.binary.constant &&
            constant_strides(&side[i].shape, &shape, op.u.binary.stride)) {
            op.u.binary.constant_first = i == 0;
            rc = import_floats(im, side[i].constant, -1, &op.u.binary.constant);
        } else {
            rc = import_materialize(im, &side[i]);
            if (rc == 0)
                rc = lay_operand(im, &side[i], &shape);
            input[n++] = side[i].tensor;
        }
        if (rc)
            return rc;
    }
    return import_emit(im, &op, input, n, &shape, out);
}

/* Until opset 6 the axes of b could be said to begin at `axis` of a; extents of 1 after them say
 * the same today. */
static int align_to_axis(struct import *im, const struct value *a, struct value *b)
{
    int32_t axis;
    const int32_t rank = b->shape.rank;
    if (im->model->opset >= 7 || !onnx_attr(im->node, "axis", ONNX_ATTR_INT))
        return 0;
    const int rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), a->shape.rank, &axis);
    if (rc)
        return rc;
    if (axis + rank > a->shape.rank)
        return refuse(im, -EINVAL, "axis %d leaves no room for %d axes", axis, rank);
    return import_append_axes(im, b, a->shape.rank - axis - rank);
}

static enum binary_kind binary_kind(const char *op_type)
{
    static const char *const name[BINARY_KINDS] = {
        [BINARY_ADD] = "Add",
        [BINARY_SUB] = "Sub",
        [BINARY_MUL] = "Mul",
        [BINARY_DIV] = "Div",
        [BINARY_POW] = "Pow",
        [BINARY_MIN] = "Min",
        [BINARY_MAX] = "Max",
        [BINARY_PRELU] = "PRelu",
        [BINARY_EQUAL] = "Equal",
        [BINARY_GREATER] = "Greater",
        [BINARY_GREATER_OR_EQUAL] = "GreaterOrEqual",
        [BINARY_LESS] = "Less",
        [BINARY_LESS_OR_EQUAL] = "LessOrEqual",
        [BINARY_AND] = "And",
        [BINARY_OR] = "Or",
        [BINARY_XOR] = "Xor",
    };
    int k = 0;
    while (k < BINARY_KINDS - 1 && strcmp(name[k], op_type) != 0)
        k++;
    return (enum binary_kind)k;
}

int import_arithmetic(struct import *im)
{
    const struct value *a = import_input(im, 0), *b = import_input(im, 1);
    struct value out;
    if (!a || !b)
        return refuse(im, -EINVAL, "two inputs are needed");
    struct value aligned = *b;
    const enum binary_kind kind = binary_kind(im->node->op_type);
    int rc = align_to_axis(im, a, &aligned);
    if (rc == 0)
        rc = import_binary(im, kind, a, &aligned, &out);
    if (rc == 0 && kind == BINARY_DIV && import_is_integer(a))
        rc = import_act(im, (struct act){ .kind = ACT_TRUNCATE }, &out);
    return rc ? rc : import_define(im, 0, &out);
}

int import_mod(struct import *im)
{
    const struct value *a = import_input(im, 0), *b = import_input(im, 1);
    const bool towards_zero = onnx_attr_int(im->node, "fmod", 0) != 0;
    struct value out;
    if (!a || !b)
        return refuse(im, -EINVAL, "two inputs are needed");
    const int rc = import_binary(im, towards_zero ? BINARY_FMOD : BINARY_MOD, a, b, &out);
    return rc ? rc : import_define(im, 0, &out);
}

static int inputs_there(struct import *im)
{
    for (int32_t i = 0; i < im->node->ninputs || i == 0; i++)
        if (!import_input(im, i))
            return refuse(im, -EINVAL, "input %d is missing", i);
    return 0;
}

/* Any number of inputs, from the left. */
static int combine_inputs(struct import *im, enum binary_kind kind, struct value *out)
{
    int rc = inputs_there(im);
    if (rc)
        return rc;
    if (im->node->ninputs == 1)
        return import_tensor(im, 0, out);
    *out = *import_input(im, 0);
    for (int32_t i = 1; i < im->node->ninputs && rc == 0; i++) {
        rc = import_binary(im, kind, out, import_input(im, i), out);
    }
    return rc;
}

static int import_variadic(struct import *im, enum binary_kind kind)
{
    struct value v;
    const int rc = combine_inputs(im, kind, &v);
    return rc ? rc : import_define(im, 0, &v);
}

int import_sum(struct import *im) { return import_variadic(im, BINARY_ADD); }

int import_mean(struct import *im)
{
    struct value v;
    int rc = combine_inputs(im, BINARY_ADD, &v);
    if (rc == 0)
        rc = import_with_number(im, BINARY_DIV, &v, (float)im->node->ninputs);
    return rc ? rc : import_define(im, 0, &v);
}

/* The bound that all inputs but one are, if each of those is one number: then Min and Max clip
 * the one, which may be fused into the operator before. */
static bool is_bound(const struct import *im, bool upper, int32_t *tensor, float *bound)
{
    *tensor = -1;
    *bound = upper ? INFINITY : -INFINITY;
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        const struct value *v = import_input(im, i);
        if (v && !v->constant && *tensor < 0) {
            *tensor = i;
            continue;
        }
        if (!v || !v->constant || v->constant->count != 1)
            return false;
        const float f = onnx_float(v->constant, 0);
        *bound = upper ? fminf(*bound, f) : fmaxf(*bound, f);
    }
    for (int32_t i = 0; i < im->node->ninputs && *tensor >= 0; i++)
        if (import_input(im, i)->shape.rank > import_input(im, *tensor)->shape.rank)
            return false;
    return *tensor >= 0;
}

static int import_extreme(struct import *im, bool upper)
{
    int32_t tensor;
    float bound;
    if (!is_bound(im, upper, &tensor, &bound))
        return import_variadic(im, upper ? BINARY_MIN : BINARY_MAX);
    struct value x = *import_input(im, tensor);
    const struct act clip = { .kind = ACT_CLIP,
                              .a = upper ? -INFINITY : bound,
                              .b = upper ? bound : INFINITY };
    const int rc = import_act(im, clip, &x);
    return rc ? rc : import_define(im, 0, &x);
}

int import_min(struct import *im) { return import_extreme(im, true); }
int import_max(struct import *im) { return import_extreme(im, false); }

int import_with_number(struct import *im, enum binary_kind kind, struct value *v, float number)
{
    struct onnx_tensor *t = store_array(&im->store, 1, sizeof *t);
    float *data = store_array(&im->store, 1, sizeof *data);
    if (!t || !data)
        return import_no_memory(im);
    *data = number;
    *t = (struct onnx_tensor){
        .name = "", .type = ONNX_FLOAT, .count = 1, .data = data, .bytes = sizeof *data
    };
    const struct value constant = {
        .name = "", .constant = t, .tensor = -1, .shape = shape_make(0, NULL)
    };
    return import_binary(im, kind, v, &constant, v);
}

/* ---- Where */

int import_where(struct import *im)
{
    struct value side[3];
    struct shape shape;
    int32_t rank = 0, input[3];
    int rc = 0;
    for (int32_t i = 0; i < 3 && rc == 0; i++) {
        rc = import_tensor(im, i, &side[i]);
        if (rc == 0 && side[i].shape.rank > rank)
            rank = side[i].shape.rank;
    }
    for (int32_t i = 0; i < 3 && rc == 0; i++) {
        side[i].shape = widen(&side[i].shape, rank);
        const struct shape before = shape;
        if (i == 0)
            shape = side[0].shape;
        else
            rc = broadcast(im, &before, &side[i].shape, &shape);
    }
    if (rc)
        return rc;
    choose_axes(side, 3, &shape);
    for (int32_t i = 0; i < 3 && rc == 0; i++) {
        rc = lay_operand(im, &side[i], &shape);
        input[i] = side[i].tensor;
    }
    const struct op op = { .type = OP_WHERE };
    struct value out;
    if (rc == 0)
        rc = import_emit(im, &op, input, 3, &shape, &out);
    return rc ? rc : import_define(im, 0, &out);
}
