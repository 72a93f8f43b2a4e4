/* Operators that rename or reorder: Reshape, Transpose and their kin, and how a value is
 * brought to the axes that another operator wants. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

enum axis shape_role(const struct shape *s, int32_t onnx_axis)
{
    for (int a = 0; a < AXES; a++)
        if (s->axis[a] == onnx_axis)
            return (enum axis)a;
    return AXES;
}

/* Emits the operator that moves values from v->shape to `to` (equal row-major order). */
static int emit_move(struct import *im, struct value *v, const struct shape *to)
{
    struct op op = { .type = OP_RESHAPE };
    op.u.reshape.from = v->shape;
    op.u.reshape.to = *to;
    for (int32_t i = 0; i < SHAPE_MAX_RANK; i++)
        op.u.reshape.perm[i] = (int8_t)i;
    const int32_t input = v->tensor;
    return import_emit(im, &op, &input, 1, to, v);
}

int import_lay(struct import *im, struct value *v, const struct shape *want)
{
    if (!shape_relabels(&v->shape, want))
        return emit_move(im, v, want);
    v->shape = *want;
    return 0;
}

int import_lay_usual(struct import *im, struct value *v)
{
    const struct shape usual = shape_make(v->shape.rank, v->shape.dim);
    return import_lay(im, v, &usual);
}

int import_lay_channels(struct import *im, struct value *v)
{
    if (v->shape.rank < 2)
        return refuse(im, -EINVAL, "an input with %d axes has no channels", v->shape.rank);
    if (v->shape.axis[CHAN] == 1)
        return 0;
    struct shape want = shape_make(v->shape.rank, v->shape.dim);
    want.axis[CHAN] = 1;
    return import_lay(im, v, &want);
}

static bool all_unbatched(const struct shape *s, uint32_t axes)
{
    for (int32_t i = 0; i < s->rank; i++)
        if (axes >> i & 1 && shape_role(s, i) == AXES)
            return false;
    return true;
}

int import_lay_unbatched(struct import *im, struct value *v, uint32_t axes)
{
    if (all_unbatched(&v->shape, axes))
        return 0;
    const struct shape usual = shape_make(v->shape.rank, v->shape.dim);
    if (all_unbatched(&usual, axes))
        return import_lay(im, v, &usual);
    const struct shape last = shape_make_last(v->shape.rank, v->shape.dim);
    if (all_unbatched(&last, axes))
        return import_lay(im, v, &last);
    const struct shape map = shape_make_map(v->shape.rank, v->shape.dim);
    if (all_unbatched(&map, axes))
        return import_lay(im, v, &map);
    struct shape any = v->shape;
    int a = AXES;
    any.axis[ROW] = any.axis[COL] = any.axis[CHAN] = -1;
    for (int8_t i = (int8_t)(any.rank - 1); i >= 0 && a > 0; i--)
        if (axes >> i & 1)
            any.axis[--a] = i;
    if (all_unbatched(&any, axes))
        return import_lay(im, v, &any);
    char text[SHAPE_TEXT_BYTES];
    return refuse(im, -ENOTSUP, "it works along more than three axes of a tensor of shape %s",
                  shape_text(&v->shape, text));
}

/* The axes of `to` that lie where those of `from` lie: same extent, same distance in row-major
 * order.  An axis that is not found gets none. */
static struct shape carry_axes(const struct shape *from, const struct shape *to)
{
    int64_t fs[SHAPE_MAX_RANK], ts[SHAPE_MAX_RANK];
    struct shape s = *to;
    shape_steps(from, fs);
    shape_steps(to, ts);
    for (int a = 0; a < AXES; a++) {
        s.axis[a] = -1;
        if (shape_len(from, (enum axis)a) == 1)
            continue;
        const int8_t f = from->axis[a];
        for (int8_t i = 0; i < to->rank; i++)
            if (to->dim[i] == from->dim[f] && ts[i] == fs[f])
                s.axis[a] = i;
    }
    return s;
}

/* Where values must move, the order that follows the memory that is there keeps the move local:
 * a map with its channels last stays so.  (More axes are a shuffle, on its way back to a map.) */
static struct shape moved_axes(const struct shape *from, const struct shape *to)
{
    const bool map = from->rank == 3 || from->rank == 4;
    const bool last = map && from->axis[CHAN] == from->rank - 1;
    return last ? shape_make_last(to->rank, to->dim) : *to;
}

