#include "libsplit/image.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <jpeglib.h>

#include "test/libsplit/pattern.h"

static void fill(struct image *im, int32_t rows, int32_t cols, int32_t channels)
{
    cr_assert_eq(image_init(im, rows, cols, channels), 0);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < cols; c++)
            for (int32_t k = 0; k < channels; k++)
                im->data[(r * cols + c) * channels + k] = pattern(r, c, k);
}

/* ---- resizing: tables made by Pillow 9.4, Image.resize(), from pattern() */

static const uint8_t shrunk_bilinear[] = {
    127, 125, 127, 124, 123, 125, 125, 129, 128, 123, 127, 135, 129, 135, 116, 121, 128, 123,
    118, 134, 129, 125, 118, 132, 126, 129, 132, 122, 139, 127, 122, 126, 126, 125, 133, 128,
    123, 126, 134, 143, 114, 128, 121, 132, 124, 122, 124, 124, 127, 125, 120, 123, 136, 119,
    130, 119, 134, 122, 127, 127, 126, 138, 127, 128, 127, 123, 124, 132, 131, 132, 126, 129,
    138, 124, 121, 128, 134, 132, 124, 134, 129, 127, 139, 135, 123, 129, 136, 127, 121, 130,
};
static const uint8_t shrunk_bicubic[] = {
    128, 124, 128, 125, 121, 124, 125, 130, 126, 122, 127, 138, 130, 136, 113, 121, 128, 123,
    118, 136, 128, 124, 115, 134, 124, 130, 134, 122, 141, 126, 124, 126, 125, 124, 135, 128,
    122, 126, 136, 149, 109, 128, 121, 133, 123, 122, 122, 125, 128, 123, 118, 121, 139, 117,
    130, 119, 136, 120, 126, 128, 125, 140, 127, 128, 125, 120, 124, 132, 134, 132, 126, 127,
    140, 124, 120, 128, 134, 133, 123, 134, 130, 128, 141, 135, 122, 129, 137, 128, 119, 129,
};
static const uint8_t grown_bilinear[] = {
    0,   101, 202, 21,  122, 132, 55,  156, 19,  89,  190, 35,  122, 205, 68,  156, 92,  102,
    177, 22,  123, 15,  116, 217, 37,  138, 148, 72,  173, 37,  108, 158, 54,  143, 131, 89,
    178, 78,  124, 200, 45,  146, 37,  138, 239, 61,  162, 171, 98,  199, 63,  136, 109, 82,
    174, 19,  120, 211, 56,  157, 235, 80,  181, 59,  160, 108, 84,  185, 96,  124, 225, 78,
    165, 138, 111, 194, 50,  151, 146, 90,  191, 116, 115, 216, 74,  175, 20,  100, 201, 46,
    142, 243, 88,  184, 157, 130, 207, 70,  171, 102, 112, 213, 37,  138, 239,
};
static const uint8_t grown_bicubic[] = {
    0,   93,  215, 13,  113, 137, 52,  152, 9,   85,  213, 15,  118, 227, 64,  157, 86,  103,
    178, 0,   124, 10,  107, 241, 28,  132, 160, 68,  172, 26,  103, 170, 33,  138, 139, 84,
    187, 71,  124, 212, 31,  146, 32,  133, 254, 54,  165, 179, 98,  207, 56,  136, 109, 66,
    174, 11,  120, 218, 53,  164, 240, 85,  186, 57,  158, 100, 81,  192, 90,  128, 237, 78,
    180, 136, 110, 202, 36,  156, 141, 88,  203, 101, 127, 227, 71,  172, 0,   96,  207, 28,
    144, 253, 89,  205, 161, 135, 217, 67,  176, 86,  113, 224, 6,   148, 249,
};
static const uint8_t mixed_grey_bicubic[] = {
    44,  56,  89,  125, 138, 140, 143, 145, 146, 141, 137, 135, 160, 154, 141,
    126, 117, 112, 111, 115, 121, 134, 145, 149, 64,  77,  114, 148, 141, 118,
    106, 103, 102, 103, 104, 105, 161, 153, 134, 115, 109, 110, 110, 109, 114,
    130, 145, 148, 66,  84,  137, 185, 177, 143, 114, 79,  63,  96,  134, 146,
};

