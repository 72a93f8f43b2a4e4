/* libsplit/calibrate.h - how coarse may halos be?  Chooses a recipe for every tensor that nodes
 * exchange, so that a frame takes the fewest bytes at a loss that the user allows.
 *
 * Errors of tensors add up (squared, relative, as libsplit/judge.h measures them).  So every tensor
 * is measured alone at a few steps, what lies between is interpolated, and a Lagrange multiplier
 * decides between bytes and error for all of them; the multiplier follows from the loss, which is
 * measured with all tensors coarse at once.  Contexts are learned from samples at the end, and
 * inputs that nothing was chosen by say what it really costs, and whether q8 and q4 would cost no
 * more than the budget, which a cluster with a fast network prefers.
 *
 * Steps are multiples of a tensor's standard deviation, thresholds 0.6 of a step. */
#ifndef LIBSPLIT_CALIBRATE_H
#define LIBSPLIT_CALIBRATE_H

#include "libsplit/halo_file.h"
#include "libsplit/judge.h"

struct calibrate_input {
    struct lab_input input;
    struct judge_truth truth;
    bool held_out; /* to verify by, not to choose by */
};

struct calibrate_options {
    struct lab_options lab;
    enum judge_goal goal;
    double peak;   /* GOAL_PICTURE: see judge_new() */
    double budget; /* loss of struct verdict */
    const char *budget_text;
    bool gamma;         /* no contexts: three times quicker, a third longer */
    bool video;         /* contexts of the previous frame, too; needs pixels */
    int64_t pixels_len; /* bytes of a picture */
    void (*progress)(void *ctx, double done); /* 0..1 */
    void *ctx;
};

enum { CALIBRATE_LEAST_INPUTS = 4 };

/* `n` inputs of one shape, at least CALIBRATE_LEAST_INPUTS that are not held out; without held out
 * ones the others verify.  Returns 0, -EINVAL (nodes exchange nothing, or too few inputs),
 * -ENOMEM or an error of a run, with `*why`; halo_file_done() frees. */
int calibrate(struct halo_file *f, const struct calibrate_options *o,
              const struct calibrate_input *input, int32_t n, struct diag *why);

#endif
