#include "libsplit/import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPSET_OLDEST = 1, OPSET_NEWEST = 21, MAX_INPUTS = 256 };

/* What constants computed at load may take: enough for every weight to be read once from bytes as
 * floats, and something for grids and tables that exporters compute. */
enum { SPARE_BYTES = 16 << 20, SPARE_PER_WEIGHT = 4 };

/* One ONNX operator.  `attrs` lists every attribute that is understood, with its type (i, f, s,
 * t; I and F for lists): any other is refused, because it could change the answer.  `fold`
 * computes it when all inputs are constants (NULL: by running what `run` emits), `run` emits
 * operators (NULL: constants only). */
struct importer {
    const char *op_type, *attrs;
    import_fn run, fold;
};

static const struct importer importers[] = {
    { "Abs", "", import_function, NULL },
    { "Acos", "", import_function, NULL },
    { "Acosh", "", import_function, NULL },
    { "Add", "axis:i broadcast:i", import_arithmetic, fold_binary },
    { "And", "axis:i broadcast:i", import_arithmetic, NULL },
    { "ArgMax", "axis:i keepdims:i select_last_index:i", import_arg_max, NULL },
    { "ArgMin", "axis:i keepdims:i select_last_index:i", import_arg_min, NULL },
    { "Asin", "", import_function, NULL },
    { "Asinh", "", import_function, NULL },
    { "Atan", "", import_function, NULL },
    { "Atanh", "", import_function, NULL },
    { "AveragePool",
      "auto_pad:s ceil_mode:i count_include_pad:i dilations:I kernel_shape:I pads:I strides:I",
      import_average_pool, NULL },
    { "BatchNormalization",
      "consumed_inputs:I epsilon:f is_test:i momentum:f spatial:i training_mode:i",
      import_batch_normalization, NULL },
    { "Cast", "to:i saturate:i", import_cast, fold_cast },
    { "CastLike", "saturate:i", import_cast_like, NULL },
    { "Ceil", "", import_function, NULL },
    { "Celu", "alpha:f", import_function, NULL },
    { "Clip", "min:f max:f", import_clip, NULL },
    { "Concat", "axis:i", import_concat, fold_concat },
    { "Constant", "value:t value_float:f value_floats:F value_int:i value_ints:I", NULL,
      fold_constant },
    { "ConstantOfShape", "value:t", NULL, fold_constant_of_shape },
    { "Conv", "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I", import_conv, NULL },
    { "ConvTranspose",
      "auto_pad:s dilations:I group:i kernel_shape:I output_padding:I output_shape:I pads:I "
      "strides:I",
      import_conv_transpose, NULL },
    { "Cos", "", import_function, NULL },
    { "Cosh", "", import_function, NULL },
    { "DepthToSpace", "blocksize:i mode:s", import_depth_to_space, NULL },
    { "DequantizeLinear", "axis:i", import_dequantize_linear, fold_dequantize_linear },
    { "Div", "axis:i broadcast:i", import_arithmetic, fold_binary },
    { "Dropout", "is_test:i ratio:f seed:i", import_dropout, NULL },
    { "Elu", "alpha:f", import_function, NULL },
    { "Equal", "axis:i broadcast:i", import_arithmetic, fold_binary },
    { "Erf", "", import_function, NULL },
    { "Exp", "", import_function, NULL },
    { "Expand", "", import_expand, fold_expand },
    { "Flatten", "axis:i", import_flatten, fold_reshape },
    { "Floor", "", import_function, NULL },
    { "Gather", "axis:i", import_gather, fold_gather },
    { "GatherElements", "axis:i", import_gather_elements, NULL },
    { "GatherND", "batch_dims:i", import_gather_nd, NULL },
    { "Gelu", "approximate:s", import_function, NULL },
    { "Gemm", "alpha:f beta:f broadcast:i transA:i transB:i", import_gemm, NULL },
    { "GlobalAveragePool", "", import_global_average_pool, NULL },
    { "GlobalMaxPool", "", import_global_max_pool, NULL },
    { "Greater", "axis:i broadcast:i", import_arithmetic, NULL },
    { "GreaterOrEqual", "axis:i broadcast:i", import_arithmetic, NULL },
    { "GridSample", "align_corners:i mode:s padding_mode:s", import_grid_sample, NULL },
    { "HardSigmoid", "alpha:f beta:f", import_function, NULL },
    { "HardSwish", "", import_function, NULL },
    { "Identity", "", import_identity, fold_identity },
    { "InstanceNormalization", "consumed_inputs:I epsilon:f", import_instance_normalization, NULL },
    { "LayerNormalization", "axis:i epsilon:f stash_type:i", import_layer_normalization, NULL },
    { "LeakyRelu", "alpha:f", import_function, NULL },
    { "Less", "axis:i broadcast:i", import_arithmetic, NULL },
    { "LessOrEqual", "axis:i broadcast:i", import_arithmetic, NULL },
    { "Log", "", import_function, NULL },
    { "LogSoftmax", "axis:i", import_log_softmax, NULL },
    { "LRN", "alpha:f beta:f bias:f size:i", import_lrn, NULL },
    { "MatMul", "", import_matmul, NULL },
    { "Max", "", import_max, fold_binary },
    { "MaxPool",
      "auto_pad:s ceil_mode:i dilations:I kernel_shape:I pads:I storage_order:i strides:I",
      import_max_pool, NULL },
    { "MaxUnpool", "kernel_shape:I pads:I strides:I", import_max_unpool, NULL },
    { "Mean", "", import_mean, NULL },
    { "MeanVarianceNormalization", "axes:I", import_mean_variance_normalization, NULL },
    { "Min", "", import_min, fold_binary },
    { "Mish", "", import_function, NULL },
    { "Mod", "fmod:i", import_mod, NULL },
    { "Mul", "axis:i broadcast:i", import_arithmetic, fold_binary },
    { "Neg", "", import_function, NULL },
    { "NonMaxSuppression", "center_point_box:i", import_non_max_suppression, NULL },
    { "Not", "", import_function, NULL },
    { "Or", "axis:i broadcast:i", import_arithmetic, NULL },
    { "Pad", "mode:s paddings:I pads:I value:f", import_pad, NULL },
    { "Pow", "axis:i broadcast:i", import_arithmetic, fold_binary },
    { "PRelu", "", import_prelu, NULL },
    { "QuantizeLinear", "axis:i saturate:i", import_quantize_linear, NULL },
    { "Range", "", NULL, fold_range },
    { "Reciprocal", "", import_function, NULL },
    { "ReduceL1", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceL2", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceLogSum", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceLogSumExp", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceMax", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceMean", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceMin", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceProd", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceSum", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "ReduceSumSquare", "axes:I keepdims:i noop_with_empty_axes:i", import_reduce, NULL },
    { "Relu", "", import_function, NULL },
    { "Reshape", "allowzero:i shape:I", import_reshape, fold_reshape },
    { "Resize",
      "antialias:i axes:I coordinate_transformation_mode:s cubic_coeff_a:f exclude_outside:i "
      "extrapolation_value:f keep_aspect_ratio_policy:s mode:s nearest_mode:s",
      import_resize, NULL },
    { "RoiAlign",
      "coordinate_transformation_mode:s mode:s output_height:i output_width:i sampling_ratio:i "
      "spatial_scale:f",
      import_roi_align, NULL },
    { "Round", "", import_function, NULL },
    { "Scatter", "axis:i", import_scatter_elements, NULL },
    { "ScatterElements", "axis:i reduction:s", import_scatter_elements, NULL },
    { "ScatterND", "reduction:s", import_scatter_nd, NULL },
    { "Selu", "alpha:f gamma:f", import_function, NULL },
    { "Shape", "start:i end:i", fold_shape, fold_shape },
    { "Shrink", "bias:f lambd:f", import_function, NULL },
    { "Sigmoid", "", import_function, NULL },
    { "Sign", "", import_function, NULL },
    { "Sin", "", import_function, NULL },
    { "Sinh", "", import_function, NULL },
    { "Size", "", fold_size, fold_size },
    { "Slice", "axes:I ends:I starts:I", import_slice, fold_slice },
    { "Softmax", "axis:i", import_softmax, NULL },
    { "Softplus", "", import_function, NULL },
    { "Softsign", "", import_function, NULL },
    { "SpaceToDepth", "blocksize:i", import_space_to_depth, NULL },
    { "Split", "axis:i num_outputs:i split:I", import_split, NULL },
    { "Sqrt", "", import_function, NULL },
    { "Squeeze", "axes:I", import_squeeze, fold_reshape },
    { "Sub", "axis:i broadcast:i", import_arithmetic, fold_binary },
    { "Sum", "", import_sum, NULL },
    { "Tan", "", import_function, NULL },
    { "Tanh", "", import_function, NULL },
    { "ThresholdedRelu", "alpha:f", import_function, NULL },
    { "Tile", "", import_tile, NULL },
    { "TopK", "axis:i k:i largest:i sorted:i", import_top_k, NULL },
    { "Transpose", "perm:I", import_transpose, fold_transpose },
    { "Unsqueeze", "axes:I", import_unsqueeze, fold_reshape },
    { "Upsample", "mode:s scales:F", import_upsample, NULL },
    { "Where", "", import_where, fold_where },
    { "Xor", "axis:i broadcast:i", import_arithmetic, NULL },
};

