#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/header.h"
#include "test/proto/hostile.h"

static const struct msg_frame_done sample = {
    .status = -5,
    .compute_ns = 0x0102030405060708,
    .wait_ns = 0x1112131415161718,
    .pack_ns = 0x2122232425262728,
    .sent_bytes = 0x3132333435363738,
    .received_bytes = 0x4142434445464748,
    .halo_sent_bytes = 0x5152535455565758,
    .sent_messages = 0x61626364,
    .received_messages = 0x71727374,
};

static const uint8_t sample_bytes[FRAME_DONE_BYTES] = {
    0xfb, 0xff, 0xff, 0xff,                         /* status */
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* compute */
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* wait */
    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, /* pack */
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, /* sent */
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, /* received */
    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, /* halo_sent */
    0x64, 0x63, 0x62, 0x61, 0x74, 0x73, 0x72, 0x71, /* messages */
};

static int decode(const uint8_t *buf, size_t len)
{
    struct msg_frame_done m, before;
    uint8_t again[FRAME_DONE_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = frame_done_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    frame_done_encode(&m, again);
    cr_assert_eq(len, FRAME_DONE_BYTES);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(frame, bytes_are_those_of_the_page)
{
    uint8_t bytes[FRAME_DONE_BYTES];
    struct msg_frame_done out;

    frame_done_encode(&sample, bytes);
    cr_assert_arr_eq(bytes, sample_bytes, FRAME_DONE_BYTES);
    cr_assert_eq(frame_done_decode(&out, sample_bytes, FRAME_DONE_BYTES), 0);
    cr_assert_eq(out.status, sample.status);
    cr_assert_eq(out.compute_ns, sample.compute_ns);
    cr_assert_eq(out.wait_ns, sample.wait_ns);
    cr_assert_eq(out.pack_ns, sample.pack_ns);
    cr_assert_eq(out.sent_bytes, sample.sent_bytes);
    cr_assert_eq(out.received_bytes, sample.received_bytes);
    cr_assert_eq(out.halo_sent_bytes, sample.halo_sent_bytes);
    cr_assert_eq(out.sent_messages, sample.sent_messages);
    cr_assert_eq(out.received_messages, sample.received_messages);
    cr_assert_eq(header_cap(MSG_FRAME_DONE), FRAME_DONE_BYTES);
}

static int decode_status(int32_t status)
{
    struct msg_frame_done m = sample;
    uint8_t bytes[FRAME_DONE_BYTES];

    m.status = status;
    frame_done_encode(&m, bytes);
    return decode(bytes, sizeof bytes);
}

Test(frame, status_is_zero_or_a_negative_errno)
{
    cr_assert_eq(decode_status(0), 0);
    cr_assert_eq(decode_status(-ENOMEM), 0);
    cr_assert_eq(decode_status(-4095), 0);
    cr_assert_eq(decode_status(-4096), -EPROTO);
    cr_assert_eq(decode_status(1), -EPROTO);
    cr_assert_eq(decode_status(INT32_MIN), -EPROTO);
    cr_assert_eq(decode_status(INT32_MAX), -EPROTO);
}

Test(frame, other_lengths_mutations_and_noise)
{
    hostile_lengths(decode, sample_bytes, FRAME_DONE_BYTES);
    hostile_mutations(decode, sample_bytes, FRAME_DONE_BYTES, 100000);
    hostile_noise(decode, 2 * FRAME_DONE_BYTES, 20000);
}
