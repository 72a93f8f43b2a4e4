/* proto/hello.h - HELLO and HELLO_ACK: who is there, may we talk.
 *
 *   HELLO       cluster text, node text, boot u64, config 32 bytes, threads u16, clock u64,
 *               version text
 *   HELLO_ACK   status u8 (enum hello_status), and then the fields of HELLO: who answers
 *
 * A text is a u8 length, at most HELLO_TEXT_MAX (version: HELLO_VERSION_MAX), and then a text of
 * proto/text.h.
 *
 * A HELLO whose node is empty is no node's: it asks who is there ("splitctl doctor").  Every node
 * answers it with HELLO_OK and ends the stream. */
#ifndef PROTO_HELLO_H
#define PROTO_HELLO_H

#include <stddef.h>
#include <stdint.h>

enum { HELLO_TEXT_MAX = 64, HELLO_VERSION_MAX = 31, HELLO_MAX_BYTES = 256 };

enum hello_status {
    HELLO_OK = 0,
    HELLO_OTHER_CLUSTER = 1, /* cluster names differ */
    HELLO_UNKNOWN_NODE = 2,  /* the name is not in cluster.json */
    HELLO_DUPLICATE = 3,     /* a node of that name is connected and alive */
    HELLO_OTHER_VERSION = 4, /* another protocol version */
    HELLO_STATUSES
};
/* "belongs to another cluster"...: completes a sentence about the peer. */
const char *hello_status_text(enum hello_status s);

struct msg_hello {
    enum hello_status status; /* HELLO_ACK only */
    char cluster[HELLO_TEXT_MAX + 1];
    char node[HELLO_TEXT_MAX + 1];
    uint64_t boot;      /* random, new at every start of the process */
    uint8_t config[32]; /* SHA-256 of cluster.json, to tell when files differ */
    uint16_t threads;
    uint64_t clock_ms;                   /* since 1970, to tell when clocks differ */
    char version[HELLO_VERSION_MAX + 1]; /* of the program */
};

/* Return the length, or -ENOSPC. */
int hello_encode(const struct msg_hello *m, uint8_t *to, size_t cap);
int hello_ack_encode(const struct msg_hello *m, uint8_t *to, size_t cap);
/* Any bytes are allowed.  Return 0, -EBADMSG (length does not fit) or -EPROTO (a field is out
 * of range); `*m` is written only on success. */
int hello_decode(struct msg_hello *m, const uint8_t *buf, size_t len);
int hello_ack_decode(struct msg_hello *m, const uint8_t *buf, size_t len);

#endif