bool refuse_write(struct import *im, const char *fmt, ...)
{
    char text[384];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return diag_write(im->why, "%s: node \"%s\" (%s): %s", im->model->file, im->node->name,
                      im->node->op_type, text);
}

int import_array(struct import *im, int64_t n, size_t size, void *array)
{
    int64_t bytes;
    if (__builtin_mul_overflow(n, (int64_t)size, &bytes) || bytes > im->spare_bytes)
        return refuse(im, -EINVAL, "constants made at load take too much memory");
    im->spare_bytes -= bytes;
    void *p = store_array(&im->store, (size_t)n, size);
    if (!p)
        return import_no_memory(im);
    memcpy(array, &p, sizeof p);
    return 0;
}

/* ---- names */

static uint32_t hash(const char *name)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

/* The slot of `name`, or the free one where it belongs. */
static int32_t *find_slot(const struct import *im, const char *name)
{
    uint32_t i = hash(name) & (im->nslots - 1);
    while (im->slot[i] >= 0 && strcmp(im->value[im->slot[i]].name, name) != 0)
        i = (i + 1) & (im->nslots - 1);
    return &im->slot[i];
}

static struct value *find(const struct import *im, const char *name)
{
    const int32_t *slot = find_slot(im, name);
    return *slot < 0 ? NULL : &im->value[*slot];
}

