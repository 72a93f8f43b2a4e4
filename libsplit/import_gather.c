/* Gather and its kin where the network computes the indices (import_pick.c has the constant ones
 * of Gather). */
#include "libsplit/import.h"

#include <errno.h>

/* Emits the operator for maps `x` and `index`, and gives the result its axes: the first `lead` of
 * `a`, the middle `mid` of `b` from `from` on, and those of `a` from `tail` on. */
struct axes {
    const struct shape *a, *b;
    int32_t lead, from, mid, tail;
};

static int emit_gather(struct import *im, struct op *op, const struct value *x,
                       const struct value *index, const struct axes *axes)
{
    const int32_t input[2] = { x->tensor, index->tensor };
    const int32_t dim[3] = { x->shape.dim[0], index->shape.dim[1], x->shape.dim[2] };
    const struct shape map = shape_make_map(3, dim);
    int64_t want[SHAPE_MAX_RANK];
    int32_t rank = 0;
    struct value out;
    if (axes->lead + axes->mid + axes->a->rank - axes->tail > SHAPE_MAX_RANK)
        return refuse(im, -ENOTSUP, "the result has more than %d axes", SHAPE_MAX_RANK);
    for (int32_t i = 0; i < op->u.gather.n; i++)
        if (op->u.gather.len[i] > IMPORT_MAX_EXACT)
            return refuse(im, -ENOTSUP, "an axis of %d values", op->u.gather.len[i]);
    for (int32_t i = 0; i < axes->lead; i++)
        want[rank++] = axes->a->dim[i];
    for (int32_t i = 0; i < axes->mid; i++)
        want[rank++] = axes->b->dim[axes->from + i];
    for (int32_t i = axes->tail; i < axes->a->rank; i++)
        want[rank++] = axes->a->dim[i];
    op->type = OP_GATHER;
    int rc = import_emit(im, op, input, 2, &map, &out);
    if (rc == 0)
        rc = import_reshape_to(im, &out, rank, want);
    return rc ? rc : import_define(im, 0, &out);
}

static int two_tensors(struct import *im, struct value *x, struct value *index)
{
    const int rc = import_tensor(im, 0, x);
    return rc ? rc : import_tensor(im, 1, index);
}

int import_gather_computed(struct import *im)
{
    struct value x, index;
    int32_t axis;
    int rc = two_tensors(im, &x, &index);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x.shape.rank, &axis);
    if (rc)
        return rc;
    const struct shape a = x.shape, b = index.shape;
    struct op op = { .u.gather = { .n = 1, .len = { a.dim[axis] }, .step = { 1 } } };
    rc = import_map(im, &x, shape_extent(&a, 0, axis), a.dim[axis],
                    shape_extent(&a, axis + 1, a.rank));
    if (rc == 0)
        rc = import_map(im, &index, 1, shape_values(&b), 1);
    const struct axes axes = { &a, &b, axis, 0, b.rank, axis + 1 };
    return rc ? rc : emit_gather(im, &op, &x, &index, &axes);
}

/* Every value of the result has an index of its own along `axis`. */
int import_gather_elements(struct import *im)
{
    struct value x, index;
    int32_t axis;
    int rc = two_tensors(im, &x, &index);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x.shape.rank, &axis);
    if (rc)
        return rc;
    const struct shape a = x.shape, b = index.shape;
    for (int32_t i = 0; i < a.rank; i++)
        if (a.rank != b.rank || (i != axis && a.dim[i] != b.dim[i]))
            return refuse(im, -ENOTSUP, "indices for a part of the input, on axis %d", i);
    const int64_t outer = shape_extent(&a, 0, axis), inner = shape_extent(&a, axis + 1, a.rank);
    struct op op = { .u.gather = { .each = true, .n = 1, .len = { a.dim[axis] }, .step = { 1 } } };
    rc = import_map(im, &x, outer, a.dim[axis], inner);
    if (rc == 0)
        rc = import_map(im, &index, outer, b.dim[axis], inner);
    const struct axes axes = { &a, &b, axis, axis, 1, axis + 1 };
    return rc ? rc : emit_gather(im, &op, &x, &index, &axes);
}

/* The last axis of the indices holds numbers for as many axes of the input, after those that both
 * share (batch_dims). */
int import_gather_nd(struct import *im)
{
    struct value x, index;
    int rc = two_tensors(im, &x, &index);
    if (rc)
        return rc;
    const struct shape a = x.shape, b = index.shape;
    const int64_t shared = onnx_attr_int(im->node, "batch_dims", 0);
    const int32_t n = b.rank > 0 ? b.dim[b.rank - 1] : 0;
    if (shared < 0 || shared >= b.rank || n < 1 || shared + n > a.rank)
        return refuse(im, -EINVAL, "indices of %d numbers after %lld axes of %d", n,
                      (long long)shared, a.rank);
    const int32_t lead = (int32_t)shared, tail = lead + n;
    struct op op = { .u.gather.n = n };
    for (int32_t i = 0; i < lead; i++)
        if (a.dim[i] != b.dim[i])
            return refuse(im, -EINVAL, "extents %d and %d on axis %d", a.dim[i], b.dim[i], i);
    for (int32_t i = 0; i < n; i++) {
        op.u.gather.len[i] = a.dim[lead + i];
        op.u.gather.step[i] = (int32_t)shape_extent(&a, lead + i + 1, tail);
    }
    rc = import_map(im, &x, shape_extent(&a, 0, lead), shape_extent(&a, lead, tail),
                    shape_extent(&a, tail, a.rank));
    if (rc == 0)
        rc = import_map(im, &index, shape_extent(&b, 0, lead), shape_extent(&b, lead, b.rank - 1),
                        n);
    const struct axes axes = { &a, &b, lead, lead, b.rank - 1 - lead, tail };
    return rc ? rc : emit_gather(im, &op, &x, &index, &axes);
}
