#include "quant/tq.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "quant/gamma.h"
#include "quant/half.h"

/* While a message is made, each level waits as a symbol of 16 bits: the level times 2, plus 1
 * below 0.  They fill the second half of the message's room, which CODEC_F16 would not need. */
enum { SYMBOL = sizeof(uint16_t), WORD_SYMBOLS = sizeof(uint64_t) / SYMBOL };

/* Values are transposed by squares of this many pixels and channels. */
enum { SQUARE = 16 };

/* ---- The head */

static void put_head(uint8_t *to, const struct codec_quantizer *q, bool with_sign)
{
    const uint16_t dead_zone = half_of(q->dead_zone), gain = half_of(q->gain);
    to[0] = CODEC_TQ;
    to[1] = with_sign;
    memcpy(to + 2, &q->step, sizeof q->step);
    memcpy(to + 6, &dead_zone, sizeof dead_zone);
    memcpy(to + 8, &gain, sizeof gain);
}

/* How levels become values: (k + origin) * scale. */
struct levels {
    float scale, origin;
};

/* Reads a head.  Returns 0, or -EBADMSG where a level could become no finite number. */
static int get_head(const uint8_t *msg, struct codec_quantizer *q, struct levels *l)
{
    uint16_t dead_zone, gain;
    memcpy(&q->step, msg + 2, sizeof q->step);
    memcpy(&dead_zone, msg + 6, sizeof dead_zone);
    memcpy(&gain, msg + 8, sizeof gain);
    q->dead_zone = half_value(dead_zone);
    q->gain = half_value(gain);
    l->scale = q->gain * q->step;
    l->origin = q->dead_zone - 0.5F;
    const bool sound = q->step > 0 && q->gain > 0 && q->dead_zone >= 0 &&
                       isfinite((TQ_MAX_LEVEL + l->origin) * l->scale);
    return msg[1] <= 1 && sound ? 0 : -EBADMSG;
}

/* ---- Encoding */

/* The symbols of `n` values, whose levels are at most TQ_MAX_LEVEL.  `inverse` is that of the
 * step. */
static void quantize(uint16_t *restrict to, const float *restrict values, size_t n, float inverse,
                     float dead_zone)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = float_bits(values[i]);
        const float level = bits_float(bits & 0x7FFFFFFFU) * inverse - dead_zone + 1;
        const int32_t whole = (int32_t)(level >= 1 ? level : 0);
        to[i] = (uint16_t)(whole ? whole << 1 | (int32_t)(bits >> 31) : 0);
    }
}

/* Quantizes pixels [p, p + np) of channels [c, c + nc) to where they stand channel by channel. */
static void quantize_square(uint8_t *restrict symbols, const float *restrict values,
                            size_t channels, size_t pixels, size_t p, size_t np, size_t c,
                            size_t nc, const float q[2])
{
    uint16_t square[SQUARE][SQUARE], line[SQUARE];
    for (size_t i = 0; i < np; i++)
        quantize(square[i], values + (p + i) * channels + c, nc, q[0], q[1]);
    for (size_t k = 0; k < nc; k++) {
        for (size_t i = 0; i < np; i++)
            line[i] = square[i][k];
        memcpy(symbols + SYMBOL * ((c + k) * pixels + p), line, SYMBOL * np);
    }
}

static void quantize_all(uint8_t *restrict symbols, const float *restrict values, size_t n,
                         size_t channels, const struct codec_quantizer *q)
{
    const size_t pixels = n / channels;
    const float by[2] = { 1 / q->step, q->dead_zone };
    for (size_t p = 0; p < pixels; p += SQUARE)
        for (size_t c = 0; c < channels; c += SQUARE)
            quantize_square(symbols, values, channels, pixels, p,
                            pixels - p < SQUARE ? pixels - p : SQUARE, c,
                            channels - c < SQUARE ? channels - c : SQUARE, by);
}

/* Symbols [at, at + WORD_SYMBOLS) in one word, zeros behind the last of `n`. */
static uint64_t load_symbols(const uint8_t *symbols, size_t at, size_t n)
{
    uint64_t word = 0;
    if (n - at >= WORD_SYMBOLS)
        memcpy(&word, symbols + SYMBOL * at, sizeof word);
    else
        memcpy(&word, symbols + SYMBOL * at, SYMBOL * (n - at));
    return word;
}