struct value *import_output(const struct import *im, int32_t i)
{
    return i < im->node->noutputs && im->node->output[i][0] ? find(im, im->node->output[i]) : NULL;
}

/* Room for every name that the model can define. */
static int make_table(struct import *im)
{
    const struct onnx_model *m = im->model;
    size_t names = (size_t)m->ninputs + (size_t)m->ntensors;
    for (int32_t i = 0; i < m->nnodes; i++)
        names += (size_t)m->node[i].noutputs;
    im->nslots = 16;
    while (im->nslots < 2 * names)
        im->nslots *= 2;
    im->value = store_array(&im->store, names, sizeof *im->value);
    im->slot = store_array(&im->store, im->nslots, sizeof *im->slot);
    if (!im->value || !im->slot)
        return import_no_memory(im);
    memset(im->slot, -1, im->nslots * sizeof *im->slot);
    return 0;
}

static int define_name(struct import *im, const char *name, const struct value *v)
{
    int32_t *slot = find_slot(im, name);
    if (*slot >= 0)
        return diag(im->why, -EINVAL, "%s: two values are called \"%s\"", im->model->file, name);
    *slot = im->nvalues;
    im->value[im->nvalues] = *v;
    im->value[im->nvalues++].name = name;
    return 0;
}

static struct shape constant_shape(const struct onnx_tensor *t)
{
    int32_t dim[ONNX_MAX_RANK];
    for (int32_t i = 0; i < t->rank; i++)
        dim[i] = (int32_t)t->dim[i];
    return shape_make(t->rank, dim);
}

