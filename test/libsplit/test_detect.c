#include "libsplit/task_detect.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libsplit/npy.h"
#include "test/tiling/rng.h"

static struct sidecar parse(const char *json)
{
    struct sidecar s;
    struct diag why = { "" };

    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), 0, "%s", why.text);
    return s;
}

/* The objects of tensors that were shown to a network of `side` x `side` pixels. */
struct found {
    struct detection *d;
    int32_t n;
};

static int detect(const struct sidecar *s, const struct task_tensor *t, int32_t n, int32_t side,
                  struct found *found, struct diag *why)
{
    const struct task_answer a = {
        .sidecar = s, .ntensors = n, .tensor = t, .rows = side, .cols = side
    };
    return task_detect(&a, &found->d, &found->n, why);
}

static struct found detected(const char *json, const struct task_tensor *t, int32_t n, int32_t side)
{
    struct sidecar s = parse(json);
    struct found found;
    struct diag why = { "" };

    cr_assert_eq(detect(&s, t, n, side, &found, &why), 0, "%s", why.text);
    for (int32_t i = 0; i < found.n; i++)
        found.d[i].label = ""; /* it goes with the sidecar */
    sidecar_done(&s);
    return found;
}

static void expect_box(const struct detection *d, float row, float col, float row_end,
                       float col_end, float score, int32_t index)
{
    cr_expect_float_eq(d->row, row, 1e-3, "row %g", (double)d->row);
    cr_expect_float_eq(d->col, col, 1e-3, "col %g", (double)d->col);
    cr_expect_float_eq(d->row_end, row_end, 1e-3, "row_end %g", (double)d->row_end);
    cr_expect_float_eq(d->col_end, col_end, 1e-3, "col_end %g", (double)d->col_end);
    cr_expect_float_eq(d->score, score, 1e-5, "score %g", (double)d->score);
    cr_expect_eq(d->index, index);
}

static struct task_tensor tensor(const char *name, int32_t rank, const int32_t *dim,
                                 const float *values)
{
    return (struct task_tensor){ name, shape_make(rank, dim), values };
}

/* ---- every decoder on one box that was worked out by hand */

Test(detect, yolox)
{
    float v[5][7] = { { 0 } };
    const struct task_tensor t = tensor("out", 3, (int32_t[]){ 1, 5, 7 }, v[0]);

    /* Cells of stride 8: (0,0) (0,1) (1,0) (1,1), then the only one of stride 16. */
    const float cell[7] = { 0.25f, 0.5f, logf(0.5f), logf(0.75f), 0.9f, 0.1f, 0.8f };
    memcpy(v[2], cell, sizeof cell);
    struct found f = detected(
        "{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolox\",\"strides\":[8,16]}}", &t, 1, 16);
    cr_assert_eq(f.n, 1);
    expect_box(&f.d[0], 12 - 3, 0, 12 + 3, 2 + 2, 0.72f, 1);
    free(f.d);
}

Test(detect, yolov5_in_pixels)
{
    static const float v[2][7] = { { 8, 6, 4, 10, 0.9f, 0.7f, 0.1f }, { 8, 6, 4, 10, 0.2f, 1, 0 } };
    const struct task_tensor t = tensor("out", 3, (int32_t[]){ 1, 2, 7 }, v[0]);

    struct found f =
        detected("{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolov5\"}}", &t, 1, 16);
    cr_assert_eq(f.n, 1);
    expect_box(&f.d[0], 1, 6, 11, 10, 0.63f, 0);
    free(f.d);
}

static float logit(float p) { return logf(p / (1 - p)); }

/* Both layouts of the maps before the sigmoid. */
Test(detect, yolov5_with_anchors)
{
    static const char json[] = "{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolov5\","
                               "\"strides\":[8],\"anchors\":[[10,20,4,6]]}}";
    enum { ANCHORS = 2, SIDE = 2, LEN = 7, N = ANCHORS * SIDE * SIDE * LEN };
    float last[N], first[N];

    for (int i = 0; i < N; i++)
        last[i] = first[i] = -20;
    /* Anchor 1, row 1, column 0: x = (2 * 0.5 - 0.5 + 0) * 8, w = (2 * 0.75)^2 * 4. */
    const float cell[LEN] = { logit(0.5f),  logit(0.5f), logit(0.75f), logit(0.5f),
                              logit(0.75f), -20,         logit(0.8f) };
    for (int k = 0; k < LEN; k++) {
        last[((1 * SIDE + 1) * SIDE + 0) * LEN + k] = cell[k];
        first[((1 * LEN + k) * SIDE + 1) * SIDE + 0] = cell[k];
    }
    const struct task_tensor five =
        tensor("out", 5, (int32_t[]){ 1, ANCHORS, SIDE, SIDE, LEN }, last);
    const struct task_tensor four =
        tensor("out", 4, (int32_t[]){ 1, ANCHORS * LEN, SIDE, SIDE }, first);
    const struct task_tensor *both[] = { &five, &four };
    for (int i = 0; i < 2; i++) {
        struct found f = detected(json, both[i], 1, 16);
        cr_assert_eq(f.n, 1);
        expect_box(&f.d[0], 12 - 3, 0, 12 + 3, 8.5f, 0.6f, 1);
        free(f.d);
    }
}

