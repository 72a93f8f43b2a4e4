/* daemon/link.h - one stream to one peer: framed messages in, framed messages out.
 *
 * Over plain TCP the socket itself is read and written (daemon/descriptor.h): the loop hears of it
 * through an epoll set, and a thread that has nothing else to do may receive in its place.  Streams
 * of TLS and local ones are received and sent by NNG's threads.
 *
 * Knows headers, not handshakes: daemon/mesh.c decides who the peer is.  Until link_admit() a
 * link takes nothing but HELLO and HELLO_ACK, and stops receiving after one of them, so that
 * whatever the peer sends next waits until the mesh has made up its mind.
 *
 * Control messages wait in the link's inbox for the loop.  An inbox that is full stops the
 * receiving, and with it the sender, until the loop has caught up.  HALOs pass where they are
 * received: their bytes go where events.claim says.
 *
 * Threads: link_send*(), link_flush(), link_pull(), link_take(), link_give_back() and link_nudge()
 * any, the rest the loop's. The events come on whatever thread receives: the loop's, one in
 * link_pull(), or NNG's; failed only on the loop's. */
#ifndef DAEMON_LINK_H
#define DAEMON_LINK_H

#include <nng/nng.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/mesh.h"

enum {
    LINK_MAX_OUT = 1024,           /* messages that may wait to be sent */
    LINK_MAX_OUT_BYTES = 64 << 20, /* and bytes of those that were copied */
    LINK_MAX_IN = 64,              /* control messages that may wait for the loop */
    LINK_MAX_IN_BYTES = 8 << 20,   /* and their bytes: what comes last may pass it */
    LINK_REMOTE_BYTES = 96,
};

struct link;

struct link_events {
    void *ctx;
    /* Something for the loop: a message, or the end.  Any thread; locks may be held. */
    void (*wake)(void *ctx);
    uint8_t *(*claim)(void *ctx, int32_t node, const struct header *h);
    void (*arrived)(void *ctx, int32_t node, const struct header *h);
    void (*failed)(void *ctx, int32_t node, const struct header *h);
    /* A message without a body, before it waits for the loop: true if nobody needs it any more. */
    bool (*order)(void *ctx, int32_t node, const struct header *h);
};

/* Takes `s`, which is a stream of TLS or is not, also on failure.  `watch` is an epoll set whose
 * events go to link_ready(), with the link as their data.  Returns 0 or -ENOMEM. */
int link_new(struct link **l, nng_stream *s, bool tls, int watch, const struct link_events *events);

/* Closes the stream and waits for NNG's callbacks (they are short).  Whoever is in link_pull()
 * leaves it.  No other thread may be in link_send*(). */
void link_shut(struct link *l);
/* The same; then fails an open claim, gives all slots back and drops what waits.  No other thread
 * may be in link_pull(). */
void link_free(struct link *l);

void link_start(struct link *l); /* begins to receive */
/* The peer is `node`: from here on every message is welcome.  Goes on receiving. */
void link_admit(struct link *l, int32_t node);
/* Receives and sends what the socket has and takes now.  `events` as epoll_wait(2) told. */
void link_ready(struct link *l, uint32_t events);

/* Receives on the caller's thread, in place of the loop: no wake-up if the message has come or
 * comes while the caller spins, else one.  Events come on this thread, too.  Returns true when
 * `done(ctx)`, after link_nudge(), and at `until_ns` of CLOCK_MONOTONIC (INT64_MAX: never). Returns
 * false when the link is lost, held for the loop, or received by NNG: whatever still comes then
 * comes by itself.  One thread at a time, any; hold no lock that events or `done` take.
 *
 * Afterwards nobody receives until the next link_pull() or link_give_back(). */
bool link_pull(struct link *l, bool (*done)(void *ctx), void *ctx, int64_t until_ns);
/* As after a link_pull(). */
void link_take(struct link *l);
/* The loop receives again, unless a thread is in link_pull(). */
void link_give_back(struct link *l);
/* Whoever waits in link_pull() returns from it. */
void link_nudge(struct link *l);

/* The next control message; `*body` (h->length bytes) is the caller's to free().  False when
 * there is none. */
bool link_next(struct link *l, struct header *h, uint8_t **body);

/* Why the link is of no more use, NULL while it works.  What came before is still there. */
const char *link_lost(struct link *l);
/* The peer's first message was of another protocol version: nothing more will come of this link,
 * but it still sends. */
bool link_other_version(struct link *l);
bool link_garbage(struct link *l); /* lost, because the peer broke the protocol */

/* As the functions of the mesh.  -ENOTCONN after the link was lost. */
int link_send(struct link *l, const struct header *h, const void *body);
int link_send_slot(struct link *l, struct mesh_slot *s);
void link_flush(struct link *l);
int link_beat(struct link *l); /* sends a HEARTBEAT */
bool link_slot_wait(struct mesh_slot *s, int64_t until_ns);

/* Bytes that were taken and have not left this process. */
size_t link_backlog(struct link *l);
/* Since the last byte came; 0 while there are some that we have not received. */
int64_t link_silent_ms(struct link *l);
/* How far the peer's clock is ahead of ours, and by how much that may be wrong.  False until
 * HEARTBEATs have gone to and fro. */
bool link_clock(struct link *l, int64_t *offset_ns, int64_t *error_ns);
void link_stats(struct link *l, struct mesh_link_stats *s); /* adds */

/* "10.0.0.5:53121", "ipc": for messages.  Returns `text`. */
const char *link_remote(const struct link *l, char text[LINK_REMOTE_BYTES]);

#endif
