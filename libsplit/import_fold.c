/* Constants computed at load.  Exporters spell shapes as chains of Shape, Gather, Concat...;
 * with the input's shape known these are numbers.  Values are made as float, double, int64 or
 * bool and read back by onnx_float() and onnx_int(). */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const struct onnx_tensor *operand(const struct import *im, int32_t i)
{
    const struct value *v = import_input(im, i);
    return v ? v->constant : NULL;
}

/* ---- making a constant */

static void set_dims(struct onnx_tensor *t, int32_t rank, const int64_t *dim)
{
    t->rank = rank;
    for (int32_t i = 0; i < rank; i++)
        t->dim[i] = dim[i];
}

/* A constant with room for its data; the budget bounds what a small file can make us allocate. */
static int make(struct import *im, enum onnx_type type, int32_t rank, const int64_t *dim,
                struct onnx_tensor **made)
{
    int64_t count = 1, most = 1; /* `most`: as if no extent were 0 */
    for (int32_t i = 0; i < rank; i++) {
        if (dim[i] < 0 || dim[i] > BOX_MAX_EXTENT || most > INT32_MAX / (dim[i] ? dim[i] : 1))
            return refuse(im, -EINVAL, "a constant with an extent of %lld", (long long)dim[i]);
        count *= dim[i];
        most *= dim[i] ? dim[i] : 1;
    }
    const size_t size = onnx_type_bytes(type);
    struct onnx_tensor *t = store_array(&im->store, 1, sizeof *t);
    void *data = NULL;
    if (!t)
        return import_no_memory(im);
    const int rc = import_array(im, count, size, &data);
    if (rc)
        return rc;
    *t = (struct onnx_tensor){
        .name = "", .type = type, .count = count, .data = data, .bytes = (size_t)count * size
    };
    set_dims(t, rank, dim);
    *made = t;
    return 0;
}

static uint8_t *place(struct onnx_tensor *t, int64_t i)
{
    return (uint8_t *)t->data + (size_t)i * onnx_type_bytes(t->type);
}

static void put_int(struct onnx_tensor *t, int64_t i, int64_t v)
{
    memcpy(place(t, i), &v, onnx_type_bytes(t->type)); /* little-endian */
}

static void put_double(struct onnx_tensor *t, int64_t i, double v)
{
    const float f = (float)v;
    if (t->type == ONNX_DOUBLE)
        memcpy(place(t, i), &v, sizeof v);
    else
        memcpy(place(t, i), &f, sizeof f);
}

static bool holds_ints(const struct onnx_tensor *t) { return !onnx_type_is_float(t->type); }

/* Element `from` of `s` becomes element `to` of `t`, converted. */
static void put_element(struct onnx_tensor *t, int64_t to, const struct onnx_tensor *s,
                        int64_t from)
{
    if (t->type == s->type)
        memcpy(place(t, to), (const uint8_t *)s->data + (size_t)from * onnx_type_bytes(s->type),
               onnx_type_bytes(s->type));
    else if (t->type == ONNX_BOOL)
        put_int(t, to, onnx_double(s, from) != 0);
    else if (holds_ints(t))
        put_int(t, to, onnx_int(s, from));
    else
        put_double(t, to, onnx_double(s, from));
}

/* The same data under other extents. */
static int rename_constant(struct import *im, const struct onnx_tensor *from, int32_t rank,
                           const int64_t *dim)
{
    struct onnx_tensor *t = store_array(&im->store, 1, sizeof *t);
    if (!t)
        return import_no_memory(im);
    *t = *from;
    set_dims(t, rank, dim);
    return import_define_constant(im, 0, t);
}

static int need(struct import *im, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!operand(im, i))
            return refuse(im, -EINVAL, "input %d is missing", i);
    return 0;
}

static int make_ints(struct import *im, int32_t rank, int64_t n, const int64_t *v)
{
    struct onnx_tensor *t;
    const int rc = make(im, ONNX_INT64, rank, &n, &t);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        put_int(t, i, v[i]);
    return import_define_constant(im, 0, t);
}

/* ---- Constant, Shape, Size */

