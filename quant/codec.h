/* quant/codec.h - values <-> the bytes of one message.
 *
 * A message is one mode byte and what that mode says, little-endian:
 *
 *   mode       after the byte
 *   CODEC_F32  n floats, 4 bytes each (bit-exact)
 *   CODEC_U8   n bytes; the receiver makes value[i] = (byte * scale - mean[c]) / std[c],
 *              c = i % channels: pixels of the picture, exact
 *
 * Values stand rows, columns, channels, the channel running fastest.  Pure functions on
 * the caller's buffers: no allocation, no state, any thread. */
#ifndef QUANT_CODEC_H
#define QUANT_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum codec_mode { CODEC_F32 = 0, CODEC_U8 = 1 };

enum { CODEC_MAX_PIXEL_CHANNELS = 4 };

/* How the bytes of a picture become values. */
struct codec_pixels {
    int32_t channels; /* 1..CODEC_MAX_PIXEL_CHANNELS */
    float scale;
    float mean[CODEC_MAX_PIXEL_CHANNELS];
    float std[CODEC_MAX_PIXEL_CHANNELS]; /* not 0 */
};

/* Most bytes that a message of `n` values can take, whatever the mode. */
static inline size_t codec_bound(size_t n) { return 1 + 4 * n; }

/* Encodes `n` floats as CODEC_F32.  `to` has room for codec_bound(n).  Returns the bytes
 * written. */
size_t codec_put_f32(uint8_t *restrict to, const float *restrict values, size_t n);

/* Encodes `n` bytes of pixels as CODEC_U8.  Returns the bytes written (1 + n). */
size_t codec_put_u8(uint8_t *restrict to, const uint8_t *restrict pixels, size_t n);

/* What the receiver makes of bytes [first, first + n) of a picture; `bytes` is the first of
 * them. */
void codec_pixel_values(float *restrict values, const uint8_t *restrict bytes, size_t first,
                        size_t n, const struct codec_pixels *pixels);

/* Decodes a message of any bytes into exactly `n` floats.  `pixels` may be NULL where no
 * picture is expected.  Returns 0, -EBADMSG (the length does not fit n) or -EPROTO
 * (unknown mode, or pixels where none are expected); `values` is undefined then. */
int codec_get(float *restrict values, size_t n, const uint8_t *restrict msg, size_t len,
              const struct codec_pixels *pixels);

/* The same in pieces, for values that do not stand in one run in memory: the mode byte, then
 * runs in any order, value `first` of the message first. */
static inline size_t codec_len(enum codec_mode mode, size_t n)
{
    return 1 + (mode == CODEC_U8 ? n : 4 * n);
}
void codec_set_mode(uint8_t *to, enum codec_mode mode);
void codec_set_f32(uint8_t *restrict to, size_t first, const float *restrict values, size_t n);
void codec_set_u8(uint8_t *restrict to, size_t first, const uint8_t *restrict pixels, size_t n);

/* Returns what codec_get() of this message would; after 0, codec_get_run() of any run within
 * its `n` values cannot fail. */
int codec_check(const uint8_t *msg, size_t len, size_t n, const struct codec_pixels *pixels);
/* Values [first, first + n) of a checked message. */
void codec_get_run(float *restrict values, size_t first, size_t n, const uint8_t *restrict msg,
                   const struct codec_pixels *pixels);

#endif
