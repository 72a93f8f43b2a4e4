#include "quant/levels.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"

/* Values are transposed by squares of this many pixels and channels. */
enum { SQUARE = 16 };

bool quantizer_is_sound(const struct quantizer *q)
{
    return q->step > 0 && q->gain > 0 && q->threshold >= q->step / 64 && isfinite(1 / q->step) &&
           isfinite(((float)LEVEL_MAX * q->step + q->threshold) * q->gain) &&
           isfinite(q->threshold / q->step);
}

bool quantizer_holds(const struct quantizer *q, const struct codec_range *r)
{
    /* A NaN is not below either. */
    return (bits_float(r->largest) - q->threshold) / q->step + 1 < (float)LEVEL_MAX;
}

static size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

/* ---- Values to levels */

static void quantize(int16_t *restrict to, const float *restrict values, size_t n,
                     const struct quantizer *q)
{
    const float inverse = 1 / q->step, origin = 1 - q->threshold * inverse;
    const float least = q->with_sign ? -INFINITY : 0;
    for (size_t i = 0; i < n; i++) {
        const float value = values[i] > least ? values[i] : least;
        const uint32_t bits = float_bits(value);
        const float size = bits_float(bits & 0x7FFFFFFFU) * inverse + origin;
        const int32_t level = (int32_t)(size >= 1 ? size : 0);
        const int32_t sign = (int32_t)bits >> 31; /* 0 or -1 */
        to[i] = (int16_t)((level ^ sign) - sign);
    }
}

/* Columns [x, x + nx) of channels [c, c + nc) of one line. */
static void quantize_square(int16_t *restrict to, size_t plane, const float *restrict values,
                            size_t col_stride, size_t nx, size_t nc, const struct quantizer *q)
{
    int16_t square[SQUARE][SQUARE];
    for (size_t i = 0; i < nx; i++)
        quantize(square[i], values + i * col_stride, nc, q);
    for (size_t k = 0; k < nc; k++)
        for (size_t i = 0; i < nx; i++)
            to[k * plane + i] = square[i][k];
}

void levels_of_values(const struct levels *l, const float *restrict values, const struct grid *g,
                      const struct quantizer *q)
{
    const size_t plane = levels_plane(l);
    for (size_t c = 0; c < l->channels; c++)
        for (size_t line = 0; line <= l->lines; line++)
            l->level[c * plane + line * (l->cols + 1)] = 0;
    for (size_t line = 0; line < l->lines; line++) {
        const float *from =
            values + line / g->rows * g->image_stride + line % g->rows * g->row_stride;
        int16_t *to = l->level + levels_line(l, line);
        for (size_t x = 0; x < g->cols; x += SQUARE)
            for (size_t c = 0; c < g->channels; c += SQUARE)
                quantize_square(to + c * plane + x, plane, from + x * g->col_stride + c,
                                g->col_stride, lesser(SQUARE, g->cols - x),
                                lesser(SQUARE, g->channels - c), q);
    }
}

/* ---- Levels to values */

struct scale {
    float step, origin, least;
};

static struct scale scale_of(const struct quantizer *q)
{
    const float half = q->step / 2;
    return (struct scale){ .step = q->gain * q->step,
                           .origin = q->gain * (q->soft ? -half : q->threshold - half),
                           .least = q->with_sign ? -INFINITY : 0 };
}

static void reconstruct(float *restrict to, const int16_t *restrict level,
                        const float *restrict rest, size_t n, struct scale s)
{
    for (size_t i = 0; i < n; i++) {
        const float sign = (float)((level[i] > 0) - (level[i] < 0));
        const float value = (float)level[i] * s.step + sign * s.origin + rest[i];
        to[i] = value > s.least ? value : s.least;
    }
}

static void reconstruct_square(float *restrict values, size_t col_stride,
                               const int16_t *restrict from, size_t plane, size_t nx, size_t nc,
                               const float *restrict rest, struct scale s)
{
    int16_t square[SQUARE][SQUARE];
    for (size_t k = 0; k < nc; k++)
        for (size_t i = 0; i < nx; i++)
            square[i][k] = from[k * plane + i];
    for (size_t i = 0; i < nx; i++)
        reconstruct(values + i * col_stride, square[i], rest, nc, s);
}

void levels_to_values(const struct levels *l, float *restrict values, const struct grid *g,
                      const struct quantizer *q, const float *rest)
{
    static const float zeros[SQUARE];
    const struct scale s = scale_of(q);
    const size_t plane = levels_plane(l);
    for (size_t line = 0; line < l->lines; line++) {
        float *to = values + line / g->rows * g->image_stride + line % g->rows * g->row_stride;
        const int16_t *from = l->level + levels_line(l, line);
        for (size_t x = 0; x < g->cols; x += SQUARE)
            for (size_t c = 0; c < g->channels; c += SQUARE)
                reconstruct_square(to + x * g->col_stride + c, g->col_stride, from + c * plane + x,
                                   plane, lesser(SQUARE, g->cols - x),
                                   lesser(SQUARE, g->channels - c), rest ? rest + c : zeros, s);
    }
}
