/* Pooling and reductions over rows and columns. */
#include "libsplit/import.h"

#include <errno.h>

static int import_pool(struct import *im, enum op_type type)
{
    struct value x;
    struct window_attrs w;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_only_outputs(im, 1);
    if (rc == 0)
        rc = import_window(im, &x.shape, NULL, type == OP_MAX_POOL, &w);
    if (rc == 0)
        rc = import_lay_usual(im, &x);
    if (rc < 0)
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
    return import_simple(im, &op, &x, &out);
}

int import_max_pool(struct import *im) { return import_pool(im, OP_MAX_POOL); }
int import_average_pool(struct import *im) { return import_pool(im, OP_AVERAGE_POOL); }

/* Reduces rows and columns of `x` to one pixel: every node its share, then all shares in node
 * order, so that the result does not depend on timing. */
static int emit_reduction(struct import *im, enum reduce_kind kind, struct value *x)
{
    struct shape one = x->shape;
    struct op op = { .type = OP_PARTIAL };
    op.u.reduce.kind = kind;
    op.u.reduce.count = (int64_t)shape_len(&x->shape, ROW) * shape_len(&x->shape, COL);
    for (int a = ROW; a <= COL; a++)
        if (one.axis[a] >= 0)
            one.dim[one.axis[a]] = 1;
    struct value part;
    int32_t input = x->tensor;
    int rc = import_emit(im, &op, &input, 1, &one, &part);
    if (rc < 0)
        return rc;
    struct tensor *t = &im->graph->tensor[part.tensor];
    if (t->dim[CHAN] > BOX_MAX_EXTENT / 2)
        return refuse(im, -EINVAL, "%d channels to reduce", t->dim[CHAN]);
    /* One row per node, as many as there will be; each value a pair of floats. */
    t->dim[ROW] = 0;
    t->dim[CHAN] *= 2;
    op.type = OP_COMBINE;
    input = part.tensor;
    return import_emit(im, &op, &input, 1, &one, x);
}

static int import_global(struct import *im, enum reduce_kind kind)
{
    struct value x;
    int rc = import_tensor(im, 0, &x);
    if (rc < 0)
        return rc;
    if (x.shape.rank != 3 && x.shape.rank != 4)
        return refuse(im, -ENOTSUP, "an input with %d axes; 3 and 4 are supported", x.shape.rank);
    rc = import_lay_usual(im, &x);
    if (rc == 0)
        rc = emit_reduction(im, kind, &x);
    return rc < 0 ? rc : import_define(im, 0, &x);
}

int import_global_average_pool(struct import *im) { return import_global(im, REDUCE_MEAN); }
int import_global_max_pool(struct import *im) { return import_global(im, REDUCE_MAX); }

/* The axes to reduce as a bit set; all of them if none is named. */
static int reduce_axes(struct import *im, const struct shape *s, uint32_t *set)
{
    int64_t list[SHAPE_MAX_RANK];
    int32_t n, axis;
    int rc = import_ints(im, "axes", 1, list, SHAPE_MAX_RANK, &n);
    if (rc < 0)
        return rc;
    *set = 0;
    for (int32_t i = 0; i < n; i++) {
        if ((rc = import_axis(im, list[i], s->rank, &axis)) < 0)
            return rc;
        *set |= 1u << axis;
    }
    if (n <= 0 && !onnx_attr_int(im->node, "noop_with_empty_axes", 0))
        *set = (1u << s->rank) - 1;
    return 0;
}

/* Takes up to two axes out of `set` and makes them the rows and columns of `s`, and the last
 * axis that stays its channels.  Axes of extent 1 need nothing.  False if none is left. */
static bool take_space(struct shape *s, uint32_t *set)
{
    int8_t space[2] = { -1, -1 }, chan = -1;
    int n = 0;
    for (int8_t i = 0; i < s->rank; i++) {
        if (s->dim[i] == 1)
            continue;
        if (!(*set >> i & 1))
            chan = i;
        else if (n < 2)
            space[n++] = i;
    }
    for (int i = 0; i < n; i++)
        *set &= ~(1u << space[i]);
    s->axis[ROW] = space[0];
    s->axis[COL] = space[1];
    s->axis[CHAN] = chan;
    return n > 0;
}

/* True if rows and columns are what is to be reduced already. */
static bool is_space(const struct shape *s, uint32_t set)
{
    for (int32_t i = 0; i < s->rank; i++) {
        const enum axis a = shape_role(s, i);
        if (s->dim[i] > 1 && ((set >> i & 1) != 0) != (a == ROW || a == COL))
            return false;
    }
    return true;
}

/* A map's rows and columns at once; other axes in pairs, each brought to rows and columns. */
static int reduce_all(struct import *im, enum reduce_kind kind, struct value *x, uint32_t set)
{
    if (is_space(&x->shape, set))
        return emit_reduction(im, kind, x);
    for (struct shape want = x->shape; take_space(&want, &set); want = x->shape) {
        int rc = import_lay(im, x, &want);
        if (rc == 0)
            rc = emit_reduction(im, kind, x);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int drop_axes(struct import *im, struct value *v, uint32_t set)
{
    int64_t dim[SHAPE_MAX_RANK];
    int32_t rank = 0;
    for (int32_t i = 0; i < v->shape.rank; i++)
        if (!(set >> i & 1))
            dim[rank++] = v->shape.dim[i];
    return import_reshape_to(im, v, rank, dim);
}

static int import_reduce(struct import *im, enum reduce_kind kind)
{
    struct value x;
    uint32_t set = 0;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = reduce_axes(im, &x.shape, &set);
    if (rc < 0)
        return rc;
    if (set == 0)
        return import_define(im, 0, &x);
    rc = reduce_all(im, kind, &x, set);
    if (rc == 0 && !onnx_attr_int(im->node, "keepdims", 1))
        rc = drop_axes(im, &x, set);
    return rc < 0 ? rc : import_define(im, 0, &x);
}

int import_reduce_mean(struct import *im) { return import_reduce(im, REDUCE_MEAN); }
int import_reduce_sum(struct import *im) { return import_reduce(im, REDUCE_SUM); }
int import_reduce_max(struct import *im) { return import_reduce(im, REDUCE_MAX); }
