/* quant/codec.h - values <-> the bytes of one message.
 *
 * A message is one mode byte and what that mode says, little-endian:
 *
 *   mode       after the byte
 *   CODEC_F32  n floats, 4 bytes each (bit-exact)
 *   CODEC_U8   n bytes; the receiver makes value[i] = (byte * scale - mean[c]) / std[c],
 *              c = i % channels: pixels of the picture, exact
 *   CODEC_F16  n halves, 2 bytes each (IEEE 754 binary16, rounded to nearest, ties to even)
 *   CODEC_Q8   signed u8 (0 or 1), scale f32, n bytes: value = scale * byte, where the byte is
 *              0..255, or, if signed, -128..127
 *   CODEC_Q4   the same with 4 bits a value, 0..15 or -8..7, value 2i in the low half of byte i
 *   CODEC_TQ, CODEC_CTX, CODEC_VIDEO: few levels and short codes for the many zeros, by what the
 *              plan knows of the tensor: see quant/recipe.h
 *
 * Every message but CODEC_VIDEO can be decoded alone.  Values stand rows, columns, channels, the
 * channel running fastest.  Pure functions on the caller's buffers: no allocation, no state, any
 * thread. */
#ifndef QUANT_CODEC_H
#define QUANT_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum codec_mode {
    CODEC_F32 = 0,
    CODEC_U8 = 1,
    CODEC_F16 = 2,
    CODEC_Q8 = 3,
    CODEC_Q4 = 4,
    CODEC_TQ = 5,
    CODEC_CTX = 6,
    CODEC_VIDEO = 7
};

enum { CODEC_MAX_PIXEL_CHANNELS = 4, CODEC_SCALED_HEAD = 6 };

/* How the bytes of a picture become values. */
struct codec_pixels {
    int32_t channels; /* 1..CODEC_MAX_PIXEL_CHANNELS */
    float scale;
    float mean[CODEC_MAX_PIXEL_CHANNELS];
    float std[CODEC_MAX_PIXEL_CHANNELS]; /* not 0 */
};

/* Most bytes that a message of `n` values can take, whatever the mode. */
static inline size_t codec_bound(size_t n) { return 1 + 4 * n; }

/* Bytes of a message of `n` values in a mode whose length hangs on nothing else; of others the
 * most. */
static inline size_t codec_len(enum codec_mode mode, size_t n)
{
    switch (mode) {
    case CODEC_U8:
        return 1 + n;
    case CODEC_F16:
        return 1 + 2 * n;
    case CODEC_Q8:
        return CODEC_SCALED_HEAD + n;
    case CODEC_Q4:
        return CODEC_SCALED_HEAD + n / 2 + n % 2;
    case CODEC_F32:
    case CODEC_TQ:
    case CODEC_CTX:
    case CODEC_VIDEO:
        break;
    }
    return codec_bound(n);
}

/* ---- Encoding.  `to` has room for codec_bound(n); the bytes written are returned. */

size_t codec_put_f32(uint8_t *restrict to, const float *restrict values, size_t n);

/* Encodes `n` bytes of pixels as CODEC_U8. */
size_t codec_put_u8(uint8_t *restrict to, const uint8_t *restrict pixels, size_t n);

/* Encodes as CODEC_F16, CODEC_Q8 or CODEC_Q4 (any other mode counts as CODEC_F32).  The largest
 * magnitude sets the scale, and an error is at most half of it.  Becomes CODEC_F32 where the mode
 * saves nothing or cannot hold the values: one is no number, infinite, too large or, all
 * together, too small. */
size_t codec_put(uint8_t *restrict to, enum codec_mode mode, const float *restrict values,
                 size_t n);

/* ---- Decoding */

/* Decodes a message of any bytes into exactly `n` floats.  `pixels` may be NULL where no
 * picture is expected.  Returns 0, -EBADMSG (the length does not fit n, or a field is out of
 * range) or -EPROTO (unknown mode, one of quant/recipe.h, or pixels where none are expected);
 * `values` is undefined then. */
int codec_get(float *restrict values, size_t n, const uint8_t *restrict msg, size_t len,
              const struct codec_pixels *pixels);

/* What the receiver makes of bytes [first, first + n) of a picture; `bytes` is the first of
 * them. */
void codec_pixel_values(float *restrict values, const uint8_t *restrict bytes, size_t first,
                        size_t n, const struct codec_pixels *pixels);

/* ---- The same in pieces, for values that do not stand in one run in memory.
 *
 * CODEC_F32 and CODEC_U8: the mode byte, then runs in any order, value `first` of the message
 * first; or, where codec_f32_at() says, the bytes of floats. */
void codec_set_mode(uint8_t *to, enum codec_mode mode);
static inline uint8_t *codec_f32_at(uint8_t *to, size_t first) { return to + 1 + 4 * first; }
void codec_set_f32(uint8_t *restrict to, size_t first, const float *restrict values, size_t n);
void codec_set_u8(uint8_t *restrict to, size_t first, const uint8_t *restrict pixels, size_t n);

/* What the scale of a message hangs on; all zeros before the first run. */
struct codec_range {
    uint32_t largest; /* magnitude, as the bits of a float; above those of infinity: no number */
    uint32_t signs;   /* the highest bit: a value is below 0 */
};
void codec_range_add(struct codec_range *r, const float *values, size_t n);

/* All that codec_put() does but the values: the head of a message of `n` values of range `r`.
 * Returns the length of the message; codec_set_run() of all its runs, by rising `first`,
 * completes it. */
size_t codec_begin(uint8_t *to, enum codec_mode mode, const struct codec_range *r, size_t n);
void codec_set_run(uint8_t *restrict to, size_t first, const float *restrict values, size_t n);

/* Returns what codec_get() of this message would; after 0, codec_get_run() of
 * any run within its `n` values cannot fail. */
int codec_check(const uint8_t *msg, size_t len, size_t n, const struct codec_pixels *pixels);
/* Values [first, first + n) of a checked message. */
void codec_get_run(float *restrict values, size_t first, size_t n, const uint8_t *restrict msg,
                   const struct codec_pixels *pixels);

#endif
