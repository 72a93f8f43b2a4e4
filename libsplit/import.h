/* libsplit/import.h - ONNX nodes to operators (internal to the graph builder).
 *
 * Every ONNX name stands for a constant or for a tensor of the graph with a shape.  Several
 * names may share a tensor: an operator that only relabels defines a new shape and emits
 * nothing.  One function per ONNX operator (libsplit/import_*.c), one table (import.c).
 *
 * All functions return 0 or a negative errno with the sentence in im->why. */
#ifndef LIBSPLIT_IMPORT_H
#define LIBSPLIT_IMPORT_H

#include <errno.h>

#include "libsplit/graph.h"
#include "libsplit/store.h"

/* Integers up to here are exact as floats, which all tensors are.  What is found has room for two
 * rows at least, so that no extent of 1 is taken for it. */
enum { IMPORT_MAX_EXACT = 1 << 24, IMPORT_MIN_FOUND = 2 };

struct value {
    const char *name;
    const struct onnx_tensor *constant; /* known at load; NULL: a tensor of the graph */
    int32_t tensor;
    struct shape shape; /* also of a constant, with the usual axes */
    bool integer;       /* ONNX calls its numbers integers: divisions round towards 0 */
    bool truth;         /* ONNX calls it bool */
    int32_t found;      /* ONNX axis 0 counts what operator found-1 finds, a NonMaxSuppression; 0:
                         * it is an axis like others */
};

struct import {
    const struct onnx_model *model;
    struct graph *graph; /* arrays grow while importing */
    struct store *store; /* becomes the graph's */
    int32_t op_cap, tensor_cap;
    struct value *value; /* by name, see import_find() */
    int32_t nvalues;
    int32_t *slot; /* hash table of indices in `value`, -1: free */
    uint32_t nslots;
    int64_t spare_bytes; /* what constants made at load may still take */
    const struct onnx_node *node;
    struct diag *why;
};

/* Fills ops, tensors, inputs and outputs of im->graph. */
int import_model(struct import *im, const struct graph_input *inputs, int32_t ninputs);

/* "FILE: node "NAME" (Conv): <text>"; gives `err`.  A macro for the reason that diag() is one. */
#define refuse(im, err, ...) diag_err(refuse_write((im), __VA_ARGS__), (err))
__attribute__((format(printf, 2, 3))) bool refuse_write(struct import *im, const char *fmt, ...);

static inline int import_no_memory(struct import *im)
{
    return diag(im->why, -ENOMEM, "%s: out of memory", im->model->file);
}

/* An array owned by the graph.  A budget bounds what a small file can make us allocate; past it
 * this is -EINVAL. */
int import_array(struct import *im, int64_t n, size_t size, void *array);

/* ---- inputs of the current node */
/* NULL if left out. */
const struct value *import_input(const struct import *im, int32_t i);
/* The input as a tensor of the graph; a constant becomes one. */
int import_tensor(struct import *im, int32_t i, struct value *v);
/* `v` becomes a tensor of the graph if it is a constant. */
int import_materialize(struct import *im, struct value *v);
/* The input must be a constant.  *t is NULL if it is left out and `optional`. */
int import_constant(struct import *im, int32_t i, bool optional, const struct onnx_tensor **t);
/* Integers from attribute `attr` or, if there is none, from constant input `i` (-1: no such
 * input).  *n is -1 if neither is there. */
int import_ints(struct import *im, const char *attr, int32_t i, int64_t *list, int32_t cap,
                int32_t *n);
/* A scalar from constant input `i`; `otherwise` if it is left out. */
int import_scalar(struct import *im, int32_t i, float otherwise, float *f);
/* A copy of a constant as floats; it must have `count` values (-1: any). */
int import_floats(struct import *im, const struct onnx_tensor *t, int64_t count, float **f);
/* Which of `n` names string attribute `attr` is (`otherwise` if it is left out). */
int import_choice(struct import *im, const char *attr, const char *otherwise,
                  const char *const *name, int n, int *chosen);
