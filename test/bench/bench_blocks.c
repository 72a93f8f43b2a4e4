/* Speed of every micro-kernel on data that lies in the nearest cache: GFLOP/s by vectors and
 * pixels of the block, for each instruction set of this machine.
 *
 *     bench_blocks [floats behind a pixel, default 256] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libsplit/simd.h"

enum { REPEATS = 7, RUNS = 400 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double gflops(const struct simd *simd, int32_t vectors, int32_t pixels, int32_t depth,
                     const float *in, const float *w, float *out)
{
    const struct simd_block b = {
        .rows = 1,
        .runs = 1,
        .len = depth,
        .in_pixel = depth,
        .out_pixel = (ptrdiff_t)vectors * simd->width,
        .last = simd->width,
        .act = { SIMD_CLAMP, 0, 6 },
    };
    double best = 1e9;
    for (int r = 0; r < REPEATS; r++) {
        const double start = now();
        for (int i = 0; i < RUNS; i++)
            simd->block[vectors][pixels](&b, in, w, out, w, NULL);
        const double took = (now() - start) / RUNS;
        best = took < best ? took : best;
    }
    return 2e-9 * depth * vectors * simd->width * pixels / best;
}

int main(int argc, char **argv)
{
    const int32_t depth = argc > 1 ? atoi(argv[1]) : 256;
    const size_t most = (size_t)(depth > 0 ? depth : 1) * SIMD_MAX_VECTORS * SIMD_MAX_WIDTH;
    float *in = calloc(most, sizeof(*in)), *w = calloc(most, sizeof(*w));
    float *out = calloc(SIMD_MAX_PIXELS * SIMD_MAX_VECTORS * SIMD_MAX_WIDTH, sizeof(*out));
    if (depth < 1 || !in || !w || !out)
        return 1;
    for (const struct simd *const *s = simd_usable(); *s; s++)
        for (int32_t v = 1; v <= SIMD_MAX_VECTORS; v++) {
            printf("%-9s %d vectors:", (*s)->name, v);
            for (int32_t p = 1; p <= (*s)->pixels[v]; p++)
                printf(" %5.1f", gflops(*s, v, p, depth, in, w, out));
            printf("\n");
        }
    free(in);
    free(w);
    free(out);
    return 0;
}
