/* quant/half.h - single <-> half precision (IEEE 754 binary16), without branches, so that
 * compilers turn loops over them into vectors on every machine. */
#ifndef QUANT_HALF_H
#define QUANT_HALF_H

#include <stdint.h>
#include <string.h>

/* The largest half; what rounds beyond it becomes infinite. */
#define HALF_MAX 65504.0F

static inline uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounds to the nearest half, ties to even.  NaN becomes a quiet NaN. */
static inline uint16_t half_of(float value)
{
    const uint32_t bits = float_bits(value), sign = bits & 0x80000000U, size = bits ^ sign;
    /* Below the normal halves, 0.5 has their unit in its last place: the addition rounds. */
    const uint32_t small = float_bits(bits_float(size) + 0.5F) - float_bits(0.5F);
    /* Moves the exponent's bias from 127 to 15 and rounds away 13 bits of the fraction. */
    const uint32_t normal = (size - (112U << 23) + 0xFFF + ((size >> 13) & 1)) >> 13;
    const uint32_t beyond = size > 0x7F800000U ? 0x7E00U : 0x7C00U;
    const uint32_t finite = size < (113U << 23) ? small : normal;
    return (uint16_t)(sign >> 16 | (size < (143U << 23) ? finite : beyond));
}

/* Exact. */
static inline float half_value(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000U) << 16, size = (uint32_t)(half & 0x7FFFU) << 13;
    /* With the exponent of the smallest normal half, a fraction loses its hidden bit again. */
    const uint32_t small = float_bits(bits_float(size + (113U << 23)) - bits_float(113U << 23));
    const uint32_t normal = size + (112U << 23);
    const uint32_t finite = size < (1U << 23) ? small : normal;
    return bits_float(sign | (size < (31U << 23) ? finite : size + (224U << 23)));
}

#endif
