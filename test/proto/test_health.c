#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/header.h"
#include "proto/health.h"
#include "test/proto/hostile.h"

static const struct msg_health sample = { .temperature_mc = 0x00012345, .throttled = 0x50005 };
static const uint8_t sample_bytes[HEALTH_BYTES] = { 0x45, 0x23, 0x01, 0, 0x05, 0, 0x05, 0 };

static int decode(const uint8_t *buf, size_t len)
{
    struct msg_health m, before;
    uint8_t again[HEALTH_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = health_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    health_encode(&m, again);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(health, bytes_are_those_of_the_page)
{
    uint8_t bytes[HEALTH_BYTES];
    struct msg_health out;

    health_encode(&sample, bytes);
    cr_assert_arr_eq(bytes, sample_bytes, HEALTH_BYTES);
    cr_assert_eq(health_decode(&out, bytes, HEALTH_BYTES), 0);
    cr_assert_eq(out.temperature_mc, sample.temperature_mc);
    cr_assert_eq(out.throttled, sample.throttled);
    cr_assert_eq(header_cap(MSG_HEALTH), HEALTH_BYTES);
}

static int decode_of(int32_t temperature_mc, uint32_t throttled)
{
    const struct msg_health m = { temperature_mc, throttled };
    uint8_t bytes[HEALTH_BYTES];

    health_encode(&m, bytes);
    return decode(bytes, sizeof bytes);
}

Test(health, impossible_values_are_refused)
{
    cr_expect_eq(decode_of(HEALTH_NO_TEMPERATURE, 0), 0);
    cr_expect_eq(decode_of(-273150, 0xf000f), 0);
    cr_expect_eq(decode_of(1000000, 0), 0);
    cr_expect_eq(decode_of(-273151, 0), -EPROTO);
    cr_expect_eq(decode_of(1000001, 0), -EPROTO);
    cr_expect_eq(decode_of(0, 0x10), -EPROTO);
    cr_expect_eq(decode_of(0, 0x80000000), -EPROTO);
}

Test(health, hostile_bytes_are_errors_or_valid)
{
    hostile_lengths(decode, sample_bytes, sizeof sample_bytes);
    hostile_mutations(decode, sample_bytes, sizeof sample_bytes, 20000);
    hostile_noise(decode, 2 * HEALTH_BYTES, 20000);
}
