#include "quant/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "quant/range.h"

/* ---- Chances */

enum { SUM_MAX = 256, CHANCES = SUM_MAX / 2 + 1 };

/* RANGE_ONE / (1 + exp(-i / 16)), as constants: no two machines' exp() need agree. */
static const uint16_t chances[CHANCES] = {
    16384, 16896, 17407, 17916, 18421, 18923, 19420, 19912, 20397, 20874, 21344, 21804, 22255,
    22696, 23127, 23547, 23955, 24352, 24737, 25110, 25471, 25819, 26155, 26479, 26790, 27090,
    27377, 27653, 27917, 28169, 28411, 28642, 28862, 29072, 29272, 29462, 29644, 29816, 29979,
    30135, 30282, 30422, 30555, 30680, 30799, 30912, 31018, 31119, 31214, 31304, 31389, 31469,
    31545, 31616, 31684, 31747, 31807, 31864, 31917, 31968, 32015, 32060, 32102, 32141, 32179,
    32214, 32247, 32278, 32307, 32335, 32361, 32385, 32408, 32430, 32450, 32469, 32487, 32504,
    32520, 32535, 32549, 32562, 32574, 32586, 32597, 32607, 32617, 32626, 32635, 32643, 32650,
    32657, 32664, 32670, 32676, 32682, 32687, 32692, 32696, 32701, 32705, 32709, 32712, 32716,
    32719, 32722, 32725, 32727, 32730, 32732, 32734, 32736, 32738, 32740, 32742, 32743, 32745,
    32746, 32747, 32749, 32750, 32751, 32752, 32753, 32754, 32755, 32756, 32756, 32757
};

uint32_t context_chance(int32_t sum)
{
    const int32_t size = sum < 0 ? -sum : sum;
    const uint32_t chance = chances[(size < SUM_MAX ? size : SUM_MAX) / 2];
    return sum < 0 ? RANGE_ONE - chance : chance;
}

/* ---- What was coded so far */

/* One coder for both directions, so that their contexts cannot differ. */
struct coder {
    const struct levels *l;
    const struct context *x;
    size_t first, plane;
    const int8_t *before; /* NULL: none */
    int8_t *size;         /* [channels][plane], with the level's sign */
    int8_t *magnitude;    /* the same without; `size` itself where there are no signs */
    int16_t *sum;         /* [plane] */
    struct range_writer w;
    struct range_reader r;
    bool decodes, failed;
};

size_t context_scratch_bytes(const struct levels *l)
{
    return levels_plane(l) * (sizeof(int16_t) + 2 * l->channels);
}

static struct coder coder_of(const struct levels *l, const struct context *x, size_t first,
                             const int8_t *before, void *scratch)
{
    struct coder k = { .l = l, .x = x, .first = first, .plane = levels_plane(l), .before = before };
    int8_t *planes = (int8_t *)scratch + k.plane * sizeof(*k.sum);
    k.sum = scratch;
    k.size = planes;
    k.magnitude = x->with_sign ? planes + k.plane * l->channels : k.size;
    return k;
}

/* The plane of a source, moved by its column; NULL where the message does not hold it. */
static const int8_t *source_of(const struct coder *k, const int8_t *planes,
                               const struct context_source *s)
{
    if (s->channel < k->first)
        return NULL;
    return planes + (s->channel - k->first) * k->plane + s->col;
}

static int8_t magnitude_of(int8_t size) { return (int8_t)(size < 0 ? -size : size); }

