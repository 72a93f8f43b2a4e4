/* libsplit/simd_functions.h - activations with e^x, tanh and erf, a vector at a time.
 *
 * Included once by libsplit/simd_body.h.  Every value goes through the same operations wherever it
 * stands, so that results do not depend on how a map is cut.  Errors are a few units in the
 * last place.  Sources: the reduction and polynomial of e^x are those of Cephes' expf; tanh
 * and erf are the rational approximations of Eigen. */
#ifndef LIBSPLIT_SIMD_FUNCTIONS_H
#define LIBSPLIT_SIMD_FUNCTIONS_H

static inline vec v_set(float x) { return v_broadcast(&x); }

/* c[0] x^(n-1) + ... + c[n-1] */
static inline vec v_polynomial(vec x, const float *c, int n)
{
    vec sum = v_broadcast(&c[0]);
    for (int i = 1; i < n; i++)
        sum = v_fma(v_broadcast(&c[i]), sum, x);
    return sum;
}

/* NaN stays NaN: both comparisons yield their second operand then. */
static inline vec v_within(vec x, float lo, float hi)
{
    return v_min(v_set(hi), v_max(v_set(lo), x));
}

/* e^x; below -87 and above 88 that of the bound. */
static inline vec v_exp(vec x)
{
    static const float c[] = { 1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F,
                               4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F };
    const float whole = 12582912; /* 1.5 * 2^23: what is added to it loses its fraction */
    x = v_within(x, -87, 88);
    const vec n = v_sub(v_add(v_mul(x, v_set(1.44269504F)), v_set(whole)), v_set(whole));
    /* ln 2 in two parts: the first times n is exact. */
    const vec r = v_fma(v_fma(x, n, v_set(-0.693359375F)), n, v_set(2.12194440e-4F));
    const vec p = v_fma(r, v_polynomial(r, c, 6), v_mul(r, r));
    return v_mul(v_add(p, v_set(1)), v_two_to(n));
}

/* x P(x^2) / Q(x^2) */
static inline vec v_odd_ratio(vec x, const float *p, int np, const float *q, int nq)
{
    const vec square = v_mul(x, x);
    return v_div(v_mul(x, v_polynomial(square, p, np)), v_polynomial(square, q, nq));
}

static inline vec v_tanh(vec x)
{
    static const float p[] = { -2.76076847742355e-16F, 2.00018790482477e-13F,
                               -8.60467152213735e-11F, 5.12229709037114e-08F,
                               1.48572235717979e-05F,  6.37261928875436e-04F,
                               4.89352455891786e-03F };
    static const float q[] = { 1.19825839466702e-06F, 1.18534705686654e-04F, 2.26843463243900e-03F,
                               4.89352518554385e-03F };
    return v_odd_ratio(v_within(x, -7.90531110763549805F, 7.90531110763549805F), p, 7, q, 4);
}

static inline vec v_erf(vec x)
{
    static const float p[] = { -2.72614225801306e-10F, 2.77068142495902e-08F,
                               -2.10102402082508e-06F, -5.69250639462346e-05F,
                               -7.34990630306855e-04F, -2.95459980854025e-03F,
                               -1.60960333262415e-02F };
    static const float q[] = { -1.45660718464996e-05F, -2.13374055278905e-04F,
                               -1.68282697438203e-03F, -7.37332916720468e-03F,
                               -1.42647390514189e-02F };
    return v_odd_ratio(v_within(x, -4, 4), p, 7, q, 5);
}

static inline vec v_sigmoid(vec x)
{
    return v_div(v_set(1), v_add(v_set(1), v_exp(v_sub(v_zero(), x))));
}

/* x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2); from 20 on that is x. */
static inline vec v_mish(vec x)
{
    const vec e = v_exp(v_within(x, -87, 20));
    const vec n = v_mul(e, v_add(e, v_set(2)));
    return v_mul(x, v_div(n, v_add(n, v_set(2))));
}

static inline vec v_hard_sigmoid(vec x, float a, float b)
{
    return v_clamp(v_add(v_mul(v_set(a), x), v_set(b)), 0, 1);
}

static inline vec v_gelu(vec x)
{
    const vec erf = v_erf(v_mul(x, v_set(0.70710678F)));
    return v_mul(v_mul(v_set(0.5F), x), v_add(v_set(1), erf));
}

static inline vec v_function(enum simd_function function, vec x, float a, float b)
{
    switch (function) {
    case SIMD_SIGMOID:
        return v_sigmoid(x);
    case SIMD_SILU:
        return v_mul(x, v_sigmoid(x));
    case SIMD_TANH:
        return v_tanh(x);
    case SIMD_ERF:
        return v_erf(x);
    case SIMD_GELU:
        return v_gelu(x);
    case SIMD_MISH:
        return v_mish(x);
    case SIMD_HARD_SIGMOID:
        return v_hard_sigmoid(x, a, b);
    case SIMD_HARD_SWISH:
        return v_mul(x, v_hard_sigmoid(x, 1.0F / 6, 0.5F));
    case SIMD_FUNCTIONS:
        break;
    }
    return x;
}

/* Called with a literal function, so that each gets a loop of its own. */
static inline void apply_to_all(enum simd_function function, float *x, ptrdiff_t n, float a,
                                float b)
{
    ptrdiff_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        v_store(x + i, v_function(function, v_load(x + i), a, b));
    const int32_t left = (int32_t)(n - i);
    if (left > 0)
        v_store_first(x + i, v_function(function, v_load_first(x + i, left), a, b), left);
}

static void apply(enum simd_function function, float *x, ptrdiff_t n, float a, float b)
{
    switch (function) {
    case SIMD_SIGMOID:
        apply_to_all(SIMD_SIGMOID, x, n, a, b);
        break;
    case SIMD_SILU:
        apply_to_all(SIMD_SILU, x, n, a, b);
        break;
    case SIMD_TANH:
        apply_to_all(SIMD_TANH, x, n, a, b);
        break;
    case SIMD_ERF:
        apply_to_all(SIMD_ERF, x, n, a, b);
        break;
    case SIMD_GELU:
        apply_to_all(SIMD_GELU, x, n, a, b);
        break;
    case SIMD_MISH:
        apply_to_all(SIMD_MISH, x, n, a, b);
        break;
    case SIMD_HARD_SIGMOID:
        apply_to_all(SIMD_HARD_SIGMOID, x, n, a, b);
        break;
    case SIMD_HARD_SWISH:
        apply_to_all(SIMD_HARD_SWISH, x, n, a, b);
        break;
    case SIMD_FUNCTIONS:
        break;
    }
}

static inline void affine1(const float *x, const float *scale, const float *bias, float *out,
                           int32_t k, int32_t n, struct simd_act act)
{
    const vec y = v_fma(v_load_n(bias + k, n), v_load_n(x + k, n), v_load_n(scale + k, n));
    v_store_n(out + k, v_activate(y, act), n);
}

static void affine(const float *x, const float *scale, const float *bias, float *out,
                   int32_t channels, const struct simd_act *act)
{
    int32_t k = 0;
    for (; k + WIDTH <= channels; k += WIDTH)
        affine1(x, scale, bias, out, k, WIDTH, *act);
    if (k < channels)
        affine1(x, scale, bias, out, k, channels - k, *act);
}

#endif
