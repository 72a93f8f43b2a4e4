/* libsplit/shape.h - how an ONNX tensor lies in memory.
 *
 * ONNX speaks of axes ("NCHW"), splitd of rows, columns and channels, stored image by
 * image, row by row, pixel by pixel, the channel running fastest (NHWC).  A shape holds
 * the ONNX extents and says which ONNX axis is the row, the column and the channel.  What
 * is left over is the batch.  Relabelling operators (Flatten of 1x1, Squeeze, Transpose
 * that only renames) therefore change a shape and move no byte. */
#ifndef LIBSPLIT_SHAPE_H
#define LIBSPLIT_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tiling/box.h"

enum { SHAPE_MAX_RANK = 8, SHAPE_TEXT_BYTES = 96 };

struct shape {
    int32_t rank;                /* 0..SHAPE_MAX_RANK */
    int32_t dim[SHAPE_MAX_RANK]; /* ONNX extents, >= 0 */
    int8_t axis[AXES];           /* the ONNX axis that is ROW, COL, CHAN; -1: none (extent 1) */
};

/* The usual assignment.  Rank 4 and more: the last two axes are rows and columns, the one
 * before them channels, the rest batch.  Rank 3 (batch, channels, rows), rank 2 (batch,
 * channels), rank 1 (channels), rank 0 (one value). */
struct shape shape_make(int32_t rank, const int32_t *dim);
/* Channels last, as TensorFlow writes: rank 4 and more (..., rows, columns, channels), rank 3
 * (batch, rows, channels); below that the usual assignment. */
struct shape shape_make_last(int32_t rank, const int32_t *dim);
/* As little batch as can be: the last three axes are rows, columns and channels, of two axes
 * rows and channels.  For operators that work along what is the batch otherwise. */
struct shape shape_make_map(int32_t rank, const int32_t *dim);

/* Extents as splitd stores them; all 1 where the shape has no such axis. */
int32_t shape_len(const struct shape *s, enum axis a);
int32_t shape_batch(const struct shape *s);
int64_t shape_values(const struct shape *s); /* product of all extents, may be 0 */

/* True when both describe the same bytes in memory: equal batch, rows, columns, channels. */
bool shape_same_memory(const struct shape *a, const struct shape *b);
bool shape_same_dims(const struct shape *a, const struct shape *b);
/* True when an ONNX Reshape (row-major order kept) from one to the other leaves every value
 * where it is in memory, so that the operator is only a new name. */
bool shape_relabels(const struct shape *from, const struct shape *to);
/* Extents lo..hi-1, multiplied. */
int64_t shape_extent(const struct shape *s, int32_t lo, int32_t hi);
/* Distance between neighbours on each ONNX axis in row-major order. */
void shape_steps(const struct shape *s, int64_t step[SHAPE_MAX_RANK]);

/* Copies between ONNX's row-major order and splitd's order.  Both hold shape_values(). */
void shape_from_onnx(const struct shape *s, float *restrict nhwc, const float *restrict onnx);
void shape_to_onnx(const struct shape *s, float *restrict onnx, const float *restrict nhwc);
/* True when both orders are one: these two only copy. */
bool shape_in_order(const struct shape *s);
/* Out of ONNX's order the values of `part`, which lies inside image `image`, and of nothing else,
 * in splitd's order: the bytes of floats, aligned or not. */
void shape_part_from_onnx(const struct shape *s, int32_t image, struct box part,
                          uint8_t *restrict bytes, const float *restrict onnx);

/* "1x3x224x224"; returns `text`. */
const char *shape_text(const struct shape *s, char text[SHAPE_TEXT_BYTES]);

#endif