/* All that is known before the first place of channel `c`, for all its places. */
static void sum_channel(const struct coder *k, const struct predictor *p, size_t c)
{
    int16_t *restrict sum = k->sum;
    for (size_t i = 0; i < k->plane; i++)
        sum[i] = p->bias;
    for (int s = 0; s < p->nsources; s++) {
        const int8_t *restrict from = source_of(k, k->magnitude, &p->source[s]);
        const int8_t weight = p->source[s].weight;
        for (size_t i = 1; from && i + 1 < k->plane; i++)
            sum[i] = (int16_t)(sum[i] + weight * from[i]);
    }
    for (int n = NEAR_BEFORE_LEFT; k->before && n <= NEAR_BEFORE_RIGHT; n++) {
        const int8_t *restrict from = k->before + c * k->plane + n - NEAR_BEFORE;
        const int8_t weight = p->near[n];
        for (size_t i = 1; weight != 0 && i + 1 < k->plane; i++)
            sum[i] = (int16_t)(sum[i] + weight * magnitude_of(from[i]));
    }
}

/* The same for place `i` alone, from sizes with or without sign. */
static int32_t sum_place(const struct coder *k, const struct predictor *p, size_t c, size_t i,
                         bool with_sign)
{
    int32_t sum = p->bias;
    for (int s = 0; s < p->nsources; s++) {
        const int8_t *from = source_of(k, with_sign ? k->size : k->magnitude, &p->source[s]);
        sum += from ? p->source[s].weight * from[i] : 0;
    }
    for (int n = NEAR_BEFORE_LEFT; k->before && n <= NEAR_BEFORE_RIGHT; n++) {
        const int8_t size = k->before[c * k->plane + i + (size_t)n - NEAR_BEFORE];
        sum += p->near[n] * (with_sign ? size : magnitude_of(size));
    }
    return sum;
}

/* Sizes of the same channel around a place. */
struct around {
    int8_t left, left_2, above;
};

static inline int32_t sum_around(const struct predictor *p, struct around a, bool with_sign)
{
    if (with_sign)
        return p->near[NEAR_LEFT] * a.left + p->near[NEAR_LEFT_2] * a.left_2 +
               p->near[NEAR_ABOVE] * a.above;
    return p->near[NEAR_LEFT] * magnitude_of(a.left) +
           p->near[NEAR_LEFT_2] * magnitude_of(a.left_2) +
           p->near[NEAR_ABOVE] * magnitude_of(a.above);
}

/* ---- Coding: bits go out as they are, or come in */

static inline bool code_bit(struct coder *k, int32_t sum, bool bit)
{
    const uint32_t chance = context_chance(sum);
    if (k->decodes)
        return range_get(&k->r, chance);
    range_put(&k->w, chance, bit);
    return bit;
}

/* What of a level is beyond the ranks: 1 or more, as an Elias gamma code. */
static uint32_t code_rest(struct coder *k, uint32_t rest)
{
    unsigned places = 0;
    while (code_bit(k, 0, rest >> (places + 1) != 0)) {
        if (++places > 15) {
            k->failed = true;
            return 1;
        }
    }
    uint32_t coded = 1;
    for (unsigned i = places; i-- > 0;)
        coded = coded << 1 | code_bit(k, 0, rest >> i & 1);
    return coded;
}

/* A level that is not 0. */
static int16_t code_level(struct coder *k, size_t c, size_t i, struct around a, int16_t level)
{
    const struct predictor *p = &k->x->predictor[(k->first + c) * CONTEXT_QUESTIONS];
    bool below = false;
    if (k->x->with_sign)
        below =
            !code_bit(k, sum_place(k, &p[ASK_SIGN], c, i, true) + sum_around(&p[ASK_SIGN], a, true),
                      level > 0);
    const uint32_t size = (uint32_t)(below ? -level : level);
    const int32_t sum =
        sum_place(k, &p[ASK_MORE], c, i, false) + sum_around(&p[ASK_MORE], a, false);
    uint32_t coded = 1;
    while (coded < CONTEXT_RANKS && code_bit(k, sum + k->x->rank[coded], size > coded))
        coded++;
    if (coded == CONTEXT_RANKS)
        coded += code_rest(k, size - CONTEXT_RANKS + 1) - 1;
    if (coded > LEVEL_MAX)
        k->failed = true;
    return (int16_t)(below ? -(int32_t)coded : (int32_t)coded);
}

