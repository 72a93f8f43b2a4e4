#include "libsplit/task_detect.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/answer.h"

/* ---- cells */

/* The file gives a few digits of a stride: what exceeds the cells by less than a thousandth of one
 * is no other cell. */
static int32_t cells(int32_t extent, float stride)
{
    const double n = ceil((double)extent / (double)stride - 1e-3);
    return n < 1 ? 1 : (int32_t)n;
}

int32_t decode_rows(const struct decode *d, int32_t level)
{
    return cells(d->answer->rows, d->how->stride[level]);
}

int32_t decode_cols(const struct decode *d, int32_t level)
{
    return cells(d->answer->cols, d->how->stride[level]);
}

int64_t decode_cells(const struct decode *d)
{
    int64_t n = 0;

    for (int32_t i = 0; i < d->how->nstrides; i++) {
        const int32_t anchors = d->how->nanchors[i] > 0 ? d->how->nanchors[i] : 1;
        n += (int64_t)decode_rows(d, i) * decode_cols(d, i) * anchors;
    }
    return n;
}

/* ---- shapes */

int decode_mismatch(const struct decode *d, int32_t i, const char *expected)
{
    char text[SHAPE_TEXT_BYTES];

    return diag(d->why, -EINVAL,
                "output \"%.64s\" is %s; the sidecar's decoder expects %s for an input of %d x %d "
                "pixels",
                d->output[i]->name, shape_text(&d->output[i]->shape, text), expected,
                d->answer->cols, d->answer->rows);
}

int decode_matrix(const struct decode *d, int32_t i, int64_t rows, int32_t least, int32_t *nrows,
                  int32_t *len)
{
    const struct shape *s = &d->output[i]->shape;
    bool fits = s->rank >= 2;
    char expected[80];

    for (int32_t a = 0; fits && a < s->rank - 2; a++)
        fits = s->dim[a] == 1;
    if (fits && (rows < 0 || s->dim[s->rank - 2] == rows) && s->dim[s->rank - 1] >= least) {
        *nrows = s->dim[s->rank - 2];
        *len = s->dim[s->rank - 1];
        return 0;
    }
    if (rows >= 0)
        snprintf(expected, sizeof expected, "1x%lldx%d or more", (long long)rows, least);
    else
        snprintf(expected, sizeof expected, "1 x any x %d or more", least);
    return decode_mismatch(d, i, expected);
}

/* ---- candidates */

static float clamp(double x, int32_t end) { return (float)(x < 0 ? 0 : x > end ? end : x); }

float decode_class(const struct decode *d, const float *values, int64_t step, int32_t n,
                   int32_t *index)
{
    const struct answer_score s = { .offset = d->answer->sidecar->class_offset,
                                    .activation = d->how->activation };

    return answer_best(&s, values, step, n, index);
}

static int add(struct decode *d, struct detection found)
{
    if (d->n == d->room) {
        const int32_t room = d->room > 0 ? 2 * d->room : 64;
        struct detection *more =
            d->room < INT32_MAX / 2 ? realloc(d->found, (size_t)room * sizeof *more) : NULL;
        if (!more)
            return diag(d->why, -ENOMEM, "out of memory for %d boxes", d->n);
        d->found = more;
        d->room = room;
    }
    d->found[d->n++] = found;
    return 0;
}

int decode_corners(struct decode *d, int32_t index, float score, float row, float col,
                   float row_end, float col_end)
{
    /* Written so that NaN is left out. */
    if (index < 0 || !(score >= d->how->score) || !isfinite(row) || !isfinite(col) ||
        !isfinite(row_end) || !isfinite(col_end))
        return 0;
    if (d->clips) {
        row = clamp((double)row, d->answer->rows);
        col = clamp((double)col, d->answer->cols);
        row_end = clamp((double)row_end, d->answer->rows);
        col_end = clamp((double)col_end, d->answer->cols);
    }
    return add(d, (struct detection){ .row = row,
                                      .col = col,
                                      .row_end = row_end,
                                      .col_end = col_end,
                                      .score = score,
                                      .index = index,
                                      .label = task_label(d->answer->sidecar, index) });
}

int decode_centre(struct decode *d, int32_t index, float score, float row, float col, float rows,
                  float cols)
{
    return decode_corners(d, index, score, row - rows / 2, col - cols / 2, row + rows / 2,
                          col + cols / 2);
}

/* ---- from the network's input to the picture */

