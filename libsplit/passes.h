/* libsplit/passes.h - rewriting a graph into a cheaper one that yields the same.
 *
 * Each pass is one file and may be run at any time, any number of times.  A pass that takes
 * an operator out marks it dead; pass_dead() then closes the gaps.  No pass changes the
 * values of a network's outputs beyond rounding. */
#ifndef LIBSPLIT_PASSES_H
#define LIBSPLIT_PASSES_H

#include "libsplit/graph.h"

/* All of them, in the order that makes most of each.  Returns 0 or -ENOMEM. */
int passes_run(struct graph *g);

/* Flatten then Gemm becomes a convolution whose kernel covers the whole map, so that no value
 * moves; the weights stay where they are, only their strides change. */
int pass_flatten_gemm(struct graph *g);
/* Reshape, Transpose, Reshape that enlarge rows and columns by a block become DepthToSpace; those
 * that only change the order of channels become one pick of channels. */
int pass_reshape_pairs(struct graph *g);
/* Constant rows and columns around a map become the padding of the convolution or pooling that
 * reads it. */
int pass_pad(struct graph *g);
/* Taps of a convolution that never meet the map go. */
int pass_taps(struct graph *g);
/* Relu, Clip, and Min and Max with a number, one after the other, become one Clip. */
int pass_clip(struct graph *g);
/* HardSigmoid and HardSwish out of Add, Clip, Mul and Div. */
int pass_hard_swish(struct graph *g);
/* Powers of 2 and 1/2. */
int pass_power(struct graph *g);
/* Gelu out of Div, Erf, Add and Mul. */
int pass_gelu(struct graph *g);
/* BatchNormalization, and Add, Sub, Mul, Div with one constant per channel, after a
 * convolution disappear into its scale and bias. */
int pass_fold_affine(struct graph *g);
/* The same before a convolution disappear into its weights and bias, if padding allows. */
int pass_fold_before(struct graph *g);
/* x * sigmoid(x) is SiLU; x * hard_sigmoid(x) with slope 1/6 is HardSwish; x * tanh(softplus(x))
 * is Mish. */
int pass_silu(struct graph *g);
/* An activation is applied by the operator before it. */
int pass_fuse_activation(struct graph *g);
/* A convolution that is only added to another tensor does the sum itself, in registers. */
int pass_residual(struct graph *g);
/* Takes out dead operators, those whose output nobody reads, and their tensors. */
int pass_dead(struct graph *g);

/* ---- for passes */
/* How often each tensor is read: by operators, and as an output of the network.  free() it. */
int32_t *pass_count_readers(const struct graph *g);
void op_kill(struct op *op);
bool op_is_dead(const struct op *op);
/* `before` yields what `op`, its only reader, yielded; `op` dies. */
void op_absorb(struct graph *g, struct op *before, struct op *op);
/* True if `op` keeps row-major order: a Reshape that neither transposes nor picks. */
bool op_is_plain_reshape(const struct op *op);
/* Arrays of `n` elements owned by the graph, zeroed. */
void *graph_array(struct graph *g, size_t n, size_t size);
float *graph_floats(struct graph *g, size_t n);
int32_t *graph_integers(struct graph *g, size_t n);

#endif
