/* HELLO and HELLO_ACK: whatever decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const uint8_t *again, int len, const uint8_t *data, size_t size)
{
    if (len < 0 || (size_t)len != size || memcmp(again, data, size) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_hello m;
    uint8_t again[HELLO_MAX_BYTES];

    if (hello_decode(&m, data, size) == 0)
        expect_same(again, hello_encode(&m, again, sizeof again), data, size);
    if (hello_ack_decode(&m, data, size) == 0)
        expect_same(again, hello_ack_encode(&m, again, sizeof again), data, size);
    return 0;
}
