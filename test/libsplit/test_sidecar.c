#include "libsplit/sidecar.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libsplit/npy.h"
#include "test/libsplit/pattern.h"

static struct sidecar parse(const char *json)
{
    struct sidecar s;
    struct diag why = { "" };

    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), 0, "%s", why.text);
    return s;
}

/* The whole sentence: it is the interface. */
static void check_refused(const char *json, const char *sentence)
{
    struct sidecar s;
    struct diag why = { "" };

    memset(&s, 0x5a, sizeof s);
    cr_assert_eq(sidecar_parse(&s, json, strlen(json), "net.json", &why), -EINVAL, "%s", json);
    cr_assert_str_eq(why.text, sentence);
    cr_assert_eq(s.nlabels, 0x5a5a5a5a, "the output was touched");
}

/* ---- reading */

Test(sidecar, task_alone_is_enough)
{
    struct sidecar s = parse("{\"task\": \"raw\"}"), d;

    sidecar_default(&d);
    cr_assert_arr_eq(&s, &d, sizeof s);
    cr_assert_eq(s.pixels.channels, 3);
    cr_assert_eq(s.pixels.scale, 1.0f / 255);
    cr_assert_eq(s.pixels.std[2], 1);
    cr_assert_eq(s.output_scale, 255);
    sidecar_done(&s);
}

Test(sidecar, every_key_reaches_its_field)
{
    struct sidecar s = parse("{ \"task\": \"classify\", \"labels\": [\"cat\", \"d\\u00f6g\"],"
                             "  \"class_offset\": 1,"
                             "  \"input\": { \"mean\": [1, 2, 3], \"std\": 4, \"scale\": 0.5,"
                             "    \"channels\": \"bgr\", \"resize\": \"crop\", \"short_side\": 256,"
                             "    \"edge\": 7 } }\n");

    cr_assert_eq(s.task, TASK_CLASSIFY);
    cr_assert_eq(s.nlabels, 2);
    cr_assert_str_eq(s.labels[0], "cat");
    cr_assert_str_eq(s.labels[1], "d\xc3\xb6g");
    cr_assert_eq(s.class_offset, 1);
    cr_assert_eq(s.channels, CHANNELS_BGR);
    cr_assert_eq(s.pixels.channels, 3);
    cr_assert_eq(s.pixels.scale, 0.5f);
    cr_assert_arr_eq(s.pixels.mean, ((float[]){ 1, 2, 3 }), 3 * sizeof(float));
    cr_assert_arr_eq(s.pixels.std, ((float[]){ 4, 4, 4 }), 3 * sizeof(float));
    cr_assert_eq(s.resize, RESIZE_TO_CROP);
    cr_assert_eq(s.short_side, 256);
    cr_assert_eq(s.edge, 7);
    sidecar_done(&s);

    s = parse("{ \"task\": \"image\", \"output\": { \"scale\": 127.5, \"offset\": 127.5 },"
              "  \"input\": { \"channels\": \"y\", \"mean\": [9], \"resize\": \"letterbox\","
              "             \"fill\": 114 } }");
    cr_assert_eq(s.task, TASK_IMAGE);
    cr_assert_eq(s.channels, CHANNELS_Y);
    cr_assert_eq(s.pixels.channels, 1);
    cr_assert_eq(s.pixels.mean[0], 9);
    cr_assert_eq(s.resize, RESIZE_TO_LETTERBOX);
    cr_assert_eq(s.fill, 114);
    cr_assert_eq(s.output_scale, 127.5f);
    cr_assert_eq(s.output_offset, 127.5f);
    sidecar_done(&s);
}

