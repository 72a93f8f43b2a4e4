#include "libsplit/nms.h"

#include <criterion/criterion.h>
#include <string.h>

#include "test/tiling/rng.h"

static struct detection box(float row, float col, float row_end, float col_end, float score,
                            int32_t index)
{
    return (struct detection){ row, col, row_end, col_end, score, index, 0, "" };
}

Test(nms, iou_of_known_boxes)
{
    const struct detection a = box(0, 0, 10, 10, 1, 0), half = box(0, 5, 10, 15, 1, 0),
                           inner = box(2, 2, 7, 7, 1, 0), beside = box(0, 10, 10, 20, 1, 0),
                           far = box(50, 50, 60, 60, 1, 0), turned = box(10, 10, 0, 0, 1, 0);

    cr_assert_float_eq(nms_iou(&a, &a), 1, 1e-6);
    cr_assert_float_eq(nms_iou(&a, &half), 50.0 / 150, 1e-6);
    cr_assert_float_eq(nms_iou(&inner, &a), 25.0 / 100, 1e-6);
    cr_assert_eq(nms_iou(&a, &beside), 0);
    cr_assert_eq(nms_iou(&a, &far), 0);
    cr_assert_eq(nms_iou(&a, &turned), 0);
}

static struct detection random_box(struct rng *r)
{
    const int32_t row = rng_int(r, 0, 39), col = rng_int(r, 0, 39);
    return box((float)row, (float)col, (float)(row + 1 + rng_int(r, 0, 19)),
               (float)(col + 1 + rng_int(r, 0, 19)), (float)rng_int(r, 0, 49) / 50,
               rng_int(r, 0, 2));
}

static int is_same(const struct detection *a, const struct detection *b)
{
    return a->row == b->row && a->col == b->col && a->row_end == b->row_end &&
           a->col_end == b->col_end && a->score == b->score && a->index == b->index &&
           a->place == b->place;
}

static int is_among(const struct detection *all, int32_t n, const struct detection *d)
{
    for (int32_t i = 0; i < n; i++)
        if (is_same(&all[i], d))
            return 1;
    return 0;
}

/* What is kept falls in score and does not overlap; what is dropped is overlapped by something
 * kept that is no worse. */
Test(nms, keeps_the_best_of_each_heap)
{
    struct rng r = { 7 };
    enum { N = 60 };

    for (int round = 0; round < 200; round++) {
        struct detection all[N] = { 0 }, d[N];
        const int32_t n = rng_int(&r, 0, N);
        const float iou = (float)rng_int(&r, 0, 9) / 10;
        for (int32_t i = 0; i < n; i++)
            all[i] = random_box(&r);
        memcpy(d, all, sizeof all);
        const int32_t kept = nms(d, n, iou, N);
        for (int32_t i = 0; i < kept; i++) {
            cr_assert(is_among(all, n, &d[i]));
            cr_assert(i == 0 || d[i - 1].score >= d[i].score);
            for (int32_t j = 0; j < i; j++)
                cr_assert(d[i].index != d[j].index || nms_iou(&d[i], &d[j]) <= iou);
        }
        for (int32_t i = 0; i < n; i++) {
            int covered = is_among(d, kept, &all[i]);
            for (int32_t j = 0; j < kept; j++)
                covered |= d[j].index == all[i].index && d[j].score >= all[i].score &&
                           nms_iou(&d[j], &all[i]) > iou;
            cr_assert(covered, "box %d of round %d is lost", i, round);
        }
    }
}

Test(nms, order_of_candidates_does_not_matter)
{
    struct rng r = { 11 };
    struct detection a[40], b[40];

    for (int i = 0; i < 40; i++)
        a[i] = random_box(&r);
    for (int i = 0; i < 40; i++)
        b[i] = a[39 - i];
    const int32_t n = nms(a, 40, 0.3f, 40);
    cr_assert_eq(nms(b, 40, 0.3f, 40), n);
    for (int32_t i = 0; i < n; i++)
        cr_assert(is_same(&a[i], &b[i]), "box %d differs", i);
}

/* As ONNX counts boxes. */
Test(nms, of_equal_scores_the_lower_place_comes_first)
{
    struct detection d[] = { box(0, 0, 1, 1, 0.5f, 0), box(9, 9, 10, 10, 0.5f, 0),
                             box(5, 5, 6, 6, 0.5f, 0) };

    for (int32_t i = 0; i < 3; i++)
        d[i].place = 2 - i;
    cr_assert_eq(nms(d, 3, 0.5f, 3), 3);
    for (int32_t i = 0; i < 3; i++)
        cr_assert_eq(d[i].place, i);
}

Test(nms, limit_keeps_the_best)
{
    struct detection d[] = { box(0, 0, 1, 1, 0.1f, 0), box(5, 5, 6, 6, 0.9f, 0),
                             box(9, 9, 10, 10, 0.5f, 0) };

    cr_assert_eq(nms(d, 3, 0.5f, 2), 2);
    cr_assert_float_eq(d[0].score, 0.9f, 0);
    cr_assert_float_eq(d[1].score, 0.5f, 0);
    cr_assert_eq(nms(NULL, 0, 0.5f, 2), 0);
}
