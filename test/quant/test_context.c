#include "quant/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "quant/fit.h"
#include "quant/range.h"
#include "test/quant/levels.h"

enum { MOST = 2 * (1 << 20) };

/* ---- The range coder */

/* Likely and unlikely bits of all chances, and what is behind the end reads as zeros. */
Test(range, round_trip)
{
    for (unsigned seed = 0; seed < 3000; seed++) {
        uint32_t chance[300];
        bool bit[300];
        uint8_t room[2048];
        srand(seed);
        const int n = rand() % 300;
        struct range_writer w = range_writer_of(room, sizeof room);
        for (int i = 0; i < n; i++) {
            const int extreme = rand() % 2 ? 1 : RANGE_ONE - 1;
            chance[i] = seed % 3 ? 1 + (uint32_t)rand() % (RANGE_ONE - 1) : (uint32_t)extreme;
            bit[i] = seed % 5 ? (uint32_t)rand() % RANGE_ONE < chance[i] : rand() % 2;
            range_put(&w, chance[i], bit[i]);
        }
        const size_t len = (size_t)(range_writer_end(&w, room) - room);
        cr_assert_not(w.full);
        uint8_t *exact = malloc(len + 1);
        memcpy(exact, room, len);
        struct range_reader r = range_reader_of(exact, len);
        for (int i = 0; i < n; i++)
            cr_assert_eq(range_get(&r, chance[i]), bit[i], "seed %u, bit %d of %d", seed, i, n);
        cr_assert(range_reader_ended(&r));
        free(exact);
    }
}

Test(range, likely_zeros_take_no_room)
{
    uint8_t room[8];
    struct range_writer w = range_writer_of(room, sizeof room);
    for (int i = 0; i < 5000; i++)
        range_put(&w, 2, false);
    cr_assert_eq(range_writer_end(&w, room), room);
    cr_assert_not(w.full);
}

Test(range, a_full_writer_stays_inside)
{
    for (size_t cap = 0; cap < 40; cap++) {
        uint8_t *room = malloc(cap + 1);
        struct range_writer w = range_writer_of(room, cap);
        srand((unsigned)cap);
        for (int i = 0; i < 1000; i++)
            range_put(&w, RANGE_HALF, rand() % 2);
        cr_assert_leq(range_writer_end(&w, room), room + cap);
        cr_assert(w.full);
        free(room);
    }
}

/* ---- Contexts */

Test(context, chances_rise_with_the_sum)
{
    for (int32_t sum = -2000; sum < 2000; sum++) {
        cr_assert_gt(context_chance(sum), 0);
        cr_assert_lt(context_chance(sum), RANGE_ONE);
        cr_assert_leq(context_chance(sum), context_chance(sum + 1));
        cr_assert_eq(context_chance(sum) + context_chance(-sum), RANGE_ONE);
    }
}

/* A message, in exactly the memory that it takes. */
static uint8_t *encode(const struct levels *l, const struct context *x, size_t first,
                       const int8_t *before, size_t *len)
{
    uint8_t *room = malloc(MOST);
    void *scratch = malloc(context_scratch_bytes(l));
    *len = context_put(room, MOST, l, x, first, before, scratch);
    cr_assert_neq(*len, SIZE_MAX);
    uint8_t *exact = malloc(*len + 1);
    memcpy(exact, room, *len);
    free(scratch);
    free(room);
    return exact;
}

static int decode(const struct levels *l, const struct context *x, size_t first,
                  const int8_t *before, const uint8_t *msg, size_t len)
{
    void *scratch = malloc(context_scratch_bytes(l));
    const int err = context_get(l, x, first, before, scratch, msg, len);
    free(scratch);
    return err;
}

static int8_t *random_sizes(size_t n, bool with_sign)
{
    int8_t *size = malloc(n);
    for (size_t i = 0; i < n; i++)
        size[i] = (int8_t)(with_sign ? rand() % 9 - 4 : rand() % 5);
    return size;
}

/* Whatever the weights, the part of the tensor and the frame before. */
Test(context, decode_of_encode_is_the_same)
{
    for (unsigned seed = 0; seed < 600; seed++) {
        const bool with_sign = seed % 2, with_before = seed % 3 == 0;
        struct levels in = test_levels(seed, with_sign || with_before);
        struct levels out = test_levels_like(&in);
        const size_t first = seed % 5, sizes = in.channels * levels_plane(&in);
        struct context x =
            test_context(seed, (int32_t)(first + in.channels), with_sign, with_before);
        int8_t *before = with_before ? random_sizes(sizes, with_sign) : NULL;
        size_t len;
        uint8_t *msg = encode(&in, &x, first, before, &len);
        cr_assert_eq(decode(&out, &x, first, before, msg, len), 0, "seed %u", seed);
        cr_assert(test_levels_equal(&in, &out), "seed %u", seed);
        free(msg);
        free(before);
        context_done(&x);
        free(in.level);
        free(out.level);
    }
}