int import_reshape_to(struct import *im, struct value *v, int32_t rank, const int64_t *dim)
{
    int32_t extent[SHAPE_MAX_RANK];
    for (int32_t i = 0; i < rank; i++)
        extent[i] = (int32_t)dim[i];
    const struct shape usual = shape_make(rank, extent);
    const struct shape carried = carry_axes(&v->shape, &usual);
    if (shape_same_dims(&v->shape, &usual))
        return 0;
    if (shape_relabels(&v->shape, &usual))
        v->shape = usual;
    else if (shape_relabels(&v->shape, &carried))
        v->shape = carried;
    else {
        const struct shape moved = moved_axes(&v->shape, &usual);
        return import_lay(im, v, &moved);
    }
    return 0;
}

/* Extents of 1 before and after those of `v`. */
static int add_axes(struct import *im, struct value *v, int32_t before, int32_t after)
{
    int64_t dim[SHAPE_MAX_RANK];
    const int32_t rank = before + v->shape.rank + after;
    if (before + after <= 0)
        return 0;
    if (rank > SHAPE_MAX_RANK)
        return refuse(im, -ENOTSUP, "a tensor of more than %d axes", SHAPE_MAX_RANK);
    for (int32_t i = 0; i < rank; i++)
        dim[i] = i < before || i >= before + v->shape.rank ? 1 : v->shape.dim[i - before];
    if (!v->constant)
        return import_reshape_to(im, v, rank, dim);
    int32_t extent[SHAPE_MAX_RANK];
    for (int32_t i = 0; i < rank; i++)
        extent[i] = (int32_t)dim[i];
    v->shape = shape_make(rank, extent);
    return 0;
}

int import_prepend_axes(struct import *im, struct value *v, int32_t n)
{
    return add_axes(im, v, n, 0);
}

int import_append_axes(struct import *im, struct value *v, int32_t n)
{
    return add_axes(im, v, 0, n);
}

int import_map(struct import *im, struct value *v, int64_t rows, int64_t cols, int64_t channels)
{
    int rc = import_reshape_to(im, v, 3, (const int64_t[]){ rows, cols, channels });
    if (rc == 0) {
        const struct shape map = shape_make_map(3, v->shape.dim);
        rc = import_lay(im, v, &map);
    }
    return rc;
}

/* ---- extents of the operators that keep row-major order */

static int flatten_dims(struct import *im, int32_t rank, const int64_t *dim, int32_t *out_rank,
                        int64_t *out)
{
    const int64_t axis = onnx_attr_int(im->node, "axis", 1);
    if (axis < -rank || axis > rank)
        return refuse(im, -EINVAL, "axis %lld of a tensor with %d axes", (long long)axis, rank);
    const int32_t cut = (int32_t)(axis < 0 ? axis + rank : axis);
    *out_rank = 2;
    out[0] = out[1] = 1;
    for (int32_t i = 0; i < rank; i++)
        out[i >= cut] *= dim[i];
    return 0;
}

/* The axes named by attribute or input 1 as a bit set over `rank` axes. */
static int axis_set(struct import *im, int32_t rank, uint32_t *set, int32_t *n)
{
    int64_t list[SHAPE_MAX_RANK];
    int rc = import_ints(im, "axes", 1, list, SHAPE_MAX_RANK, n);
    if (rc)
        return rc;
    *set = 0;
    for (int32_t i = 0; i < *n; i++) {
        int32_t axis;
        if ((rc = import_axis(im, list[i], rank, &axis)))
            return rc;
        if (*set >> axis & 1)
            return refuse(im, -EINVAL, "axis %d is named twice", axis);
        *set |= 1u << axis;
    }
    return 0;
}

static int squeeze_dims(struct import *im, int32_t rank, const int64_t *dim, int32_t *out_rank,
                        int64_t *out)
{
    uint32_t set;
    int32_t n, k = 0;
    const int rc = axis_set(im, rank, &set, &n);
    if (rc)
        return rc;
    for (int32_t i = 0; i < rank; i++) {
        const bool drop = n < 0 ? dim[i] == 1 : (set >> i & 1) != 0;
        if (drop && dim[i] != 1)
            return refuse(im, -EINVAL, "axis %d has extent %lld, not 1", i, (long long)dim[i]);
        if (!drop)
            out[k++] = dim[i];
    }
    *out_rank = k;
    return 0;
}