Test(detect, yolov8)
{
    /* Values run over the boxes: x, y, w, h, two classes of three boxes. */
    static const float v[6][3] = { { 0, 8, 0 },  { 0, 6, 0 },    { 0, 4, 0 },
                                   { 0, 10, 0 }, { 0, 0.1f, 0 }, { 0, 0.6f, 0 } };
    const struct task_tensor t = tensor("out", 3, (int32_t[]){ 1, 6, 3 }, v[0]);

    struct found f =
        detected("{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolov8\"}}", &t, 1, 16);
    cr_assert_eq(f.n, 1);
    expect_box(&f.d[0], 1, 6, 11, 10, 0.6f, 1);
    free(f.d);
}

Test(detect, nanodet)
{
    float classes[4][2] = { { 0 } }, distances[4][4][4];
    const struct task_tensor t[] = {
        tensor("cls", 3, (int32_t[]){ 1, 4, 2 }, classes[0]),
        tensor("dis", 3, (int32_t[]){ 1, 4, 16 }, distances[0][0]),
    };

    memset(distances, 0, sizeof distances);
    /* Cell (0, 1): half a cell to the left, one to the top, evenly 0..3 to the right, 1 or 2 to
     * the bottom. */
    classes[1][0] = 0.9f;
    distances[1][0][0] = distances[1][0][1] = 50;
    distances[1][1][1] = 50;
    distances[1][3][1] = distances[1][3][2] = 50;
    struct found f = detected("{\"task\":\"detect\",\"detect\":{\"decoder\":\"nanodet\","
                              "\"strides\":[8],\"reg_max\":3}}",
                              t, 2, 16);
    cr_assert_eq(f.n, 1);
    expect_box(&f.d[0], 0, 12 - 4, 4 + 12, 16, 0.9f, 0);
    free(f.d);
}

Test(detect, ssd)
{
    /* Two anchors in each of four cells; the background comes first. */
    float classes[8][3], offsets[8][4] = { { 0 } };
    const struct task_tensor t[] = {
        tensor("boxes", 3, (int32_t[]){ 1, 8, 4 }, offsets[0]),
        tensor("scores", 3, (int32_t[]){ 1, 8, 3 }, classes[0]),
    };

    for (int i = 0; i < 8; i++)
        memcpy(classes[i], (float[]){ 9, 0, 0 }, sizeof classes[i]);
    /* Cell (1, 0), anchor 1: the logits are those of 0.1, 0.3 and 0.6. */
    memcpy(classes[5], (float[]){ 0, logf(3), logf(6) }, sizeof classes[5]);
    memcpy(offsets[5], (float[]){ 2.5f, -5, logf(2) / 0.2f, 0 }, sizeof offsets[5]);
    struct found f = detected("{\"task\":\"detect\",\"class_offset\":1,"
                              "\"detect\":{\"decoder\":\"ssd\",\"strides\":[8],"
                              "\"outputs\":[\"scores\",\"boxes\"],\"activation\":\"softmax\","
                              "\"anchors\":[[6,6,4,2]]}}",
                              t, 2, 16);
    /* Centre (12, 4) moved by (-1, 1), extents 2 and twice 4. */
    cr_assert_eq(f.n, 1);
    expect_box(&f.d[0], 11 - 1, 5 - 4, 11 + 1, 5 + 4, 0.6f, 1);
    free(f.d);
}

