/* libsplit/exchange.h - how an executor reaches its peers, whatever lies between.
 *
 * Implemented by libsplit/local.c (threads of one process) and daemon/worker.c (links).
 * One object serves one frame on one node; calls come from the thread that runs the frame. */
#ifndef LIBSPLIT_EXCHANGE_H
#define LIBSPLIT_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

struct exchange {
    /* Storage for a message of at most `cap` bytes to `peer`.  NULL: the frame is cancelled.
     * The caller fills it and calls send() with the same transfer next. */
    uint8_t *(*reserve)(struct exchange *x, int32_t peer, int32_t transfer, size_t cap);
    /* Sends the `len` <= cap bytes.  Never waits for the peer.  Returns 0, or a negative
     * errno when the frame is lost (-ECANCELED, -EPIPE). */
    int (*send)(struct exchange *x, int32_t peer, int32_t transfer, size_t len);
    /* Waits until the message is there, at most until the frame's deadline.  `*msg` stays
     * valid until release().  Returns 0, -ETIMEDOUT or -ECANCELED. */
    int (*recv)(struct exchange *x, int32_t transfer, const uint8_t **msg, size_t *len);
    void (*release)(struct exchange *x, int32_t transfer);
};

#endif
