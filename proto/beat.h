/* proto/beat.h - HEARTBEAT: still there, and what time it is here.
 *
 *   sent u64      when it was sent, by the sender's CLOCK_MONOTONIC (ns)
 *   echo u64      `sent` of the last HEARTBEAT that came the other way, 0 before the first
 *   received u64  when that one came, by the sender's clock
 *
 * From these four times (the fourth: when this one comes) follows how far the clocks are apart, as
 * in RFC 5905 (NTP): daemon/skew.h. */
#ifndef PROTO_BEAT_H
#define PROTO_BEAT_H

#include <stddef.h>
#include <stdint.h>

enum { BEAT_BYTES = 24 };

struct msg_beat {
    int64_t sent_ns, echo_ns, received_ns; /* 0..2^61 */
};

void beat_encode(const struct msg_beat *m, uint8_t to[BEAT_BYTES]);
/* Any bytes are allowed.  Returns 0, -EBADMSG (length does not fit) or -EPROTO (a time is out of
 * range); `*m` is written only on success. */
int beat_decode(struct msg_beat *m, const uint8_t *buf, size_t len);

#endif