int import_define(struct import *im, int32_t i, const struct value *v)
{
    if (i >= im->node->noutputs || !im->node->output[i][0])
        return 0;
    return define_name(im, im->node->output[i], v);
}

int import_define_constant(struct import *im, int32_t i, const struct onnx_tensor *t)
{
    const struct value v = { .constant = t, .tensor = -1, .shape = constant_shape(t) };
    return import_define(im, i, &v);
}

/* ---- inputs of a node */

const struct value *import_input(const struct import *im, int32_t i)
{
    if (i < 0 || i >= im->node->ninputs || !im->node->input[i][0])
        return NULL;
    return find(im, im->node->input[i]);
}

int import_tensor(struct import *im, int32_t i, struct value *v)
{
    const struct value *in = import_input(im, i);
    if (!in)
        return refuse(im, -EINVAL, "input %d is missing", i);
    *v = *in;
    return import_materialize(im, v);
}

int import_constant(struct import *im, int32_t i, bool optional, const struct onnx_tensor **t)
{
    const struct value *in = import_input(im, i);
    *t = NULL;
    if (!in)
        return optional ? 0 : refuse(im, -EINVAL, "input %d is missing", i);
    if (!in->constant)
        return refuse(im, -ENOTSUP, "input %d, \"%s\", is computed; only a constant is supported",
                      i, in->name);
    *t = in->constant;
    return 0;
}

int import_ints(struct import *im, const char *attr, int32_t i, int64_t *list, int32_t cap,
                int32_t *n)
{
    const struct onnx_attr *a = attr ? onnx_attr(im->node, attr, ONNX_ATTR_INTS) : NULL;
    const struct onnx_tensor *t = NULL;
    *n = -1;
    if (!a && i >= 0) {
        const int rc = import_constant(im, i, true, &t);
        if (rc)
            return rc;
    }
    if (!a && !t)
        return 0;
    if (t && (t->rank > 1 || onnx_type_is_float(t->type)))
        return refuse(im, -EINVAL, "input %d must be a list of integers", i);
    const int64_t count = a ? a->n : t->count;
    if (count > cap)
        return refuse(im, -EINVAL, "%s has %lld numbers, at most %d make sense",
                      attr ? attr : "a list", (long long)count, cap);
    for (int32_t k = 0; k < (int32_t)count; k++)
        list[k] = a ? a->ints[k] : onnx_int(t, k);
    *n = (int32_t)count;
    return 0;
}

int import_scalar(struct import *im, int32_t i, float otherwise, float *f)
{
    const struct onnx_tensor *t;
    const int rc = import_constant(im, i, true, &t);
    if (rc)
        return rc;
    if (t && t->count != 1)
        return refuse(im, -EINVAL, "input %d must be one number, it has %lld", i,
                      (long long)t->count);
    *f = t ? onnx_float(t, 0) : otherwise;
    return 0;
}

int import_floats(struct import *im, const struct onnx_tensor *t, int64_t count, float **f)
{
    if (count >= 0 && t->count != count)
        return refuse(im, -EINVAL, "constant \"%s\" has %lld values, %lld are needed", t->name,
                      (long long)t->count, (long long)count);
    const int rc = import_array(im, t->count, sizeof **f, f);
    if (rc)
        return rc;
    for (int64_t i = 0; i < t->count; i++)
        (*f)[i] = onnx_float(t, i);
    return 0;
}

int import_choice(struct import *im, const char *attr, const char *otherwise,
                  const char *const *name, int n, int *chosen)
{
    const char *said = onnx_attr_string(im->node, attr, otherwise);
    for (int i = 0; i < n; i++)
        if (strcmp(said, name[i]) == 0) {
            *chosen = i;
            return 0;
        }
    return refuse(im, -ENOTSUP, "%s \"%s\"", attr, said);
}

int import_axis(struct import *im, int64_t axis, int32_t rank, int32_t *a)
{
    if (axis < -rank || axis >= rank)
        return refuse(im, -EINVAL, "axis %lld of a tensor with %d axes", (long long)axis, rank);
    *a = (int32_t)(axis < 0 ? axis + rank : axis);
    return 0;
}

