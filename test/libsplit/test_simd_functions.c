/* Vector code of activations: right to a few units in the last place, and the same wherever a value
 * stands and whatever the instruction set. */
#include "libsplit/simd.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { VALUES = 20001 };

static double hard_sigmoid(double x) { return fmin(fmax(x / 6 + 0.5, 0), 1); }
static double softplus(double x) { return x > 30 ? x : log1p(exp(x)); }

static double exactly(enum simd_function function, double x)
{
    switch (function) {
    case SIMD_SIGMOID:
        return 1 / (1 + exp(-x));
    case SIMD_SILU:
        return x / (1 + exp(-x));
    case SIMD_TANH:
        return tanh(x);
    case SIMD_ERF:
        return erf(x);
    case SIMD_GELU:
        return x / 2 * (1 + erf(x * sqrt(0.5)));
    case SIMD_MISH:
        return x * tanh(softplus(x));
    case SIMD_HARD_SIGMOID:
        return hard_sigmoid(x);
    default:
        return x * hard_sigmoid(x);
    }
}

/* Relative, and where a sum with 1 cancels, of that sum. */
static double allowed(enum simd_function function, double want, double x)
{
    const double ulp = 1.2e-7;
    switch (function) {
    case SIMD_GELU:
    case SIMD_HARD_SIGMOID:
    case SIMD_HARD_SWISH:
        return 4 * ulp * fmax(fabs(x), 1);
    default:
        return 6 * ulp * fabs(want) + 1e-37;
    }
}

static float at(int32_t i) { return (float)(i - VALUES / 2) * (60.0F / VALUES); }

static void apply_all(const struct simd *s, enum simd_function function, float *x)
{
    for (int32_t i = 0; i < VALUES; i++)
        x[i] = at(i);
    s->apply(function, x, VALUES, 1.0F / 6, 0.5F);
}

Test(simd_functions, are_right)
{
    static float x[VALUES];
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int f = 0; f < SIMD_FUNCTIONS; f++) {
            apply_all(*s, (enum simd_function)f, x);
            for (int32_t i = 0; i < VALUES; i++) {
                const double value = (double)at(i), want = exactly((enum simd_function)f, value);
                const double error = fabs((double)x[i] - want);
                cr_assert(error <= allowed((enum simd_function)f, want, value),
                          "%s, function %d of %.9g: %.9g, not %.9g", (*s)->name, f, value,
                          (double)x[i], want);
            }
        }
}

Test(simd_functions, of_tiny_and_huge_values)
{
    static const float extreme[] = { 0, 1e-30F, -1e-30F, 1e-4F, -1e-4F, 200, -200, 1e30F, -1e30F };
    enum { N = sizeof extreme / sizeof extreme[0] };
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int f = 0; f < SIMD_FUNCTIONS; f++) {
            float x[N];
            memcpy(x, extreme, sizeof x);
            (*s)->apply((enum simd_function)f, x, N, 1.0F / 6, 0.5F);
            for (int32_t i = 0; i < N; i++) {
                const double want = exactly((enum simd_function)f, (double)extreme[i]);
                /* Far below, e^x has stopped at its bound: 1e-38 in place of less. */
                const double error = fabs((double)x[i] - want);
                cr_assert(error <= 1e-6 * fabs(want) + 1e-37 * fmax(1, fabs((double)extreme[i])),
                          "%s, function %d of %g: %g, not %g", (*s)->name, f, (double)extreme[i],
                          (double)x[i], want);
            }
        }
}

Test(simd_functions, of_no_number_is_none)
{
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int f = SIMD_SIGMOID; f <= SIMD_MISH; f++) {
            float x[3] = { NAN, 1, NAN };
            (*s)->apply((enum simd_function)f, x, 3, 0, 0);
            cr_assert(isnan(x[0]) && !isnan(x[1]) && isnan(x[2]), "%s, function %d", (*s)->name, f);
        }
}

/* Any part of the values alone gives the same bits, and touches nothing else. */
Test(simd_functions, do_not_depend_on_the_cut)
{
    static float whole[VALUES];
    enum { MOST = 40 };
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int f = 0; f < SIMD_FUNCTIONS; f++) {
            apply_all(*s, (enum simd_function)f, whole);
            for (int32_t n = 1; n <= MOST; n++) {
                float part[MOST + 1];
                const int32_t first = 9000 + 31 * n;
                for (int32_t i = 0; i <= n; i++)
                    part[i] = at(first + i);
                (*s)->apply((enum simd_function)f, part, n, 1.0F / 6, 0.5F);
                cr_assert_eq(memcmp(part, whole + first, (size_t)n * sizeof(float)), 0);
                cr_assert_eq(part[n], at(first + n));
            }
        }
}

