/* daemon/trial.h - which way to send halos is fastest, by what frames took.
 *
 * Few bytes win on a slow network, cheap codes on a fast one, and no estimate knows both the
 * network and the processors.  So the ways that a model's calibration allows are tried on real
 * requests, one after the other: some frames to warm up, then the mean of a dozen without the two
 * shortest and longest, for a processor whose time is rationed makes some frames wait for all. What
 * is clearly slower than another is left early.  The first, calibrated one stays unless another is
 * faster by more than 5 %.
 *
 * Pure: no clock, no loop. */
#ifndef DAEMON_TRIAL_H
#define DAEMON_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "tiling/halo.h"

enum {
    TRIAL_WAYS = 5,
    TRIAL_WARM = 2,    /* frames that say nothing yet */
    TRIAL_FRAMES = 12, /* that are timed */
    TRIAL_SLOW = 3,    /* the same, of a way that is clearly slower */
    TRIAL_MOST = 60,   /* frames of one way, however few of them could be timed */
};

struct trial_way {
    enum halo halo;
    int32_t frames, timed;
    int64_t ns[TRIAL_FRAMES]; /* of the timed ones, shortest first */
};

/* Zeros: nothing was tried. */
struct trial {
    int32_t n, at; /* ways; the one that is being tried, n: all were */
    struct trial_way way[TRIAL_WAYS];
};

/* HALO_TQ, then HALO_F32, HALO_F16, and HALO_Q8 and HALO_Q4 as far as `within`, halo_bit()s, has
 * them. */
void trial_begin(struct trial *t, uint32_t within);

static inline bool trial_over(const struct trial *t) { return t->at == t->n; }
/* The way to try; once all were, the one to keep.  Not of zeros. */
enum halo trial_halo(const struct trial *t);

/* Not when over.  A frame came home by the way that is being tried, for which its client, or the
 * next one in line, waited `ns`; 0: nobody can tell, as it did not fly alone.  Returns whether that
 * was the way's last. */
bool trial_frame(struct trial *t, int64_t ns);
/* Not when over.  The way cannot be tried. */
void trial_skip(struct trial *t);

/* Of a frame by way `i`; 0: not known. */
int64_t trial_ns(const struct trial *t, int32_t i);

#endif
