#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/beat.h"
#include "proto/header.h"
#include "test/proto/hostile.h"

static const struct msg_beat sample = { .sent_ns = 0x0102030405060708,
                                        .echo_ns = 0x1112131415161718,
                                        .received_ns = 0x2000000000000000 };

static const uint8_t sample_bytes[BEAT_BYTES] = {
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* sent */
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* echo */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, /* received: the latest there is */
};

static int decode(const uint8_t *buf, size_t len)
{
    struct msg_beat m, before;
    uint8_t again[BEAT_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = beat_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    beat_encode(&m, again);
    cr_assert_eq(len, BEAT_BYTES);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(beat, bytes_are_those_of_the_page)
{
    uint8_t bytes[BEAT_BYTES];
    struct msg_beat out;

    beat_encode(&sample, bytes);
    cr_assert_arr_eq(bytes, sample_bytes, BEAT_BYTES);
    cr_assert_eq(beat_decode(&out, sample_bytes, BEAT_BYTES), 0);
    cr_assert_eq(out.sent_ns, sample.sent_ns);
    cr_assert_eq(out.echo_ns, sample.echo_ns);
    cr_assert_eq(out.received_ns, sample.received_ns);
    cr_assert_eq(header_cap(MSG_HEARTBEAT), BEAT_BYTES);
}

Test(beat, times_have_a_range)
{
    for (int i = 0; i < 3; i++) {
        uint8_t bytes[BEAT_BYTES];
        memcpy(bytes, sample_bytes, sizeof bytes);
        bytes[8 * i] = 1;
        bytes[8 * i + 7] = 0x20;
        cr_assert_eq(decode(bytes, sizeof bytes), -EPROTO);
    }
}

Test(beat, other_lengths_mutations_and_noise)
{
    hostile_lengths(decode, sample_bytes, BEAT_BYTES);
    hostile_mutations(decode, sample_bytes, BEAT_BYTES, 100000);
    hostile_noise(decode, 2 * BEAT_BYTES, 20000);
}
