/* Outputs made small on the nodes: the task's result is that of the values. */
#include "libsplit/answer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/task.h"
#include "quant/codec.h"
#include "test/tiling/rng.h"

enum { ROUNDS = 400 };

static struct sidecar parse(const char *json)
{
    struct sidecar s;
    struct diag why = { "" };

    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), 0, "%s", why.text);
    return s;
}

/* The way that is exact by the book. */
static uint8_t byte_by_lroundf(float x)
{
    if (!(x > 0))
        return 0;
    return x >= 255 ? 255 : (uint8_t)lroundf(x);
}

Test(answer, bytes_are_rounded_as_lroundf_rounds)
{
    struct rng r = { 1 };
    const float odd[] = { NAN, INFINITY, -INFINITY, -0.0F, 0, 0.49999997F, 254.99998F, 255 };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        cr_assert_eq(answer_byte(odd[i]), byte_by_lroundf(odd[i]));
    for (int k = 0; k <= 256; k++) {
        const float half = (float)k + 0.5F;
        cr_assert_eq(answer_byte(half), byte_by_lroundf(half));
        cr_assert_eq(answer_byte(nextafterf(half, 0)), byte_by_lroundf(nextafterf(half, 0)));
        cr_assert_eq(answer_byte(nextafterf(half, 512)), byte_by_lroundf(nextafterf(half, 512)));
    }
    for (int i = 0; i < 1000000; i++) {
        const uint32_t bits = (uint32_t)rng_next(&r);
        float x;
        memcpy(&x, &bits, sizeof x);
        cr_assert_eq(answer_byte(x), byte_by_lroundf(x), "%a", (double)x);
    }
}

/* An output and what arrived of it at the host. */
struct trip {
    int32_t dim[AXES];
    float *values;   /* as they are */
    float *received; /* where values arrive */
    uint8_t *bytes;  /* where bytes do */
    size_t sent;     /* bytes of all messages */
};

static float random_value(struct rng *r)
{
    switch (rng_int(r, 0, 20)) {
    case 0:
        return NAN;
    case 1:
        return rng_chance(r, 50) ? INFINITY : -INFINITY;
    case 2:
    case 3:
        return (float)rng_int(r, -2, 2); /* equal ones */
    default:
        return (float)rng_int(r, -3000, 3000) / 1000;
    }
}

static struct trip trip_new(struct rng *r, int32_t rows, int32_t cols, int32_t chans)
{
    struct trip t = { .dim = { rows, cols, chans } };
    const size_t n = (size_t)rows * (size_t)cols * (size_t)chans;
    t.values = malloc(n * sizeof(float));
    t.received = malloc(n * sizeof(float));
    t.bytes = malloc(n);
    cr_assert(t.values && t.received && t.bytes);
    for (size_t i = 0; i < n; i++)
        t.values[i] = random_value(r);
    memset(t.received, 0x55, n * sizeof(float));
    memset(t.bytes, 0x55, n);
    return t;
}

static void trip_done(struct trip *t)
{
    free(t->values);
    free(t->received);
    free(t->bytes);
}

/* A node that holds `stored` sends `part`; the message lies at the end of its memory. */
static void send(struct trip *t, const struct answer_rule *a, struct box stored, struct box part)
{
    const size_t n = (size_t)box_values(part), line = (size_t)t->dim[COL] * (size_t)t->dim[CHAN];
    cr_assert(answer_fits(a, t->dim, 1, part));
    uint8_t *msg = malloc(codec_bound(n));
    cr_assert_not_null(msg);
    const float *held = t->values + (size_t)stored.lo[ROW] * line;
    const size_t len = answer_encode(a, held, stored, part, msg);
    cr_assert_leq(len, codec_bound(n));
    if (len == 0) { /* the values are shorter */
        cr_assert_eq(a->form, ANSWER_CANDIDATES);
        memcpy(t->received + (size_t)part.lo[ROW] * line, t->values + (size_t)part.lo[ROW] * line,
               n * sizeof(float));
        t->sent += codec_bound(n);
        free(msg);
        return;
    }
    uint8_t *copy = malloc(len);
    cr_assert_not_null(copy);
    memcpy(copy, msg, len);
    cr_assert_eq(answer_decode(a, copy, len, t->dim, part, t->received, t->bytes), 0);
    t->sent += len;
    free(copy);
    free(msg);
}

