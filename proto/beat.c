#include "proto/beat.h"

#include "proto/wire.h"

/* Leaves room for sums and differences. */
#define TIME_MAX (UINT64_C(1) << 61)

void beat_encode(const struct msg_beat *m, uint8_t to[BEAT_BYTES])
{
    struct writer w = { .buf = to, .cap = BEAT_BYTES };

    put_u64(&w, (uint64_t)m->sent_ns);
    put_u64(&w, (uint64_t)m->echo_ns);
    put_u64(&w, (uint64_t)m->received_ns);
}

int beat_decode(struct msg_beat *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    const uint64_t sent = get_u64(&r), echo = get_u64(&r), received = get_u64(&r);

    if (!reader_ended(&r))
        return -EBADMSG;
    if (sent > TIME_MAX || echo > TIME_MAX || received > TIME_MAX)
        return -EPROTO;
    *m = (struct msg_beat){ .sent_ns = (int64_t)sent,
                            .echo_ns = (int64_t)echo,
                            .received_ns = (int64_t)received };
    return 0;
}