int import_only_outputs(struct import *im, int32_t n)
{
    for (int32_t i = n; i < im->node->noutputs; i++)
        if (im->node->output[i][0])
            return refuse(im, -ENOTSUP, "output %d (\"%s\") is not supported", i,
                          im->node->output[i]);
    return 0;
}

/* ---- operators and tensors */

/* Doubles an array that lives in the store when it is full. */
static int grow(struct import *im, void *array, int32_t n, int32_t *cap, size_t size)
{
    void *old;
    if (n < *cap)
        return 0;
    if (*cap >= GEO_MAX_TENSORS)
        return refuse(im, -EINVAL, "the network has more than %d operators", GEO_MAX_TENSORS);
    const int32_t more = *cap ? 2 * *cap : 64;
    void *p = store_array(&im->store, (size_t)more, size);
    if (!p)
        return import_no_memory(im);
    memcpy(&old, array, sizeof old);
    if (n)
        memcpy(p, old, (size_t)n * size);
    memcpy(array, &p, sizeof p);
    *cap = more;
    return 0;
}

static int check_shape(struct import *im, const char *name, const struct shape *s)
{
    char text[SHAPE_TEXT_BYTES];
    int64_t n = 1;
    for (int32_t i = 0; i < s->rank; i++) {
        if (s->dim[i] < 1)
            return diag(im->why, -EINVAL, "%s: \"%s\" has shape %s, which is empty",
                        im->model->file, name, shape_text(s, text));
        n *= s->dim[i];
        if (s->dim[i] > BOX_MAX_EXTENT || n >= BOX_MAX_VALUES)
            return diag(im->why, -EINVAL,
                        "%s: \"%s\" has shape %s; it must have less than %lld values",
                        im->model->file, name, shape_text(s, text), (long long)BOX_MAX_VALUES);
    }
    return 0;
}

static int add_tensor(struct import *im, const char *name, const struct shape *s, int32_t op,
                      int32_t *index)
{
    struct graph *g = im->graph;
    int rc = check_shape(im, name, s);
    if (rc == 0)
        rc = grow(im, &g->tensor, g->ntensors, &im->tensor_cap, sizeof *g->tensor);
    if (rc)
        return rc;
    struct tensor *t = &g->tensor[g->ntensors];
    *t = (struct tensor){ .batch = shape_batch(s), .op = op };
    t->name = store_text(&im->store, name, strlen(name));
    if (!t->name)
        return import_no_memory(im);
    for (int a = 0; a < AXES; a++)
        t->dim[a] = shape_len(s, (enum axis)a);
    *index = g->ntensors++;
    return 0;
}

/* Tensors are called after what they become: the name of the node's first output. */
static const char *output_name(const struct import *im)
{
    return im->node->noutputs && im->node->output[0][0] ? im->node->output[0] : im->node->name;
}

int import_emit(struct import *im, const struct op *op, const int32_t *input, int32_t ninputs,
                const struct shape *shape, struct value *v)
{
    struct graph *g = im->graph;
    int rc = grow(im, &g->op, g->nops, &im->op_cap, sizeof *g->op);
    if (rc)
        return rc;
    struct op made = *op;
    made.name = store_text(&im->store, im->node->name, strlen(im->node->name));
    made.ninputs = ninputs;
    made.input = store_array(&im->store, (size_t)ninputs, sizeof *input);
    if (!made.name || !made.input)
        return import_no_memory(im);
    for (int32_t i = 0; i < ninputs; i++)
        made.input[i] = input[i];
    rc = add_tensor(im, output_name(im), shape, g->nops, &made.output);
    if (rc)
        return rc;
    g->op[g->nops++] = made;
    *v = (struct value){ .name = "", .tensor = made.output, .shape = *shape };
    return 0;
}

