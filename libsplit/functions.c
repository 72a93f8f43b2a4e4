#include "libsplit/functions.h"

#include <math.h>

/* Functions of x that need neither parameter. */
#define PLAIN(name, value)                                                                         \
    static float name(float x, float a, float b)                                                   \
    {                                                                                              \
        (void)a;                                                                                   \
        (void)b;                                                                                   \
        return value;                                                                              \
    }

static float softplus_of(float x) { return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x)); }

PLAIN(f_abs, fabsf(x))
PLAIN(f_neg, -x)
PLAIN(f_sign, (float)((x > 0) - (x < 0)))
PLAIN(f_floor, floorf(x))
PLAIN(f_ceil, ceilf(x))
PLAIN(f_round, rintf(x))
PLAIN(f_reciprocal, 1 / x)
PLAIN(f_sqrt, sqrtf(x))
PLAIN(f_exp, expf(x))
PLAIN(f_log, logf(x))
PLAIN(f_not, x == 0 ? 1.0F : 0.0F)
PLAIN(f_not_zero, x != 0 ? 1.0F : 0.0F)
PLAIN(f_truncate, truncf(x))
PLAIN(f_softplus, softplus_of(x))
PLAIN(f_softsign, x / (1 + fabsf(x)))
PLAIN(f_gelu_tanh, 0.5F * x * (1 + tanhf(0.79788456F * (x + 0.044715F * x * x * x))))
PLAIN(f_sin, sinf(x))
PLAIN(f_cos, cosf(x))
PLAIN(f_tan, tanf(x))
PLAIN(f_asin, asinf(x))
PLAIN(f_acos, acosf(x))
PLAIN(f_atan, atanf(x))
PLAIN(f_sinh, sinhf(x))
PLAIN(f_cosh, coshf(x))
PLAIN(f_asinh, asinhf(x))
PLAIN(f_acosh, acoshf(x))
PLAIN(f_atanh, atanhf(x))

static float f_elu(float x, float a, float b)
{
    (void)b;
    return x < 0 ? a * expm1f(x) : x;
}

static float f_celu(float x, float a, float b)
{
    (void)b;
    return x < 0 ? fminf(a * expm1f(x / a), 0) : x;
}

static float f_selu(float x, float a, float b) { return b * f_elu(x, a, 0); }

static float f_thresholded_relu(float x, float a, float b)
{
    (void)b;
    return x > a ? x : 0;
}

static float f_shrink(float x, float a, float b) { return x < -a ? x + b : x > a ? x - b : 0; }

act_fn act_function(enum act_kind kind)
{
    static const act_fn table[ACT_KINDS] = {
        [ACT_ABS] = f_abs,
        [ACT_NEG] = f_neg,
        [ACT_SIGN] = f_sign,
        [ACT_FLOOR] = f_floor,
        [ACT_CEIL] = f_ceil,
        [ACT_ROUND] = f_round,
        [ACT_RECIPROCAL] = f_reciprocal,
        [ACT_SQRT] = f_sqrt,
        [ACT_EXP] = f_exp,
        [ACT_LOG] = f_log,
        [ACT_NOT] = f_not,
        [ACT_NOT_ZERO] = f_not_zero,
        [ACT_TRUNCATE] = f_truncate,
        [ACT_ELU] = f_elu,
        [ACT_CELU] = f_celu,
        [ACT_SELU] = f_selu,
        [ACT_SOFTPLUS] = f_softplus,
        [ACT_SOFTSIGN] = f_softsign,
        [ACT_GELU_TANH] = f_gelu_tanh,
        [ACT_THRESHOLDED_RELU] = f_thresholded_relu,
        [ACT_SHRINK] = f_shrink,
        [ACT_SIN] = f_sin,
        [ACT_COS] = f_cos,
        [ACT_TAN] = f_tan,
        [ACT_ASIN] = f_asin,
        [ACT_ACOS] = f_acos,
        [ACT_ATAN] = f_atan,
        [ACT_SINH] = f_sinh,
        [ACT_COSH] = f_cosh,
        [ACT_ASINH] = f_asinh,
        [ACT_ACOSH] = f_acosh,
        [ACT_ATANH] = f_atanh,
    };
    return table[kind];
}

static float g_min(float x, float y) { return isnan(x) || x < y ? x : y; }
static float g_max(float x, float y) { return isnan(x) || x > y ? x : y; }
static float g_prelu(float x, float y) { return x < 0 ? y * x : x; }
static float g_equal(float x, float y) { return x == y ? 1 : 0; }
static float g_greater(float x, float y) { return x > y ? 1 : 0; }
static float g_greater_or_equal(float x, float y) { return x >= y ? 1 : 0; }
static float g_less(float x, float y) { return x < y ? 1 : 0; }
static float g_less_or_equal(float x, float y) { return x <= y ? 1 : 0; }
static float g_and(float x, float y) { return x != 0 && y != 0 ? 1 : 0; }
static float g_or(float x, float y) { return x != 0 || y != 0 ? 1 : 0; }
static float g_xor(float x, float y) { return (x != 0) != (y != 0) ? 1 : 0; }

static float g_mod(float x, float y)
{
    const float rest = fmodf(x, y);
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}

binary_fn binary_function(enum binary_kind kind)
{
    static const binary_fn table[BINARY_KINDS] = {
        [BINARY_POW] = powf,
        [BINARY_MIN] = g_min,
        [BINARY_MAX] = g_max,
        [BINARY_PRELU] = g_prelu,
        [BINARY_EQUAL] = g_equal,
        [BINARY_GREATER] = g_greater,
        [BINARY_GREATER_OR_EQUAL] = g_greater_or_equal,
        [BINARY_LESS] = g_less,
        [BINARY_LESS_OR_EQUAL] = g_less_or_equal,
        [BINARY_AND] = g_and,
        [BINARY_OR] = g_or,
        [BINARY_XOR] = g_xor,
        [BINARY_MOD] = g_mod,
        [BINARY_FMOD] = fmodf,
    };
    return table[kind];
}