Test(sidecar, mistakes_get_one_sentence)
{
    check_refused("", "net.json:1: not JSON");
    check_refused("{\n\"task\": \"raw\",\n}", "net.json:3: not JSON");
    check_refused("{\"task\": \"raw\"}\n\nx", "net.json:3: not JSON");
    check_refused("[]", "net.json: the top level: expected an object");
    check_refused("{}", "net.json: task: missing; \"raw\", \"classify\", \"image\", \"detect\" or "
                        "\"segment\"");
    check_refused("{\"task\": \"dream\"}",
                  "net.json: task: \"dream\" is none of \"raw\", \"classify\", \"image\", "
                  "\"detect\", \"segment\"");
    check_refused("{\"task\": 1}", "net.json: task: expected one of \"raw\", \"classify\", "
                                   "\"image\", \"detect\", \"segment\"");
    check_refused("{\"task\": \"raw\", \"Task\": \"raw\"}",
                  "net.json: Task: unknown key; allowed are task, labels, class_offset, input, "
                  "output, detect, segment");
    check_refused("{\"task\": \"raw\", \"task\": \"raw\"}", "net.json: task: given twice");
    check_refused("{\"task\": \"raw\", \"input\": 3}", "net.json: input: expected an object");
    check_refused("{\"task\": \"raw\", \"input\": {\"std\": 0}}",
                  "net.json: input.std: 0 is not in 1e-09 to 1e+09");
    check_refused("{\"task\": \"raw\", \"input\": {\"scale\": 1e999}}",
                  "net.json: input.scale: inf is not in 1e-09 to 1e+09");
    check_refused("{\"task\": \"raw\", \"input\": {\"mean\": [1, 2]}}",
                  "net.json: input.mean: 2 numbers; expected one, or one for each of 3 channels");
    check_refused("{\"task\": \"raw\", \"input\": {\"mean\": [1, \"2\", 3]}}",
                  "net.json: input.mean[1]: expected a number of -1e+09 to 1e+09");
    check_refused("{\"task\": \"raw\", \"input\": {\"mean\": \"1\"}}",
                  "net.json: input.mean: expected a number of -1e+09 to 1e+09");
    check_refused("{\"task\": \"raw\", \"input\": {\"edge\": 1.5}}",
                  "net.json: input.edge: 1.5 is not a whole number");
    check_refused("{\"task\": \"raw\", \"input\": {\"edge\": -1}}",
                  "net.json: input.edge: -1 is not in 0 to 1024");
    check_refused("{\"task\": \"raw\", \"input\": {\"fill\": 256}}",
                  "net.json: input.fill: 256 is not in 0 to 255");
}

Test(sidecar, settings_that_mean_nothing_are_refused)
{
    check_refused(
        "{\"task\": \"raw\", \"labels\": [\"cat\"]}",
        "net.json: labels: allowed with task \"classify\", \"detect\" or \"segment\" only");
    check_refused("{\"task\": \"raw\", \"class_offset\": 1}",
                  "net.json: class_offset: allowed with task \"classify\" or \"detect\" only");
    check_refused("{\"task\": \"raw\", \"output\": {}}",
                  "net.json: output: allowed with task \"image\" only");
    check_refused("{\"task\": \"raw\", \"input\": {\"short_side\": 256}}",
                  "net.json: input.short_side: allowed with resize \"crop\" only");
    check_refused("{\"task\": \"raw\", \"input\": {\"fill\": 0}}",
                  "net.json: input.fill: allowed with resize \"letterbox\" only");
}

Test(sidecar, mistakes_in_labels_get_one_sentence)
{
    check_refused("{\"task\": \"classify\", \"labels\": 1}",
                  "net.json: labels: expected an array of strings or a file's name");
    check_refused("{\"task\": \"classify\", \"labels\": [\"cat\", 1]}",
                  "net.json: labels[1]: expected a string");
    check_refused("{\"task\": \"classify\", \"labels\": [\"\\u001b[2J\"]}",
                  "net.json: labels: label 0 has a control character (27)");
    check_refused("{\"task\": \"classify\", \"labels\": \"../labels.txt\"}",
                  "net.json: labels: \"../labels.txt\" is not the name of a file beside the "
                  "sidecar");
    check_refused("{\"task\": \"classify\", \"labels\": \"\"}",
                  "net.json: labels: \"\" is not the name of a file beside the sidecar");
}

