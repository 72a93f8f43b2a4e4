#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "libsplit/task_detect.h"

/* x, y, w, h; objectness follows in some, then come the classes. */
enum { BOX_VALUES = 4, BEFORE_CLASSES = 5 };

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* ---- YOLOX */

static int yolox_cell(struct decode *d, const float *v, int32_t len, float s, int32_t row,
                      int32_t col)
{
    int32_t index;
    const float score = v[4] * decode_class(d, v + BEFORE_CLASSES, 1, len - BEFORE_CLASSES, &index);

    return decode_centre(d, index, score, (v[1] + (float)row) * s, (v[0] + (float)col) * s,
                         expf(v[3]) * s, expf(v[2]) * s);
}

int decode_yolox(struct decode *d)
{
    const float *v = d->output[0]->values;
    int32_t n, len;

    int rc = decode_matrix(d, 0, decode_cells(d), BEFORE_CLASSES + 1, &n, &len);
    for (int32_t i = 0; rc == 0 && i < d->how->nstrides; i++) {
        const int32_t rows = decode_rows(d, i), cols = decode_cols(d, i);
        for (int32_t r = 0; r < rows; r++)
            for (int32_t c = 0; rc == 0 && c < cols; c++, v += len)
                rc = yolox_cell(d, v, len, d->how->stride[i], r, c);
    }
    return rc;
}

/* ---- YOLOv5 */

/* Already in pixels. */
static int yolov5_decoded(struct decode *d)
{
    const float *v = d->output[0]->values;
    int32_t n, len, index;

    int rc = decode_matrix(d, 0, -1, BEFORE_CLASSES + 1, &n, &len);
    for (int32_t i = 0; rc == 0 && i < n; i++, v += len) {
        const float score =
            v[4] * decode_class(d, v + BEFORE_CLASSES, 1, len - BEFORE_CLASSES, &index);
        rc = decode_centre(d, index, score, v[1], v[0], v[3], v[2]);
    }
    return rc;
}

/* The values of one map, whichever way it is laid out. */
struct yolov5_map {
    int32_t anchors, rows, cols, len;
    int64_t per_anchor, per_cell, per_value;
};

static int yolov5_layout(const struct decode *d, int32_t level, struct yolov5_map *m)
{
    const struct shape *s = &d->output[level]->shape;
    const int32_t anchors = d->how->nanchors[level];
    const int32_t rows = decode_rows(d, level), cols = decode_cols(d, level);
    const int64_t area = (int64_t)rows * cols;
    char expected[96];

    if (s->rank == 5 && s->dim[0] == 1 && s->dim[1] == anchors && s->dim[2] == rows &&
        s->dim[3] == cols && s->dim[4] > BEFORE_CLASSES) {
        const int32_t len = s->dim[4];
        *m = (struct yolov5_map){ anchors, rows, cols, len, area * len, len, 1 };
        return 0;
    }
    if (s->rank == 4 && s->dim[0] == 1 && s->dim[2] == rows && s->dim[3] == cols &&
        s->dim[1] % anchors == 0 && s->dim[1] / anchors > BEFORE_CLASSES) {
        const int32_t len = s->dim[1] / anchors;
        *m = (struct yolov5_map){ anchors, rows, cols, len, area * len, 1, area };
        return 0;
    }
    snprintf(expected, sizeof expected, "1x%dx%dx%dx(5 + classes) or 1x(%d (5 + classes))x%dx%d",
             anchors, rows, cols, anchors, rows, cols);
    return decode_mismatch(d, level, expected);
}

/* `v` is the cell's first value. */
static int yolov5_cell(struct decode *d, const float *v, const struct yolov5_map *m, int32_t level,
                       int32_t anchor, int32_t row, int32_t col)
{
    const float s = d->how->stride[level], *size = d->how->anchor[level][anchor];
    const int64_t step = m->per_value;
    float box[BOX_VALUES];
    int32_t index;

    for (int i = 0; i < BOX_VALUES; i++)
        box[i] = 2 * sigmoid(v[i * step]);
    const float class_score =
        decode_class(d, v + BEFORE_CLASSES * step, step, m->len - BEFORE_CLASSES, &index);
    return decode_centre(d, index, sigmoid(v[4 * step]) * sigmoid(class_score),
                         (box[1] - 0.5f + (float)row) * s, (box[0] - 0.5f + (float)col) * s,
                         box[3] * box[3] * size[1], box[2] * box[2] * size[0]);
}

static int yolov5_level(struct decode *d, int32_t level)
{
    const float *v = d->output[level]->values;
    struct yolov5_map m = { 0 };

    int rc = yolov5_layout(d, level, &m);
    for (int32_t a = 0; rc == 0 && a < m.anchors; a++)
        for (int32_t r = 0; rc == 0 && r < m.rows; r++)
            for (int32_t c = 0; rc == 0 && c < m.cols; c++) {
                const int64_t cell = (int64_t)r * m.cols + c;
                rc = yolov5_cell(d, v + a * m.per_anchor + cell * m.per_cell, &m, level, a, r, c);
            }
    return rc;
}

int decode_yolov5(struct decode *d)
{
    int rc = 0;

    if (d->how->nanchors[0] == 0)
        return yolov5_decoded(d);
    for (int32_t i = 0; rc == 0 && i < d->how->nstrides; i++)
        rc = yolov5_level(d, i);
    return rc;
}

/* ---- YOLOv8 */

int decode_yolov8(struct decode *d)
{
    const float *v = d->output[0]->values;
    int32_t len, n, index;

    int rc = decode_matrix(d, 0, -1, 1, &len, &n);
    if (rc == 0 && len <= BOX_VALUES)
        rc = decode_mismatch(d, 0, "1 x (4 + classes) x any");
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        const float *at = v + i;
        const int64_t step = n;
        const float score = decode_class(d, at + BOX_VALUES * step, step, len - BOX_VALUES, &index);
        rc = decode_centre(d, index, score, at[step], at[0], at[3 * step], at[2 * step]);
    }
    return rc;
}
