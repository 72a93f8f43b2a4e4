#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "quant/codec.h"
#include "quant/half.h"
#include "test/quant/values.h"

enum { MOST = 700 };

static const enum codec_mode lossy[] = { CODEC_F16, CODEC_Q8, CODEC_Q4 };
enum { NLOSSY = sizeof lossy / sizeof lossy[0] };

/* ---- halves */

/* The definition, by way of doubles: the value rounded to a multiple of its half's last place. */
static double nearest_half(float value)
{
    int exponent;
    frexp((double)value, &exponent);
    const int place = exponent - 11 > -24 ? exponent - 11 : -24;
    const double rounded = ldexp(nearbyint(ldexp((double)value, -place)), place);
    return fabs(rounded) > (double)HALF_MAX ? copysign((double)INFINITY, (double)value) : rounded;
}

Test(half, every_half_survives)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float value = half_value((uint16_t)h);
        if (isnan(value))
            cr_assert(isnan(half_value(half_of(value))), "%04x", h);
        else
            cr_assert_eq(half_of(value), h, "%04x is %a and again %04x", h, (double)value,
                         half_of(value));
    }
}

Test(half, rounds_to_the_nearest)
{
    const float special[] = { 0,        -0.0F,    65504,     65519.996F, 65520,    -65520,
                              0x1p-24F, 0x1p-25F, 0x3p-25F,  0x1.8p-25F, 0x1p-14F, 0x1.ffcp-15F,
                              1e-45F,   INFINITY, -INFINITY, 3.4e38F };
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        const float got = half_value(half_of(special[i]));
        cr_assert_eq((double)got, isinf(special[i]) ? (double)special[i] : nearest_half(special[i]),
                     "%a became %a", (double)special[i], (double)got);
        cr_assert_eq(signbit(got) != 0, signbit(special[i]) != 0);
    }
    /* Every 997th float, NaN and infinities left out. */
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 997) {
        const float value = bits_float((uint32_t)bits);
        if (isfinite(value))
            cr_assert_eq((double)half_value(half_of(value)), nearest_half(value), "%a",
                         (double)value);
    }
    cr_assert(isnan(half_value(half_of(NAN))));
    cr_assert(isnan(half_value(half_of(bits_float(0xFF800001U)))),
              "no payload is lost to infinity");
}

/* ---- f16, q8, q4 */

static double tolerance(enum codec_mode mode, const uint8_t *msg, float value)
{
    float scale;
    if (mode == CODEC_F16)
        return fmax(0x1p-11 * fabs((double)value), 0x1p-25);
    if (mode == CODEC_F32)
        return 0;
    memcpy(&scale, msg + 2, sizeof scale);
    return 0.5 * (double)scale * (1 + 1e-4);
}

/* A message in exactly the memory that it may take, so that a sanitizer sees every step beyond. */
static uint8_t *encode(enum codec_mode mode, const float *in, size_t n, size_t *len)
{
    uint8_t *msg = malloc(codec_bound(n));
    *len = codec_put(msg, mode, in, n);
    cr_assert_leq(*len, codec_bound(n));
    uint8_t *exact = malloc(*len);
    memcpy(exact, msg, *len);
    free(msg);
    return exact;
}

static void check_round_trip(enum codec_mode mode, const float *in, size_t n)
{
    float out[MOST];
    size_t len;
    uint8_t *msg = encode(mode, in, n, &len);
    const enum codec_mode used = (enum codec_mode)msg[0];
    cr_assert(used == mode || used == CODEC_F32);
    cr_assert_eq(len, codec_len(used, n));
    cr_assert_eq(codec_get(out, n, msg, len, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)out[i] - (double)in[i]);
        cr_assert_leq(error, tolerance(used, msg, in[i]), "mode %d, %zu of %zu: %a became %a", mode,
                      i, n, (double)in[i], (double)out[i]);
        cr_assert(in[i] != 0 || out[i] == 0, "zeros stay");
    }
    free(msg);
}

Test(lossy, is_within_half_a_step)
{
    float in[MOST];
    for (size_t n = 0; n < MOST; n += n < 70 ? 1 : 97)
        for (int kind = 0; kind < VALUES_KINDS; kind++)
            for (int m = 0; m < NLOSSY; m++) {
                values_fill(in, n, (enum values_kind)kind, (unsigned)n);
                check_round_trip(lossy[m], in, n);
            }
}

Test(lossy, is_as_short_as_promised)
{
    float in[MOST];
    size_t len;
    for (int kind = VALUES_RELU; kind <= VALUES_ZERO; kind++)
        for (int m = 0; m < NLOSSY; m++) {
            values_fill(in, MOST, (enum values_kind)kind, 5);
            uint8_t *msg = encode(lossy[m], in, MOST, &len);
            cr_assert_eq(msg[0], lossy[m]);
            cr_assert_eq(len, lossy[m] == CODEC_F16  ? 1 + 2 * MOST
                              : lossy[m] == CODEC_Q8 ? 6 + MOST
                                                     : 6 + MOST / 2);
            free(msg);
        }
}

