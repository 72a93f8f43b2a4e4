#include "quant/recipe.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "quant/fit.h"
#include "test/quant/levels.h"
#include "test/quant/values.h"

/* ---- Levels */

/* What a value becomes, by the definition in quant/levels.h. */
static double reconstruct(float value, const struct quantizer *q, float rest)
{
    const double size = fabs((double)value) / (double)q->step,
                 zone = (double)q->threshold / (double)q->step;
    double out = (double)rest;
    if (size >= zone && (q->with_sign || value > 0)) {
        const double middle = floor(size - zone) + 0.5 + (q->soft ? 0 : zone);
        out += copysign((double)q->gain * (double)q->step * middle, (double)value);
    }
    return q->with_sign || out > 0 ? out : 0;
}

/* A value on the border of two levels may take either. */
static bool is_near(float got, float value, const struct quantizer *q, float rest)
{
    const double below = reconstruct(value * (1 - 1e-5F), q, rest);
    const double above = reconstruct(value * (1 + 1e-5F), q, rest);
    const double slack = 1e-5 * (fabs((double)got) + fabs((double)rest));
    return fabs((double)got - below) <= slack || fabs((double)got - above) <= slack;
}

/* ---- Messages */

struct trip {
    struct grid g;
    size_t values; /* that the strides reach over */
    size_t n;      /* of the message */
    size_t first;
    struct recipe r;
    float *in, *out;
    uint8_t *room;
    void *scratch;
    struct recipe_past sender, receiver;
};

static void give_past(struct recipe_past *p, const struct grid *g)
{
    p->level[0] = malloc(recipe_past_bytes(g));
    p->level[1] = malloc(recipe_past_bytes(g));
}

static void take_past(struct recipe_past *p)
{
    free(p->level[0]);
    free(p->level[1]);
}

static struct trip trip_of(unsigned seed)
{
    struct trip t = { .first = seed % 4 };
    t.g = test_grid(seed, &t.values);
    t.n = t.g.images * t.g.rows * t.g.cols * t.g.channels;
    t.r = test_recipe(seed, (int32_t)(t.first + t.g.channels + seed % 3));
    t.in = malloc(t.values * sizeof *t.in);
    t.out = malloc(t.values * sizeof *t.out);
    t.room = malloc(codec_bound(t.n));
    t.scratch = malloc(recipe_scratch_bytes(&t.g));
    give_past(&t.sender, &t.g);
    give_past(&t.receiver, &t.g);
    return t;
}

static void trip_done(struct trip *t)
{
    recipe_done(&t->r);
    free(t->in);
    free(t->out);
    free(t->room);
    free(t->scratch);
    take_past(&t->sender);
    take_past(&t->receiver);
}

static struct codec_range range_of(const struct trip *t)
{
    struct codec_range r = { 0 };
    codec_range_add(&r, t->in, t->values);
    return r;
}

/* Values in the order of the message, one after the other. */
static size_t value_at(const struct grid *g, size_t i)
{
    const size_t c = i % g->channels, x = i / g->channels % g->cols;
    const size_t line = i / g->channels / g->cols;
    return line / g->rows * g->image_stride + line % g->rows * g->row_stride + x * g->col_stride +
           c;
}

/* Decodes what was encoded and compares it with the definition; nothing beside it is touched. */
static void check_trip(struct trip *t, bool video, unsigned seed)
{
    const struct codec_range range = range_of(t);
    const size_t len = recipe_put(t->room, &t->r, t->first, t->in, &t->g, &range,
                                  video ? &t->sender : NULL, t->scratch);
    if (len == 0)
        return;
    cr_assert_lt(len, codec_len(CODEC_F16, t->n));
    cr_assert(recipe_is_message(t->room, len));
    uint8_t *exact = malloc(len);
    memcpy(exact, t->room, len);
    memset(t->out, 0xFF, t->values * sizeof *t->out);
    cr_assert_eq(recipe_get(t->out, &t->g, &t->r, t->first, video ? &t->receiver : NULL, t->scratch,
                            exact, len),
                 0, "seed %u", seed);
    size_t written = 0;
    for (size_t i = 0; i < t->values; i++)
        written += isnan(t->out[i]) ? 0 : 1;
    cr_assert_eq(written, t->n);
    for (size_t i = 0; i < t->n; i++) {
        const size_t at = value_at(&t->g, i);
        const float rest = t->r.rest ? t->r.rest[t->first + i % t->g.channels] : 0;
        cr_assert(is_near(t->out[at], t->in[at], &t->r.quantizer, rest),
                  "seed %u: %a became %a, not %a", seed, (double)t->in[at], (double)t->out[at],
                  reconstruct(t->in[at], &t->r.quantizer, rest));
    }
    cr_assert_eq(t->sender.frames, t->receiver.frames);
    free(exact);
}

