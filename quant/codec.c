#include "quant/codec.h"

#include <errno.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "floats travel as they lie in memory: little-endian");

void codec_set_mode(uint8_t *to, enum codec_mode mode) { to[0] = (uint8_t)mode; }

void codec_set_f32(uint8_t *restrict to, size_t first, const float *restrict values, size_t n)
{
    if (n > 0)
        memcpy(to + 1 + 4 * first, values, 4 * n);
}

void codec_set_u8(uint8_t *restrict to, size_t first, const uint8_t *restrict pixels, size_t n)
{
    if (n > 0)
        memcpy(to + 1 + first, pixels, n);
}

size_t codec_put_f32(uint8_t *restrict to, const float *restrict values, size_t n)
{
    codec_set_mode(to, CODEC_F32);
    codec_set_f32(to, 0, values, n);
    return codec_len(CODEC_F32, n);
}

size_t codec_put_u8(uint8_t *restrict to, const uint8_t *restrict pixels, size_t n)
{
    codec_set_mode(to, CODEC_U8);
    codec_set_u8(to, 0, pixels, n);
    return codec_len(CODEC_U8, n);
}

int codec_check(const uint8_t *msg, size_t len, size_t n, const struct codec_pixels *pixels)
{
    if (len < 1)
        return -EBADMSG;
    switch (msg[0]) {
    case CODEC_F32:
        break;
    case CODEC_U8:
        if (!pixels)
            return -EPROTO;
        break;
    default:
        return -EPROTO;
    }
    /* Compared by division, so that no `n` overflows. */
    const size_t width = msg[0] == CODEC_U8 ? 1 : 4;
    return (len - 1) % width == 0 && (len - 1) / width == n ? 0 : -EBADMSG;
}

void codec_pixel_values(float *restrict values, const uint8_t *restrict bytes, size_t first,
                        size_t n, const struct codec_pixels *pixels)
{
    size_t c = first % (size_t)pixels->channels;
    for (size_t i = 0; i < n; i++) {
        values[i] = ((float)bytes[i] * pixels->scale - pixels->mean[c]) / pixels->std[c];
        if (++c == (size_t)pixels->channels)
            c = 0;
    }
}

void codec_get_run(float *restrict values, size_t first, size_t n, const uint8_t *restrict msg,
                   const struct codec_pixels *pixels)
{
    if (n == 0)
        return;
    if (msg[0] == CODEC_F32)
        memcpy(values, msg + 1 + 4 * first, 4 * n);
    else
        codec_pixel_values(values, msg + 1 + first, first, n, pixels);
}

int codec_get(float *restrict values, size_t n, const uint8_t *restrict msg, size_t len,
              const struct codec_pixels *pixels)
{
    const int err = codec_check(msg, len, n, pixels);
    if (err)
        return err;
    codec_get_run(values, 0, n, msg, pixels);
    return 0;
}
