/* quant/fit.h - contexts learned from what a tensor's messages held: for calibration, not for
 * frames.  Allocates. */
#ifndef QUANT_FIT_H
#define QUANT_FIT_H

#include "quant/context.h"

/* Messages one behind the other, channel by channel. */
struct fit_samples {
    size_t channels; /* of the tensor */
    size_t places, cap;
    int8_t *level;   /* [channels][cap], -FIT_MAX_LEVEL..FIT_MAX_LEVEL; pads are 0 */
    int8_t *before;  /* the previous frame's, laid out the same, and `level` is the difference to
                      * them; NULL: none are kept */
    uint32_t *above; /* [cap]: place of the value above, 0 where there is none */
    bool *holds;     /* [cap]: a value, no pad */
};

enum { FIT_MAX_LEVEL = 127 };

/* Room for `cap` places.  Returns 0 or -ENOMEM; fit_samples_done() of zeros is fine. */
int fit_samples_init(struct fit_samples *s, size_t channels, size_t cap, bool with_before);
void fit_samples_done(struct fit_samples *s);

/* Adds the levels of channels [first, first + l->channels); others stay 0.  `before` is NULL
 * unless samples keep it, who then keep the differences.  What there is no room for is left out. */
void fit_samples_add(struct fit_samples *s, const struct levels *l, size_t first,
                     const struct levels *before);

/* Finds weights under which the samples are short: logistic regressions, the sources of each chosen
 * one after the other by how much they promise.  Differences to a previous frame have signs,
 * whether levels do or not.  Returns 0 or -ENOMEM; context_done() frees. */
int context_fit(struct context *x, const struct fit_samples *s, bool with_sign);

#endif