static void check_resize(int32_t from_rows, int32_t from_cols, int32_t channels, int32_t rows,
                         int32_t cols, enum image_filter filter, const uint8_t *expect)
{
    struct image from, to;

    fill(&from, from_rows, from_cols, channels);
    cr_assert_eq(image_resize(&to, &from, rows, cols, filter), 0);
    for (int32_t i = 0; i < rows * cols * channels; i++)
        cr_assert_eq(to.data[i], expect[i], "value %d: %d, Pillow has %d", i, to.data[i],
                     expect[i]);
    image_done(&from);
    image_done(&to);
}

Test(image, resizes_as_pillow_to_the_bit)
{
    check_resize(40, 30, 3, 6, 5, IMAGE_BILINEAR, shrunk_bilinear);
    check_resize(40, 30, 3, 6, 5, IMAGE_BICUBIC, shrunk_bicubic);
    check_resize(3, 4, 3, 5, 7, IMAGE_BILINEAR, grown_bilinear);
    check_resize(3, 4, 3, 5, 7, IMAGE_BICUBIC, grown_bicubic);
    check_resize(17, 5, 1, 5, 12, IMAGE_BICUBIC, mixed_grey_bicubic);
}

Test(image, a_part_equals_the_part_of_the_whole)
{
    struct image from, whole, part;

    fill(&from, 23, 31, 3);
    for (int32_t size = 1; size < 60; size += 7) {
        const int32_t rows = size, cols = 61 - size;
        cr_assert_eq(image_resize(&whole, &from, rows, cols, IMAGE_BICUBIC), 0);
        const struct image_part p = { rows / 3, cols / 4, rows - rows / 2, cols - cols / 2 };
        cr_assert_eq(image_resize_part(&part, &from, rows, cols, p, IMAGE_BICUBIC), 0);
        for (int32_t r = 0; r < p.rows; r++)
            cr_assert_arr_eq(part.data + r * p.cols * 3,
                             whole.data + ((r + p.row) * cols + p.col) * 3, (size_t)(p.cols * 3));
        image_done(&whole);
        image_done(&part);
    }
    image_done(&from);
}

Test(image, a_flat_picture_stays_flat_at_every_size)
{
    struct image from, to;

    cr_assert_eq(image_init(&from, 5, 9, 1), 0);
    memset(from.data, 255, 45);
    for (int32_t rows = 1; rows <= 24; rows++)
        for (int32_t cols = 1; cols <= 24; cols++) {
            cr_assert_eq(image_resize(&to, &from, rows, cols, IMAGE_BICUBIC), 0);
            for (int32_t i = 0; i < rows * cols; i++)
                cr_assert_eq(to.data[i], 255);
            image_done(&to);
        }
    image_done(&from);
}

Test(image, more_pixels_than_2_gb_are_refused)
{
    struct image im = { 0 };

    cr_assert_eq(image_init(&im, 1 << 28, 1 << 28, 3), -ENOMEM);
    cr_assert_null(im.data);
}

/* ---- files in and out */

static void check_same(const struct image *a, const struct image *b)
{
    cr_assert_eq(a->rows, b->rows);
    cr_assert_eq(a->cols, b->cols);
    cr_assert_eq(a->channels, b->channels);
    cr_assert_arr_eq(a->data, b->data, (size_t)(a->rows * a->cols * a->channels));
}

Test(image, png_gives_back_what_it_was_given)
{
    for (int32_t channels = 1; channels <= 3; channels += 2)
        for (int32_t size = 1; size < 20; size += 6) {
            struct image a, b;
            struct diag why;
            uint8_t *bytes;
            size_t len;

            fill(&a, size, 20 - size, channels);
            cr_assert_eq(image_encode_png(&a, &bytes, &len), 0);
            cr_assert_eq(image_decode(&b, bytes, len, "a.png", &why), 0, "%s", why.text);
            check_same(&a, &b);
            free(bytes);
            image_done(&a);
            image_done(&b);
        }
}

Test(image, jpeg_gives_back_nearly_what_it_was_given)
{
    for (int32_t channels = 1; channels <= 3; channels += 2) {
        struct image small, a, b;
        struct diag why;
        uint8_t *bytes;
        size_t len;

        fill(&small, 4, 4, channels);
        cr_assert_eq(image_resize(&a, &small, 64, 48, IMAGE_BICUBIC), 0);
        cr_assert_eq(image_encode_jpeg(&a, 95, &bytes, &len), 0);
        cr_assert_eq(image_decode(&b, bytes, len, "a.jpg", &why), 0, "%s", why.text);
        cr_assert_eq(b.channels, channels);
        cr_assert_gt(image_psnr(&a, &b, 0), 30);
        free(bytes);
        image_done(&small);
        image_done(&a);
        image_done(&b);
    }
}

