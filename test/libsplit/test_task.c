#include "libsplit/task.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test/libsplit/pattern.h"

static struct sidecar parse(const char *json)
{
    struct sidecar s;
    struct diag why = { "" };

    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), 0, "%s", why.text);
    return s;
}

/* ---- classes */

Test(task, top_is_what_sorting_gives)
{
    struct sidecar s = parse("{\"task\":\"classify\"}");
    float scores[40];
    struct task_class top[40];

    for (int n = 0; n <= 40; n++)
        for (int k = 0; k <= 40; k += 3) {
            for (int i = 0; i < n; i++)
                scores[i] = (float)(pattern(i, n, k) % 11); /* many ties */
            const int32_t found = task_top(&s, scores, n, k, top);
            cr_assert_eq(found, n < k ? n : k);
            for (int32_t i = 0; i < found; i++) {
                /* Place i holds the score that i others beat or tie with a lower index. */
                int32_t better = 0;
                for (int j = 0; j < n; j++)
                    better +=
                        scores[j] > top[i].score || (scores[j] == top[i].score && j < top[i].index);
                cr_assert_eq(better, i);
                cr_assert_eq(scores[top[i].index], top[i].score);
            }
        }
    sidecar_done(&s);
}

Test(task, top_puts_nan_last)
{
    struct sidecar s = parse("{\"task\":\"classify\"}");
    const float scores[] = { NAN, -INFINITY, NAN, 1 };
    struct task_class top[4];

    cr_assert_eq(task_top(&s, scores, 4, 4, top), 4);
    cr_assert_eq(top[0].index, 3);
    cr_assert_eq(top[1].index, 1);
    cr_assert_eq(top[2].index, 0);
    cr_assert_eq(top[3].index, 2);
    sidecar_done(&s);
}

Test(task, top_knows_labels_and_offset)
{
    struct sidecar s =
        parse("{\"task\":\"classify\",\"class_offset\":1,\"labels\":[\"cat\",\"dog\"]}");
    const float scores[] = { 4, 3, 2, 1 };
    struct task_class top[4];

    cr_assert_eq(task_top(&s, scores, 4, 4, top), 4);
    cr_assert_eq(top[0].index, -1); /* background */
    cr_assert_str_eq(top[0].label, "");
    cr_assert_eq(top[1].index, 0);
    cr_assert_str_eq(top[1].label, "cat");
    cr_assert_str_eq(top[2].label, "dog");
    cr_assert_str_eq(top[3].label, "");
    sidecar_done(&s);
}

/* ---- pictures */

static int picture(const struct sidecar *s, const float *values, int32_t rank, const int32_t *dim,
                   const struct image *source, struct image *im, struct diag *why)
{
    const struct shape shape = shape_make(rank, dim);
    return task_picture(s, &shape, values, NULL, source, im, why);
}

Test(task, picture_is_scaled_clamped_and_interleaved)
{
    static const float values[] = { 0, 1, 0.5f, 2, /**/ -1, 0.25f, NAN, INFINITY, /**/ 1, 1, 1, 1 };
    static const uint8_t expect[] = { 0, 0, 255, 255, 64, 255, 128, 0, 255, 255, 255, 255 };
    struct sidecar s = parse("{\"task\":\"image\"}");
    struct image im;

    cr_assert_eq(picture(&s, values, 4, (int32_t[]){ 1, 3, 2, 2 }, NULL, &im, NULL), 0);
    cr_assert_eq(im.rows, 2);
    cr_assert_eq(im.cols, 2);
    cr_assert_eq(im.channels, 3);
    cr_assert_arr_eq(im.data, expect, sizeof expect);
    image_done(&im);

    s.channels = CHANNELS_BGR;
    cr_assert_eq(picture(&s, values, 3, (int32_t[]){ 3, 2, 2 }, NULL, &im, NULL), 0);
    cr_assert_arr_eq(im.data, ((uint8_t[]){ 255, 0, 0 }), 3);
    image_done(&im);
    sidecar_done(&s);
}

Test(task, picture_applies_the_outputs_scale_and_offset)
{
    struct sidecar s = parse("{\"task\":\"image\",\"output\":{\"scale\":127.5,\"offset\":127.5}}");
    struct image im;

    cr_assert_eq(picture(&s, (float[]){ -1, 0, 1 }, 4, (int32_t[]){ 1, 1, 1, 3 }, NULL, &im, NULL),
                 0);
    cr_assert_eq(im.channels, 1);
    cr_assert_arr_eq(im.data, ((uint8_t[]){ 0, 128, 255 }), 3);
    image_done(&im);
    sidecar_done(&s);
}

