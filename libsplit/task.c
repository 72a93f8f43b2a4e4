#include "libsplit/task.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "libsplit/answer.h"
#include "libsplit/shape.h"

/* A strict order for any floats: NaN comes after everything. */
static bool before(float a, float b) { return isnan(b) ? !isnan(a) : a > b; }

const char *task_label(const struct sidecar *s, int64_t index)
{
    return index >= 0 && index < s->nlabels ? s->labels[index] : "";
}

int32_t task_top(const struct sidecar *s, const float *scores, int32_t n, int32_t k,
                 struct task_class *top)
{
    int32_t found = 0;

    for (int32_t i = 0; i < n && k > 0; i++) {
        if (found == k && !before(scores[i], top[k - 1].score))
            continue;
        int32_t at = found < k ? found++ : k - 1;
        for (; at > 0 && before(scores[i], top[at - 1].score); at--)
            top[at] = top[at - 1];
        const int32_t index = i - s->class_offset;
        top[at] = (struct task_class){ index, scores[i], task_label(s, index) };
    }
    return found;
}

/* Planes one after the other -> pixels. */
static void interleave(const struct sidecar *s, const float *values, struct image *im)
{
    const size_t plane = (size_t)im->rows * (size_t)im->cols;
    const size_t channels = (size_t)im->channels;

    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < plane; i++)
            im->data[i * channels + c] =
                answer_pixel(values[c * plane + i], s->output_scale, s->output_offset);
}

/* Full-range YCbCr as in JFIF, both ways. */
static void rgb_to_ycc(uint8_t *p)
{
    const float r = p[0], g = p[1], b = p[2];

    p[0] = image_luma(p[0], p[1], p[2]);
    p[1] = answer_byte(128 - 0.168736f * r - 0.331264f * g + 0.5f * b);
    p[2] = answer_byte(128 + 0.5f * r - 0.418688f * g - 0.081312f * b);
}

static void ycc_to_rgb(uint8_t *p)
{
    const float y = p[0], cb = (float)p[1] - 128, cr = (float)p[2] - 128;

    p[0] = answer_byte(y + 1.402f * cr);
    p[1] = answer_byte(y - 0.344136f * cb - 0.714136f * cr);
    p[2] = answer_byte(y + 1.772f * cb);
}

static void bgr_to_rgb(uint8_t *p)
{
    const uint8_t blue = p[0];

    p[0] = p[2];
    p[2] = blue;
}

static void each_pixel(struct image *im, void (*convert)(uint8_t *p))
{
    const size_t n = (size_t)im->rows * (size_t)im->cols;

    for (size_t i = 0; i < n; i++)
        convert(im->data + 3 * i);
}

/* The colours of `source`, enlarged, under the brightness of `luma`. */
static int colourise(struct image *luma, const struct image *source)
{
    struct image colour = { 0 }, ycc = { 0 };

    /* A copy to convert: the same size resizes to the same pixels. */
    int rc = image_resize(&ycc, source, source->rows, source->cols, IMAGE_BICUBIC);
    if (rc < 0)
        return rc;
    each_pixel(&ycc, rgb_to_ycc);
    rc = image_resize(&colour, &ycc, luma->rows, luma->cols, IMAGE_BICUBIC);
    image_done(&ycc);
    if (rc < 0)
        return rc;

    const size_t n = (size_t)luma->rows * (size_t)luma->cols;
    for (size_t i = 0; i < n; i++)
        colour.data[3 * i] = luma->data[i];
    each_pixel(&colour, ycc_to_rgb);
    image_done(luma);
    *luma = colour;
    return 0;
}

/* Reads rows, columns and channels out of 1 x ... x channels x rows x cols. */
static bool picture_shape(int32_t rank, const int32_t *dim, int32_t *rows, int32_t *cols,
                          int32_t *channels)
{
    if (rank < 3)
        return false;
    for (int32_t i = 0; i < rank - 3; i++)
        if (dim[i] != 1)
            return false;
    *channels = dim[rank - 3];
    *rows = dim[rank - 2];
    *cols = dim[rank - 1];
    return (*channels == 1 || *channels == 3) && *rows > 0 && *cols > 0;
}

int task_picture(const struct sidecar *s, const struct shape *shape, const float *values,
                 const uint8_t *bytes, const struct image *source, struct image *im,
                 struct diag *why)
{
    int32_t rows, cols, channels;
    struct image made = { 0 };

    if (!picture_shape(shape->rank, shape->dim, &rows, &cols, &channels)) {
        char text[SHAPE_TEXT_BYTES];
        return diag(why, -EINVAL,
                    "the network answers with a tensor of %s; a picture is 1 x 1 or 3 channels x "
                    "rows x columns",
                    shape_text(shape, text));
    }
    int rc = image_init(&made, rows, cols, channels);
    if (rc < 0)
        goto memory;
    if (bytes)
        memcpy(made.data, bytes, (size_t)rows * (size_t)cols * (size_t)channels);
    else
        interleave(s, values, &made);
    if (channels == 3 && s->channels == CHANNELS_BGR)
        each_pixel(&made, bgr_to_rgb);
    if (channels == 1 && s->channels == CHANNELS_Y && source && source->channels == 3) {
        rc = colourise(&made, source);
        if (rc < 0)
            goto memory;
    }
    *im = made;
    return 0;

memory:
    image_done(&made);
    return diag(why, rc, "out of memory for a picture of %d x %d pixels", cols, rows);
}
