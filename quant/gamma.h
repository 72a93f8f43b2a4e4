/* quant/gamma.h - bounded streams of bits, and Elias gamma codes in them.
 *
 * Bits fill bytes from the lowest up.  The code of v >= 1 with k = floor(log2 v) is k zeros, a
 * one, and the k bits below v's highest: small numbers are short, and no table is needed
 * (P. Elias, "Universal codeword sets", 1975). */
#ifndef QUANT_GAMMA_H
#define QUANT_GAMMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The longest code has 2 * GAMMA_MAX_LOG2 + 1 bits, which fit a half-filled word of 64. */
enum { GAMMA_MAX_LOG2 = 27, GAMMA_WORD = 8 };

/* A writer that runs out of room sticks: `full` stays set and what follows is lost. */
struct bit_writer {
    uint8_t *at, *end; /* GAMMA_WORD bytes before `end` are never filled */
    uint64_t word;     /* bits that are not yet at `at` */
    unsigned bits;     /* how many */
    bool full;
};

static inline struct bit_writer bit_writer_of(uint8_t *to, size_t cap)
{
    return (struct bit_writer){ .at = to, .end = to + cap };
}

/* Appends the lowest `n` <= 56 bits of `value`, whose other bits are 0. */
static inline void bits_put(struct bit_writer *w, uint64_t value, unsigned n)
{
    w->word |= value << w->bits;
    w->bits += n;
    if (w->end - w->at < GAMMA_WORD) {
        w->full = true;
        w->word = w->bits = 0;
        return;
    }
    memcpy(w->at, &w->word, GAMMA_WORD);
    w->at += w->bits / 8;
    /* At most 63 bits are held, so the shift is below the width of the word. */
    w->word >>= w->bits & ~7U;
    w->bits &= 7;
}

static inline unsigned gamma_log2(uint32_t value) { return 31U - (unsigned)__builtin_clz(value); }

/* `value` is in 1..2^(GAMMA_MAX_LOG2 + 1) - 1. */
static inline void gamma_put(struct bit_writer *w, uint32_t value)
{
    const unsigned k = gamma_log2(value);
    const uint64_t below = value ^ (uint32_t)1 << k;
    bits_put(w, (below << 1 | 1) << k, 2 * k + 1);
}

/* Where the stream ends; the last byte is filled up with zeros. */
static inline uint8_t *bit_writer_end(const struct bit_writer *w) { return w->at + (w->bits > 0); }

/* A reader that runs out sticks: later reads yield 0 and `failed` stays set. */
struct bit_reader {
    const uint8_t *at, *end;
    uint64_t word; /* bits taken from before `at`, the next one lowest */
    unsigned bits;
    bool failed;
};

static inline struct bit_reader bit_reader_of(const uint8_t *from, size_t len)
{
    return (struct bit_reader){ .at = from, .end = from + len };
}

/* Fills the word up to 56 bits or more, or to the end of the stream. */
static inline void bits_fill(struct bit_reader *r)
{
    if (r->end - r->at >= GAMMA_WORD) {
        uint64_t next;
        memcpy(&next, r->at, GAMMA_WORD);
        r->word |= next << r->bits;
        r->at += (63 - r->bits) / 8;
        r->bits |= 56;
        return;
    }
    for (; r->bits < 56 && r->at < r->end; r->bits += 8)
        r->word |= (uint64_t)*r->at++ << r->bits;
}

/* Takes the next `n` <= 56 bits off the word. */
static inline uint64_t bits_take(struct bit_reader *r, unsigned n)
{
    if (n > r->bits) {
        r->failed = true;
        r->word = r->bits = 0;
        return 0;
    }
    const uint64_t value = r->word & (((uint64_t)1 << n) - 1);
    r->word >>= n;
    r->bits -= n;
    return value;
}

static inline uint64_t bits_get(struct bit_reader *r, unsigned n)
{
    bits_fill(r);
    return bits_take(r, n);
}

/* 0 where there is no code, or a longer one than the writer makes. */
static inline uint32_t gamma_get(struct bit_reader *r)
{
    bits_fill(r);
    const unsigned k = r->word ? (unsigned)__builtin_ctzll(r->word) : 64;
    if (k > GAMMA_MAX_LOG2) {
        r->failed = true;
        r->word = r->bits = 0;
        return 0;
    }
    const uint64_t code = bits_take(r, 2 * k + 1);
    return r->failed ? 0 : (uint32_t)1 << k | (uint32_t)(code >> (k + 1));
}

/* True when nothing but the filling of the last byte is left. */
static inline bool bit_reader_ended(struct bit_reader *r)
{
    bits_fill(r);
    return !r->failed && r->at == r->end && r->bits < 8 && r->word == 0;
}

#endif
