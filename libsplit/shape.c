#include "libsplit/shape.h"

#include <stdio.h>
#include <string.h>

struct shape shape_make(int32_t rank, const int32_t *dim)
{
    struct shape s = { .rank = rank, .axis = { -1, -1, -1 } };
    for (int32_t i = 0; i < rank; i++)
        s.dim[i] = dim[i];
    if (rank >= 4) {
        s.axis[CHAN] = (int8_t)(rank - 3);
        s.axis[ROW] = (int8_t)(rank - 2);
        s.axis[COL] = (int8_t)(rank - 1);
    } else if (rank >= 1) {
        s.axis[CHAN] = rank == 1 ? 0 : 1;
        if (rank == 3)
            s.axis[ROW] = 2;
    }
    return s;
}

struct shape shape_make_last(int32_t rank, const int32_t *dim)
{
    struct shape s = shape_make(rank, dim);
    if (rank < 3)
        return s;
    s.axis[CHAN] = (int8_t)(rank - 1);
    s.axis[ROW] = (int8_t)(rank == 3 ? 1 : rank - 3);
    s.axis[COL] = (int8_t)(rank == 3 ? -1 : rank - 2);
    return s;
}

struct shape shape_make_map(int32_t rank, const int32_t *dim)
{
    struct shape s = shape_make(rank, dim);
    if (rank < 2)
        return s;
    s.axis[CHAN] = (int8_t)(rank - 1);
    s.axis[COL] = (int8_t)(rank == 2 ? -1 : rank - 2);
    s.axis[ROW] = (int8_t)(rank == 2 ? 0 : rank - 3);
    return s;
}

int32_t shape_len(const struct shape *s, enum axis a)
{
    return s->axis[a] < 0 ? 1 : s->dim[s->axis[a]];
}

/* Which of ROW, COL, CHAN the ONNX axis `i` is; AXES if it belongs to the batch. */
static enum axis role(const struct shape *s, int32_t i)
{
    for (int a = 0; a < AXES; a++)
        if (s->axis[a] == i)
            return (enum axis)a;
    return AXES;
}

int32_t shape_batch(const struct shape *s)
{
    int32_t batch = 1;
    for (int32_t i = 0; i < s->rank; i++)
        if (role(s, i) == AXES)
            batch *= s->dim[i];
    return batch;
}

int64_t shape_values(const struct shape *s)
{
    int64_t n = 1;
    for (int32_t i = 0; i < s->rank; i++)
        n *= s->dim[i];
    return n;
}

bool shape_same_memory(const struct shape *a, const struct shape *b)
{
    return shape_batch(a) == shape_batch(b) && shape_len(a, ROW) == shape_len(b, ROW) &&
           shape_len(a, COL) == shape_len(b, COL) && shape_len(a, CHAN) == shape_len(b, CHAN);
}

