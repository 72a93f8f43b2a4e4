/* Speed and size of every codec on messages like those between nodes: GB of floats a second and
 * nanoseconds a value to encode and to decode, and bytes a value.
 *
 *     bench_codec [values of a message, a multiple of 64, default 14336: two rows of 112 x 64]
 *
 * Values are those behind a ReLU, of which about 84 % are zeros, or a bell around 0. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "quant/codec.h"

enum { REPEATS = 9, VALUES_A_REPEAT = 1 << 20, CHANNELS = 64 };

static const struct way {
    const char *name;
    enum codec_mode mode;
    struct codec_quantizer q; /* CODEC_TQ */
} ways[] = {
    { .name = "f32", .mode = CODEC_F32 },
    { .name = "f16", .mode = CODEC_F16 },
    { .name = "q8", .mode = CODEC_Q8 },
    { .name = "q4", .mode = CODEC_Q4 },
    { "tq step 0.5", CODEC_TQ, { 0.5F, 0.5625F, 1.1F } },
    { "tq step 1", CODEC_TQ, { 1, 0.5625F, 1.3F } },
    { "tq step 2", CODEC_TQ, { 2, 0.5625F, 1.5F } },
};

struct bench {
    size_t n;
    float *values, *decoded;
    uint8_t *message;
    size_t len;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void encode(struct bench *b, const struct way *w)
{
    b->len = w->mode == CODEC_TQ ? codec_put_tq(b->message, b->values, b->n, CHANNELS, &w->q)
                                 : codec_put(b->message, w->mode, b->values, b->n);
}

static void decode(struct bench *b, const struct way *w)
{
    (void)w;
    if (codec_get(b->decoded, b->n, b->message, b->len, NULL))
        abort();
}

/* Seconds a value, the best of some repeats: the machine has other work. */
static double seconds(struct bench *b, const struct way *w,
                      void (*code)(struct bench *, const struct way *))
{
    const size_t runs = VALUES_A_REPEAT / b->n + 1;
    double best = INFINITY;
    for (int r = 0; r < REPEATS; r++) {
        const double start = now();
        for (size_t i = 0; i < runs; i++)
            code(b, w);
        best = fmin(best, (now() - start) / (double)(runs * b->n));
    }
    return best;
}

static void fill(struct bench *b, bool with_sign)
{
    srand(1);
    for (size_t i = 0; i < b->n; i++) {
        float sum = -6;
        for (int k = 0; k < 12; k++)
            sum += (float)rand() / (float)RAND_MAX;
        b->values[i] = with_sign ? sum : fmaxf(0, sum - 1);
    }
}

static void print(struct bench *b, bool with_sign)
{
    fill(b, with_sign);
    printf("%s, %zu values a message:\n", with_sign ? "signed" : "behind a ReLU", b->n);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        const double there = seconds(b, &ways[i], encode), back = seconds(b, &ways[i], decode);
        printf("  %-12s encode %6.2f GB/s %6.3f ns   decode %6.2f GB/s %6.3f ns   "
               "%6.3f bytes a value, %5.1fx\n",
               ways[i].name, 4e-9 / there, 1e9 * there, 4e-9 / back, 1e9 * back,
               (double)b->len / (double)b->n, 4 * (double)b->n / (double)b->len);
    }
}

int main(int argc, char **argv)
{
    const long n = argc > 1 ? strtol(argv[1], NULL, 10) : 14336;
    if (n < CHANNELS || n % CHANNELS != 0 || n > 1 << 26) {
        fprintf(stderr, "bench_codec: a message has a multiple of %d values\n", CHANNELS);
        return 1;
    }
    struct bench b = { .n = (size_t)n };
    b.values = malloc(b.n * sizeof(*b.values));
    b.decoded = malloc(b.n * sizeof(*b.decoded));
    b.message = malloc(codec_bound(b.n));
    const bool holds = b.values && b.decoded && b.message;
    if (holds) {
        print(&b, false);
        print(&b, true);
    }
    free(b.values);
    free(b.decoded);
    free(b.message);
    return holds ? 0 : 1;
}
