/* libsplit/functions.h - the functions of one and two numbers that have no loop of their own.
 *
 * Rare enough that a call per value does not matter. */
#ifndef LIBSPLIT_FUNCTIONS_H
#define LIBSPLIT_FUNCTIONS_H

#include "libsplit/graph.h"

/* `a` and `b` are those of struct act.  NULL for the kinds before ACT_ABS and for those that have
 * vector code (libsplit/simd.h): ERF, MISH, GELU.
 *
 * SIGN: -1, 0, 1.  ROUND: halves to even.  NOT: x == 0.  TRUNCATE: towards 0.  ELU: x < 0 ? a (e^x
 * - 1) : x. CELU: max(x, 0) + min(a (e^(x/a) - 1), 0).  SELU: b times ELU.  SOFTPLUS: log(1 + e^x).
 * SOFTSIGN: x / (1 + |x|).  MISH: x tanh(softplus(x)).  GELU: x/2 (1 + erf(x / sqrt 2)), and
 * GELU_TANH its approximation.  THRESHOLDED_RELU: x > a ? x : 0.  SHRINK: x < -a ? x + b :
 * x > a ? x - b : 0. */
typedef float (*act_fn)(float x, float a, float b);
act_fn act_function(enum act_kind kind);

/* NULL for the kinds before BINARY_POW.  PRELU: x < 0 ? y x : x.  Comparisons and logic yield
 * 0 or 1; what is not 0 is true.  MOD: what a division that rounds down leaves; FMOD: towards 0. */
typedef float (*binary_fn)(float x, float y);
binary_fn binary_function(enum binary_kind kind);

#endif