int fold_constant(struct import *im)
{
    const struct onnx_node *n = im->node;
    if (n->nattrs != 1)
        return refuse(im, -EINVAL, "it must have one value");
    const struct onnx_attr *a = &n->attr[0];
    if (a->type == ONNX_ATTR_TENSOR)
        return import_define_constant(im, 0, a->t);
    if (a->type == ONNX_ATTR_INT)
        return make_ints(im, 0, 1, &a->i);
    if (a->type == ONNX_ATTR_INTS)
        return make_ints(im, 1, a->n, a->ints);
    struct onnx_tensor *t;
    const int64_t count = a->type == ONNX_ATTR_FLOATS ? a->n : 1;
    const int rc = make(im, ONNX_FLOAT, a->type == ONNX_ATTR_FLOATS, &count, &t);
    if (rc)
        return rc;
    for (int64_t i = 0; i < count; i++)
        put_double(t, i, (double)(a->type == ONNX_ATTR_FLOATS ? a->floats[i] : a->f));
    return import_define_constant(im, 0, t);
}

int fold_shape(struct import *im)
{
    const struct value *v = import_input(im, 0);
    if (!v)
        return refuse(im, -EINVAL, "input 0 is missing");
    const int32_t rank = v->shape.rank;
    int64_t start = onnx_attr_int(im->node, "start", 0), end = onnx_attr_int(im->node, "end", rank);
    int64_t dim[SHAPE_MAX_RANK];
    start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
    end = end < -rank ? 0 : end < 0 ? end + rank : end > rank ? rank : end;
    for (int32_t i = 0; i < rank; i++)
        dim[i] = v->shape.dim[i];
    return make_ints(im, 1, end > start ? end - start : 0, dim + start);
}

int fold_size(struct import *im)
{
    const struct value *v = import_input(im, 0);
    if (!v)
        return refuse(im, -EINVAL, "input 0 is missing");
    const int64_t n = v->constant ? v->constant->count : shape_values(&v->shape);
    return make_ints(im, 0, 1, &n);
}

/* ---- the same values in other places */

int fold_identity(struct import *im)
{
    int rc = need(im, 1);
    if (rc == 0)
        rc = import_only_outputs(im, 1);
    return rc ? rc : import_define_constant(im, 0, operand(im, 0));
}

int fold_reshape(struct import *im)
{
    int64_t dim[SHAPE_MAX_RANK];
    int32_t rank;
    int rc = need(im, 1);
    if (rc == 0)
        rc = reshape_dims(im, operand(im, 0)->rank, operand(im, 0)->dim, &rank, dim);
    return rc ? rc : rename_constant(im, operand(im, 0), rank, dim);
}

static void row_major(int32_t rank, const int64_t *dim, int64_t *step)
{
    int64_t n = 1;
    for (int32_t i = rank; i-- > 0;) {
        step[i] = n;
        n *= dim[i];
    }
}

/* Fills `to` in row-major order from element `at` + sum of coordinate[i] * step[i] of `from`. */
static void gather_strided(struct onnx_tensor *to, const struct onnx_tensor *from, int64_t at,
                           const int64_t *step)
{
    int64_t coord[ONNX_MAX_RANK] = { 0 };
    for (int64_t n = 0; n < to->count; n++) {
        put_element(to, n, from, at);
        for (int32_t i = to->rank; i-- > 0;) {
            at += step[i];
            if (++coord[i] < to->dim[i])
                break;
            at -= step[i] * to->dim[i];
            coord[i] = 0;
        }
    }
}

int fold_transpose(struct import *im)
{
    int8_t perm[SHAPE_MAX_RANK];
    int64_t dim[ONNX_MAX_RANK], old[ONNX_MAX_RANK], step[ONNX_MAX_RANK] = { 0 };
    struct onnx_tensor *t;
    int rc = need(im, 1);
    if (rc)
        return rc;
    const struct onnx_tensor *x = operand(im, 0);
    if ((rc = transpose_perm(im, x->rank, perm)))
        return rc;
    row_major(x->rank, x->dim, old);
    for (int32_t i = 0; i < x->rank; i++) {
        dim[i] = x->dim[perm[i]];
        step[i] = old[perm[i]];
    }
    if ((rc = make(im, x->type, x->rank, dim, &t)))
        return rc;
    gather_strided(t, x, 0, step);
    return import_define_constant(im, 0, t);
}

