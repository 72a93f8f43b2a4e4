/* proto/health.h - HEALTH: how warm a node is, and whether its board slows it down.
 *
 *   temperature i32 (thousandths of a degree Celsius, HEALTH_NO_TEMPERATURE if it has no sensor),
 *   throttled u32 (bits of libsplit/board.h) */
#ifndef PROTO_HEALTH_H
#define PROTO_HEALTH_H

#include <stddef.h>
#include <stdint.h>

enum {
    HEALTH_BYTES = 8,
    HEALTH_NO_TEMPERATURE = INT32_MIN,
    HEALTH_THROTTLED = 0xf000f, /* the bits that may be set */
};

struct msg_health {
    int32_t temperature_mc; /* -273150..1000000 or HEALTH_NO_TEMPERATURE */
    uint32_t throttled;
};

void health_encode(const struct msg_health *m, uint8_t to[HEALTH_BYTES]);
/* Any bytes are allowed.  Returns 0, -EBADMSG (length does not fit) or -EPROTO (a field is out of
 * range); `*m` is written only on success. */
int health_decode(struct msg_health *m, const uint8_t *buf, size_t len);

#endif