Test(sidecar, more_than_a_megabyte_is_refused)
{
    const size_t len = (1 << 20) + 1;
    char *json = malloc(len);
    struct sidecar s;
    struct diag why;

    cr_assert_not_null(json);
    memset(json, ' ', len);
    cr_assert_eq(sidecar_parse(&s, json, len, "net.json", &why), -EINVAL);
    cr_assert_str_eq(why.text, "net.json: 1048577 bytes; up to 1048576 are allowed");
    free(json);
}

Test(sidecar, too_many_labels_are_refused)
{
    static const char head[] = "{\"task\":\"classify\",\"labels\":[\"\"";
    const size_t n = 1 << 16, len = sizeof head - 1 + 3 * n + 2;
    char *json = malloc(len + 1);
    struct sidecar s;
    struct diag why;

    cr_assert_not_null(json);
    char *at = stpcpy(json, head);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, ",\"\"");
    stpcpy(at, "]}");
    cr_assert_eq(sidecar_parse(&s, json, len, "net.json", &why), -EINVAL);
    cr_assert_str_eq(why.text, "net.json: labels: more than 65536 labels");
    free(json);
}

static void put(const char *file, const char *text, size_t len)
{
    FILE *out = fopen(file, "w");

    cr_assert_not_null(out);
    cr_assert_eq(fwrite(text, 1, len, out), len);
    cr_assert_eq(fclose(out), 0);
}

Test(sidecar, labels_come_from_a_file_beside_it)
{
    static const char text[] = "{\"task\": \"classify\", \"labels\": \"labels.txt\"}";
    char dir[] = "/tmp/splitd-sidecar-XXXXXX", json[64], txt[64];
    struct sidecar s;
    struct diag why;

    cr_assert_not_null(mkdtemp(dir));
    snprintf(json, sizeof json, "%s/net.json", dir);
    snprintf(txt, sizeof txt, "%s/labels.txt", dir);
    put(json, text, sizeof text - 1);

    cr_assert_eq(sidecar_load(&s, json, &why), -ENOENT);
    cr_assert_eq(strncmp(why.text, txt, strlen(txt)), 0);

    put(txt, "cat\r\nhot dog\n\nlast", 18);
    cr_assert_eq(sidecar_load(&s, json, &why), 0, "%s", why.text);
    cr_assert_eq(s.nlabels, 4);
    cr_assert_str_eq(s.labels[0], "cat");
    cr_assert_str_eq(s.labels[1], "hot dog");
    cr_assert_str_eq(s.labels[2], "");
    cr_assert_str_eq(s.labels[3], "last");
    sidecar_done(&s);

    put(txt, "cat\n\0dog", 8);
    cr_assert_eq(sidecar_load(&s, json, &why), -EINVAL);
    cr_assert_not_null(strstr(why.text, "label 1 has a control character (0)"));

    unlink(json);
    unlink(txt);
    rmdir(dir);
    cr_assert_eq(sidecar_load(&s, json, &why), -ENOENT);
}

Test(sidecar, lies_beside_the_model)
{
    char path[32];

    cr_assert_eq(sidecar_path("dir/resnet.onnx", path, sizeof path), 0);
    cr_assert_str_eq(path, "dir/resnet.json");
    cr_assert_eq(sidecar_path("a.b/squeezenet1.1.onnx", path, sizeof path), 0);
    cr_assert_str_eq(path, "a.b/squeezenet1.1.json");
    cr_assert_eq(sidecar_path("a.b/model", path, sizeof path), 0);
    cr_assert_str_eq(path, "a.b/model.json");
    cr_assert_eq(sidecar_path("12345.onnx", path, 11), 0);
    cr_assert_eq(sidecar_path("12345.onnx", path, 10), -ENAMETOOLONG);
}

/* ---- pictures into pixels */

static void fill(struct image *im, int32_t rows, int32_t cols, int32_t channels)
{
    cr_assert_eq(image_init(im, rows, cols, channels), 0);
    for (int32_t i = 0; i < rows * cols * channels; i++)
        im->data[i] = pattern(i / channels / cols, i / channels % cols, i % channels);
}

