/* Separable resampling in fixed point.  Coordinates, widths, roundings and precision are
 * those of Pillow (libImaging/Resample.c, PIL licence), because networks are trained and
 * judged on pictures that it resized. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/image.h"

/* A weight of 1 is 1 << WEIGHT_BITS.  The absolute weights of a pixel sum to at most 1.3
 * (bicubic), so 255 times them stays within int32_t. */
enum { WEIGHT_BITS = 22, HALF_WEIGHT = 1 << (WEIGHT_BITS - 1) };

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys's cubic with a = -0.5. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static const struct kernel {
    double (*at)(double x);
    double reach; /* 0 beyond it, in pixels of the coarser grid */
} kernels[] = {
    [IMAGE_BILINEAR] = { triangle, 1 },
    [IMAGE_BICUBIC] = { cubic, 2 },
};

/* Along one axis: output pixel i is the sum of `len[i]` input pixels from `first[i]` on. */
struct taps {
    int32_t count, width; /* output pixels, most weights of one */
    int32_t *first, *len; /* count each */
    int32_t *weight;      /* count x width, fixed point */
};

static void taps_done(struct taps *t)
{
    free(t->first);
    free(t->len);
    free(t->weight);
    *t = (struct taps){ 0 };
}

static int32_t clamp(double x, int32_t lo, int32_t hi)
{
    return x < lo ? lo : x > hi ? hi : (int32_t)x;
}

/* The weights of output pixel `o` of `out`, made of `in` input pixels. */
static void weigh(struct taps *t, int32_t i, int32_t o, int32_t in, int32_t out,
                  const struct kernel *k, double *exact)
{
    const double scale = (double)in / out;
    const double widen = scale > 1 ? scale : 1;
    const double narrow = 1 / widen;
    const double centre = (o + 0.5) * scale;
    const int32_t lo = clamp(centre - k->reach * widen + 0.5, 0, in - 1);
    const int32_t hi = clamp(centre + k->reach * widen + 0.5, lo + 1, in);
    double sum = 0;

    for (int32_t x = lo; x < hi; x++) {
        exact[x - lo] = k->at((x - centre + 0.5) * narrow);
        sum += exact[x - lo];
    }
    t->first[i] = lo;
    t->len[i] = hi - lo;
    int32_t *weight = t->weight + (size_t)i * (size_t)t->width;
    for (int32_t x = 0; x < hi - lo; x++)
        weight[x] = (int32_t)lround(exact[x] / sum * (1 << WEIGHT_BITS));
}

/* For output pixels [from, from + count) of `out`. */
static int taps_init(struct taps *t, int32_t in, int32_t out, int32_t from, int32_t count,
                     const struct kernel *k)
{
    const double scale = (double)in / out;
    const double reach = k->reach * (scale > 1 ? scale : 1);
    const int32_t width = clamp(2 * ceil(reach) + 1, 1, in);

    *t = (struct taps){
        .count = count,
        .width = width,
        .first = calloc((size_t)count, sizeof *t->first),
        .len = calloc((size_t)count, sizeof *t->len),
        .weight = calloc((size_t)count * (size_t)width, sizeof *t->weight),
    };
    double *exact = calloc((size_t)width, sizeof *exact);
    if (!t->first || !t->len || !t->weight || !exact) {
        free(exact);
        taps_done(t);
        return -ENOMEM;
    }
    for (int32_t i = 0; i < count; i++)
        weigh(t, i, from + i, in, out, k, exact);
    free(exact);
    return 0;
}

static uint8_t to_byte(int32_t sum)
{
    const int32_t x = sum >> WEIGHT_BITS;
    return x < 0 ? 0 : x > 255 ? 255 : (uint8_t)x;
}

/* One row: t->count output pixels out of the input row. */
static void filter_across(uint8_t *restrict to, const uint8_t *restrict from, const struct taps *t,
                          int32_t channels)
{
    for (int32_t x = 0; x < t->count; x++) {
        const int32_t *weight = t->weight + (size_t)x * (size_t)t->width;
        for (int32_t c = 0; c < channels; c++) {
            const uint8_t *pixel = from + (size_t)t->first[x] * (size_t)channels + c;
            int32_t sum = HALF_WEIGHT;
            for (int32_t i = 0; i < t->len[x]; i++)
                sum += weight[i] * pixel[(size_t)i * (size_t)channels];
            *to++ = to_byte(sum);
        }
    }
}

