/* Any bytes as a message of any number of values, and any values through every mode that needs no
 * recipe. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_VALUES = 4096 };

/* The first two bytes say how many values, the rest is the message. */
static void try_decode(const uint8_t *data, size_t size, float *values)
{
    const struct codec_pixels rgb = { 3, 2, { 1, 2, 3 }, { 1, 2, 4 } };
    const size_t n = (size_t)(data[0] | data[1] << 8) % (MAX_VALUES + 1);
    if (codec_get(values, n, data + 2, size - 2, NULL) == 0 &&
        (data[2] == CODEC_Q8 || data[2] == CODEC_Q4))
        for (size_t i = 0; i < n; i++)
            if (!isfinite(values[i]))
                abort();
    codec_get(values, n, data + 2, size - 2, &rgb);
}

static void check(const uint8_t *msg, size_t len, size_t n, float *values)
{
    if (len > codec_bound(n) || codec_get(values, n, msg, len, NULL) != 0)
        abort();
}

static void try_encode(const uint8_t *data, size_t size, float *values)
{
    float in[MAX_VALUES];
    size_t n = size / sizeof(float);
    n = n < MAX_VALUES ? n : MAX_VALUES;
    memcpy(in, data, n * sizeof(float));
    uint8_t *msg = malloc(codec_bound(n));
    if (!msg)
        return;
    for (int mode = CODEC_F16; mode <= CODEC_Q4; mode++)
        check(msg, codec_put(msg, (enum codec_mode)mode, in, n), n, values);
    free(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float values[MAX_VALUES];
    if (size < 3)
        return 0;
    try_decode(data, size, values);
    try_encode(data, size, values);
    return 0;
}
