/* proto/frame.h - FRAME_DONE: how a node's part of a frame went.
 *
 *   status i32 (0 or a negative errno, -4095 at the least),
 *   compute u64, wait u64, pack u64 (ns), sent u64, received u64, halo_sent u64 (bytes),
 *   sent_messages u32, received_messages u32 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_DONE_BYTES = 60 };

struct msg_frame_done {
    int32_t status;
    uint64_t compute_ns, wait_ns, pack_ns;
    uint64_t sent_bytes, received_bytes, halo_sent_bytes;
    uint32_t sent_messages, received_messages;
};

void frame_done_encode(const struct msg_frame_done *m, uint8_t to[FRAME_DONE_BYTES]);
/* Any bytes are allowed.  Returns 0, -EBADMSG (length does not fit) or -EPROTO (status out of
 * range); `*m` is written only on success. */
int frame_done_decode(struct msg_frame_done *m, const uint8_t *buf, size_t len);

#endif
