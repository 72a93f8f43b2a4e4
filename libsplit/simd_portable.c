/* Any machine: 4 floats, plain loops that a compiler may or may not turn into vectors.  The
 * twin that every other instruction set is tested against. */
#include <string.h>

#include "libsplit/simd.h"

enum { WIDTH = 4, FUSED = false };
typedef struct {
    float at[WIDTH];
} vec;

#define EACH(expression)                                                                           \
    vec to;                                                                                        \
    for (int i = 0; i < WIDTH; i++)                                                                \
        to.at[i] = (expression);                                                                   \
    return to

static inline vec v_zero(void) { return (vec){ { 0 } }; }
static inline vec v_broadcast(const float *x) { EACH(*x); }
static inline vec v_load(const float *x) { EACH(x[i]); }
static inline void v_store(float *to, vec x) { memcpy(to, x.at, sizeof(x.at)); }
static inline vec v_load_first(const float *x, int32_t n) { EACH(i < n ? x[i] : 0); }
static inline void v_store_first(float *to, vec x, int32_t n)
{
    memcpy(to, x.at, (size_t)n * sizeof(float));
}
static inline vec v_add(vec a, vec b) { EACH(a.at[i] + b.at[i]); }
static inline vec v_sub(vec a, vec b) { EACH(a.at[i] - b.at[i]); }
static inline vec v_mul(vec a, vec b) { EACH(a.at[i] * b.at[i]); }
static inline vec v_div(vec a, vec b) { EACH(a.at[i] / b.at[i]); }
static inline float two_to(float x)
{
    uint32_t bits;
    const float biased = x + SIMD_EXPONENT;
    memcpy(&bits, &biased, sizeof bits);
    bits <<= 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}
static inline vec v_two_to(vec x) { EACH(two_to(x.at[i])); }
static inline vec v_fma(vec sum, vec a, vec b) { EACH(sum.at[i] + a.at[i] * b.at[i]); }
static inline vec v_mla(vec sum, vec a, float b) { EACH(sum.at[i] + a.at[i] * b); }
static inline vec v_max(vec a, vec b) { EACH(a.at[i] > b.at[i] ? a.at[i] : b.at[i]); }
static inline vec v_min(vec a, vec b) { EACH(a.at[i] < b.at[i] ? a.at[i] : b.at[i]); }
static inline float clamp(float x, float lo, float hi)
{
    const float above = x > lo ? x : lo;
    return above < hi ? above : hi;
}
static inline vec v_clamp(vec x, float lo, float hi) { EACH(clamp(x.at[i], lo, hi)); }
static inline vec v_leaky(vec x, float slope) { EACH(x.at[i] < 0 ? slope * x.at[i] : x.at[i]); }

typedef struct {
    double at[WIDTH];
} wide;

static inline wide w_load(const double *x)
{
    wide to;
    memcpy(to.at, x, sizeof(to.at));
    return to;
}
static inline void w_store(double *to, wide x) { memcpy(to, x.at, sizeof(x.at)); }
static inline wide w_add(wide sum, vec x)
{
    for (int i = 0; i < WIDTH; i++)
        sum.at[i] += (double)x.at[i];
    return sum;
}

static inline void v_prefetch(uintptr_t at) { (void)at; }
static inline void v_prefetch_write(const float *x) { (void)x; }
#define v_keep(x) ((void)(x))

#define SIMD_KERNELS_FILE "simd_portable_kernels.h"
#define SIMD_TABLE simd_portable
#define SIMD_NAME "portable"
#define SIMD_VECTORS 2
#include "libsplit/simd_body.h"
