/* PLAN and PLAN_ACK: whatever decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const uint8_t *again, int len, const uint8_t *data, size_t size)
{
    if (len < 0 || (size_t)len != size || memcmp(again, data, size) != 0)
        abort();
}

static void try_plan(const uint8_t *data, size_t size, uint8_t *again)
{
    struct msg_plan m;

    if (plan_msg_decode(&m, data, size) != 0)
        return;
    if (plan_msg_bytes(&m) != size)
        abort();
    expect_same(again, plan_msg_encode(&m, again, size), data, size);
    plan_msg_done(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_plan_ack ack;
    uint8_t *again = malloc(size + 1);

    if (!again)
        return 0;
    try_plan(data, size, again);
    if (plan_ack_decode(&ack, data, size) == 0)
        expect_same(again, plan_ack_encode(&ack, again, size), data, size);
    free(again);
    return 0;
}
