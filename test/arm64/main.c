/* Runs the tests of kernels on a machine (or under qemu) that has neither Criterion nor the
 * libraries of libsplit: what those tests touch of them is here in its plainest form. */
#include <errno.h>

#include "criterion/criterion.h"
#include "libsplit/gemm.h"
#include "libsplit/onnx_wire.h"

static struct test *first, **last = &first;

void test_add(struct test *t)
{
    *last = t;
    last = &t->next;
}

int main(void)
{
    int count = 0;
    for (const struct test *t = first; t; t = t->next, count++) {
        t->run();
        printf("passed: %s\n", t->name);
        fflush(stdout);
    }
    printf("%d tests, %d passed\n", count, count);
    return 0;
}

/* ---- In place of OpenBLAS, and of a model's file */

void gemm_init(void) {}

void gemm(int32_t m, int32_t n, int32_t k, const float *a, ptrdiff_t lda, const float *b,
          ptrdiff_t ldb, float *c, ptrdiff_t ldc)
{
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++) {
            double sum = 0;
            for (int32_t d = 0; d < k; d++)
                sum += (double)a[i * lda + d] * (double)b[d * ldb + j];
            c[i * ldc + j] = (float)sum;
        }
}

int onnx_wire_model(struct onnx_model *m, struct store **store, const void *bytes, size_t len,
                    struct diag *why)
{
    (void)m;
    (void)store;
    (void)bytes;
    (void)len;
    return diag(why, -ENOTSUP, "models are not read here");
}