Test(context, survives_every_change)
{
    for (unsigned seed = 0; seed < 24; seed++) {
        struct levels in = test_levels(seed, seed % 2), out = test_levels_like(&in);
        struct context x = test_context(seed, (int32_t)in.channels, seed % 2, false);
        size_t len;
        uint8_t *msg = encode(&in, &x, 0, NULL, &len);
        for (size_t bit = 0; bit < 8 * len && bit < 1000; bit++) {
            msg[bit / 8] ^= (uint8_t)(1U << bit % 8);
            if (decode(&out, &x, 0, NULL, msg, len) == 0)
                cr_assert(test_levels_in_range(&out), "bit %zu", bit);
            msg[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        for (size_t cut = 0; cut < len && cut < 200; cut++) {
            uint8_t *exact = malloc(cut + 1);
            memcpy(exact, msg, cut);
            decode(&out, &x, 0, NULL, exact, cut);
            free(exact);
        }
        /* No message has so many bytes, however likely the zeros at its end. */
        const size_t most = 64 + 4 * in.channels * levels_plane(&in);
        uint8_t *longer = calloc(most, 1);
        memcpy(longer, msg, len);
        cr_assert_eq(decode(&out, &x, 0, NULL, longer, most), -EBADMSG);
        free(longer);
        free(msg);
        context_done(&x);
        free(in.level);
        free(out.level);
    }
}

Test(context, is_the_same_as_bytes)
{
    for (unsigned seed = 0; seed < 60; seed++) {
        const bool with_sign = seed % 2;
        struct context x = test_context(seed, 1 + (int32_t)seed, with_sign, seed % 3 == 0), again;
        const size_t len = context_bytes(&x);
        uint8_t *bytes = malloc(len), *twice = malloc(len);
        size_t used;
        context_write(bytes, &x);
        cr_assert_eq(context_read(&again, x.channels, with_sign, bytes, len, &used), 0);
        cr_assert_eq(used, len);
        cr_assert_eq(context_bytes(&again), len);
        context_write(twice, &again);
        cr_assert(memcmp(bytes, twice, len) == 0);
        context_done(&again);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *exact = malloc(cut + 1);
            memcpy(exact, bytes, cut);
            cr_assert_eq(context_read(&again, x.channels, with_sign, exact, cut, &used), -EBADMSG);
            free(exact);
        }
        free(bytes);
        free(twice);
        context_done(&x);
    }
}

/* ---- Learning */

/* Two channels: the first at random, the second nearly the same one column further right. */
static struct levels follower(unsigned seed)
{
    struct levels l = { .channels = 2, .lines = 2, .cols = 30 };
    l.level = calloc(2 * levels_plane(&l), sizeof *l.level);
    srand(seed);
    for (size_t line = 0; line < l.lines; line++)
        for (size_t x = 0; x < l.cols; x++) {
            int16_t *at = l.level + levels_line(&l, line) + x;
            at[0] = (int16_t)(rand() % 3 == 0 ? 1 + rand() % 3 : 0);
            if (rand() % 20 > 0)
                at[levels_plane(&l)] = at[-1];
        }
    return l;
}

Test(fit, finds_who_follows_whom)
{
    struct fit_samples s;
    struct context x, none = test_context(1, 2, false, false);
    cr_assert_eq(fit_samples_init(&s, 2, 10000, false), 0);
    for (unsigned seed = 0; seed < 100; seed++) {
        struct levels l = follower(seed);
        fit_samples_add(&s, &l, 0, NULL);
        free(l.level);
    }
    cr_assert_eq(context_fit(&x, &s, false), 0);
    const struct predictor *p = &x.predictor[CONTEXT_QUESTIONS + ASK_ZERO];
    cr_assert_geq(p->nsources, 1);
    cr_assert_eq(p->source[0].channel, 0);
    cr_assert_eq(p->source[0].col, -1);
    cr_assert_gt(p->source[0].weight, 0);

    /* Shorter than one that knows of nothing but how many are 0. */
    memset(none.predictor, 0, 2 * CONTEXT_QUESTIONS * sizeof *none.predictor);
    none.predictor[0].bias = none.predictor[CONTEXT_QUESTIONS].bias = -22;
    struct levels l = follower(1000);
    size_t with, without;
    free(encode(&l, &x, 0, NULL, &with));
    free(encode(&l, &none, 0, NULL, &without));
    cr_assert_lt(with, 3 * without / 4, "%zu and %zu bytes", with, without);
    free(l.level);
    context_done(&x);
    context_done(&none);
    fit_samples_done(&s);
}

/* What is learned can be written, read and used, whatever the samples: none, all zeros, full. */
Test(fit, takes_any_samples)
{
    for (unsigned seed = 0; seed < 40; seed++) {
        const bool with_sign = seed % 2, with_before = seed % 3 == 0;
        struct levels l = test_levels(seed, with_sign), out = test_levels_like(&l);
        struct fit_samples s;
        struct context x, again;
        size_t len, used;
        cr_assert_eq(fit_samples_init(&s, l.channels, seed % 4 * 50, with_before), 0);
        fit_samples_add(&s, &l, 0, &l);
        cr_assert_eq(context_fit(&x, &s, with_sign), 0);
        uint8_t *bytes = malloc(context_bytes(&x));
        context_write(bytes, &x);
        cr_assert_eq(context_read(&again, x.channels, with_sign, bytes, context_bytes(&x), &used),
                     0);
        uint8_t *msg = encode(&l, &again, 0, NULL, &len);
        cr_assert_eq(decode(&out, &x, 0, NULL, msg, len), 0);
        cr_assert(test_levels_equal(&l, &out));
        free(msg);
        free(bytes);
        free(l.level);
        free(out.level);
        context_done(&x);
        context_done(&again);
        fit_samples_done(&s);
    }
}