static uint8_t *prepare(const char *json, const struct image *im, int32_t *rows, int32_t *cols)
{
    struct sidecar s = parse(json);
    struct diag why = { "" };
    uint8_t *pixels = NULL;

    cr_assert_eq(sidecar_prepare(&s, im, rows, cols, &pixels, &why), 0, "%s", why.text);
    sidecar_done(&s);
    return pixels;
}

Test(sidecar, a_picture_of_the_right_size_passes_unchanged)
{
    static const char *const resizes[] = { "stretch", "crop", "letterbox", "none" };
    struct image im;

    fill(&im, 6, 5, 3);
    for (int i = 0; i < 4; i++) {
        char json[80];
        int32_t rows = 6, cols = 5;
        snprintf(json, sizeof json, "{\"task\":\"raw\",\"input\":{\"resize\":\"%s\"}}", resizes[i]);
        uint8_t *pixels = prepare(json, &im, &rows, &cols);
        cr_assert_arr_eq(pixels, im.data, 6 * 5 * 3);
        free(pixels);
        /* A network of any size takes the picture's. */
        rows = cols = 0;
        pixels = prepare(json, &im, &rows, &cols);
        cr_assert_eq(rows, 6);
        cr_assert_eq(cols, 5);
        cr_assert_arr_eq(pixels, im.data, 6 * 5 * 3);
        free(pixels);
    }
    image_done(&im);
}

Test(sidecar, channels_are_ordered_and_mixed)
{
    struct image im;
    int32_t rows = 1, cols = 1;

    cr_assert_eq(image_init(&im, 1, 1, 3), 0);
    memcpy(im.data, (uint8_t[]){ 200, 100, 50 }, 3);
    uint8_t *pixels =
        prepare("{\"task\":\"raw\",\"input\":{\"channels\":\"bgr\"}}", &im, &rows, &cols);
    cr_assert_arr_eq(pixels, ((uint8_t[]){ 50, 100, 200 }), 3);
    free(pixels);
    /* 0.299 R + 0.587 G + 0.114 B */
    pixels = prepare("{\"task\":\"raw\",\"input\":{\"channels\":\"gray\"}}", &im, &rows, &cols);
    cr_assert_eq(pixels[0], 124);
    free(pixels);
    pixels = prepare("{\"task\":\"raw\",\"input\":{\"channels\":\"y\"}}", &im, &rows, &cols);
    cr_assert_eq(pixels[0], 124);
    free(pixels);
    image_done(&im);

    cr_assert_eq(image_init(&im, 1, 1, 1), 0);
    im.data[0] = 77;
    pixels = prepare("{\"task\":\"raw\"}", &im, &rows, &cols);
    cr_assert_arr_eq(pixels, ((uint8_t[]){ 77, 77, 77 }), 3);
    free(pixels);
    pixels = prepare("{\"task\":\"raw\",\"input\":{\"channels\":\"gray\"}}", &im, &rows, &cols);
    cr_assert_eq(pixels[0], 77);
    free(pixels);
    image_done(&im);
}

Test(sidecar, edge_repeats_the_border)
{
    static const char json[] = "{\"task\":\"raw\",\"input\":{\"channels\":\"gray\",\"edge\":2}}";
    static const uint8_t expect[] = { 1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2,
                                      3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4 };
    struct image im;

    cr_assert_eq(image_init(&im, 2, 2, 1), 0);
    memcpy(im.data, (uint8_t[]){ 1, 2, 3, 4 }, 4);
    for (int32_t size = 0; size <= 6; size += 6) {
        int32_t rows = size, cols = size;
        uint8_t *pixels = prepare(json, &im, &rows, &cols);
        cr_assert_eq(rows, 6);
        cr_assert_eq(cols, 6);
        cr_assert_arr_eq(pixels, expect, sizeof expect);
        free(pixels);
    }
    image_done(&im);
}