int fold_slice(struct import *im)
{
    int64_t start[ONNX_MAX_RANK], step[ONNX_MAX_RANK], dim[ONNX_MAX_RANK], old[ONNX_MAX_RANK];
    struct onnx_tensor *t;
    int64_t at = 0;
    int rc = need(im, 1);
    if (rc)
        return rc;
    const struct onnx_tensor *x = operand(im, 0);
    if ((rc = slice_dims(im, x->rank, x->dim, start, step, dim)) ||
        (rc = make(im, x->type, x->rank, dim, &t)))
        return rc;
    row_major(x->rank, x->dim, old);
    for (int32_t i = 0; i < x->rank; i++) {
        at += start[i] * old[i];
        step[i] = dim[i] > 1 ? step[i] * old[i] : 0;
    }
    gather_strided(t, x, at, step);
    return import_define_constant(im, 0, t);
}

int fold_expand(struct import *im)
{
    int64_t want[ONNX_MAX_RANK], old[ONNX_MAX_RANK], step[ONNX_MAX_RANK] = { 0 };
    int32_t n;
    struct onnx_tensor *t;
    int rc = need(im, 2);
    if (rc == 0)
        rc = import_ints(im, NULL, 1, want, ONNX_MAX_RANK, &n);
    if (rc)
        return rc;
    const struct onnx_tensor *x = operand(im, 0);
    row_major(x->rank, x->dim, old);
    const int32_t rank = x->rank > n ? x->rank : n;
    int64_t dim[ONNX_MAX_RANK];
    for (int32_t i = 0; i < rank; i++) {
        const int32_t a = i - (rank - x->rank), b = i - (rank - n);
        const int64_t have = a < 0 ? 1 : x->dim[a], ask = b < 0 ? 1 : want[b];
        if (have != ask && have != 1 && ask != 1)
            return refuse(im, -EINVAL, "extent %lld cannot become %lld", (long long)have,
                          (long long)ask);
        dim[i] = have == 1 ? ask : have;
        step[i] = have == 1 ? 0 : old[a];
    }
    if ((rc = make(im, x->type, rank, dim, &t)))
        return rc;
    gather_strided(t, x, 0, step);
    return import_define_constant(im, 0, t);
}

int fold_gather(struct import *im)
{
    int64_t dim[ONNX_MAX_RANK];
    int32_t axis, rank = 0;
    struct onnx_tensor *t;
    int rc = need(im, 2);
    if (rc)
        return rc;
    const struct onnx_tensor *x = operand(im, 0), *index = operand(im, 1);
    if ((rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x->rank, &axis)))
        return rc;
    if (x->rank - 1 + index->rank > ONNX_MAX_RANK || !holds_ints(index))
        return refuse(im, -ENOTSUP, "indices with %d axes into %d axes", index->rank, x->rank);
    int64_t outer = 1, inner = 1;
    for (int32_t i = 0; i < axis; i++)
        outer *= dim[rank++] = x->dim[i];
    for (int32_t i = 0; i < index->rank; i++)
        dim[rank++] = index->dim[i];
    for (int32_t i = axis + 1; i < x->rank; i++)
        inner *= dim[rank++] = x->dim[i];
    if ((rc = make(im, x->type, rank, dim, &t)))
        return rc;
    int64_t to = 0;
    for (int64_t o = 0; o < outer && t->count; o++)
        for (int64_t k = 0; k < index->count; k++) {
            int64_t at = onnx_int(index, k);
            at += at < 0 ? x->dim[axis] : 0;
            if (at < 0 || at >= x->dim[axis])
                return refuse(im, -EINVAL, "index %lld of %lld", (long long)onnx_int(index, k),
                              (long long)x->dim[axis]);
            for (int64_t i = 0; i < inner; i++)
                put_element(t, to++, x, (o * x->dim[axis] + at) * inner + i);
        }
    return import_define_constant(im, 0, t);
}

