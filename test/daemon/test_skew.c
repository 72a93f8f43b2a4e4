#include <criterion/criterion.h>

#include "daemon/skew.h"

enum { MS = 1000000 };

/* splitmix64: the same on every machine. */
struct rng {
    uint64_t state;
};

static uint64_t rng_next(struct rng *g)
{
    uint64_t z = g->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint32_t rng_below(struct rng *g, uint32_t n) { return (uint32_t)(rng_next(g) % n); }

/* One exchange with a peer whose clock is `ahead` of ours, from `now` on.  Returns when it ended.
 */
static int64_t exchange(struct skew *s, struct rng *g, int64_t now, int64_t ahead, uint32_t way_ns)
{
    const int64_t there = now + 1 + rng_below(g, way_ns), held = rng_below(g, 100 * MS);
    const int64_t back = there + held + 1 + rng_below(g, way_ns);
    skew_add(s, now, there + ahead, there + held + ahead, back);
    return back;
}

/* However the time on the way is shared out, the truth is within the error. */
Test(skew, the_error_holds)
{
    struct rng g = { 7 };
    for (int round = 0; round < 2000; round++) {
        struct skew s = { 0 };
        const int64_t ahead = (int64_t)(rng_next(&g) >> 4) - ((int64_t)1 << 59);
        int64_t now = (int64_t)(rng_next(&g) >> 5), offset, error;
        cr_assert_not(skew_best(&s, now, &offset, &error));
        for (uint32_t i = 0; i <= rng_below(&g, 3 * SKEW_SAMPLES); i++) {
            now = exchange(&s, &g, now, ahead, 10 * MS);
            cr_assert(skew_best(&s, now, &offset, &error));
            cr_assert_geq(error, 0);
            cr_assert_leq(error, 10 * MS + 1);
            cr_assert(offset - ahead <= error && ahead - offset <= error);
        }
    }
}

Test(skew, the_shortest_exchange_counts_until_it_is_old)
{
    struct skew s = { 0 };
    int64_t offset, error;

    skew_add(&s, 0, 5000, 5000, 100);             /* 50 off at most */
    skew_add(&s, 1 * MS, 1 * MS, 1 * MS, 9 * MS); /* 4 ms off at most */
    cr_assert(skew_best(&s, 9 * MS, &offset, &error));
    cr_assert_eq(offset, 4950);
    cr_assert_lt(error, 1000 + 9 * MS / 1000000 * SKEW_DRIFT_PPM);
    /* A minute later it may be 6 ms off: the next counts. */
    skew_add(&s, 60000LL * MS, 60000LL * MS, 60000LL * MS, 60002LL * MS);
    cr_assert(skew_best(&s, 60002LL * MS, &offset, &error));
    cr_assert_eq(offset, -1 * MS);
    cr_assert_eq(error, 1 * MS + 1);
}

Test(skew, what_cannot_be_is_left_out)
{
    struct skew s = { 0 };
    int64_t offset, error;

    skew_add(&s, 100, 0, 0, 99);    /* answered before it was asked */
    skew_add(&s, 0, 100, 99, 1000); /* held for less than no time */
    skew_add(&s, 0, 100, 300, 199); /* held for longer than it took */
    skew_add(&s, (int64_t)1 << 61, 0, (int64_t)1 << 61, 0);
    skew_add(&s, 0, (int64_t)1 << 61, 0, (int64_t)1 << 61);
    cr_assert_not(skew_best(&s, 0, &offset, &error));
}
