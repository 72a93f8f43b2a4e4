#include "proto/frame.h"

#include "proto/status.h"
#include "proto/wire.h"

static void put_event(struct writer *w, const struct trace_event *e)
{
    put_u8(w, (uint8_t)e->kind);
    put_u32(w, (uint32_t)e->step);
    put_u64(w, (uint64_t)e->start_ns);
    put_u64(w, (uint64_t)(e->end_ns - e->start_ns));
}

void frame_done_encode(const struct msg_frame_done *m, const struct trace *trace, uint8_t *to)
{
    const int32_t nevents = trace ? trace->n : 0;
    struct writer w = { .buf = to, .cap = frame_done_bytes(nevents) };

    put_i32(&w, m->status);
    put_u64(&w, m->compute_ns);
    put_u64(&w, m->wait_ns);
    put_u64(&w, m->pack_ns);
    put_u64(&w, m->send_ns);
    put_u64(&w, m->sent_bytes);
    put_u64(&w, m->received_bytes);
    put_u64(&w, m->halo_sent_bytes);
    put_u32(&w, m->sent_messages);
    put_u32(&w, m->received_messages);
    put_u32(&w, m->concealed);
    put_u32(&w, (uint32_t)nevents);
    for (int32_t i = 0; i < nevents; i++)
        put_event(&w, &trace->event[i]);
}

/* Leaves room for sums and differences of times. */
#define TIME_MAX (UINT64_C(1) << 61)

/* 0 or -EPROTO */
static int get_event(struct reader *r, struct trace_event *e)
{
    const uint8_t kind = get_u8(r);
    const int32_t step = get_i32(r);
    const uint64_t start_ns = get_u64(r), length_ns = get_u64(r);

    if (kind >= TRACE_KINDS || start_ns > TIME_MAX || length_ns > TIME_MAX)
        return -EPROTO;
    *e = (struct trace_event){ .start_ns = (int64_t)start_ns,
                               .end_ns = (int64_t)(start_ns + length_ns),
                               .step = step,
                               .kind = (enum trace_kind)kind };
    return 0;
}

int frame_done_decode(struct msg_frame_done *m, int32_t *nevents, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_frame_done d = { 0 };

    d.status = get_i32(&r);
    d.compute_ns = get_u64(&r);
    d.wait_ns = get_u64(&r);
    d.pack_ns = get_u64(&r);
    d.send_ns = get_u64(&r);
    d.sent_bytes = get_u64(&r);
    d.received_bytes = get_u64(&r);
    d.halo_sent_bytes = get_u64(&r);
    d.sent_messages = get_u32(&r);
    d.received_messages = get_u32(&r);
    d.concealed = get_u32(&r);
    const uint32_t n = get_u32(&r);
    if (r.failed || n > TRACE_MAX_EVENTS || reader_left(&r) != n * (size_t)FRAME_EVENT_BYTES)
        return -EBADMSG;
    if (!status_valid(d.status) || d.concealed > PROGRAM_MAX_STEPS)
        return -EPROTO;
    for (uint32_t i = 0; i < n; i++) {
        struct trace_event e;
        if (get_event(&r, &e) != 0)
            return -EPROTO;
    }
    *m = d;
    *nevents = (int32_t)n;
    return 0;
}

struct trace_event frame_done_event(const uint8_t *buf, int32_t i)
{
    struct reader r =
        reader_of(buf + FRAME_DONE_BYTES + (size_t)i * FRAME_EVENT_BYTES, FRAME_EVENT_BYTES);
    struct trace_event e = { 0 };

    (void)get_event(&r, &e);
    return e;
}
