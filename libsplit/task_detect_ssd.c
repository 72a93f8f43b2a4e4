#include <math.h>

#include "libsplit/task_detect.h"

enum { CLASSES, BOXES, BOX_VALUES = 4 };

/* Checks both outputs; `rows` as for decode_matrix(). */
static int check(const struct decode *d, int64_t rows, int32_t *n, int32_t *nclasses)
{
    int32_t len;

    int rc = decode_matrix(d, CLASSES, rows, 1, n, nclasses);
    if (rc == 0)
        rc = decode_matrix(d, BOXES, *n, BOX_VALUES, n, &len);
    if (rc == 0 && len != BOX_VALUES)
        rc = decode_mismatch(d, BOXES, "4 values for every anchor");
    return rc;
}

static int ssd_anchor(struct decode *d, const float *classes, int32_t nclasses, const float *v,
                      float row, float col, const float size[2])
{
    const struct sidecar_detect *how = d->how;
    int32_t index;
    const float score = decode_class(d, classes, 1, nclasses, &index);

    return decode_centre(d, index, score, row + v[1] * how->center_variance * size[1],
                         col + v[0] * how->center_variance * size[0],
                         size[1] * expf(v[3] * how->size_variance),
                         size[0] * expf(v[2] * how->size_variance));
}

int decode_ssd(struct decode *d)
{
    const struct sidecar_detect *how = d->how;
    const float *classes = d->output[CLASSES]->values, *v = d->output[BOXES]->values;
    int32_t n, nclasses;

    int rc = check(d, decode_cells(d), &n, &nclasses);
    for (int32_t i = 0; rc == 0 && i < how->nstrides; i++) {
        const int32_t cols = decode_cols(d, i), cells = decode_rows(d, i) * cols;
        const float s = how->stride[i];
        for (int32_t cell = 0; rc == 0 && cell < cells; cell++) {
            const int32_t row = cell / cols, col = cell % cols;
            for (int32_t a = 0; rc == 0 && a < how->nanchors[i]; a++) {
                rc = ssd_anchor(d, classes, nclasses, v, ((float)row + how->center) * s,
                                ((float)col + how->center) * s, how->anchor[i][a]);
                classes += nclasses;
                v += BOX_VALUES;
            }
        }
    }
    return rc;
}

int decode_ultraface(struct decode *d)
{
    const float rows = (float)d->answer->rows, cols = (float)d->answer->cols;
    const float *classes = d->output[CLASSES]->values, *v = d->output[BOXES]->values;
    int32_t n, nclasses;

    int rc = check(d, -1, &n, &nclasses);
    for (int32_t i = 0; rc == 0 && i < n; i++, classes += nclasses, v += BOX_VALUES) {
        int32_t index;
        const float score = decode_class(d, classes, 1, nclasses, &index);
        rc = decode_corners(d, index, score, v[1] * rows, v[0] * cols, v[3] * rows, v[2] * cols);
    }
    return rc;
}