/* Several nodes, each with a band of rows and some received ones beside it. */
static void send_all(struct trip *t, const struct answer_rule *a, struct rng *r)
{
    const struct box whole = box_whole(t->dim);
    for (int32_t at = 0; at < t->dim[ROW];) {
        const int32_t end = rng_int(r, at + 1, t->dim[ROW]);
        const struct box stored = box_rows(whole, rng_int(r, 0, at), rng_int(r, end, t->dim[ROW]));
        send(t, a, stored, box_rows(whole, at, end));
        at = end;
    }
}

/* ONNX's order of a picture. */
static float *planes(const struct trip *t)
{
    const size_t plane = (size_t)t->dim[ROW] * (size_t)t->dim[COL];
    const size_t chans = (size_t)t->dim[CHAN];
    float *to = malloc(plane * chans * sizeof *to);
    cr_assert_not_null(to);
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < chans; c++)
            to[c * plane + i] = t->values[i * chans + c];
    return to;
}

static void expect_same_image(struct image *a, struct image *b)
{
    cr_assert(a->rows == b->rows && a->cols == b->cols && a->channels == b->channels);
    const size_t n = (size_t)a->rows * (size_t)a->cols * (size_t)a->channels;
    cr_assert(memcmp(a->data, b->data, n) == 0);
    image_done(a);
    image_done(b);
}

Test(answer, pictures_are_those_of_the_values)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct rng r = { seed };
        struct sidecar s = parse(seed % 2 ? "{\"task\":\"image\",\"input\":{\"channels\":\"bgr\"}}"
                                          : "{\"task\":\"image\",\"output\":{\"scale\":80.5,"
                                            "\"offset\":100.25}}");
        struct trip t =
            trip_new(&r, rng_int(&r, 1, 12), rng_int(&r, 1, 12), rng_chance(&r, 50) ? 1 : 3);
        const struct answer_rule a = { .form = ANSWER_PIXELS,
                                       .scale = s.output_scale,
                                       .shift = s.output_offset };
        const struct shape shape =
            shape_make(4, (int32_t[]){ 1, t.dim[CHAN], t.dim[ROW], t.dim[COL] });
        float *values = planes(&t);
        struct image want, got;
        send_all(&t, &a, &r);
        cr_assert_eq(task_picture(&s, &shape, values, NULL, NULL, &want, NULL), 0);
        cr_assert_eq(task_picture(&s, &shape, NULL, t.bytes, NULL, &got, NULL), 0);
        expect_same_image(&want, &got);
        free(values);
        trip_done(&t);
        sidecar_done(&s);
    }
}

Test(answer, segments_are_those_of_the_values)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct rng r = { seed };
        struct sidecar s = parse("{\"task\":\"segment\",\"segment\":{\"threshold\":0.25}}");
        const int32_t classes = seed % 3 == 0 ? 1 : rng_int(&r, 2, 30);
        struct trip t = trip_new(&r, rng_int(&r, 1, 9), rng_int(&r, 1, 9), classes);
        const struct answer_rule a = { .form = classes == 1 ? ANSWER_MASK : ANSWER_CLASSES,
                                       .least = s.mask_threshold };
        float *values = planes(&t);
        const struct task_tensor tensor = {
            "out", shape_make(4, (int32_t[]){ 1, classes, t.dim[ROW], t.dim[COL] }), values
        };
        const uint8_t *const bytes[] = { t.bytes };
        struct task_answer answer = { &s, 1, &tensor, 16, 16, 20, 30, NULL };
        struct image want, got;
        send_all(&t, &a, &r);
        cr_assert_eq(task_segment(&answer, 0, &want, NULL), 0);
        answer.bytes = bytes;
        cr_assert_eq(task_segment(&answer, 0, &got, NULL), 0);
        expect_same_image(&want, &got);
        free(values);
        trip_done(&t);
        sidecar_done(&s);
    }
}

