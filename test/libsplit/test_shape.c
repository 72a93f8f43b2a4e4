#include "libsplit/shape.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 3000, MAX_VALUES = 4096 };

/* Where each value of row-major order lies in memory. */
static void places(const struct shape *s, int32_t *place)
{
    float onnx[MAX_VALUES], nhwc[MAX_VALUES];
    const int64_t n = shape_values(s);
    for (int64_t i = 0; i < n; i++)
        nhwc[i] = (float)i;
    shape_to_onnx(s, onnx, nhwc);
    for (int64_t i = 0; i < n; i++)
        place[i] = (int32_t)onnx[i];
}

/* Extents of 1 are common, so that relabelling happens. */
static struct shape random_shape(unsigned *seed)
{
    int32_t dim[SHAPE_MAX_RANK];
    const int32_t rank = rand_r(seed) % 6;
    for (int32_t i = 0; i < rank; i++)
        dim[i] = rand_r(seed) % 3 ? 1 + rand_r(seed) % 4 : 1;
    struct shape s = shape_make(rank, dim);
    for (int a = 0; a < AXES; a++)
        s.axis[a] = (int8_t)(rank && rand_r(seed) % 4 ? rand_r(seed) % rank : -1);
    for (int a = 0; a < AXES; a++)
        for (int b = 0; b < a; b++)
            if (s.axis[a] == s.axis[b])
                s.axis[a] = -1;
    return s;
}

Test(shape, usual_axes)
{
    const int32_t dim[] = { 2, 3, 4, 5, 6 };
    struct shape s = shape_make(4, dim);
    cr_assert_eq(shape_len(&s, CHAN), 3);
    cr_assert_eq(shape_len(&s, ROW), 4);
    cr_assert_eq(shape_len(&s, COL), 5);
    cr_assert_eq(shape_batch(&s), 2);
    s = shape_make(5, dim);
    cr_assert_eq(shape_batch(&s), 6);
    cr_assert_eq(shape_len(&s, CHAN), 4);
    s = shape_make(3, dim);
    cr_assert_eq(shape_len(&s, CHAN), 3);
    cr_assert_eq(shape_len(&s, ROW), 4);
    cr_assert_eq(shape_len(&s, COL), 1);
    s = shape_make(1, dim);
    cr_assert_eq(shape_len(&s, CHAN), 2);
    s = shape_make(0, dim);
    cr_assert_eq(shape_values(&s), 1);
    cr_assert_eq(shape_batch(&s), 1);
    s = shape_make_last(4, dim);
    cr_assert_eq(shape_len(&s, CHAN), 5);
    cr_assert_eq(shape_len(&s, ROW), 3);
    s = shape_make_map(3, dim);
    cr_assert_eq(shape_batch(&s), 1);
}

Test(shape, memory_is_rows_columns_channels)
{
    const int32_t dim[] = { 2, 3, 2, 2 };
    const struct shape s = shape_make(4, dim);
    float onnx[24], nhwc[24];
    for (int i = 0; i < 24; i++)
        onnx[i] = (float)i;
    shape_from_onnx(&s, nhwc, onnx);
    for (int b = 0; b < 2; b++)
        for (int c = 0; c < 3; c++)
            for (int y = 0; y < 2; y++)
                for (int x = 0; x < 2; x++)
                    cr_assert_eq(nhwc[((b * 2 + y) * 2 + x) * 3 + c],
                                 (float)(((b * 3 + c) * 2 + y) * 2 + x));
}

Test(shape, there_and_back)
{
    unsigned seed = 1;
    for (int round = 0; round < ROUNDS; round++) {
        const struct shape s = random_shape(&seed);
        const int64_t n = shape_values(&s);
        float onnx[MAX_VALUES], nhwc[MAX_VALUES], back[MAX_VALUES];
        for (int64_t i = 0; i < n; i++) {
            onnx[i] = (float)i;
            nhwc[i] = -1;
        }
        shape_from_onnx(&s, nhwc, onnx);
        shape_to_onnx(&s, back, nhwc);
        cr_assert_arr_eq(back, onnx, (size_t)n * sizeof *onnx);
    }
}

/* Any part of any image is what shape_from_onnx() puts there. */
Test(shape, parts_are_of_the_whole)
{
    unsigned seed = 3;
    for (int round = 0; round < ROUNDS; round++) {
        const struct shape s = random_shape(&seed);
        const int32_t dim[AXES] = { shape_len(&s, ROW), shape_len(&s, COL), shape_len(&s, CHAN) };
        float onnx[MAX_VALUES], nhwc[MAX_VALUES], value;
        uint8_t got[4 * MAX_VALUES + 3], *bytes = got + round % 4;
        for (int64_t i = 0; i < shape_values(&s); i++)
            onnx[i] = (float)i;
        shape_from_onnx(&s, nhwc, onnx);
        cr_assert_eq(shape_in_order(&s),
                     memcmp(nhwc, onnx, (size_t)shape_values(&s) * sizeof *onnx) == 0);
        const int32_t image = rand_r(&seed) % shape_batch(&s);
        struct box part;
        for (int a = 0; a < AXES; a++) {
            part.lo[a] = rand_r(&seed) % dim[a];
            part.hi[a] = part.lo[a] + 1 + rand_r(&seed) % (dim[a] - part.lo[a]);
        }
        shape_part_from_onnx(&s, image, part, bytes, onnx);
        for (int32_t r = part.lo[ROW]; r < part.hi[ROW]; r++)
            for (int32_t c = part.lo[COL]; c < part.hi[COL]; c++)
                for (int32_t k = part.lo[CHAN]; k < part.hi[CHAN]; k++, bytes += 4) {
                    memcpy(&value, bytes, sizeof value);
                    cr_assert_eq(value,
                                 nhwc[((image * dim[ROW] + r) * dim[COL] + c) * dim[CHAN] + k]);
                }
    }
}

Test(shape, relabels_if_and_only_if_nothing_moves)
{
    unsigned seed = 2;
    int yes = 0, no = 0;
    static int32_t p[MAX_VALUES], q[MAX_VALUES];
    for (int round = 0; round < 40 * ROUNDS; round++) {
        const struct shape a = random_shape(&seed), b = random_shape(&seed);
        if (shape_values(&a) != shape_values(&b))
            continue;
        places(&a, p);
        places(&b, q);
        const bool same = memcmp(p, q, (size_t)shape_values(&a) * sizeof *p) == 0;
        /* Equal places under other extents of rows, columns and channels are a move too: boxes of
         * one are no boxes of the other. */
        const bool expected = same && shape_same_memory(&a, &b);
        cr_assert_eq(shape_relabels(&a, &b), expected);
        yes += expected;
        no += !expected;
    }
    cr_assert_gt(yes, 100);
    cr_assert_gt(no, 100);
}

Test(shape, text)
{
    char text[SHAPE_TEXT_BYTES];
    struct shape s = shape_make(4, (int32_t[]){ 1, 3, 224, 224 });
    cr_assert_str_eq(shape_text(&s, text), "1x3x224x224");
    s = shape_make(0, NULL);
    cr_assert_str_eq(shape_text(&s, text), "scalar");
    int32_t dim[SHAPE_MAX_RANK];
    for (int i = 0; i < SHAPE_MAX_RANK; i++)
        dim[i] = INT32_MAX;
    s = shape_make(SHAPE_MAX_RANK, dim);
    cr_assert_lt(strlen(shape_text(&s, text)), SHAPE_TEXT_BYTES);
}
