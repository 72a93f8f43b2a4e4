/* Any bytes as a recipe and a message that follows it; any values through the recipe and back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_VALUES = 8192 };

/* What a recipe that was read must be again when it is written. */
static void check_bytes(const struct recipe *r, const uint8_t *data, size_t used)
{
    uint8_t *bytes = malloc(used);
    if (!bytes)
        return;
    if (recipe_bytes(r) != used)
        abort();
    recipe_write(bytes, r);
    if (memcmp(bytes, data, used) != 0)
        abort();
    free(bytes);
}

struct room {
    float *values, *decoded;
    uint8_t *msg;
    void *scratch;
    struct recipe_past past[2];
};

static bool room_init(struct room *m, const struct grid *g, size_t n)
{
    *m = (struct room){ .values = calloc(n, sizeof(float)),
                        .decoded = calloc(n, sizeof(float)),
                        .msg = malloc(codec_bound(n)),
                        .scratch = malloc(recipe_scratch_bytes(g)) };
    bool holds = m->values && m->decoded && m->msg && m->scratch;
    for (int i = 0; i < 4; i++) {
        m->past[i / 2].level[i % 2] = calloc(recipe_past_bytes(g), 1);
        holds = holds && m->past[i / 2].level[i % 2];
    }
    return holds;
}

static void room_done(struct room *m)
{
    free(m->values);
    free(m->decoded);
    free(m->msg);
    free(m->scratch);
    for (int i = 0; i < 4; i++)
        free(m->past[i / 2].level[i % 2]);
}

static void check_finite(const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            abort();
}

/* `data` as a message; `past` as if a frame of zeros had come before. */
static void try_decode(struct room *m, const struct recipe *r, const struct grid *g, size_t n,
                       const uint8_t *data, size_t size)
{
    if (recipe_get(m->decoded, g, r, 0, NULL, m->scratch, data, size) == 0)
        check_finite(m->decoded, n);
    m->past[0].frames = 1;
    if (recipe_get(m->decoded, g, r, 0, &m->past[0], m->scratch, data, size) == 0)
        check_finite(m->decoded, n);
    m->past[0].frames = 0;
}

/* The same bytes as values, twice, so that the second message may build on the first. */
static void try_encode(struct room *m, const struct recipe *r, const struct grid *g, size_t n,
                       const uint8_t *data, size_t size)
{
    struct codec_range range = { 0 };
    memcpy(m->values, data, size / sizeof(float) < n ? size : n * sizeof(float));
    codec_range_add(&range, m->values, n);
    for (int frame = 0; frame < 2; frame++) {
        const size_t len = recipe_put(m->msg, r, 0, m->values, g, &range, &m->past[0], m->scratch);
        if (len >= codec_len(CODEC_F16, n) && len > 0)
            abort();
        if (len > 0 && recipe_get(m->decoded, g, r, 0, &m->past[1], m->scratch, m->msg, len) != 0)
            abort();
        if (len == 0)
            m->past[1].frames = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recipe r;
    size_t used;
    if (size < 2 || recipe_read(&r, data + 2, size - 2, &used) != 0)
        return 0;
    check_bytes(&r, data + 2, used);
    struct grid g = { .images = 1,
                      .rows = 1 + data[0] % 3U,
                      .cols = 1 + data[1] % 20U,
                      .channels = (size_t)r.channels };
    g.col_stride = g.channels;
    g.row_stride = g.cols * g.col_stride;
    g.image_stride = g.rows * g.row_stride;
    const size_t n = g.image_stride;
    struct room m;
    if (n <= MAX_VALUES) {
        if (room_init(&m, &g, n)) {
            try_decode(&m, &r, &g, n, data + 2 + used, size - 2 - used);
            try_encode(&m, &r, &g, n, data + 2 + used, size - 2 - used);
        }
        room_done(&m);
    }
    recipe_done(&r);
    return 0;
}