static int unsqueeze_dims(struct import *im, int32_t rank, const int64_t *dim, int32_t *out_rank,
                          int64_t *out)
{
    uint32_t set;
    int32_t n, k = 0;
    int64_t list[SHAPE_MAX_RANK];
    int rc = import_ints(im, "axes", 1, list, SHAPE_MAX_RANK, &n);
    if (rc)
        return rc;
    if (n < 0)
        return refuse(im, -EINVAL, "it does not say which axes to insert");
    if (rank + n > SHAPE_MAX_RANK)
        return refuse(im, -ENOTSUP, "the result has more than %d axes", SHAPE_MAX_RANK);
    if ((rc = axis_set(im, rank + n, &set, &n)))
        return rc;
    *out_rank = rank + n;
    for (int32_t i = 0; i < rank + n; i++)
        out[i] = set >> i & 1 ? 1 : dim[k++];
    return 0;
}

static int product(struct import *im, int32_t rank, const int64_t *dim, int64_t *n)
{
    int64_t most = 1; /* as if no extent were 0 */
    *n = 1;
    for (int32_t i = 0; i < rank; i++) {
        if (dim[i] > INT32_MAX || (most *= dim[i] ? dim[i] : 1) > INT32_MAX)
            return refuse(im, -EINVAL, "the shape has too many values");
        *n *= dim[i];
    }
    return 0;
}

static int new_dims(struct import *im, int32_t rank, const int64_t *dim, int32_t *out_rank,
                    int64_t *out)
{
    const bool keep_zero = onnx_attr_int(im->node, "allowzero", 0) != 0;
    int32_t open = -1;
    int64_t have, known;
    int rc = import_ints(im, "shape", 1, out, SHAPE_MAX_RANK, out_rank);
    if (rc)
        return rc;
    if (*out_rank < 0)
        return refuse(im, -EINVAL, "it does not say to which shape");
    for (int32_t i = 0; i < *out_rank; i++) {
        if (out[i] == 0 && !keep_zero) {
            if (i >= rank)
                return refuse(im, -EINVAL, "extent %d is to be copied, but the input has %d axes",
                              i, rank);
            out[i] = dim[i];
        }
        if (out[i] < -1 || (out[i] == -1 && open >= 0))
            return refuse(im, -EINVAL, "impossible shape: extent %d is %lld", i, (long long)out[i]);
        if (out[i] == -1) {
            open = i;
            out[i] = 1;
        }
    }
    if ((rc = product(im, rank, dim, &have)) || (rc = product(im, *out_rank, out, &known)))
        return rc;
    if (open >= 0 && known > 0 && have % known == 0)
        out[open] = have / known;
    else if (open >= 0 || known != have)
        return refuse(im, -EINVAL, "%lld values do not fit the new shape", (long long)have);
    return 0;
}

int reshape_dims(struct import *im, int32_t rank, const int64_t *dim, int32_t *out_rank,
                 int64_t *out)
{
    const char *op = im->node->op_type;
    if (strcmp(op, "Flatten") == 0)
        return flatten_dims(im, rank, dim, out_rank, out);
    if (strcmp(op, "Squeeze") == 0)
        return squeeze_dims(im, rank, dim, out_rank, out);
    if (strcmp(op, "Unsqueeze") == 0)
        return unsqueeze_dims(im, rank, dim, out_rank, out);
    return new_dims(im, rank, dim, out_rank, out);
}

int import_reshape(struct import *im)
{
    struct value v;
    int64_t dim[SHAPE_MAX_RANK] = { 0 }, out[SHAPE_MAX_RANK];
    int32_t rank;
    int rc = import_tensor(im, 0, &v);
    if (rc)
        return rc;
    for (int32_t i = 0; i < v.shape.rank; i++)
        dim[i] = v.shape.dim[i];
    rc = reshape_dims(im, v.shape.rank, dim, &rank, out);
    if (rc == 0)
        rc = import_reshape_to(im, &v, rank, out);
    return rc ? rc : import_define(im, 0, &v);
}

int import_flatten(struct import *im) { return import_reshape(im); }
int import_squeeze(struct import *im) { return import_reshape(im); }
int import_unsqueeze(struct import *im) { return import_reshape(im); }

/* ---- Transpose */

int transpose_perm(struct import *im, int32_t rank, int8_t *perm)
{
    const struct onnx_attr *a = onnx_attr(im->node, "perm", ONNX_ATTR_INTS);
    uint32_t seen = 0;
    if (a && a->n != rank)
        return refuse(im, -EINVAL, "perm has %d axes, the input %d", a->n, rank);
    for (int32_t i = 0; i < rank; i++) {
        const int64_t p = a ? a->ints[i] : rank - 1 - i;
        if (p < 0 || p >= rank || seen >> p & 1)
            return refuse(im, -EINVAL, "perm is no permutation of %d axes", rank);
        seen |= 1u << p;
        perm[i] = (int8_t)p;
    }
    return 0;
}

