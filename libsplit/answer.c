#include "libsplit/answer.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "libsplit/runs.h"
#include "quant/codec.h"

enum { COUNT_BYTES = 4, ROW_BYTES = 4, MOST_CLASSES = 255 };

/* ---- what the task makes of it */

uint8_t answer_class(const float *values, size_t step, int32_t n)
{
    float largest = -INFINITY;
    uint8_t index = 0;

    for (int32_t c = 0; c < n; c++) {
        const float v = values[(size_t)c * step];
        if (v > largest) {
            largest = v;
            index = (uint8_t)c;
        }
    }
    return index;
}

/* What softmax makes of the largest of `n` values. */
static float softmax_of_largest(const float *values, int64_t step, int32_t n, float largest)
{
    float sum = 0;

    for (int32_t i = 0; i < n; i++)
        sum += expf(values[i * step] - largest);
    return 1 / sum;
}

float answer_best(const struct answer_score *s, const float *values, int64_t step, int32_t n,
                  int32_t *index)
{
    float largest = -INFINITY;

    *index = -1;
    for (int32_t i = s->offset > 0 ? s->offset : 0; i < n; i++)
        if (values[i * step] > largest) {
            largest = values[i * step];
            *index = i - s->offset;
        }
    switch (s->activation) {
    case SCORE_SIGMOID:
        return 1 / (1 + expf(-largest));
    case SCORE_SOFTMAX:
        return softmax_of_largest(values, step, n, largest);
    case SCORE_NONE:
        break;
    }
    return largest;
}

static bool is_candidate(const struct answer_rule *a, const float *row, int32_t n)
{
    int32_t index;
    float score = answer_best(&a->score, row + a->score.classes, 1, n - a->score.classes, &index);

    if (a->score.object >= 0)
        score = row[a->score.object] * score;
    return score >= a->least; /* not if it is NaN */
}

/* ---- which form */

static bool same_axis(const struct shape *s, enum axis a, int32_t axis)
{
    return axis >= 0 && s->axis[a] == axis;
}

/* Are the last three axes channels, rows and columns, and all others 1? */
static bool is_picture(const struct shape *s)
{
    return shape_batch(s) == 1 && same_axis(s, CHAN, s->rank - 3) &&
           same_axis(s, ROW, s->rank - 2) && same_axis(s, COL, s->rank - 1);
}

/* Are the last two axes rows of values, and all others 1? */
static bool is_list(const struct shape *s)
{
    return shape_batch(s) == 1 && shape_len(s, COL) == 1 && same_axis(s, ROW, s->rank - 2) &&
           same_axis(s, CHAN, s->rank - 1);
}

static struct answer_rule for_segment(const struct sidecar *s, const struct shape *shape)
{
    const int32_t classes = shape_len(shape, CHAN);
    struct answer_rule a = { .form = ANSWER_VALUES };

    if (is_picture(shape) && classes == 1)
        a = (struct answer_rule){ .form = ANSWER_MASK, .least = s->mask_threshold };
    else if (is_picture(shape) && classes <= MOST_CLASSES)
        a.form = ANSWER_CLASSES;
    return a;
}

static struct answer_rule for_image(const struct sidecar *s, const struct shape *shape)
{
    const int32_t channels = shape_len(shape, CHAN);
    struct answer_rule a = { .form = ANSWER_VALUES };

    if (is_picture(shape) && (channels == 1 || channels == 3))
        a = (struct answer_rule){ .form = ANSWER_PIXELS,
                                  .scale = s->output_scale,
                                  .shift = s->output_offset };
    return a;
}

/* The place of an output in the decoder's order, -1: none. */
static int32_t place_of(const struct sidecar_detect *how, const char *name, int32_t output)
{
    if (how->noutputs == 0)
        return output;
    for (int32_t i = 0; i < how->noutputs; i++)
        if (strcmp(how->output[i], name) == 0)
            return i;
    return -1;
}

/* As libsplit/task_detect.h says of the decoders.  Those whose cells are no rows of one output, and
 * outputs without classes, stay as they are. */
static struct answer_rule for_detect(const struct sidecar *s, const struct port *port,
                                     int32_t output)
{
    const struct sidecar_detect *how = &s->detect;
    const int32_t place = place_of(how, port->name, output);
    struct answer_rule a = { .form = ANSWER_VALUES };

    if (!is_list(&port->shape) || place < 0)
        return a;
    a.least = how->score;
    a.score = (struct answer_score){ -1, 0, s->class_offset, how->activation };
    const bool is_decoded = how->decoder == DECODER_YOLOV5 && how->nanchors[0] == 0;
    int32_t lists = 0; /* outputs, in the decoder's order, whose rows have classes */
    switch (how->decoder) {
    case DECODER_YOLOX:
        lists = 1;
        break;
    case DECODER_YOLOV5:
        lists = is_decoded ? 1 : 0;
        break;
    case DECODER_NANODET:
        lists = how->nstrides;
        break;
    case DECODER_SSD:
    case DECODER_ULTRAFACE:
        lists = 1;
        break;
    case DECODER_YOLOV8:
        break;
    }
    if (how->decoder == DECODER_YOLOX || is_decoded) {
        a.score.object = 4; /* behind the four values of a box */
        a.score.classes = 5;
    }
    if (place < lists)
        a.form = ANSWER_CANDIDATES;
    return a;
}