int fold_concat(struct import *im)
{
    const int32_t n = im->node->ninputs;
    int64_t dim[ONNX_MAX_RANK];
    int32_t axis;
    struct onnx_tensor *t;
    int rc = n > 0 ? need(im, n) : refuse(im, -EINVAL, "it has no inputs");
    if (rc)
        return rc;
    const struct onnx_tensor *first = operand(im, 0);
    if ((rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), first->rank, &axis)))
        return rc;
    memcpy(dim, first->dim, sizeof dim);
    dim[axis] = 0;
    for (int32_t k = 0; k < n; k++) {
        const struct onnx_tensor *x = operand(im, k);
        if (x->rank != first->rank || x->type != first->type)
            return refuse(im, -EINVAL, "constants of different kinds");
        for (int32_t i = 0; i < x->rank; i++)
            if (i != axis && x->dim[i] != dim[i])
                return refuse(im, -EINVAL, "extents %lld and %lld on axis %d", (long long)dim[i],
                              (long long)x->dim[i], i);
        dim[axis] += x->dim[axis];
    }
    if ((rc = make(im, first->type, first->rank, dim, &t)))
        return rc;
    int64_t outer = 1, to = 0;
    for (int32_t i = 0; i < axis; i++)
        outer *= dim[i];
    for (int64_t o = 0; o < outer && t->count; o++)
        for (int32_t k = 0; k < n; k++) {
            const struct onnx_tensor *x = operand(im, k);
            const int64_t run = x->count / outer;
            for (int64_t i = 0; i < run; i++)
                put_element(t, to++, x, o * run + i);
        }
    return import_define_constant(im, 0, t);
}

/* ---- new values */

/* The type in which results are kept: int64 for every integer, float for every small float. */
static enum onnx_type kept_type(const struct onnx_tensor *t)
{
    if (t->type == ONNX_DOUBLE || t->type == ONNX_BOOL)
        return t->type;
    return holds_ints(t) ? ONNX_INT64 : ONNX_FLOAT;
}

/* Short floats are kept as float. */
int fold_cast(struct import *im)
{
    const int64_t said = onnx_attr_int(im->node, "to", ONNX_NONE);
    const int64_t to = said == ONNX_FLOAT16 || said == ONNX_BFLOAT16 ? ONNX_FLOAT : said;
    struct onnx_tensor *t;
    int rc = need(im, 1);
    if (rc)
        return rc;
    const struct onnx_tensor *x = operand(im, 0);
    if (to != ONNX_FLOAT && to != ONNX_DOUBLE && to != ONNX_INT64 && to != ONNX_INT32 &&
        to != ONNX_BOOL)
        return refuse(im, -ENOTSUP, "a cast to data type %lld", (long long)said);
    if ((rc = make(im, (enum onnx_type)to, x->rank, x->dim, &t)))
        return rc;
    for (int64_t i = 0; i < t->count; i++)
        put_element(t, i, x, i);
    return import_define_constant(im, 0, t);
}

static bool is_op(const struct import *im, const char *op)
{
    return strcmp(im->node->op_type, op) == 0;
}

/* Returns false where integers have no result. */
static bool int_binary(const struct import *im, int64_t a, int64_t b, int64_t *out)
{
    if (is_op(im, "Add"))
        return !__builtin_add_overflow(a, b, out);
    if (is_op(im, "Sub"))
        return !__builtin_sub_overflow(a, b, out);
    if (is_op(im, "Mul"))
        return !__builtin_mul_overflow(a, b, out);
    if (is_op(im, "Pow"))
        return false;
    if (is_op(im, "Div")) {
        if (b == 0 || (a == INT64_MIN && b == -1))
            return false;
        *out = a / b;
        return true;
    }
    *out = is_op(im, "Min") ? (a < b ? a : b) : is_op(im, "Max") ? (a > b ? a : b) : a == b;
    return true;
}

static double double_binary(const struct import *im, double a, double b)
{
    if (is_op(im, "Add"))
        return a + b;
    if (is_op(im, "Sub"))
        return a - b;
    if (is_op(im, "Mul"))
        return a * b;
    if (is_op(im, "Div"))
        return a / b;
    if (is_op(im, "Pow"))
        return pow(a, b);
    return is_op(im, "Min") ? fmin(a, b) : is_op(im, "Max") ? fmax(a, b) : a == b;
}

enum { FOLD_OPERANDS = 3 };

