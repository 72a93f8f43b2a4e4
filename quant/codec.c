#include "quant/codec.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "quant/half.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "floats travel as they lie in memory: little-endian");

/* ---- CODEC_F32 and CODEC_U8 */

void codec_set_mode(uint8_t *to, enum codec_mode mode) { to[0] = (uint8_t)mode; }

void codec_set_f32(uint8_t *restrict to, size_t first, const float *restrict values, size_t n)
{
    if (n > 0)
        memcpy(codec_f32_at(to, first), values, 4 * n);
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

/* ---- CODEC_F16 */

static void put_halves(uint8_t *restrict to, const float *restrict values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = half_of(values[i]);
        memcpy(to + 2 * i, &half, sizeof half);
    }
}

static void get_halves(float *restrict values, const uint8_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        values[i] = half_value(half);
    }
}

/* ---- CODEC_Q8 and CODEC_Q4 */

enum { TILE = 256 }; /* values that are quantized at a time, an even number */

static bool is_signed(const uint8_t *msg) { return msg[1] != 0; }

static float scale_of(const uint8_t *msg)
{
    float scale;
    memcpy(&scale, msg + 2, sizeof scale);
    return scale;
}

/* No byte times such a scale is infinite. */
static bool scale_is_sound(float scale) { return scale >= 0 && scale <= FLT_MAX / 256; }

/* Rounds value * inverse, of magnitude below 2^22, to whole numbers and keeps their lowest 8 bits:
 * beside 1.5 * 2^23 the unit of a float's last place is 1. */
static void quantize(uint8_t *restrict to, const float *restrict values, size_t n, float inverse)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(float_bits(values[i] * inverse + 12582912.0F) & 0xFF);
}

/* Packs codes of which the first belongs in the low half of a byte. */
static void pack_halves(uint8_t *restrict to, const uint8_t *restrict code, size_t n)
{
    for (size_t i = 0; i < n / 2; i++)
        to[i] = (uint8_t)((code[2 * i] & 15) | (code[2 * i + 1] & 15) << 4);
    if (n % 2)
        to[n / 2] = code[n - 1] & 15;
}

static void put_q4(uint8_t *restrict to, size_t first, const float *restrict values, size_t n,
                   float inverse)
{
    uint8_t code[TILE] = { 0 };
    if (first % 2 && n > 0) {
        quantize(code, values, 1, inverse);
        to[first / 2] = (uint8_t)((to[first / 2] & 15) | (code[0] & 15) << 4);
        first++;
        values++;
        n--;
    }
    for (size_t done = 0; done < n; done += TILE) {
        const size_t len = n - done < TILE ? n - done : TILE;
        quantize(code, values + done, len, inverse);
        pack_halves(to + (first + done) / 2, code, len);
    }
}

static void get_q8(float *restrict values, const uint8_t *restrict from, size_t n, bool with_sign,
                   float scale)
{
    if (with_sign)
        for (size_t i = 0; i < n; i++)
            values[i] = (float)(int8_t)from[i] * scale;
    else
        for (size_t i = 0; i < n; i++)
            values[i] = (float)from[i] * scale;
}

/* 4 bits as a number; `bias` is 8 where they are signed, else 0. */
static float q4_value(unsigned code, unsigned bias, float scale)
{
    return (float)((int)((code ^ bias) & 15) - (int)bias) * scale;
}

static void get_q4(float *restrict values, size_t first, size_t n, const uint8_t *restrict from,
                   bool with_sign, float scale)
{
    const unsigned bias = with_sign ? 8 : 0;
    if (first % 2 && n > 0) {
        *values++ = q4_value(from[first / 2] >> 4, bias, scale);
        first++;
        n--;
    }
    from += first / 2;
    for (size_t i = 0; i < n / 2; i++) {
        values[2 * i] = q4_value(from[i], bias, scale);
        values[2 * i + 1] = q4_value(from[i] >> 4, bias, scale);
    }
    if (n % 2)
        values[n - 1] = q4_value(from[n / 2], bias, scale);
}

/* ---- Encoding */

void codec_range_add(struct codec_range *r, const float *values, size_t n)
{
    /* As whole numbers, magnitudes of floats stand in the same order, and compilers know how to
     * find the largest of many. */
    int32_t largest = (int32_t)r->largest;
    uint32_t signs = r->signs;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = float_bits(values[i]);
        const int32_t size = (int32_t)(bits & 0x7FFFFFFFU);
        largest = size > largest ? size : largest;
        signs |= size ? bits : 0; /* -0 is no value below 0 */
    }
    r->largest = (uint32_t)largest;
    r->signs = signs & 0x80000000U;
}