Test(image, jpeg_refuses_a_side_it_cannot_hold)
{
    struct image im;
    uint8_t *bytes;
    size_t len;

    cr_assert_eq(image_init(&im, 70000, 1, 1), 0);
    cr_assert_eq(image_encode_jpeg(&im, 90, &bytes, &len), -EINVAL);
    image_done(&im);
}

Test(image, saves_and_loads_by_the_names_ending)
{
    char dir[] = "/tmp/splitd-image-XXXXXX", file[64];
    struct image a, b;
    struct diag why;

    cr_assert_not_null(mkdtemp(dir));
    fill(&a, 9, 7, 3);
    snprintf(file, sizeof file, "%s/a.PNG", dir);
    cr_assert_eq(image_save(&a, file, &why), 0, "%s", why.text);
    cr_assert_eq(image_load(&b, file, &why), 0, "%s", why.text);
    check_same(&a, &b);
    image_done(&b);
    unlink(file);

    snprintf(file, sizeof file, "%s/a.jpeg", dir);
    cr_assert_eq(image_save(&a, file, &why), 0, "%s", why.text);
    cr_assert_eq(image_load(&b, file, &why), 0, "%s", why.text);
    cr_assert_eq(b.cols, 7);
    image_done(&b);
    unlink(file);

    snprintf(file, sizeof file, "%s/a.gif", dir);
    cr_assert_eq(image_save(&a, file, &why), -EINVAL);
    cr_assert_not_null(strstr(why.text, ".png"));
    snprintf(file, sizeof file, "%s/none/a.png", dir);
    cr_assert_eq(image_save(&a, file, &why), -ENOENT);
    cr_assert_eq(image_load(&b, file, &why), -ENOENT);
    image_done(&a);
    rmdir(dir);
}

/* ---- PNG's many kinds of pixels */

struct sink {
    uint8_t bytes[4096];
    size_t len;
};

static void on_write(png_structp png, png_bytep from, size_t n)
{
    struct sink *to = png_get_io_ptr(png);

    cr_assert_leq(to->len + n, sizeof to->bytes);
    memcpy(to->bytes + to->len, from, n);
    to->len += n;
}

/* One row of `cols` pixels as they stand in the file, decoded. */
static void decode_row(struct image *im, int colour, int bits, int interlace, uint8_t *row,
                       int32_t cols)
{
    static const png_color palette[] = { { 1, 2, 3 }, { 10, 20, 30 } };
    static const png_byte palette_alpha[] = { 255, 0 };
    struct sink sink = { .len = 0 };
    struct diag why;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);

    png_set_write_fn(png, &sink, on_write, NULL);
    png_set_IHDR(png, info, (png_uint_32)cols, 1, bits, colour, interlace, 0, 0);
    if (colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 2);
        png_set_tRNS(png, info, palette_alpha, 2, NULL);
    }
    png_write_info(png, info);
    png_write_image(png, &row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    cr_assert_eq(image_decode(im, sink.bytes, sink.len, "row.png", &why), 0, "%s", why.text);
    cr_assert_eq(im->rows, 1);
    cr_assert_eq(im->cols, cols);
}

static void check_row(const struct image *im, int32_t channels, const uint8_t *expect)
{
    cr_assert_eq(im->channels, channels);
    for (int32_t i = 0; i < im->cols * channels; i++)
        cr_assert_eq(im->data[i], expect[i], "value %d: %d, expected %d", i, im->data[i],
                     expect[i]);
}

