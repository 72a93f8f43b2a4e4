/* libsplit/judge.h - what it costs a network's answers that halos are coarse.
 *
 * One node's answers are the reference.  Errors of different tensors add up as squares of
 *
 *   classes   what the answers differ by as logits, less their mean (behind a softmax: logarithms)
 *   pictures  values of the first output
 *   others    values of all outputs
 *
 * relative to the reference.  What the user asked for is a loss: points of accuracy (without
 * labels: of answers that change), dB, or per cent of that relative error.  A hundred inputs cannot
 * tell half a point, so the loss of a classifier is an expectation: were the values of the eight
 * best classes to sway independently and as far as was seen, how often would another class
 * be the best, and is it the right one?  What was really lost counts where it is more than that by
 * two standard errors.  dB are those of the values that halos reach: the rest of a picture is
 * exact, and would hide its seams. */
#ifndef LIBSPLIT_JUDGE_H
#define LIBSPLIT_JUDGE_H

#include "libsplit/diag.h"
#include "libsplit/lab.h"

enum judge_goal { GOAL_CLASSES, GOAL_PICTURE, GOAL_ERROR };

/* What is right for one input. */
struct judge_truth {
    int32_t label;     /* index of the right class in the first output; below 0: unknown */
    const float *want; /* GOAL_PICTURE: the values that it should have; NULL: unknown */
};

struct verdict {
    int32_t inputs;
    double error;            /* relative, root of the mean square */
    double loss;             /* as above */
    double agreement;        /* classes: 0..1 stayed the same; else NAN */
    double drop, drop_error; /* points or dB that were really lost, and its standard error; NAN */
};

struct judge;

/* For `n` inputs of a lab's network.  `peak` is the largest value of a picture.  `truth` is [n],
 * and the pictures in it are kept.  Returns 0 or -ENOMEM. */
int judge_new(struct judge **j, enum judge_goal goal, const struct graph *g, int32_t n,
              const struct judge_truth *truth, double peak);
void judge_free(struct judge *j);

/* The lab's last answer is the reference for input `i`. */
void judge_refer(struct judge *j, int32_t i, const struct lab *l);

/* Forgets the answers so far. */
void judge_begin(struct judge *j);
/* The lab's last answer is one for input `i`, which has a reference. */
void judge_add(struct judge *j, int32_t i, const struct lab *l);
struct verdict judge_end(const struct judge *j);

#endif
