/* AVX-512F: 16 floats, 32 registers, masks for the last channels. */
#include <immintrin.h>

#include "libsplit/simd.h"

enum { WIDTH = 16, FUSED = true };
typedef __m512 vec;

static inline __mmask16 first(int32_t n) { return (__mmask16)((1U << n) - 1); }

static inline vec v_zero(void) { return _mm512_setzero_ps(); }
static inline vec v_broadcast(const float *x) { return _mm512_set1_ps(*x); }
static inline vec v_load(const float *x) { return _mm512_loadu_ps(x); }
static inline void v_store(float *to, vec x) { _mm512_storeu_ps(to, x); }
static inline vec v_load_first(const float *x, int32_t n)
{
    return _mm512_maskz_loadu_ps(first(n), x);
}
static inline void v_store_first(float *to, vec x, int32_t n)
{
    _mm512_mask_storeu_ps(to, first(n), x);
}
static inline vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec v_two_to(vec x)
{
    const vec biased = v_add(x, _mm512_set1_ps(SIMD_EXPONENT));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(biased), 23));
}
static inline vec v_fma(vec sum, vec a, vec b) { return _mm512_fmadd_ps(a, b, sum); }
static inline vec v_mla(vec sum, vec a, float b)
{
    return _mm512_fmadd_ps(a, _mm512_set1_ps(b), sum);
}
static inline vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec v_clamp(vec x, float lo, float hi)
{
    return _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(lo)), _mm512_set1_ps(hi));
}
static inline vec v_leaky(vec x, float slope)
{
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_mul_ps(x, negative, x, _mm512_set1_ps(slope));
}

typedef struct {
    __m512d lo, hi;
} wide;

static inline wide w_load(const double *x)
{
    return (wide){ _mm512_loadu_pd(x), _mm512_loadu_pd(x + WIDTH / 2) };
}
static inline void w_store(double *to, wide x)
{
    _mm512_storeu_pd(to, x.lo);
    _mm512_storeu_pd(to + WIDTH / 2, x.hi);
}
static inline wide w_add(wide sum, vec x)
{
    const __m256 lo = _mm512_castps512_ps256(x);
    const __m256 hi = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    return (wide){ _mm512_add_pd(sum.lo, _mm512_cvtps_pd(lo)),
                   _mm512_add_pd(sum.hi, _mm512_cvtps_pd(hi)) };
}

static inline void v_prefetch(uintptr_t at) { __builtin_prefetch((const void *)at, 0, 2); }
static inline void v_prefetch_write(const float *x) { _mm_prefetch((const char *)x, _MM_HINT_ET0); }
/* Makes the compiler forget what `x` is made of. */
#define v_keep(x) __asm__("" : "+r"(x))

#define SIMD_KERNELS_FILE "simd_avx512_kernels.h"
#define SIMD_TABLE simd_avx512
#define SIMD_NAME "avx512"
#define SIMD_VECTORS 3
#include "libsplit/simd_body.h"
