/* libsplit/kernel_ops.h - the kernels behind the table of libsplit/kernels.c.
 *
 * The contract of every function is that of the member of struct kernel it stands for. */
#ifndef LIBSPLIT_KERNEL_OPS_H
#define LIBSPLIT_KERNEL_OPS_H

#include "libsplit/kernel.h"

/* conv.c: picks one of several ways. */
int conv_prepare(const struct graph *g, const struct op *op, struct span channels, void **packed);
void conv_release(void *packed);
size_t conv_packed_bytes(const struct graph *g, const struct op *op, struct span channels);
size_t conv_scratch_bytes(const struct graph *g, const struct op *op);
void conv_run(const struct kernel_call *call);
int32_t conv_pieces(const struct graph *g, const struct op *op, const struct box *region);
int32_t conv_cut_channel(const struct graph *g, const struct op *op, int32_t at);

/* kernel_conv_transpose.c: one product per contributing input row, scattered over columns. */
int conv_transpose_prepare(const struct graph *g, const struct op *op, struct span channels,
                           void **packed);
size_t conv_transpose_packed_bytes(const struct graph *g, const struct op *op,
                                   struct span channels);
size_t conv_transpose_scratch_bytes(const struct graph *g, const struct op *op);
void conv_transpose_run(const struct kernel_call *call);

/* kernel_pool.c, kernel_max_unpool.c */
void max_pool_run(const struct kernel_call *call);
void average_pool_run(const struct kernel_call *call);
void max_unpool_run(const struct kernel_call *call);

/* kernel_elementwise.c */
void affine_run(const struct kernel_call *call);
void activation_run(const struct kernel_call *call);
void binary_run(const struct kernel_call *call);
void where_run(const struct kernel_call *call);

/* kernel_move.c: values change place only. */
void concat_run(const struct kernel_call *call);
void slice_run(const struct kernel_call *call);
void pad_run(const struct kernel_call *call);
void depth_to_space_run(const struct kernel_call *call);
void space_to_depth_run(const struct kernel_call *call);
void constant_run(const struct kernel_call *call);

/* kernel_reshape.c */
void reshape_run(const struct kernel_call *call);

/* kernel_resize.c, kernel_grid_sample.c, kernel_roi_align.c: pixels between pixels. */
void resize_run(const struct kernel_call *call);
void grid_sample_run(const struct kernel_call *call);
void roi_align_run(const struct kernel_call *call);
/* What the pixels at -1, 0, 1 and 2 weigh at `t` in 0..1, after Keys' kernel with parameter `a`
 * (IEEE ASSP-29, 1981; ONNX's cubic_coeff_a). */
void cubic_weights(float t, float a, float weight[4]);

/* kernel_softmax.c */
void softmax_run(const struct kernel_call *call);

/* kernel_reduce.c */
size_t partial_scratch_bytes(const struct graph *g, const struct op *op);
void partial_run(const struct kernel_call *call);
void combine_run(const struct kernel_call *call);
void reduce_run(const struct kernel_call *call);

/* kernel_nms.c */
size_t nms_scratch_bytes(const struct graph *g, const struct op *op);
void nms_run(const struct kernel_call *call);

/* kernel_matmul.c, kernel_lrn.c, kernel_top_k.c, kernel_gather.c */
void matmul_run(const struct kernel_call *call);
void lrn_run(const struct kernel_call *call);
void top_k_run(const struct kernel_call *call);
void gather_run(const struct kernel_call *call);

/* kernels.c: cut_channel() of what computes all channels at once. */
int32_t uncut_channels(const struct graph *g, const struct op *op, int32_t at);

/* Applies call->op->act to the whole region; the last act of most kernels. */
void act_region(const struct kernel_call *call);

/* Extents of input `i` of the operator, the whole tensor's. */
static inline const int32_t *input_dim(const struct kernel_call *call, int32_t i)
{
    return call->graph->tensor[call->op->input[i]].dim;
}
static inline const int32_t *output_dim(const struct kernel_call *call)
{
    return call->graph->tensor[call->op->output].dim;
}

static inline int32_t min_i32(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max_i32(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t clamp_i32(int32_t x, int32_t lo, int32_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* The output coordinates of region `r` on axis `a` whose whole window lies on the map, `len` long.
 */
static inline struct span windows_inside(const struct window *w, enum axis a, int32_t len,
                                         const struct box *r)
{
    const int32_t first = (w->pad[a] + w->stride[a] - 1) / w->stride[a];
    const int32_t room = len - 1 - (w->kernel[a] - 1) * w->dilation[a] + w->pad[a];
    const int32_t end = room < 0 ? 0 : room / w->stride[a] + 1;
    const int32_t lo = clamp_i32(first, r->lo[a], r->hi[a]);
    return (struct span){ lo, max_i32(min_i32(r->hi[a], end), lo) };
}

#endif