Test(detect, ultraface)
{
    static const float classes[2][2] = { { 0.2f, 0.8f }, { 0.9f, 0.1f } };
    static const float boxes[2][4] = { { 0.25f, 0.125f, 0.5f, 2 }, { 0, 0, 1, 1 } };
    const struct task_tensor t[] = { tensor("scores", 3, (int32_t[]){ 1, 2, 2 }, classes[0]),
                                     tensor("boxes", 3, (int32_t[]){ 1, 2, 4 }, boxes[0]) };

    struct found f = detected("{\"task\":\"detect\",\"class_offset\":1,"
                              "\"detect\":{\"decoder\":\"ultraface\"}}",
                              t, 2, 16);
    cr_assert_eq(f.n, 1);
    expect_box(&f.d[0], 2, 4, 16, 8, 0.8f, 0);
    free(f.d);
}

/* ---- whatever a network answers */

Test(detect, boxes_that_are_none_are_dropped)
{
    static const float v[][6] = {
        { 8, 8, 4, 4, NAN, 1 },      { 8, 8, 4, 4, 1, NAN },   { NAN, 8, 4, 4, 1, 1 },
        { 8, 8, INFINITY, 4, 1, 1 }, { 8, 8, 0, 4, 1, 1 },     { 8, 8, -4, 4, 1, 1 },
        { 99, 8, 4, 4, 1, 1 },       { 8, -1e9f, 4, 4, 1, 1 }, { 8, 8, 4, 4, 0.2f, 1 },
    };
    const struct task_tensor t =
        tensor("out", 3, (int32_t[]){ 1, sizeof v / sizeof v[0], 6 }, v[0]);

    struct found f =
        detected("{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolov5\"}}", &t, 1, 16);
    cr_assert_eq(f.n, 0);
    free(f.d);
}

Test(detect, random_answers_stay_inside_the_picture)
{
    struct sidecar s = parse("{\"task\":\"detect\",\"detect\":{\"decoder\":\"yolox\","
                             "\"strides\":[4,8],\"score\":0,\"iou\":1,\"limit\":1000}}");
    struct rng r = { 3 };
    float v[20][8];
    const struct task_tensor t = tensor("out", 3, (int32_t[]){ 1, 20, 8 }, v[0]);

    for (int round = 0; round < 300; round++) {
        const int32_t rows = rng_int(&r, 1, 90), cols = rng_int(&r, 1, 90);
        for (int i = 0; i < 20 * 8; i++)
            v[i / 8][i % 8] = (float)rng_int(&r, -100, 100) / 16;
        const struct task_answer a = { &s, 1, &t, 16, 16, rows, cols, NULL };
        struct detection *d;
        int32_t n;
        s.resize = (enum sidecar_resize)rng_int(&r, RESIZE_TO_STRETCH, RESIZE_TO_LETTERBOX);
        cr_assert_eq(task_detect(&a, &d, &n, NULL), 0);
        for (int32_t i = 0; i < n; i++)
            cr_assert(d[i].row >= 0 && d[i].row < d[i].row_end && d[i].row_end <= (float)rows &&
                      d[i].col >= 0 && d[i].col < d[i].col_end && d[i].col_end <= (float)cols);
        free(d);
    }
    sidecar_done(&s);
}

Test(detect, outputs_that_do_not_fit_get_one_sentence)
{
    static const struct {
        const char *detect;
        int32_t rank, dim[5];
        const char *sentence;
    } cases[] = {
        { "\"decoder\":\"yolox\"",
          3,
          { 1, 5, 6 },
          "output \"out\" is 1x5x6; the sidecar's decoder expects 1x6x6 or more for an input of 16 "
          "x 16 pixels" },
        { "\"decoder\":\"yolox\"", 3, { 1, 6, 5 }, "expects 1x6x6 or more" },
        { "\"decoder\":\"yolox\"", 3, { 2, 6, 6 }, "expects 1x6x6 or more" },
        { "\"decoder\":\"yolox\"", 1, { 36 }, "expects 1x6x6 or more" },
        { "\"decoder\":\"yolov5\"", 3, { 1, 9, 5 }, "expects 1 x any x 6 or more" },
        { "\"decoder\":\"yolov5\",\"strides\":[8],\"anchors\":[[1,2]]",
          4,
          { 1, 5, 2, 2 },
          "expects 1x1x2x2x(5 + classes) or 1x(1 (5 + classes))x2x2" },
        { "\"decoder\":\"yolov8\"", 3, { 1, 4, 9 }, "expects 1 x (4 + classes) x any" },
        { "\"decoder\":\"ultraface\"",
          3,
          { 1, 9, 2 },
          "the sidecar's decoder reads 2 outputs, the network has 1" },
        { "\"decoder\":\"nanodet\"", 3, { 1, 9, 2 }, "reads 6 outputs, the network has 1" },
        { "\"decoder\":\"yolov8\",\"outputs\":[\"boxes\"]",
          3,
          { 1, 6, 9 },
          "detect.outputs: the network has no output \"boxes\"" },
        { "\"decoder\":\"yolov8\",\"outputs\":[\"out\",\"out\"]",
          3,
          { 1, 6, 9 },
          "reads 1 outputs, its list has 2" },
    };
    static const float v[256];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct task_tensor t = tensor("out", cases[i].rank, cases[i].dim, v);
        char json[256];
        struct diag why = { "" };
        struct found found;
        snprintf(json, sizeof json, "{\"task\":\"detect\",\"detect\":{%s}}", cases[i].detect);
        struct sidecar s = parse(json);
        cr_expect_eq(detect(&s, &t, 1, 16, &found, &why), -EINVAL, "%s", json);
        cr_expect_not_null(strstr(why.text, cases[i].sentence), "%s: %s", json, why.text);
        sidecar_done(&s);
    }
}