/* Extents of operands that are broadcast together, and the step of each on every axis. */
struct together {
    int32_t n, rank;
    const struct onnx_tensor *x[FOLD_OPERANDS];
    int64_t dim[ONNX_MAX_RANK];
    int64_t step[FOLD_OPERANDS][ONNX_MAX_RANK];
};

static int bring_together(struct import *im, int32_t n, struct together *b)
{
    const int rc = need(im, n);
    if (rc)
        return rc;
    *b = (struct together){ .n = n };
    for (int32_t k = 0; k < n; k++) {
        b->x[k] = operand(im, k);
        if (b->x[k]->rank > b->rank)
            b->rank = b->x[k]->rank;
    }
    for (int32_t i = 0; i < b->rank; i++)
        b->dim[i] = 1;
    for (int32_t k = 0; k < n; k++) {
        const int32_t shift = b->rank - b->x[k]->rank;
        int64_t step[ONNX_MAX_RANK] = { 0 };
        row_major(b->x[k]->rank, b->x[k]->dim, step);
        for (int32_t i = shift; i < b->rank; i++) {
            const int64_t len = b->x[k]->dim[i - shift];
            if (len == 1)
                continue;
            if (b->dim[i] != 1 && b->dim[i] != len)
                return refuse(im, -EINVAL, "extents %lld and %lld on axis %d", (long long)b->dim[i],
                              (long long)len, i);
            b->dim[i] = len;
            b->step[k][i] = step[i - shift];
        }
    }
    return 0;
}

/* Moves coordinates and the places of all operands to the next element in row-major order. */
static void next_together(const struct together *b, int64_t *coord, int64_t *at)
{
    for (int32_t i = b->rank; i-- > 0;) {
        const bool carry = ++coord[i] == b->dim[i];
        for (int32_t k = 0; k < b->n; k++)
            at[k] += carry ? -b->step[k][i] * (b->dim[i] - 1) : b->step[k][i];
        if (!carry)
            return;
        coord[i] = 0;
    }
}

int fold_binary(struct import *im)
{
    struct together b;
    struct onnx_tensor *t;
    int64_t coord[ONNX_MAX_RANK] = { 0 }, at[FOLD_OPERANDS] = { 0 };
    if (im->node->ninputs != 2)
        return refuse(im, -ENOTSUP, "%d constants, two are supported", im->node->ninputs);
    int rc = bring_together(im, 2, &b);
    if (rc)
        return rc;
    /* Pow alone may mix types: the result has that of the base. */
    const bool ints = holds_ints(b.x[0]) && holds_ints(b.x[1]);
    if (holds_ints(b.x[0]) != holds_ints(b.x[1]) && !is_op(im, "Pow"))
        return refuse(im, -EINVAL, "an integer and a float");
    const enum onnx_type type = is_op(im, "Equal") ? ONNX_BOOL : kept_type(b.x[0]);
    if ((rc = make(im, type, b.rank, b.dim, &t)))
        return rc;
    for (int64_t i = 0; i < t->count; i++, next_together(&b, coord, at)) {
        int64_t v = 0;
        if (ints && !is_op(im, "Pow")) {
            if (!int_binary(im, onnx_int(b.x[0], at[0]), onnx_int(b.x[1], at[1]), &v))
                return refuse(im, -EINVAL, "integers overflow or are divided by zero");
            put_int(t, i, v);
        } else {
            const double d =
                double_binary(im, onnx_double(b.x[0], at[0]), onnx_double(b.x[1], at[1]));
            if (!holds_ints(t))
                put_double(t, i, d);
            else if (d >= -0x1p53 && d <= 0x1p53)
                put_int(t, i, (int64_t)d);
            else
                return refuse(im, -EINVAL, "an integer overflows");
        }
    }
    return import_define_constant(im, 0, t);
}

int fold_where(struct import *im)
{
    struct together b;
    struct onnx_tensor *t;
    int64_t coord[ONNX_MAX_RANK] = { 0 }, at[FOLD_OPERANDS] = { 0 };
    int rc = bring_together(im, 3, &b);
    if (rc)
        return rc;
    if (b.x[1]->type != b.x[2]->type)
        return refuse(im, -EINVAL, "constants of different kinds");
    if ((rc = make(im, b.x[1]->type, b.rank, b.dim, &t)))
        return rc;
    for (int64_t i = 0; i < t->count; i++, next_together(&b, coord, at)) {
        const int k = onnx_int(b.x[0], at[0]) ? 1 : 2;
        put_element(t, i, b.x[k], at[k]);
    }
    return import_define_constant(im, 0, t);
}

