/* NEON of ARMv8: 4 floats, 32 registers, multiply-add by a lane. */
#include <arm_neon.h>
#include <string.h>

#include "libsplit/simd.h"

enum { WIDTH = 4, FUSED = true };
typedef float32x4_t vec;

static inline vec v_zero(void) { return vdupq_n_f32(0); }
static inline vec v_broadcast(const float *x) { return vld1q_dup_f32(x); }
static inline vec v_load(const float *x) { return vld1q_f32(x); }
static inline void v_store(float *to, vec x) { vst1q_f32(to, x); }
static inline vec v_load_first(const float *x, int32_t n)
{
    float copy[WIDTH] = { 0 };
    memcpy(copy, x, (size_t)n * sizeof(float));
    return vld1q_f32(copy);
}
static inline void v_store_first(float *to, vec x, int32_t n)
{
    float copy[WIDTH];
    vst1q_f32(copy, x);
    memcpy(to, copy, (size_t)n * sizeof(float));
}
static inline vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec v_two_to(vec x)
{
    const vec biased = v_add(x, vdupq_n_f32(SIMD_EXPONENT));
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(biased), 23));
}
static inline vec v_fma(vec sum, vec a, vec b) { return vfmaq_f32(sum, a, b); }
#define v_fma_lane(sum, a, b, lane) vfmaq_laneq_f32(sum, a, b, lane)
static inline vec v_mla(vec sum, vec a, float b) { return vfmaq_n_f32(sum, a, b); }
static inline vec v_max(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vec v_min(vec a, vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vec v_clamp(vec x, float lo, float hi)
{
    return v_min(v_max(x, vdupq_n_f32(lo)), vdupq_n_f32(hi));
}
static inline vec v_leaky(vec x, float slope)
{
    return vbslq_f32(vcltq_f32(x, vdupq_n_f32(0)), vmulq_n_f32(x, slope), x);
}

typedef struct {
    float64x2_t lo, hi;
} wide;

static inline wide w_load(const double *x)
{
    return (wide){ vld1q_f64(x), vld1q_f64(x + WIDTH / 2) };
}
static inline void w_store(double *to, wide x)
{
    vst1q_f64(to, x.lo);
    vst1q_f64(to + WIDTH / 2, x.hi);
}
static inline wide w_add(wide sum, vec x)
{
    return (wide){ vaddq_f64(sum.lo, vcvt_f64_f32(vget_low_f32(x))),
                   vaddq_f64(sum.hi, vcvt_high_f64_f32(x)) };
}

static inline void v_prefetch(uintptr_t at) { __builtin_prefetch((const void *)at, 0, 2); }
static inline void v_prefetch_write(const float *x) { __builtin_prefetch(x, 1); }
/* Makes the compiler forget what `x` is made of. */
#define v_keep(x) __asm__("" : "+r"(x))

#define SIMD_KERNELS_FILE "simd_neon_kernels.h"
#define SIMD_TABLE simd_neon
#define SIMD_NAME "neon"
#define SIMD_VECTORS 2
#include "libsplit/simd_body.h"
