/* proto/header.h - what stands before every message on a link, protocol version 1.
 *
 *   offset size  field
 *        0    4  magic      "SPLT"
 *        4    1  version    PROTO_VERSION
 *        5    1  type       enum msg_type
 *        6    2  flags      HEADER_TO_HOST, HEADER_TRACE, HEADER_BRIEF, HEADER_FRESH or 0
 *        8    4  epoch      membership that the message belongs to, 0 before the first
 *       12    4  plan       plan within the epoch, 0 where none is meant
 *       16    4  frame      picture, counted by the coordinator
 *       20    4  transfer   HALO: index in the plan; else 0
 *       24    4  length     bytes that follow
 *
 * All integers little-endian. */
#ifndef PROTO_HEADER_H
#define PROTO_HEADER_H

#include <stddef.h>
#include <stdint.h>

enum { PROTO_VERSION = 1, HEADER_BYTES = 28 };

enum msg_type {
    MSG_HELLO = 1,       /* proto/hello.h; first on every link, from the side that dialled */
    MSG_HELLO_ACK = 2,   /* proto/hello.h; first answer */
    MSG_HEARTBEAT = 3,   /* proto/beat.h */
    MSG_BYE = 4,         /* empty: the peer stops on purpose */
    MSG_MODEL_OFFER = 5, /* proto/model.h; coordinator to node */
    MSG_MODEL_STATE = 6, /* proto/model.h; node to coordinator */
    MSG_MODEL_CHUNK = 7, /* proto/model.h; coordinator to node */
    MSG_PLAN = 8,        /* proto/plan.h; coordinator to node */
    MSG_PLAN_ACK = 9,    /* proto/plan.h; node to coordinator */
    MSG_FRAME = 10,      /* empty; coordinator to node: run `frame` of `plan` */
    MSG_HALO = 11,       /* a message of quant/codec.h, or of libsplit/answer.h; any to any node */
    MSG_FRAME_DONE = 12, /* proto/frame.h; node to coordinator */
    MSG_CANCEL = 13,     /* empty; coordinator to node: forget `frame`; 0: all of `plan` */
    MSG_LINKS = 14,      /* proto/links.h; node to coordinator */
    MSG_HEALTH = 15,     /* proto/health.h; node to coordinator, now and then */
    MSG_TYPES
};

/* The most bytes of a HALO: a picture of 44 million RGB pixels as floats. */
enum { HALO_MAX_BYTES = 1 << 29 };

enum {
    HEADER_TO_HOST = 1, /* HALO: for the process that runs the coordinator, not for its node */
    HEADER_TRACE = 2,   /* FRAME: what happens when is to be in FRAME_DONE */
    HEADER_BRIEF = 4,   /* FRAME: answers in the forms that PLAN says */
    HEADER_FRESH = 8,   /* FRAME: its messages build on none of a frame before, some of which was
                         * given up */
};

struct header {
    enum msg_type type;
    uint16_t flags;
    uint32_t epoch, plan, frame, transfer, length;
};

void header_encode(const struct header *h, uint8_t to[HEADER_BYTES]);

/* Decodes a header of any bytes.  Returns 0, -EPROTO (not ours, unknown type or flag),
 * -EPROTONOSUPPORT (another version: `*h` is still filled, its type as found) or -EMSGSIZE (longer
 * than header_cap() of its type). */
int header_decode(struct header *h, const uint8_t from[HEADER_BYTES]);

/* The most bytes that may follow a header of this type, 0 for an unknown one.  The receiver
 * allocates nothing before it has checked. */
uint32_t header_cap(enum msg_type type);

#endif