static struct answer_rule for_task(const struct sidecar *s, const struct port *port, int32_t output)
{
    switch (s->task) {
    case TASK_IMAGE:
        return for_image(s, &port->shape);
    case TASK_SEGMENT:
        return for_segment(s, &port->shape);
    case TASK_DETECT:
        return for_detect(s, port, output);
    case TASK_RAW:
    case TASK_CLASSIFY:
        break;
    }
    return (struct answer_rule){ .form = ANSWER_VALUES };
}

/* Does every message of the tensor to the host fit?  (A tensor under two names has to be fit for
 * both.) */
static bool travels_so(const struct graph *g, const struct plan *p, int32_t output,
                       const struct answer_rule *a)
{
    const int32_t tensor = g->output[output].tensor;
    const struct tensor *t = &g->tensor[tensor];

    for (int32_t i = 0; i < g->noutputs; i++)
        if (i != output && g->output[i].tensor == tensor)
            return false;
    for (int32_t i = 0; i < p->ntransfers; i++) {
        const struct plan_transfer *m = &p->transfer[i];
        if (m->tensor == tensor && m->to == p->nodes && !answer_fits(a, t->dim, t->batch, m->box))
            return false;
    }
    return t->op != GEO_NO_OP; /* what is an input as well, the host has */
}

void answer_choose(const struct graph *g, const struct sidecar *s, const struct plan *p,
                   struct answer_rule *of)
{
    for (int32_t i = 0; i < g->noutputs; i++) {
        of[i] = for_task(s, &g->output[i], i);
        if (!travels_so(g, p, i, &of[i]))
            of[i] = (struct answer_rule){ .form = ANSWER_VALUES };
    }
}

void answer_whole_pixels(const struct graph *g, const struct sidecar *s, bool *whole)
{
    for (int32_t t = 0; t < g->ntensors; t++)
        whole[t] = false;
    for (int32_t i = 0; i < g->noutputs; i++) {
        const enum answer_form form = for_task(s, &g->output[i], i).form;
        if (form == ANSWER_CLASSES || form == ANSWER_CANDIDATES)
            whole[g->output[i].tensor] = true;
    }
}

static bool holds_all(const int32_t dim[AXES], struct box part, enum axis a)
{
    return part.lo[a] == 0 && part.hi[a] == dim[a];
}

static bool score_fits(const struct answer_score *s, int32_t n)
{
    return s->object >= -1 && s->object < n && s->classes >= 0 && s->classes < n &&
           s->offset > -BOX_MAX_EXTENT && s->offset < BOX_MAX_EXTENT &&
           (unsigned)s->activation <= SCORE_SOFTMAX;
}

bool answer_fits(const struct answer_rule *a, const int32_t dim[AXES], int32_t batch,
                 struct box part)
{
    const int32_t n = dim[CHAN];

    switch (a->form) {
    case ANSWER_VALUES:
        return true;
    case ANSWER_PIXELS:
        return batch == 1;
    case ANSWER_CLASSES:
        return batch == 1 && n <= MOST_CLASSES && holds_all(dim, part, CHAN);
    case ANSWER_MASK:
        return batch == 1 && n == 1;
    case ANSWER_CANDIDATES:
        return batch == 1 && dim[COL] == 1 && holds_all(dim, part, CHAN) &&
               score_fits(&a->score, n);
    case ANSWER_FORMS:
        break;
    }
    return false;
}

/* ---- encoding */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers travel as they lie in memory");

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t v;

    memcpy(&v, from, sizeof v);
    return v;
}

static size_t encode_pixels(const struct answer_rule *a, const float *values, struct box stored,
                            struct box part, uint8_t *to)
{
    struct runs r;

    for (bool more = runs_begin(&r, stored, part, 1); more; more = runs_next(&r))
        for (size_t i = 0; i < r.len; i++)
            to[r.first + i] = answer_pixel(values[r.offset + i], a->scale, a->shift);
    return (size_t)box_values(part);
}

static size_t encode_classes(const float *values, struct box stored, struct box part, uint8_t *to)
{
    const int32_t classes = box_len(part, CHAN);
    struct runs r;
    size_t n = 0;

    for (bool more = runs_begin(&r, stored, part, 1); more; more = runs_next(&r))
        for (size_t i = 0; i < r.len; i += (size_t)classes)
            to[n++] = answer_class(values + r.offset + i, 1, classes);
    return n;
}

static size_t encode_mask(const struct answer_rule *a, const float *values, struct box stored,
                          struct box part, uint8_t *to)
{
    struct runs r;

