/* proto/frame.h - FRAME_DONE: how a node's part of a frame went.
 *
 *   status i32 (0 or a negative errno, -4095 at the least),
 *   compute u64, wait u64, pack u64, send u64 (ns),
 *   sent u64, received u64, halo_sent u64 (bytes), sent_messages u32, received_messages u32,
 *   concealed u32 (messages that were given up, at most PROGRAM_MAX_STEPS),
 *   nevents u32 (0, unless FRAME had HEADER_TRACE; at most TRACE_MAX_EVENTS), and per event
 *     kind u8 (enum trace_kind), step u32, start u64, length u64 (ns; the node's clock) */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "tiling/program.h"
#include "tiling/trace.h"

enum {
    FRAME_DONE_BYTES = 76, /* without events */
    FRAME_EVENT_BYTES = 21,
    FRAME_DONE_MAX_BYTES = FRAME_DONE_BYTES + TRACE_MAX_EVENTS * FRAME_EVENT_BYTES,
};

struct msg_frame_done {
    int32_t status;
    uint64_t compute_ns, wait_ns, pack_ns, send_ns;
    uint64_t sent_bytes, received_bytes, halo_sent_bytes;
    uint32_t sent_messages, received_messages, concealed;
};

/* Bytes of the message with so many events, 0..TRACE_MAX_EVENTS. */
static inline size_t frame_done_bytes(int32_t nevents)
{
    return FRAME_DONE_BYTES + (size_t)nevents * FRAME_EVENT_BYTES;
}
/* `trace` may be NULL.  Writes frame_done_bytes() of its events to `to`. */
void frame_done_encode(const struct msg_frame_done *m, const struct trace *trace, uint8_t *to);
/* Any bytes are allowed.  Returns 0, -EBADMSG (length does not fit) or -EPROTO (status, kind,
 * times or count out of range); `*m` and `*nevents` are written only on success.  An event's step
 * is anything: see trace_event_fits(). */
int frame_done_decode(struct msg_frame_done *m, int32_t *nevents, const uint8_t *buf, size_t len);
/* Event `i` of a message that frame_done_decode() took. */
struct trace_event frame_done_event(const uint8_t *buf, int32_t i);

#endif
