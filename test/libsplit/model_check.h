/* test/libsplit/model_check.h - what becomes of a model made by onnx_writer.h.
 *
 * Each function ends the model with output "y" and frees it. */
#ifndef TEST_LIBSPLIT_MODEL_CHECK_H
#define TEST_LIBSPLIT_MODEL_CHECK_H

#include "onnx_writer.h"

#define VALUES(...)                                                                                \
    (const float[]) { __VA_ARGS__ }

enum { CHECK_MAX_VALUES = 256 };

/* A model with input "x" of these extents; nodes that end in "y" follow. */
struct model_writer check_begin(int64_t opset, int32_t rank, const int64_t *dim);

/* On one node and on three "y" has this shape and these values when x is `in` (NULL: 0, 1, 2...).
 */
struct check_frame {
    const float *in;
    const char *shape;
    const float *want;
};
void check_frames(struct model_writer *m, int n, const struct check_frame *frame);
void check_values(struct model_writer *m, const char *shape, const float *want);
/* The graph is refused with `err` and this in the sentence, which begins with the file's name. */
void check_refused(struct model_writer *m, int err, const char *sentence);

#endif
