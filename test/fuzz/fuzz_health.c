/* HEALTH: whatever decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/health.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_health m;
    uint8_t again[HEALTH_BYTES];

    if (health_decode(&m, data, size) != 0)
        return 0;
    health_encode(&m, again);
    if (memcmp(again, data, sizeof again) != 0)
        abort();
    return 0;
}
