/* quant/range.h - a binary range coder in bounded memory.
 *
 * Each bit is coded with the chance that it is 1, in 1/RANGE_ONE, by carry-propagating arithmetic
 * on 32 bits (G. Martin, "Range encoding", 1979; the form that LZMA made known).  A stream has no
 * end of its own: what is behind it reads as zeros, so that its last zeros need not be stored and
 * one of likely zeros alone takes no byte. */
#ifndef QUANT_RANGE_H
#define QUANT_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RANGE_BITS = 15, RANGE_ONE = 1 << RANGE_BITS, RANGE_HALF = RANGE_ONE / 2 };
#define RANGE_LEAST (UINT32_C(1) << 24) /* below, a byte is shifted out */

/* A writer that runs out of room sticks: `full` stays set and what follows is lost. */
struct range_writer {
    uint8_t *at, *end;
    uint64_t low;     /* below 2^33: bit 32 is a carry */
    uint32_t range;   /* of what is left from `low` on */
    uint32_t pending; /* bytes of 0xFF behind `held`, which a carry would turn to 0 */
    uint8_t held;     /* the byte before them */
    bool started;     /* `held` is one; what comes before the first is 0 and not stored */
    bool full;
};

static inline struct range_writer range_writer_of(uint8_t *to, size_t cap)
{
    return (struct range_writer){ .at = to, .end = to + cap, .range = UINT32_MAX };
}

static inline void range_store(struct range_writer *w, uint8_t byte)
{
    if (w->at == w->end)
        w->full = true;
    else
        *w->at++ = byte;
}

static inline void range_shift(struct range_writer *w)
{
    if (w->low < 0xFF000000U || w->low > UINT32_MAX) {
        const uint8_t carry = (uint8_t)(w->low >> 32);
        if (w->started)
            range_store(w, (uint8_t)(w->held + carry));
        for (; w->pending > 0; w->pending--)
            range_store(w, (uint8_t)(0xFF + carry));
        w->started = true;
        w->held = (uint8_t)(w->low >> 24);
    } else {
        w->pending++;
    }
    w->low = (w->low & 0x00FFFFFF) << 8;
}

/* `chance` of a 1 is in 1..RANGE_ONE - 1. */
static inline void range_put(struct range_writer *w, uint32_t chance, bool bit)
{
    const uint32_t bound = (w->range >> RANGE_BITS) * (RANGE_ONE - chance);
    if (bit) {
        w->low += bound;
        w->range -= bound;
    } else {
        w->range = bound;
    }
    while (w->range < RANGE_LEAST) {
        w->range <<= 8;
        range_shift(w);
    }
}

/* Ends the stream that began at `start` with the number in range that has most zeros at its end.
 * Returns where it ends. */
static inline uint8_t *range_writer_end(struct range_writer *w, const uint8_t *start)
{
    const uint64_t last = w->low + w->range - 1;
    for (int zeros = 32; zeros >= 0; zeros--) {
        const uint64_t mask = (UINT64_C(1) << zeros) - 1;
        const uint64_t rounded = (w->low + mask) & ~mask;
        if (rounded > last)
            continue;
        w->low = rounded;
        break;
    }
    while (w->low != 0 || w->held != 0 || w->pending > 0)
        range_shift(w);
    while (w->at > start && w->at[-1] == 0)
        w->at--;
    return w->at;
}

struct range_reader {
    const uint8_t *at, *end;
    uint32_t code, range;
};

static inline void range_fetch(struct range_reader *r)
{
    r->code = r->code << 8 | (r->at < r->end ? *r->at++ : 0);
}

static inline struct range_reader range_reader_of(const uint8_t *from, size_t len)
{
    struct range_reader r = { .at = from, .end = from + len, .range = UINT32_MAX };
    for (int i = 0; i < 4; i++)
        range_fetch(&r);
    return r;
}

static inline bool range_get(struct range_reader *r, uint32_t chance)
{
    const uint32_t bound = (r->range >> RANGE_BITS) * (RANGE_ONE - chance);
    const bool bit = r->code >= bound;
    if (bit) {
        r->code -= bound;
        r->range -= bound;
    } else {
        r->range = bound;
    }
    while (r->range < RANGE_LEAST) {
        r->range <<= 8;
        range_fetch(r);
    }
    return bit;
}

/* True when no byte of the stream was left unread. */
static inline bool range_reader_ended(const struct range_reader *r) { return r->at == r->end; }

#endif
