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

/* `n` pixels of 1 or 3 channels in the network's channels. */
static void convert(uint8_t *restrict to, const uint8_t *restrict from, int32_t n, int32_t channels,
                    enum sidecar_channels as)
{
    const int32_t red = as == CHANNELS_BGR ? channels - 1 : 0;
    const int32_t green = channels / 2, blue = channels - 1 - red;

    if (as == CHANNELS_GRAY || as == CHANNELS_Y) {
        for (int32_t i = 0; i < n; i++, from += channels)
            to[i] = image_luma(from[red], from[green], from[blue]);
    } else if (channels == 3 && as == CHANNELS_RGB) {
        memcpy(to, from, (size_t)n * 3);
    } else {
        for (int32_t i = 0; i < n; i++, from += channels, to += 3) {
            to[0] = from[red];
            to[1] = from[green];
            to[2] = from[blue];
        }
    }
}

/* Repeats a pixel. */
static void repeat(uint8_t *to, const uint8_t *pixel, int32_t n, int32_t channels)
{
    for (int32_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * (size_t)channels, pixel, (size_t)channels);
}

/* `seen` with its border repeated `edge` times, in the network's channels. */
static void spread(uint8_t *to, const struct sidecar *s, const struct image *seen, int32_t rows,
                   int32_t cols)
{
    const int32_t channels = s->pixels.channels;
    const size_t edge = (size_t)s->edge * (size_t)channels;
    const size_t inside = (size_t)seen->cols * (size_t)channels;

    for (int32_t r = 0; r < rows; r++, to += (size_t)cols * (size_t)channels) {
        const int32_t from_row = clamp(r - s->edge, 0, seen->rows - 1);
        const uint8_t *row =
            seen->data + (size_t)from_row * (size_t)seen->cols * (size_t)seen->channels;
        convert(to + edge, row, seen->cols, seen->channels, s->channels);
        repeat(to, to + edge, s->edge, channels);
        repeat(to + edge + inside, to + edge + inside - channels, s->edge, channels);
    }
}

/* Does the network look at the picture as it is?  `rows` and `cols` as for sidecar_view(). */
static bool is_seen_whole(const struct sidecar *s, const struct image *im, int32_t rows,
                          int32_t cols)
{
    struct sidecar_place at;

    rows = rows > 0 ? rows : im->rows;
    cols = cols > 0 ? cols : im->cols;
    return rows == im->rows && cols == im->cols &&
           place_view(s, im->rows, im->cols, rows, cols, &at) == 0 && at.rows == rows &&
           at.cols == cols;
}

int sidecar_prepare(const struct sidecar *s, const struct image *im, int32_t *rows, int32_t *cols,
                    uint8_t **pixels, struct diag *why)
{
    const int32_t edges = 2 * s->edge;
    struct image made_view = { 0 };

    if ((*rows > 0 && *rows <= edges) || (*cols > 0 && *cols <= edges))
        return diag(why, -EINVAL,
                    "the network takes %d x %d pixels, but the sidecar's edge of %d leaves none "
                    "of the picture",
                    *cols, *rows, s->edge);
    const int32_t view_rows = *rows > 0 ? *rows - edges : 0;
    const int32_t view_cols = *cols > 0 ? *cols - edges : 0;
    const bool whole = is_seen_whole(s, im, view_rows, view_cols);
    int rc = whole ? 0 : sidecar_view(s, im, view_rows, view_cols, &made_view, why);
    if (rc < 0)
        return rc;

    const struct image *seen = whole ? im : &made_view;
    const int32_t made_rows = seen->rows + edges, made_cols = seen->cols + edges;
    uint8_t *made = malloc((size_t)made_rows * (size_t)made_cols * (size_t)s->pixels.channels);
    if (made) {
        spread(made, s, seen, made_rows, made_cols);
        *rows = made_rows;
        *cols = made_cols;
        *pixels = made;
    } else {
        rc = diag(why, -ENOMEM, "out of memory for a picture of %d x %d pixels", made_cols,
                  made_rows);
    }
    image_done(&made_view);
    return rc;
}
