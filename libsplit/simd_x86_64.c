/* Which instruction sets this x86-64 machine has. */
#include "libsplit/simd.h"

static const struct simd *const with_avx512[] = { &simd_avx512, &simd_avx2, &simd_portable, NULL };
static const struct simd *const with_avx2[] = { &simd_avx2, &simd_portable, NULL };
static const struct simd *const plain[] = { &simd_portable, NULL };

const struct simd *const *simd_usable(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return plain;
    return __builtin_cpu_supports("avx512f") ? with_avx512 : with_avx2;
}
