#include "quant/codec.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
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

/* What a message of 4 values and `len` zeros after the mode byte decodes to. */
static int expected(int mode, size_t len, bool with_pixels)
{
    switch (mode) {
    case CODEC_F32:
    case CODEC_F16:
    case CODEC_Q8:
    case CODEC_Q4:
        return len == codec_len((enum codec_mode)mode, 4) ? 0 : -EBADMSG;
    case CODEC_U8:
        return !with_pixels ? -EPROTO : len == 5 ? 0 : -EBADMSG;
    default:
        return -EPROTO;
    }
}

Test(codec, refuses_every_wrong_length_and_mode)
{
    for (size_t len = 1; len < 40; len++)
        for (int mode = 0; mode < 256; mode++) {
            /* Exactly `len` bytes, so that a sanitizer sees any read behind them. */
            uint8_t *exact = calloc(len, 1);
            float out[4];
            exact[0] = (uint8_t)mode;
            cr_assert_eq(codec_get(out, 4, exact, len, NULL), expected(mode, len, false));
            cr_assert_eq(codec_get(out, 4, exact, len, &rgb), expected(mode, len, true));
            free(exact);
        }
    uint8_t nothing[1];
    float out[4];
    cr_assert_eq(codec_get(out, 4, nothing, 0, NULL), -EBADMSG);
}

/* 1 + 4 n must not wrap around to a small length. */
Test(codec, refuses_counts_that_would_overflow)
{
    uint8_t msg[9] = { CODEC_F32 };
    cr_assert_eq(codec_check(msg, 9, 2, NULL), 0);
    for (int mode = CODEC_F32; mode <= CODEC_VIDEO; mode++)
        for (unsigned shift = 0; shift < 4; shift++)
            for (size_t more = 0; more < 20; more++) {
                msg[0] = (uint8_t)mode;
                cr_assert_lt(codec_check(msg, 9, (SIZE_MAX >> shift) - more, &rgb), 0);
            }
}
