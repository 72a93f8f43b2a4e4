/* The loops of libsplit/simd.h that are not convolutions, on every instruction set of this machine,
 * for every number of channels up to several vectors: the plain answer, and nothing beside it. */
#include "libsplit/simd.h"

#include <math.h>
#include <stdlib.h>

#include <criterion/criterion.h>

enum { MOST = 75, TAPS = 9 };

static const float SENTINEL = -12345.5F;

static const struct simd_act acts[] = { { .kind = SIMD_NONE },
                                        { SIMD_CLAMP, 0, INFINITY },
                                        { SIMD_CLAMP, -0.25F, 0.5F },
                                        { .kind = SIMD_LEAKY, .lo = 0.125F } };
enum { ACTS = sizeof(acts) / sizeof(*acts) };

static float activated(const struct simd_act *act, float x)
{
    if (act->kind == SIMD_CLAMP)
        return fminf(fmaxf(x, act->lo), act->hi);
    return act->kind == SIMD_LEAKY && x < 0 ? act->lo * x : x;
}

/* Values in [-1, 1) that add up without rounding. */
static void fill(float *x, int n, unsigned seed)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)((seed + 7U * (unsigned)i) * 2654435761U >> 24) / 128 - 1;
}

static void clear(float *to)
{
    for (int i = 0; i < MOST + 1; i++)
        to[i] = SENTINEL;
}

typedef void (*simd_test)(const struct simd *s, int32_t n);

static void on_all(simd_test test)
{
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int32_t n = 1; n <= MOST; n++)
            test(*s, n);
}

static void test_values(const struct simd *s, int32_t n)
{
    float a[MOST], b[MOST], sum[MOST + 1], same[MOST + 1];
    fill(a, MOST, 1);
    fill(b, MOST, 2);
    for (int k = 0; k < ACTS; k++) {
        clear(sum);
        clear(same);
        s->add(a, b, sum, n, &acts[k]);
        s->activate(a, same, n, &acts[k]);
        for (int32_t i = 0; i < n; i++) {
            cr_assert_eq(sum[i], activated(&acts[k], a[i] + b[i]), "%s", s->name);
            cr_assert_eq(same[i], activated(&acts[k], a[i]), "%s", s->name);
        }
        cr_assert(sum[n] == SENTINEL && same[n] == SENTINEL, "%s: value %d", s->name, (int)n);
    }
}

Test(simd, value_by_value) { on_all(test_values); }

static void test_max(const struct simd *s, int32_t n)
{
    float x[TAPS][MOST], to[MOST + 1];
    const float *tap[TAPS];
    for (unsigned t = 0; t < TAPS; t++) {
        fill(x[t], MOST, 11 * t);
        tap[t] = x[t];
    }
    for (int32_t taps = 0; taps <= TAPS; taps++) {
        clear(to);
        s->max(tap, taps, to, n);
        for (int32_t i = 0; i < n; i++) {
            float want = -INFINITY;
            for (int32_t t = 0; t < taps; t++)
                want = fmaxf(want, x[t][i]);
            cr_assert_eq(to[i], want, "%s", s->name);
        }
        cr_assert_eq(to[n], SENTINEL, "%s: value %d", s->name, (int)n);
    }
}

Test(simd, largest_of_taps) { on_all(test_max); }

static void test_average(const struct simd *s, int32_t n)
{
    float x[TAPS][MOST], to[MOST + 1];
    const float *tap[TAPS];
    for (unsigned t = 0; t < TAPS; t++) {
        fill(x[t], MOST, 11 * t);
        tap[t] = x[t];
    }
    for (int32_t taps = 0; taps <= TAPS; taps++) {
        clear(to);
        s->average(tap, taps, 3, to, n);
        for (int32_t i = 0; i < n; i++) {
            float want = 0;
            for (int32_t t = 0; t < taps; t++)
                want += x[t][i];
            cr_assert_eq(to[i], want / 3, "%s", s->name);
        }
        cr_assert_eq(to[n], SENTINEL, "%s: value %d", s->name, (int)n);
    }
}

Test(simd, average_of_taps) { on_all(test_average); }

static void test_taps(const struct simd *s, int32_t n)
{
    float x[TAPS][MOST], w[TAPS][MOST], bias[MOST], to[MOST + 1];
    const float *tap[TAPS], *weight[TAPS];
    fill(bias, MOST, 5);
    for (unsigned t = 0; t < TAPS; t++) {
        fill(x[t], MOST, 11 * t);
        fill(w[t], MOST, 13 * t);
        tap[t] = x[t];
        weight[t] = w[t];
    }
    for (int k = 0; k < ACTS; k++) {
        clear(to);
        s->taps(tap, weight, TAPS, bias, to, n, &acts[k]);
        for (int32_t i = 0; i < n; i++) {
            float want = bias[i];
            for (int32_t t = 0; t < TAPS; t++)
                want += x[t][i] * w[t][i]; /* exact: few bits */
            cr_assert_eq(to[i], activated(&acts[k], want), "%s", s->name);
        }
        cr_assert_eq(to[n], SENTINEL, "%s: value %d", s->name, (int)n);
    }
}

Test(simd, weighted_taps) { on_all(test_taps); }

/* What is no number stays out of the largest; padding alone is minus infinity. */
Test(simd, nan_is_not_the_largest)
{
    const float nan[2] = { NAN, NAN }, one[2] = { 1, -INFINITY };
    for (const struct simd *const *s = simd_usable(); *s; s++) {
        const float *tap[3] = { nan, one, nan };
        float to[2];
        (*s)->max(tap, 3, to, 2);
        cr_assert(to[0] == 1 && to[1] == -INFINITY, "%s: %g %g", (*s)->name, (double)to[0],
                  (double)to[1]);
    }
}

Test(simd, environment_picks_a_table)
{
    for (const struct simd *const *s = simd_usable(); *s; s++) {
        setenv("SPLITD_SIMD", (*s)->name, 1);
        cr_assert_eq(simd_best(), *s);
    }
    setenv("SPLITD_SIMD", "abacus", 1);
    cr_assert_eq(simd_best(), simd_usable()[0]);
}
