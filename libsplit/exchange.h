/* libsplit/exchange.h - how an executor reaches its peers, whatever lies between.
 *
 * Implemented by libsplit/local.c (threads of one process) and daemon/worker.c (links).
 * One object serves one frame on one node; calls come from the thread that runs the frame. */
#ifndef LIBSPLIT_EXCHANGE_H
#define LIBSPLIT_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "tiling/program.h"

/* `s` is the SEND or RECV step of the program that is under way. */
struct exchange {
    /* Storage for a message of at most `cap` bytes.  The caller fills it and calls send() of the
     * same step next.  Returns 0, -ECANCELED, or, where s->may_miss, -EBUSY: an earlier message
     * cannot leave, or the peer has given this one up already.  Then nothing is to be sent. */
    int (*reserve)(struct exchange *x, const struct step *s, size_t cap, uint8_t **to);
    /* Sends the `len` <= cap bytes.  Never waits for the peer.  Returns 0, or a negative
     * errno when the frame is lost (-ECANCELED, -EPIPE). */
    int (*send)(struct exchange *x, const struct step *s, size_t len);
    /* Waits until the message is there, at most until the frame's deadline.  `*msg` stays
     * valid until release().  Returns 0, -ETIMEDOUT, -ECANCELED, or, where s->may_miss, -ETIME: it
     * is late.  Then it is given up: whenever it comes, it is dropped. */
    int (*recv)(struct exchange *x, const struct step *s, const uint8_t **msg, size_t *len);
    void (*release)(struct exchange *x, const struct step *s);
};

#endif