Test(sidecar, crop_takes_the_middle_and_grows_what_is_too_small)
{
    static const char json[] = "{\"task\":\"raw\",\"input\":{\"resize\":\"crop\"}}";
    struct image im;
    int32_t rows = 2, cols = 3;

    fill(&im, 6, 5, 3);
    uint8_t *pixels = prepare(json, &im, &rows, &cols);
    for (int32_t r = 0; r < 2; r++)
        cr_assert_arr_eq(pixels + r * 9, im.data + ((2 + r) * 5 + 1) * 3, 9);
    free(pixels);
    image_done(&im);

    cr_assert_eq(image_init(&im, 1, 1, 3), 0);
    memset(im.data, 9, 3);
    rows = 4, cols = 7;
    pixels = prepare(json, &im, &rows, &cols);
    for (int i = 0; i < 4 * 7 * 3; i++)
        cr_assert_eq(pixels[i], 9);
    free(pixels);
    image_done(&im);
}

/* 256 of the shorter side would make 4 million of the longer one. */
Test(sidecar, crop_of_a_line_costs_no_more_than_its_middle)
{
    static const char json[] =
        "{\"task\":\"raw\",\"input\":{\"resize\":\"crop\",\"short_side\":16384}}";
    struct image im;
    int32_t rows = 224, cols = 224;

    cr_assert_eq(image_init(&im, 1, IMAGE_MAX_SIDE, 3), 0);
    memset(im.data, 200, (size_t)IMAGE_MAX_SIDE * 3);
    uint8_t *pixels = prepare(json, &im, &rows, &cols);
    cr_assert_eq(pixels[224 * 224 * 3 - 1], 200);
    free(pixels);
    image_done(&im);
}

Test(sidecar, letterbox_fills_below_and_right)
{
    static const char json[] =
        "{\"task\":\"raw\",\"input\":{\"resize\":\"letterbox\",\"fill\":114}}";
    struct image im;

    cr_assert_eq(image_init(&im, 2, 4, 3), 0);
    memset(im.data, 10, 2 * 4 * 3);
    int32_t rows = 8, cols = 8;
    uint8_t *pixels = prepare(json, &im, &rows, &cols);
    for (int32_t i = 0; i < 8 * 8 * 3; i++)
        cr_assert_eq(pixels[i], i < 4 * 8 * 3 ? 10 : 114);
    free(pixels);

    rows = 1, cols = 4;
    pixels = prepare(json, &im, &rows, &cols);
    for (int32_t i = 0; i < 4 * 3; i++)
        cr_assert_eq(pixels[i], i < 2 * 3 ? 10 : 114);
    free(pixels);
    image_done(&im);
}

Test(sidecar, impossible_sizes_get_one_sentence)
{
    struct sidecar s = parse("{\"task\":\"raw\",\"input\":{\"resize\":\"none\",\"edge\":3}}");
    struct image im;
    struct diag why;
    uint8_t *pixels = NULL;
    int32_t rows = 6, cols = 60;

    fill(&im, 4, 5, 3);
    cr_assert_eq(sidecar_prepare(&s, &im, &rows, &cols, &pixels, &why), -EINVAL);
    cr_assert_str_eq(why.text,
                     "the network takes 60 x 6 pixels, but the sidecar's edge of 3 leaves "
                     "none of the picture");
    rows = 20, cols = 26;
    cr_assert_eq(sidecar_prepare(&s, &im, &rows, &cols, &pixels, &why), -EINVAL);
    cr_assert_str_eq(why.text, "the picture is 5 x 4 pixels; the network takes 20 x 14 and its "
                               "sidecar says resize \"none\"");
    cr_assert_null(pixels);
    image_done(&im);
    sidecar_done(&s);
}

/* ---- detectors */

#define DETECT(settings) "{\"task\": \"detect\", \"detect\": {" settings "}}"

