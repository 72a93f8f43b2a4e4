/* Gemm and MatMul: a 1x1 convolution where the second matrix is constant. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

/* A matrix product along the channels of `x`: a 1x1 convolution. */
static struct op product_op(const struct onnx_tensor *w, int64_t out_step, int64_t in_step)
{
    struct op op = { .type = OP_CONV };
    op.u.conv.win = (struct window){ { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    op.u.conv.group = 1;
    op.u.conv.weight = (struct weight_ref){ w, { out_step, in_step, 0, 0 } };
    return op;
}

/* `n` copies of alpha, NULL where it is 1. */
static int constant_scale(struct import *im, float alpha, int64_t n, float **scale)
{
    *scale = NULL;
    if (alpha == 1)
        return 0;
    const int rc = import_array(im, n, sizeof **scale, scale);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        (*scale)[i] = alpha;
    return 0;
}

/* True if C is one row that holds for every image: (n), (1, n), (1, 1), (1) or a scalar. */
static bool is_row(const struct onnx_tensor *c, int64_t n)
{
    if (c->rank > 2 || (c->rank == 2 && c->dim[0] != 1))
        return false;
    return c->count == 1 || c->count == n;
}

static int gemm_bias(struct import *im, const struct onnx_tensor *c, int64_t n, float **bias)
{
    const float beta = onnx_attr_float(im->node, "beta", 1);
    const int rc = import_array(im, n, sizeof **bias, bias);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        (*bias)[i] = beta * onnx_float(c, c->count == 1 ? 0 : i);
    return 0;
}

/* ---- two tensors */

/* Brings both stacks of matrices to the same extents before the last two. */
static int match_stacks(struct import *im, struct value side[2], struct shape *out)
{
    const int32_t rank =
        side[0].shape.rank > side[1].shape.rank ? side[0].shape.rank : side[1].shape.rank;
    int32_t dim[2][SHAPE_MAX_RANK];
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = import_prepend_axes(im, &side[i], rank - side[i].shape.rank);
    if (rc)
        return rc;
    *out = side[0].shape;
    for (int32_t i = 0; i < rank - 2; i++) {
        const int32_t a = side[0].shape.dim[i], b = side[1].shape.dim[i];
        if (a != b && a != 1 && b != 1)
            return refuse(im, -EINVAL, "stacks of %d and %d matrices", a, b);
        out->dim[i] = a == 1 ? b : a;
    }
    out->dim[rank - 1] = side[1].shape.dim[rank - 1];
    for (int i = 0; i < 2 && rc == 0; i++) {
        memcpy(dim[i], side[i].shape.dim, sizeof dim[i]);
        memcpy(dim[i], out->dim, (size_t)(rank - 2) * sizeof dim[i][0]);
        rc = import_repeat(im, &side[i], dim[i]);
    }
    return rc;
}

/* The last two axes are rows and channels, the rest is batch. */
static struct shape matrix_axes(struct shape s)
{
    s.axis[ROW] = (int8_t)(s.rank - 2);
    s.axis[COL] = -1;
    s.axis[CHAN] = (int8_t)(s.rank - 1);
    return s;
}

static int multiply(struct import *im, const struct value *a, const struct value *b,
                    struct value *out)
{
    struct value side[2] = { *a, *b };
    struct shape shape;
    int32_t input[2];
    int rc = match_stacks(im, side, &shape);
    if (rc)
        return rc;
    const int32_t last = shape.rank - 1;
    if (side[0].shape.dim[last] != side[1].shape.dim[last - 1])
        return refuse(im, -EINVAL, "%d columns times %d rows", side[0].shape.dim[last],
                      side[1].shape.dim[last - 1]);
    for (int i = 0; i < 2; i++) {
        const struct shape want = matrix_axes(side[i].shape);
        if ((rc = import_lay(im, &side[i], &want)))
            return rc;
        input[i] = side[i].tensor;
    }
    const struct op op = { .type = OP_MATMUL };
    shape = matrix_axes(shape);
    return import_emit(im, &op, input, 2, &shape, out);
}

/* ---- a tensor and a constant */

/* `a` of (..., K) times the constant of (K, N) whose elements are `step` apart. */
static int multiply_constant(struct import *im, struct value *a, const struct onnx_tensor *b,
                             int64_t n, const int64_t step[2], float *scale, float *bias)
{
    const int32_t input = a->tensor;
    struct op op = product_op(b, step[1], step[0]);
    struct shape out = a->shape;
    op.u.conv.scale = scale;
    op.u.conv.bias = bias;
    out.dim[out.rank - 1] = (int32_t)n;
    return import_emit(im, &op, &input, 1, &out, a);
}

/* ---- Gemm: alpha * A * B + beta * C */

static const int8_t swap[] = { 1, 0 };

/* C that is no constant row is added by an operator of its own. */
static int add_matrix(struct import *im, const struct value *c, struct value *v)
{
    struct value scaled = *c;
    const struct value product = *v;
    const float beta = onnx_attr_float(im->node, "beta", 1);
    int rc = beta == 1 ? 0 : import_with_number(im, BINARY_MUL, &scaled, beta);
    if (rc == 0)
        rc = import_binary(im, BINARY_ADD, &product, &scaled, v);
    if (rc == 0 && !shape_same_dims(&v->shape, &product.shape))
        rc = refuse(im, -EINVAL, "C does not fit the product");
    return rc;
}

static int gemm_constant(struct import *im, struct value *a, const struct onnx_tensor *b)
{
    const struct value *c = import_input(im, 2);
    const bool trans = onnx_attr_int(im->node, "transB", 0) != 0;
    if (b->rank != 2)
        return refuse(im, -EINVAL, "B has %d axes", b->rank);
    const int64_t k = b->dim[trans ? 1 : 0], n = b->dim[trans ? 0 : 1];
    const int64_t step[2] = { trans ? 1 : n, trans ? k : 1 };
    if (k != a->shape.dim[1] || n < 1)
        return refuse(im, -EINVAL, "%d columns times %lld rows", a->shape.dim[1], (long long)k);
    float *scale, *bias = NULL;
    const bool folded = c && c->constant && is_row(c->constant, n);
    int rc = import_lay_usual(im, a);
    if (rc == 0)
        rc = constant_scale(im, onnx_attr_float(im->node, "alpha", 1), n, &scale);
    if (rc == 0 && folded)
        rc = gemm_bias(im, c->constant, n, &bias);
    if (rc == 0)
        rc = multiply_constant(im, a, b, n, step, scale, bias);
    return rc == 0 && c && !folded ? add_matrix(im, c, a) : rc;
}

static int gemm_tensor(struct import *im, struct value *a)
{
    struct value b;
    const struct value *c = import_input(im, 2);
    const float alpha = onnx_attr_float(im->node, "alpha", 1);
    int rc = import_tensor(im, 1, &b);
    if (rc)
        return rc;
    if (b.shape.rank != 2)
        return refuse(im, -EINVAL, "B has %d axes", b.shape.rank);
    if (onnx_attr_int(im->node, "transB", 0))
        rc = import_permute(im, &b, swap);
    if (rc == 0)
        rc = multiply(im, a, &b, a);
    if (rc == 0 && alpha != 1)
        rc = import_with_number(im, BINARY_MUL, a, alpha);
    return rc == 0 && c ? add_matrix(im, c, a) : rc;
}

int import_gemm(struct import *im)
{
    struct value a;
    const struct value *b = import_input(im, 1);
    int rc = import_tensor(im, 0, &a);
    if (rc)
        return rc;
    if (a.shape.rank != 2)
        return refuse(im, -EINVAL, "A has %d axes", a.shape.rank);
    if (onnx_attr_int(im->node, "transA", 0) && (rc = import_permute(im, &a, swap)))
        return rc;
    const struct onnx_tensor *weights = NULL;
    if (b && b->constant && (rc = import_weights(im, 1, false, &weights)))
        return rc;
    rc = weights ? gemm_constant(im, &a, weights) : gemm_tensor(im, &a);
    return rc ? rc : import_define(im, 0, &a);
}

/* ---- MatMul */

/* Is the constant one matrix, whatever extents of 1 stand before it, that `a` can be multiplied
 * with where it lies? */
static bool is_one_matrix(const struct onnx_tensor *t, const struct shape *a)
{
    for (int32_t i = 0; i < t->rank - 2; i++)
        if (t->dim[i] != 1)
            return false;
    return t->rank >= 2 && a->rank >= t->rank && onnx_type_is_float(t->type);
}

static int matmul_constant(struct import *im, struct value *a, const struct onnx_tensor *b)
{
    const int32_t last = a->shape.rank - 1;
    const int64_t k = b->dim[b->rank - 2], n = b->dim[b->rank - 1];
    if (k != a->shape.dim[last] || n < 1)
        return refuse(im, -EINVAL, "%d columns times %lld rows", a->shape.dim[last], (long long)k);
    if (a->shape.axis[CHAN] != last) {
        const struct shape want = shape_make_last(a->shape.rank, a->shape.dim);
        const int rc = import_lay(im, a, &want);
        if (rc)
            return rc;
    }
    return multiply_constant(im, a, b, n, (int64_t[]){ n, 1 }, NULL, NULL);
}

/* A vector is a matrix of one row on the left, of one column on the right; the result loses that
 * axis again. */
static int matmul_tensor(struct import *im, struct value *a)
{
    struct value b;
    int rc = import_tensor(im, 1, &b);
    if (rc)
        return rc;
    const bool row = a->shape.rank == 1, column = b.shape.rank == 1;
    if (a->shape.rank < 1 || b.shape.rank < 1)
        return refuse(im, -EINVAL, "a matrix or a vector is needed, not one number");
    if (row)
        rc = import_prepend_axes(im, a, 1);
    if (rc == 0 && column)
        rc = import_append_axes(im, &b, 1);
    if (rc == 0)
        rc = multiply(im, a, &b, a);
    if (rc || (!row && !column))
        return rc;
    int64_t dim[SHAPE_MAX_RANK];
    int32_t rank = 0;
    for (int32_t i = 0; i < a->shape.rank; i++)
        if (!(row && i == a->shape.rank - 2) && !(column && i == a->shape.rank - 1))
            dim[rank++] = a->shape.dim[i];
    return import_reshape_to(im, a, rank, dim);
}

int import_matmul(struct import *im)
{
    struct value a;
    const struct value *b = import_input(im, 1);
    int rc = import_tensor(im, 0, &a);
    if (rc)
        return rc;
    if (b && b->constant && is_one_matrix(b->constant, &a.shape) && a.shape.rank >= 2)
        rc = matmul_constant(im, &a, b->constant);
    else
        rc = matmul_tensor(im, &a);
    return rc ? rc : import_define(im, 0, &a);
}
