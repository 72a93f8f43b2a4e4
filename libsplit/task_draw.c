#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "libsplit/draw.h"
#include "libsplit/task.h"

enum {
    TOP = 3,               /* classes written on a picture */
    CAPTION_BYTES = 96,    /* longer labels are cut */
    PIXELS_PER_SCALE = 240 /* of the shorter side */
};

static int32_t shorter_side(const struct image *im)
{
    return im->rows < im->cols ? im->rows : im->cols;
}

/* Text stays readable when a large picture is looked at as a whole. */
static int32_t text_scale(const struct image *im)
{
    const int32_t scale = shorter_side(im) / PIXELS_PER_SCALE;
    return scale > 1 ? scale : 1;
}

static void caption(char text[CAPTION_BYTES], const char *label, int32_t index, float score)
{
    if (label[0] != '\0')
        snprintf(text, CAPTION_BYTES, "%.80s %.2f", label, (double)score);
    else
        snprintf(text, CAPTION_BYTES, "%d %.2f", index, (double)score);
}

/* Moves a strip of text into the picture as far as that goes. */
static int32_t inside(int32_t at, int32_t len, int32_t end)
{
    if (at + len > end)
        at = end - len;
    return at > 0 ? at : 0;
}

static void draw_detection(struct image *im, const struct detection *d)
{
    const int32_t scale = text_scale(im), height = DRAW_TEXT_ROWS * scale;
    const int32_t row = (int32_t)lroundf(d->row), col = (int32_t)lroundf(d->col);
    const struct colour c = draw_colour(d->index);
    char text[CAPTION_BYTES];

    draw_frame(im, row, col, (int32_t)lroundf(d->row_end), (int32_t)lroundf(d->col_end), 1 + scale,
               c);
    caption(text, d->label, d->index, d->score);
    const int32_t width = DRAW_TEXT_COLS * scale * draw_text_length(text);
    draw_text(im, inside(row >= height ? row - height : row, height, im->rows),
              inside(col, width, im->cols), scale, text, c);
}

static int draw_detections(const struct task_answer *a, struct image *im, struct diag *why)
{
    struct detection *found;
    int32_t n;

    const int rc = task_detect(a, &found, &n, why);
    if (rc < 0)
        return rc;
    /* The best last, over the others. */
    for (int32_t i = n - 1; i >= 0; i--)
        draw_detection(im, &found[i]);
    free(found);
    return 0;
}

/* Half picture, half colour. */
static uint8_t mix(uint8_t a, uint8_t b) { return (uint8_t)((a + b + 1) / 2); }

static int paint_classes(const struct task_answer *a, int32_t output, struct image *im,
                         struct diag *why)
{
    struct image map;

    const int rc = task_segment(a, output, &map, why);
    if (rc < 0)
        return rc;
    const size_t n = (size_t)map.rows * (size_t)map.cols;
    for (size_t i = 0; i < n; i++) {
        if (map.data[i] == TASK_VOID || map.data[i] == a->sidecar->background)
            continue;
        const struct colour c = draw_colour(map.data[i]);
        uint8_t *pixel = im->data + 3 * i;
        pixel[0] = mix(pixel[0], c.red);
        pixel[1] = mix(pixel[1], c.green);
        pixel[2] = mix(pixel[2], c.blue);
    }
    image_done(&map);
    return 0;
}

static int write_classes(const struct task_answer *a, int32_t output, struct image *im,
                         struct diag *why)
{
    const struct task_tensor *t = &a->tensor[output];
    const int64_t n = shape_values(&t->shape);
    const int32_t scale = text_scale(im);
    struct task_class top[TOP];
    char text[CAPTION_BYTES];

    if (n > INT32_MAX)
        return diag(why, -EINVAL, "output \"%.64s\" is too large for a list of classes", t->name);
    const int32_t found = task_top(a->sidecar, t->values, (int32_t)n, TOP, top);
    for (int32_t i = 0; i < found; i++) {
        caption(text, top[i].label, top[i].index, top[i].score);
        draw_text(im, i * DRAW_TEXT_ROWS * scale, 0, scale, text, draw_colour(top[i].index));
    }
    return 0;
}

/* The picture that an answer of the image task is. */
static int draw_image(const struct task_answer *a, int32_t output, const struct image *picture,
                      struct image *im, struct diag *why)
{
    const struct sidecar *s = a->sidecar;
    const struct task_tensor *t = &a->tensor[output];
    const uint8_t *bytes = task_bytes(a, output);
    const int32_t edges = 2 * s->edge;
    const bool needs_colours = s->channels == CHANNELS_Y && picture;
    struct image seen = { 0 };
    int rc = 0;

    if (needs_colours)
        rc = sidecar_view(s, picture, a->rows - edges, a->cols - edges, &seen, why);
    if (rc == 0)
        rc = task_picture(s, &t->shape, t->values, bytes, needs_colours ? &seen : NULL, im, why);
    image_done(&seen);
    return rc;
}

/* The extents of the map that paint_classes() gets: without a picture those of the answer. */
static int blank(const struct task_answer *a, int32_t output, struct image *im)
{
    const struct shape *s = &a->tensor[output].shape;

    if (a->sidecar->task == TASK_SEGMENT && s->rank >= 3)
        return image_init(im, s->dim[s->rank - 2], s->dim[s->rank - 1], 3);
    return image_init(im, a->rows > 0 ? a->rows : 1, a->cols > 0 ? a->cols : 1, 3);
}

static int draw_over(const struct task_answer *a, int32_t output, struct image *im,
                     struct diag *why)
{
    switch (a->sidecar->task) {
    case TASK_CLASSIFY:
        return write_classes(a, output, im, why);
    case TASK_DETECT:
        return draw_detections(a, im, why);
    case TASK_SEGMENT:
        return paint_classes(a, output, im, why);
    case TASK_RAW:
    case TASK_IMAGE:
        break;
    }
    return diag(why, -EINVAL, "the model's task is raw: its answer is no picture");
}

int task_draw(const struct task_answer *a, int32_t output, const struct image *picture,
              struct image *im, struct diag *why)
{
    struct task_answer shown = *a;
    struct image made = { 0 };

    if (a->sidecar->task == TASK_IMAGE)
        return draw_image(a, output, picture, im, why);
    /* What is drawn must fit what it is drawn on. */
    shown.picture_rows = picture ? picture->rows : 0;
    shown.picture_cols = picture ? picture->cols : 0;
    int rc = picture ? draw_copy(&made, picture) : blank(a, output, &made);
    if (rc < 0)
        return diag(why, rc, "out of memory for the picture");
    rc = draw_over(&shown, output, &made, why);
    if (rc < 0)
        image_done(&made);
    else
        *im = made;
    return rc;
}
