/* What the outputs of an operator inherit from its inputs: that they are integers or bools, and
 * that NonMaxSuppression decides how many rows there are. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

bool import_is_integer(const struct value *v)
{
    if (v->constant)
        return !onnx_type_is_float(v->constant->type) && v->constant->type != ONNX_BOOL;
    return v->integer;
}

/* Is output `i` a list of places or counts, whatever the inputs are? */
static bool yields_integers(const struct onnx_node *n, int32_t i)
{
    static const struct {
        const char *op_type;
        int32_t first; /* output */
    } places[] = {
        { "ArgMax", 0 }, { "ArgMin", 0 }, { "MaxPool", 1 }, { "NonMaxSuppression", 0 },
        { "TopK", 1 },
    };
    for (size_t k = 0; k < sizeof places / sizeof places[0]; k++)
        if (strcmp(places[k].op_type, n->op_type) == 0)
            return i >= places[k].first;
    return false;
}

static bool yields_truths(const struct onnx_node *n)
{
    static const char *const tests[] = { "And",   "Equal", "Greater", "GreaterOrEqual",
                                         "IsInf", "IsNaN", "Less",    "LessOrEqual",
                                         "Not",   "Or",    "Xor" };
    for (size_t k = 0; k < sizeof tests / sizeof tests[0]; k++)
        if (strcmp(tests[k], n->op_type) == 0)
            return true;
    return false;
}

/* ONNX gives most operators' outputs the type of their inputs. */
static void inherit_type(const struct import *im, struct value *out)
{
    const char *op_type = im->node->op_type;
    const bool second = strcmp(op_type, "Where") == 0 || strcmp(op_type, "CastLike") == 0;
    const struct value *v = import_input(im, second);
    if (strcmp(op_type, "Cast") == 0) {
        const enum onnx_type to = (enum onnx_type)onnx_attr_int(im->node, "to", ONNX_FLOAT);
        out->integer = !onnx_type_is_float(to) && to != ONNX_BOOL;
        out->truth = to == ONNX_BOOL;
    } else if (v) {
        out->integer = import_is_integer(v);
        out->truth = v->constant ? v->constant->type == ONNX_BOOL : v->truth;
    }
}

static void find_type(const struct import *im, int32_t i, struct value *out)
{
    inherit_type(im, out);
    out->integer = out->integer || yields_integers(im->node, i);
    out->truth = out->truth || yields_truths(im->node);
    if (out->integer || out->truth)
        im->graph->tensor[out->tensor].whole = true;
}

/* ---- boxes that were found */

/* Operators that treat every row of ONNX axis 0 on its own and make NaN of NaN.  `keeps` says
 * whether this node does (NULL: always, if the rows of its result are as many). */
struct row_wise {
    const char *op_type;
    bool (*keeps)(struct import *im);
};

static bool is_found(const struct import *im, int32_t i)
{
    const struct value *v = import_input(im, i);
    return v && v->found;
}

static int32_t rank_of(const struct import *im, int32_t i)
{
    return import_input(im, i)->shape.rank;
}

/* Attribute `axis`, counted from the front. */
static int64_t axis_of(const struct import *im, int64_t otherwise, int32_t rank)
{
    const int64_t axis = onnx_attr_int(im->node, "axis", otherwise);
    return axis < 0 ? axis + rank : axis;
}

/* Broadcasting puts extents before the axes of the operand that has fewer. */
static bool arithmetic_keeps(struct import *im)
{
    return import_input(im, 1) && (!is_found(im, 0) || rank_of(im, 0) >= rank_of(im, 1)) &&
           (!is_found(im, 1) || rank_of(im, 1) >= rank_of(im, 0));
}

static bool cast_keeps(struct import *im)
{
    return onnx_attr_int(im->node, "to", ONNX_NONE) != ONNX_BOOL; /* NaN is true */
}

static bool concat_keeps(struct import *im)
{
    for (int32_t i = 0; i < im->node->ninputs; i++)
        if (!is_found(im, i))
            return false;
    return axis_of(im, 1, rank_of(im, 0)) != 0;
}

