#include "test/quant/levels.h"

#include <stdlib.h>
#include <string.h>

static uint32_t next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static uint32_t below(uint32_t *state, uint32_t n) { return next(state) % n; }

static uint32_t seeded(unsigned seed) { return seed * 2654435761U + 12345; }

static int16_t random_level(uint32_t *state, uint32_t density, bool with_sign)
{
    if (below(state, 100) >= density)
        return 0;
    const uint32_t size = below(state, 50) == 0 ? 1 + below(state, LEVEL_MAX) : 1 + below(state, 9);
    return (int16_t)(with_sign && below(state, 2) ? -(int32_t)size : (int32_t)size);
}

struct levels test_levels(unsigned seed, bool with_sign)
{
    uint32_t state = seeded(seed);
    struct levels l = { .channels = 1 + below(&state, 40),
                        .lines = 1 + below(&state, 4),
                        .cols = 1 + below(&state, 40) };
    const uint32_t density = below(&state, 4) == 0 ? 90 : below(&state, 30);
    l.level = calloc(l.channels * levels_plane(&l), sizeof *l.level);
    for (size_t c = 0; c < l.channels; c++)
        for (size_t line = 0; line < l.lines; line++)
            for (size_t x = 0; x < l.cols; x++)
                l.level[c * levels_plane(&l) + levels_line(&l, line) + x] =
                    random_level(&state, density, with_sign);
    return l;
}

struct levels test_levels_like(const struct levels *l)
{
    struct levels like = *l;
    const size_t bytes = l->channels * levels_plane(l) * sizeof *l->level;
    like.level = malloc(bytes);
    memset(like.level, 0xA5, bytes); /* below 0 */
    return like;
}

bool test_levels_equal(const struct levels *a, const struct levels *b)
{
    return memcmp(a->level, b->level, a->channels * levels_plane(a) * sizeof *a->level) == 0;
}

bool test_levels_in_range(const struct levels *l)
{
    for (size_t i = 0; i < l->channels * levels_plane(l); i++)
        if (l->level[i] < -LEVEL_MAX)
            return false;
    return true;
}

static int8_t random_weight(uint32_t *state) { return (int8_t)(below(state, 81) - 40); }

static void random_predictor(struct predictor *p, uint32_t *state, int32_t channel,
                             bool with_before)
{
    p->bias = (int16_t)(below(state, 2 * CONTEXT_MAX_BIAS + 1) - CONTEXT_MAX_BIAS);
    for (int n = 0; n < (with_before ? CONTEXT_NEAR : NEAR_BEFORE_LEFT); n++)
        p->near[n] = random_weight(state);
    p->nsources = channel > 0 ? (uint8_t)below(state, CONTEXT_SOURCES + 1) : 0;
    for (int s = 0; s < p->nsources; s++)
        p->source[s] =
            (struct context_source){ .channel = (uint16_t)below(state, (uint32_t)channel),
                                     .col = (int8_t)(below(state, 3) - 1),
                                     .weight = random_weight(state) };
}

struct context test_context(unsigned seed, int32_t channels, bool with_sign, bool with_before)
{
    uint32_t state = seeded(seed + 7);
    struct context x = { .channels = channels,
                         .with_sign = with_sign || with_before, /* of differences */
                         .with_before = with_before };
    for (int k = 0; k < CONTEXT_RANKS; k++)
        x.rank[k] = (int16_t)(below(&state, 200) - 100);
    x.predictor = calloc((size_t)channels * CONTEXT_QUESTIONS, sizeof *x.predictor);
    for (int32_t c = 0; c < channels; c++)
        for (int q = 0; q < (x.with_sign ? CONTEXT_QUESTIONS : ASK_SIGN); q++)
            random_predictor(&x.predictor[c * CONTEXT_QUESTIONS + q], &state, c, with_before);
    return x;
}

static struct context *kept(struct context x)
{
    struct context *to = malloc(sizeof *to);
    *to = x;
    return to;
}

struct recipe test_recipe(unsigned seed, int32_t channels)
{
    static const float step[] = { 1, 0.25F, 0.01F, 8 }, zone[] = { 0.5F, 0.5625F, 0.125F, 4, 1 };
    uint32_t state = seeded(seed + 3);
    const float chosen = step[below(&state, 4)];
    struct recipe r = { .channels = channels,
                        .quantizer = { .step = chosen,
                                       .threshold = chosen * zone[below(&state, 5)],
                                       .gain = 1 + (float)below(&state, 3) / 4,
                                       .with_sign = below(&state, 2),
                                       .soft = below(&state, 4) == 0 } };
    const bool with_sign = r.quantizer.with_sign;
    if (below(&state, 2)) {
        r.rest = malloc((size_t)channels * sizeof *r.rest);
        for (int32_t c = 0; c < channels; c++)
            r.rest[c] = (float)below(&state, 64) / 64 - 0.25F;
    }
    if (below(&state, 3))
        r.context = kept(test_context(seed, channels, with_sign, false));
    if (r.context && below(&state, 2))
        r.video = kept(test_context(seed + 1, channels, with_sign, true));
    return r;
}

struct grid test_grid(unsigned seed, size_t *values)
{
    uint32_t state = seeded(seed + 11);
    struct grid g = { .images = 1 + below(&state, 2),
                      .rows = 1 + below(&state, 3),
                      .cols = 1 + below(&state, 40),
                      .channels = 1 + below(&state, 40) };
    g.col_stride = g.channels + below(&state, 3);
    g.row_stride = g.cols * g.col_stride + below(&state, 2) * 5;
    g.image_stride = g.rows * g.row_stride + below(&state, 2) * 7;
    *values = g.images * g.image_stride;
    return g;
}
