#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/header.h"
#include "test/proto/hostile.h"

enum { EVENTS = 2, SAMPLE_BYTES = FRAME_DONE_BYTES + EVENTS * FRAME_EVENT_BYTES };

static const struct msg_frame_done sample = {
    .status = -5,
    .compute_ns = 0x0102030405060708,
    .wait_ns = 0x1112131415161718,
    .pack_ns = 0x2122232425262728,
    .send_ns = 0x2a2b2c2d2e2f3031,
    .sent_bytes = 0x3132333435363738,
    .received_bytes = 0x4142434445464748,
    .halo_sent_bytes = 0x5152535455565758,
    .sent_messages = 0x61626364,
    .received_messages = 0x71727374,
    .concealed = 0x0b1b2b,
};

static const uint8_t sample_bytes[SAMPLE_BYTES] = {
    0xfb, 0xff, 0xff, 0xff,                         /* status */
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* compute */
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* wait */
    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, /* pack */
    0x31, 0x30, 0x2f, 0x2e, 0x2d, 0x2c, 0x2b, 0x2a, /* send */
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, /* sent */
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, /* received */
    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, /* halo_sent */
    0x64, 0x63, 0x62, 0x61, 0x74, 0x73, 0x72, 0x71, /* messages */
    0x2b, 0x1b, 0x0b, 0x00,                         /* concealed */
    0x02, 0x00, 0x00, 0x00,                         /* events */
    0x03,                                           /* waited */
    0x81, 0x82, 0x83, 0x04,                         /* step */
    0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x08, /* start */
    0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0x00, /* length */
    0x05,                                           /* in the queue */
    0x00, 0x00, 0x00, 0x00,                         /* no step */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* start */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* length */
};

static const struct trace_event sample_event[EVENTS] = {
    { .kind = TRACE_WAIT,
      .step = 0x04838281,
      .start_ns = 0x0897969594939291,
      .end_ns = 0x0897969594939291 + 0x00a7a6a5a4a3a2a1 },
    { .kind = TRACE_QUEUE },
};

/* free() it. */
static struct trace *make_trace(const struct trace_event *e, int32_t n)
{
    struct trace *t = malloc(sizeof *t + (size_t)n * sizeof *e);
    cr_assert(t);
    t->n = t->capacity = n;
    for (int32_t i = 0; i < n; i++)
        t->event[i] = e[i];
    return t;
}

static int decode(const uint8_t *buf, size_t len)
{
    struct msg_frame_done m, before;
    int32_t n = -1;

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = frame_done_decode(&m, &n, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        cr_assert_eq(n, -1);
        return err;
    }
    struct trace *t = make_trace(NULL, 0);
    t = realloc(t, sizeof *t + (size_t)n * sizeof t->event[0]);
    cr_assert(t);
    t->n = n;
    for (int32_t i = 0; i < n; i++)
        t->event[i] = frame_done_event(buf, i);
    cr_assert_eq(len, frame_done_bytes(n));
    uint8_t *again = malloc(len);
    frame_done_encode(&m, t, again);
    cr_assert_arr_eq(again, buf, len);
    free(again);
    free(t);
    return 0;
}

Test(frame, bytes_are_those_of_the_page)
{
    uint8_t bytes[SAMPLE_BYTES];
    struct trace *t = make_trace(sample_event, EVENTS);
    struct msg_frame_done out;
    int32_t n;

    frame_done_encode(&sample, t, bytes);
    cr_assert_arr_eq(bytes, sample_bytes, SAMPLE_BYTES);
    cr_assert_eq(frame_done_decode(&out, &n, sample_bytes, SAMPLE_BYTES), 0);
    cr_assert_eq(n, EVENTS);
    for (int i = 0; i < EVENTS; i++) {
        const struct trace_event e = frame_done_event(sample_bytes, i);
        cr_assert_eq(e.kind, sample_event[i].kind);
        cr_assert_eq(e.step, sample_event[i].step);
        cr_assert_eq(e.start_ns, sample_event[i].start_ns);
        cr_assert_eq(e.end_ns, sample_event[i].end_ns);
    }
    cr_assert_eq(out.status, sample.status);
    cr_assert_eq(out.compute_ns, sample.compute_ns);
    cr_assert_eq(out.wait_ns, sample.wait_ns);
    cr_assert_eq(out.pack_ns, sample.pack_ns);
    cr_assert_eq(out.send_ns, sample.send_ns);
    cr_assert_eq(out.sent_bytes, sample.sent_bytes);
    cr_assert_eq(out.received_bytes, sample.received_bytes);
    cr_assert_eq(out.halo_sent_bytes, sample.halo_sent_bytes);
    cr_assert_eq(out.sent_messages, sample.sent_messages);
    cr_assert_eq(out.received_messages, sample.received_messages);
    cr_assert_eq(header_cap(MSG_FRAME_DONE), FRAME_DONE_MAX_BYTES);
    free(t);
}

Test(frame, without_a_trace_there_are_no_events)
{
    uint8_t bytes[FRAME_DONE_BYTES];
    struct msg_frame_done out;
    int32_t n = -1;

    frame_done_encode(&sample, NULL, bytes);
    cr_assert_eq(frame_done_decode(&out, &n, bytes, sizeof bytes), 0);
    cr_assert_eq(n, 0);
}

Test(frame, kinds_and_times_have_ranges)
{
    uint8_t bytes[SAMPLE_BYTES];

    for (int kind = 0; kind < 256; kind++) {
        memcpy(bytes, sample_bytes, sizeof bytes);
        bytes[FRAME_DONE_BYTES] = (uint8_t)kind;
        cr_assert_eq(decode(bytes, sizeof bytes), kind < TRACE_KINDS ? 0 : -EPROTO);
    }
    for (int i = 0; i < 2; i++) { /* the highest byte of start and length */
        memcpy(bytes, sample_bytes, sizeof bytes);
        bytes[FRAME_DONE_BYTES + 1 + 4 + 8 * i + 7] = 0x20;
        cr_assert_eq(decode(bytes, sizeof bytes), -EPROTO);
    }
}

/* As many as there can be fit a message. */
Test(frame, the_longest_trace)
{
    struct trace *t = make_trace(NULL, 0);
    t = realloc(t, sizeof *t + TRACE_MAX_EVENTS * sizeof t->event[0]);
    cr_assert(t);
    memset(t->event, 0, TRACE_MAX_EVENTS * sizeof t->event[0]);
    t->n = TRACE_MAX_EVENTS;
    uint8_t *bytes = malloc(FRAME_DONE_MAX_BYTES + FRAME_EVENT_BYTES);
    cr_assert(bytes);
    frame_done_encode(&sample, t, bytes);
    cr_assert_eq(decode(bytes, FRAME_DONE_MAX_BYTES), 0);
    memset(bytes + FRAME_DONE_MAX_BYTES, 0, FRAME_EVENT_BYTES);
    bytes[FRAME_DONE_BYTES - 4]++; /* one more */
    cr_assert_eq(decode(bytes, FRAME_DONE_MAX_BYTES + FRAME_EVENT_BYTES), -EBADMSG);
    free(bytes);
    free(t);
}

static int decode_status(int32_t status)
{
    struct msg_frame_done m = sample;
    uint8_t bytes[FRAME_DONE_BYTES];

    m.status = status;
    frame_done_encode(&m, NULL, bytes);
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
    hostile_lengths(decode, sample_bytes, SAMPLE_BYTES);
    hostile_mutations(decode, sample_bytes, SAMPLE_BYTES, 100000);
    hostile_noise(decode, 2 * SAMPLE_BYTES, 20000);
}
