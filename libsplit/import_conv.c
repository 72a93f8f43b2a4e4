/* Conv, ConvTranspose, Gemm, MatMul: all become a convolution with constant weights. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

static int float_constant(struct import *im, int32_t i, bool optional, const struct onnx_tensor **t)
{
    const int rc = import_constant(im, i, optional, t);
    if (rc < 0 || !*t || onnx_type_is_float((*t)->type))
        return rc;
    return refuse(im, -ENOTSUP, "constant \"%s\" has data type %d, not a float", (*t)->name,
                  (int)(*t)->type);
}

static int read_bias(struct import *im, int32_t i, int64_t count, float **bias)
{
    const struct onnx_tensor *t;
    const int rc = float_constant(im, i, true, &t);
    *bias = NULL;
    return rc < 0 || !t ? rc : import_floats(im, t, count, bias);
}

/* Input and weights of Conv and ConvTranspose, with the rules that both share. */
static int conv_operands(struct import *im, struct value *x, const struct onnx_tensor **w,
                         int64_t *group)
{
    int rc = import_tensor(im, 0, x);
    if (rc == 0)
        rc = float_constant(im, 1, false, w);
    if (rc < 0)
        return rc;
    if (x->shape.rank != 3 && x->shape.rank != 4)
        return refuse(im, -ENOTSUP, "an input with %d axes; 3 and 4 are supported", x->shape.rank);
    if ((*w)->rank != x->shape.rank || (*w)->count == 0)
        return refuse(im, -EINVAL, "the weights have %d axes, the input %d", (*w)->rank,
                      x->shape.rank);
    *group = onnx_attr_int(im->node, "group", 1);
    if (*group < 1 || *group > x->shape.dim[1])
        return refuse(im, -EINVAL, "group %lld of %d channels", (long long)*group, x->shape.dim[1]);
    return import_lay_usual(im, x);
}

static struct shape window_shape(const struct value *x, int64_t channels,
                                 const struct window_attrs *w)
{
    struct shape s = x->shape;
    s.dim[1] = (int32_t)channels;
    for (int32_t i = 0; i < w->axes; i++)
        s.dim[2 + i] = w->out[i];
    return s;
}

int import_conv(struct import *im)
{
    struct value x;
    const struct onnx_tensor *w;
    struct window_attrs win;
    int64_t group;
    int rc = conv_operands(im, &x, &w, &group);
    if (rc < 0)
        return rc;
    if (w->dim[1] * group != x.shape.dim[1] || w->dim[0] % group)
        return refuse(im, -EINVAL, "%d channels, group %lld and weights for %lldx%lld channels",
                      x.shape.dim[1], (long long)group, (long long)w->dim[0], (long long)w->dim[1]);
    if ((rc = import_window(im, &x.shape, w->dim + 2, true, &win)) < 0)
        return rc;
    struct op op = { .type = OP_CONV };
    const int64_t row = w->rank == 4 ? w->dim[3] : 1, plane = row * w->dim[2];
    op.u.conv.win = win.win;
    op.u.conv.group = (int32_t)group;
    op.u.conv.weight = (struct weight_ref){ w, { w->dim[1] * plane, plane, row, 1 } };
    if ((rc = read_bias(im, 2, w->dim[0], &op.u.conv.bias)) < 0)
        return rc;
    const struct shape out = window_shape(&x, w->dim[0], &win);
    return import_simple(im, &op, &x, &out);
}

int import_conv_transpose(struct import *im)
{
    struct value x;
    const struct onnx_tensor *w;
    struct window_attrs win;
    int64_t group;
    int rc = conv_operands(im, &x, &w, &group);
    if (rc < 0)
        return rc;
    if (w->dim[0] != x.shape.dim[1] || w->dim[0] % group)
        return refuse(im, -EINVAL, "%d channels, group %lld and weights for %lld channels",
                      x.shape.dim[1], (long long)group, (long long)w->dim[0]);
    if ((rc = import_window_transposed(im, &x.shape, w->dim + 2, &win)) < 0)
        return rc;
    const int64_t cout = w->dim[1] * group;
    const int64_t row = w->rank == 4 ? w->dim[3] : 1, plane = row * w->dim[2];
    if (cout > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "%lld output channels", (long long)cout);
    struct op op = { .type = OP_CONV_TRANSPOSE };
    op.u.conv.win = win.win;
    op.u.conv.group = (int32_t)group;
    op.u.conv.weight = (struct weight_ref){ w, { plane, w->dim[1] * plane, row, 1 } };
    if ((rc = read_bias(im, 2, cout, &op.u.conv.bias)) < 0)
        return rc;
    const struct shape out = window_shape(&x, cout, &win);
    return import_simple(im, &op, &x, &out);
}

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
    if (rc < 0)
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
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < n; i++)
        (*bias)[i] = beta * onnx_float(c, c->count == 1 ? 0 : i);
    return 0;
}