/* ---- back to the picture */

/* The rows and columns of a bright rectangle in what the network sees, as an UltraFace would
 * answer. */
static int bright_corners(const uint8_t *pixels, int32_t rows, int32_t cols, float corner[4])
{
    int32_t lo[2] = { rows, cols }, hi[2] = { 0, 0 };

    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < cols; c++)
            if (pixels[r * cols + c] > 127) {
                lo[0] = r < lo[0] ? r : lo[0];
                lo[1] = c < lo[1] ? c : lo[1];
                hi[0] = r >= hi[0] ? r + 1 : hi[0];
                hi[1] = c >= hi[1] ? c + 1 : hi[1];
            }
    corner[0] = (float)lo[1] / (float)cols;
    corner[1] = (float)lo[0] / (float)rows;
    corner[2] = (float)hi[1] / (float)cols;
    corner[3] = (float)hi[0] / (float)rows;
    return lo[0] < hi[0];
}

/* Pictures with a bright rectangle go through the preparation; the rectangle that is found there
 * must come back as the one that was drawn, to a pixel or so of the coarser of the two. */
Test(detect, boxes_return_through_the_preparation)
{
    static const char *const inputs[] = {
        "\"resize\":\"stretch\"",
        "\"resize\":\"letterbox\"",
        "\"resize\":\"crop\"",
        "\"resize\":\"crop\",\"short_side\":70",
        "\"resize\":\"letterbox\",\"edge\":3",
    };
    enum { ROWS = 60, COLS = 48 };
    struct rng r = { 5 };

    for (int round = 0; round < 250; round++) {
        char json[256];
        snprintf(json, sizeof json,
                 "{\"task\":\"detect\",\"class_offset\":1,\"input\":{\"channels\":\"gray\",%s},"
                 "\"detect\":{\"decoder\":\"ultraface\"}}",
                 inputs[round % 5]);
        struct sidecar s = parse(json);
        struct image im;
        const int32_t rows = rng_int(&r, 40, 160), cols = rng_int(&r, 40, 160);
        /* In the middle, so that a crop shows all of it. */
        const int32_t row = rows / 2 - rng_int(&r, 4, 9), row_end = rows / 2 + rng_int(&r, 4, 9);
        const int32_t col = cols / 2 - rng_int(&r, 4, 9), col_end = cols / 2 + rng_int(&r, 4, 9);
        cr_assert_eq(image_init(&im, rows, cols, 1), 0);
        for (int32_t i = row; i < row_end; i++)
            memset(im.data + i * cols + col, 255, (size_t)(col_end - col));

        int32_t in_rows = ROWS, in_cols = COLS;
        uint8_t *pixels;
        float corner[4];
        static const float score[2] = { 0, 1 };
        cr_assert_eq(sidecar_prepare(&s, &im, &in_rows, &in_cols, &pixels, NULL), 0);
        cr_assert(bright_corners(pixels, ROWS, COLS, corner));
        const struct task_tensor t[] = { tensor("scores", 3, (int32_t[]){ 1, 1, 2 }, score),
                                         tensor("boxes", 3, (int32_t[]){ 1, 1, 4 }, corner) };
        const struct task_answer a = { &s, 2, t, ROWS, COLS, rows, cols, NULL };
        struct detection *d;
        int32_t n;
        cr_assert_eq(task_detect(&a, &d, &n, NULL), 0);
        cr_assert_eq(n, 1);
        const double slack = 1.0 + fmax((double)rows / ROWS, (double)cols / COLS) * 1.1;
        cr_expect_float_eq(d->row, (float)row, slack, "%s: %g, %d", json, (double)d->row, row);
        cr_expect_float_eq(d->col, (float)col, slack, "%s: %g, %d", json, (double)d->col, col);
        cr_expect_float_eq(d->row_end, (float)row_end, slack, "%s", json);
        cr_expect_float_eq(d->col_end, (float)col_end, slack, "%s", json);
        free(d);
        free(pixels);
        image_done(&im);
        sidecar_done(&s);
    }
}