bool shape_same_dims(const struct shape *a, const struct shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

int64_t shape_extent(const struct shape *s, int32_t lo, int32_t hi)
{
    int64_t n = 1;
    for (int32_t i = lo; i < hi; i++)
        n *= s->dim[i];
    return n;
}

void shape_steps(const struct shape *s, int64_t step[SHAPE_MAX_RANK])
{
    int64_t n = 1;
    for (int32_t i = s->rank; i-- > 0;) {
        step[i] = n;
        n *= s->dim[i];
    }
}

/* One run of batch axes that lie behind each other in row-major order. */
struct run {
    int64_t len, step;
};

/* The batch of `s` as few runs, from the outermost; extents of 1 do not count. */
static int batch_runs(const struct shape *s, struct run run[SHAPE_MAX_RANK])
{
    int64_t step[SHAPE_MAX_RANK];
    int n = 0;
    shape_steps(s, step);
    for (int32_t i = 0; i < s->rank; i++) {
        if (role(s, i) != AXES || s->dim[i] == 1)
            continue;
        if (n && run[n - 1].step == step[i] * s->dim[i])
            run[n - 1] = (struct run){ run[n - 1].len * s->dim[i], step[i] };
        else
            run[n++] = (struct run){ s->dim[i], step[i] };
    }
    return n;
}

bool shape_relabels(const struct shape *from, const struct shape *to)
{
    int64_t fs[SHAPE_MAX_RANK], ts[SHAPE_MAX_RANK];
    shape_steps(from, fs);
    shape_steps(to, ts);
    for (int a = 0; a < AXES; a++) {
        const int32_t len = shape_len(from, (enum axis)a);
        if (len != shape_len(to, (enum axis)a))
            return false;
        if (len > 1 && fs[from->axis[a]] != ts[to->axis[a]])
            return false;
    }
    struct run fr[SHAPE_MAX_RANK], tr[SHAPE_MAX_RANK];
    const int n = batch_runs(from, fr);
    if (n != batch_runs(to, tr))
        return false;
    for (int i = 0; i < n; i++)
        if (fr[i].len != tr[i].len || fr[i].step != tr[i].step)
            return false;
    return true;
}

/* Distance in memory between neighbours on each ONNX axis. */
static void memory_steps(const struct shape *s, int64_t step[SHAPE_MAX_RANK])
{
    const int64_t chan = shape_len(s, CHAN);
    const int64_t row = chan * shape_len(s, COL);
    int64_t image = row * shape_len(s, ROW);
    for (int32_t i = s->rank; i-- > 0;)
        switch (role(s, i)) {
        case CHAN:
            step[i] = 1;
            break;
        case COL:
            step[i] = chan;
            break;
        case ROW:
            step[i] = row;
            break;
        default:
            step[i] = image;
            image *= s->dim[i];
        }
}

/* Visits every line along the last ONNX axis in row-major order; `at` is the place of its first
 * value in memory. */
struct walk {
    int32_t coord[SHAPE_MAX_RANK];
    int64_t step[SHAPE_MAX_RANK];
    int64_t at;
    int64_t line_len, line_step; /* of every line */
};

static struct walk walk_begin(const struct shape *s)
{
    struct walk w = { .line_len = 1 };
    memory_steps(s, w.step);
    if (s->rank > 0) {
        w.line_len = s->dim[s->rank - 1];
        w.line_step = w.step[s->rank - 1];
    }
    return w;
}

static void walk_next(struct walk *w, const struct shape *s)
{
    for (int32_t i = s->rank - 1; i-- > 0;) {
        w->at += w->step[i];
        if (++w->coord[i] < s->dim[i])
            return;
        w->at -= w->step[i] * s->dim[i];
        w->coord[i] = 0;
    }
}

void shape_from_onnx(const struct shape *s, float *restrict nhwc, const float *restrict onnx)
{
    const float *end = onnx + shape_values(s);
    for (struct walk w = walk_begin(s); onnx < end; walk_next(&w, s)) {
        float *to = nhwc + w.at;
        for (int64_t i = 0; i < w.line_len; i++, to += w.line_step)
            *to = *onnx++;
    }
}

void shape_to_onnx(const struct shape *s, float *restrict onnx, const float *restrict nhwc)
{
    const float *end = onnx + shape_values(s);
    for (struct walk w = walk_begin(s); onnx < end; walk_next(&w, s)) {
        const float *from = nhwc + w.at;
        for (int64_t i = 0; i < w.line_len; i++, from += w.line_step)
            *onnx++ = *from;
    }
}

bool shape_in_order(const struct shape *s)
{
    int64_t here[SHAPE_MAX_RANK], there[SHAPE_MAX_RANK];
    memory_steps(s, here);
    shape_steps(s, there);
    for (int32_t i = 0; i < s->rank; i++)
        if (s->dim[i] > 1 && here[i] != there[i])
            return false;
    return true;
}

/* ---- Parts of an image */

/* Distance in ONNX's order between neighbours on each of our axes. */
struct steps {
    int64_t row, col, chan;
};

static struct steps onnx_steps(const struct shape *s, const int64_t step[SHAPE_MAX_RANK])
{
    return (struct steps){ s->axis[ROW] < 0 ? 0 : step[s->axis[ROW]],
                           s->axis[COL] < 0 ? 0 : step[s->axis[COL]],
                           s->axis[CHAN] < 0 ? 0 : step[s->axis[CHAN]] };
}

/* Where an image begins in ONNX's order. */
static int64_t image_start(const struct shape *s, const int64_t step[SHAPE_MAX_RANK], int32_t image)
{
    int64_t at = 0;
    for (int32_t i = s->rank; i-- > 0;)
        if (role(s, i) == AXES) {
            at += image % s->dim[i] * step[i];
            image /= s->dim[i];
        }
    return at;
}

static void put(uint8_t *to, const float *from) { memcpy(to, from, sizeof *from); }

/* `cols` pixels that stand side by side, but for their channels. */
static void weave(uint8_t *restrict to, const float *restrict from, const struct steps *step,
                  int64_t cols, int64_t channels)
{
    enum { F = sizeof *from };

    /* Pictures: the planes are read side by side and the pixels written one after the other. */
    if (channels == 3 && step->col == 1) {
        const float *red = from, *green = from + step->chan, *blue = from + 2 * step->chan;
        for (int64_t x = 0; x < cols; x++, to += 3 * F) {
            put(to, red + x);
            put(to + F, green + x);
            put(to + 2 * F, blue + x);
        }
        return;
    }
    for (int64_t k = 0; k < channels; k++, from += step->chan)
        for (int64_t x = 0; x < cols; x++)
            put(to + (x * channels + k) * F, from + x * step->col);
}

void shape_part_from_onnx(const struct shape *s, int32_t image, struct box part,
                          uint8_t *restrict bytes, const float *restrict onnx)
{
    /* Pixels whose lines stay in the cache while their channels are written. */
    const int64_t channels = box_len(part, CHAN), block = channels > 3 ? 16 : INT32_MAX;
    int64_t step[SHAPE_MAX_RANK];
    shape_steps(s, step);
    const struct steps at = onnx_steps(s, step);
    const float *first = onnx + image_start(s, step, image) + part.lo[CHAN] * at.chan;
    for (int32_t r = part.lo[ROW]; r < part.hi[ROW]; r++)
        for (int64_t c = part.lo[COL], cols; c < part.hi[COL]; c += cols) {
            cols = part.hi[COL] - c < block ? part.hi[COL] - c : block;
            weave(bytes, first + r * at.row + c * at.col, &at, cols, channels);
            bytes += cols * channels * (int64_t)sizeof *onnx;
        }
}

const char *shape_text(const struct shape *s, char text[SHAPE_TEXT_BYTES])
{
    int n = 0;
    text[0] = '\0';
    if (s->rank == 0)
        snprintf(text, SHAPE_TEXT_BYTES, "scalar");
    for (int32_t i = 0; i < s->rank && n < SHAPE_TEXT_BYTES; i++)
        n += snprintf(text + n, (size_t)(SHAPE_TEXT_BYTES - n), "%s%d", i ? "x" : "", s->dim[i]);
    return text;
}
