#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "quant/codec.h"
#include "quant/gamma.h"
#include "quant/half.h"
#include "quant/tq.h"
#include "test/quant/values.h"

enum { MOST = 4800 };

static uint8_t *encode(const float *in, size_t n, size_t channels, const struct codec_quantizer *q,
                       size_t *len)
{
    uint8_t *msg = malloc(codec_bound(n));
    *len = codec_put_tq(msg, in, n, channels, q);
    cr_assert_leq(*len, codec_bound(n));
    uint8_t *exact = malloc(*len);
    memcpy(exact, msg, *len);
    free(msg);
    return exact;
}

/* What the receiver should make of a value, by the definition. */
static double reconstruct(float value, const struct codec_quantizer *q)
{
    const double size = fabs((double)value), step = (double)q->step, zone = (double)q->dead_zone;
    if (size / step < zone)
        return 0;
    const double level = floor(size / step - zone) + 1;
    return copysign((double)q->gain * step * (zone + level - 0.5), (double)value);
}

/* Decodes what was encoded and compares it with the definition; a value that lies on the border
 * of two levels may take either. */
static void check_round_trip(const float *in, size_t n, size_t channels,
                             const struct codec_quantizer *q)
{
    float *out = malloc(n * sizeof(*out) + 1);
    size_t len;
    uint8_t *msg = encode(in, n, channels, q, &len);
    cr_assert_eq(codec_get(out, n, msg, len, NULL), 0);
    for (size_t i = 0; i < n && msg[0] == CODEC_TQ; i++) {
        const double size = fabs((double)in[i]);
        const float below = (float)copysign(size * (1 - 1e-5), (double)in[i]);
        const float above = (float)copysign(size * (1 + 1e-5), (double)in[i]);
        const double slack = 1e-5 * fabs((double)out[i]);
        const bool holds = fabs((double)out[i] - reconstruct(below, q)) <= slack ||
                           fabs((double)out[i] - reconstruct(above, q)) <= slack;
        cr_assert(holds, "%zu of %zu: %a became %a, not %a", i, n, (double)in[i], (double)out[i],
                  reconstruct(in[i], q));
        if (q->gain == 1 && fabs((double)out[i]) > 0)
            cr_assert_leq(fabs((double)out[i] - (double)in[i]), (double)q->step * 0.5 * (1 + 1e-3));
    }
    free(msg);
    free(out);
}

Test(tq, decodes_to_the_middle_of_the_step)
{
    const struct codec_quantizer q[] = {
        { 1, 0.5F, 1 }, { 0.25F, 0.5625F, 1.5F }, { 0.01F, 0, 1 }, { 0.5F, 4, 1.25F }, { 8, 1, 2 },
    };
    const size_t channels[] = { 1, 3, 16, 17, 48, 64 }, pixels[] = { 0, 1, 2, 15, 16, 17, 75 };
    float in[MOST];
    for (size_t k = 0; k < sizeof q / sizeof q[0]; k++)
        for (size_t c = 0; c < sizeof channels / sizeof channels[0]; c++)
            for (size_t p = 0; p < sizeof pixels / sizeof pixels[0]; p++)
                for (int kind = 0; kind < VALUES_KINDS; kind++) {
                    const size_t n = channels[c] * pixels[p];
                    values_fill(in, n, (enum values_kind)kind, (unsigned)(n + k));
                    check_round_trip(in, n, channels[c], &q[k]);
                }
}

/* Nearly all zeros cost nearly nothing; the length is that of the codes and not a byte more. */
Test(tq, is_short_where_values_are_few)
{
    const struct codec_quantizer q = { 1, 0.5F, 1 };
    float in[MOST] = { 0 };
    size_t len;
    free(encode(in, MOST, 64, &q, &len));
    /* gamma(64) has 13 bits and gamma(4801) 25. */
    cr_assert_eq(len, TQ_HEAD + 5);
    in[64 * 3 + 1] = -2;
    free(encode(in, MOST, 64, &q, &len));
    /* gamma(79) has 13, gamma(2) 3, the sign 1 and gamma(4722) 25. */
    cr_assert_eq(len, TQ_HEAD + 7);
}

