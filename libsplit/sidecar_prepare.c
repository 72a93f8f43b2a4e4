#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/sidecar.h"

static int32_t clamp(int32_t x, int32_t lo, int32_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* One side when the other goes from `from` to `to`. */
static int64_t in_proportion(int32_t side, int32_t to, int32_t from)
{
    return llrint((double)side * to / from);
}

/* The shorter side to short_side, then the centre, in one step; a picture that would not
 * cover the window grows until it does. */
static int place_crop(const struct sidecar *s, int32_t im_rows, int32_t im_cols, int32_t rows,
                      int32_t cols, struct sidecar_place *place)
{
    const int32_t shorter = im_rows < im_cols ? im_rows : im_cols;
    int64_t want_rows = im_rows, want_cols = im_cols;

    if (s->short_side > 0) {
        want_rows = in_proportion(im_rows, s->short_side, shorter);
        want_cols = in_proportion(im_cols, s->short_side, shorter);
    }
    if (want_rows < rows || want_cols < cols) {
        const bool tall = (int64_t)rows * im_cols > (int64_t)cols * im_rows;
        want_rows = tall ? rows : in_proportion(im_rows, cols, im_cols);
        want_cols = tall ? in_proportion(im_cols, rows, im_rows) : cols;
    }
    if (want_rows > INT32_MAX || want_cols > INT32_MAX)
        return -EINVAL;
    const int32_t r = (int32_t)want_rows, c = (int32_t)want_cols;
    *place = (struct sidecar_place){ r, c, (r - rows) / 2, (c - cols) / 2 };
    return 0;
}

/* As large as it fits, top left. */
static struct sidecar_place place_letterbox(int32_t im_rows, int32_t im_cols, int32_t rows,
                                            int32_t cols)
{
    const double scale = fmin((double)rows / im_rows, (double)cols / im_cols);

    return (struct sidecar_place){ clamp((int32_t)(im_rows * scale), 1, rows),
                                   clamp((int32_t)(im_cols * scale), 1, cols), 0, 0 };
}

/* The place in an input without edges. */
static int place_view(const struct sidecar *s, int32_t im_rows, int32_t im_cols, int32_t rows,
                      int32_t cols, struct sidecar_place *place)
{
    if (s->resize == RESIZE_TO_CROP)
        return place_crop(s, im_rows, im_cols, rows, cols, place);
    *place = s->resize == RESIZE_TO_LETTERBOX ? place_letterbox(im_rows, im_cols, rows, cols)
                                              : (struct sidecar_place){ rows, cols, 0, 0 };
    return 0;
}

int sidecar_place(const struct sidecar *s, int32_t im_rows, int32_t im_cols, int32_t rows,
                  int32_t cols, struct sidecar_place *place)
{
    const int32_t edges = 2 * s->edge;

    if (rows <= edges || cols <= edges)
        return -EINVAL;
    const int rc = place_view(s, im_rows, im_cols, rows - edges, cols - edges, place);
    if (rc < 0)
        return rc;
    place->row -= s->edge;
    place->col -= s->edge;
    return 0;
}

/* The whole picture in its place, the rest filled. */
static int letterbox(const struct sidecar *s, const struct image *im,
                     const struct sidecar_place *place, int32_t rows, int32_t cols,
                     struct image *seen)
{
    struct image fit, made;

    int rc = image_resize(&fit, im, place->rows, place->cols, IMAGE_BILINEAR);
    if (rc < 0)
        return rc;
    rc = image_init(&made, rows, cols, im->channels);
    if (rc < 0)
        goto out;
    const size_t fit_bytes = (size_t)fit.cols * (size_t)im->channels;
    const size_t row_bytes = (size_t)cols * (size_t)im->channels;
    memset(made.data, s->fill, (size_t)rows * row_bytes);
    for (int32_t r = 0; r < fit.rows; r++)
        memcpy(made.data + (size_t)r * row_bytes, fit.data + (size_t)r * fit_bytes, fit_bytes);
    *seen = made;
out:
    image_done(&fit);
    return rc;
}

int sidecar_view(const struct sidecar *s, const struct image *im, int32_t rows, int32_t cols,
                 struct image *seen, struct diag *why)
{
    struct sidecar_place at;

    /* What the network leaves open is not resized. */
    if (rows == 0 && cols == 0)
        return image_resize(seen, im, im->rows, im->cols, IMAGE_BILINEAR);
    rows = rows > 0 ? rows : im->rows;
    cols = cols > 0 ? cols : im->cols;
    if (s->resize == RESIZE_TO_NONE && (im->rows != rows || im->cols != cols))
        return diag(why, -EINVAL,
                    "the picture is %d x %d pixels; the network takes %d x %d and its sidecar "
                    "says resize \"none\"",
                    im->cols, im->rows, cols, rows);

    /* A picture that cannot be placed would take more memory than there is. */
    int rc = place_view(s, im->rows, im->cols, rows, cols, &at) < 0 ? -ENOMEM : 0;
    if (rc == 0 && s->resize == RESIZE_TO_LETTERBOX) {
        rc = letterbox(s, im, &at, rows, cols, seen);
    } else if (rc == 0) {
        const struct image_part part = { at.row, at.col, rows, cols };
        rc = image_resize_part(seen, im, at.rows, at.cols, part, IMAGE_BILINEAR);
    }
    if (rc < 0)
        return diag(why, rc, "out of memory for a picture of %d x %d pixels", cols, rows);
    return 0;
}

/* One pixel of 1 or 3 channels in the network's channels. */
static void convert(uint8_t *to, const uint8_t *from, int32_t channels, enum sidecar_channels as)
{
    const uint8_t red = from[0], green = from[channels / 2], blue = from[channels - 1];

    switch (as) {
    case CHANNELS_RGB:
        to[0] = red, to[1] = green, to[2] = blue;
        break;
    case CHANNELS_BGR:
        to[0] = blue, to[1] = green, to[2] = red;
        break;
    case CHANNELS_GRAY:
    case CHANNELS_Y:
        to[0] = image_luma(red, green, blue);
        break;
    }
}

/* `seen` with its border repeated `edge` times, in the network's channels. */
static void spread(uint8_t *to, const struct sidecar *s, const struct image *seen, int32_t rows,
                   int32_t cols)
{
    for (int32_t r = 0; r < rows; r++) {
        const int32_t from_row = clamp(r - s->edge, 0, seen->rows - 1);
        const uint8_t *row =
            seen->data + (size_t)from_row * (size_t)seen->cols * (size_t)seen->channels;
        for (int32_t c = 0; c < cols; c++, to += s->pixels.channels) {
            const int32_t from_col = clamp(c - s->edge, 0, seen->cols - 1);
            convert(to, row + (size_t)from_col * (size_t)seen->channels, seen->channels,
                    s->channels);
        }
    }
}

int sidecar_prepare(const struct sidecar *s, const struct image *im, int32_t *rows, int32_t *cols,
                    uint8_t **pixels, struct diag *why)
{
    const int32_t edges = 2 * s->edge;
    struct image seen = { 0 };

    if ((*rows > 0 && *rows <= edges) || (*cols > 0 && *cols <= edges))
        return diag(why, -EINVAL,
                    "the network takes %d x %d pixels, but the sidecar's edge of %d leaves none "
                    "of the picture",
                    *cols, *rows, s->edge);
    int rc = sidecar_view(s, im, *rows > 0 ? *rows - edges : 0, *cols > 0 ? *cols - edges : 0,
                          &seen, why);
    if (rc < 0)
        return rc;

    const int32_t made_rows = seen.rows + edges, made_cols = seen.cols + edges;
    uint8_t *made = calloc((size_t)made_rows * (size_t)made_cols, (size_t)s->pixels.channels);
    if (made) {
        spread(made, s, &seen, made_rows, made_cols);
        *rows = made_rows;
        *cols = made_cols;
        *pixels = made;
    } else {
        rc = diag(why, -ENOMEM, "out of memory for a picture of %d x %d pixels", made_cols,
                  made_rows);
    }
    image_done(&seen);
    return rc;
}
