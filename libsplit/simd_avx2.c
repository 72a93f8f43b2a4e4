/* AVX2 with FMA: 8 floats, 16 registers. */
#include <immintrin.h>

#include "libsplit/simd.h"

enum { WIDTH = 8, FUSED = true };
typedef __m256 vec;

static inline __m256i first(int32_t n)
{
    static const int32_t mask[2 * WIDTH] = { -1, -1, -1, -1, -1, -1, -1, -1 };
    return _mm256_loadu_si256((const __m256i *)(mask + WIDTH - n));
}

static inline vec v_zero(void) { return _mm256_setzero_ps(); }
static inline vec v_broadcast(const float *x) { return _mm256_broadcast_ss(x); }
static inline vec v_load(const float *x) { return _mm256_loadu_ps(x); }
static inline void v_store(float *to, vec x) { _mm256_storeu_ps(to, x); }
static inline vec v_load_first(const float *x, int32_t n)
{
    return _mm256_maskload_ps(x, first(n));
}
static inline void v_store_first(float *to, vec x, int32_t n)
{
    _mm256_maskstore_ps(to, first(n), x);
}
static inline vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec v_two_to(vec x)
{
    const vec biased = v_add(x, _mm256_set1_ps(SIMD_EXPONENT));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased), 23));
}
static inline vec v_fma(vec sum, vec a, vec b) { return _mm256_fmadd_ps(a, b, sum); }
static inline vec v_mla(vec sum, vec a, float b)
{
    return _mm256_fmadd_ps(a, _mm256_set1_ps(b), sum);
}
static inline vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec v_clamp(vec x, float lo, float hi)
{
    return _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(lo)), _mm256_set1_ps(hi));
}
static inline vec v_leaky(vec x, float slope)
{
    const vec negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    return _mm256_blendv_ps(x, _mm256_mul_ps(x, _mm256_set1_ps(slope)), negative);
}

typedef struct {
    __m256d lo, hi;
} wide;

static inline wide w_load(const double *x)
{
    return (wide){ _mm256_loadu_pd(x), _mm256_loadu_pd(x + WIDTH / 2) };
}
static inline void w_store(double *to, wide x)
{
    _mm256_storeu_pd(to, x.lo);
    _mm256_storeu_pd(to + WIDTH / 2, x.hi);
}
static inline wide w_add(wide sum, vec x)
{
    return (wide){ _mm256_add_pd(sum.lo, _mm256_cvtps_pd(_mm256_castps256_ps128(x))),
                   _mm256_add_pd(sum.hi, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))) };
}

static inline void v_prefetch(uintptr_t at) { __builtin_prefetch((const void *)at, 0, 2); }
static inline void v_prefetch_write(const float *x) { __builtin_prefetch(x, 1); }
/* Makes the compiler forget what `x` is made of. */
#define v_keep(x) __asm__("" : "+r"(x))

#define SIMD_KERNELS_FILE "simd_avx2_kernels.h"
#define SIMD_TABLE simd_avx2
#define SIMD_NAME "avx2"
#define SIMD_VECTORS 3
#include "libsplit/simd_body.h"