Test(simd_functions, are_the_same_where_multiply_adds_round_once)
{
    static float one[VALUES], other[VALUES];
    const struct simd *const *usable = simd_usable();
    for (const struct simd *const *s = usable; *s; s++)
        for (int f = 0; f < SIMD_FUNCTIONS && (*s)->fused && usable[0]->fused; f++) {
            apply_all(usable[0], (enum simd_function)f, one);
            apply_all(*s, (enum simd_function)f, other);
            cr_assert_eq(memcmp(one, other, sizeof one), 0, "%s, function %d", (*s)->name, f);
        }
}

/* ---- pixels ---- */

enum { CHANNELS = 70, TAPS = 16 };

static float noise(uint32_t i) { return (float)((i * 2654435761U >> 8) % 2001) / 1000 - 1; }

/* Runs `check` on every table and number of channels. */
static void over_all_channels(void (*check)(const struct simd *s, const float *const *x, int32_t n))
{
    static float values[TAPS][CHANNELS];
    const float *x[TAPS];
    for (uint32_t t = 0; t < TAPS; t++) {
        for (uint32_t k = 0; k < CHANNELS; k++)
            values[t][k] = noise(t * CHANNELS + k);
        x[t] = values[t];
    }
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int32_t n = 1; n < CHANNELS; n++)
            check(*s, x, n);
}

static void check_average(const struct simd *s, const float *const *x, int32_t n)
{
    for (int32_t taps = 0; taps <= TAPS; taps++) {
        float out[CHANNELS];
        out[n] = 7;
        s->average(x, taps, 3, out, n);
        for (int32_t k = 0; k < n; k++) {
            float sum = 0;
            for (int32_t t = 0; t < taps; t++)
                sum += x[t][k];
            cr_assert_eq(out[k], sum / 3, "%s", s->name);
        }
        cr_assert_eq(out[n], 7);
    }
}

Test(simd_functions, average) { over_all_channels(check_average); }

static void check_sum(const struct simd *s, const float *const *x, int32_t n)
{
    for (int32_t pixels = 0; pixels <= TAPS; pixels++) {
        double sum[CHANNELS], expected[CHANNELS];
        for (int32_t k = 0; k < CHANNELS; k++)
            sum[k] = 0.1 * k;
        memcpy(expected, sum, sizeof expected);
        for (int32_t i = 0; i < pixels; i++)
            for (int32_t k = 0; k < n; k++)
                expected[k] += (double)x[i][k];
        s->sum(x[0], CHANNELS, pixels, sum, n);
        cr_assert_eq(memcmp(sum, expected, (size_t)n * sizeof *sum), 0, "%s", s->name);
        cr_assert_eq(sum[n], 0.1 * n);
    }
}

Test(simd_functions, sum) { over_all_channels(check_sum); }

static void check_blend(const struct simd *s, const float *const *x, int32_t n)
{
    float weight[TAPS];
    for (uint32_t t = 0; t < TAPS; t++)
        weight[t] = noise(9000 + t);
    for (int32_t taps = 1; taps <= TAPS; taps++) {
        float out[CHANNELS];
        out[n] = 7;
        s->blend(x, weight, taps, out, n);
        for (int32_t k = 0; k < n; k++) {
            double sum = 0;
            for (int32_t t = 0; t < taps; t++)
                sum += (double)x[t][k] * (double)weight[t];
            cr_assert_float_eq(out[k], sum, 1e-5, "%s", s->name);
        }
        cr_assert_eq(out[n], 7);
    }
}

Test(simd_functions, blend) { over_all_channels(check_blend); }

static void check_affine(const struct simd *s, const float *const *x, int32_t n)
{
    const struct simd_act clamp = { SIMD_CLAMP, 0, 0.8F };
    float out[CHANNELS];
    out[n] = 7;
    s->affine(x[0], x[1], x[2], out, n, &clamp);
    for (int32_t k = 0; k < n; k++) {
        const double y = (double)x[0][k] * (double)x[1][k] + (double)x[2][k];
        cr_assert_float_eq(out[k], fmin(fmax(y, 0), 0.8), 1e-6, "%s", s->name);
    }
    cr_assert_eq(out[n], 7);
}

Test(simd_functions, affine) { over_all_channels(check_affine); }