Test(image, png_of_any_kind_becomes_grey_or_rgb)
{
    struct image im;

    decode_row(&im, PNG_COLOR_TYPE_GRAY, 1, 0, (uint8_t[]){ 0xa0 }, 4);
    check_row(&im, 1, (uint8_t[]){ 255, 0, 255, 0 });
    image_done(&im);
    decode_row(&im, PNG_COLOR_TYPE_GRAY, 16, 0, (uint8_t[]){ 0x80, 0, 0xff, 0xff }, 2);
    check_row(&im, 1, (uint8_t[]){ 128, 255 });
    image_done(&im);
    decode_row(&im, PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0, (uint8_t[]){ 200, 255, 200, 51 }, 2);
    check_row(&im, 1, (uint8_t[]){ 200, 40 });
    image_done(&im);
    decode_row(&im, PNG_COLOR_TYPE_RGB_ALPHA, 8, 0, (uint8_t[]){ 100, 50, 255, 51 }, 1);
    check_row(&im, 3, (uint8_t[]){ 20, 10, 51 });
    image_done(&im);
    decode_row(&im, PNG_COLOR_TYPE_RGB, 16, 0, (uint8_t[]){ 1, 0, 2, 0, 255, 255 }, 1);
    check_row(&im, 3, (uint8_t[]){ 1, 2, 255 });
    image_done(&im);
    /* Bits 0 and 1: the first colour is opaque, the second transparent. */
    decode_row(&im, PNG_COLOR_TYPE_PALETTE, 1, 0, (uint8_t[]){ 0x40 }, 2);
    check_row(&im, 3, (uint8_t[]){ 1, 2, 3, 0, 0, 0 });
    image_done(&im);
    decode_row(&im, PNG_COLOR_TYPE_RGB, 8, 1, (uint8_t[]){ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 3);
    check_row(&im, 3, (uint8_t[]){ 1, 2, 3, 4, 5, 6, 7, 8, 9 });
    image_done(&im);
}

/* ---- CMYK in JPEG */

static uint8_t *flat_cmyk(const uint8_t ink[4], bool adobe, unsigned long *len)
{
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    uint8_t row[8 * 4];

    for (int i = 0; i < 8 * 4; i++)
        row[i] = ink[i % 4];
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_compress(&cinfo);
    jpeg_mem_dest(&cinfo, &bytes, len);
    cinfo.image_width = cinfo.image_height = 8;
    cinfo.input_components = 4;
    cinfo.in_color_space = JCS_CMYK;
    jpeg_set_defaults(&cinfo);
    jpeg_set_colorspace(&cinfo, adobe ? JCS_YCCK : JCS_CMYK);
    cinfo.write_Adobe_marker = adobe;
    jpeg_set_quality(&cinfo, 100, TRUE);
    jpeg_start_compress(&cinfo, TRUE);
    while (cinfo.next_scanline < 8)
        jpeg_write_scanlines(&cinfo, &(JSAMPROW){ row }, 1);
    jpeg_finish_compress(&cinfo);
    jpeg_destroy_compress(&cinfo);
    return bytes;
}

static void check_cmyk(const uint8_t ink[4], bool adobe, int red, int green, int blue)
{
    struct image im;
    struct diag why;
    unsigned long len = 0;
    uint8_t *bytes = flat_cmyk(ink, adobe, &len);

    cr_assert_eq(image_decode(&im, bytes, len, "cmyk.jpg", &why), 0, "%s", why.text);
    cr_assert_eq(im.channels, 3);
    cr_assert_leq(abs(im.data[0] - red), 2, "red %d", im.data[0]);
    cr_assert_leq(abs(im.data[1] - green), 2, "green %d", im.data[1]);
    cr_assert_leq(abs(im.data[2] - blue), 2, "blue %d", im.data[2]);
    image_done(&im);
    free(bytes);
}

Test(image, cmyk_becomes_rgb)
{
    check_cmyk((uint8_t[]){ 255, 100, 0, 51 }, false, 0, 124, 204);
    check_cmyk((uint8_t[]){ 0, 155, 255, 204 }, true, 0, 124, 204); /* the same, inverted */
}

/* ---- what is no picture */

static void check_refused(const uint8_t *bytes, size_t len, const char *sentence)
{
    struct image im = { 0 };
    struct diag why = { "" };

    cr_assert_eq(image_decode(&im, bytes, len, "cat.jpg", &why), -EINVAL, "expected: %s", sentence);
    cr_assert_not_null(strstr(why.text, sentence), "\"%s\" lacks \"%s\"", why.text, sentence);
    cr_assert_eq(strncmp(why.text, "cat.jpg: ", 9), 0);
    cr_assert_null(im.data);
}

Test(image, no_bytes_and_text_are_refused)
{
    check_refused((const uint8_t *)"", 0, "empty");
    check_refused((const uint8_t *)"hello", 5, "not a picture");
    check_refused((const uint8_t *)"\xff", 1, "not a picture");
    check_refused((const uint8_t *)"\xff\xd8\xff", 3, "damaged JPEG");
    check_refused((const uint8_t *)"\x89PNG", 4, "damaged PNG");
}

Test(image, a_directory_is_refused)
{
    struct image im;
    struct diag why;

    cr_assert_eq(image_load(&im, "/tmp", &why), -EISDIR);
    cr_assert_eq(strncmp(why.text, "/tmp: ", 6), 0);
}

/* A picture may be cut off anywhere after its pixels, nowhere before. */
static void check_cut_off(const uint8_t *bytes, size_t len, size_t tail, const char *sentence)
{
    for (size_t n = 4; n < len - tail; n++)
        check_refused(bytes, n, sentence);
}

Test(image, cut_off_files_are_damaged)
{
    struct image im;
    uint8_t *bytes;
    size_t len;

    fill(&im, 19, 33, 3);
    cr_assert_eq(image_encode_jpeg(&im, 90, &bytes, &len), 0);
    check_cut_off(bytes, len, 2, "damaged JPEG");
    free(bytes);
    cr_assert_eq(image_encode_png(&im, &bytes, &len), 0);
    check_cut_off(bytes, len, 16 + 8, "damaged PNG"); /* IEND and a checksum */
    free(bytes);
    image_done(&im);
}

Test(image, flipped_bytes_never_crash)
{
    struct image im;
    uint8_t *bytes[2];
    size_t len[2];

    fill(&im, 19, 33, 3);
    cr_assert_eq(image_encode_jpeg(&im, 50, &bytes[0], &len[0]), 0);
    cr_assert_eq(image_encode_png(&im, &bytes[1], &len[1]), 0);
    image_done(&im);
    for (int f = 0; f < 2; f++) {
        for (size_t i = 0; i < len[f]; i++) {
            struct image out = { 0 };
            bytes[f][i] ^= 0x55;
            if (image_decode(&out, bytes[f], len[f], "flipped", NULL) == 0)
                image_done(&out);
            cr_assert_null(out.data);
            bytes[f][i] ^= 0x55;
        }
        free(bytes[f]);
    }
}

Test(image, a_header_of_20000_by_20000_is_refused_before_memory_is_taken)
{
    struct image im;
    uint8_t *bytes;
    size_t len;

    fill(&im, 1, 1, 1);
    cr_assert_eq(image_encode_jpeg(&im, 90, &bytes, &len), 0);
    for (size_t i = 0; i + 9 < len; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == 0xc0) { /* SOF0: length, precision, rows, columns */
            bytes[i + 5] = bytes[i + 7] = 20000 >> 8;
            bytes[i + 6] = bytes[i + 8] = 20000 & 0xff;
        }
    check_refused(bytes, len, "20000 x 20000");
    free(bytes);
    image_done(&im);

    /* A PNG's header is complete once the first IDAT begins. */
    struct sink sink = { .len = 0 };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &sink, on_write, NULL);
    png_set_IHDR(png, info, 20000, 20000, 8, PNG_COLOR_TYPE_RGB, 0, 0, 0);
    png_write_info(png, info);
    png_write_chunk(png, (png_const_bytep) "IDAT", NULL, 0);
    png_destroy_write_struct(&png, &info);
    check_refused(sink.bytes, sink.len, "20000 x 20000");
}

