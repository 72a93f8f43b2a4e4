/* quant/tq.h - levels by Elias gamma codes: no tables, quick where nearly all are 0.
 *
 * The stream of bits (quant/gamma.h), channel by channel:
 *
 *   per level that is not 0:  gamma(zeros before it + 1), gamma(its size), and, if values have a
 *                             sign, a bit that is 1 below 0
 *   gamma(zeros + 1) for those behind the last such level, if there are any
 *   zeros up to the next byte */
#ifndef QUANT_TQ_H
#define QUANT_TQ_H

#include "quant/levels.h"

enum { TQ_MAX_VALUES = 1 << 27 };

/* Returns the length, or SIZE_MAX when `cap` bytes are too few. */
size_t tq_put(uint8_t *to, size_t cap, const struct levels *l, bool with_sign);

/* Decodes any bytes.  Returns 0 or -EBADMSG. */
int tq_get(const struct levels *l, bool with_sign, const uint8_t *from, size_t len);

#endif
