#include "libsplit/draw.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "libsplit/task.h"
#include "test/tiling/rng.h"

static const struct colour red = { 255, 0, 0 };

/* Pixels of `c` in the picture. */
static int32_t count(const struct image *im, struct colour c)
{
    int32_t n = 0;

    for (int32_t i = 0; i < im->rows * im->cols; i++)
        n += im->data[3 * i] == c.red && im->data[3 * i + 1] == c.green &&
             im->data[3 * i + 2] == c.blue;
    return n;
}

static struct image black(int32_t rows, int32_t cols)
{
    struct image im;
    cr_assert_eq(image_init(&im, rows, cols, 3), 0);
    return im;
}

/* Whatever the corners are: the pixels inside the picture and no others (ASan watches). */
Test(draw, rectangles_are_cut_at_the_edges)
{
    struct rng r = { 1 };

    for (int round = 0; round < 500; round++) {
        struct image im = black(13, 9);
        const int32_t row = rng_int(&r, -20, 20), row_end = rng_int(&r, -20, 20);
        const int32_t col = rng_int(&r, -20, 20), col_end = rng_int(&r, -20, 20);
        int32_t want = 0;
        for (int32_t y = 0; y < 13; y++)
            for (int32_t x = 0; x < 9; x++)
                want += y >= row && y < row_end && x >= col && x < col_end;
        draw_fill(&im, row, col, row_end, col_end, red);
        cr_assert_eq(count(&im, red), want);
        draw_frame(&im, row, col, row_end, col_end, 2, red);
        draw_text(&im, row, col, 1 + round % 3, "text \xc3\xa4", red);
        image_done(&im);
    }
}

Test(draw, frame_has_its_thickness)
{
    struct image im = black(20, 30);

    draw_frame(&im, 2, 3, 12, 23, 2, red);
    cr_assert_eq(count(&im, red), 10 * 20 - 6 * 16);
    image_done(&im);
}

Test(draw, classes_differ_in_colour)
{
    for (int32_t i = 0; i < 255; i++)
        for (int32_t j = 0; j < i; j++) {
            const struct colour a = draw_colour(i), b = draw_colour(j);
            cr_assert(a.red != b.red || a.green != b.green || a.blue != b.blue, "%d %d", i, j);
        }
}

Test(draw, text_is_legible_on_its_strip)
{
    static const struct colour papers[] = { { 0, 0, 0 }, { 255, 255, 255 }, { 250, 250, 0 } };
    static const struct colour ink[] = { { 255, 255, 255 }, { 0, 0, 0 }, { 0, 0, 0 } };

    for (int i = 0; i < 3; i++) {
        struct image im = black(10, 6);
        draw_text(&im, 0, 0, 1, "I", papers[i]);
        cr_expect_eq(count(&im, ink[i]), 11); /* two serifs of three, a stem of five */
        cr_expect_eq(count(&im, papers[i]), 49);
        image_done(&im);
    }
    cr_assert_eq(draw_text_length("\xc3\xa4 b"), 3);
}

Test(draw, scale_enlarges_every_dot)
{
    struct image one = black(10, 12), two = black(20, 24);

    draw_text(&one, 0, 0, 1, "g8", (struct colour){ 1, 2, 3 });
    draw_text(&two, 0, 0, 2, "g8", (struct colour){ 1, 2, 3 });
    for (int32_t y = 0; y < 20; y++)
        for (int32_t x = 0; x < 24; x++)
            cr_assert_eq(two.data[(y * 24 + x) * 3], one.data[(y / 2 * 12 + x / 2) * 3]);
    image_done(&one);
    image_done(&two);
}

Test(draw, pasted_pictures_are_cut_at_the_edges)
{
    uint8_t data[2 * 2 * 3] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    const struct image from = { 2, 2, 3, data };

    for (int32_t row = -3; row < 6; row++)
        for (int32_t col = -3; col < 6; col++) {
            struct image im = black(4, 3);
            draw_paste(&im, row, col, &from);
            for (int32_t y = 0; y < 4; y++)
                for (int32_t x = 0; x < 3; x++) {
                    const bool inside = y >= row && y < row + 2 && x >= col && x < col + 2;
                    const int32_t want = inside ? data[((y - row) * 2 + x - col) * 3 + 1] : 0;
                    cr_assert_eq(im.data[(y * 3 + x) * 3 + 1], want);
                }
            image_done(&im);
        }
}

Test(draw, differences_glow)
{
    uint8_t from[4 * 3] = { 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200 };
    uint8_t other[4 * 3] = { 200, 200, 200, 201, 200, 200, 200, 195, 200, 0, 200, 201 };
    const struct image a = { 1, 4, 3, from }, b = { 1, 4, 3, other };
    struct image im = black(1, 4);

    draw_difference(&im, 0, 0, &a, &b, 20);
    cr_expect_arr_eq(im.data, ((uint8_t[]){ 50, 50, 50 }), 3, "none: dim");
    cr_expect_arr_eq(im.data + 3, ((uint8_t[]){ 60, 0, 0 }), 3, "1 x 20: red");
    cr_expect_arr_eq(im.data + 6, ((uint8_t[]){ 255, 45, 0 }), 3, "5 x 20: towards yellow");
    cr_expect_arr_eq(im.data + 9, ((uint8_t[]){ 255, 255, 255 }), 3, "more than there is: white");
    draw_difference(&im, 0, 0, &b, &a, 20);
    cr_expect_arr_eq(im.data + 3, ((uint8_t[]){ 60, 0, 0 }), 3, "in either direction");
    image_done(&im);
}