static size_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%llu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* When there was no memory for the second table, the first one was freed twice. */
Test(image, tables_are_freed_once_when_memory_ends_between_them)
{
    enum { ROWS = 1 << 20, STEP = 1 << 20, STEPS = 60 };
    struct image im, to;
    struct rlimit before, less;
    int refused = 0, done = 0;

#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("its allocator ends where memory does");
#endif
    fill(&im, 1, 1, 1);
    cr_assert_eq(getrlimit(RLIMIT_AS, &before), 0);
    for (size_t k = 0; k < STEPS && done == 0; k++) {
        less = before;
        less.rlim_cur = address_space() + k * STEP;
        cr_assert_eq(setrlimit(RLIMIT_AS, &less), 0);
        const int rc = image_resize(&to, &im, ROWS, 2, IMAGE_BILINEAR);
        cr_assert_eq(setrlimit(RLIMIT_AS, &before), 0);
        cr_assert(rc == 0 || rc == -ENOMEM, "%d", rc);
        refused += rc == -ENOMEM;
        done += rc == 0;
        if (rc == 0)
            image_done(&to);
    }
    cr_expect_eq(done, 1);
    cr_expect_geq(refused, 8, "%d", refused); /* each of several tables was one too many */
    image_done(&im);
}

/* Each scan costs a pass over the whole picture: a small file must not ask for thousands. */
Test(image, a_jpeg_of_too_many_scans_is_refused)
{
    enum { REPEATS = 200 };
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long len = 0;
    uint8_t row[16] = { 0 };
    struct image im;
    struct diag why;

    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_compress(&cinfo);
    jpeg_mem_dest(&cinfo, &bytes, &len);
    cinfo.image_width = cinfo.image_height = 16;
    cinfo.input_components = 1;
    cinfo.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&cinfo);
    jpeg_simple_progression(&cinfo);
    jpeg_start_compress(&cinfo, TRUE);
    for (int r = 0; r < 16; r++) {
        row[r] = 255;
        jpeg_write_scanlines(&cinfo, &(JSAMPROW){ row }, 1);
    }
    jpeg_finish_compress(&cinfo);
    jpeg_destroy_compress(&cinfo);
    cr_assert_eq(image_decode(&im, bytes, len, "progressive.jpg", &why), 0, "%s", why.text);
    image_done(&im);

    /* The first scan, which decodes the same whatever came before, again and again. */
    const uint8_t *scan = memmem(bytes, len, "\xff\xda", 2), *end = scan + 2;
    cr_assert_not_null(scan);
    while (end[0] != 0xff || end[1] == 0)
        end++;
    const size_t before = (size_t)(scan - bytes), scan_len = (size_t)(end - scan);
    const size_t bomb_len = len + REPEATS * scan_len;
    uint8_t *bomb = malloc(bomb_len);
    cr_assert_not_null(bomb);
    memcpy(bomb, bytes, before);
    for (size_t i = 0; i < REPEATS; i++)
        memcpy(bomb + before + i * scan_len, scan, scan_len);
    memcpy(bomb + before + REPEATS * scan_len, scan, len - before);
    check_refused(bomb, bomb_len, "more than 100 scans");
    free(bomb);
    free(bytes);
}