/* Cells of 64 x 64 pixels with anything in them, before a decoder with objectness and one without.
 */
static const struct {
    const char *json;
    int32_t outputs;
} detectors[] = {
    { "{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolox\",\"strides\":[8,16,32],"
      "\"score\":0.9}}",
      1 },
    { "{\"task\":\"detect\",\"class_offset\":1,\"detect\":{\"decoder\":\"yolox\","
      "\"strides\":[8,16,32],\"score\":0.4}}",
      1 },
    { "{\"task\":\"detect\",\"class_offset\":1,\"detect\":{\"decoder\":\"ultraface\","
      "\"score\":0.7,\"activation\":\"softmax\"}}",
      2 },
    { "{\"task\":\"detect\",\"detect\":{\"decoder\":\"ultraface\",\"score\":0.9,"
      "\"activation\":\"sigmoid\"}}",
      2 },
};

static void expect_same_boxes(const struct task_answer *a, const struct task_answer *b,
                              int *found_some)
{
    struct detection *want, *got;
    int32_t nwant, ngot;
    struct diag why = { "" };
    cr_assert_eq(task_detect(a, &want, &nwant, &why), 0, "%s", why.text);
    cr_assert_eq(task_detect(b, &got, &ngot, &why), 0, "%s", why.text);
    cr_assert_eq(nwant, ngot);
    for (int32_t i = 0; i < nwant; i++) {
        cr_assert_eq(want[i].index, got[i].index);
        cr_assert(memcmp(&want[i].score, &got[i].score, sizeof(float)) == 0);
        cr_assert(want[i].row == got[i].row && want[i].col == got[i].col &&
                  want[i].row_end == got[i].row_end && want[i].col_end == got[i].col_end);
    }
    *found_some += nwant > 0;
    free(want);
    free(got);
}

Test(answer, boxes_are_those_of_the_values)
{
    enum { SIDE = 64, CELLS = 64 + 16 + 4, LEN = 11, CORNERS = 4 };
    int found_some = 0;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct rng r = { seed };
        const bool has_object = detectors[seed % 4].outputs == 1;
        struct sidecar s = parse(detectors[seed % 4].json);
        struct trip t = trip_new(&r, CELLS, 1, LEN);
        float corners[CELLS * CORNERS];
        for (int i = 0; i < CELLS * CORNERS; i++)
            corners[i] = (float)rng_int(&r, 0, 100) / 100;
        const struct answer_rule a = {
            .form = ANSWER_CANDIDATES,
            .least = s.detect.score,
            .score = { has_object ? 4 : -1, has_object ? 5 : 0, s.class_offset,
                       s.detect.activation },
        };
        const struct shape list = shape_make(3, (int32_t[]){ 1, CELLS, LEN });
        const struct shape boxes = shape_make(3, (int32_t[]){ 1, CELLS, CORNERS });
        const struct task_tensor values[] = { { "scores", list, t.values },
                                              { "boxes", boxes, corners } };
        const struct task_tensor received[] = { { "scores", list, t.received },
                                                { "boxes", boxes, corners } };
        const int32_t n = detectors[seed % 4].outputs;
        const struct task_answer want = { &s, n, values, SIDE, SIDE, 100, 90, NULL };
        const struct task_answer got = { &s, n, received, SIDE, SIDE, 100, 90, NULL };
        send_all(&t, &a, &r);
        expect_same_boxes(&want, &got, &found_some);
        trip_done(&t);
        sidecar_done(&s);
    }
    cr_assert_gt(found_some, ROUNDS / 2);
}

Test(answer, few_candidates_are_short)
{
    enum { CELLS = 1000, LEN = 85 };
    struct rng r = { 7 };
    struct trip t = trip_new(&r, CELLS, 1, LEN);
    for (size_t i = 0; i < (size_t)CELLS * LEN; i++)
        t.values[i] = 0.1F;
    t.values[500 * LEN + 4] = t.values[500 * LEN + 20] = 0.9F;
    const struct answer_rule a = { .form = ANSWER_CANDIDATES,
                                   .least = 0.5F,
                                   .score = { .object = 4, .classes = 5 } };
    send(&t, &a, box_whole(t.dim), box_whole(t.dim));
    cr_assert_eq(t.sent, 1 + 4 + 4 + 4 * LEN);
    for (int32_t row = 0; row < CELLS; row++)
        for (int32_t k = 0; k < LEN; k++) {
            const float v = t.received[row * LEN + k];
            cr_assert(row == 500 ? v == t.values[row * LEN + k] : isnan(v));
        }
    trip_done(&t);
}

