#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/header.h"
#include "proto/hello.h"
#include "test/proto/hostile.h"

static struct msg_hello sample(void)
{
    struct msg_hello m = {
        .status = HELLO_DUPLICATE,
        .cluster = "attic",
        .node = "pi\xc3\xa9",
        .boot = 0x1122334455667788,
        .threads = 0x0104,
        .clock_ms = 0x0807060504030201,
        .version = "1.0",
    };
    for (uint8_t i = 0; i < sizeof m.config; i++)
        m.config[i] = (uint8_t)(0xe0 + i);
    return m;
}

static const uint8_t ack_bytes[] = {
    3,    5,    'a',  't',  't',  'i',  'c',  4,    'p',  'i',  0xc3, 0xa9, 0x88, 0x77,
    0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7,
    0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5,
    0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, 0x04, 0x01, 0x01, 0x02,
    0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 3,    '1',  '.',  '0',
};
/* A HELLO is a HELLO_ACK without its status. */
static const uint8_t *const hello_bytes = ack_bytes + 1;
enum { ACK_LEN = sizeof ack_bytes, HELLO_LEN = ACK_LEN - 1 };

static void assert_same(const struct msg_hello *a, const struct msg_hello *b)
{
    cr_assert_str_eq(a->cluster, b->cluster);
    cr_assert_str_eq(a->node, b->node);
    cr_assert_eq(a->boot, b->boot);
    cr_assert_arr_eq(a->config, b->config, sizeof a->config);
    cr_assert_eq(a->threads, b->threads);
    cr_assert_eq(a->clock_ms, b->clock_ms);
    cr_assert_str_eq(a->version, b->version);
}

static int decode_hello(const uint8_t *buf, size_t len)
{
    struct msg_hello m, before;
    uint8_t again[HELLO_MAX_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = hello_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    cr_assert_eq(hello_encode(&m, again, sizeof again), (int)len);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

static int decode_ack(const uint8_t *buf, size_t len)
{
    struct msg_hello m, before;
    uint8_t again[HELLO_MAX_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = hello_ack_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    cr_assert_eq(hello_ack_encode(&m, again, sizeof again), (int)len);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(hello, bytes_are_those_of_the_page)
{
    const struct msg_hello m = sample();
    struct msg_hello out;
    uint8_t bytes[HELLO_MAX_BYTES];

    cr_assert_eq(hello_encode(&m, bytes, sizeof bytes), HELLO_LEN);
    cr_assert_arr_eq(bytes, hello_bytes, HELLO_LEN);
    cr_assert_eq(hello_decode(&out, bytes, HELLO_LEN), 0);
    cr_assert_eq(out.status, HELLO_OK);
    assert_same(&m, &out);

    cr_assert_eq(hello_ack_encode(&m, bytes, sizeof bytes), ACK_LEN);
    cr_assert_arr_eq(bytes, ack_bytes, ACK_LEN);
    cr_assert_eq(hello_ack_decode(&out, bytes, ACK_LEN), 0);
    cr_assert_eq(out.status, HELLO_DUPLICATE);
    assert_same(&m, &out);
}

Test(hello, decode_of_encode_is_the_same)
{
    struct rng g = { 5 };

    for (int round = 0; round < 20000; round++) {
        struct msg_hello in = {
            .status = (enum hello_status)rng_below(&g, HELLO_STATUSES),
            .boot = rng_next(&g),
            .threads = (uint16_t)rng_next(&g),
            .clock_ms = rng_next(&g),
        }, out;
        uint8_t bytes[HELLO_MAX_BYTES];
        rng_text(&g, in.cluster, HELLO_TEXT_MAX);
        rng_text(&g, in.node, HELLO_TEXT_MAX);
        rng_bytes(&g, in.config, sizeof in.config);
        rng_text(&g, in.version, HELLO_VERSION_MAX);

        const int len = hello_ack_encode(&in, bytes, sizeof bytes);
        cr_assert_gt(len, 0);
        cr_assert_eq(hello_ack_decode(&out, bytes, (size_t)len), 0);
        cr_assert_eq(out.status, in.status);
        assert_same(&in, &out);
    }
}

Test(hello, longest_fits_the_cap_of_its_header_and_short_room_is_told)
{
    struct msg_hello m = sample();
    uint8_t bytes[HELLO_MAX_BYTES];

    memset(m.cluster, 'c', HELLO_TEXT_MAX);
    memset(m.node, 'n', HELLO_TEXT_MAX);
    memset(m.version, 'v', HELLO_VERSION_MAX);
    const int len = hello_ack_encode(&m, bytes, sizeof bytes);
    cr_assert_gt(len, 0);
    cr_assert_leq((uint32_t)len, header_cap(MSG_HELLO_ACK));
    cr_assert_eq(decode_ack(bytes, (size_t)len), 0);
    for (size_t cap = 0; cap < (size_t)len; cap++) {
        memset(bytes, 0xa5, sizeof bytes);
        cr_assert_eq(hello_ack_encode(&m, bytes, cap), -ENOSPC);
        for (size_t i = cap; i < sizeof bytes; i++)
            cr_assert_eq(bytes[i], 0xa5, "wrote past %zu bytes", cap);
    }
}

Test(hello, every_other_length_is_an_error)
{
    hostile_lengths(decode_hello, hello_bytes, HELLO_LEN);
    hostile_lengths(decode_ack, ack_bytes, ACK_LEN);
}

Test(hello, mutations_and_noise_are_errors_or_valid)
{
    hostile_mutations(decode_hello, hello_bytes, HELLO_LEN, 100000);
    hostile_mutations(decode_ack, ack_bytes, ACK_LEN, 100000);
    hostile_noise(decode_hello, HELLO_MAX_BYTES, 20000);
    hostile_noise(decode_ack, HELLO_MAX_BYTES, 20000);
}

Test(hello, unknown_status_is_refused)
{
    uint8_t bytes[ACK_LEN];

    memcpy(bytes, ack_bytes, ACK_LEN);
    for (int status = 0; status < 256; status++) {
        bytes[0] = (uint8_t)status;
        cr_assert_eq(decode_ack(bytes, ACK_LEN), status < HELLO_STATUSES ? 0 : -EPROTO);
    }
}

Test(hello, a_text_longer_than_allowed_is_refused)
{
    uint8_t bytes[HELLO_MAX_BYTES] = { HELLO_TEXT_MAX + 1 };

    memset(bytes + 1, 'x', HELLO_TEXT_MAX + 1);
    cr_assert_eq(decode_hello(bytes, 1 + HELLO_TEXT_MAX + 1 + 1 + 8 + 32 + 2 + 8 + 1), -EPROTO);
}

Test(hello, every_status_has_words_and_so_has_what_is_none)
{
    for (int s = 0; s <= 256; s++)
        cr_assert_gt(strlen(hello_status_text((enum hello_status)s)), 0);
}