/* The largest magnitude is exact up to the last bit, whatever the mode. */
Test(lossy, uses_all_levels)
{
    const float in[] = { 0.1F, 3.5F, 1, -0.3F, 0, 0.2F, 0, 0 };
    float out[8];
    uint8_t msg[33];
    for (int m = 0; m < NLOSSY; m++)
        for (size_t n = 3; n <= 8; n++) {
            const size_t len = codec_put(msg, lossy[m], in, n);
            cr_assert_eq(msg[0], lossy[m]);
            cr_assert_eq(codec_get(out, n, msg, len, NULL), 0);
            cr_assert_float_eq(out[1], 3.5F, 1e-6);
            if (lossy[m] != CODEC_F16)
                cr_assert_eq(msg[1], n > 3, "signed where a value is below 0");
        }
}

/* What no scale serves goes as it is. */
Test(lossy, falls_back_to_the_dense_form)
{
    const float poison[] = { NAN, -NAN, INFINITY, -INFINITY, 3.4e38F, -3.4e38F };
    float in[MOST], out[MOST];
    for (size_t p = 0; p < sizeof poison / sizeof poison[0]; p++)
        for (size_t at = 0; at < MOST; at += 233)
            for (int m = 0; m < NLOSSY; m++) {
                size_t len;
                values_fill(in, MOST, VALUES_SIGNED, 3);
                in[at] = poison[p];
                uint8_t *msg = encode(lossy[m], in, MOST, &len);
                cr_assert_eq(codec_get(out, MOST, msg, len, NULL), 0);
                if (!isfinite(poison[p]) || lossy[m] == CODEC_F16)
                    cr_assert_eq(msg[0], CODEC_F32);
                if (msg[0] == CODEC_F32)
                    cr_assert(memcmp(in, out, sizeof in) == 0);
                free(msg);
            }
    in[0] = 1e-44F; /* the scale would have no inverse */
    in[1] = in[2] = 0;
    check_round_trip(CODEC_Q8, in, 3);
}

/* Runs of any lengths make the same message and read the same values. */
Test(lossy, runs_are_the_whole_in_pieces)
{
    float in[MOST], out[MOST], whole[MOST];
    uint8_t msg[1 + 4 * MOST], pieces[1 + 4 * MOST];
    for (unsigned seed = 1; seed < 60; seed++)
        for (int m = 0; m < NLOSSY; m++) {
            struct codec_range r = { 0 };
            values_fill(in, MOST, (enum values_kind)(seed % VALUES_KINDS), seed);
            memset(pieces, 0xFF, sizeof pieces);
            const size_t len = codec_put(msg, lossy[m], in, MOST);
            for (size_t at = 0; at < MOST; at += seed)
                codec_range_add(&r, in + at, MOST - at < seed ? MOST - at : seed);
            cr_assert_eq(codec_begin(pieces, lossy[m], &r, MOST), len);
            for (size_t at = 0; at < MOST; at += seed)
                codec_set_run(pieces, at, in + at, MOST - at < seed ? MOST - at : seed);
            cr_assert(memcmp(msg, pieces, len) == 0, "runs of %u", seed);
            cr_assert_eq(codec_get(whole, MOST, msg, len, NULL), 0);
            cr_assert_eq(codec_check(msg, len, MOST, NULL), 0);
            for (size_t at = 0; at < MOST; at += seed)
                codec_get_run(out + at, at, MOST - at < seed ? MOST - at : seed, msg, NULL);
            cr_assert(memcmp(out, whole, sizeof out) == 0);
        }
}

/* No scale makes an infinity, and no other flag passes. */
Test(lossy, refuses_unsound_heads)
{
    const float bad[] = { NAN, INFINITY, -INFINITY, -1, 3e38F };
    uint8_t msg[10] = { CODEC_Q8, 0 };
    float out[8];
    for (int mode = CODEC_Q8; mode <= CODEC_Q4; mode++) {
        const size_t n = mode == CODEC_Q8 ? 4 : 8;
        msg[0] = (uint8_t)mode;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            memcpy(msg + 2, &bad[i], sizeof bad[i]);
            cr_assert_eq(codec_get(out, n, msg, sizeof msg, NULL), -EBADMSG);
        }
        memset(msg + 2, 0, 4);
        cr_assert_eq(codec_get(out, n, msg, sizeof msg, NULL), 0);
        msg[1] = 2;
        cr_assert_eq(codec_get(out, n, msg, sizeof msg, NULL), -EBADMSG);
        msg[1] = 0;
    }
}