/* ---- answers as pictures */

static struct sidecar parse(const char *json)
{
    struct sidecar s;
    struct diag why = { "" };

    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), 0, "%s", why.text);
    return s;
}

Test(draw, a_box_lies_on_the_picture_where_it_was_found)
{
    static const float v[6] = { 32, 32, 16, 8, 1, 0.9f };
    const struct task_tensor t = { "out", shape_make(3, (int32_t[]){ 1, 1, 6 }), v };
    struct sidecar s = parse("{\"task\":\"detect\",\"labels\":[\"cat\"],"
                             "\"detect\":{\"decoder\":\"yolov5\"}}");
    const struct task_answer a = { &s, 1, &t, 64, 64, 128, 64, NULL };
    const struct colour c = draw_colour(0);
    struct image grey, im;

    cr_assert_eq(image_init(&grey, 128, 64, 1), 0);
    memset(grey.data, 77, 128 * 64);
    cr_assert_eq(task_draw(&a, 0, &grey, &im, NULL), 0);
    cr_assert_eq(im.rows, 128);
    cr_assert_eq(im.channels, 3);
    /* Rows 28..36 of the input are 56..72 of the picture; columns 24..40 stay. */
    cr_expect_eq(memcmp(im.data + (71 * 64 + 30) * 3, &c, 3), 0, "the lower edge");
    cr_expect_eq(im.data[(72 * 64 + 30) * 3], 77, "below");
    cr_expect_eq(im.data[(64 * 64 + 32) * 3], 77, "inside");
    cr_expect_eq(memcmp(im.data + (64 * 64 + 24) * 3, &c, 3), 0, "the left edge");
    cr_expect_gt(count(&im, c), 2 * 2 * (16 + 16) - 16, "frame and label");
    image_done(&im);
    image_done(&grey);
    sidecar_done(&s);
}

Test(draw, segments_are_mixed_with_the_picture)
{
    static const float v[2][2] = { { 1, 0 }, { 0, 1 } };
    const struct task_tensor t = { "out", shape_make(4, (int32_t[]){ 1, 2, 1, 2 }), v[0] };
    struct sidecar s = parse("{\"task\":\"segment\"}");
    const struct task_answer a = { &s, 1, &t, 1, 2, 1, 2, NULL };
    const struct colour c = draw_colour(1);
    uint8_t data[6] = { 10, 20, 30, 10, 20, 30 };
    const struct image picture = { 1, 2, 3, data };
    struct image im;

    cr_assert_eq(task_draw(&a, 0, &picture, &im, NULL), 0);
    cr_expect_arr_eq(im.data, data, 3, "the background stays");
    cr_expect_eq(im.data[3], (10 + c.red + 1) / 2);
    cr_expect_eq(im.data[5], (30 + c.blue + 1) / 2);
    image_done(&im);
    s.background = -1;
    cr_assert_eq(task_draw(&a, 0, &picture, &im, NULL), 0);
    cr_expect_neq(im.data[1], 20);
    image_done(&im);
    sidecar_done(&s);
}

/* Without a picture, with one of a single pixel, with a huge label: always something, never a
 * write beside it. */
Test(draw, every_task_draws_on_every_picture)
{
    static const char *const sidecars[] = {
        "{\"task\":\"classify\",\"labels\":[\"a label that is wider than the picture is\"]}",
        "{\"task\":\"detect\",\"detect\":{\"decoder\":\"ultraface\"}}",
        "{\"task\":\"segment\"}",
    };
    static const float scores[4] = { 1, 0, 0, 0 }, box[4] = { 0, 0, 1, 1 };
    const struct task_tensor t[] = { { "a", shape_make(4, (int32_t[]){ 1, 1, 1, 4 }), scores },
                                     { "b", shape_make(3, (int32_t[]){ 1, 1, 4 }), box } };

    for (int i = 0; i < 3; i++)
        for (int32_t side = 0; side < 600; side = side * 9 + 1) {
            struct sidecar s = parse(sidecars[i]);
            const struct task_answer a = { &s, 2, t, 8, 8, side, side, NULL };
            struct image picture = { 0 }, im;
            struct diag why = { "" };
            if (side > 0)
                cr_assert_eq(image_init(&picture, side, side, 1), 0);
            cr_assert_eq(task_draw(&a, 0, side > 0 ? &picture : NULL, &im, &why), 0, "%s",
                         why.text);
            cr_assert_eq(im.channels, 3);
            image_done(&im);
            image_done(&picture);
            sidecar_done(&s);
        }
}

Test(draw, a_raw_answer_is_no_picture)
{
    const struct task_tensor t = { "a", shape_make(1, (int32_t[]){ 1 }), (const float[]){ 0 } };
    struct sidecar s = parse("{\"task\":\"raw\"}");
    const struct task_answer a = { .sidecar = &s, .ntensors = 1, .tensor = &t };
    struct diag why = { "" };
    struct image im;

    cr_assert_eq(task_draw(&a, 0, NULL, &im, &why), -EINVAL);
    cr_assert_str_eq(why.text, "the model's task is raw: its answer is no picture");
    sidecar_done(&s);
}