/* The values of a constant as splitd lays out `s`. */
static int constant_values(struct import *im, const struct onnx_tensor *t, const struct shape *s,
                           float **values)
{
    if (!onnx_type_is_float(t->type))
        for (int64_t i = 0; i < t->count; i++) {
            const int64_t v = onnx_int(t, i);
            if (v < -IMPORT_MAX_EXACT || v > IMPORT_MAX_EXACT)
                return refuse(im, -ENOTSUP, "an integer of %lld in a tensor", (long long)v);
        }
    int rc = import_array(im, t->count, sizeof **values, values);
    if (rc)
        return rc;
    float *row_major = malloc((size_t)t->count * sizeof *row_major + 1);
    if (!row_major)
        return import_no_memory(im);
    for (int64_t i = 0; i < t->count; i++)
        row_major[i] = onnx_float(t, i);
    shape_from_onnx(s, *values, row_major);
    free(row_major);
    return 0;
}

int import_materialize(struct import *im, struct value *v)
{
    struct op op = { .type = OP_CONSTANT };
    if (!v->constant)
        return 0;
    const struct shape shape = v->shape;
    int rc = check_shape(im, v->name, &shape);
    if (rc == 0)
        rc = constant_values(im, v->constant, &shape, &op.u.constant.values);
    return rc ? rc : import_emit(im, &op, NULL, 0, &shape, v);
}

int import_simple(struct import *im, const struct op *op, const struct value *in,
                  const struct shape *shape)
{
    struct value v;
    const int rc = import_emit(im, op, &in->tensor, 1, shape, &v);
    return rc ? rc : import_define(im, 0, &v);
}

/* ---- one node */

/* True if `list` ("axis:i mode:s") holds the attribute with its type. */
static bool attr_listed(const char *list, const struct onnx_attr *a)
{
    static const char letter[] = {
        [ONNX_ATTR_FLOAT] = 'f',  [ONNX_ATTR_INT] = 'i',    [ONNX_ATTR_STRING] = 's',
        [ONNX_ATTR_TENSOR] = 't', [ONNX_ATTR_FLOATS] = 'F', [ONNX_ATTR_INTS] = 'I',
        [ONNX_ATTR_OTHER] = '?'
    };
    const size_t len = strlen(a->name);
    for (const char *p = list; *p; p += strcspn(p, " "), p += *p == ' ')
        if (strncmp(p, a->name, len) == 0 && p[len] == ':')
            return p[len + 1] == letter[a->type];
    return false;
}

static int check_attrs(struct import *im, const struct importer *r)
{
    for (int32_t i = 0; i < im->node->nattrs; i++)
        if (!attr_listed(r->attrs, &im->node->attr[i]))
            return refuse(im, -ENOTSUP, "attribute \"%s\" is unknown or of the wrong type",
                          im->node->attr[i].name);
    return 0;
}

/* Every name that the node reads must be known by now: ONNX orders nodes. */
static int check_inputs(struct import *im, bool *constant)
{
    *constant = true;
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        if (!im->node->input[i][0])
            continue;
        const struct value *v = find(im, im->node->input[i]);
        if (!v)
            return refuse(im, -EINVAL, "it reads \"%s\", which nothing before it yields",
                          im->node->input[i]);
        *constant &= v->constant != NULL;
    }
    return 0;
}

static const struct importer *importer_of(const struct onnx_node *n)
{
    if (strcmp(n->domain, "") != 0 && strcmp(n->domain, "ai.onnx") != 0)
        return NULL;
    for (size_t i = 0; i < sizeof importers / sizeof importers[0]; i++)
        if (strcmp(importers[i].op_type, n->op_type) == 0)
            return &importers[i];
    return NULL;
}

bool graph_knows(const struct onnx_node *n) { return importer_of(n) != NULL; }

static int import_node(struct import *im, const struct onnx_node *n)
{
    im->node = n;
    const struct importer *r = importer_of(n);
    if (!r)
        return refuse(im, -ENOTSUP, "operator %s%s%s is not supported", n->domain,
                      n->domain[0] ? "." : "", n->op_type);
    bool constant = false;
    int rc = check_attrs(im, r);
    if (rc == 0)
        rc = check_inputs(im, &constant);
    if (rc)
        return rc;
    if (constant)
        return r->fold ? r->fold(im) : fold_by_running(im, r->run);
    if (!r->run)
        return refuse(im, -ENOTSUP, "operator %s is supported on constants only", n->op_type);
    rc = import_check_found(im);
    if (rc == 0)
        rc = r->run(im);
    return rc ? rc : import_follow(im);
}

