/* libsplit/gemm.h - matrix products; the only place that knows OpenBLAS. */
#ifndef LIBSPLIT_GEMM_H
#define LIBSPLIT_GEMM_H

#include <stddef.h>
#include <stdint.h>

/* One thread per product: parallelism is ours.  Call once before the first gemm(). */
void gemm_init(void);

/* For which processor OpenBLAS takes this one: "Haswell", "ARMV8"...  A constant. */
const char *gemm_core(void);

/* c (m, n) = a (m, k) @ b (k, n), rows lda, ldb, ldc floats apart.  Overwrites c.  Equal
 * extents give bit-equal results, whatever the strides; one more row in `a` may change the
 * last bits of all. */
void gemm(int32_t m, int32_t n, int32_t k, const float *a, ptrdiff_t lda, const float *b,
          ptrdiff_t ldb, float *c, ptrdiff_t ldc);

#endif
