/* Reductions over any axes: sums, means, extremes, norms. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

/* Reduces rows and columns of `x` to one pixel: every node its share, then all shares in node
 * order, so that the result does not depend on timing. */
static int emit_shares(struct import *im, enum reduce_kind kind, struct value *x)
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
    if (rc)
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

/* The axes of `set` that are rows and columns, if all of these are to be reduced and there are
 * rows for several nodes to share. */
static uint32_t shared_axes(const struct shape *s, uint32_t set)
{
    uint32_t space = 0;
    for (int a = ROW; a <= COL; a++)
        if (shape_len(s, (enum axis)a) > 1)
            space |= 1u << s->axis[a];
    return shape_len(s, ROW) > 1 && (space & ~set) == 0 ? space : 0;
}

/* The axes of `set` that are rows, columns or channels. */
static uint32_t unbatched(const struct shape *s, uint32_t set)
{
    for (int32_t i = 0; i < s->rank; i++)
        if (shape_role(s, i) == AXES)
            set &= ~(1u << i);
    return set;
}

/* Reduces the axes in `now`, none of which belongs to the batch; each is read whole. */
static int emit_whole(struct import *im, enum reduce_kind kind, bool last, struct value *x,
                      uint32_t now)
{
    struct op op = { .type = OP_REDUCE };
    struct shape to = x->shape;
    op.u.reduce.kind = kind;
    op.u.reduce.last = last;
    op.u.reduce.count = 1;
    for (int32_t i = 0; i < to.rank; i++) {
        if (!(now >> i & 1))
            continue;
        op.u.reduce.over[shape_role(&to, i)] = true;
        op.u.reduce.count *= to.dim[i];
        to.dim[i] = 1;
    }
    const int32_t input = x->tensor;
    return import_emit(im, &op, &input, 1, &to, x);
}

/* The first three axes of `set`. */
static uint32_t first_axes(uint32_t set)
{
    uint32_t rest = set;
    for (int n = 0; n < AXES; n++)
        rest &= rest - 1;
    return set & ~rest;
}

static int reduce_whole(struct import *im, enum reduce_kind kind, bool last, struct value *x,
                        uint32_t set)
{
    int rc = 0;
    while (set && rc == 0) {
        uint32_t now = unbatched(&x->shape, set);
        if (!now) {
            now = first_axes(set);
            rc = import_lay_unbatched(im, x, now);
        }
        if (rc == 0)
            rc = emit_whole(im, kind, last, x, now);
        set &= ~now;
    }
    return rc;
}

int import_reduced(struct import *im, enum reduce_kind kind, struct value *x, uint32_t set)
{
    for (int32_t i = 0; i < x->shape.rank; i++)
        if (x->shape.dim[i] == 1)
            set &= ~(1u << i);
    const bool shares = kind == REDUCE_SUM || kind == REDUCE_MEAN || kind == REDUCE_MAX;
    const uint32_t space = shares ? shared_axes(&x->shape, set) : 0;
    const int rc = space ? emit_shares(im, kind, x) : 0;
    return rc ? rc : reduce_whole(im, kind, false, x, set & ~space);
}

/* ---- ReduceX */

