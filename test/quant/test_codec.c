#include "quant/codec.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

static const struct codec_pixels rgb = {
    .channels = 3, .scale = 2, .mean = { 1, 2, 3 }, .std = { 1, 2, 4 }
};

/* Decode of encode gives the same bits, whatever they mean. */
Test(codec, f32_round_trip_is_bit_exact)
{
    srand(1);
    for (size_t n = 0; n < 70; n++) {
        uint32_t bits[70];
        float in[70], out[70];
        uint8_t msg[1 + 4 * 70];
        for (size_t i = 0; i < n; i++)
            bits[i] = (uint32_t)rand() * 2654435761U; /* NaNs and denormals included */
        memcpy(in, bits, sizeof(in));
        const size_t len = codec_put_f32(msg, in, n);
        cr_assert_eq(len, codec_bound(n));
        cr_assert_eq(codec_get(out, n, msg, len, NULL), 0);
        cr_assert(memcmp(in, out, n * sizeof(float)) == 0, "%zu values", n);
    }
}

Test(codec, pixels_become_normalized_values)
{
    uint8_t in[7] = { 0, 10, 255, 7, 8, 9, 1 }, msg[8];
    float out[7];
    const size_t len = codec_put_u8(msg, in, 7);
    cr_assert_eq(len, 8);
    cr_assert_eq(codec_get(out, 7, msg, len, &rgb), 0);
    for (size_t i = 0; i < 7; i++)
        cr_assert_eq(out[i], ((float)in[i] * 2 - (float)(1 + i % 3)) / rgb.std[i % 3]);
}

/* Any order of any runs makes the same message, and reads the same values. */
Test(codec, runs_are_the_whole_in_pieces)
{
    float in[20], out[20];
    uint8_t whole[81], pieces[81];
    for (size_t i = 0; i < 20; i++)
        in[i] = (float)i * 0.37F;
    const size_t len = codec_put_f32(whole, in, 20);
    const size_t cut[] = { 0, 3, 4, 11, 20 };
    codec_set_mode(pieces, CODEC_F32);
    for (size_t i = 4; i-- > 0;)
        codec_set_f32(pieces, cut[i], in + cut[i], cut[i + 1] - cut[i]);
    cr_assert(memcmp(whole, pieces, len) == 0);
    cr_assert_eq(codec_check(pieces, len, 20, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        codec_get_run(out + cut[i], cut[i], cut[i + 1] - cut[i], pieces, NULL);
    cr_assert(memcmp(in, out, sizeof(in)) == 0);
}

/* A run that begins inside a pixel takes that channel's mean. */
Test(codec, pixel_runs_keep_the_channel)
{
    uint8_t in[9], msg[10];
    float whole[9], out[9];
    for (size_t i = 0; i < 9; i++)
        in[i] = (uint8_t)(i * 25);
    codec_put_u8(msg, in, 9);
    codec_get_run(whole, 0, 9, msg, &rgb);
    codec_get_run(out, 0, 4, msg, &rgb);
    codec_get_run(out + 4, 4, 5, msg, &rgb);
    cr_assert(memcmp(whole, out, sizeof(out)) == 0);
}

Test(codec, refuses_every_wrong_length_and_mode)
{
    for (size_t len = 0; len < 40; len++)
        for (int mode = 0; mode < 256; mode++) {
            /* Exactly `len` bytes, so that a sanitizer sees any read behind them. */
            uint8_t *msg = calloc(len + 1, 1);
            float out[4];
            if (len)
                msg[0] = (uint8_t)mode;
            uint8_t *exact = malloc(len ? len : 1);
            memcpy(exact, msg, len);
            const int err = codec_get(out, 4, exact, len, NULL);
            const int with_pixels = codec_get(out, 4, exact, len, &rgb);
            if (len == 0)
                cr_assert_eq(err, -EBADMSG);
            else if (mode == CODEC_F32)
                cr_assert_eq(err, len == 17 ? 0 : -EBADMSG);
            else
                cr_assert_eq(err, -EPROTO);
            if (len > 0 && mode == CODEC_U8)
                cr_assert_eq(with_pixels, len == 5 ? 0 : -EBADMSG);
            free(exact);
            free(msg);
        }
}

/* 1 + 4 n must not wrap around to a small length. */
Test(codec, refuses_counts_that_would_overflow)
{
    const uint8_t msg[9] = { CODEC_F32 };
    cr_assert_eq(codec_check(msg, 9, (SIZE_MAX >> 2) + 3, NULL), -EBADMSG);
    cr_assert_eq(codec_check(msg, 9, 2, NULL), 0);
}
