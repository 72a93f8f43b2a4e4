/* Conv and ConvTranspose, with constant weights. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

int import_weights(struct import *im, int32_t i, bool optional, const struct onnx_tensor **t)
{
    const int rc = import_constant(im, i, optional, t);
    if (rc || !*t || onnx_type_is_float((*t)->type))
        return rc;
    return refuse(im, -ENOTSUP, "constant \"%s\" has data type %d, not a float", (*t)->name,
                  (int)(*t)->type);
}

static int read_bias(struct import *im, int32_t i, int64_t count, float **bias)
{
    const struct onnx_tensor *t;
    const int rc = import_weights(im, i, true, &t);
    *bias = NULL;
    return rc || !t ? rc : import_floats(im, t, count, bias);
}

/* Input and weights of Conv and ConvTranspose, with the rules that both share. */
static int conv_operands(struct import *im, struct value *x, const struct onnx_tensor **w,
                         int64_t *group)
{
    int rc = import_tensor(im, 0, x);
    if (rc == 0)
        rc = import_weights(im, 1, false, w);
    if (rc || !*w)
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
    if (rc)
        return rc;
    if (w->dim[1] * group != x.shape.dim[1] || w->dim[0] % group)
        return refuse(im, -EINVAL, "%d channels, group %lld and weights for %lldx%lld channels",
                      x.shape.dim[1], (long long)group, (long long)w->dim[0], (long long)w->dim[1]);
    if ((rc = import_window(im, &x.shape, w->dim + 2, true, &win)))
        return rc;
    struct op op = { .type = OP_CONV };
    const int64_t row = w->rank == 4 ? w->dim[3] : 1, plane = row * w->dim[2];
    op.u.conv.win = win.win;
    op.u.conv.group = (int32_t)group;
    op.u.conv.weight = (struct weight_ref){ w, { w->dim[1] * plane, plane, row, 1 } };
    if ((rc = read_bias(im, 2, w->dim[0], &op.u.conv.bias)))
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
    if (rc)
        return rc;
    if (w->dim[0] != x.shape.dim[1] || w->dim[0] % group)
        return refuse(im, -EINVAL, "%d channels, group %lld and weights for %lld channels",
                      x.shape.dim[1], (long long)group, (long long)w->dim[0]);
    if ((rc = import_window_transposed(im, &x.shape, w->dim + 2, &win)))
        return rc;
    const int64_t cout = w->dim[1] * group;
    const int64_t row = w->rank == 4 ? w->dim[3] : 1, plane = row * w->dim[2];
    if (cout > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "%lld output channels", (long long)cout);
    struct op op = { .type = OP_CONV_TRANSPOSE };
    op.u.conv.win = win.win;
    op.u.conv.group = (int32_t)group;
    op.u.conv.weight = (struct weight_ref){ w, { plane, w->dim[1] * plane, row, 1 } };
    if ((rc = read_bias(im, 2, cout, &op.u.conv.bias)))
        return rc;
    const struct shape out = window_shape(&x, cout, &win);
    return import_simple(im, &op, &x, &out);
}
