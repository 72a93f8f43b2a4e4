#include <criterion/criterion.h>

#include "rule.h"

enum { MAX_LEN = 12, MAX_OUT = 9 };

/* The hull of what [out.lo, out.hi) reads, by trying every position; lo >= hi if nothing. */
static struct span brute_force(const struct rule *r, struct span out, int32_t len)
{
    struct span s = { len, 0 };
    for (int32_t o = out.lo; o < out.hi; o++)
        for (int32_t i = 0; i < len; i++)
            if (rule_reads(r, o, i)) {
                s.lo = i < s.lo ? i : s.lo;
                s.hi = i + 1 > s.hi ? i + 1 : s.hi;
            }
    return s;
}

/* Positions behind a range form one run without gaps, so clipping cannot leave slack. */
static bool has_no_gaps(const struct rule *r)
{
    switch (r->kind) {
    case RULE_WINDOW:
        return (r->dilation == 1 || r->kernel == 1) && r->stride <= r->kernel;
    case RULE_TRANSPOSED:
        return r->dilation == 1 || r->kernel == 1;
    case RULE_SHIFT:
        return r->step == 1 || r->step == -1;
    default:
        return true;
    }
}

/* Where taps have gaps, the range is exact only as long as nothing was clipped. */
static bool must_be_exact(const struct rule *r, struct span got, int32_t len)
{
    if (has_no_gaps(r))
        return true;
    return r->kind != RULE_TRANSPOSED && got.lo > 0 && got.hi < len;
}

static void check(const struct rule *r)
{
    for (int32_t len = 1; len <= MAX_LEN; len++)
        for (int32_t a = 0; a < MAX_OUT; a++)
            for (int32_t b = a + 1; b <= MAX_OUT; b++) {
                struct rule rule = *r;
                rule.len = len;
                const struct span out = { a, b };
                const struct span want = brute_force(&rule, out, len);
                const struct span got = reach_span(rule_reach(&rule), out, len);
                const bool none = want.lo >= want.hi;

                cr_assert(got.lo >= 0 && got.hi <= len);
                cr_assert(none || (got.lo <= want.lo && got.hi >= want.hi),
                          "rule %d, len %d, [%d, %d): too narrow", r->kind, len, a, b);
                if (must_be_exact(&rule, got, len))
                    cr_assert(none ? got.lo >= got.hi : got.lo == want.lo && got.hi == want.hi,
                              "rule %d, len %d, [%d, %d): too wide", r->kind, len, a, b);
            }
}

static void check_taps(enum rule_kind kind)
{
    for (int32_t kernel = 1; kernel <= 5; kernel++)
        for (int32_t stride = 1; stride <= 3; stride++)
            for (int32_t dilation = 1; dilation <= 3; dilation++)
                for (int32_t pad = 0; pad <= 4; pad++)
                    check(&(struct rule){ .kind = kind,
                                          .kernel = kernel,
                                          .stride = stride,
                                          .dilation = dilation,
                                          .pad = pad });
}

Test(reach, window) { check_taps(RULE_WINDOW); }

Test(reach, transposed) { check_taps(RULE_TRANSPOSED); }

Test(reach, shift_with_any_step)
{
    for (int32_t offset = -8; offset <= 20; offset++)
        for (int32_t step = -4; step <= 4; step++)
            if (step != 0)
                check(&(struct rule){ .kind = RULE_SHIFT, .offset = offset, .step = step });
}

Test(reach, the_rest)
{
    check(&(struct rule){ .kind = RULE_SAME });
    check(&(struct rule){ .kind = RULE_ALL });
    for (int32_t factor = 1; factor <= 5; factor++) {
        check(&(struct rule){ .kind = RULE_UP, .factor = factor });
        check(&(struct rule){ .kind = RULE_DOWN, .factor = factor });
    }
}

/* The largest values that a model can claim neither overflow nor hide what is read. */
Test(reach, extreme_arguments)
{
    const int32_t huge = INT32_MAX, len = BOX_MAX_EXTENT;
    const struct span end = { len - 1, len };

    struct span s = reach_span(reach_window(huge, 1, huge, 0), end, len);
    cr_assert(s.lo == len - 1 && s.hi == len);
    s = reach_span(reach_window(huge, huge, huge, huge), end, len);
    cr_assert(s.lo >= s.hi);
    s = reach_span(reach_window(huge, 1, huge, huge), (struct span){ 0, 1 }, len);
    cr_assert(s.lo == 0 && s.hi == len);
    s = reach_span(reach_transposed(huge, 1, huge, 0), end, len);
    cr_assert(s.lo == 0 && s.hi == len);
    s = reach_span(reach_shift(INT32_MIN, INT32_MIN), end, len);
    cr_assert(s.lo >= s.hi);
}

/* Half a pixel before the first is pixel -1, not 0. */
Test(reach, quotients_are_rounded_down)
{
    const struct span s = reach_span((struct reach){ 1, 2, -1, -1 }, (struct span){ 0, 1 }, 4);
    cr_assert(s.lo >= s.hi);
}

Test(reach, a_box_with_an_axis_in_padding_reads_nothing)
{
    const int32_t dim[AXES] = { 4, 4, 2 };
    const struct reach r[AXES] = { reach_window(1, 1, 1, 2), reach_same(), reach_all(2) };
    const struct box padding = { { 0, 0, 0 }, { 2, 4, 1 } }, edge = { { 1, 1, 0 }, { 4, 3, 1 } };
    const struct box behind_edge = { { 0, 1, 0 }, { 2, 3, 2 } };
    cr_assert(box_empty(reach_box(r, padding, dim)));
    cr_assert(box_empty(reach_box(r, box_none(), dim)));
    cr_assert(box_equal(reach_box(r, edge, dim), behind_edge));
}
