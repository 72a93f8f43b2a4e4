#include <criterion/criterion.h>

#include "rng.h"
#include "tiling/box.h"

enum { SIDE = 3 };

static bool holds(struct box b, int32_t r, int32_t c, int32_t k)
{
    return r >= b.lo[ROW] && r < b.hi[ROW] && c >= b.lo[COL] && c < b.hi[COL] && k >= b.lo[CHAN] &&
           k < b.hi[CHAN];
}

/* Calls `check` with every pair of boxes (empty ones too) on a cube of side SIDE. */
static void for_all_pairs(void (*check)(struct box a, struct box b))
{
    struct span span[(SIDE + 1) * (SIDE + 1)];
    int n = 0;
    for (int32_t lo = 0; lo <= SIDE; lo++)
        for (int32_t hi = lo; hi <= SIDE; hi++)
            if (lo < hi || lo == 1) /* one empty span stands for all */
                span[n++] = (struct span){ lo, hi };

    const int all = n * n * n;
    for (int i = 0; i < all; i++)
        for (int j = 0; j < all; j++) {
            const struct span *a[] = { &span[i % n], &span[i / n % n], &span[i / n / n] };
            const struct span *b[] = { &span[j % n], &span[j / n % n], &span[j / n / n] };
            struct box x, y;
            for (int axis = 0; axis < AXES; axis++) {
                x.lo[axis] = a[axis]->lo;
                x.hi[axis] = a[axis]->hi;
                y.lo[axis] = b[axis]->lo;
                y.hi[axis] = b[axis]->hi;
            }
            check(x, y);
        }
}

static void check_subtract(struct box a, struct box b)
{
    struct box out[BOX_SUBTRACT_MAX];
    const int n = box_subtract(a, b, out);
    cr_assert(n >= 0 && n <= BOX_SUBTRACT_MAX);
    for (int i = 0; i < n; i++)
        cr_assert_not(box_empty(out[i]));
    for (int32_t r = 0; r < SIDE; r++)
        for (int32_t c = 0; c < SIDE; c++)
            for (int32_t k = 0; k < SIDE; k++) {
                int times = 0;
                for (int i = 0; i < n; i++)
                    times += holds(out[i], r, c, k);
                cr_assert_eq(times, holds(a, r, c, k) && !holds(b, r, c, k));
            }
}

Test(box, subtraction_leaves_every_value_of_the_difference_once) { for_all_pairs(check_subtract); }

static void check_intersect(struct box a, struct box b)
{
    const struct box both = box_intersect(a, b);
    int64_t common = 0, left = 0;
    for (int32_t r = 0; r < SIDE; r++)
        for (int32_t c = 0; c < SIDE; c++)
            for (int32_t k = 0; k < SIDE; k++) {
                const bool in = holds(a, r, c, k) && holds(b, r, c, k);
                cr_assert_eq(holds(both, r, c, k), in);
                common += in;
                left += holds(a, r, c, k) && !in;
            }
    cr_assert_eq(box_values(both), common);
    cr_assert_eq(box_inside(a, b), left == 0);
    cr_assert_eq(box_equal(a, b), left == 0 && box_values(a) == box_values(b));
}

Test(box, intersection_inside_and_equal_agree_with_counting) { for_all_pairs(check_intersect); }

static void check_hull(struct box a, struct box b)
{
    const struct box hull = box_hull(a, b);
    cr_assert(box_inside(a, hull) && box_inside(b, hull));
    cr_assert_eq(box_empty(hull), box_empty(a) && box_empty(b));
    if (box_empty(hull))
        return;
    for (int x = 0; x < AXES; x++) { /* smallest: each face touches one of the two */
        cr_assert((!box_empty(a) && a.lo[x] == hull.lo[x]) || b.lo[x] == hull.lo[x]);
        cr_assert((!box_empty(a) && a.hi[x] == hull.hi[x]) || b.hi[x] == hull.hi[x]);
    }
}

Test(box, hull_is_the_smallest_box_that_holds_both) { for_all_pairs(check_hull); }

Test(box, pieces_come_in_the_stated_order)
{
    const struct box a = { { 0, 0, 0 }, { 9, 9, 9 } }, hole = { { 3, 3, 3 }, { 6, 6, 6 } };
    const struct box want[] = {
        { { 0, 0, 0 }, { 3, 9, 9 } }, { { 6, 0, 0 }, { 9, 9, 9 } }, { { 3, 0, 0 }, { 6, 3, 9 } },
        { { 3, 6, 0 }, { 6, 9, 9 } }, { { 3, 3, 0 }, { 6, 6, 3 } }, { { 3, 3, 6 }, { 6, 6, 9 } },
    };
    struct box out[BOX_SUBTRACT_MAX];
    cr_assert_eq(box_subtract(a, hole, out), BOX_SUBTRACT_MAX);
    for (int i = 0; i < BOX_SUBTRACT_MAX; i++)
        cr_assert(box_equal(out[i], want[i]), "piece %d", i);
}

Test(box, values_of_the_largest_box_do_not_overflow)
{
    const struct box b = { { 0, 0, 0 }, { BOX_MAX_EXTENT, 8, 1 } };
    cr_assert_eq(box_values(b), BOX_MAX_VALUES);
}
