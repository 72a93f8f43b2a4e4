/* quant/levels.h - values <-> whole numbers: threshold, uniform step, hard reconstruction.
 *
 * Threshold and quantizer are one object.  The level of x is 0 where |x| is below the threshold t,
 * else floor((|x| - t) / step) + 1, with the sign of x.  Level k > 0 becomes the middle of its
 * step, t + (k - 1/2) step, or with `soft` that middle less t: the literal ReLU(x - t), for
 * networks that were trained with it.  A gain makes up for the energy that the threshold takes, and
 * every channel may have a value `rest` to which all this is added: what a level of 0 becomes.
 *
 * Levels stand channel by channel, as zeros gather where a channel sees nothing. */
#ifndef QUANT_LEVELS_H
#define QUANT_LEVELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/codec.h"

enum { LEVEL_MAX = 32767 };

struct quantizer {
    float step;      /* more than 0 */
    float threshold; /* step / 64 or more, so that 0 is level 0 whatever the rounding */
    float gain;      /* more than 0 */
    bool with_sign;  /* values below 0 have levels; else they become 0, as do those that
                      * reconstruction would put below 0 */
    bool soft;
};

/* True when all numbers are in range, so that every level becomes a finite value. */
bool quantizer_is_sound(const struct quantizer *q);

/* Where the values of a message lie: images x rows x columns x channels, the channels of a pixel
 * side by side, the rest by strides, in values. */
struct grid {
    size_t images, rows, cols, channels;
    size_t image_stride, row_stride, col_stride;
};

/* Levels of a message.  Between lines (a row of an image) stands a zero, and one before the first,
 * so that what is left of the first and right of the last column reads as zero. */
struct levels {
    size_t channels, lines, cols;
    int16_t *level; /* [channels][levels_plane()], the caller's */
};

static inline size_t levels_plane(const struct levels *l) { return 1 + l->lines * (l->cols + 1); }
/* Where column 0 of a line stands in its plane. */
static inline size_t levels_line(const struct levels *l, size_t line)
{
    return 1 + line * (l->cols + 1);
}

static inline struct levels levels_of(const struct grid *g, int16_t *storage)
{
    return (struct levels){
        .channels = g->channels, .lines = g->images * g->rows, .cols = g->cols, .level = storage
    };
}

/* True when values of range `r` have levels of at most LEVEL_MAX. */
bool quantizer_holds(const struct quantizer *q, const struct codec_range *r);

/* Fills `l`, pads included, from values of a range that quantizer_holds(). */
void levels_of_values(const struct levels *l, const float *restrict values, const struct grid *g,
                      const struct quantizer *q);

/* Writes what the levels stand for.  `rest` is [channels], or NULL for zeros. */
void levels_to_values(const struct levels *l, float *restrict values, const struct grid *g,
                      const struct quantizer *q, const float *rest);

#endif