/* The batch is stored in the order of its ONNX axes, so only a Transpose that changes that order
 * moves values. */
static bool keeps_batch_order(const struct shape *s, const int8_t *perm)
{
    int8_t last = -1;
    for (int32_t i = 0; i < s->rank; i++) {
        if (shape_role(s, perm[i]) != AXES || s->dim[perm[i]] == 1)
            continue;
        if (perm[i] < last)
            return false;
        last = perm[i];
    }
    return true;
}

int import_permute(struct import *im, struct value *v, const int8_t *perm)
{
    struct shape to = v->shape;
    for (int32_t i = 0; i < to.rank; i++) {
        to.dim[i] = v->shape.dim[perm[i]];
        const enum axis a = shape_role(&v->shape, perm[i]);
        if (a != AXES)
            to.axis[a] = (int8_t)i;
    }
    if (keeps_batch_order(&v->shape, perm)) {
        v->shape = to;
        return 0;
    }
    struct op op = { .type = OP_RESHAPE };
    to = shape_make(to.rank, to.dim);
    op.u.reshape.from = v->shape;
    op.u.reshape.to = to;
    memcpy(op.u.reshape.perm, perm, (size_t)to.rank);
    const int32_t input = v->tensor;
    return import_emit(im, &op, &input, 1, &to, v);
}

int import_transpose(struct import *im)
{
    struct value v;
    int8_t perm[SHAPE_MAX_RANK];
    int rc = import_tensor(im, 0, &v);
    if (rc == 0)
        rc = transpose_perm(im, v.shape.rank, perm);
    if (rc == 0)
        rc = import_permute(im, &v, perm);
    return rc ? rc : import_define(im, 0, &v);
}

/* ---- nothing but a name */

int import_identity(struct import *im)
{
    struct value v;
    int rc = import_tensor(im, 0, &v);
    if (rc == 0)
        rc = import_only_outputs(im, 1);
    return rc ? rc : import_define(im, 0, &v);
}

/* Output 1 of Dropout says that nothing was dropped. */
static int define_mask(struct import *im, const struct shape *s)
{
    uint8_t *ones;
    struct onnx_tensor *t = store_array(&im->store, 1, sizeof *t);
    if (im->node->noutputs < 2 || !im->node->output[1][0])
        return 0;
    if (!t)
        return import_no_memory(im);
    const int rc = import_array(im, shape_values(s), 1, &ones);
    if (rc)
        return rc;
    memset(ones, 1, (size_t)shape_values(s));
    *t = (struct onnx_tensor){ .name = "",
                               .type = ONNX_BOOL,
                               .rank = s->rank,
                               .data = ones,
                               .count = shape_values(s),
                               .bytes = (size_t)shape_values(s) };
    for (int32_t i = 0; i < s->rank; i++)
        t->dim[i] = s->dim[i];
    return import_define_constant(im, 1, t);
}

/* At inference it passes its input on; its ratio does not matter. */
int import_dropout(struct import *im)
{
    struct value x;
    const struct onnx_tensor *training;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_constant(im, 2, true, &training);
    if (rc)
        return rc;
    if (training && (training->count != 1 || onnx_int(training, 0) != 0))
        return refuse(im, -ENOTSUP, "training mode is not supported");
    rc = define_mask(im, &x.shape);
    return rc ? rc : import_define(im, 0, &x);
}

/* Tensors stay float: a shorter float is kept as it is, an integer becomes a whole number. */
static int cast_to(struct import *im, int64_t to)
{
    struct value x;
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (to <= ONNX_NONE || to > ONNX_BFLOAT16 || !onnx_type_bytes((enum onnx_type)to))
        return refuse(im, -ENOTSUP, "a cast to data type %lld", (long long)to);
    if (to == ONNX_BOOL)
        rc = import_act(im, (struct act){ .kind = ACT_NOT_ZERO }, &x);
    else if (!onnx_type_is_float((enum onnx_type)to))
        rc = import_act(im, (struct act){ .kind = ACT_TRUNCATE }, &x);
    return rc ? rc : import_define(im, 0, &x);
}

int import_cast(struct import *im) { return cast_to(im, onnx_attr_int(im->node, "to", ONNX_NONE)); }

int import_cast_like(struct import *im)
{
    const struct value *like = import_input(im, 1);
    if (!like)
        return refuse(im, -EINVAL, "input 1 is missing");
    if (like->constant)
        return cast_to(im, like->constant->type);
    return cast_to(im, like->integer ? ONNX_INT64 : ONNX_FLOAT);
}
