#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/header.h"
#include "test/proto/hostile.h"

static const struct header sample = {
    .type = MSG_HALO,
    .flags = HEADER_TO_HOST,
    .epoch = 0x01020304,
    .plan = 0x05060708,
    .frame = 0x090a0b0c,
    .transfer = 0x0d0e0f10,
    .length = 0x01121314,
};

static const uint8_t sample_bytes[HEADER_BYTES] = {
    'S', 'P', 'L', 'T', 1,  11, 1,  0,  4,  3,  2,    1,    8,    7,
    6,   5,   12,  11,  10, 9,  16, 15, 14, 13, 0x14, 0x13, 0x12, 0x01,
};

static void assert_same(const struct header *a, const struct header *b)
{
    cr_assert_eq(a->type, b->type);
    cr_assert_eq(a->flags, b->flags);
    cr_assert_eq(a->epoch, b->epoch);
    cr_assert_eq(a->plan, b->plan);
    cr_assert_eq(a->frame, b->frame);
    cr_assert_eq(a->transfer, b->transfer);
    cr_assert_eq(a->length, b->length);
}

Test(header, bytes_are_those_of_the_page)
{
    uint8_t bytes[HEADER_BYTES];
    struct header h;

    header_encode(&sample, bytes);
    cr_assert_arr_eq(bytes, sample_bytes, HEADER_BYTES);
    cr_assert_eq(header_decode(&h, sample_bytes), 0);
    assert_same(&h, &sample);
}

Test(header, decode_of_encode_is_the_same)
{
    struct rng g = { 3 };

    for (int round = 0; round < 20000; round++) {
        struct header in = {
            .type = (enum msg_type)(1 + rng_below(&g, MSG_TYPES - 1)),
            .flags = (uint16_t)rng_below(&g, 4),
            .epoch = (uint32_t)rng_next(&g),
            .plan = (uint32_t)rng_next(&g),
            .frame = (uint32_t)rng_next(&g),
            .transfer = (uint32_t)rng_next(&g),
        }, out;
        uint8_t bytes[HEADER_BYTES];
        in.length = rng_below(&g, header_cap(in.type) + 1);
        header_encode(&in, bytes);
        cr_assert_eq(header_decode(&out, bytes), 0);
        assert_same(&in, &out);
    }
}

/* Decodes the sample with one byte replaced. */
static int decode_with(size_t at, uint8_t value, struct header *h)
{
    uint8_t bytes[HEADER_BYTES];

    memcpy(bytes, sample_bytes, HEADER_BYTES);
    bytes[at] = value;
    return header_decode(h, bytes);
}

Test(header, every_foreign_magic_type_and_flag_is_refused)
{
    struct header h = sample;

    for (int value = 0; value < 256; value++) {
        for (size_t at = 0; at < 4; at++)
            if (value != sample_bytes[at])
                cr_assert_eq(decode_with(at, (uint8_t)value, &h), -EPROTO);
        const bool known = value >= MSG_HELLO && value < MSG_TYPES;
        if (!known)
            cr_assert_eq(decode_with(5, (uint8_t)value, &h), -EPROTO, "type %d", value);
        if (value > (HEADER_TO_HOST | HEADER_TRACE | HEADER_BRIEF | HEADER_FRESH))
            cr_assert_eq(decode_with(6, (uint8_t)value, &h), -EPROTO, "flags %d", value);
        if (value != 0)
            cr_assert_eq(decode_with(7, (uint8_t)value, &h), -EPROTO);
    }
    assert_same(&h, &sample);
}

Test(header, another_version_is_told_and_the_header_filled)
{
    for (int version = 0; version < 256; version++) {
        struct header h = { 0 };
        if (version == PROTO_VERSION)
            continue;
        cr_assert_eq(decode_with(4, (uint8_t)version, &h), -EPROTONOSUPPORT);
        assert_same(&h, &sample);
    }
}

Test(header, length_is_capped_for_every_type)
{
    for (int type = MSG_HELLO; type < MSG_TYPES; type++) {
        struct header h = { .type = (enum msg_type)type }, out = sample;
        uint8_t bytes[HEADER_BYTES];
        const uint32_t cap = header_cap(h.type);

        h.length = cap;
        header_encode(&h, bytes);
        cr_assert_eq(header_decode(&out, bytes), 0);
        out = sample;
        for (uint64_t length = (uint64_t)cap + 1; length <= UINT32_MAX; length = length * 2 + 1) {
            h.length = (uint32_t)length;
            header_encode(&h, bytes);
            cr_assert_eq(header_decode(&out, bytes), -EMSGSIZE, "type %d", type);
            assert_same(&out, &sample);
        }
    }
}

Test(header, messages_without_a_body_have_cap_zero_and_so_have_unknown_types)
{
    cr_assert_eq(header_cap(MSG_BYE), 0);
    cr_assert_eq(header_cap(MSG_FRAME), 0);
    cr_assert_eq(header_cap(MSG_CANCEL), 0);
    cr_assert_eq(header_cap((enum msg_type)0), 0);
    cr_assert_eq(header_cap(MSG_TYPES), 0);
    cr_assert_eq(header_cap((enum msg_type)255), 0);
}

/* A peer's garbage must be told from a header within an exact block of 28 bytes. */
Test(header, mutations_yield_an_error_or_the_same_bytes)
{
    struct rng g = { 4 };
    uint8_t *bytes = malloc(HEADER_BYTES);
    cr_assert_not_null(bytes);

    for (int round = 0; round < 200000; round++) {
        struct header h;
        uint8_t again[HEADER_BYTES];
        memcpy(bytes, sample_bytes, HEADER_BYTES);
        for (uint32_t hits = 1 + rng_below(&g, 3); hits > 0; hits--)
            bytes[rng_below(&g, HEADER_BYTES)] = (uint8_t)rng_next(&g);
        const int err = header_decode(&h, bytes);
        if (err == 0) {
            header_encode(&h, again);
            cr_assert_arr_eq(again, bytes, HEADER_BYTES);
        } else {
            cr_assert(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EMSGSIZE);
        }
    }
    free(bytes);
}
