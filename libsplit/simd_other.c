/* A machine that nobody wrote vectors for. */
#include "libsplit/simd.h"

static const struct simd *const usable[] = { &simd_portable, NULL };

const struct simd *const *simd_usable(void) { return usable; }