/* The rows that have been filtered across and are still needed: input row r lies in slot
 * r % depth.  A window never holds more than `depth` rows. */
struct ring {
    uint8_t *rows;
    int32_t *sums; /* one row of accumulators */
    size_t row_bytes;
    int32_t depth, next; /* input row that comes next */
};

static void filter_down(uint8_t *restrict to, struct ring *ring, int32_t first, int32_t len,
                        const int32_t *weight)
{
    int32_t *restrict sums = ring->sums;

    for (size_t b = 0; b < ring->row_bytes; b++)
        sums[b] = HALF_WEIGHT;
    for (int32_t i = 0; i < len; i++) {
        const uint8_t *row = ring->rows + (size_t)((first + i) % ring->depth) * ring->row_bytes;
        for (size_t b = 0; b < ring->row_bytes; b++)
            sums[b] += weight[i] * row[b];
    }
    for (size_t b = 0; b < ring->row_bytes; b++)
        to[b] = to_byte(sums[b]);
}

static void resample(struct image *to, const struct image *from, const struct taps *across,
                     const struct taps *down, struct ring *ring)
{
    const size_t from_bytes = (size_t)from->cols * (size_t)from->channels;

    ring->next = down->first[0];
    for (int32_t r = 0; r < to->rows; r++) {
        const int32_t first = down->first[r], end = first + down->len[r];
        for (; ring->next < end; ring->next++)
            filter_across(ring->rows + (size_t)(ring->next % ring->depth) * ring->row_bytes,
                          from->data + (size_t)ring->next * from_bytes, across, from->channels);
        filter_down(to->data + (size_t)r * ring->row_bytes, ring, first, end - first,
                    down->weight + (size_t)r * (size_t)down->width);
    }
}

static void cut(struct image *to, const struct image *from, int32_t row, int32_t col)
{
    const size_t n = (size_t)to->cols * (size_t)to->channels;

    for (int32_t r = 0; r < to->rows; r++) {
        const size_t at = (size_t)(row + r) * (size_t)from->cols + (size_t)col;
        memcpy(to->data + (size_t)r * n, from->data + at * (size_t)from->channels, n);
    }
}

int image_resize_part(struct image *to, const struct image *from, int32_t rows, int32_t cols,
                      struct image_part part, enum image_filter filter)
{
    const struct kernel *k = &kernels[filter];
    struct taps across = { 0 }, down = { 0 };
    struct ring ring = { 0 };
    struct image made;

    int rc = image_init(&made, part.rows, part.cols, from->channels);
    if (rc < 0)
        return rc;
    if (rows == from->rows && cols == from->cols) {
        cut(&made, from, part.row, part.col);
        *to = made;
        return 0;
    }

    rc = taps_init(&across, from->cols, cols, part.col, part.cols, k);
    if (rc < 0)
        goto out;
    rc = taps_init(&down, from->rows, rows, part.row, part.rows, k);
    if (rc < 0)
        goto out;

    ring.depth = down.width;
    ring.row_bytes = (size_t)part.cols * (size_t)from->channels;
    ring.rows = calloc((size_t)ring.depth, ring.row_bytes);
    ring.sums = calloc(ring.row_bytes, sizeof *ring.sums);
    rc = ring.rows && ring.sums ? 0 : -ENOMEM;
    if (rc == 0)
        resample(&made, from, &across, &down, &ring);

out:
    free(ring.rows);
    free(ring.sums);
    taps_done(&across);
    taps_done(&down);
    if (rc < 0)
        image_done(&made);
    else
        *to = made;
    return rc;
}

int image_resize(struct image *to, const struct image *from, int32_t rows, int32_t cols,
                 enum image_filter filter)
{
    return image_resize_part(to, from, rows, cols, (struct image_part){ 0, 0, rows, cols }, filter);
}