/* ---- real networks: boxes worked out by a numpy program from ONNX Runtime's answers */

struct golden_box {
    float row, col, row_end, col_end, score;
    int32_t index;
};

enum { MAX_TENSORS = 6 };

/* Compares the first `n` boxes; there must be `total`. */
static void check_golden(const char *network, const char *const *names, int32_t rows, int32_t cols,
                         const struct golden_box *box, int32_t n, int32_t total)
{
    struct npy a[MAX_TENSORS];
    struct task_tensor t[MAX_TENSORS];
    struct sidecar s;
    struct diag why = { "" };
    char path[256];
    int32_t found = 0, nt = 0;
    struct detection *d;

    if (access("../shared/golden", R_OK) != 0)
        cr_skip_test("../shared/golden is not there");
    for (; names[nt]; nt++) {
        snprintf(path, sizeof path, "../shared/golden/%s/output_%d.npy", network, nt);
        cr_assert_eq(npy_load(&a[nt], path, &why), 0, "%s", why.text);
        t[nt] = tensor(names[nt], a[nt].rank, a[nt].dim, a[nt].values);
    }
    snprintf(path, sizeof path, "conf/sidecars/%s.json", network);
    cr_assert_eq(sidecar_load(&s, path, &why), 0, "%s", why.text);
    const struct task_answer answer = { &s, nt, t, rows, cols, 0, 0, NULL };
    cr_assert_eq(task_detect(&answer, &d, &found, &why), 0, "%s", why.text);
    cr_expect_eq(found, total, "%d boxes", found);
    for (int32_t i = 0; i < n && i < found; i++) {
        cr_expect_float_eq(d[i].row, box[i].row, 0.02);
        cr_expect_float_eq(d[i].col, box[i].col, 0.02);
        cr_expect_float_eq(d[i].row_end, box[i].row_end, 0.02);
        cr_expect_float_eq(d[i].col_end, box[i].col_end, 0.02);
        cr_expect_float_eq(d[i].score, box[i].score, 2e-5);
        cr_expect_eq(d[i].index, box[i].index);
        cr_expect_neq(d[i].label[0], '\0');
    }
    free(d);
    sidecar_done(&s);
    for (int32_t i = 0; i < nt; i++)
        npy_done(&a[i]);
}

Test(detect, golden_yolox)
{
    static const char *const names[] = { "output", NULL };
    static const struct golden_box box[] = {
        { 112.12f, 72.08f, 293.72f, 175.82f, 0.82853f, 16 },
        { 42.36f, 252.79f, 92.92f, 374.58f, 0.80943f, 2 },
        { 71.46f, 24.71f, 233.22f, 309.70f, 0.80797f, 1 },
        { 115.30f, 71.09f, 293.07f, 174.21f, 0.37984f, 15 },
    };
    check_golden("yolox_nano", names, 416, 416, box, 4, 4);
}

Test(detect, golden_nanodet)
{
    static const char *const names[] = { "792", "795", "814", "817", "836", "839", NULL };
    static const struct golden_box box[] = {
        { 66.80f, 44.74f, 272.91f, 236.97f, 0.71444f, 1 },
        { 43.67f, 189.76f, 93.02f, 292.39f, 0.45536f, 7 },
    };
    check_golden("nanodet_m_320", names, 320, 320, box, 2, 2);
}

Test(detect, golden_ultraface)
{
    static const char *const names[] = { "scores", "boxes", NULL };
    static const struct golden_box box[] = {
        { 27.67f, 111.62f, 42.21f, 121.49f, 0.99921f, 0 },
        { 52.14f, 142.94f, 66.05f, 152.51f, 0.99871f, 0 },
        { 28.13f, 214.80f, 40.63f, 224.03f, 0.99809f, 0 },
        { 103.01f, 294.52f, 117.59f, 304.13f, 0.99796f, 0 },
        { 37.62f, 198.20f, 52.75f, 208.40f, 0.99521f, 0 },
    };
    check_golden("ultraface_rfb320", names, 240, 320, box, 5, 44);
}
