#include <criterion/criterion.h>

#include "daemon/trial.h"

enum { EVERYTHING = 1 << HALO_Q8 | 1 << HALO_Q4 };

/* Frames of each way take so long, the first two of them three times that; returns how many
 * there were. */
static int try_all(struct trial *t, const int64_t ns[HALO_MODES])
{
    int frames = 0;
    for (bool more; !trial_over(t);) {
        const enum halo halo = trial_halo(t);
        int k = 0;
        do {
            more = !trial_frame(t, k < TRIAL_WARM ? 3 * ns[halo] : ns[halo] + k % 3 * 10);
            k++;
            cr_assert_leq(k, TRIAL_MOST);
        } while (more);
        frames += k;
    }
    return frames;
}

Test(trial, only_what_the_calibration_vouches_for_is_tried)
{
    static const enum halo all[] = { HALO_TQ, HALO_F32, HALO_F16, HALO_Q8, HALO_Q4 };
    struct trial t;
    trial_begin(&t, EVERYTHING);
    cr_assert_eq(t.n, 5);
    for (int i = 0; i < 5; i++) {
        cr_expect_eq(trial_halo(&t), all[i]);
        trial_skip(&t);
    }
    cr_expect(trial_over(&t));
    trial_begin(&t, 0);
    cr_expect_eq(t.n, 3, "of an older file");
    trial_begin(&t, 1 << HALO_Q8);
    cr_expect_eq(t.way[3].halo, HALO_Q8);
    cr_expect_eq(t.n, 4);
}

Test(trial, the_fastest_is_kept)
{
    const int64_t fast_net[HALO_MODES] = {
        [HALO_TQ] = 9000, [HALO_F32] = 8000, [HALO_F16] = 7000, [HALO_Q8] = 6000, [HALO_Q4] = 6500
    };
    const int64_t slow_net[HALO_MODES] = { [HALO_TQ] = 9000,
                                           [HALO_F32] = 40000,
                                           [HALO_F16] = 25000,
                                           [HALO_Q8] = 13000,
                                           [HALO_Q4] = 11000 };
    struct trial t;
    trial_begin(&t, EVERYTHING);
    cr_expect_eq(try_all(&t, fast_net), 5 * (TRIAL_WARM + TRIAL_FRAMES));
    cr_expect_eq(trial_halo(&t), HALO_Q8);
    cr_expect_eq(trial_ns(&t, 0), 9010, "without the first two, and those at the ends");

    trial_begin(&t, EVERYTHING);
    const int frames = try_all(&t, slow_net);
    cr_expect_eq(trial_halo(&t), HALO_TQ);
    cr_expect_eq(frames, 3 * (TRIAL_WARM + TRIAL_FRAMES) + 2 * (TRIAL_WARM + TRIAL_SLOW),
                 "f32 and f16 are left early: %d", frames);
}

Test(trial, a_little_faster_than_what_was_calibrated_is_not_enough)
{
    int64_t ns[HALO_MODES] = {
        [HALO_TQ] = 100000, [HALO_F32] = 97000, [HALO_F16] = 96000, [HALO_Q8] = 96000
    };
    struct trial t;
    trial_begin(&t, 1 << HALO_Q8);
    try_all(&t, ns);
    cr_expect_eq(trial_halo(&t), HALO_TQ);
    ns[HALO_F16] = 95000;
    trial_begin(&t, 1 << HALO_Q8);
    try_all(&t, ns);
    cr_expect_eq(trial_halo(&t), HALO_F16);
}

Test(trial, frames_that_did_not_fly_alone_say_nothing)
{
    struct trial t;
    trial_begin(&t, 0);
    for (int i = 0; i < 3 * TRIAL_MOST; i++) {
        cr_assert(!trial_over(&t), "after %d frames", i);
        cr_expect_eq(trial_frame(&t, 0), i % TRIAL_MOST == TRIAL_MOST - 1);
    }
    cr_expect(trial_over(&t));
    cr_expect_eq(trial_halo(&t), HALO_TQ, "nobody knows better");
    cr_expect_eq(trial_ns(&t, 0), 0);
}

/* Lost packets on one side, nothing to compute on the other. */
Test(trial, frames_out_of_line_decide_nothing)
{
    struct trial t;
    trial_begin(&t, 0);
    for (int i = 0; i < TRIAL_WARM + TRIAL_FRAMES; i++)
        trial_frame(&t, i == 5 || i == 9 ? 200000 : 1000);
    for (int i = 0; i < TRIAL_WARM + TRIAL_FRAMES; i++)
        trial_frame(&t, i == 5 || i == 9 ? 10 : 1100);
    trial_skip(&t);
    cr_expect_eq(trial_ns(&t, 0), 1000);
    cr_expect_eq(trial_ns(&t, 1), 1100);
    cr_expect_eq(trial_halo(&t), HALO_TQ);
}

/* Most frames of the second way are quicker, but more of them have to wait. */
Test(trial, frames_that_wait_count)
{
    struct trial t;
    trial_begin(&t, 0);
    for (int i = 0; i < TRIAL_WARM + TRIAL_FRAMES; i++)
        trial_frame(&t, 11000);
    for (int i = 0; i < TRIAL_WARM + TRIAL_FRAMES; i++)
        trial_frame(&t, i % 2 == 0 ? 9000 : 19000);
    trial_skip(&t);
    cr_expect_eq(trial_halo(&t), HALO_TQ);
}

Test(trial, what_cannot_be_tried_is_not_kept)
{
    struct trial t;
    trial_begin(&t, 1 << HALO_Q8);
    for (int i = 0; i < TRIAL_WARM + TRIAL_FRAMES; i++)
        trial_frame(&t, 1000);
    trial_frame(&t, 10);
    trial_frame(&t, 10);
    trial_frame(&t, 10); /* timed, and then a node refuses it */
    trial_skip(&t);
    trial_skip(&t);
    for (int i = 0; i < TRIAL_WARM + TRIAL_FRAMES; i++)
        trial_frame(&t, 900);
    cr_expect(trial_over(&t));
    cr_expect_eq(trial_halo(&t), HALO_Q8);
    cr_expect_eq(trial_ns(&t, 1), 0);
}