/* The axes to reduce as a bit set; all of them if none is named. */
static int reduce_axes(struct import *im, const struct shape *s, uint32_t *set)
{
    int64_t list[SHAPE_MAX_RANK];
    int32_t n, axis;
    int rc = import_ints(im, "axes", 1, list, SHAPE_MAX_RANK, &n);
    if (rc)
        return rc;
    *set = 0;
    for (int32_t i = 0; i < n; i++) {
        if ((rc = import_axis(im, list[i], s->rank, &axis)))
            return rc;
        *set |= 1u << axis;
    }
    if (n <= 0 && !onnx_attr_int(im->node, "noop_with_empty_axes", 0))
        *set = (1u << s->rank) - 1;
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

/* log(sum(e^x)) = max + log(sum(e^(x - max))), which does not overflow. */
static int log_sum_exp(struct import *im, struct value *x, uint32_t set)
{
    struct value max = *x;
    int rc = import_reduced(im, REDUCE_MAX, &max, set);
    if (rc == 0)
        rc = import_binary(im, BINARY_SUB, x, &max, x);
    if (rc == 0)
        rc = import_act(im, (struct act){ .kind = ACT_EXP }, x);
    if (rc == 0)
        rc = import_reduced(im, REDUCE_SUM, x, set);
    if (rc == 0)
        rc = import_act(im, (struct act){ .kind = ACT_LOG }, x);
    if (rc == 0)
        rc = import_binary(im, BINARY_ADD, x, &max, x);
    return rc;
}

/* What is done to each value before and to the result after the reduction. */
struct recipe {
    const char *op_type;
    enum { PLAIN, ABSOLUTE, SQUARED, EXPONENTIAL } before;
    enum reduce_kind kind;
    enum act_kind after;
};

static const struct recipe recipes[] = {
    { "ReduceL1", ABSOLUTE, REDUCE_SUM, ACT_NONE },
    { "ReduceL2", SQUARED, REDUCE_SUM, ACT_SQRT },
    { "ReduceLogSum", PLAIN, REDUCE_SUM, ACT_LOG },
    { "ReduceLogSumExp", EXPONENTIAL, REDUCE_SUM, ACT_NONE },
    { "ReduceMax", PLAIN, REDUCE_MAX, ACT_NONE },
    { "ReduceMean", PLAIN, REDUCE_MEAN, ACT_NONE },
    { "ReduceMin", PLAIN, REDUCE_MIN, ACT_NONE },
    { "ReduceProd", PLAIN, REDUCE_PROD, ACT_NONE },
    { "ReduceSum", PLAIN, REDUCE_SUM, ACT_NONE },
    { "ReduceSumSquare", SQUARED, REDUCE_SUM, ACT_NONE },
};

static const struct recipe *recipe_named(const char *op_type)
{
    size_t i = 0;
    while (i < sizeof recipes / sizeof recipes[0] - 1 && strcmp(recipes[i].op_type, op_type) != 0)
        i++;
    return &recipes[i];
}

static int follow(struct import *im, const struct recipe *r, struct value *x, uint32_t set)
{
    int rc = 0;
    if (r->before == EXPONENTIAL)
        return log_sum_exp(im, x, set);
    if (r->before == ABSOLUTE)
        rc = import_act(im, (struct act){ .kind = ACT_ABS }, x);
    if (r->before == SQUARED)
        rc = import_binary(im, BINARY_MUL, x, x, x);
    if (rc == 0)
        rc = import_reduced(im, r->kind, x, set);
    if (rc == 0 && r->after != ACT_NONE)
        rc = import_act(im, (struct act){ .kind = r->after }, x);
    return rc;
}

int import_reduce(struct import *im)
{
    struct value x;
    uint32_t set = 0;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = reduce_axes(im, &x.shape, &set);
    if (rc)
        return rc;
    if (set == 0)
        return import_define(im, 0, &x);
    rc = follow(im, recipe_named(im->node->op_type), &x, set);
    if (rc == 0 && !onnx_attr_int(im->node, "keepdims", 1))
        rc = drop_axes(im, &x, set);
    return rc ? rc : import_define(im, 0, &x);
}

/* ---- ArgMax, ArgMin: indices as floats, which holds them exactly */

static int import_arg(struct import *im, enum reduce_kind kind)
{
    struct value x;
    int32_t axis;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x.shape.rank, &axis);
    if (rc)
        return rc;
    if (x.shape.dim[axis] > IMPORT_MAX_EXACT)
        return refuse(im, -ENOTSUP, "an axis of %d values", x.shape.dim[axis]);
    const bool last = onnx_attr_int(im->node, "select_last_index", 0) != 0;
    rc = reduce_whole(im, kind, last, &x, 1u << axis);
    if (rc == 0 && !onnx_attr_int(im->node, "keepdims", 1))
        rc = drop_axes(im, &x, 1u << axis);
    return rc ? rc : import_define(im, 0, &x);
}

int import_arg_max(struct import *im) { return import_arg(im, REDUCE_ARG_MAX); }
int import_arg_min(struct import *im) { return import_arg(im, REDUCE_ARG_MIN); }