int fold_constant_of_shape(struct import *im)
{
    int64_t dim[ONNX_MAX_RANK];
    int32_t rank;
    struct onnx_tensor *t;
    const struct onnx_attr *a = onnx_attr(im->node, "value", ONNX_ATTR_TENSOR);
    int rc = need(im, 1);
    if (rc == 0)
        rc = import_ints(im, NULL, 0, dim, ONNX_MAX_RANK, &rank);
    if (rc == 0 && a && a->t->count != 1)
        rc = refuse(im, -EINVAL, "its value must be one number");
    if (rc == 0)
        rc = make(im, a ? a->t->type : ONNX_FLOAT, rank, dim, &t);
    if (rc)
        return rc;
    for (int64_t i = 0; i < t->count && a; i++)
        put_element(t, i, a->t, 0);
    return import_define_constant(im, 0, t);
}

/* start + i * delta; wraps where int64_t ends. */
static int64_t wrapping(int64_t start, int64_t i, int64_t delta)
{
    return (int64_t)((uint64_t)start + (uint64_t)i * (uint64_t)delta);
}

int fold_range(struct import *im)
{
    struct onnx_tensor *t;
    int rc = need(im, 3);
    if (rc)
        return rc;
    for (int32_t i = 0; i < 3; i++)
        if (operand(im, i)->count != 1)
            return refuse(im, -EINVAL, "input %d must be one number", i);
    const struct onnx_tensor *first = operand(im, 0);
    const double start = onnx_double(first, 0), limit = onnx_double(operand(im, 1), 0);
    const double delta = onnx_double(operand(im, 2), 0);
    const double steps = ceil((limit - start) / delta);
    if (!(fabs(steps) <= (double)BOX_MAX_EXTENT))
        return refuse(im, -EINVAL, "from %g to %g by %g", start, limit, delta);
    const int64_t n = steps > 0 ? (int64_t)steps : 0;
    if ((rc = make(im, kept_type(first), 1, &n, &t)))
        return rc;
    for (int64_t i = 0; i < n; i++) {
        if (holds_ints(t))
            put_int(t, i, wrapping(onnx_int(first, 0), i, onnx_int(operand(im, 2), 0)));
        else
            put_double(t, i, start + (double)i * delta);
    }
    return import_define_constant(im, 0, t);
}

/* Number `i` of a parameter that is one number, or one per place on `axis`; 0 without it. */
static double parameter(const struct onnx_tensor *p, int64_t i)
{
    return !p ? 0 : onnx_double(p, p->count == 1 ? 0 : i);
}

/* (x - zero) * scale: weights, which are too large to run through a graph. */
int fold_dequantize_linear(struct import *im)
{
    int32_t axis = 0;
    struct onnx_tensor *t;
    int rc = need(im, 2);
    if (rc)
        return rc;
    const struct onnx_tensor *x = operand(im, 0), *scale = operand(im, 1), *zero = operand(im, 2);
    if (scale->count != 1)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 1), x->rank, &axis);
    if (rc)
        return rc;
    if (scale->count != 1 && (scale->rank != 1 || scale->count != x->dim[axis]))
        return refuse(im, -ENOTSUP,
                      "a scale that is neither one number nor one per place on axis %d", axis);
    if (zero && zero->count != scale->count)
        return refuse(im, -EINVAL, "%lld scales and %lld zero points", (long long)scale->count,
                      (long long)zero->count);
    if ((rc = make(im, ONNX_FLOAT, x->rank, x->dim, &t)))
        return rc;
    int64_t inner = 1;
    for (int32_t i = axis + 1; i < x->rank; i++)
        inner *= x->dim[i];
    for (int64_t i = 0; i < t->count; i++) {
        const int64_t place = x->rank ? i / inner % x->dim[axis] : 0;
        put_double(t, i, (onnx_double(x, i) - parameter(zero, place)) * parameter(scale, place));
    }
    return import_define_constant(im, 0, t);
}
