/* MODEL_OFFER, MODEL_STATE, MODEL_CHUNK: whatever decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const uint8_t *again, int len, const uint8_t *data, size_t size)
{
    if (len < 0 || (size_t)len != size || memcmp(again, data, size) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_model_offer offer;
    struct msg_model_state state;
    struct msg_model_chunk chunk;
    uint8_t *again = malloc(size + 1);

    if (!again)
        return 0;
    if (model_offer_decode(&offer, data, size) == 0)
        expect_same(again, model_offer_encode(&offer, again, size), data, size);
    if (model_state_decode(&state, data, size) == 0)
        expect_same(again, model_state_encode(&state, again, size), data, size);
    if (model_chunk_decode(&chunk, data, size) == 0)
        expect_same(again, model_chunk_encode(&chunk, again, size), data, size);
    free(again);
    return 0;
}
