/* Every 64-bit ARM has NEON with fused multiply-add. */
#include "libsplit/simd.h"

static const struct simd *const usable[] = { &simd_neon, &simd_portable, NULL };

const struct simd *const *simd_usable(void) { return usable; }
