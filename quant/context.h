/* quant/context.h - levels as bits of a range coder, each with its own chance.
 *
 * Channels see the same things: where some are not 0, others are likely not to be.  So the chance
 * of every bit is that of a logistic regression on what was coded before it: the two values on
 * the left, the value above, and up to CONTEXT_SOURCES values of earlier channels in the same
 * column or one beside it.  Per level: is it 0?  If not, its sign, then whether it is more than
 * 1, than 2, ... and from CONTEXT_RANKS on an Elias gamma code of even bits.
 *
 * Weights are small whole numbers and sums are exact, so that every machine finds the same
 * chances.  They are part of the plan, not of the message: messages are decodable alone and
 * losing one harms no other.  With `before`, sizes of the previous frame's levels of the same
 * message count too (CODEC_VIDEO, which codes the differences to those levels: always with signs).
 *
 * What a level counts as is context_size(): 0, 2, 3 or 4.  A sum is in 1/32 of the logarithm of the
 * odds. */
#ifndef QUANT_CONTEXT_H
#define QUANT_CONTEXT_H

#include "quant/levels.h"

enum {
    CONTEXT_SOURCES = 8,
    CONTEXT_RANKS = 8,
    CONTEXT_MAX_CHANNELS = 8192,
    CONTEXT_MAX_BIAS = 256
};

/* Values of the same channel that count, in the order of their weights. */
enum context_near {
    NEAR_LEFT,
    NEAR_LEFT_2,
    NEAR_ABOVE,
    NEAR_BEFORE_LEFT, /* the previous frame's */
    NEAR_BEFORE,
    NEAR_BEFORE_RIGHT,
    CONTEXT_NEAR
};

struct context_source {
    uint16_t channel; /* an earlier one */
    int8_t col;       /* -1, 0 or 1 */
    int8_t weight;
};

struct predictor {
    int16_t bias; /* -CONTEXT_MAX_BIAS..CONTEXT_MAX_BIAS */
    int8_t near[CONTEXT_NEAR];
    uint8_t nsources;
    struct context_source source[CONTEXT_SOURCES];
};

/* Is it more than 0, more than 1, above 0?  The last looks at signed sizes. */
enum context_question { ASK_ZERO, ASK_MORE, ASK_SIGN, CONTEXT_QUESTIONS };

struct context {
    int32_t channels; /* of the tensor, at most CONTEXT_MAX_CHANNELS */
    bool with_sign;
    bool with_before;            /* sizes of the previous frame's levels have weights */
    int16_t rank[CONTEXT_RANKS]; /* rank[k] is added when the question is "more than k?", k > 0 */
    struct predictor *predictor; /* [channels][CONTEXT_QUESTIONS] */
};

static inline int8_t context_size(int16_t level)
{
    const int size = level < 0 ? -level : level;
    return (int8_t)(size > 2 ? 4 : size > 0 ? size + 1 : 0);
}

/* The chance of a 1, in 1/RANGE_ONE, for such a sum; 0 < chance < RANGE_ONE. */
uint32_t context_chance(int32_t sum);

/* Bytes of what context_put() and context_get() need to work with. */
size_t context_scratch_bytes(const struct levels *l);

/* Codes the levels of channels [first, first + l->channels) of the tensor into `to`.  `before` is
 * NULL or the sizes of the previous frame's levels ([channels][plane], context_size() with the sign
 * of the level).  Returns the length, which may be 0, or SIZE_MAX when `cap` bytes are too few. */
size_t context_put(uint8_t *to, size_t cap, const struct levels *l, const struct context *x,
                   size_t first, const int8_t *before, void *scratch);

/* Decodes any bytes.  Returns 0 or -EBADMSG. */
int context_get(const struct levels *l, const struct context *x, size_t first, const int8_t *before,
                void *scratch, const uint8_t *from, size_t len);

/* ---- As bytes, for plans and files */

size_t context_bytes(const struct context *x);
void context_write(uint8_t *to, const struct context *x);
/* Reads any bytes for a tensor of `channels`, whose levels have signs or not; `*used` is how many
 * it took.  Returns 0, -EBADMSG or -ENOMEM; context_done() frees. */
int context_read(struct context *x, int32_t channels, bool with_sign, const uint8_t *from,
                 size_t len, size_t *used);
void context_done(struct context *x);

#endif
