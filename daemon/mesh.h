/* daemon/mesh.h - one stream to every other node of the cluster.
 *
 * Every node listens; of two the one with the lower index dials.  A link is up only after HELLO and
 * HELLO_ACK.  Links come up, and come back after a loss, by themselves.  A link is lost when
 * its stream fails or its peer is silent for lost_ms.  A peer that breaks the protocol loses
 * its link, never more.
 *
 * Threads: all functions but mesh_send*(), mesh_flush(), mesh_pull(), mesh_take(),
 * mesh_give_back() and mesh_nudge() belong to the loop thread.  The events up, down and message
 * come on the loop.  The others come on whatever thread receives: the loop's, one in mesh_pull(),
 * NNG's where the link is one of TLS or a local one, and, for a slot sent to self, the sender's;
 * they must not block. */
#ifndef DAEMON_MESH_H
#define DAEMON_MESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "proto/header.h"
#include "proto/hello.h"

struct mesh;

struct mesh_events {
    void *ctx;
    void (*up)(void *ctx, int32_t node, const struct msg_hello *hello);
    /* Before this every claim on the link has ended and every slot sent over it is free. */
    void (*down)(void *ctx, int32_t node, const char *why);
    /* Everything but HELLO, HEARTBEAT, BYE and HALO.  `body` is borrowed for the call. */
    void (*message)(void *ctx, int32_t node, const struct header *h, const uint8_t *body);
    /* FRAME and CANCEL from another node come here first, without a hop to the loop: true when that
     * was all, false when the message shall come as the others do.  May be NULL. */
    bool (*order)(void *ctx, int32_t node, const struct header *h);
    /* A HALO of h->length bytes begins: where it goes, or NULL to drop it.  After a claim that
     * was not NULL exactly one of arrived (all bytes are there) and failed (the link died on
     * the way) with the same header. */
    uint8_t *(*claim)(void *ctx, int32_t node, const struct header *h);
    void (*arrived)(void *ctx, int32_t node, const struct header *h);
    void (*failed)(void *ctx, int32_t node, const struct header *h);
};

struct tls;

/* Starts listening and dialling as node `self`.  `tls`: for tcp:// addresses, NULL for none.
 * Returns 0 or a negative errno with a sentence (-EADDRINUSE: who listens where). `config` and
 * `tls` must outlive the mesh. */
int mesh_open(struct mesh **m, uv_loop_t *loop, const struct config *config, int32_t self,
              const struct tls *tls, const struct mesh_events *events, struct diag *why);

/* Says BYE on every link, closes everything within 500 ms, then calls `closed` on the loop.  Of
 * the events only order, claim, arrived and failed still come before that, and none after.  Whoever
 * sends may go on until mesh_free(): it gets -ENOTCONN.  So the order of a shutdown is
 * mesh_close(); then, in `closed`, the close functions of those who send and take events; then,
 * when these are closed, mesh_free(). */
void mesh_close(struct mesh *m, void (*closed)(void *ctx), void *ctx);
void mesh_free(struct mesh *m);

bool mesh_is_up(const struct mesh *m, int32_t node); /* self is always up */

/* Sends a control message; copies `body`.  A message to self comes back as an event.  Returns 0,
 * -ENOTCONN, or -ENOBUFS when the link's queue is full (the link is then taken down: a peer
 * that does not read is as good as lost). Any thread. */
int mesh_send(struct mesh *m, int32_t node, const struct header *h, const void *body);

/* A message whose bytes stay with the sender: set up once, sent many times, nothing copied or
 * allocated.  `payload` must stay untouched from mesh_send_slot() until `busy` is 0. */
struct mesh_slot {
    struct header header;
    const uint8_t *payload;      /* header.length bytes */
    bool more;                   /* another message follows at once, and may leave with this one */
    _Atomic uint32_t busy;       /* not 0: in the link's queue */
    struct mesh_slot *next;      /* private */
    uint8_t bytes[HEADER_BYTES]; /* private: the encoded header */
    bool copied;                 /* private: made by mesh_send(), freed when sent */
};
/* A slot starts zeroed.  Returns 0, -EBUSY (it is still on its way), -ENOTCONN or -ENOBUFS.
 * Any thread; hold no lock that `claim` or `arrived` takes, for they come at once when `node`
 * is self. */
int mesh_send_slot(struct mesh *m, int32_t node, struct mesh_slot *s);
/* Sends what waits for another message because of `more`, if there is none. */
void mesh_flush(struct mesh *m, int32_t node);
/* Sleeps until the slot is not busy, at most until `until_ns` of CLOCK_MONOTONIC.  Returns whether
 * it is free.  For the thread that sends it. */
bool mesh_slot_wait(struct mesh_slot *s, int64_t until_ns);

/* Receives from `node` on the caller's thread, for one that has nothing else to do: cheaper than
 * to be woken when the loop has received.  Claims and arrivals of everything that `node` sends come
 * on this thread then.  Returns true when `done(ctx)`, after mesh_nudge(), and at `until_ns` of
 * CLOCK_MONOTONIC (INT64_MAX: never).  Returns false when nothing can be had this way (the link is
 * down, or the loop has to catch up first, or NNG receives, or `node` is self): what comes then
 * comes by itself.  One thread at a time per node; hold no lock that claim, arrived or `done`
 * takes.
 *
 * A thread that has pulled does so again, or says with mesh_give_back() that it will not: until
 * then messages of `node` wait, some tenths of a second at most.  mesh_take() begins such a time
 * before anything is waited for: the loop is not woken for what comes early. */
bool mesh_pull(struct mesh *m, int32_t node, bool (*done)(void *ctx), void *ctx, int64_t until_ns);
void mesh_take(struct mesh *m, int32_t node);
void mesh_give_back(struct mesh *m, int32_t node);
/* Whoever waits in mesh_pull() for `node` returns from it, or sees what was changed before this
 * call.  Any thread. */
void mesh_nudge(struct mesh *m, int32_t node);

/* Bytes that mesh_send*() has taken for `node` and that have not left this process: whoever
 * sends much (a model's chunks) keeps it low. */
size_t mesh_backlog(struct mesh *m, int32_t node);

/* How far the CLOCK_MONOTONIC of `node` is ahead of ours, and by how much that may be wrong (half
 * of the shortest round trip of the last heartbeats, and drift).  False until heartbeats have gone
 * to and fro, and while the link is down. */
bool mesh_clock(struct mesh *m, int32_t node, int64_t *offset_ns, int64_t *error_ns);

/* Since the start. */
struct mesh_link_stats {
    uint64_t sent_bytes, received_bytes, sent_messages, received_messages;
};
void mesh_stats(struct mesh *m, int32_t node, struct mesh_link_stats *s);

#endif