Test(sidecar, every_key_of_a_detector_reaches_its_field)
{
    struct sidecar s = parse("{ \"task\": \"detect\", \"labels\": [\"cat\"], \"class_offset\": 1,"
                             "  \"detect\": { \"anchors\": [[1, 2, 3, 4], [5.5, 6]],"
                             "    \"strides\": [4, 21.3333], \"decoder\": \"ssd\","
                             "    \"outputs\": [\"a\", \"b\"], \"center\": 0.25,"
                             "    \"center_variance\": 0.5, \"size_variance\": 2,"
                             "    \"activation\": \"softmax\", \"score\": 0.125, \"iou\": 0.75,"
                             "    \"limit\": 7 } }");
    const struct sidecar_detect *d = &s.detect;

    cr_assert_eq(s.task, TASK_DETECT);
    cr_assert_eq(d->decoder, DECODER_SSD);
    cr_assert_eq(d->noutputs, 2);
    cr_assert_str_eq(d->output[1], "b");
    cr_assert_eq(d->nstrides, 2);
    cr_assert_float_eq(d->stride[1], 64.0 / 3, 1e-4);
    cr_assert_eq(d->nanchors[0], 2);
    cr_assert_eq(d->nanchors[1], 1);
    cr_assert_eq(d->anchor[0][1][1], 4);
    cr_assert_eq(d->anchor[1][0][0], 5.5f);
    cr_assert_eq(d->center, 0.25f);
    cr_assert_eq(d->center_variance, 0.5f);
    cr_assert_eq(d->size_variance, 2);
    cr_assert_eq(d->activation, SCORE_SOFTMAX);
    cr_assert_eq(d->score, 0.125f);
    cr_assert_eq(d->iou, 0.75f);
    cr_assert_eq(d->limit, 7);
    sidecar_done(&s);
}

Test(sidecar, mistakes_of_a_detector_get_one_sentence)
{
    check_refused("{\"task\": \"detect\"}",
                  "net.json: detect.decoder: missing; it says what the outputs mean");
    check_refused("{\"task\": \"raw\", \"detect\": {\"decoder\": \"yolox\"}}",
                  "net.json: detect: allowed with task \"detect\" only");
    check_refused(
        DETECT("\"decoder\": \"yolo\""),
        "net.json: detect.decoder: \"yolo\" is none of \"yolox\", \"yolov5\", \"yolov8\", "
        "\"nanodet\", \"ssd\", \"ultraface\"");
    check_refused(DETECT("\"decoder\": \"yolox\", \"nms\": 1"),
                  "net.json: detect.nms: unknown key; allowed are decoder, outputs, strides, "
                  "anchors, center, reg_max, center_variance, size_variance, activation, score, "
                  "iou, limit");
    check_refused(DETECT("\"decoder\": \"yolox\", \"strides\": []"),
                  "net.json: detect.strides: expected a list of 1 to 8 strides");
    check_refused(DETECT("\"decoder\": \"yolox\", \"strides\": [8, 0]"),
                  "net.json: detect.strides: 0 is not in 1 to 4096");
    check_refused(DETECT("\"decoder\": \"yolox\", \"outputs\": [\"a\", 1]"),
                  "net.json: detect.outputs[1]: expected a string of up to 255 bytes");
    check_refused(DETECT("\"decoder\": \"yolox\", \"anchors\": [[1, 1], [1, 1], [1, 1]]"),
                  "net.json: detect.anchors: allowed with decoder \"yolov5\" or \"ssd\" only");
    check_refused(DETECT("\"decoder\": \"ssd\""),
                  "net.json: detect.anchors: missing; decoder \"ssd\" needs them");
    check_refused(DETECT("\"decoder\": \"ssd\", \"anchors\": [[1, 1]]"),
                  "net.json: detect.anchors: expected 3 lists, one for every stride");
    check_refused(DETECT("\"decoder\": \"ssd\", \"strides\": [8], \"anchors\": [[1, 2, 3]]"),
                  "net.json: detect.anchors[0]: 3 numbers; expected pairs of columns and rows");
    check_refused(DETECT("\"decoder\": \"ssd\", \"strides\": [8], \"anchors\": [[1, 0]]"),
                  "net.json: detect.anchors[0]: 0 is not in 0.001 to 100000");
    check_refused(DETECT("\"decoder\": \"yolov8\", \"reg_max\": 7"),
                  "net.json: detect.reg_max: allowed with decoder \"nanodet\" only");
    check_refused("{\"task\": \"classify\", \"segment\": {}}",
                  "net.json: segment: allowed with task \"segment\" only");
    check_refused("{\"task\": \"segment\", \"segment\": {\"background\": 255}}",
                  "net.json: segment.background: 255 is not in -1 to 254");
    check_refused("{\"task\": \"segment\", \"class_offset\": 1}",
                  "net.json: class_offset: allowed with task \"classify\" or \"detect\" only");
}

