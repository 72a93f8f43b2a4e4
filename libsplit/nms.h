/* libsplit/nms.h - boxes found in a picture, and which of them mean the same object. */
#ifndef LIBSPLIT_NMS_H
#define LIBSPLIT_NMS_H

#include <stdint.h>

struct detection {
    float row, col, row_end, col_end; /* half-open, pixels */
    float score;
    int32_t index;     /* of the class */
    int32_t place;     /* of equal scores the lower comes first; 0 where nobody cares */
    const char *label; /* borrowed from the sidecar, "" if there is none */
};

/* Intersection over union of two boxes, 0 where they do not meet. */
float nms_iou(const struct detection *a, const struct detection *b);

/* Greedy non-maximum suppression: takes boxes by falling score and drops those that overlap a
 * taken one of their class by more than `iou`, until `limit` are taken.  They come first in
 * `d` then, best first; returns how many.  Scores are no NaN.  Takes n * limit steps, allocates
 * nothing. */
int32_t nms(struct detection *d, int32_t n, float iou, int32_t limit);

#endif
