/* Headers: whatever decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header h;
    uint8_t again[HEADER_BYTES];

    if (size != HEADER_BYTES || header_decode(&h, data) != 0)
        return 0;
    header_encode(&h, again);
    if (memcmp(again, data, HEADER_BYTES) != 0 || h.length > header_cap(h.type))
        abort();
    return 0;
}
