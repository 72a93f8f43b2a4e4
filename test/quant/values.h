/* test/quant/values.h - messages to be: random values of every kind that networks make. */
#ifndef TEST_QUANT_VALUES_H
#define TEST_QUANT_VALUES_H

#include <stddef.h>

enum values_kind {
    VALUES_RELU,   /* most are 0, none is below */
    VALUES_SIGNED, /* a bell around 0 */
    VALUES_ZERO,
    VALUES_WILD, /* any finite floats */
    VALUES_KINDS
};

/* `to` is filled with the same values for the same seed. */
void values_fill(float *to, size_t n, enum values_kind kind, unsigned seed);

/* The largest magnitude. */
float values_largest(const float *values, size_t n);

#endif
