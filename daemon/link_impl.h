/* daemon/link_impl.h - a link from the inside: daemon/link.c has its life, daemon/link_receive.c
 * what comes, daemon/link_send.c what goes. */
#ifndef DAEMON_LINK_IMPL_H
#define DAEMON_LINK_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/link.h"
#include "daemon/skew.h"
#include "libsplit/clock.h"
#include "proto/beat.h"

enum {
    /* One read takes what has come up to here: small messages together, a header with its payload.
     * Copying this much is cheaper than another read. */
    AHEAD_BYTES = 64 * 1024,
    RECORD_BYTES = 16 * 1024, /* the most that TLS encrypts at once */
    NO_NODE = -1,
    NO_FD = -1,
};

/* A control message that waits for the loop. */
struct message {
    struct message *next;
    struct header header;
    uint8_t *body;
};

/* Who receives. */
enum receiver {
    LISTENED, /* the loop, when the epoll set tells it to; or NNG's callback */
    HELD,     /* nobody until the loop has caught up */
    PULLED,   /* a thread in link_pull(), or about to be */
    LEFT,     /* nobody until the next link_pull() or link_give_back() */
};

/* Where the receiving stands. */
struct incoming {
    uint8_t ahead[AHEAD_BYTES];
    size_t lo, hi; /* bytes of `ahead` that came and were not taken yet */
    bool in_payload;
    struct header header;
    size_t got;    /* bytes of the payload */
    uint8_t *into; /* where they go: a claim, `beat`, the heap for the loop, NULL to drop them */
    bool claimed;
    uint8_t beat[BEAT_BYTES]; /* a HEARTBEAT is taken in without the loop */
};

struct link {
    nng_stream *stream;
    /* The stream's own socket, where it may be used; it is then in the set `watch`, and `nudge`
     * ends a puller's sleep.  Else NO_FD, and NNG receives and sends with the aios, which are not
     * used otherwise. */
    int fd, watch, nudge;
    nng_aio *recv, *send;
    uint8_t *record; /* what `send` is sending */
    struct link_events events;

    /* Held by whoever touches these, unless that is NNG's callback: it is alone.  Before `lock`. */
    pthread_mutex_t receiving;
    struct incoming in;
    int64_t spin_ns; /* the puller's */
    uint32_t waits;
    int low_water; /* SO_RCVLOWAT */

    _Atomic int32_t node; /* NO_NODE until it is admitted */

    _Atomic int64_t heard_ms; /* when the last byte came */
    _Atomic uint64_t sent_bytes, received_bytes, sent_messages, received_messages;

    pthread_mutex_t lock; /* guards what follows */
    char why[128];        /* not "": lost */
    bool other_version, garbage;

    _Atomic(enum receiver) receiver; /* written under the lock */
    uint32_t watched;                /* the events that the set is told to look for */
    struct message *first, **last;
    size_t in_count, in_bytes;

    struct mesh_slot *head, *tail; /* to be sent, in order */
    size_t head_sent;              /* bytes of the head's header and payload that have left */
    size_t out_count, out_bytes, copied_bytes;
    bool sending; /* the send aio is under way, or the socket takes nothing for now */

    int64_t beat_sent_ns, beat_came_ns; /* the last HEARTBEAT that came: by their clock, by ours */
    struct skew skew;
};

static inline int64_t link_now_ms(void) { return clock_ns() / 1000000; }

/* `lock` is held.  Has the set look for what the link waits for.  The end of the stream is heard of
 * in any case, where nobody listens once (EPOLLET) and not for ever. */
void link_look_out(struct link *l);

/* The first reason counts: what follows from it says less.  The one `_locked` under the lock. */
void link_lose(struct link *l, const char *why);
void link_lose_locked(struct link *l, const char *why);

/* NNG's callbacks for l->recv and l->send; `arg` is the link. */
void link_on_received(void *arg);
void link_on_sent(void *arg);

/* Takes what the socket has, on the loop. */
void link_listen(struct link *l);
/* Sends what the socket takes.  `lock` is held, and no send is under way. */
void link_send_on(struct link *l);

/* What has come or waits to be sent is given back or freed; nobody else has the link any more. */
void link_drop_incoming(struct link *l);
void link_drop_outgoing(struct link *l);

#endif
