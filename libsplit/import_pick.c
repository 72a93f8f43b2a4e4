/* Operators that repeat or choose values along an axis: Expand, Tile, Gather. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

/* Coordinate i of `axis` becomes what stands at index[i] now; index[] is owned by the graph. */
struct pick {
    int32_t *index[SHAPE_MAX_RANK];
    int64_t len[SHAPE_MAX_RANK]; /* extents of the result */
};

/* Emits the picks of `p` that are not NULL. */
static int emit_pick(struct import *im, struct value *v, const struct pick *p)
{
    struct op op = { .type = OP_RESHAPE };
    struct shape to = v->shape;
    bool any = false;
    for (int32_t i = 0; i < SHAPE_MAX_RANK; i++)
        op.u.reshape.perm[i] = (int8_t)i;
    for (int32_t i = 0; i < to.rank; i++) {
        if (!p->index[i])
            continue;
        any = true;
        op.u.reshape.pick[i] = p->index[i];
        op.u.reshape.picked[i] = to.dim[i];
        to.dim[i] = (int32_t)p->len[i];
    }
    if (!any)
        return 0;
    op.u.reshape.from = v->shape;
    op.u.reshape.to = to;
    const int32_t input = v->tensor;
    return import_emit(im, &op, &input, 1, &to, v);
}

int import_pick(struct import *im, struct value *v, int32_t axis, int32_t *index, int64_t n)
{
    struct pick p = { .index = { NULL } };
    p.index[axis] = index;
    p.len[axis] = n;
    return emit_pick(im, v, &p);
}

/* Index i % dim for `len` values of an axis of `dim`: Expand (dim = 1) and Tile. */
static int cycle(struct import *im, int32_t dim, int64_t len, int32_t **index)
{
    *index = NULL;
    if (len == dim)
        return 0;
    if (len < 1 || len > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "an axis of %d would become one of %lld", dim, (long long)len);
    const int rc = import_array(im, len, sizeof **index, index);
    for (int64_t i = 0; i < len && rc == 0; i++)
        (*index)[i] = (int32_t)(i % dim);
    return rc;
}

int import_repeat(struct import *im, struct value *v, const int32_t *dim)
{
    struct pick p = { .index = { NULL } };
    int rc = 0;
    for (int32_t i = 0; i < v->shape.rank && rc == 0; i++) {
        p.len[i] = dim[i];
        rc = cycle(im, v->shape.dim[i], dim[i], &p.index[i]);
    }
    return rc ? rc : emit_pick(im, v, &p);
}

int import_expand(struct import *im)
{
    struct value x;
    int64_t want[SHAPE_MAX_RANK];
    int32_t dim[SHAPE_MAX_RANK], n = 0;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_ints(im, NULL, 1, want, SHAPE_MAX_RANK, &n);
    if (rc == 0 && n < 0)
        rc = refuse(im, -EINVAL, "it does not say to which shape");
    if (rc == 0)
        rc = import_prepend_axes(im, &x, n - x.shape.rank);
    if (rc)
        return rc;
    for (int32_t i = 0; i < x.shape.rank; i++) {
        const int32_t k = i - (x.shape.rank - n), have = x.shape.dim[i];
        const int64_t ask = k < 0 ? 1 : want[k];
        if (ask < 1 || ask > BOX_MAX_EXTENT || (have != 1 && ask != 1 && ask != have))
            return refuse(im, -EINVAL, "extent %d cannot become %lld", have, (long long)ask);
        dim[i] = have == 1 ? (int32_t)ask : have;
    }
    rc = import_repeat(im, &x, dim);
    return rc ? rc : import_define(im, 0, &x);
}

int import_tile(struct import *im)
{
    struct value x;
    int64_t times[SHAPE_MAX_RANK];
    int32_t dim[SHAPE_MAX_RANK], n = 0;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_ints(im, NULL, 1, times, SHAPE_MAX_RANK, &n);
    if (rc)
        return rc;
    if (n != x.shape.rank)
        return refuse(im, -EINVAL, "%d repeats for %d axes", n, x.shape.rank);
    for (int32_t i = 0; i < n; i++) {
        if (times[i] < 1 || times[i] > BOX_MAX_EXTENT / x.shape.dim[i])
            return refuse(im, -EINVAL, "axis %d would be repeated %lld times", i,
                          (long long)times[i]);
        dim[i] = (int32_t)times[i] * x.shape.dim[i];
    }
    rc = import_repeat(im, &x, dim);
    return rc ? rc : import_define(im, 0, &x);
}

/* The axis that is gathered becomes the axes of the indices. */
static int spread_axis(struct import *im, struct value *v, int32_t axis,
                       const struct onnx_tensor *index)
{
    int64_t dim[SHAPE_MAX_RANK];
    int32_t rank = 0;
    if (v->shape.rank - 1 + index->rank > SHAPE_MAX_RANK)
        return refuse(im, -ENOTSUP, "the result has more than %d axes", SHAPE_MAX_RANK);
    for (int32_t i = 0; i < axis; i++)
        dim[rank++] = v->shape.dim[i];
    for (int32_t i = 0; i < index->rank; i++)
        dim[rank++] = index->dim[i];
    for (int32_t i = axis + 1; i < v->shape.rank; i++)
        dim[rank++] = v->shape.dim[i];
    return import_reshape_to(im, v, rank, dim);
}

int import_gather(struct import *im)
{
    struct value x;
    const struct onnx_tensor *index;
    int32_t axis;
    if (import_input(im, 1) && !import_input(im, 1)->constant)
        return import_gather_computed(im);
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_constant(im, 1, false, &index);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x.shape.rank, &axis);
    if (rc)
        return rc;
    if (onnx_type_is_float(index->type) || index->count < 1)
        return refuse(im, -EINVAL, "the indices are no integers, or there are none");
    int32_t *list;
    if ((rc = import_array(im, index->count, sizeof *list, &list)))
        return rc;
    for (int64_t i = 0; i < index->count; i++) {
        const int64_t said = onnx_int(index, i), len = x.shape.dim[axis];
        if (said < -len || said >= len)
            return refuse(im, -EINVAL, "index %lld of %lld", (long long)said, (long long)len);
        list[i] = (int32_t)(said < 0 ? said + len : said);
    }
    rc = import_pick(im, &x, axis, list, index->count);
    if (rc == 0)
        rc = spread_axis(im, &x, axis, index);
    return rc ? rc : import_define(im, 0, &x);
}