/* ---- figures */

Test(image, psnr_is_the_textbooks)
{
    struct image a, b;

    fill(&a, 8, 8, 3);
    fill(&b, 8, 8, 3);
    cr_assert(isinf(image_psnr(&a, &b, 0)));
    for (int i = 0; i < 8 * 8 * 3; i++)
        b.data[i] = (uint8_t)(a.data[i] < 128 ? a.data[i] + 5 : a.data[i] - 5);
    cr_assert_float_eq(image_psnr(&a, &b, 0), 10 * log10(255.0 * 255.0 / 25), 1e-9);
    /* Only the first pixel differs: it is inside the border. */
    memcpy(b.data, a.data, 8 * 8 * 3);
    b.data[0] ^= 1;
    cr_assert(isfinite(image_psnr(&a, &b, 0)));
    cr_assert(isinf(image_psnr(&a, &b, 1)));
    cr_assert(isnan(image_psnr(&a, &b, 4)));
    cr_assert_eq(image_largest_difference(&a, &b), 1);
    b.data[8 * 8 * 3 - 1] = 255;
    a.data[8 * 8 * 3 - 1] = 3;
    cr_assert_eq(image_largest_difference(&a, &b), 252);
    cr_assert_eq(image_largest_difference(&b, &a), 252);
    b.cols = 7;
    cr_assert(isnan(image_psnr(&a, &b, 0)));
    cr_assert_eq(image_largest_difference(&a, &b), -1);
    image_done(&a);
    image_done(&b);
}

/* ---- EXIF: how the camera was held */

/* APP1 of a file that says nothing but its orientation, as Intel's or as Motorola's byte order. */
static size_t exif_marker(uint8_t to[64], int orientation, bool little)
{
    static const uint8_t head[] = { 0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0 };
    const uint8_t o = (uint8_t)orientation;
    const uint8_t intel[] = { 'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3,
                              0,   1,   0,  0, 0, o, 0, 0, 0, 0, 0,    0, 0 };
    const uint8_t motorola[] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0,
                                 3,   0,   0, 0,  1, 0, o, 0, 0, 0, 0, 0,    0 };
    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, little ? intel : motorola, sizeof intel);
    return sizeof head + sizeof intel;
}

