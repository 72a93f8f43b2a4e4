#include "quant/tq.h"

#include <errno.h>
#include <string.h>

#include "quant/gamma.h"

enum { WORD_LEVELS = sizeof(uint64_t) / sizeof(int16_t) };

/* ---- Encoding */

/* Levels [at, at + WORD_LEVELS) of a line in one word, zeros behind the last of `n`. */
static uint64_t load_levels(const int16_t *line, size_t at, size_t n)
{
    uint64_t word = 0;
    const size_t left = n - at < WORD_LEVELS ? n - at : WORD_LEVELS;
    memcpy(&word, line + at, left * sizeof *line);
    return word;
}

/* Codes a line, `*zeros` of which stand before it without a code; leaves those at its end. */
static void put_line(struct bit_writer *w, const int16_t *line, size_t n, bool with_sign,
                     size_t *zeros)
{
    size_t done = 0;
    for (size_t at = 0; at < n; at += WORD_LEVELS)
        for (uint64_t word = load_levels(line, at, n); word;) {
            const unsigned place = (unsigned)__builtin_ctzll(word) / 16;
            const int16_t level = line[at + place];
            gamma_put(w, (uint32_t)(*zeros + at + place - done + 1));
            gamma_put(w, (uint32_t)(level < 0 ? -level : level));
            if (with_sign)
                bits_put(w, level < 0, 1);
            *zeros = 0;
            done = at + place + 1;
            word &= ~((uint64_t)0xFFFF << 16 * place);
        }
    *zeros += n - done;
}

size_t tq_put(uint8_t *to, size_t cap, const struct levels *l, bool with_sign)
{
    struct bit_writer w = bit_writer_of(to, cap);
    const size_t plane = levels_plane(l);
    size_t zeros = 0;
    if (l->channels * l->lines * l->cols > TQ_MAX_VALUES)
        return SIZE_MAX;
    for (size_t c = 0; c < l->channels && !w.full; c++)
        for (size_t line = 0; line < l->lines; line++)
            put_line(&w, l->level + c * plane + levels_line(l, line), l->cols, with_sign, &zeros);
    if (zeros > 0)
        gamma_put(&w, (uint32_t)zeros + 1);
    return w.full ? SIZE_MAX : (size_t)(bit_writer_end(&w) - to);
}

/* ---- Decoding */

/* Where value `i` of all, counted channel by channel, stands. */
static int16_t *place_of(const struct levels *l, size_t i)
{
    const size_t line = i / l->cols;
    return l->level + line / l->lines * levels_plane(l) + levels_line(l, line % l->lines) +
           i % l->cols;
}

int tq_get(const struct levels *l, bool with_sign, const uint8_t *from, size_t len)
{
    const size_t n = l->channels * l->lines * l->cols;
    if (n > TQ_MAX_VALUES)
        return -EBADMSG;
    memset(l->level, 0, l->channels * levels_plane(l) * sizeof *l->level);
    struct bit_reader r = bit_reader_of(from, len);
    for (size_t at = 0; at < n && !r.failed; at++) {
        at += gamma_get(&r) - (size_t)1;
        if (r.failed || at >= n) {
            r.failed = r.failed || at > n;
            break;
        }
        const uint32_t size = gamma_get(&r);
        if (size > LEVEL_MAX)
            r.failed = true;
        else
            *place_of(l, at) =
                (int16_t)(with_sign && bits_get(&r, 1) ? -(int32_t)size : (int32_t)size);
    }
    return bit_reader_ended(&r) ? 0 : -EBADMSG;
}