/* A luma network that changes nothing gives back the colours that it got. */
Test(task, luma_network_keeps_the_chroma)
{
    struct sidecar s = parse("{\"task\":\"image\",\"input\":{\"channels\":\"y\"}}");
    struct image small, source, im;
    int32_t rows = 0, cols = 0;
    uint8_t *luma;
    float *values;

    cr_assert_eq(image_init(&small, 4, 3, 3), 0);
    for (int32_t i = 0; i < 4 * 3 * 3; i++)
        small.data[i] = (uint8_t)(64 + pattern(i / 9, i / 3 % 3, i % 3) / 2);
    cr_assert_eq(image_resize(&source, &small, 20, 18, IMAGE_BICUBIC), 0);
    cr_assert_eq(sidecar_prepare(&s, &source, &rows, &cols, &luma, NULL), 0);
    values = calloc((size_t)rows * (size_t)cols, sizeof *values);
    cr_assert_not_null(values);
    for (int32_t i = 0; i < rows * cols; i++)
        values[i] = (float)luma[i] / 255;

    cr_assert_eq(picture(&s, values, 4, (int32_t[]){ 1, 1, rows, cols }, &source, &im, NULL), 0);
    cr_assert_eq(im.channels, 3);
    for (int32_t i = 0; i < rows * cols * 3; i++)
        cr_assert_leq(abs(im.data[i] - source.data[i]), 2, "value %d", i);
    image_done(&im);

    /* Without a source, or with a grey one, it stays grey. */
    cr_assert_eq(picture(&s, values, 4, (int32_t[]){ 1, 1, rows, cols }, NULL, &im, NULL), 0);
    cr_assert_eq(im.channels, 1);
    cr_assert_arr_eq(im.data, luma, (size_t)rows * (size_t)cols);
    image_done(&im);

    free(values);
    free(luma);
    image_done(&small);
    image_done(&source);
    sidecar_done(&s);
}

/* Twice the size: chroma has the formula's flat colour everywhere, luma is the network's. */
Test(task, luma_network_enlarges_the_chroma)
{
    struct sidecar s = parse("{\"task\":\"image\",\"input\":{\"channels\":\"y\"}}");
    struct image source, im;
    float values[16];

    cr_assert_eq(image_init(&source, 2, 2, 3), 0);
    for (int i = 0; i < 4; i++)
        memcpy(source.data + 3 * i, (uint8_t[]){ 200, 100, 50 }, 3);
    for (int i = 0; i < 16; i++)
        values[i] = 134.0f / 255; /* 10 brighter than the source */
    cr_assert_eq(picture(&s, values, 4, (int32_t[]){ 1, 1, 4, 4 }, &source, &im, NULL), 0);
    for (int i = 0; i < 16; i++) {
        cr_assert_leq(abs(im.data[3 * i] - 210), 1);
        cr_assert_leq(abs(im.data[3 * i + 1] - 110), 1);
        cr_assert_leq(abs(im.data[3 * i + 2] - 60), 1);
    }
    image_done(&im);
    image_done(&source);
    sidecar_done(&s);
}

Test(task, a_shape_that_is_no_picture_gets_one_sentence)
{
    static const struct {
        int32_t rank, dim[5];
    } cases[] = {
        { 0, { 0 } },          { 2, { 1, 1000 } },    { 4, { 1, 2, 8, 8 } },
        { 4, { 2, 3, 8, 8 } }, { 4, { 1, 3, 0, 8 } }, { 5, { 1, 2, 3, 8, 8 } },
    };
    struct sidecar s = parse("{\"task\":\"image\"}");
    struct image im;
    struct diag why;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(picture(&s, (float[]){ 0 }, cases[i].rank, cases[i].dim, NULL, &im, &why),
                     -EINVAL);
    cr_assert_eq(picture(&s, (float[]){ 0 }, 2, (int32_t[]){ 1, 1000 }, NULL, &im, &why), -EINVAL);
    cr_assert_str_eq(why.text,
                     "the network answers with a tensor of 1x1000; a picture is 1 x 1 or 3 "
                     "channels x rows x columns");
    sidecar_done(&s);
}
