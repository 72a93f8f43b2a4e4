/* tiling/reach.h - which input an operator reads to compute a part of its output.
 *
 * On every axis, and for every operator that splitd knows, the input range behind an
 * output range [a, b) is
 *
 *     [ floor((a * num + lo) / den),  floor(((b - 1) * num + hi) / den) + 1 )
 *
 * clipped to the input, with ends swapped in order when num < 0.  `reach` is allowed to
 * be too wide, never too narrow.  The named makers below are the whole catalogue. */
#ifndef TILING_REACH_H
#define TILING_REACH_H

#include "tiling/box.h"

struct reach {
    int32_t num, den; /* den >= 1 */
    int32_t lo, hi;
};

/* Elementwise: output i reads input i. */
struct reach reach_same(void);
/* Reads all of an axis of length `len`, whatever is asked for (also: broadcast, len = 1). */
struct reach reach_all(int32_t len);
/* Convolution and pooling: `kernel` taps `dilation` apart, every `stride`, `pad` zeros
 * before the first pixel.  ONNX Conv, MaxPool, AveragePool. */
struct reach reach_window(int32_t kernel, int32_t stride, int32_t dilation, int32_t pad);
/* ONNX ConvTranspose: output y receives input i through tap k when y = i*stride - pad + k*dilation.
 */
struct reach reach_transposed(int32_t kernel, int32_t stride, int32_t dilation, int32_t pad);
/* ONNX Slice (offset >= 0, any step but 0), Pad (offset < 0), one input of a Concat
 * (offset = minus its place): output i reads input i*step + offset. */
struct reach reach_shift(int32_t offset, int32_t step);
/* DepthToSpace and nearest upsampling by a whole factor: output i reads input i / factor. */
struct reach reach_up(int32_t factor);
/* SpaceToDepth: output i reads inputs [i*factor, (i+1)*factor). */
struct reach reach_down(int32_t factor);

/* The input range that the non-empty output range `out` reads on an axis of length
 * `len`; lo >= hi when it reads nothing (padding only). */
struct span reach_span(struct reach r, struct span out, int32_t len);
/* The same on all axes.  Returns box_none() if any axis reads nothing or `out` is empty. */
struct box reach_box(const struct reach r[AXES], struct box out, const int32_t dim[AXES]);

#endif
