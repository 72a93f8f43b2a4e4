/* libsplit/task.h - from a network's output to what people want to see. */
#ifndef LIBSPLIT_TASK_H
#define LIBSPLIT_TASK_H

#include <stdint.h>

#include "libsplit/image.h"
#include "libsplit/nms.h"
#include "libsplit/shape.h"
#include "libsplit/sidecar.h"

struct task_class {
    int32_t index;     /* after class_offset */
    float score;       /* as the network gives it */
    const char *label; /* borrowed from the sidecar, "" if there is none */
};

/* The label of a class, "" if there is none. */
const char *task_label(const struct sidecar *s, int64_t index);

/* The `k` largest of `n` scores, largest first, ties by index, NaN last.  Returns how many
 * were written (min(k, n)). */
int32_t task_top(const struct sidecar *s, const float *scores, int32_t n, int32_t k,
                 struct task_class *top);

/* The picture that an image network answered with: `values` of `shape` (1 x channels x rows x cols,
 * channels 1 or 3) in ONNX order, scaled, clamped, rounded, in the order R G B; or `bytes`, if
 * not NULL, for which that is done up to the order of the channels: [rows][cols][channels].  A
 * network for luma only takes its chroma from `source`, resized: the picture as the network saw it,
 * from sidecar_view() (NULL or grey: the answer stays grey).  `im` is initialised by the
 * call.  Returns 0, -EINVAL (a shape that is no picture) or -ENOMEM. */
int task_picture(const struct sidecar *s, const struct shape *shape, const float *values,
                 const uint8_t *bytes, const struct image *source, struct image *im,
                 struct diag *why);

/* One output of a network; values in ONNX order. */
struct task_tensor {
    const char *name;
    struct shape shape;
    const float *values;
};

/* What a network answered, and what it had been shown.  Everything is borrowed. */
struct task_answer {
    const struct sidecar *sidecar;
    int32_t ntensors;
    const struct task_tensor *tensor;   /* all outputs, in the network's order */
    int32_t rows, cols;                 /* of the network's input */
    int32_t picture_rows, picture_cols; /* as decoded; 0: a tensor was shown, and the picture is
                                         * the network's input */
    /* NULL; or, of each output, NULL or what libsplit/answer.h makes of its values, which are not
     * there: the picture's bytes, the class of every pixel. */
    const uint8_t *const *bytes;
};

static inline const uint8_t *task_bytes(const struct task_answer *a, int32_t output)
{
    return a->bytes ? a->bytes[output] : NULL;
}

/* The objects of a detector (libsplit/task_detect.h), best first, in pixels of the picture;
 * free() the list.  Returns 0, -EINVAL (outputs that are not what the decoder reads; sentence)
 * or -ENOMEM. */
int task_detect(const struct task_answer *a, struct detection **found, int32_t *n,
                struct diag *why);

enum { TASK_VOID = 255 }; /* the class of pixels that the network did not see */

/* The class of every pixel of the picture, from output number `output`: 1 x classes x rows x
 * columns scores, of which the largest counts, or a single mask (classes = 1), whose values from
 * the sidecar's threshold on are class 1 and others class 0.  `map` is grey, the value of a
 * pixel its class or TASK_VOID, and initialised by the call.  Returns 0, -EINVAL (another
 * shape, more than 255 classes; sentence) or -ENOMEM. */
int task_segment(const struct task_answer *a, int32_t output, struct image *map, struct diag *why);
/* The `k` classes with the largest shares of a map's pixels, largest first; the score is the
 * share.  Classes without a pixel and TASK_VOID are left out.  Returns how many were written. */
int32_t task_shares(const struct sidecar *s, const struct image *map, int32_t k,
                    struct task_class *top);

/* The answer as a picture: of the image task the picture itself; else `picture` (as decoded, and
 * a->picture_rows and picture_cols do not count; NULL: a black one of the input's size) with the
 * best classes written on it, labelled boxes drawn, or classes painted over.  `im` is initialised
 * by the call.  Returns 0, -EINVAL (as the functions above, or the task is raw) or -ENOMEM. */
int task_draw(const struct task_answer *a, int32_t output, const struct image *picture,
              struct image *im, struct diag *why);

#endif
