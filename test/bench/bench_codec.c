/* Speed and size of every codec on messages like those between nodes: GB of floats a second and
 * nanoseconds a value to encode and to decode, and bytes a value.
 *
 *     bench_codec [values of a message, a multiple of 7168, default 14336: two rows of 112 x 64]
 *
 * Values are those behind a ReLU, of which about 84 % are zeros, or a bell around 0.  They vary
 * slowly along a row, and channels resemble the one before, as those of networks do. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "quant/fit.h"
#include "quant/recipe.h"

enum {
    REPEATS = 9,
    VALUES_A_REPEAT = 1 << 20,
    COLS = 112,
    CHANNELS = 64,
    LINE = COLS * CHANNELS,
    SAMPLES = 20 /* messages that contexts are learned from */
};

static const struct way {
    const char *name;
    enum codec_mode mode; /* CODEC_TQ, CODEC_CTX and CODEC_VIDEO: by a recipe */
    float step;
} ways[] = {
    { "f32", CODEC_F32, 0 },
    { "f16", CODEC_F16, 0 },
    { "q8", CODEC_Q8, 0 },
    { "q4", CODEC_Q4, 0 },
    { "tq step 0.5", CODEC_TQ, 0.5F },
    { "tq step 1", CODEC_TQ, 1 },
    { "ctx step 0.5", CODEC_CTX, 0.5F },
    { "ctx step 1", CODEC_CTX, 1 },
    { "video step 1", CODEC_VIDEO, 1 },
};

