#include "proto/frame.h"

#include "proto/status.h"
#include "proto/wire.h"

void frame_done_encode(const struct msg_frame_done *m, uint8_t to[FRAME_DONE_BYTES])
{
    struct writer w = { .buf = to, .cap = FRAME_DONE_BYTES };

    put_i32(&w, m->status);
    put_u64(&w, m->compute_ns);
    put_u64(&w, m->wait_ns);
    put_u64(&w, m->pack_ns);
    put_u64(&w, m->sent_bytes);
    put_u64(&w, m->received_bytes);
    put_u64(&w, m->halo_sent_bytes);
    put_u32(&w, m->sent_messages);
    put_u32(&w, m->received_messages);
}

int frame_done_decode(struct msg_frame_done *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_frame_done d = { 0 };

    d.status = get_i32(&r);
    d.compute_ns = get_u64(&r);
    d.wait_ns = get_u64(&r);
    d.pack_ns = get_u64(&r);
    d.sent_bytes = get_u64(&r);
    d.received_bytes = get_u64(&r);
    d.halo_sent_bytes = get_u64(&r);
    d.sent_messages = get_u32(&r);
    d.received_messages = get_u32(&r);
    if (!reader_ended(&r))
        return -EBADMSG;
    if (!status_valid(d.status))
        return -EPROTO;
    *m = d;
    return 0;
}
