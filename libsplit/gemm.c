#include "libsplit/gemm.h"

#include <cblas.h>

void gemm_init(void) { openblas_set_num_threads(1); }

const char *gemm_core(void) { return openblas_get_corename(); }

void gemm(int32_t m, int32_t n, int32_t k, const float *a, ptrdiff_t lda, const float *b,
          ptrdiff_t ldb, float *c, ptrdiff_t ldc)
{
    /* sgemm copies all of `b` at every call; for one row sgemv streams it once. */
    if (m == 1)
        cblas_sgemv(CblasRowMajor, CblasTrans, k, n, 1.0F, b, (blasint)ldb, a, 1, 0.0F, c, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0F, a, (blasint)lda, b,
                    (blasint)ldb, 0.0F, c, (blasint)ldc);
}