/* Where gamma codes would be longer than halves, halves travel. */
Test(tq, falls_back_to_halves)
{
    const struct codec_quantizer fine = { 1e-4F, 0.5F, 1 };
    float in[MOST], out[MOST];
    size_t len;
    values_fill(in, MOST, VALUES_SIGNED, 1);
    uint8_t *msg = encode(in, MOST, 64, &fine, &len);
    cr_assert_eq(msg[0], CODEC_F16);
    cr_assert_eq(len, codec_len(CODEC_F16, MOST));
    cr_assert_eq(codec_get(out, MOST, msg, len, NULL), 0);
    free(msg);
    in[7] = INFINITY;
    msg = encode(in, MOST, 64, &fine, &len);
    cr_assert_eq(msg[0], CODEC_F32);
    free(msg);
}

Test(tq, no_quantizer_is_taken_on_trust)
{
    const struct codec_quantizer bad[] = {
        { 0, 0.5F, 1 },     { -1, 0.5F, 1 }, { NAN, 0.5F, 1 }, { INFINITY, 0.5F, 1 },
        { 1e-44F, 0, 1 },   { 1, -1, 1 },    { 1, NAN, 1 },    { 1, 1e30F, 1 },
        { 1, 0.5F, 0 },     { 1, 0.5F, -2 }, { 1, 0.5F, NAN }, { 1, 0.5F, 1e30F },
        { 1e37F, 0.5F, 1 },
    };
    float in[64], out[64];
    size_t len;
    values_fill(in, 64, VALUES_SIGNED, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t *msg = encode(in, 64, 16, &bad[i], &len);
        cr_assert_eq(msg[0], CODEC_F16, "quantizer %zu", i);
        cr_assert_eq(codec_get(out, 64, msg, len, NULL), 0);
        free(msg);
    }
}

/* Any change of a message is an error or gives finite values; no cut of one is taken. */
Test(tq, survives_every_change)
{
    const struct codec_quantizer q = { 0.5F, 0.5625F, 1.5F };
    float in[480], out[480];
    size_t len;
    values_fill(in, 480, VALUES_RELU, 9);
    uint8_t *msg = encode(in, 480, 16, &q, &len);
    cr_assert_eq(msg[0], CODEC_TQ);
    for (size_t bit = 8; bit < 8 * len; bit++) {
        msg[bit / 8] ^= (uint8_t)(1U << bit % 8);
        if (codec_get(out, 480, msg, len, NULL) == 0)
            for (size_t i = 0; i < 480; i++)
                cr_assert(isfinite(out[i]), "bit %zu, value %zu", bit, i);
        msg[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t cut = 1; cut < len; cut++) {
        uint8_t *exact = malloc(cut);
        memcpy(exact, msg, cut);
        cr_assert_eq(codec_get(out, 480, exact, cut, NULL), -EBADMSG);
        free(exact);
    }
    for (size_t n = 0; n < 480; n++)
        cr_assert_eq(codec_get(out, n, msg, len, NULL), -EBADMSG, "%zu values", n);
    free(msg);
}

/* Numbers of all lengths, one after the other, with single bits between. */
Test(gamma, round_trip)
{
    uint8_t bytes[2048];
    struct bit_writer w = bit_writer_of(bytes, sizeof bytes);
    for (unsigned k = 0; k <= GAMMA_MAX_LOG2; k++)
        for (uint32_t v = 0; v < 4; v++) {
            const uint32_t top = (uint32_t)1 << k;
            gamma_put(&w, v < top ? top + v : top);
            bits_put(&w, v & 1, 1);
        }
    cr_assert_not(w.full);
    const size_t len = (size_t)(bit_writer_end(&w) - bytes);
    uint8_t *exact = malloc(len);
    memcpy(exact, bytes, len);
    struct bit_reader r = bit_reader_of(exact, len);
    for (unsigned k = 0; k <= GAMMA_MAX_LOG2; k++)
        for (uint32_t v = 0; v < 4; v++) {
            const uint32_t top = (uint32_t)1 << k;
            cr_assert_eq(gamma_get(&r), v < top ? top + v : top);
            cr_assert_eq(bits_get(&r, 1), v & 1);
        }
    cr_assert(bit_reader_ended(&r));
    free(exact);
}

Test(gamma, a_full_writer_stays_inside)
{
    for (size_t cap = 0; cap < 40; cap++) {
        uint8_t *room = malloc(cap + 1);
        struct bit_writer w = bit_writer_of(room, cap);
        for (int i = 0; i < 20; i++)
            gamma_put(&w, 1000003);
        cr_assert(w.full);
        cr_assert(bit_writer_end(&w) <= room + cap);
        free(room);
    }
}