static inline void code_channel(struct coder *k, size_t c)
{
    const struct predictor *p = &k->x->predictor[(k->first + c) * CONTEXT_QUESTIONS + ASK_ZERO];
    const size_t cols = k->l->cols;
    int16_t *level = k->l->level + c * k->plane;
    int8_t *size = k->size + c * k->plane;
    sum_channel(k, p, c);
    for (size_t line = 0; line < k->l->lines; line++) {
        const size_t begin = levels_line(k->l, line);
        struct around a = { 0 };
        for (size_t i = begin; i < begin + cols; i++) {
            a.above = line > 0 ? size[i - cols - 1] : 0;
            int16_t coded = 0;
            if (code_bit(k, k->sum[i] + sum_around(p, a, false), level[i] != 0))
                coded = code_level(k, c, i, a, level[i]);
            if (k->decodes)
                level[i] = coded;
            const int8_t now = context_size(coded);
            size[i] = coded < 0 ? (int8_t)-now : now;
            a.left_2 = a.left;
            a.left = size[i];
        }
    }
    if (k->x->with_sign)
        for (size_t i = 0; i < k->plane; i++)
            k->magnitude[c * k->plane + i] = magnitude_of(size[i]);
}

/* Zeros where no value stands. */
static void clear_pads(const struct coder *k, size_t c)
{
    for (size_t i = 0; i < k->plane; i += k->l->cols + 1) {
        k->size[c * k->plane + i] = 0;
        if (k->decodes)
            k->l->level[c * k->plane + i] = 0;
    }
}

static inline void code_all(struct coder *k)
{
    for (size_t c = 0; c < k->l->channels && !k->failed; c++) {
        clear_pads(k, c);
        code_channel(k, c);
    }
}

size_t context_put(uint8_t *to, size_t cap, const struct levels *l, const struct context *x,
                   size_t first, const int8_t *before, void *scratch)
{
    struct coder k = coder_of(l, x, first, before, scratch);
    k.w = range_writer_of(to, cap);
    code_all(&k);
    const uint8_t *end = range_writer_end(&k.w, to);
    return k.w.full || k.failed ? SIZE_MAX : (size_t)(end - to);
}

int context_get(const struct levels *l, const struct context *x, size_t first, const int8_t *before,
                void *scratch, const uint8_t *from, size_t len)
{
    struct coder k = coder_of(l, x, first, before, scratch);
    k.decodes = true;
    k.r = range_reader_of(from, len);
    code_all(&k);
    return k.failed || !range_reader_ended(&k.r) ? -EBADMSG : 0;
}

/* ---- As bytes */

enum { HEAD_BYTES = 1 + 2 * CONTEXT_RANKS, FLAG_BEFORE = 1 };

static int nears(const struct context *x)
{
    return x->with_before ? CONTEXT_NEAR : NEAR_BEFORE_LEFT;
}

/* Questions that are asked of the tensor. */
static int questions(const struct context *x)
{
    return x->with_sign ? CONTEXT_QUESTIONS : ASK_SIGN;
}

static size_t predictor_bytes(const struct context *x, const struct predictor *p)
{
    return sizeof p->bias + (size_t)nears(x) + 1 + (size_t)p->nsources * 4;
}

static const struct predictor *predictor_at(const struct context *x, int32_t c, int q)
{
    return &x->predictor[(size_t)c * CONTEXT_QUESTIONS + (size_t)q];
}

size_t context_bytes(const struct context *x)
{
    size_t bytes = HEAD_BYTES;
    for (int32_t c = 0; c < x->channels; c++)
        for (int q = 0; q < questions(x); q++)
            bytes += predictor_bytes(x, predictor_at(x, c, q));
    return bytes;
}