/* ---- the sidecars that ship */

Test(sidecar, those_that_ship_are_valid)
{
    glob_t found;

    cr_assert_eq(glob("conf/*/*.json", 0, NULL, &found), 0);
    cr_assert_geq(found.gl_pathc, 14);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct sidecar s;
        struct diag why;
        if (strncmp(found.gl_pathv[i], "conf/sidecars/", 14) != 0)
            continue;
        cr_assert_eq(sidecar_load(&s, found.gl_pathv[i], &why), 0, "%s", why.text);
        sidecar_done(&s);
    }
    globfree(&found);
}

Test(sidecar, lists_of_labels_that_ship)
{
    static const struct {
        const char *model;
        int32_t labels, index;
        const char *label;
    } cases[] = {
        { "mobilenetv2_1.0_224", 1000, 207, "golden retriever" },
        { "squeezenet1.1", 1000, 999, "toilet tissue" },
        { "yolox_nano", 80, 16, "dog" },
        { "deeplabv3_mnv2_dm05_voc_513", 21, 0, "background" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sidecar s;
        struct diag why = { "" };
        char file[128];
        snprintf(file, sizeof file, "conf/sidecars/%s.json", cases[i].model);
        cr_assert_eq(sidecar_load(&s, file, &why), 0, "%s", why.text);
        cr_assert_eq(s.nlabels, cases[i].labels);
        cr_assert_str_eq(s.labels[cases[i].index], cases[i].label);
        sidecar_done(&s);
    }
}

/* The reference inputs were made by Python from photographs that are there too. */
Test(sidecar, prepares_photographs_as_the_reference_did)
{
    static const struct {
        const char *model, *photo;
    } cases[] = {
        { "mobilenetv1_0.25_128", "dog" },
        { "mobilenetv2_1.0_224", "dog" },
        { "squeezenet1.1", "dog" },
        { "nanodet_m_320", "dog" },
        { "yolox_nano", "dog" },
        { "mlperf_vww_mobilenetv1_96", "person" },
        { "deeplabv3_mnv2_dm05_voc_513", "person" },
        { "selfie_seg_256", "person" },
        { "ultraface_rfb320", "faces_1" },
    };

    if (access("../shared/golden", R_OK) != 0)
        cr_skip_test("../shared is not there");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sidecar s;
        struct image im;
        struct npy want;
        struct diag why = { "" };
        uint8_t *pixels;
        char file[128];

        snprintf(file, sizeof file, "conf/sidecars/%s.json", cases[i].model);
        cr_assert_eq(sidecar_load(&s, file, &why), 0, "%s", why.text);
        snprintf(file, sizeof file, "../shared/data/photos/%s.jpg", cases[i].photo);
        cr_assert_eq(image_load(&im, file, &why), 0, "%s", why.text);
        snprintf(file, sizeof file, "../shared/golden/%s/input.npy", cases[i].model);
        cr_assert_eq(npy_load(&want, file, &why), 0, "%s", why.text);

        int32_t rows = want.dim[2], cols = want.dim[3];
        const int32_t channels = want.dim[1], plane = rows * cols;
        cr_assert_eq(sidecar_prepare(&s, &im, &rows, &cols, &pixels, &why), 0, "%s", why.text);
        for (int32_t k = 0; k < plane * channels; k++) {
            const int32_t c = k % channels;
            const float x =
                ((float)pixels[k] * s.pixels.scale - s.pixels.mean[c]) / s.pixels.std[c];
            const float y = want.values[c * plane + k / channels];
            cr_assert(fabsf(x - y) <= 1e-5f * (1 + fabsf(y)), "%s: value %d: %g, reference %g",
                      cases[i].model, k, (double)x, (double)y);
        }
        free(pixels);
        npy_done(&want);
        image_done(&im);
        sidecar_done(&s);
    }
}
