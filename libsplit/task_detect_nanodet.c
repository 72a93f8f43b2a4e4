#include <math.h>

#include "libsplit/task_detect.h"

enum { SIDES = 4 }; /* left, top, right, bottom */

/* The mean of 0..last under the softmax of `v`. */
static float mean_distance(const float *v, int32_t last)
{
    float largest = v[0], sum = 0, weighted = 0;

    for (int32_t i = 1; i <= last; i++)
        largest = fmaxf(largest, v[i]);
    for (int32_t i = 0; i <= last; i++) {
        const float e = expf(v[i] - largest);
        sum += e;
        weighted += e * (float)i;
    }
    return weighted / sum;
}

static int point(struct decode *d, const float *classes, int32_t nclasses, const float *distances,
                 float s, int32_t row, int32_t col)
{
    const float y = ((float)row + d->how->center) * s, x = ((float)col + d->how->center) * s;
    float side[SIDES];
    int32_t index;
    const float score = decode_class(d, classes, 1, nclasses, &index);

    /* Most points show nothing: their distances need not be known. */
    if (!(score >= d->how->score))
        return 0;
    for (int i = 0; i < SIDES; i++)
        side[i] = s * mean_distance(distances + i * (d->how->reg_max + 1), d->how->reg_max);
    return decode_corners(d, index, score, y - side[1], x - side[0], y + side[3], x + side[2]);
}

static int level(struct decode *d, int32_t i)
{
    const int32_t rows = decode_rows(d, i), cols = decode_cols(d, i);
    const int32_t distances = d->how->nstrides + i, wanted = SIDES * (d->how->reg_max + 1);
    int32_t n, nclasses, ndistances;

    int rc = decode_matrix(d, i, (int64_t)rows * cols, 1, &n, &nclasses);
    if (rc == 0)
        rc = decode_matrix(d, distances, n, wanted, &n, &ndistances);
    if (rc == 0 && ndistances != wanted)
        rc = decode_mismatch(d, distances, "4 (reg_max + 1) values for every cell");
    for (int32_t at = 0; rc == 0 && at < n; at++)
        rc = point(d, d->output[i]->values + (int64_t)at * nclasses, nclasses,
                   d->output[distances]->values + (int64_t)at * ndistances, d->how->stride[i],
                   at / cols, at % cols);
    return rc;
}

int decode_nanodet(struct decode *d)
{
    int rc = 0;

    for (int32_t i = 0; rc == 0 && i < d->how->nstrides; i++)
        rc = level(d, i);
    return rc;
}
