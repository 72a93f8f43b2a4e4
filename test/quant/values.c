#include "test/quant/values.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* xorshift32; `state` is not 0. */
static uint32_t next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static float uniform(uint32_t *state) { return (float)(next(state) >> 8) * 0x1p-24F; }

/* Nearly normal, of standard deviation 1. */
static float bell(uint32_t *state)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform(state);
    return sum;
}

static float any_finite(uint32_t *state)
{
    for (;;) {
        const uint32_t bits = next(state);
        float value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value))
            return value;
    }
}

void values_fill(float *to, size_t n, enum values_kind kind, unsigned seed)
{
    uint32_t state = seed * 2654435761U + 1;
    for (size_t i = 0; i < n; i++)
        switch (kind) {
        case VALUES_RELU:
            to[i] = fmaxf(0, bell(&state) - 1);
            break;
        case VALUES_SIGNED:
            to[i] = bell(&state);
            break;
        case VALUES_WILD:
            to[i] = any_finite(&state);
            break;
        case VALUES_ZERO:
        case VALUES_KINDS:
            to[i] = 0;
            break;
        }
}

float values_largest(const float *values, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(values[i]));
    return largest;
}