static bool gather_keeps(struct import *im)
{
    if (is_found(im, 0) && is_found(im, 1))
        return false;
    return (axis_of(im, 0, rank_of(im, 0)) == 0) == is_found(im, 1);
}

static bool gather_nd_keeps(struct import *im)
{
    return !is_found(im, 0) && onnx_attr_int(im->node, "batch_dims", 0) == 0;
}

static bool slice_keeps(struct import *im)
{
    int64_t dim[SHAPE_MAX_RANK], start[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK], out[SHAPE_MAX_RANK];
    const struct shape *s = &import_input(im, 0)->shape;
    for (int32_t i = 0; i < s->rank; i++)
        dim[i] = s->dim[i];
    return slice_dims(im, s->rank, dim, start, step, out) == 0 && start[0] == 0 && step[0] == 1;
}

static bool split_keeps(struct import *im) { return axis_of(im, 0, rank_of(im, 0)) != 0; }

static bool transpose_keeps(struct import *im)
{
    int8_t perm[SHAPE_MAX_RANK];
    return transpose_perm(im, rank_of(im, 0), perm) == 0 && perm[0] == 0;
}

static const struct row_wise row_wise[] = {
    { "Add", arithmetic_keeps },      { "Cast", cast_keeps }, { "Concat", concat_keeps },
    { "Div", arithmetic_keeps },      { "Flatten", NULL },    { "Gather", gather_keeps },
    { "GatherND", gather_nd_keeps },  { "Identity", NULL },   { "Mod", arithmetic_keeps },
    { "Mul", arithmetic_keeps },      { "Reshape", NULL },    { "Slice", slice_keeps },
    { "Split", split_keeps },         { "Squeeze", NULL },    { "Sub", arithmetic_keeps },
    { "Transpose", transpose_keeps }, { "Unsqueeze", NULL },
};

static int refuse_rows(struct import *im, int32_t found)
{
    return refuse(
        im, -ENOTSUP,
        "how many boxes NonMaxSuppression \"%s\" finds differs from frame to frame: only "
        "operators that treat each on its own can follow (Add, Cast, Concat, Div, Gather, "
        "GatherND, Mod, Mul, Reshape, Slice, Split, Squeeze, Sub, Transpose, Unsqueeze)",
        im->graph->op[found - 1].name);
}

/* The NonMaxSuppression that counts rows of an input, 0: none does. */
static int32_t found_by(const struct import *im)
{
    for (int32_t i = 0; i < im->node->ninputs; i++)
        if (is_found(im, i))
            return import_input(im, i)->found;
    return 0;
}

int import_check_found(struct import *im)
{
    const int32_t found = found_by(im);
    if (!found)
        return 0;
    if (!import_input(im, 0))
        return refuse(im, -EINVAL, "input 0 is missing");
    for (int32_t i = 0; i < im->node->ninputs; i++)
        if (is_found(im, i) && import_input(im, i)->found != found)
            return refuse(im, -ENOTSUP, "it joins the boxes of two NonMaxSuppression");
    for (size_t i = 0; i < sizeof row_wise / sizeof row_wise[0]; i++)
        if (strcmp(row_wise[i].op_type, im->node->op_type) == 0)
            return !row_wise[i].keeps || row_wise[i].keeps(im) ? 0 : refuse_rows(im, found);
    return refuse_rows(im, found);
}

static int follow(struct import *im, int32_t i, struct value *out)
{
    const int32_t found = found_by(im);
    find_type(im, i, out);
    if (!found)
        return 0;
    const struct op *nms = &im->graph->op[found - 1];
    if (out->shape.rank < 1 || out->shape.dim[0] != im->graph->tensor[nms->output].dim[COL])
        return refuse_rows(im, found);
    out->found = found;
    return 0;
}

int import_follow(struct import *im)
{
    int rc = 0;
    for (int32_t i = 0; i < im->node->noutputs && rc == 0; i++) {
        struct value *out = import_output(im, i);
        if (out && !out->constant)
            rc = follow(im, i, out);
    }
    return rc;
}