struct bench {
    size_t n;
    struct grid g;
    bool with_sign;
    float *values, *decoded;
    uint8_t *message;
    size_t len;
    struct recipe recipe;
    struct recipe_past sender, receiver;
    void *scratch;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Values */

static float uniform(void) { return (float)rand() / (float)RAND_MAX; }

static float bell(void)
{
    float sum = -6;
    for (int k = 0; k < 12; k++)
        sum += uniform();
    return sum;
}

static void fill(struct bench *b, unsigned seed)
{
    float left[CHANNELS] = { 0 };
    srand(seed);
    for (size_t i = 0; i < b->n / CHANNELS; i++)
        for (int c = 0; c < CHANNELS; c++) {
            const float beside = c > 0 ? left[c - 1] : bell();
            left[c] = 0.5F * left[c] + 0.5F * beside + 0.6F * bell();
            b->values[i * CHANNELS + (size_t)c] = b->with_sign ? left[c] : fmaxf(0, left[c] - 1);
        }
}

/* The next frame of a camera that stands still: one value in twenty is another one. */
static void stir(struct bench *b, float step)
{
    for (size_t i = 0; i < b->n; i++) {
        const float moved = b->values[i] + (uniform() < 0.05F ? step * bell() : 0);
        b->values[i] = b->with_sign ? moved : fmaxf(0, moved);
    }
}

/* ---- Coding */

static void encode(struct bench *b, const struct way *w)
{
    struct codec_range range = { 0 };
    if (w->mode == CODEC_VIDEO && b->sender.frames > 0)
        b->sender.frames = 1; /* always against the first frame, which stays where it is */
    if (w->step > 0) {
        codec_range_add(&range, b->values, b->n);
        b->len = recipe_put(b->message, &b->recipe, 0, b->values, &b->g, &range,
                            w->mode == CODEC_VIDEO ? &b->sender : NULL, b->scratch);
    } else {
        b->len = codec_put(b->message, w->mode, b->values, b->n);
    }
}

static void decode(struct bench *b, const struct way *w)
{
    int err;
    if (w->mode == CODEC_VIDEO) /* as often as one likes: the frame before stays the same */
        b->receiver.frames = b->message[1];
    if (w->step > 0)
        err = recipe_get(b->decoded, &b->g, &b->recipe, 0,
                         w->mode == CODEC_VIDEO ? &b->receiver : NULL, b->scratch, b->message,
                         b->len);
    else
        err = codec_get(b->decoded, b->n, b->message, b->len, NULL);
    if (err)
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

/* ---- Recipes */

static struct context *learn(struct bench *b, bool with_before)
{
    struct fit_samples samples;
    struct context *x = calloc(1, sizeof *x);
    const struct levels l = levels_of(&b->g, b->scratch);
    const struct levels before = levels_of(&b->g, malloc(recipe_past_bytes(&b->g)));
    const size_t places = SAMPLES * levels_plane(&l);
    if (!x || !before.level || fit_samples_init(&samples, CHANNELS, places, with_before))
        abort();
    for (unsigned seed = 1; seed <= SAMPLES; seed++) {
        fill(b, seed);
        levels_of_values(&before, b->values, &b->g, &b->recipe.quantizer);
        if (with_before)
            stir(b, b->recipe.quantizer.step);
        levels_of_values(&l, b->values, &b->g, &b->recipe.quantizer);
        fit_samples_add(&samples, &l, 0, with_before ? &before : NULL);
    }
    free(before.level);
    if (context_fit(x, &samples, b->with_sign))
        abort();
    fit_samples_done(&samples);
    return x;
}

static void prepare(struct bench *b, const struct way *w)
{
    recipe_done(&b->recipe);
    b->recipe = (struct recipe){ .channels = CHANNELS,
                                 .quantizer = { .step = w->step,
                                                .threshold = 0.5625F * w->step,
                                                .gain = 1.2F,
                                                .with_sign = b->with_sign } };
    if (w->mode == CODEC_CTX || w->mode == CODEC_VIDEO)
        b->recipe.context = learn(b, false);
    if (w->mode == CODEC_VIDEO)
        b->recipe.video = learn(b, true);
    fill(b, SAMPLES + 1);
    b->sender.frames = b->receiver.frames = 0;
    for (int frame = 0; frame < 2 && w->mode == CODEC_VIDEO; frame++) {
        encode(b, w);
        if (frame == 0) {
            decode(b, &(struct way){ .mode = CODEC_VIDEO, .step = 1 });
            stir(b, w->step);
        }
    }
}

static void print(struct bench *b, bool with_sign)
{
    b->with_sign = with_sign;
    printf("%s, %zu values a message:\n", with_sign ? "signed" : "behind a ReLU", b->n);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (ways[i].step > 0)
            prepare(b, &ways[i]);
        else
            fill(b, SAMPLES + 1);
        const double there = seconds(b, &ways[i], encode);
        const double back = seconds(b, &ways[i], decode);
        printf("  %-12s encode %6.2f GB/s %6.3f ns   decode %6.2f GB/s %6.3f ns   "
               "%6.3f bytes a value, %5.1fx\n",
               ways[i].name, 4e-9 / there, 1e9 * there, 4e-9 / back, 1e9 * back,
               (double)b->len / (double)b->n, 4 * (double)b->n / (double)b->len);
    }
}

int main(int argc, char **argv)
{
    const long n = argc > 1 ? strtol(argv[1], NULL, 10) : 2 * LINE;
    if (n < LINE || n % LINE != 0 || n > 1 << 24) {
        fprintf(stderr, "bench_codec: a message has a multiple of %d values\n", LINE);
        return 1;
    }
    struct bench b = { .n = (size_t)n,
                       .g = { .images = 1,
                              .rows = (size_t)n / LINE,
                              .cols = COLS,
                              .channels = CHANNELS,
                              .image_stride = (size_t)n,
                              .row_stride = LINE,
                              .col_stride = CHANNELS } };
    b.values = malloc(b.n * sizeof(*b.values));
    b.decoded = malloc(b.n * sizeof(*b.decoded));
    b.message = malloc(codec_bound(b.n));
    b.scratch = malloc(recipe_scratch_bytes(&b.g));
    bool holds = b.values && b.decoded && b.message && b.scratch;
    for (int i = 0; i < 2; i++) {
        b.sender.level[i] = malloc(recipe_past_bytes(&b.g));
        b.receiver.level[i] = malloc(recipe_past_bytes(&b.g));
        holds = holds && b.sender.level[i] && b.receiver.level[i];
    }
    if (holds) {
        print(&b, false);
        print(&b, true);
    }
    for (int i = 0; i < 2; i++) {
        free(b.sender.level[i]);
        free(b.receiver.level[i]);
    }
    recipe_done(&b.recipe);
    free(b.values);
    free(b.decoded);
    free(b.message);
    free(b.scratch);
    return holds ? 0 : 1;
}