/* The scale at which the largest magnitude has the largest code; negative if there is none. */
static float choose_scale(enum codec_mode mode, const struct codec_range *r)
{
    const float levels = mode == CODEC_Q8 ? (r->signs ? 127 : 255) : (r->signs ? 7 : 15);
    const float scale = bits_float(r->largest) / levels;
    if (r->largest == 0)
        return 0;
    /* The inverse of a smaller scale may be infinite. */
    return scale >= FLT_MIN && scale_is_sound(scale) ? scale : -1;
}

/* The mode in which the values travel if `mode` is wished for. */
static enum codec_mode choose_mode(enum codec_mode mode, const struct codec_range *r, size_t n)
{
    const float largest = bits_float(r->largest);
    bool holds = false;
    if (mode == CODEC_F16)
        holds = largest <= HALF_MAX;
    else if (mode == CODEC_Q8 || mode == CODEC_Q4)
        holds = isfinite(largest) && choose_scale(mode, r) >= 0;
    return holds && codec_len(mode, n) < codec_bound(n) ? mode : CODEC_F32;
}

size_t codec_begin(uint8_t *to, enum codec_mode mode, const struct codec_range *r, size_t n)
{
    const enum codec_mode chosen = choose_mode(mode, r, n);
    codec_set_mode(to, chosen);
    if (chosen == CODEC_Q8 || chosen == CODEC_Q4) {
        const float scale = choose_scale(chosen, r);
        to[1] = r->signs != 0;
        memcpy(to + 2, &scale, sizeof scale);
    }
    return codec_len(chosen, n);
}

void codec_set_run(uint8_t *restrict to, size_t first, const float *restrict values, size_t n)
{
    const enum codec_mode mode = (enum codec_mode)to[0];
    if (mode == CODEC_F32) {
        codec_set_f32(to, first, values, n);
        return;
    }
    if (mode == CODEC_F16) {
        put_halves(to + 1 + 2 * first, values, n);
        return;
    }
    const float scale = scale_of(to);
    const float inverse = scale > 0 ? 1 / scale : 0;
    if (mode == CODEC_Q8)
        quantize(to + CODEC_SCALED_HEAD + first, values, n, inverse);
    else
        put_q4(to + CODEC_SCALED_HEAD, first, values, n, inverse);
}

size_t codec_put(uint8_t *restrict to, enum codec_mode mode, const float *restrict values, size_t n)
{
    struct codec_range r = { 0 };
    if (mode != CODEC_F32)
        codec_range_add(&r, values, n);
    const size_t len = codec_begin(to, mode, &r, n);
    codec_set_run(to, 0, values, n);
    return len;
}

/* ---- Decoding */

int codec_check(const uint8_t *msg, size_t len, size_t n, const struct codec_pixels *pixels)
{
    if (len < 1)
        return -EBADMSG;
    const enum codec_mode mode = (enum codec_mode)msg[0];
    const bool is_scaled = mode == CODEC_Q8 || mode == CODEC_Q4;
    if (mode != CODEC_F32 && mode != CODEC_F16 && !is_scaled && (mode != CODEC_U8 || !pixels))
        return -EPROTO;
    /* No mode packs more than two values into a byte; codec_len() of such `n` cannot overflow. */
    if (n / 2 > len || n > SIZE_MAX / 8 || codec_len(mode, n) != len)
        return -EBADMSG;
    return is_scaled && (msg[1] > 1 || !scale_is_sound(scale_of(msg))) ? -EBADMSG : 0;
}

void codec_get_run(float *restrict values, size_t first, size_t n, const uint8_t *restrict msg,
                   const struct codec_pixels *pixels)
{
    if (n == 0)
        return;
    switch ((enum codec_mode)msg[0]) {
    case CODEC_F32:
        memcpy(values, msg + 1 + 4 * first, 4 * n);
        break;
    case CODEC_U8:
        codec_pixel_values(values, msg + 1 + first, first, n, pixels);
        break;
    case CODEC_F16:
        get_halves(values, msg + 1 + 2 * first, n);
        break;
    case CODEC_Q8:
        get_q8(values, msg + CODEC_SCALED_HEAD + first, n, is_signed(msg), scale_of(msg));
        break;
    case CODEC_Q4:
        get_q4(values, first, n, msg + CODEC_SCALED_HEAD, is_signed(msg), scale_of(msg));
        break;
    case CODEC_TQ:
    case CODEC_CTX:
    case CODEC_VIDEO:
        break; /* codec_check() lets none pass */
    }
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
