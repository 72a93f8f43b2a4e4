/* test/libsplit/pattern.h - a picture that a formula gives, so that tables made by other
 * programs can refer to it. */
#ifndef TEST_LIBSPLIT_PATTERN_H
#define TEST_LIBSPLIT_PATTERN_H

#include <stdint.h>

static inline uint8_t pattern(int32_t row, int32_t col, int32_t channel)
{
    return (uint8_t)(row * 37 + col * 59 + channel * 101 + row * col % 23 * 7);
}

#endif