/* ---- ends of the network */

static const struct graph_input *given_for(const struct import *im, const char *name,
                                           const struct graph_input *inputs, int32_t ninputs)
{
    for (int32_t i = 0; i < ninputs; i++)
        if (inputs[i].name ? strcmp(inputs[i].name, name) == 0 : im->model->ninputs == 1)
            return &inputs[i];
    return NULL;
}

/* One extent: the model's, or the given one, or 1 for an open batch. */
static int input_extent(struct import *im, const struct onnx_value *in,
                        const struct graph_input *given, int32_t axis, int32_t *dim)
{
    const int64_t said = in->rank < 0 ? -1 : in->dim[axis];
    const char *symbol = in->rank < 0 ? NULL : in->symbol[axis];
    if (given && said > 0 && said != given->dim[axis])
        return diag(im->why, -EINVAL,
                    "%s: input \"%s\": axis %d is %lld in the model, %d was given", im->model->file,
                    in->name, axis, (long long)said, given->dim[axis]);
    if (said > 0)
        *dim = (int32_t)said;
    else if (given && given->dim[axis] > 0)
        *dim = given->dim[axis];
    else if (axis == 0)
        *dim = 1;
    else
        return diag(im->why, -EINVAL,
                    "%s: input \"%s\": the model leaves axis %d%s%s%s open; give the input's shape",
                    im->model->file, in->name, axis, symbol && symbol[0] ? " (\"" : "",
                    symbol ? symbol : "", symbol && symbol[0] ? "\")" : "");
    return 0;
}

static int input_shape(struct import *im, const struct onnx_value *in,
                       const struct graph_input *given, struct shape *s)
{
    int32_t dim[SHAPE_MAX_RANK];
    if (in->rank < 0 && !given)
        return diag(im->why, -EINVAL,
                    "%s: input \"%s\": the model gives no shape; give the input's shape",
                    im->model->file, in->name);
    if (given && (given->rank < 0 || given->rank > SHAPE_MAX_RANK ||
                  (in->rank >= 0 && given->rank != in->rank)))
        return diag(im->why, -EINVAL,
                    "%s: input \"%s\": a shape of %d axes was given, the model's has %d",
                    im->model->file, in->name, given->rank, in->rank);
    const int32_t rank = in->rank < 0 ? given->rank : in->rank;
    for (int32_t i = 0; i < rank; i++) {
        const int rc = input_extent(im, in, given, i, &dim[i]);
        if (rc)
            return rc;
    }
    *s = shape_make(rank, dim);
    return 0;
}

/* TensorFlow's networks begin with a Transpose of (rows, columns, channels) to channels first.
 * Reading such an input as channels last makes that operator a new name. */
static bool wants_channels_last(const struct import *im, const char *input)
{
    bool found = false;
    for (int32_t i = 0; i < im->model->nnodes; i++) {
        const struct onnx_node *n = &im->model->node[i];
        for (int32_t k = 0; k < n->ninputs; k++) {
            if (strcmp(n->input[k], input) != 0)
                continue;
            const struct onnx_attr *a = onnx_attr(n, "perm", ONNX_ATTR_INTS);
            if (strcmp(n->op_type, "Transpose") != 0 || !a || a->n != 4 || a->ints[1] != 3)
                return false;
            found = true;
        }
    }
    return found;
}