static void put_symbols(struct bit_writer *w, const uint8_t *symbols, size_t n, bool with_sign)
{
    size_t done = 0;
    for (size_t at = 0; at < n && !w->full; at += WORD_SYMBOLS)
        for (uint64_t word = load_symbols(symbols, at, n); word;) {
            const unsigned shift = (unsigned)__builtin_ctzll(word) & ~15U;
            const size_t place = at + shift / 16;
            const uint32_t symbol = word >> shift & 0xFFFF;
            gamma_put(w, (uint32_t)(place - done + 1));
            gamma_put(w, symbol >> 1);
            if (with_sign)
                bits_put(w, symbol & 1, 1);
            word &= ~((uint64_t)0xFFFF << shift);
            done = place + 1;
        }
    if (done < n)
        gamma_put(w, (uint32_t)(n - done + 1));
}

/* Whether every value has a level and every level a value. */
static bool is_in_range(const struct codec_range *r, const struct codec_quantizer *q)
{
    const float largest = bits_float(r->largest), inverse = 1 / q->step;
    return isfinite(inverse) && largest * inverse - q->dead_zone + 1 < TQ_MAX_LEVEL;
}

size_t tq_put(uint8_t *restrict to, const float *restrict values, size_t n, size_t channels,
              const struct codec_quantizer *q, const struct codec_range *r)
{
    struct codec_quantizer sent;
    struct levels levels;
    if (n > TQ_MAX_VALUES || channels < 1 || channels > TQ_MAX_VALUES)
        return 0;
    const size_t room = codec_len(CODEC_F16, n);
    if (room < TQ_HEAD)
        return 0;
    put_head(to, q, r->signs != 0);
    if (get_head(to, &sent, &levels) || !is_in_range(r, &sent))
        return 0;

    uint8_t *symbols = to + room;
    quantize_all(symbols, values, n, channels, &sent);
    struct bit_writer w = bit_writer_of(to + TQ_HEAD, room - TQ_HEAD);
    gamma_put(&w, (uint32_t)channels);
    put_symbols(&w, symbols, n, r->signs != 0);
    return w.full ? 0 : (size_t)(bit_writer_end(&w) - to);
}

/* ---- Decoding */

/* A value's place among `pixels` of `channels`, counted channel by channel. */
struct place {
    size_t pixel, channel, pixels, channels;
};

static void skip(struct place *at, size_t n)
{
    at->pixel += n;
    if (at->pixel >= at->pixels) {
        at->channel += at->pixel / at->pixels;
        at->pixel %= at->pixels;
    }
}

/* Reads the levels of `n` values that are 0 so far.  A stream that ends early sets r->failed. */
static void get_levels(float *restrict values, size_t n, struct place at, struct bit_reader *r,
                       const struct levels *l, bool with_sign)
{
    for (size_t left = n; left > 0 && !r->failed; left--) {
        const size_t zeros = gamma_get(r) - (size_t)1;
        if (r->failed || zeros >= left) {
            r->failed = r->failed || zeros > left;
            return;
        }
        skip(&at, zeros);
        left -= zeros;
        const uint32_t level = gamma_get(r);
        if (level > TQ_MAX_LEVEL)
            r->failed = true;
        const float size = ((float)level + l->origin) * l->scale;
        values[at.pixel * at.channels + at.channel] = with_sign && bits_get(r, 1) ? -size : size;
        skip(&at, 1);
    }
}

int tq_get(float *restrict values, size_t n, const uint8_t *restrict msg, size_t len)
{
    struct codec_quantizer q;
    struct levels levels;
    if (len <= TQ_HEAD || n > TQ_MAX_VALUES || get_head(msg, &q, &levels))
        return -EBADMSG;
    struct bit_reader r = bit_reader_of(msg + TQ_HEAD, len - TQ_HEAD);
    const size_t channels = gamma_get(&r);
    if (r.failed || n % channels != 0)
        return -EBADMSG;

    const struct place first = { 0, 0, n / channels, channels };
    memset(values, 0, n * sizeof(*values));
    get_levels(values, n, first, &r, &levels, msg[1] != 0);
    return bit_reader_ended(&r) ? 0 : -EBADMSG;
}