/* Gemm: alpha * A * B + beta * C, the weights B constant. */
int import_gemm(struct import *im)
{
    struct value a, out;
    const struct onnx_tensor *b;
    int rc = import_tensor(im, 0, &a);
    if (rc == 0)
        rc = float_constant(im, 1, false, &b);
    if (rc < 0)
        return rc;
    if (a.shape.rank != 2 || b->rank != 2)
        return refuse(im, -EINVAL, "matrices are needed, the operands have %d and %d axes",
                      a.shape.rank, b->rank);
    static const int8_t swap[] = { 1, 0 };
    if (onnx_attr_int(im->node, "transA", 0) && (rc = import_permute(im, &a, swap)) < 0)
        return rc;
    const bool trans = onnx_attr_int(im->node, "transB", 0) != 0;
    const int64_t k = b->dim[trans ? 1 : 0], n = b->dim[trans ? 0 : 1];
    if (k != a.shape.dim[1] || n < 1)
        return refuse(im, -EINVAL, "%d columns times %lld rows", a.shape.dim[1], (long long)k);
    if ((rc = import_lay_usual(im, &a)) < 0)
        return rc;
    struct op op = product_op(b, trans ? k : 1, trans ? 1 : n);
    const struct value *c = import_input(im, 2);
    const bool folded = c && c->constant && is_row(c->constant, n);
    rc = constant_scale(im, onnx_attr_float(im->node, "alpha", 1), n, &op.u.conv.scale);
    if (rc == 0 && folded)
        rc = gemm_bias(im, c->constant, n, &op.u.conv.bias);
    if (rc < 0)
        return rc;
    struct shape shape = a.shape;
    shape.dim[1] = (int32_t)n;
    rc = import_emit(im, &op, &a.tensor, 1, &shape, &out);
    if (rc == 0 && c && !folded) {
        if (onnx_attr_float(im->node, "beta", 1) != 1)
            return refuse(im, -ENOTSUP, "beta with a C that is no constant row");
        rc = import_binary(im, BINARY_ADD, &out, c, &out);
        if (rc == 0 && !shape_same_dims(&out.shape, &shape))
            return refuse(im, -EINVAL, "C does not fit the product");
    }
    return rc < 0 ? rc : import_define(im, 0, &out);
}

/* MatMul of (..., K) with a constant (K, N). */
int import_matmul(struct import *im)
{
    struct value a;
    const struct onnx_tensor *b;
    int rc = import_tensor(im, 0, &a);
    if (rc == 0)
        rc = float_constant(im, 1, false, &b);
    if (rc < 0)
        return rc;
    if (a.shape.rank < 2 || b->rank < 2 || b->rank > a.shape.rank)
        return refuse(im, -ENOTSUP, "operands with %d and %d axes", a.shape.rank, b->rank);
    for (int32_t i = 0; i < b->rank - 2; i++)
        if (b->dim[i] != 1)
            return refuse(im, -ENOTSUP, "a stack of constant matrices");
    const int32_t last = a.shape.rank - 1;
    const int64_t k = b->dim[b->rank - 2], n = b->dim[b->rank - 1];
    if (k != a.shape.dim[last] || n < 1)
        return refuse(im, -EINVAL, "%d columns times %lld rows", a.shape.dim[last], (long long)k);
    if (a.shape.axis[CHAN] != last) {
        const struct shape want = shape_make_last(a.shape.rank, a.shape.dim);
        if ((rc = import_lay(im, &a, &want)) < 0)
            return rc;
    }
    const struct op op = product_op(b, 1, n);
    struct shape out = a.shape;
    out.dim[last] = (int32_t)n;
    return import_simple(im, &op, &a, &out);
}
