/* libsplit/task_detect.h - the decoders of detectors: what their outputs mean.
 *
 * With n cells or anchors in all, counted stride by stride, row by row, column by column and
 * then anchor by anchor, K classes (with the background, where there is one) and values named as
 * the papers do (x, w: columns; y, h: rows; s: the stride; "o": the output):
 *
 *   yolox      1 x n x (5 + K): x = (o + column) s, w = exp(o) s (the centre and the extent),
 *              objectness, classes.  Score: objectness * class.  arXiv:2107.08430
 *   yolov5     without anchors 1 x n x (5 + K): x, y, w, h in pixels, objectness, classes.
 *              With anchors one output for every stride, 1 x anchors x rows x columns x (5 + K)
 *              or 1 x (anchors * (5 + K)) x rows x columns, before the sigmoid:
 *              x = (2 sigmoid(o) - 0.5 + column) s, w = (2 sigmoid(o))^2 anchor
 *   yolov8     1 x (4 + K) x n: x, y, w, h in pixels, classes
 *   nanodet    for every stride classes 1 x n x K, then for every stride distances
 *              1 x n x 4 (reg_max + 1): left, top, right, bottom of the point in the cell, each the
 *              mean of 0..reg_max cells under a softmax.  arXiv:2006.04388
 *   ssd        classes 1 x n x K and offsets 1 x n x 4 to the anchors:
 *              x = anchor x + o center_variance anchor w, w = anchor w exp(o size_variance).
 *              arXiv:1512.02325
 *   ultraface  classes 1 x n x K and corners 1 x n x 4 (left, top, right, bottom), 1 = all
 *              of the input
 *
 * A cell or anchor gives its best class only.  The maps have ceil(rows / s) x ceil(columns / s)
 * cells. */
#ifndef LIBSPLIT_TASK_DETECT_H
#define LIBSPLIT_TASK_DETECT_H

#include "libsplit/task.h"

struct decode {
    const struct task_answer *answer;
    const struct sidecar_detect *how;
    bool clips; /* boxes are cut at the input's edges before they are compared, as the decoder's
                 * authors do */
    int32_t noutputs;
    const struct task_tensor *output[SIDECAR_MAX_OUTPUTS]; /* in the decoder's order */
    int32_t n, room;
    struct detection *found; /* in pixels of the network's input; owned */
    struct diag *why;
};

/* Cells of stride number `level`. */
int32_t decode_rows(const struct decode *d, int32_t level);
int32_t decode_cols(const struct decode *d, int32_t level);
/* Cells of all strides, each times its anchors (1 if there are none). */
int64_t decode_cells(const struct decode *d);

/* Checks that output `i` is `rows` (below 0: any number) x at least `least` values, extents of 1
 * before them left out, and gives both.  Returns 0 or -EINVAL with a sentence. */
int decode_matrix(const struct decode *d, int32_t i, int64_t rows, int32_t least, int32_t *nrows,
                  int32_t *len);
/* -EINVAL with a sentence about output `i`, which should be `expected`. */
int decode_mismatch(const struct decode *d, int32_t i, const char *expected);

/* The best class of `n` values that lie `step` apart: returns its score, after the activation,
 * and its index, below 0 if there is none. */
float decode_class(const struct decode *d, const float *values, int64_t step, int32_t n,
                   int32_t *index);

/* Adds a box, unless its score is below the threshold or its edges are not finite.  Returns 0
 * or -ENOMEM. */
int decode_corners(struct decode *d, int32_t index, float score, float row, float col,
                   float row_end, float col_end);
int decode_centre(struct decode *d, int32_t index, float score, float row, float col, float rows,
                  float cols);

int decode_yolox(struct decode *d);
int decode_yolov5(struct decode *d);
int decode_yolov8(struct decode *d);
int decode_nanodet(struct decode *d);
int decode_ssd(struct decode *d);
int decode_ultraface(struct decode *d);

#endif
