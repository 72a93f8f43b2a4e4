#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/header.h"
#include "proto/model.h"
#include "test/proto/hostile.h"

#define SHA                                                                                        \
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e,      \
        0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d,  \
        0x1e, 0x1f

static const uint8_t offer_bytes[] = { SHA, 0x08, 0x07, 0x06, 0x05, 0, 0, 0, 0 };
static const uint8_t state_bytes[] = { SHA, 2, 7, 0, 'n', 'o', ' ', 'd', 'i', 's', 'k' };
static const uint8_t chunk_bytes[] = {
    SHA, 0x05, 0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0xaa, 0xbb, 0xcc
};

static int decode_offer(const uint8_t *buf, size_t len)
{
    struct msg_model_offer m, before;
    uint8_t again[MODEL_OFFER_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = model_offer_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    cr_assert(m.size >= 1 && m.size <= MODEL_MAX_BYTES);
    cr_assert_eq(model_offer_encode(&m, again, sizeof again), (int)len);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

static int decode_state(const uint8_t *buf, size_t len)
{
    struct msg_model_state m, before;
    uint8_t again[MODEL_STATE_MAX_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = model_state_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    cr_assert_eq(model_state_encode(&m, again, sizeof again), (int)len);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

static int decode_chunk(const uint8_t *buf, size_t len)
{
    struct msg_model_chunk m, before;
    uint8_t again[256];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = model_chunk_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    cr_assert(m.data == buf + MODEL_CHUNK_HEAD_BYTES && m.data + m.len == buf + len);
    cr_assert_eq(model_chunk_encode(&m, again, sizeof again), (int)len);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(model, bytes_are_those_of_the_page)
{
    static const uint8_t sha[] = { SHA }, data[] = { 0xaa, 0xbb, 0xcc };
    uint8_t bytes[MODEL_STATE_MAX_BYTES];

    struct msg_model_offer offer = { .size = 0x05060708 };
    memcpy(offer.sha, sha, sizeof sha);
    cr_assert_eq(model_offer_encode(&offer, bytes, sizeof bytes), (int)sizeof offer_bytes);
    cr_assert_arr_eq(bytes, offer_bytes, sizeof offer_bytes);

    struct msg_model_state state = { .state = MODEL_FAILED, .detail = "no disk" };
    memcpy(state.sha, sha, sizeof sha);
    cr_assert_eq(model_state_encode(&state, bytes, sizeof bytes), (int)sizeof state_bytes);
    cr_assert_arr_eq(bytes, state_bytes, sizeof state_bytes);

    struct msg_model_chunk chunk = { .offset = 0x0102030405, .data = data, .len = sizeof data };
    memcpy(chunk.sha, sha, sizeof sha);
    cr_assert_eq(model_chunk_encode(&chunk, bytes, sizeof bytes), (int)sizeof chunk_bytes);
    cr_assert_arr_eq(bytes, chunk_bytes, sizeof chunk_bytes);
}

Test(model, decode_of_encode_is_the_same)
{
    struct rng g = { 6 };

    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[MODEL_STATE_MAX_BYTES], data[64];
        int len;

        struct msg_model_offer offer = { .size = 1 + rng_next(&g) % MODEL_MAX_BYTES }, offered;
        rng_bytes(&g, offer.sha, sizeof offer.sha);
        len = model_offer_encode(&offer, bytes, sizeof bytes);
        cr_assert_eq(model_offer_decode(&offered, bytes, (size_t)len), 0);
        cr_assert_eq(offered.size, offer.size);
        cr_assert_arr_eq(offered.sha, offer.sha, SHA256_BYTES);

        struct msg_model_state state = { .state = (enum model_state)rng_below(&g, MODEL_STATES) },
                               stated;
        rng_bytes(&g, state.sha, sizeof state.sha);
        rng_text(&g, state.detail, MODEL_DETAIL_MAX);
        len = model_state_encode(&state, bytes, sizeof bytes);
        cr_assert_eq(model_state_decode(&stated, bytes, (size_t)len), 0);
        cr_assert_eq(stated.state, state.state);
        cr_assert_str_eq(stated.detail, state.detail);
        cr_assert_arr_eq(stated.sha, state.sha, SHA256_BYTES);

        struct msg_model_chunk chunk = {
            .offset = rng_next(&g) % (MODEL_MAX_BYTES - sizeof data),
            .data = data,
            .len = 1 + rng_below(&g, sizeof data),
        }, got;
        rng_bytes(&g, chunk.sha, sizeof chunk.sha);
        rng_bytes(&g, data, sizeof data);
        len = model_chunk_encode(&chunk, bytes, sizeof bytes);
        cr_assert_eq(model_chunk_decode(&got, bytes, (size_t)len), 0);
        cr_assert_eq(got.offset, chunk.offset);
        cr_assert_eq(got.len, chunk.len);
        cr_assert_arr_eq(got.data, data, chunk.len);
        cr_assert_arr_eq(got.sha, chunk.sha, SHA256_BYTES);
    }
}

Test(model, every_other_length_is_an_error)
{
    hostile_lengths(decode_offer, offer_bytes, sizeof offer_bytes);
    hostile_lengths(decode_state, state_bytes, sizeof state_bytes);
    for (size_t n = 0; n <= MODEL_CHUNK_HEAD_BYTES; n++)
        cr_assert_eq(decode_chunk(chunk_bytes, n), -EBADMSG, "%zu bytes", n);
}

Test(model, mutations_and_noise_are_errors_or_valid)
{
    hostile_mutations(decode_offer, offer_bytes, sizeof offer_bytes, 100000);
    hostile_mutations(decode_state, state_bytes, sizeof state_bytes, 100000);
    hostile_mutations(decode_chunk, chunk_bytes, sizeof chunk_bytes, 100000);
    hostile_noise(decode_offer, 64, 20000);
    hostile_noise(decode_state, 128, 20000);
    hostile_noise(decode_chunk, 128, 20000);
}

static int decode_offer_of(uint64_t size)
{
    const struct msg_model_offer m = { .size = size };
    uint8_t bytes[MODEL_OFFER_BYTES];

    cr_assert_eq(model_offer_encode(&m, bytes, sizeof bytes), MODEL_OFFER_BYTES);
    return decode_offer(bytes, sizeof bytes);
}

Test(model, size_is_one_byte_to_the_cap)
{
    cr_assert_eq(decode_offer_of(0), -EPROTO);
    cr_assert_eq(decode_offer_of(1), 0);
    cr_assert_eq(decode_offer_of(MODEL_MAX_BYTES), 0);
    cr_assert_eq(decode_offer_of(MODEL_MAX_BYTES + 1), -EPROTO);
    cr_assert_eq(decode_offer_of(UINT64_MAX), -EPROTO);
}

Test(model, unknown_state_and_long_detail_are_refused)
{
    struct msg_model_state m = { .state = MODEL_STATES };
    uint8_t bytes[MODEL_STATE_MAX_BYTES + 1];

    const int len = model_state_encode(&m, bytes, sizeof bytes);
    cr_assert_eq(decode_state(bytes, (size_t)len), -EPROTO);

    m.state = MODEL_FAILED;
    memset(m.detail, 'x', MODEL_DETAIL_MAX);
    cr_assert_eq(model_state_encode(&m, bytes, sizeof bytes), MODEL_STATE_MAX_BYTES);
    cr_assert_eq(decode_state(bytes, MODEL_STATE_MAX_BYTES), 0);
    bytes[MODEL_STATE_MAX_BYTES] = 'x';
    bytes[SHA256_BYTES + 1]++;
    cr_assert_eq(decode_state(bytes, MODEL_STATE_MAX_BYTES + 1), -EPROTO);
}

/* Decodes a chunk of `len` bytes said to stand at `offset`. */
static int decode_chunk_at(uint64_t offset, size_t len)
{
    uint8_t *bytes = calloc(1, MODEL_CHUNK_HEAD_BYTES + len), *data = calloc(1, len);
    const struct msg_model_chunk m = { .offset = offset, .data = data, .len = len };
    struct msg_model_chunk out;

    cr_assert(bytes && data);
    const int n = model_chunk_encode(&m, bytes, MODEL_CHUNK_HEAD_BYTES + len);
    cr_assert_eq(n, (int)(MODEL_CHUNK_HEAD_BYTES + len));
    const int err = model_chunk_decode(&out, bytes, (size_t)n);
    free(bytes);
    free(data);
    return err;
}

Test(model, a_chunk_is_short_and_ends_within_the_largest_file)
{
    cr_assert_eq(decode_chunk_at(0, MODEL_CHUNK_BYTES), 0);
    cr_assert_eq(decode_chunk_at(0, MODEL_CHUNK_BYTES + 1), -EBADMSG);
    cr_assert_eq(decode_chunk_at(MODEL_MAX_BYTES - 5, 5), 0);
    cr_assert_eq(decode_chunk_at(MODEL_MAX_BYTES - 4, 5), -EPROTO);
    cr_assert_eq(decode_chunk_at(UINT64_MAX, 5), -EPROTO);
}

Test(model, longest_messages_are_the_caps_of_their_headers)
{
    cr_assert_eq(header_cap(MSG_MODEL_OFFER), MODEL_OFFER_BYTES);
    cr_assert_eq(header_cap(MSG_MODEL_STATE), MODEL_STATE_MAX_BYTES);
    cr_assert_eq(header_cap(MSG_MODEL_CHUNK), MODEL_CHUNK_MAX_BYTES);
}

Test(model, short_room_is_told)
{
    const struct msg_model_offer offer = { .size = 1 };
    const struct msg_model_state state = { .state = MODEL_HAVE };
    const struct msg_model_chunk chunk = { .data = (const uint8_t *)"abc", .len = 3 };
    uint8_t bytes[MODEL_CHUNK_HEAD_BYTES + 3];

    cr_assert_eq(model_offer_encode(&offer, bytes, MODEL_OFFER_BYTES - 1), -ENOSPC);
    cr_assert_eq(model_state_encode(&state, bytes, SHA256_BYTES + 2), -ENOSPC);
    cr_assert_eq(model_chunk_encode(&chunk, bytes, sizeof bytes - 1), -ENOSPC);
    cr_assert_eq(model_chunk_encode(&chunk, bytes, sizeof bytes), (int)sizeof bytes);
}
