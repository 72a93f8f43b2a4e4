/* ScatterND and ScatterElements at constant places, as exporters write an assignment to a part of a
 * tensor: the result picks each value from the input or from the updates. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

static int refuse_reduction(struct import *im)
{
    const char *said = onnx_attr_string(im->node, "reduction", "none");
    return strcmp(said, "none") == 0 ? 0 : refuse(im, -ENOTSUP, "reduction \"%s\"", said);
}

static int read_operands(struct import *im, struct value *x, const struct onnx_tensor **index,
                         struct value *updates)
{
    int rc = import_tensor(im, 0, x);
    if (rc == 0)
        rc = import_constant(im, 1, false, index);
    if (rc == 0)
        rc = import_tensor(im, 2, updates);
    if (rc == 0)
        rc = refuse_reduction(im);
    if (rc == 0 && (onnx_type_is_float((*index)->type) || (*index)->rank < 1))
        rc = refuse(im, -EINVAL, "the indices are no list of integers");
    return rc;
}

/* 0..len-1 for an index that may count from the end. */
static int read_index(struct import *im, const struct onnx_tensor *index, int64_t i, int64_t len,
                      int64_t *at)
{
    const int64_t said = onnx_int(index, i);
    if (said < -len || said >= len)
        return refuse(im, -EINVAL, "index %lld of %lld", (long long)said, (long long)len);
    *at = said < 0 ? said + len : said;
    return 0;
}

/* `rows` pieces of `inner` values of the input, and `nupdates` of the updates: piece i of the
 * result is number from[i] of them, the input's first. */
struct pieces {
    int64_t rows, nupdates, inner;
    int32_t *from; /* [rows], owned by the graph */
};

static int pieces_init(struct import *im, struct pieces *p, int64_t rows, int64_t inner,
                       const struct value *updates)
{
    *p = (struct pieces){ .rows = rows, .inner = inner };
    p->nupdates = shape_values(&updates->shape) / inner;
    if (rows + p->nupdates > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "%lld places", (long long)(rows + p->nupdates));
    const int rc = import_array(im, rows, sizeof *p->from, &p->from);
    for (int64_t i = 0; i < rows && rc == 0; i++)
        p->from[i] = (int32_t)i;
    return rc;
}

static int emit_pieces(struct import *im, const struct pieces *p, struct value *x,
                       struct value *updates)
{
    const struct shape whole = x->shape;
    int64_t dim[SHAPE_MAX_RANK];
    struct value all;
    int rc = import_map(im, x, 1, p->rows, p->inner);
    if (rc == 0)
        rc = import_map(im, updates, 1, p->nupdates, p->inner);
    if (rc)
        return rc;
    const struct op concat = { .type = OP_CONCAT, .u.concat.axis = COL };
    const int32_t input[2] = { x->tensor, updates->tensor };
    const int32_t both[3] = { 1, (int32_t)(p->rows + p->nupdates), (int32_t)p->inner };
    const struct shape map = shape_make_map(3, both);
    rc = import_emit(im, &concat, input, 2, &map, &all);
    if (rc == 0)
        rc = import_pick(im, &all, 1, p->from, p->rows);
    for (int32_t i = 0; i < whole.rank; i++)
        dim[i] = whole.dim[i];
    if (rc == 0)
        rc = import_reshape_to(im, &all, whole.rank, dim);
    return rc ? rc : import_define(im, 0, &all);
}

/* The last axis of the indices holds numbers for as many first axes of the input. */
int import_scatter_nd(struct import *im)
{
    struct value x, updates;
    const struct onnx_tensor *index;
    struct pieces p;
    int rc = read_operands(im, &x, &index, &updates);
    if (rc)
        return rc;
    const struct shape *s = &x.shape;
    const int64_t n = index->dim[index->rank - 1];
    if (n < 1 || n > s->rank)
        return refuse(im, -EINVAL, "indices of %lld numbers for %d axes", (long long)n, s->rank);
    rc = pieces_init(im, &p, shape_extent(s, 0, (int32_t)n), shape_extent(s, (int32_t)n, s->rank),
                     &updates);
    if (rc)
        return rc;
    if (index->count / n * p.inner != shape_values(&updates.shape))
        return refuse(im, -EINVAL, "%lld indices and updates for %lld",
                      (long long)(index->count / n), (long long)p.nupdates);
    for (int64_t i = 0; i < p.nupdates; i++) {
        int64_t place = 0, at;
        for (int64_t k = 0; k < n; k++) {
            if ((rc = read_index(im, index, i * n + k, s->dim[k], &at)))
                return rc;
            place = place * s->dim[k] + at;
        }
        p.from[place] = (int32_t)(p.rows + i); /* of several the last */
    }
    return emit_pieces(im, &p, &x, &updates);
}

/* Every value of the updates has an index of its own along `axis`. */
int import_scatter_elements(struct import *im)
{
    struct value x, updates;
    const struct onnx_tensor *index;
    struct pieces p;
    int32_t axis;
    int64_t step[SHAPE_MAX_RANK];
    int rc = read_operands(im, &x, &index, &updates);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x.shape.rank, &axis);
    if (rc == 0)
        rc = pieces_init(im, &p, shape_values(&x.shape), 1, &updates);
    if (rc)
        return rc;
    const struct shape *s = &x.shape, *u = &updates.shape;
    bool fits = index->rank == s->rank && u->rank == s->rank;
    for (int32_t a = 0; a < s->rank && fits; a++)
        fits = index->dim[a] == u->dim[a] && (a == axis || u->dim[a] <= s->dim[a]);
    if (!fits)
        return refuse(im, -EINVAL, "indices, updates and input do not fit each other");
    shape_steps(s, step);
    for (int64_t i = 0; i < p.nupdates; i++) {
        int64_t place = 0, rest = i, at;
        for (int32_t a = s->rank - 1; a >= 0; rest /= u->dim[a--]) {
            at = rest % u->dim[a];
            if (a == axis && (rc = read_index(im, index, i, s->dim[a], &at)))
                return rc;
            place += at * step[a];
        }
        p.from[place] = (int32_t)(p.rows + i);
    }
    return emit_pieces(im, &p, &x, &updates);
}
