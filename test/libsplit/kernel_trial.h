/* test/libsplit/kernel_trial.h - one operator in a network of its own, run by its kernel.
 *
 * Every kernel is held against the plain double-precision reference of net.h, and against itself:
 * a map computed in pieces must be the map computed at once. */
#ifndef TEST_LIBSPLIT_KERNEL_TRIAL_H
#define TEST_LIBSPLIT_KERNEL_TRIAL_H

#include "libsplit/kernel.h"
#include "net.h"

/* A network of inputs and one operator, ready to run. */
struct trial {
    struct net *net;
    struct geometry geo;
    float *input[NET_MAX_PORTS];
    double *want[2 * NET_MAX_OPS];
    float *scratch;
};

void trial_init(struct trial *t, struct net *net);
void trial_done(struct trial *t);
/* After something was written to the inputs. */
void trial_again(struct trial *t);

/* Runs `region` of the last operator, all images, into the whole tensor `out`.  `gap` floats
 * lie between output pixels and must stay as they are. */
void trial_compute(const struct trial *t, struct box region, ptrdiff_t gap, float *out);
/* Exactly the values of `box`, all images, in memory of exactly that size: view.data is the
 * caller's to free(). */
struct view trial_crop(const struct tensor *x, const float *values, struct box box);
/* Computes the last operator whole, in random bands of rows, and in random boxes. */
void trial_check(const struct trial *t, const char *what);
/* All of this once; also ends the net. */
void trial_run(struct net *n, const char *what);

/* Random networks of one kind. */
struct trial_kind {
    const char *what;
    uint64_t seeds;
    void (*make)(struct net *n, uint64_t seed);
    void (*feed)(const struct net *n, float *const *input); /* changes the random inputs, or NULL */
};
void trial_many(const struct trial_kind *kind);

/* Extents up to these. */
void trial_dims(struct net *n, int32_t space, int32_t channels, int32_t dim[AXES]);
int32_t trial_input(struct net *n, const int32_t dim[AXES], int32_t most_images);
struct op *trial_op(struct net *n, enum op_type type, int32_t in, const int32_t dim[AXES]);
int32_t trial_one_or(struct net *n, int32_t len); /* 1 at times: broadcasting */
/* A feed: values of few kinds, so that the first and the last of equal ones differ. */
void trial_coarse(const struct net *n, float *const *input);

#endif