static int import_inputs(struct import *im, const struct graph_input *inputs, int32_t ninputs)
{
    struct graph *g = im->graph;
    const struct onnx_model *m = im->model;
    for (int32_t i = 0; i < ninputs; i++) {
        bool known = !inputs[i].name;
        for (int32_t k = 0; k < m->ninputs && !known; k++)
            known = strcmp(m->input[k].name, inputs[i].name) == 0;
        if (!known)
            return diag(im->why, -EINVAL, "%s: a shape was given for \"%s\", which is no input",
                        m->file, inputs[i].name);
    }
    g->input = store_array(&im->store, (size_t)m->ninputs, sizeof *g->input);
    if (!g->input)
        return import_no_memory(im);
    for (int32_t i = 0; i < m->ninputs; i++) {
        const struct onnx_value *in = &m->input[i];
        if (in->type != ONNX_FLOAT)
            return diag(im->why, -ENOTSUP,
                        "%s: input \"%s\" has data type %d; only float (1) is supported", m->file,
                        in->name, (int)in->type);
        struct value v = { .constant = NULL };
        int rc = input_shape(im, in, given_for(im, in->name, inputs, ninputs), &v.shape);
        if (rc)
            return rc;
        if (v.shape.rank == 4 && wants_channels_last(im, in->name))
            v.shape = shape_make_last(v.shape.rank, v.shape.dim);
        rc = add_tensor(im, in->name, &v.shape, GEO_NO_OP, &v.tensor);
        if (rc == 0)
            rc = define_name(im, in->name, &v);
        if (rc)
            return rc;
        g->input[g->ninputs++] =
            (struct port){ g->tensor[v.tensor].name, v.tensor, v.shape, false };
    }
    return 0;
}

/* A plan hands out what operators yield: an input that is an output too is copied, and a constant
 * becomes a tensor. */
static int make_output(struct import *im, struct value *v)
{
    const char *const name = v->name;
    const struct onnx_node node = {
        .name = name, .op_type = "Identity", .noutputs = 1, .output = (const char *[]){ name }
    };
    int rc = 0;
    im->node = &node;
    if (v->constant)
        rc = import_materialize(im, v);
    else if (im->graph->tensor[v->tensor].op == GEO_NO_OP)
        rc = import_act(im, (struct act){ .kind = ACT_NONE }, v);
    im->node = NULL;
    return rc;
}

static int import_outputs(struct import *im)
{
    struct graph *g = im->graph;
    const struct onnx_model *m = im->model;
    if (m->noutputs == 0)
        return diag(im->why, -EINVAL, "%s: the graph has no outputs", m->file);
    g->output = store_array(&im->store, (size_t)m->noutputs, sizeof *g->output);
    if (!g->output)
        return import_no_memory(im);
    for (int32_t i = 0; i < m->noutputs; i++) {
        const char *name = m->output[i].name;
        const struct value *found = find(im, name);
        if (!found)
            return diag(im->why, -EINVAL, "%s: nothing yields output \"%s\"", m->file, name);
        struct value v = *found;
        const int rc = make_output(im, &v);
        if (rc)
            return rc;
        const char *copy = store_text(&im->store, name, strlen(name));
        if (!copy)
            return import_no_memory(im);
        g->output[g->noutputs++] = (struct port){ copy, v.tensor, v.shape, v.found != 0 };
    }
    return 0;
}

static int import_initializers(struct import *im)
{
    for (int32_t i = 0; i < im->model->ntensors; i++) {
        const struct onnx_tensor *t = &im->model->tensor[i];
        const struct value v = { .constant = t, .tensor = -1, .shape = constant_shape(t) };
        const int rc = define_name(im, t->name, &v);
        if (rc)
            return rc;
        im->spare_bytes += SPARE_PER_WEIGHT * (int64_t)t->bytes;
    }
    return 0;
}

int import_model(struct import *im, const struct graph_input *inputs, int32_t ninputs)
{
    const struct onnx_model *m = im->model;
    if (m->opset < OPSET_OLDEST || m->opset > OPSET_NEWEST)
        return diag(im->why, -ENOTSUP, "%s: operator set %lld; %d to %d are supported", m->file,
                    (long long)m->opset, OPSET_OLDEST, OPSET_NEWEST);
    if (m->ninputs > MAX_INPUTS)
        return diag(im->why, -EINVAL, "%s: %d inputs, at most %d are supported", m->file,
                    m->ninputs, MAX_INPUTS);
    im->spare_bytes = SPARE_BYTES;
    int rc = make_table(im);
    if (rc == 0)
        rc = import_initializers(im);
    if (rc == 0)
        rc = import_inputs(im, inputs, ninputs);
    for (int32_t i = 0; i < m->nnodes && rc == 0; i++)
        rc = import_node(im, &m->node[i]);
    return rc ? rc : import_outputs(im);
}
