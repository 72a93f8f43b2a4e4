#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libsplit/npy.h"
#include "libsplit/task.h"
#include "test/tiling/rng.h"

static struct sidecar parse(const char *json)
{
    struct sidecar s;
    struct diag why = { "" };

    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), 0, "%s", why.text);
    return s;
}

static struct task_answer answer(const struct sidecar *s, const struct task_tensor *t, int32_t rows,
                                 int32_t cols)
{
    return (
        struct task_answer){ .sidecar = s, .ntensors = 1, .tensor = t, .rows = rows, .cols = cols };
}

Test(segment, largest_class_of_each_pixel)
{
    static const float v[3][4] = { { 1, -2, NAN, 0 },
                                   { 0, -1, NAN, 0 },
                                   { -INFINITY, -3, NAN, 1 } };
    const struct task_tensor t = { "out", shape_make(4, (int32_t[]){ 1, 3, 2, 2 }), v[0] };
    struct sidecar s = parse("{\"task\":\"segment\"}");
    const struct task_answer a = answer(&s, &t, 8, 8);
    struct image map;

    cr_assert_eq(task_segment(&a, 0, &map, NULL), 0);
    cr_assert_eq(map.rows, 2);
    cr_assert_eq(map.cols, 2);
    cr_assert_eq(map.channels, 1);
    cr_assert_arr_eq(map.data, ((uint8_t[]){ 0, 1, 0, 2 }), 4);
    image_done(&map);
    sidecar_done(&s);
}

Test(segment, a_single_mask_has_a_threshold)
{
    static const float v[4] = { 0.2f, 0.25f, NAN, 1 };
    const struct task_tensor t = { "out", shape_make(3, (int32_t[]){ 1, 1, 4 }), v };
    struct sidecar s = parse("{\"task\":\"segment\",\"segment\":{\"threshold\":0.25}}");
    const struct task_answer a = answer(&s, &t, 1, 4);
    struct image map;

    cr_assert_eq(task_segment(&a, 0, &map, NULL), 0);
    cr_assert_arr_eq(map.data, ((uint8_t[]){ 0, 1, 0, 1 }), 4);
    image_done(&map);
    sidecar_done(&s);
}

Test(segment, shares_of_a_map)
{
    uint8_t data[10] = { 2, 2, 2, 0, 0, 1, TASK_VOID, TASK_VOID, 2, 0 };
    const struct image map = { 2, 5, 1, data };
    struct sidecar s = parse("{\"task\":\"segment\",\"labels\":[\"ground\",\"sky\"]}");
    struct task_class top[9];

    cr_assert_eq(task_shares(&s, &map, 9, top), 3);
    cr_assert_eq(top[0].index, 2);
    cr_assert_float_eq(top[0].score, 0.4f, 1e-6);
    cr_assert_str_eq(top[0].label, "");
    cr_assert_eq(top[1].index, 0);
    cr_assert_str_eq(top[1].label, "ground");
    cr_assert_float_eq(top[2].score, 0.1f, 1e-6);
    cr_assert_eq(task_shares(&s, &map, 1, top), 1);
    sidecar_done(&s);
}

Test(segment, a_shape_that_is_no_map_gets_one_sentence)
{
    static const struct {
        int32_t rank, dim[5];
        const char *sentence;
    } cases[] = {
        { 2, { 4, 4 }, "output \"out\" is 4x4; a segmentation is 1 x classes x rows x columns" },
        { 4, { 2, 3, 4, 4 }, "a segmentation is" },
        { 4, { 1, 0, 4, 4 }, "a segmentation is" },
        { 4, { 1, 256, 1, 1 }, "output \"out\" has 256 classes, up to 255 are possible" },
    };
    static const float v[256];
    struct sidecar s = parse("{\"task\":\"segment\"}");

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct task_tensor t = { "out", shape_make(cases[i].rank, cases[i].dim), v };
        const struct task_answer a = answer(&s, &t, 4, 4);
        struct diag why = { "" };
        struct image map;
        cr_expect_eq(task_segment(&a, 0, &map, &why), -EINVAL);
        cr_expect_not_null(strstr(why.text, cases[i].sentence), "%s", why.text);
    }
    sidecar_done(&s);
}

