/* libsplit/simd_body.h - loops that every instruction set compiles with its own vectors.
 *
 * Included once by each libsplit/simd_<isa>.c, after WIDTH, FUSED, vec, the v_... operations, wide
 * (WIDTH doubles), the w_... operations, and SIMD_KERNELS_FILE (from scripts/gen-simd), SIMD_TABLE,
 * SIMD_NAME, SIMD_VECTORS. Channels beyond the last whole vector are loaded and stored by mask or
 * one by one: nothing beyond a pixel's channels is touched. */
#ifndef LIBSPLIT_SIMD_BODY_H
#define LIBSPLIT_SIMD_BODY_H

#include <math.h>

/* What takes the number of channels as a literal WIDTH almost always. */
#define INLINE static inline __attribute__((always_inline))

/* The first n of WIDTH floats; compilers drop the test where `n` is a literal WIDTH. */
INLINE vec v_load_n(const float *x, int32_t n)
{
    return n == WIDTH ? v_load(x) : v_load_first(x, n);
}

INLINE void v_store_n(float *to, vec x, int32_t n)
{
    if (n == WIDTH)
        v_store(to, x);
    else
        v_store_first(to, x, n);
}

static inline vec v_activate(vec x, struct simd_act act)
{
    switch (act.kind) {
    case SIMD_NONE:
        break;
    case SIMD_CLAMP:
        return v_clamp(x, act.lo, act.hi);
    case SIMD_LEAKY:
        return v_leaky(x, act.lo);
    }
    return x;
}

#include SIMD_KERNELS_FILE

/* ---- Windows of any shape ---- */

static void taps4(const float *const *x, const float *const *w, int32_t taps, const float *bias,
                  float *out, int32_t k, struct simd_act act)
{
    vec a = v_load(bias + k), b = v_load(bias + k + WIDTH);
    vec c = v_load(bias + k + 2 * WIDTH), d = v_load(bias + k + 3 * WIDTH);
    for (int32_t t = 0; t < taps; t++) {
        const float *xt = x[t] + k, *wt = w[t] + k;
        a = v_fma(a, v_load(xt), v_load(wt));
        b = v_fma(b, v_load(xt + WIDTH), v_load(wt + WIDTH));
        c = v_fma(c, v_load(xt + 2 * WIDTH), v_load(wt + 2 * WIDTH));
        d = v_fma(d, v_load(xt + 3 * WIDTH), v_load(wt + 3 * WIDTH));
    }
    v_store(out + k, v_activate(a, act));
    v_store(out + k + WIDTH, v_activate(b, act));
    v_store(out + k + 2 * WIDTH, v_activate(c, act));
    v_store(out + k + 3 * WIDTH, v_activate(d, act));
}

INLINE void taps1(const float *const *x, const float *const *w, int32_t taps, const float *bias,
                  float *out, int32_t k, int32_t n, struct simd_act act)
{
    vec sum = v_load_n(bias + k, n);
    for (int32_t t = 0; t < taps; t++)
        sum = v_fma(sum, v_load_n(x[t] + k, n), v_load_n(w[t] + k, n));
    v_store_n(out + k, v_activate(sum, act), n);
}

static void sum_taps(const float *const *x, const float *const *w, int32_t taps, const float *bias,
                     float *out, int32_t channels, const struct simd_act *act)
{
    int32_t k = 0;
    for (; k + 4 * WIDTH <= channels; k += 4 * WIDTH)
        taps4(x, w, taps, bias, out, k, *act);
    for (; k + WIDTH <= channels; k += WIDTH)
        taps1(x, w, taps, bias, out, k, WIDTH, *act);
    if (k < channels)
        taps1(x, w, taps, bias, out, k, channels - k, *act);
}

INLINE void max1(const float *const *x, int32_t taps, float *out, int32_t k, int32_t n)
{
    static const float lowest = -INFINITY;
    vec most = v_broadcast(&lowest);
    for (int32_t t = 0; t < taps; t++)
        most = v_max(v_load_n(x[t] + k, n), most);
    v_store_n(out + k, most, n);
}

static void max_taps(const float *const *x, int32_t taps, float *out, int32_t channels)
{
    int32_t k = 0;
    for (; k + WIDTH <= channels; k += WIDTH)
        max1(x, taps, out, k, WIDTH);
    if (k < channels)
        max1(x, taps, out, k, channels - k);
}

static inline void average1(const float *const *x, int32_t taps, vec divisor, float *out, int32_t k,
                            int32_t n)
{
    vec sum = v_zero();
    for (int32_t t = 0; t < taps; t++)
        sum = v_add(sum, v_load_n(x[t] + k, n));
    v_store_n(out + k, v_div(sum, divisor), n);
}

static void average_taps(const float *const *x, int32_t taps, float divisor, float *out,
                         int32_t channels)
{
    const vec by = v_broadcast(&divisor);
    int32_t k = 0;
    for (; k + WIDTH <= channels; k += WIDTH)
        average1(x, taps, by, out, k, WIDTH);
    if (k < channels)
        average1(x, taps, by, out, k, channels - k);
}

static inline void blend1(const float *const *x, const float *weight, int32_t taps, float *out,
                          int32_t k, int32_t n)
{
    vec sum = v_zero();
    for (int32_t t = 0; t < taps; t++)
        sum = v_mla(sum, v_load_n(x[t] + k, n), weight[t]);
    v_store_n(out + k, sum, n);
}

static void blend_taps(const float *const *x, const float *weight, int32_t taps, float *out,
                       int32_t channels)
{
    int32_t k = 0;
    for (; k + WIDTH <= channels; k += WIDTH)
        blend1(x, weight, taps, out, k, WIDTH);
    if (k < channels)
        blend1(x, weight, taps, out, k, channels - k);
}

/* ---- Value by value ---- */

static void add(const float *a, const float *b, float *out, ptrdiff_t n, const struct simd_act *act)
{
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        v_store(out + i, v_activate(v_add(v_load(a + i), v_load(b + i)), *act));
    const int32_t left = (int32_t)(n - i);
    if (left > 0)
        v_store_first(out + i,
                      v_activate(v_add(v_load_first(a + i, left), v_load_first(b + i, left)), *act),
                      left);
}

static void activate(const float *a, float *out, ptrdiff_t n, const struct simd_act *act)
{
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        v_store(out + i, v_activate(v_load(a + i), *act));
    const int32_t left = (int32_t)(n - i);
    if (left > 0)
        v_store_first(out + i, v_activate(v_load_first(a + i, left), *act), left);
}

static void sum_pixels(const float *x, ptrdiff_t pixel, int32_t pixels, double *sum,
                       int32_t channels)
{
    int32_t k = 0;
    for (; k + WIDTH <= channels; k += WIDTH) {
        wide s = w_load(sum + k);
        for (int32_t i = 0; i < pixels; i++)
            s = w_add(s, v_load(x + i * pixel + k));
        w_store(sum + k, s);
    }
    for (; k < channels; k++)
        for (int32_t i = 0; i < pixels; i++)
            sum[k] += (double)x[i * pixel + k];
}

#include "libsplit/simd_functions.h"

const struct simd SIMD_TABLE = {
    .name = SIMD_NAME,
    .width = WIDTH,
    .fused = FUSED,
    .vectors = SIMD_VECTORS,
    .taps = sum_taps,
    .max = max_taps,
    .average = average_taps,
    .blend = blend_taps,
    .add = add,
    .activate = activate,
    .apply = apply,
    .affine = affine,
    .sum = sum_pixels,
    SIMD_KERNELS,
};

#endif