/* -rank..rank-1 to 0..rank-1. */
int import_axis(struct import *im, int64_t axis, int32_t rank, int32_t *a);
/* Refuses outputs from number `n` on that anyone could read (indices of a MaxPool...). */
int import_only_outputs(struct import *im, int32_t n);

/* ---- shapes */
/* Makes `v` lie in memory as `want`, which has the same extents: relabels, or emits a
 * Reshape where values must move. */
int import_lay(struct import *im, struct value *v, const struct shape *want);
/* The usual assignment of axes. */
int import_lay_usual(struct import *im, struct value *v);
/* ONNX axis 1 becomes channels, whatever the rest is. */
int import_lay_channels(struct import *im, struct value *v);
/* Some assignment in which none of the ONNX axes in bit set `axes` belongs to the batch. */
int import_lay_unbatched(struct import *im, struct value *v, uint32_t axes);
/* `n` extents of 1 before the first or after the last axis; a constant may be given, too. */
int import_prepend_axes(struct import *im, struct value *v, int32_t n);
int import_append_axes(struct import *im, struct value *v, int32_t n);
/* ROW, COL or CHAN, or AXES if the ONNX axis belongs to the batch. */
enum axis shape_role(const struct shape *s, int32_t onnx_axis);
/* v becomes the Transpose of itself. */
int import_permute(struct import *im, struct value *v, const int8_t *perm);
/* v becomes a row-major Reshape of itself. */
int import_reshape_to(struct import *im, struct value *v, int32_t rank, const int64_t *dim);
/* The same as rows, columns and channels of one image. */
int import_map(struct import *im, struct value *v, int64_t rows, int64_t cols, int64_t channels);

/* ---- results */
/* Appends an operator (op->ninputs and op->input are taken from the arguments) whose
 * output has `shape`; *v is that output. */
int import_emit(struct import *im, const struct op *op, const int32_t *input, int32_t ninputs,
                const struct shape *shape, struct value *v);
/* Defines output `i` of the node. */
int import_define(struct import *im, int32_t i, const struct value *v);
/* What it was defined as; NULL if it is left out or not defined yet. */
struct value *import_output(const struct import *im, int32_t i);
int import_define_constant(struct import *im, int32_t i, const struct onnx_tensor *t);
/* One operator with one input is the whole node. */
int import_simple(struct import *im, const struct op *op, const struct value *in,
                  const struct shape *shape);
/* ---- parts that importers are made of: each emits what it says, *v becomes the result.
 * Operands of import_binary() may be constants; `out` may be one of them. */
int import_binary(struct import *im, enum binary_kind kind, const struct value *a,
                  const struct value *b, struct value *out);
int import_with_number(struct import *im, enum binary_kind kind, struct value *v, float number);
int import_act(struct import *im, struct act act, struct value *v);
/* Over the axes in bit set `set`, which stay with an extent of 1. */
int import_reduced(struct import *im, enum reduce_kind kind, struct value *v, uint32_t set);
/* Coordinate i of ONNX axis `axis` becomes what stood at index[i]; `index` is owned by the graph.
 */
int import_pick(struct import *im, struct value *v, int32_t axis, int32_t *index, int64_t n);
/* Values along each axis again and again until it has the extent dim[i]. */
int import_repeat(struct import *im, struct value *v, const int32_t *dim);
/* A float constant, as import_constant(). */
int import_weights(struct import *im, int32_t i, bool optional, const struct onnx_tensor **t);

/* ---- what a node passes on from its inputs (import_follow.c) */
bool import_is_integer(const struct value *v);
/* Refuses a node that reads boxes that were found and does not treat each on its own. */
int import_check_found(struct import *im);
/* Sets `integer` and `found` of the current node's outputs, once it is imported. */
int import_follow(struct import *im);

/* ---- windows (import_window.c) */
/* kernel_shape is read unless `kernel` fixes it; rank 3 has no columns.  `transposed` leaves the
 * padding of auto_pad and output_shape to the caller. */
