/* daemon/mesh_impl.h - the mesh from the inside: daemon/mesh.c has the links that are up, and
 * daemon/mesh_meet.c brings them up.  Everything here is the loop's unless it says otherwise. */
#ifndef DAEMON_MESH_IMPL_H
#define DAEMON_MESH_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/link.h"
#include "daemon/mesh.h"

enum {
    MAX_STRANGERS = 32,   /* accepted streams that have not said HELLO */
    REDIAL_FIRST_MS = 50, /* how long after a failure; doubles with the next */
};

/* Another node of the cluster. */
struct peer {
    struct mesh *mesh;
    pthread_mutex_t lock;          /* guards `link` against its end; only the loop writes it */
    pthread_mutex_t pull;          /* held, often for long, by who pulls; before `lock` */
    struct link *link;             /* up, else NULL */
    uint64_t boot;                 /* of the process at the other end */
    int64_t beat_ms;               /* when the last heartbeat was sent */
    struct mesh_link_stats before; /* of links that are gone */

    /* Where we dial: */
    nng_stream_dialer *dialer;
    nng_aio *dial;
    bool dialling;
    _Atomic bool dialled;  /* `dial` has ended: look at its result */
    struct link *greeting; /* HELLO is on its way */
    int64_t hello_ms;
    int64_t redial_ms, backoff_ms;
    char complaint[64]; /* what was logged about the last failure: not every time again */
};

/* A stream that was accepted and may become a peer's. */
struct stranger {
    struct link *link; /* NULL: free */
    int64_t until_ms;
    bool answered; /* will not be linked; lingers so that the peer can read the answer */
};

struct mesh {
    uv_loop_t *loop;
    uv_async_t async;
    uv_timer_t timer;
    int watch;      /* the epoll set of the links' sockets */
    uv_poll_t poll; /* of that set */
    const struct config *config;
    int32_t self;
    const struct tls *tls; /* NULL: none */
    uint64_t boot;
    struct mesh_events events;

    struct peer peer[CONFIG_MAX_NODES];
    nng_stream_listener *listener;
    nng_aio *accept;
    bool accepting;
    _Atomic bool accepted; /* `accept` has ended: look at its result */
    struct stranger stranger[MAX_STRANGERS];

    pthread_rwlock_t self_lock; /* held for reading while a slot goes to self */
    bool shut;                  /* nothing passes any more; guarded by self_lock */
    pthread_mutex_t echo_lock;
    struct echo *first_echo, **last_echo;
    size_t echoes, echo_bytes;

    bool closing;
    int64_t close_by_ms;
    int handles; /* of libuv that are open */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static inline const char *mesh_name(const struct mesh *m, int32_t node)
{
    return m->config->node[node].name;
}

/* libuv's clock, which stands still while a callback runs: one moment for one decision. */
static inline int64_t mesh_now_ms(const struct mesh *m) { return (int64_t)uv_now(m->loop); }

/* ---- daemon/mesh.c */

void mesh_wake(void *mesh); /* any thread */

/* A link whose events are the mesh's.  As link_new(). */
int mesh_new_link(struct mesh *m, struct link **l, nng_stream *s, bool tls);
/* `l`, which has greeted, is the link of `node` from now on. */
void mesh_link_up(struct mesh *m, int32_t node, struct link *l, const struct msg_hello *hello);
/* The link of `node` ends. */
void mesh_link_down(struct mesh *m, int32_t node, const char *reason);

/* ---- daemon/mesh_meet.c */

/* Listens for the nodes before this one and gets ready to dial those behind it. */
int meet_open(struct mesh *m, struct diag *why);
/* Looks at whatever has come of dialling, accepting and greeting. */
void meet_serve(struct mesh *m);
/* At every tick: dials again, gives up on who is silent. */
void meet_tend(struct mesh *m);
/* Frees all of it; also what is half open, also twice. */
void meet_close(struct mesh *m);

#endif