/* Whatever comes, nothing outside of the part is touched and nothing beyond the message read (the
 * address sanitizer looks). */
Test(answer, any_bytes_decode_or_do_not)
{
    int good = 0;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        struct rng r = { seed };
        const struct answer_rule a = { .form = (enum answer_form)rng_int(&r, 1, ANSWER_FORMS - 1) };
        const bool lists = a.form == ANSWER_CANDIDATES;
        const int32_t dim[AXES] = { rng_int(&r, 1, 6), lists ? 1 : rng_int(&r, 1, 4),
                                    a.form == ANSWER_MASK ? 1 : rng_int(&r, 1, 4) };
        const struct box whole = box_whole(dim);
        const int32_t lo = rng_int(&r, 0, dim[ROW] - 1);
        const struct box part = box_rows(whole, lo, rng_int(&r, lo + 1, dim[ROW]));
        float values[6 * 4 * 4] = { 0 };
        uint8_t bytes[6 * 4 * 4] = { 0 };
        const size_t len = (size_t)rng_int(&r, 0, 120);
        uint8_t *msg = malloc(len + 1);
        cr_assert_not_null(msg);
        for (size_t i = 0; i < len; i++)
            msg[i] = rng_chance(&r, 60) ? 0 : (uint8_t)rng_int(&r, 0, 255);
        if (len > 0)
            msg[0] = (uint8_t)(ANSWER_MODE + a.form);
        if (lists && len > 1)
            msg[1] = (uint8_t)rng_int(&r, 0, 3);
        const int rc = answer_decode(&a, msg, len, dim, part, values, bytes);
        cr_assert(rc == 0 || rc == -EBADMSG);
        good += rc == 0;
        const size_t line = (size_t)dim[COL] * (size_t)dim[CHAN];
        for (size_t i = 0; i < (size_t)part.lo[ROW] * line; i++)
            cr_assert_eq(values[i], 0);
        free(msg);
    }
    cr_assert_gt(good, 50);
}

Test(answer, what_does_not_fit_is_refused)
{
    const int32_t map[AXES] = { 8, 4, 6 }, list[AXES] = { 8, 1, 6 };
    const struct box all = box_whole(map), some = box_band(all, CHAN, 0, 3);
    struct answer_rule a = { .form = ANSWER_CLASSES };
    cr_assert(answer_fits(&a, map, 1, all));
    cr_assert_not(answer_fits(&a, map, 1, some), "a pixel's channels lie elsewhere");
    cr_assert_not(answer_fits(&a, map, 2, all));
    a.form = ANSWER_PIXELS;
    cr_assert(answer_fits(&a, map, 1, some));
    a.form = ANSWER_MASK;
    cr_assert_not(answer_fits(&a, map, 1, all));
    a.form = ANSWER_FORMS;
    cr_assert_not(answer_fits(&a, map, 1, all));
    a = (struct answer_rule){ .form = ANSWER_CANDIDATES, .score = { .object = 4, .classes = 5 } };
    cr_assert(answer_fits(&a, list, 1, box_whole(list)));
    cr_assert_not(answer_fits(&a, map, 1, all));
    const struct answer_score bad[] = {
        { .object = 6, .classes = 5 },
        { .object = -2, .classes = 5 },
        { .object = 4, .classes = 6 },
        { .object = 4, .classes = -1 },
        { .object = 4, .classes = 5, .offset = INT32_MIN },
        { .object = 4, .classes = 5, .activation = (enum score_activation)9 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        a.score = bad[i];
        cr_assert_not(answer_fits(&a, list, 1, box_whole(list)), "%zu", i);
    }
}