    for (bool more = runs_begin(&r, stored, part, 1); more; more = runs_next(&r))
        for (size_t i = 0; i < r.len; i++)
            to[r.first + i] = values[r.offset + i] >= a->least;
    return (size_t)box_values(part);
}

/* Returns 0 when a message of all values is as short. */
static size_t encode_candidates(const struct answer_rule *a, const float *values, struct box stored,
                                struct box part, uint8_t *to)
{
    const int32_t n = box_len(part, CHAN);
    const size_t row_bytes = ROW_BYTES + sizeof(float) * (size_t)n;
    const size_t most = codec_bound((size_t)box_values(part)) - 1;
    size_t len = COUNT_BYTES;
    uint32_t count = 0;

    for (int32_t row = part.lo[ROW]; row < part.hi[ROW]; row++) {
        const float *v = values + (int64_t)(row - stored.lo[ROW]) * n;
        if (!is_candidate(a, v, n))
            continue;
        if (len + row_bytes > most)
            return 0;
        const uint32_t at = (uint32_t)(row - part.lo[ROW]);
        memcpy(to + len, &at, ROW_BYTES);
        memcpy(to + len + ROW_BYTES, v, sizeof(float) * (size_t)n);
        len += row_bytes;
        count++;
    }
    memcpy(to, &count, COUNT_BYTES);
    return len;
}

size_t answer_encode(const struct answer_rule *a, const float *values, struct box stored,
                     struct box part, uint8_t *to)
{
    size_t len = 0;

    to[0] = (uint8_t)(ANSWER_MODE + a->form);
    switch (a->form) {
    case ANSWER_PIXELS:
        len = encode_pixels(a, values, stored, part, to + 1);
        break;
    case ANSWER_CLASSES:
        len = encode_classes(values, stored, part, to + 1);
        break;
    case ANSWER_MASK:
        len = encode_mask(a, values, stored, part, to + 1);
        break;
    case ANSWER_CANDIDATES:
        len = encode_candidates(a, values, stored, part, to + 1);
        break;
    case ANSWER_VALUES:
    case ANSWER_FORMS:
        break;
    }
    return len > 0 ? 1 + len : 0;
}

/* ---- decoding */

size_t answer_bytes(const struct answer_rule *a, const int32_t dim[AXES])
{
    const size_t pixels = (size_t)dim[ROW] * (size_t)dim[COL];

    switch (a->form) {
    case ANSWER_PIXELS:
        return pixels * (size_t)dim[CHAN];
    case ANSWER_CLASSES:
    case ANSWER_MASK:
        return pixels;
    case ANSWER_VALUES:
    case ANSWER_CANDIDATES:
    case ANSWER_FORMS:
        break;
    }
    return 0;
}

static int decode_bytes(const struct answer_rule *a, const uint8_t *from, size_t len,
                        const int32_t dim[AXES], struct box part, uint8_t *to)
{
    struct box whole = box_whole(dim);
    struct runs r;

    if (a->form != ANSWER_PIXELS) {
        part = box_band(part, CHAN, 0, 1);
        whole = box_band(whole, CHAN, 0, 1);
    }
    if (len != (size_t)box_values(part))
        return -EBADMSG;
    for (bool more = runs_begin(&r, whole, part, 1); more; more = runs_next(&r))
        memcpy(to + r.offset, from + r.first, r.len);
    return 0;
}

/* Looks at everything before it writes anything. */
static int decode_candidates(const uint8_t *from, size_t len, const int32_t dim[AXES],
                             struct box part, float *to)
{
    const uint32_t rows = (uint32_t)box_len(part, ROW), n = (uint32_t)dim[CHAN];
    const size_t row_bytes = ROW_BYTES + sizeof(float) * (size_t)n;
    const uint32_t count = len >= COUNT_BYTES ? get_u32(from) : 0;

    if (len < COUNT_BYTES || count > rows || len != COUNT_BYTES + count * row_bytes)
        return -EBADMSG;
    from += COUNT_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t row = get_u32(from + i * row_bytes);
        if (row >= rows || (i > 0 && row <= get_u32(from + (i - 1) * row_bytes)))
            return -EBADMSG;
    }
    to += (int64_t)part.lo[ROW] * n;
    for (size_t i = 0; i < (size_t)rows * n; i++)
        to[i] = NAN;
    for (uint32_t i = 0; i < count; i++, from += row_bytes)
        memcpy(to + (size_t)get_u32(from) * n, from + ROW_BYTES, sizeof(float) * (size_t)n);
    return 0;
}

int answer_decode(const struct answer_rule *a, const uint8_t *msg, size_t len,
                  const int32_t dim[AXES], struct box part, float *values, uint8_t *bytes)
{
    if (len < 1 || msg[0] != ANSWER_MODE + a->form)
        return -EBADMSG;
    return a->form == ANSWER_CANDIDATES ? decode_candidates(msg + 1, len - 1, dim, part, values)
                                        : decode_bytes(a, msg + 1, len - 1, dim, part, bytes);
}