/* Boxes in pixels of the picture, cut at its edges; what lies outside is dropped.  Returns how
 * many are left. */
static int32_t to_picture(const struct task_answer *a, const struct sidecar_place *p,
                          struct detection *found, int32_t n)
{
    const int32_t rows = a->picture_rows, cols = a->picture_cols;
    const double row_scale = (double)rows / p->rows, col_scale = (double)cols / p->cols;
    int32_t left = 0;

    for (int32_t i = 0; i < n; i++) {
        struct detection d = found[i];
        d.row = clamp(((double)d.row + p->row) * row_scale, rows);
        d.col = clamp(((double)d.col + p->col) * col_scale, cols);
        d.row_end = clamp(((double)d.row_end + p->row) * row_scale, rows);
        d.col_end = clamp(((double)d.col_end + p->col) * col_scale, cols);
        if (d.row < d.row_end && d.col < d.col_end)
            found[left++] = d;
    }
    return left;
}

/* ---- the task */

static const struct {
    int (*run)(struct decode *d);
    int32_t outputs;    /* that it reads... */
    int32_t per_stride; /* ...and how many more for every stride */
    bool clips;
} decoders[] = {
    [DECODER_YOLOX] = { decode_yolox, 1, 0, false },
    [DECODER_YOLOV5] = { decode_yolov5, 1, 0, false },
    [DECODER_YOLOV8] = { decode_yolov8, 1, 0, false },
    [DECODER_NANODET] = { decode_nanodet, 0, 2, true },
    [DECODER_SSD] = { decode_ssd, 2, 0, true },
    [DECODER_ULTRAFACE] = { decode_ultraface, 2, 0, false },
};

static int32_t wanted_outputs(const struct sidecar_detect *how)
{
    if (how->decoder == DECODER_YOLOV5 && how->nanchors[0] > 0)
        return how->nstrides;
    return decoders[how->decoder].outputs + decoders[how->decoder].per_stride * how->nstrides;
}

static const struct task_tensor *find_output(const struct task_answer *a, const char *name)
{
    for (int32_t i = 0; i < a->ntensors; i++)
        if (strcmp(a->tensor[i].name, name) == 0)
            return &a->tensor[i];
    return NULL;
}

/* The outputs in the decoder's order. */
static int choose_outputs(struct decode *d)
{
    const struct sidecar_detect *how = d->how;
    const int32_t named = how->noutputs, found = named > 0 ? named : d->answer->ntensors;

    d->noutputs = wanted_outputs(how);
    if (found < d->noutputs || (named > 0 && found > d->noutputs))
        return diag(d->why, -EINVAL, "the sidecar's decoder reads %d outputs, %s %d", d->noutputs,
                    named > 0 ? "its list has" : "the network has", found);
    for (int32_t i = 0; i < d->noutputs; i++) {
        d->output[i] = named > 0 ? find_output(d->answer, how->output[i]) : &d->answer->tensor[i];
        if (!d->output[i])
            return diag(d->why, -EINVAL, "detect.outputs: the network has no output \"%.64s\"",
                        how->output[i]);
    }
    return 0;
}

int task_detect(const struct task_answer *a, struct detection **found, int32_t *n, struct diag *why)
{
    const struct sidecar_detect *how = &a->sidecar->detect;
    struct decode d = {
        .answer = a, .how = how, .clips = decoders[how->decoder].clips, .why = why
    };
    struct sidecar_place place = { a->rows, a->cols, 0, 0 };

    if (a->sidecar->task != TASK_DETECT)
        return diag(why, -EINVAL, "the model's task is not to detect");
    if (a->rows < 1 || a->cols < 1)
        return diag(why, -EINVAL, "boxes belong to pictures; the network's input is none");
    if (a->picture_rows > 0 &&
        sidecar_place(a->sidecar, a->picture_rows, a->picture_cols, a->rows, a->cols, &place) < 0)
        return diag(why, -EINVAL, "the picture has no place in an input of %d x %d pixels", a->cols,
                    a->rows);
    int rc = choose_outputs(&d);
    if (rc == 0)
        rc = decoders[how->decoder].run(&d);
    if (rc < 0) {
        free(d.found);
        return rc;
    }
    struct task_answer shown = *a;
    if (a->picture_rows == 0) {
        shown.picture_rows = a->rows;
        shown.picture_cols = a->cols;
    }
    *n = to_picture(&shown, &place, d.found, nms(d.found, d.n, how->iou, how->limit));
    *found = d.found;
    return 0;
}
