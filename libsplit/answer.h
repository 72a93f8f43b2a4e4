/* libsplit/answer.h - outputs made small where they are computed, for those who want no more than
 * what the task makes of them.
 *
 * Every answer passes the coordinator's link: 1080p enlarged by 3 is 224 MB of floats.  The task
 * looks at less, and each node can say it of its own part, by the very functions that the task
 * itself would use (libsplit/task.h), so that the result is the same to the last bit:
 *
 *   ANSWER_PIXELS      task image: the bytes of the picture, 1 for every value
 *   ANSWER_CLASSES     task segment: the class of the largest value, 1 byte for every pixel
 *   ANSWER_MASK        the same of a single mask, 0 or 1
 *   ANSWER_CANDIDATES  task detect: rows (cells, anchors) whose best class reaches the least score
 *
 * The messages are a mode byte, ANSWER_MODE + the form, and
 *
 *   bytes        rows, columns, channels, the last running fastest
 *   candidates   n u32, then n times: row u32, counted from the box's first and rising, and the
 *                row's values as f32; little-endian
 *
 * Pure functions on the caller's buffers. */
#ifndef LIBSPLIT_ANSWER_H
#define LIBSPLIT_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/graph.h"
#include "libsplit/sidecar.h"
#include "tiling/plan.h"

enum answer_form {
    ANSWER_VALUES, /* as they are: a message of quant/codec.h */
    ANSWER_PIXELS,
    ANSWER_CLASSES,
    ANSWER_MASK,
    ANSWER_CANDIDATES,
    ANSWER_FORMS
};

enum { ANSWER_MODE = 64 }; /* above the modes of quant/codec.h */

/* How the score of a row follows from its values. */
struct answer_score {
    int32_t object;  /* the value that the class's score is multiplied by, -1: none */
    int32_t classes; /* the first class's value; all behind it are classes */
    int32_t offset;  /* classes that are none: sidecar.class_offset */
    enum score_activation activation;
};

/* What becomes of one output. */
struct answer_rule {
    enum answer_form form;
    float scale, shift; /* ANSWER_PIXELS: byte = value * scale + shift, rounded and clamped */
    float least;        /* ANSWER_MASK: value of class 1; ANSWER_CANDIDATES: score */
    struct answer_score score;
};

/* Fills of[0..g->noutputs): what is known to do for the sidecar's task, else ANSWER_VALUES. */
void answer_choose(const struct graph *g, const struct sidecar *s, const struct plan *p,
                   struct answer_rule *of);

/* Marks whole[0..g->ntensors): the outputs that answer_choose() finds a form for only where nodes
 * hold whole pixels or rows of them; for plan_options.whole_pixels. */
void answer_whole_pixels(const struct graph *g, const struct sidecar *s, bool *whole);

/* May a message hold `part` of a tensor of `dim` in this form?  Forms that look at whole pixels or
 * rows need all of their values, and a message from elsewhere may say anything. */
bool answer_fits(const struct answer_rule *a, const int32_t dim[AXES], int32_t batch,
                 struct box part);

/* Encodes `part`, which answer_fits(), of `values`, stored as `stored` (dense).  `to` has room for
 * codec_bound().  Returns the length, or 0 where the values themselves take less. */
size_t answer_encode(const struct answer_rule *a, const float *values, struct box stored,
                     struct box part, uint8_t *to);

/* Decodes a message of any bytes into its place in the whole output: `bytes` of answer_bytes(),
 * [rows][columns][channels], of classes [rows][columns]; or `values`, in which rows of `part` that
 * are no candidates become NaN.  The other may be NULL.  `a->form` is not ANSWER_VALUES and `part`
 * answer_fits().  Returns 0, or -EBADMSG: another mode, a length that does not fit, a row out of
 * order. */
int answer_decode(const struct answer_rule *a, const uint8_t *msg, size_t len,
                  const int32_t dim[AXES], struct box part, float *values, uint8_t *bytes);

/* The bytes of an output of `dim`, 0 where it stays values. */
size_t answer_bytes(const struct answer_rule *a, const int32_t dim[AXES]);

/* ---- What the task makes of one value, pixel or row. */

/* The nearest byte, halves away from zero; NaN is 0. */
static inline uint8_t answer_byte(float x)
{
    if (!(x > 0))
        return 0;
    if (x >= 255)
        return 255;
    const int32_t below = (int32_t)x;
    return (uint8_t)(below + (x - (float)below >= 0.5F));
}

static inline uint8_t answer_pixel(float value, float scale, float shift)
{
    return answer_byte(value * scale + shift);
}

/* The index of the largest of `n` values that lie `step` apart; the lowest of equal ones, 0 if all
 * are NaN or minus infinity. */
uint8_t answer_class(const float *values, size_t step, int32_t n);

/* The best of `n` classes whose values lie `step` apart: returns its score, after the activation,
 * and its index after class_offset, below 0 if there is none. */
float answer_best(const struct answer_score *s, const float *values, int64_t step, int32_t n,
                  int32_t *index);

#endif
