/* libsplit/task.h - from a network's output to what people want to see. */
#ifndef LIBSPLIT_TASK_H
#define LIBSPLIT_TASK_H

#include <stdint.h>

#include "libsplit/image.h"
#include "libsplit/sidecar.h"

struct task_class {
    int32_t index;     /* after class_offset */
    float score;       /* as the network gives it */
    const char *label; /* borrowed from the sidecar, "" if there is none */
};

/* The `k` largest of `n` scores, largest first, ties by index, NaN last.  Returns how many
 * were written (min(k, n)). */
int32_t task_top(const struct sidecar *s, const float *scores, int32_t n, int32_t k,
                 struct task_class *top);

/* The picture that an image network answered with: `values` (1 x channels x rows x cols in
 * ONNX order, channels 1 or 3), scaled, clamped, rounded, in the order R G B.  A network
 * for luma only takes its chroma from `source`, resized: the picture as the network saw it,
 * from sidecar_view() (NULL or grey: the answer stays grey).  `im` is initialised by the
 * call.  Returns 0, -EINVAL (a shape that is no picture) or -ENOMEM. */
int task_picture(const struct sidecar *s, const float *values, int32_t rank, const int32_t *dim,
                 const struct image *source, struct image *im, struct diag *why);

#endif