static uint8_t *put_i16(uint8_t *to, int16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)((uint16_t)value >> 8);
    return to + 2;
}

static int16_t get_i16(const uint8_t *from) { return (int16_t)(from[0] | from[1] << 8); }

static uint8_t *put_predictor(uint8_t *to, const struct context *x, const struct predictor *p)
{
    to = put_i16(to, p->bias);
    for (int n = 0; n < nears(x); n++)
        *to++ = (uint8_t)p->near[n];
    *to++ = p->nsources;
    for (int s = 0; s < p->nsources; s++) {
        to = put_i16(to, (int16_t)p->source[s].channel);
        *to++ = (uint8_t)p->source[s].col;
        *to++ = (uint8_t)p->source[s].weight;
    }
    return to;
}

void context_write(uint8_t *to, const struct context *x)
{
    *to++ = x->with_before ? FLAG_BEFORE : 0;
    for (int k = 0; k < CONTEXT_RANKS; k++)
        to = put_i16(to, x->rank[k]);
    for (int32_t c = 0; c < x->channels; c++)
        for (int q = 0; q < questions(x); q++)
            to = put_predictor(to, x, predictor_at(x, c, q));
}

static bool source_is_sound(const struct context_source *s, int32_t channel)
{
    return s->channel < channel && s->col >= -1 && s->col <= 1;
}

/* Reads a predictor of `channel`.  Returns how many bytes it took, 0 where it is damaged. */
static size_t get_predictor(struct predictor *p, const struct context *x, int32_t channel,
                            const uint8_t *from, size_t len)
{
    const size_t fixed = sizeof p->bias + (size_t)nears(x) + 1;
    if (len < fixed)
        return 0;
    p->bias = get_i16(from);
    memcpy(p->near, from + 2, (size_t)nears(x));
    p->nsources = from[fixed - 1];
    if (p->bias < -CONTEXT_MAX_BIAS || p->bias > CONTEXT_MAX_BIAS ||
        p->nsources > CONTEXT_SOURCES || len < predictor_bytes(x, p))
        return 0;
    from += fixed;
    for (int s = 0; s < p->nsources; s++, from += 4) {
        p->source[s] = (struct context_source){ .channel = (uint16_t)get_i16(from),
                                                .col = (int8_t)from[2],
                                                .weight = (int8_t)from[3] };
        if (!source_is_sound(&p->source[s], channel))
            return 0;
    }
    return predictor_bytes(x, p);
}

int context_read(struct context *to, int32_t channels, bool with_sign, const uint8_t *from,
                 size_t len, size_t *used)
{
    if (channels < 1 || channels > CONTEXT_MAX_CHANNELS || len < HEAD_BYTES ||
        from[0] > FLAG_BEFORE || (len - HEAD_BYTES) / 3 < (size_t)channels)
        return -EBADMSG;
    struct context x = { .channels = channels,
                         .with_sign = with_sign || from[0] == FLAG_BEFORE,
                         .with_before = from[0] == FLAG_BEFORE };
    for (int k = 0; k < CONTEXT_RANKS; k++)
        x.rank[k] = get_i16(from + 1 + 2 * k);
    x.predictor = calloc((size_t)channels * CONTEXT_QUESTIONS, sizeof(*x.predictor));
    if (!x.predictor)
        return -ENOMEM;
    size_t at = HEAD_BYTES;
    for (int32_t c = 0; c < channels; c++)
        for (int q = 0; q < questions(&x); q++) {
            struct predictor *p = &x.predictor[(size_t)c * CONTEXT_QUESTIONS + (size_t)q];
            const size_t took = get_predictor(p, &x, c, from + at, len - at);
            if (took == 0) {
                context_done(&x);
                return -EBADMSG;
            }
            at += took;
        }
    *to = x;
    *used = at;
    return 0;
}

void context_done(struct context *x)
{
    free(x->predictor);
    *x = (struct context){ 0 };
}