Test(recipe, decodes_to_the_middle_of_the_step)
{
    for (unsigned seed = 0; seed < 1000; seed++) {
        struct trip t = trip_of(seed);
        values_fill(t.in, t.values, (enum values_kind)(seed % VALUES_KINDS), seed);
        check_trip(&t, false, seed);
        trip_done(&t);
    }
}

/* Frames that resemble each other, and some that do not; now and then one is lost. */
Test(recipe, video_follows_frame_after_frame)
{
    unsigned on_past = 0;
    for (unsigned seed = 0; seed < 300; seed++) {
        struct trip t = trip_of(seed);
        for (unsigned frame = 0; frame < 8; frame++) {
            if (frame % 3 == 0)
                values_fill(t.in, t.values, VALUES_RELU, seed + frame);
            check_trip(&t, true, seed);
            on_past += t.room[0] == CODEC_VIDEO;
            if (frame == 4)
                t.sender.frames = t.receiver.frames = 0;
        }
        trip_done(&t);
    }
    cr_assert_gt(on_past, 100);
}

/* A scene of many levels, of which a few are another one in the second frame. */
static void film(float *values, size_t n, unsigned scene, int frame)
{
    srand(scene);
    for (size_t i = 0; i < n; i++) {
        const int level = rand() % 3 ? rand() % 40 : 0, moves = rand() % 20 == 0;
        values[i] = (float)(level + moves * frame);
    }
}

static struct context *learn(const struct grid *g, const struct quantizer *q, float *values,
                             bool video)
{
    enum { SCENES = 40 };
    struct levels l[2] = { levels_of(g, NULL), levels_of(g, NULL) };
    const size_t n = g->images * g->image_stride, plane = levels_plane(&l[0]);
    struct fit_samples s;
    struct context *x = malloc(sizeof *x);
    for (int frame = 0; frame < 2; frame++)
        l[frame].level = calloc(l[frame].channels * plane, sizeof *l[frame].level);
    cr_assert_eq(fit_samples_init(&s, g->channels, SCENES * plane, video), 0);
    for (unsigned scene = 0; scene < SCENES; scene++) {
        for (int frame = 0; frame < 2; frame++) {
            film(values, n, scene, frame);
            levels_of_values(&l[frame], values, g, q);
        }
        fit_samples_add(&s, &l[1], 0, video ? &l[0] : NULL);
    }
    cr_assert_eq(context_fit(x, &s, q->with_sign), 0);
    fit_samples_done(&s);
    free(l[0].level);
    free(l[1].level);
    return x;
}

/* However many levels there are, only the few that change are paid for. */
Test(recipe, video_costs_what_changes)
{
    const struct grid g = { 1, 2, 20, 8, 320, 160, 8 };
    float values[320];
    struct recipe r = { .channels = 8, .quantizer = { .step = 1, .threshold = 0.5F, .gain = 1 } };
    r.context = learn(&g, &r.quantizer, values, false);
    r.video = learn(&g, &r.quantizer, values, true);
    struct recipe_past past = { .frames = 0 };
    give_past(&past, &g);
    uint8_t *room = malloc(codec_bound(320));
    void *scratch = malloc(recipe_scratch_bytes(&g));
    size_t len[2];
    for (int frame = 0; frame < 2; frame++) {
        struct codec_range range = { 0 };
        film(values, 320, 1000, frame);
        codec_range_add(&range, values, 320);
        len[frame] = recipe_put(room, &r, 0, values, &g, &range, &past, scratch);
    }
    cr_assert_eq(room[0], CODEC_VIDEO);
    cr_assert_lt(4 * len[1], len[0], "%zu bytes behind %zu", len[1], len[0]);
    free(room);
    free(scratch);
    take_past(&past);
    recipe_done(&r);
}

/* A receiver that missed a frame says so, and takes the next message that stands alone. */
Test(recipe, video_says_what_it_depends_on)
{
    unsigned stale = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        struct trip t = trip_of(seed);
        values_fill(t.in, t.values, VALUES_RELU, seed);
        check_trip(&t, true, seed);
        const struct codec_range range = range_of(&t);
        for (int missed = 0; missed < 2; missed++) {
            const size_t len =
                recipe_put(t.room, &t.r, t.first, t.in, &t.g, &range, &t.sender, t.scratch);
            const bool depends = len > 0 && t.room[0] == CODEC_VIDEO && missed == 1;
            const int err =
                len == 0 || missed == 0
                    ? 0
                    : recipe_get(t.out, &t.g, &t.r, t.first, &t.receiver, t.scratch, t.room, len);
            cr_assert_eq(err, depends ? -ESTALE : 0);
            stale += depends;
        }
        t.sender.frames = t.receiver.frames = 0;
        check_trip(&t, true, seed);
        trip_done(&t);
    }
    cr_assert_gt(stale, 20);
}