struct window_attrs {
    int32_t axes; /* spatial: 1 or 2 */
    int32_t in[2], out[2];
    struct window win;
};
int import_window(struct import *im, const struct shape *in, const int64_t *kernel, bool may_dilate,
                  struct window_attrs *w);
int import_window_transposed(struct import *im, const struct shape *in, const int64_t *kernel,
                             struct window_attrs *w);

typedef int (*import_fn)(struct import *im);
int import_conv(struct import *im);
int import_conv_transpose(struct import *im);
int import_gemm(struct import *im);
int import_matmul(struct import *im);
int import_max_pool(struct import *im);
int import_max_unpool(struct import *im);
int import_average_pool(struct import *im);
int import_global_average_pool(struct import *im);
int import_global_max_pool(struct import *im);
int import_reduce(struct import *im);
int import_arg_max(struct import *im);
int import_arg_min(struct import *im);
int import_function(struct import *im);
int import_clip(struct import *im);
int import_prelu(struct import *im);
int import_softmax(struct import *im);
int import_log_softmax(struct import *im);
int import_batch_normalization(struct import *im);
int import_layer_normalization(struct import *im);
int import_instance_normalization(struct import *im);
int import_mean_variance_normalization(struct import *im);
int import_lrn(struct import *im);
int import_arithmetic(struct import *im);
int import_mod(struct import *im);
int import_sum(struct import *im);
int import_mean(struct import *im);
int import_min(struct import *im);
int import_max(struct import *im);
int import_where(struct import *im);
int import_concat(struct import *im);
int import_slice(struct import *im);
int import_split(struct import *im);
int import_pad(struct import *im);
int import_resize(struct import *im);
int import_upsample(struct import *im);
int import_depth_to_space(struct import *im);
int import_space_to_depth(struct import *im);
int import_flatten(struct import *im);
int import_reshape(struct import *im);
int import_transpose(struct import *im);
int import_squeeze(struct import *im);
int import_unsqueeze(struct import *im);
int import_expand(struct import *im);
int import_tile(struct import *im);
int import_gather(struct import *im);
int import_gather_computed(struct import *im);
int import_gather_elements(struct import *im);
int import_gather_nd(struct import *im);
int import_scatter_nd(struct import *im);
int import_scatter_elements(struct import *im);
int import_identity(struct import *im);
int import_dropout(struct import *im);
int import_cast(struct import *im);
int import_cast_like(struct import *im);
int import_quantize_linear(struct import *im);
int import_dequantize_linear(struct import *im);
int import_grid_sample(struct import *im);
int import_roi_align(struct import *im);
int import_top_k(struct import *im);
int import_non_max_suppression(struct import *im);

/* Extents of a Reshape, Flatten, Squeeze or Unsqueeze of the current node, for an input of
 * extents `dim`; shared by tensors and constants. */
int reshape_dims(struct import *im, int32_t rank, const int64_t *dim, int32_t *out_rank,
                 int64_t *out);
/* Start, step and extent on every axis of a Slice of the current node. */
int slice_dims(struct import *im, int32_t rank, const int64_t *dim, int64_t *start, int64_t *step,
               int64_t *out);
/* Permutation of a Transpose. */
int transpose_perm(struct import *im, int32_t rank, int8_t *perm);

/* ---- constants (import_fold.c): the node's only output from constant inputs */
int fold_constant(struct import *im);
int fold_shape(struct import *im);
int fold_size(struct import *im);
int fold_gather(struct import *im);
int fold_cast(struct import *im);
int fold_reshape(struct import *im); /* and Flatten, Squeeze, Unsqueeze */
int fold_identity(struct import *im);
int fold_concat(struct import *im);
int fold_slice(struct import *im);
int fold_transpose(struct import *im);
int fold_binary(struct import *im);
int fold_constant_of_shape(struct import *im);
int fold_range(struct import *im);
int fold_expand(struct import *im);
int fold_where(struct import *im);
int fold_dequantize_linear(struct import *im);

/* Any other operator on constants: its own importer makes a graph, which runs once
 * (import_run.c). */
int fold_by_running(struct import *im, import_fn run);

#endif
