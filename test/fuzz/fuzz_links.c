/* LINKS: whatever decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/links.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t nodes;
    uint8_t again[LINKS_BYTES];

    if (links_decode(&nodes, data, size) != 0)
        return 0;
    links_encode(nodes, again);
    if (size != sizeof again || memcmp(again, data, sizeof again) != 0)
        abort();
    return 0;
}