/* A network that answers with its input: the map of the picture is the picture, wherever the
 * network saw it, but for a pixel around edges. */
Test(segment, maps_return_through_the_preparation)
{
    static const char *const inputs[] = { "stretch", "letterbox", "crop" };
    enum { ROWS = 40, COLS = 32 };
    struct rng r = { 9 };

    for (int round = 0; round < 120; round++) {
        char json[160];
        struct image im, map;
        uint8_t *pixels;
        float v[ROWS * COLS];
        int32_t in_rows = ROWS, in_cols = COLS, wrong = 0, unseen = 0;
        const int32_t rows = rng_int(&r, 32, 90), cols = rng_int(&r, 32, 90);
        snprintf(json, sizeof json,
                 "{\"task\":\"segment\",\"input\":{\"channels\":\"gray\",\"resize\":\"%s\"}}",
                 inputs[round % 3]);
        struct sidecar s = parse(json);
        cr_assert_eq(image_init(&im, rows, cols, 1), 0);
        for (int32_t i = rows / 3; i < rows; i++) /* bright below a third and right of the middle */
            memset(im.data + i * cols + cols / 2, 255, (size_t)(cols - cols / 2));
        cr_assert_eq(sidecar_prepare(&s, &im, &in_rows, &in_cols, &pixels, NULL), 0);
        for (int i = 0; i < ROWS * COLS; i++)
            v[i] = (float)pixels[i] / 255;

        const struct task_tensor t = { "out", shape_make(4, (int32_t[]){ 1, 1, ROWS, COLS }), v };
        struct task_answer a = answer(&s, &t, ROWS, COLS);
        a.picture_rows = rows;
        a.picture_cols = cols;
        cr_assert_eq(task_segment(&a, 0, &map, NULL), 0);
        cr_assert_eq(map.rows, rows);
        cr_assert_eq(map.cols, cols);
        for (int32_t i = 0; i < rows * cols; i++) {
            unseen += map.data[i] == TASK_VOID;
            wrong += map.data[i] != TASK_VOID && map.data[i] != (im.data[i] > 127);
        }
        cr_expect_leq(wrong, 3 * (rows + cols), "%s, %d x %d: %d", json, cols, rows, wrong);
        cr_expect(round % 3 == 2 || unseen == 0, "%s: all of the picture is seen", json);
        image_done(&map);
        free(pixels);
        image_done(&im);
        sidecar_done(&s);
    }
}

/* Pixels of each class, counted by a numpy program in ONNX Runtime's answers. */
Test(segment, golden_maps)
{
    static const struct {
        const char *network;
        int32_t side, pixels[21];
    } cases[] = {
        { "deeplabv3_mnv2_dm05_voc_513",
          513,
          { [0] = 224016, [10] = 5605, [12] = 106, [13] = 19426, [15] = 14016 } },
        { "selfie_seg_256", 256, { 256 * 256 - 3346, 3346 } },
    };

    if (access("../shared/golden", R_OK) != 0)
        cr_skip_test("../shared/golden is not there");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sidecar s;
        struct npy v;
        struct image map;
        struct diag why = { "" };
        char path[256];
        int32_t pixels[TASK_VOID + 1] = { 0 };
        snprintf(path, sizeof path, "conf/sidecars/%s.json", cases[i].network);
        cr_assert_eq(sidecar_load(&s, path, &why), 0, "%s", why.text);
        snprintf(path, sizeof path, "../shared/golden/%s/output_0.npy", cases[i].network);
        cr_assert_eq(npy_load(&v, path, &why), 0, "%s", why.text);
        const struct task_tensor t = { "out", shape_make(v.rank, v.dim), v.values };
        const struct task_answer a = answer(&s, &t, cases[i].side, cases[i].side);
        cr_assert_eq(task_segment(&a, 0, &map, &why), 0, "%s", why.text);
        for (int32_t k = 0; k < map.rows * map.cols; k++)
            pixels[map.data[k]]++;
        for (int c = 0; c < 21; c++)
            cr_expect_eq(pixels[c], cases[i].pixels[c], "%s: class %d", cases[i].network, c);
        image_done(&map);
        npy_done(&v);
        sidecar_done(&s);
    }
}