/* `jpeg` with bytes put behind its first two. */
static uint8_t *with_marker(const uint8_t *jpeg, size_t len, const uint8_t *marker, size_t n)
{
    uint8_t *all = malloc(len + n);
    cr_assert_not_null(all);
    memcpy(all, jpeg, 2);
    memcpy(all + 2, marker, n);
    memcpy(all + 2 + n, jpeg + 2, len - 2);
    return all;
}

/* The stored picture's first row and first column are what the EXIF standard says of the upright
 * one: 1 top, left; 2 top, right; 3 bottom, right; 4 bottom, left; 5 left, top; 6 right, top;
 * 7 right, bottom; 8 left, bottom. */
static const uint8_t *stored_pixel(const struct image *stored, int orientation, int32_t r,
                                   int32_t c)
{
    const int32_t last_row = stored->rows - 1, last_col = stored->cols - 1;
    const int32_t at[9][2] = { { r, c },
                               { r, c },
                               { r, last_col - c },
                               { last_row - r, last_col - c },
                               { last_row - r, c },
                               { c, r },
                               { last_row - c, r },
                               { last_row - c, last_col - r },
                               { c, last_col - r } };
    const int32_t *p = at[orientation];
    return stored->data + ((size_t)p[0] * (size_t)stored->cols + (size_t)p[1]) * 3;
}

static void check_upright(const struct image *stored, const struct image *im, int orientation)
{
    const bool swaps = orientation >= 5;
    cr_assert_eq(im->rows, swaps ? stored->cols : stored->rows, "orientation %d", orientation);
    cr_assert_eq(im->cols, swaps ? stored->rows : stored->cols, "orientation %d", orientation);
    for (int32_t r = 0; r < im->rows; r++)
        for (int32_t c = 0; c < im->cols; c++)
            cr_assert_eq(memcmp(im->data + ((size_t)r * (size_t)im->cols + (size_t)c) * 3,
                                stored_pixel(stored, orientation, r, c), 3),
                         0, "orientation %d: pixel %d, %d", orientation, r, c);
}

Test(image, pictures_are_turned_as_exif_says)
{
    struct image drawn, stored, im;
    struct diag why = { "" };
    uint8_t *jpeg, marker[64];
    size_t len;

    fill(&drawn, 5, 7, 3);
    cr_assert_eq(image_encode_jpeg(&drawn, 90, &jpeg, &len), 0);
    cr_assert_eq(image_decode(&stored, jpeg, len, "plain", &why), 0, "%s", why.text);
    for (int orientation = 1; orientation <= 8; orientation++)
        for (int little = 0; little < 2; little++) {
            const size_t n = exif_marker(marker, orientation, little);
            uint8_t *all = with_marker(jpeg, len, marker, n);
            cr_assert_eq(image_decode(&im, all, len + n, "turned", &why), 0, "%s", why.text);
            check_upright(&stored, &im, orientation);
            image_done(&im);
            free(all);
        }
    image_done(&stored);
    image_done(&drawn);
    free(jpeg);
}

/* What EXIF data say that make no sense leaves the picture as it is. */
Test(image, broken_exif_turns_nothing)
{
    struct image drawn, stored, im;
    struct diag why = { "" };
    uint8_t *jpeg, marker[64];
    size_t len;

    fill(&drawn, 5, 7, 3);
    cr_assert_eq(image_encode_jpeg(&drawn, 90, &jpeg, &len), 0);
    cr_assert_eq(image_decode(&stored, jpeg, len, "plain", &why), 0, "%s", why.text);
    for (size_t broken = 10; broken < 36; broken++) {
        const size_t n = exif_marker(marker, 0, true);
        marker[broken] = 0xff;
        uint8_t *all = with_marker(jpeg, len, marker, n);
        cr_assert_eq(image_decode(&im, all, len + n, "broken", &why), 0, "%s", why.text);
        check_upright(&stored, &im, 1);
        image_done(&im);
        free(all);
    }
    image_done(&stored);
    image_done(&drawn);
    free(jpeg);
}