Test(recipe, leaves_what_it_cannot_hold_to_others)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, 3e38F };
    for (unsigned seed = 0; seed < 40; seed++) {
        struct trip t = trip_of(seed);
        values_fill(t.in, t.values, VALUES_RELU, seed);
        t.in[t.values / 2] = bad[seed % 4];
        const struct codec_range range = range_of(&t);
        cr_assert_eq(recipe_put(t.room, &t.r, t.first, t.in, &t.g, &range, &t.sender, t.scratch),
                     0);
        cr_assert_eq(t.sender.frames, 0);
        trip_done(&t);
    }
}

Test(recipe, survives_every_change)
{
    for (unsigned seed = 0; seed < 40; seed++) {
        struct trip t = trip_of(seed);
        values_fill(t.in, t.values, VALUES_RELU, seed);
        const struct codec_range range = range_of(&t);
        const size_t len = recipe_put(t.room, &t.r, t.first, t.in, &t.g, &range, NULL, t.scratch);
        for (size_t bit = 0; bit < 8 * len && bit < 600; bit++) {
            t.room[bit / 8] ^= (uint8_t)(1U << bit % 8);
            if (recipe_get(t.out, &t.g, &t.r, t.first, &t.receiver, t.scratch, t.room, len) == 0)
                for (size_t i = 0; i < t.n; i++)
                    cr_assert(isfinite(t.out[value_at(&t.g, i)]), "bit %zu", bit);
            t.room[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        cr_assert_lt(recipe_get(t.out, &t.g, &t.r, t.first, NULL, t.scratch, t.room, 0), 0);
        trip_done(&t);
    }
}

Test(recipe, fills_what_nobody_sent)
{
    for (unsigned seed = 0; seed < 60; seed++) {
        struct trip t = trip_of(seed);
        memset(t.out, 0xFF, t.values * sizeof *t.out);
        recipe_fill(t.out, &t.g, seed % 3 ? &t.r : NULL, t.first);
        size_t written = 0;
        for (size_t i = 0; i < t.values; i++)
            written += isnan(t.out[i]) ? 0 : 1;
        cr_assert_eq(written, t.n);
        for (size_t i = 0; i < t.n; i++) {
            const bool has_rest = seed % 3 && t.r.rest;
            cr_assert_eq(t.out[value_at(&t.g, i)],
                         has_rest ? t.r.rest[t.first + i % t.g.channels] : 0);
        }
        trip_done(&t);
    }
}

/* ---- Bytes */

Test(recipe, is_the_same_as_bytes)
{
    for (unsigned seed = 0; seed < 100; seed++) {
        struct recipe r = test_recipe(seed, 1 + (int32_t)(seed % 30)), again;
        r.drop = seed % 7 == 0;
        const size_t len = recipe_bytes(&r);
        uint8_t *bytes = malloc(len), *twice = malloc(len);
        size_t used;
        recipe_write(bytes, &r);
        cr_assert_eq(recipe_read(&again, bytes, len, &used), 0);
        cr_assert_eq(used, len);
        cr_assert_eq(recipe_bytes(&again), len);
        recipe_write(twice, &again);
        cr_assert(memcmp(bytes, twice, len) == 0);
        recipe_done(&again);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *exact = malloc(cut + 1);
            memcpy(exact, bytes, cut);
            cr_assert_eq(recipe_read(&again, exact, cut, &used), -EBADMSG);
            free(exact);
        }
        free(bytes);
        free(twice);
        recipe_done(&r);
    }
}

Test(recipe, no_quantizer_is_taken_on_trust)
{
    const struct quantizer bad[] = {
        { .step = 0, .threshold = 0.5F, .gain = 1 },
        { .step = -1, .threshold = 0.5F, .gain = 1 },
        { .step = NAN, .threshold = 0.5F, .gain = 1 },
        { .step = INFINITY, .threshold = INFINITY, .gain = 1 },
        { .step = 1e-44F, .threshold = 0.5F, .gain = 1 },
        { .step = 1, .threshold = -1, .gain = 1 },
        { .step = 1, .threshold = 0, .gain = 1 },
        { .step = 1, .threshold = NAN, .gain = 1 },
        { .step = 1, .threshold = INFINITY, .gain = 1 },
        { .step = 1, .threshold = 0.5F, .gain = 0 },
        { .step = 1, .threshold = 0.5F, .gain = NAN },
        { .step = 1e37F, .threshold = 0.5F, .gain = 1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct recipe r = { .channels = 3, .quantizer = bad[i] }, out;
        uint8_t bytes[64];
        size_t used;
        recipe_write(bytes, &r);
        cr_assert_eq(recipe_read(&out, bytes, recipe_bytes(&r), &used), -EBADMSG, "%zu", i);
    }
}
