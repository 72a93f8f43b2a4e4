/* quant/tq.h - CODEC_TQ: few levels, and short codes for the many zeros.
 *
 * Threshold and quantizer are one object (struct codec_quantizer): the level of a value x is 0
 * below the dead zone d, else floor(|x| / step - d) + 1.  Levels are coded channel by channel,
 * as zeros gather where a channel sees nothing.  The stream of bits (quant/gamma.h):
 *
 *   gamma(channels)
 *   per level that is not 0:  gamma(zeros before it + 1), gamma(level), and, if the message is
 *                             signed, a bit that is 1 below 0
 *   gamma(zeros + 1) for those behind the last such level, if there are any
 *   zeros up to the next byte */
#ifndef QUANT_TQ_H
#define QUANT_TQ_H

#include "quant/codec.h"

enum { TQ_HEAD = 10, TQ_MAX_VALUES = 1 << 27, TQ_MAX_LEVEL = 32767 };

/* Encodes values of range `r` into `to`, which has room for codec_bound(n).  Returns the length,
 * or 0 where another mode has to serve: the values, their number or the quantizer are out of
 * range, or the message would be longer than CODEC_F16's. */
size_t tq_put(uint8_t *restrict to, const float *restrict values, size_t n, size_t channels,
              const struct codec_quantizer *q, const struct codec_range *r);

/* Decodes any bytes after the mode byte into `n` values.  Returns 0 or -EBADMSG. */
int tq_get(float *restrict values, size_t n, const uint8_t *restrict msg, size_t len);

#endif
