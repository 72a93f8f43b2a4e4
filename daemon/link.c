#include "daemon/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/descriptor.h"
#include "daemon/skew.h"
#include "libsplit/clock.h"
#include "libsplit/futex.h"
#include "proto/beat.h"

enum {
    /* One read takes what has come up to here: small messages together, a header with its payload.
     * Copying this much is cheaper than another read. */
    AHEAD_BYTES = 64 * 1024,
    GATHER = 4,               /* messages in one write */
    RECORD_BYTES = 16 * 1024, /* the most that TLS encrypts at once */
    /* Who sleeps on part of a payload is not woken for every packet, but for as much as this:
     * a slow link is still heard often enough to be known alive. */
    WORTH_WAKING = 32 * 1024,
    NO_NODE = -1,
    NO_FD = -1,
    /* Before a puller sleeps it spins, as long as that pays: twice the time that it has taken until
     * something came, half as long whenever nothing did, and once in a while the most in spite of
     * all. */
    SPIN_MOST_NS = 50 * 1000,
    SPIN_LEAST_NS = 2 * 1000,
    SPIN_RETRY = 64,
};

/* A control message that waits for the loop. */
struct message {
    struct message *next;
    struct header header;
    uint8_t *body;
};

/* A control message on its way out. */
struct copy {
    struct mesh_slot slot; /* first: what is queued is the slot */
    uint8_t body[];
};

/* A slot's `busy`; AWAITED: somebody sleeps until it is free. */
enum { SLOT_FREE, SLOT_BUSY, SLOT_AWAITED };

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

static int64_t now_ms(void) { return clock_ns() / 1000000; }

/* `lock` is held.  Has the set look for what the link waits for.  The end of the stream is heard of
 * in any case, where nobody listens once (EPOLLET) and not for ever. */
static void look_out(struct link *l)
{
    const bool listened = l->receiver == LISTENED && !l->why[0];
    const uint32_t events = (listened ? (uint32_t)EPOLLIN : (uint32_t)EPOLLET | EPOLLRDHUP) |
                            (l->sending && !l->why[0] ? (uint32_t)EPOLLOUT : 0);
    struct epoll_event e = { .events = events, .data.ptr = l };

    if (l->fd == NO_FD || events == l->watched)
        return;
    l->watched = events;
    (void)epoll_ctl(l->watch, EPOLL_CTL_MOD, l->fd, &e); /* fails after link_shut() only */
}

/* `lock` is held. */
static void pass(struct link *l, enum receiver to)
{
    l->receiver = to;
    look_out(l);
}

/* The first reason counts: what follows from it says less.  `lock` is held. */
static void lose_locked(struct link *l, const char *why)
{
    if (l->why[0])
        return;
    snprintf(l->why, sizeof l->why, "%s", why);
    look_out(l);
    l->events.wake(l->events.ctx);
}

static void lose(struct link *l, const char *why)
{
    pthread_mutex_lock(&l->lock);
    lose_locked(l, why);
    pthread_mutex_unlock(&l->lock);
}

static void lose_for_garbage(struct link *l, const char *what)
{
    pthread_mutex_lock(&l->lock);
    l->garbage = true;
    lose_locked(l, what);
    pthread_mutex_unlock(&l->lock);
}

/* ---- receiving */

enum taken { TAKE_MORE, TAKE_HELD, TAKE_LOST };

static bool is_greeting(enum msg_type t) { return t == MSG_HELLO || t == MSG_HELLO_ACK; }

/* Hands the finished control message to the loop.  After TAKE_HELD NNG's callback must not touch
 * `in`: it is the loop's. */
static enum taken deliver(struct link *l)
{
    struct incoming *in = &l->in;
    struct message *m = malloc(sizeof *m);

    if (!m) {
        lose(l, "out of memory");
        return TAKE_LOST;
    }
    *m = (struct message){ .header = in->header, .body = in->into };
    in->into = NULL;
    in->in_payload = false;
    const bool greeting = is_greeting(m->header.type);

    pthread_mutex_lock(&l->lock);
    *l->last = m;
    l->last = &m->next;
    l->in_count++;
    l->in_bytes += m->header.length;
    const bool full = l->in_count >= LINK_MAX_IN || l->in_bytes >= LINK_MAX_IN_BYTES;
    if (greeting || full)
        pass(l, HELD);
    l->events.wake(l->events.ctx);
    pthread_mutex_unlock(&l->lock);
    return greeting || full ? TAKE_HELD : TAKE_MORE;
}

static enum taken take_beat(struct link *l)
{
    struct incoming *in = &l->in;
    const int64_t now_ns = clock_ns();
    struct msg_beat b;

    in->in_payload = false;
    in->into = NULL;
    if (beat_decode(&b, in->beat, in->header.length) < 0) {
        lose_for_garbage(l, "sent a HEARTBEAT that does not decode");
        return TAKE_LOST;
    }
    pthread_mutex_lock(&l->lock);
    if (b.echo_ns > 0)
        skew_add(&l->skew, b.echo_ns, b.received_ns, b.sent_ns, now_ns);
    l->beat_sent_ns = b.sent_ns;
    l->beat_came_ns = now_ns;
    pthread_mutex_unlock(&l->lock);
    return TAKE_MORE;
}

static enum taken finish_message(struct link *l)
{
    struct incoming *in = &l->in;

    atomic_fetch_add_explicit(&l->received_messages, 1, memory_order_relaxed);
    if (in->header.type == MSG_HALO) {
        const bool claimed = in->claimed;
        in->in_payload = in->claimed = false;
        in->into = NULL;
        if (claimed)
            l->events.arrived(l->events.ctx, l->node, &in->header);
        return TAKE_MORE;
    }
    if (in->header.type == MSG_HEARTBEAT)
        return take_beat(l);
    if (in->header.length == 0 && l->events.order(l->events.ctx, l->node, &in->header)) {
        in->in_payload = false;
        return TAKE_MORE;
    }
    return deliver(l);
}

/* Takes a header and finds the place for its payload. */
static enum taken begin_message(struct link *l)
{
    struct incoming *in = &l->in;
    struct header h;
    const int err = header_decode(&h, in->ahead + in->lo);

    const int32_t node = l->node;

    if (err == -EPROTONOSUPPORT && node == NO_NODE) {
        /* Not lost yet: the mesh will want to tell the peer why. */
        pthread_mutex_lock(&l->lock);
        l->other_version = true;
        pass(l, HELD);
        l->events.wake(l->events.ctx);
        pthread_mutex_unlock(&l->lock);
        return TAKE_HELD;
    }
    if (err < 0) {
        lose_for_garbage(l, err == -EMSGSIZE ? "sent a message longer than its type allows"
                                             : "sent bytes that are no message of splitd");
        return TAKE_LOST;
    }
    if (is_greeting(h.type) != (node == NO_NODE)) {
        lose_for_garbage(l, node == NO_NODE ? "sent a message before HELLO" : "sent HELLO twice");
        return TAKE_LOST;
    }

    in->lo += HEADER_BYTES;
    in->header = h;
    in->got = 0;
    in->into = NULL;
    if (h.type == MSG_HALO) {
        in->into = l->events.claim(l->events.ctx, node, &in->header);
        in->claimed = in->into != NULL;
    } else if (h.type == MSG_HEARTBEAT) {
        in->into = in->beat;
    } else if (h.length > 0) {
        in->into = malloc(h.length);
        if (!in->into) {
            lose(l, "out of memory");
            return TAKE_LOST;
        }
    }
    in->in_payload = true;
    return TAKE_MORE;
}

/* Takes messages out of what has come, as far as that goes. */
static enum taken take(struct link *l)
{
    struct incoming *in = &l->in;

    for (;;) {
        enum taken t;
        if (!in->in_payload) {
            if (in->hi - in->lo < HEADER_BYTES)
                return TAKE_MORE;
            t = begin_message(l);
            if (t != TAKE_MORE)
                return t;
        }
        const size_t want = in->header.length - in->got, have = in->hi - in->lo;
        const size_t n = want < have ? want : have;
        if (in->into && n > 0)
            memcpy(in->into + in->got, in->ahead + in->lo, n);
        in->got += n;
        in->lo += n;
        if (n < want)
            return TAKE_MORE;
        t = finish_message(l);
        if (t != TAKE_MORE)
            return t;
    }
}

/* Where the next bytes go: the rest of the payload straight into its place, what follows it into
 * `ahead`.  Returns how many pieces there are. */
static unsigned make_room(struct link *l, struct iovec iov[2])
{
    struct incoming *in = &l->in;
    unsigned n = 0;

    memmove(in->ahead, in->ahead + in->lo, in->hi - in->lo);
    in->hi -= in->lo;
    in->lo = 0;
    if (in->in_payload && in->into)
        iov[n++] = (struct iovec){ in->into + in->got, in->header.length - in->got };
    iov[n++] = (struct iovec){ in->ahead + in->hi, AHEAD_BYTES - in->hi };
    return n;
}

/* `n` bytes have come to where make_room() said. */
static void came(struct link *l, size_t n)
{
    struct incoming *in = &l->in;

    atomic_store_explicit(&l->heard_ms, now_ms(), memory_order_relaxed);
    atomic_fetch_add_explicit(&l->received_bytes, n, memory_order_relaxed);
    if (in->in_payload && in->into) {
        const size_t want = in->header.length - in->got;
        const size_t direct = n < want ? n : want;
        in->got += direct;
        n -= direct;
    }
    in->hi += n;
}

static const char closed_by_peer[] = "connection closed by the peer";

/* ---- receiving by NNG */

static void ask(struct link *l)
{
    struct iovec room[2];
    nng_iov iov[2];
    const unsigned n = make_room(l, room);

    for (unsigned i = 0; i < n; i++)
        iov[i] = (nng_iov){ room[i].iov_base, room[i].iov_len };
    (void)nng_aio_set_iov(l->recv, n, iov); /* fails beyond 8 pieces only */
    nng_stream_recv(l->stream, l->recv);
}

static void on_received(void *arg)
{
    struct link *l = arg;
    const int rv = nng_aio_result(l->recv);

    if (rv != 0) {
        lose(l, rv == NNG_ECLOSED || rv == NNG_ECONNSHUT ? closed_by_peer : nng_strerror(rv));
        return;
    }
    came(l, nng_aio_count(l->recv));
    if (take(l) == TAKE_MORE)
        ask(l);
}

/* ---- receiving from the socket itself.  `receiving` is held. */

/* Takes what the socket has.  TAKE_MORE with `*got` false: nothing, for now. */
static enum taken read_now(struct link *l, bool *got)
{
    struct iovec iov[2];
    const ssize_t n = readv(l->fd, iov, (int)make_room(l, iov));

    *got = n > 0;
    if (n > 0) {
        came(l, (size_t)n);
        return take(l);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return TAKE_MORE;
    lose(l, n == 0 ? closed_by_peer : strerror(errno));
    return TAKE_LOST;
}

/* Looks for what comes, for a while.  As read_now(). */
static enum taken spin(struct link *l, bool *got)
{
    const bool retry = ++l->waits % SPIN_RETRY == 0;
    const int64_t most_ns = retry ? SPIN_MOST_NS : l->spin_ns;
    const int64_t start_ns = clock_ns();
    int64_t spent_ns = 0;
    enum taken t = TAKE_MORE;

    *got = false;
    if (most_ns < SPIN_LEAST_NS)
        return t;
    while (t == TAKE_MORE && !*got && spent_ns < most_ns) {
        t = read_now(l, got);
        spent_ns = clock_ns() - start_ns;
    }
    if (!*got)
        l->spin_ns /= 2;
    else if (l->spin_ns < 2 * spent_ns + SPIN_LEAST_NS)
        l->spin_ns = 2 * spent_ns + SPIN_LEAST_NS;
    if (l->spin_ns > SPIN_MOST_NS)
        l->spin_ns = SPIN_MOST_NS;
    return t;
}

/* Whoever sleeps on the socket sleeps until `least` bytes are there, or the end. */
static void set_low_water(struct link *l, int least)
{
    if (l->low_water == least)
        return;
    l->low_water = least;
    (void)setsockopt(l->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
}

static int worth_waking(const struct incoming *in)
{
    const size_t rest = in->in_payload ? in->header.length - in->got : 1;
    return rest < WORTH_WAKING ? (int)rest : WORTH_WAKING;
}

/* In whole ms, as poll(2) takes them. */
static int wait_ms(int64_t until_ns)
{
    if (until_ns == INT64_MAX)
        return -1;
    const int64_t ms = (until_ns - clock_ns()) / 1000000 + 1;
    return ms < 0 ? 0 : ms < INT_MAX ? (int)ms : INT_MAX;
}

/* Returns false after link_nudge(), and when nothing has come until `until_ns`. */
static bool sleep_on_socket(struct link *l, int64_t until_ns)
{
    struct pollfd p[] = { { .fd = l->fd, .events = POLLIN }, { .fd = l->nudge, .events = POLLIN } };
    uint64_t count;

    set_low_water(l, worth_waking(&l->in));
    const int ready = poll(p, 2, wait_ms(until_ns));
    if (ready > 0 && p[1].revents != 0)
        (void)!read(l->nudge, &count, sizeof count); /* none is left of it */
    return ready < 0 || (ready > 0 && p[1].revents == 0);
}

static void pull(struct link *l, bool (*done)(void *ctx), void *ctx, int64_t until_ns)
{
    enum taken t = TAKE_MORE;
    bool got = true;

    while (t == TAKE_MORE && !done(ctx)) {
        t = read_now(l, &got);
        if (t == TAKE_MORE && !got)
            t = spin(l, &got);
        if (t == TAKE_MORE && !got && !sleep_on_socket(l, until_ns))
            break;
    }
    if (t == TAKE_MORE)
        set_low_water(l, worth_waking(&l->in));
}

/* ---- who receives */

/* Takes up receiving if it was held. */
static void resume(struct link *l)
{
    pthread_mutex_lock(&l->receiving); /* a puller that has filled the inbox may not have left */
    pthread_mutex_lock(&l->lock);
    const bool go = l->receiver == HELD && !l->why[0];
    if (go)
        pass(l, LISTENED);
    pthread_mutex_unlock(&l->lock);
    if (go) {
        atomic_store_explicit(&l->heard_ms, now_ms(), memory_order_relaxed);
        const enum taken t = take(l);
        if (t == TAKE_MORE && l->fd == NO_FD)
            ask(l);
        else if (t == TAKE_MORE)
            set_low_water(l, worth_waking(&l->in));
    }
    pthread_mutex_unlock(&l->receiving);
}

void link_start(struct link *l)
{
    struct epoll_event e = { .events = l->watched = EPOLLIN, .data.ptr = l };

    if (l->fd == NO_FD)
        ask(l);
    else if (epoll_ctl(l->watch, EPOLL_CTL_ADD, l->fd, &e) < 0)
        lose(l, strerror(errno));
}

/* A puller that has the link hears what the set tells, too.  Without `lock`, which whoever has just
 * given the link back may still hold. */
static void listen_now(struct link *l)
{
    enum taken t = TAKE_MORE;
    bool got = true;

    if (pthread_mutex_trylock(&l->receiving) != 0)
        return;
    const enum receiver r = atomic_load(&l->receiver);
    if (r == LISTENED)
        t = read_now(l, &got);
    while (r == LEFT && t == TAKE_MORE && got) /* what came before the end, and the end */
        t = read_now(l, &got);
    if (t == TAKE_MORE)
        set_low_water(l, worth_waking(&l->in));
    pthread_mutex_unlock(&l->receiving);
}

/* Makes the caller the one who receives, and `receiving` his, if the loop does not hold the link.
 */
static bool take_over(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    bool mine = (l->receiver == LISTENED || l->receiver == LEFT) && !l->why[0];
    if (mine)
        pass(l, PULLED); /* before `receiving`, or the set would wake the loop again and again */
    pthread_mutex_unlock(&l->lock);
    if (!mine)
        return false;

    pthread_mutex_lock(&l->receiving);
    pthread_mutex_lock(&l->lock);
    mine = l->receiver == PULLED; /* unless what the loop was receiving was too much for it */
    pthread_mutex_unlock(&l->lock);
    if (!mine)
        pthread_mutex_unlock(&l->receiving);
    return mine;
}

bool link_pull(struct link *l, bool (*done)(void *ctx), void *ctx, int64_t until_ns)
{
    if (l->fd == NO_FD || !take_over(l))
        return false;
    pull(l, done, ctx, until_ns);
    pthread_mutex_lock(&l->lock);
    if (l->receiver == PULLED) /* the loop may hold it */
        pass(l, LEFT);
    pthread_mutex_unlock(&l->lock);
    pthread_mutex_unlock(&l->receiving);
    return true;
}

void link_take(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->receiver == LISTENED && l->fd != NO_FD)
        pass(l, LEFT);
    pthread_mutex_unlock(&l->lock);
}

void link_give_back(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->receiver == LEFT)
        pass(l, LISTENED);
    pthread_mutex_unlock(&l->lock);
}

void link_nudge(struct link *l)
{
    const uint64_t one = 1;

    pthread_mutex_lock(&l->lock);
    if (l->receiver == PULLED)
        (void)!write(l->nudge, &one, sizeof one); /* fails if a nudge waits already */
    pthread_mutex_unlock(&l->lock);
}

void link_admit(struct link *l, int32_t node)
{
    l->node = node;
    resume(l);
}

bool link_next(struct link *l, struct header *h, uint8_t **body)
{
    pthread_mutex_lock(&l->lock);
    struct message *m = l->first;
    if (m) {
        l->first = m->next;
        if (!l->first)
            l->last = &l->first;
        l->in_count--;
        l->in_bytes -= m->header.length;
    }
    /* Waiting until the inbox is empty spares a stop and go for every message. */
    const bool caught_up = !l->first && l->receiver == HELD && l->node != NO_NODE;
    pthread_mutex_unlock(&l->lock);

    if (caught_up)
        resume(l);
    if (!m)
        return false;
    *h = m->header;
    *body = m->body;
    free(m);
    return true;
}

/* ---- sending */

static void free_slot(struct mesh_slot *s)
{
    if (atomic_exchange(&s->busy, SLOT_FREE) == SLOT_AWAITED)
        futex_wake_all(&s->busy); /* no access: the slot itself may be gone */
}

/* `lock` is held.  Gives the slot back, or frees the copy. */
static void release(struct link *l, struct mesh_slot *s)
{
    l->out_count--;
    l->out_bytes -= HEADER_BYTES + s->header.length;
    if (s->copied) {
        l->copied_bytes -= HEADER_BYTES + s->header.length;
        free(s);
    } else {
        free_slot(s);
    }
}

/* An iovec serves both ways and so is not const. */
static void *unconst(const uint8_t *p)
{
    void *q;
    memcpy(&q, &p, sizeof q);
    return q;
}

/* `lock` is held.  Fills `iov` with the first messages of the queue.  Returns how many pieces. */
static unsigned gather(const struct link *l, struct iovec iov[2 * GATHER], size_t *bytes)
{
    unsigned n = 0;
    size_t skip = l->head_sent;
    int i = 0;

    *bytes = 0;
    for (struct mesh_slot *s = l->head; s && i < GATHER; s = s->next, i++) {
        *bytes += HEADER_BYTES + s->header.length - skip;
        if (skip < HEADER_BYTES) {
            iov[n++] = (struct iovec){ s->bytes + skip, HEADER_BYTES - skip };
            skip = 0;
        } else {
            skip -= HEADER_BYTES;
        }
        if (s->header.length > skip)
            iov[n++] = (struct iovec){ unconst(s->payload + skip), s->header.length - skip };
        skip = 0;
    }
    return n;
}

/* `lock` is held.  Has NNG send, in one piece: of several it makes a TLS record of the first only.
 */
static void send_record(struct link *l)
{
    size_t skip = l->head_sent, n = 0;

    for (const struct mesh_slot *s = l->head; s && n < RECORD_BYTES; s = s->next) {
        if (skip < HEADER_BYTES) {
            const size_t rest = HEADER_BYTES - skip, room = RECORD_BYTES - n;
            const size_t len = rest < room ? rest : room;
            memcpy(l->record + n, s->bytes + skip, len);
            n += len;
            skip = HEADER_BYTES;
        }
        const size_t rest = HEADER_BYTES + s->header.length - skip, room = RECORD_BYTES - n;
        const size_t len = rest < room ? rest : room;
        if (len > 0)
            memcpy(l->record + n, s->payload + skip - HEADER_BYTES, len);
        n += len;
        skip = 0;
    }
    (void)nng_aio_set_iov(l->send, 1, &(nng_iov){ l->record, n });
    nng_stream_send(l->stream, l->send);
}

/* `lock` is held.  `n` more bytes have left. */
static void advance(struct link *l, size_t n)
{
    atomic_fetch_add_explicit(&l->sent_bytes, n, memory_order_relaxed);
    l->head_sent += n;
    while (l->head) {
        struct mesh_slot *s = l->head;
        const size_t whole = HEADER_BYTES + (size_t)s->header.length;
        if (l->head_sent < whole)
            break;
        l->head_sent -= whole;
        l->head = s->next;
        if (!l->head)
            l->tail = NULL;
        release(l, s);
        atomic_fetch_add_explicit(&l->sent_messages, 1, memory_order_relaxed);
    }
}

/* `lock` is held; the queue is not empty.  Returns false when the rest has to wait until the socket
 * takes more, or the link is lost. */
static bool write_now(struct link *l)
{
    struct iovec iov[2 * GATHER];
    size_t bytes;
    const struct msghdr m = { .msg_iov = iov, .msg_iovlen = gather(l, iov, &bytes) };
    const ssize_t n = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR)
        lose_locked(l, strerror(errno));
    if (n > 0)
        advance(l, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

/* `lock` is held and no send is under way.  NNG never runs a callback inside nng_stream_send(): it
 * queues it for one of its threads. */
static void send_on(struct link *l)
{
    if (l->fd != NO_FD)
        while (l->head && write_now(l))
            ;
    l->sending = l->head && !l->why[0];
    if (l->sending && l->fd == NO_FD)
        send_record(l);
    look_out(l);
}

static void on_sent(void *arg)
{
    struct link *l = arg;
    const int rv = nng_aio_result(l->send);

    pthread_mutex_lock(&l->lock);
    if (rv != 0) {
        l->sending = false;
        lose_locked(l, nng_strerror(rv));
    } else {
        advance(l, nng_aio_count(l->send));
        send_on(l);
    }
    pthread_mutex_unlock(&l->lock);
}

void link_ready(struct link *l, uint32_t events)
{
    if (events & EPOLLOUT) {
        pthread_mutex_lock(&l->lock);
        if (!l->why[0])
            send_on(l);
        pthread_mutex_unlock(&l->lock);
    }
    if (events & ~(uint32_t)EPOLLOUT)
        listen_now(l);
}

/* `lock` is held. */
static int enqueue(struct link *l, struct mesh_slot *s)
{
    const size_t bytes = HEADER_BYTES + (size_t)s->header.length;

    if (l->why[0])
        return -ENOTCONN;
    if (l->out_count >= LINK_MAX_OUT ||
        (s->copied && l->copied_bytes + bytes > LINK_MAX_OUT_BYTES)) {
        lose_locked(l, "does not read what is sent to it");
        return -ENOBUFS;
    }
    header_encode(&s->header, s->bytes);
    s->next = NULL;
    if (l->tail)
        l->tail->next = s;
    else
        l->head = s;
    l->tail = s;
    l->out_count++;
    l->out_bytes += bytes;
    if (s->copied)
        l->copied_bytes += bytes;
    if (!l->sending && !s->more)
        send_on(l);
    return 0;
}

int link_send(struct link *l, const struct header *h, const void *body)
{
    if (h->length > header_cap(h->type))
        return -EMSGSIZE;
    struct copy *c = malloc(sizeof *c + h->length);
    if (!c)
        return -ENOMEM;
    c->slot = (struct mesh_slot){ .header = *h, .payload = c->body, .copied = true };
    if (h->length > 0)
        memcpy(c->body, body, h->length);

    pthread_mutex_lock(&l->lock);
    const int err = enqueue(l, &c->slot);
    pthread_mutex_unlock(&l->lock);
    if (err < 0)
        free(c);
    return err;
}

int link_beat(struct link *l)
{
    uint8_t body[BEAT_BYTES];

    pthread_mutex_lock(&l->lock);
    const struct msg_beat b = { .sent_ns = clock_ns(),
                                .echo_ns = l->beat_sent_ns,
                                .received_ns = l->beat_came_ns };
    pthread_mutex_unlock(&l->lock);
    beat_encode(&b, body);
    return link_send(l, &(struct header){ .type = MSG_HEARTBEAT, .length = BEAT_BYTES }, body);
}

int link_send_slot(struct link *l, struct mesh_slot *s)
{
    uint32_t was = SLOT_FREE;
    if (!atomic_compare_exchange_strong(&s->busy, &was, SLOT_BUSY))
        return -EBUSY;
    pthread_mutex_lock(&l->lock);
    const int err = enqueue(l, s);
    pthread_mutex_unlock(&l->lock);
    if (err < 0)
        free_slot(s);
    return err;
}

void link_flush(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->head && !l->sending && !l->why[0])
        send_on(l);
    pthread_mutex_unlock(&l->lock);
}

bool link_slot_wait(struct mesh_slot *s, int64_t until_ns)
{
    for (;;) {
        uint32_t was = SLOT_BUSY;
        (void)atomic_compare_exchange_strong(&s->busy, &was, SLOT_AWAITED);
        if (was == SLOT_FREE)
            return true;
        if (clock_ns() >= until_ns)
            return false;
        futex_wait(&s->busy, SLOT_AWAITED, until_ns);
    }
}

/* ---- state */

const char *link_lost(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    const char *why = l->why[0] ? l->why : NULL;
    pthread_mutex_unlock(&l->lock);
    return why;
}

bool link_other_version(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    const bool yes = l->other_version;
    pthread_mutex_unlock(&l->lock);
    return yes;
}

bool link_garbage(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    const bool yes = l->garbage;
    pthread_mutex_unlock(&l->lock);
    return yes;
}

size_t link_backlog(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    const size_t bytes = l->out_bytes - l->head_sent;
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

int64_t link_silent_ms(struct link *l)
{
    int waiting = 0;

    if (l->receiver == HELD)
        return 0;
    if (l->fd != NO_FD)
        (void)ioctl(l->fd, FIONREAD, &waiting);
    return waiting > 0 ? 0 : now_ms() - atomic_load_explicit(&l->heard_ms, memory_order_relaxed);
}

bool link_clock(struct link *l, int64_t *offset_ns, int64_t *error_ns)
{
    pthread_mutex_lock(&l->lock);
    const bool known = skew_best(&l->skew, clock_ns(), offset_ns, error_ns);
    pthread_mutex_unlock(&l->lock);
    return known;
}

void link_stats(struct link *l, struct mesh_link_stats *s)
{
    s->sent_bytes += atomic_load_explicit(&l->sent_bytes, memory_order_relaxed);
    s->received_bytes += atomic_load_explicit(&l->received_bytes, memory_order_relaxed);
    s->sent_messages += atomic_load_explicit(&l->sent_messages, memory_order_relaxed);
    s->received_messages += atomic_load_explicit(&l->received_messages, memory_order_relaxed);
}

const char *link_remote(const struct link *l, char text[LINK_REMOTE_BYTES])
{
    char ip[INET6_ADDRSTRLEN] = "?";
    nng_sockaddr a;

    snprintf(text, LINK_REMOTE_BYTES, "unknown");
    if (nng_stream_get_addr(l->stream, NNG_OPT_REMADDR, &a) != 0)
        return text;
    if (a.s_family == NNG_AF_INET) {
        inet_ntop(AF_INET, &a.s_in.sa_addr, ip, sizeof ip);
        snprintf(text, LINK_REMOTE_BYTES, "%s:%u", ip, ntohs(a.s_in.sa_port));
    } else if (a.s_family == NNG_AF_INET6) {
        inet_ntop(AF_INET6, a.s_in6.sa_addr, ip, sizeof ip);
        snprintf(text, LINK_REMOTE_BYTES, "[%s]:%u", ip, ntohs(a.s_in6.sa_port));
    } else if (a.s_family == NNG_AF_IPC) {
        snprintf(text, LINK_REMOTE_BYTES, "ipc");
    }
    return text;
}

/* ---- life */

/* Sockets where we may read and write ourselves, else NNG's means. */
static int open_ends(struct link *l, nng_stream *s, bool tls)
{
    l->nudge = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->fd = tls || l->nudge < 0 ? NO_FD : descriptor_of(s);
    if (l->fd != NO_FD)
        return 0;
    l->record = malloc(RECORD_BYTES);
    if (!l->record || nng_aio_alloc(&l->recv, on_received, l) != 0)
        return -ENOMEM;
    return nng_aio_alloc(&l->send, on_sent, l) == 0 ? 0 : -ENOMEM;
}

static void close_ends(struct link *l)
{
    nng_aio_free(l->recv);
    nng_aio_free(l->send);
    nng_stream_free(l->stream);
    if (l->fd >= 0)
        close(l->fd);
    if (l->nudge >= 0)
        close(l->nudge);
    free(l->record);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->receiving);
    free(l);
}

int link_new(struct link **out, nng_stream *s, bool tls, int watch,
             const struct link_events *events)
{
    struct link *l = calloc(1, sizeof *l);

    if (!l) {
        nng_stream_close(s);
        nng_stream_free(s);
        return -ENOMEM;
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_mutex_init(&l->receiving, NULL);
    l->stream = s;
    l->watch = watch;
    l->events = *events;
    l->low_water = 1;
    l->last = &l->first;
    l->node = NO_NODE;
    l->heard_ms = now_ms();
    if (open_ends(l, s, tls) < 0) {
        nng_stream_close(s);
        close_ends(l);
        return -ENOMEM;
    }
    *out = l;
    return 0;
}

static void drop_incoming(struct link *l)
{
    struct incoming *in = &l->in;

    if (in->claimed)
        l->events.failed(l->events.ctx, l->node, &in->header);
    else if (in->into != in->beat)
        free(in->into);
    while (l->first) {
        struct message *m = l->first;
        l->first = m->next;
        free(m->body);
        free(m);
    }
}

static void drop_outgoing(struct link *l)
{
    while (l->head) {
        struct mesh_slot *s = l->head;
        l->head = s->next;
        release(l, s);
    }
}

void link_shut(struct link *l)
{
    const uint64_t one = 1;

    nng_stream_close(l->stream);
    if (l->fd != NO_FD) { /* our duplicate keeps it open */
        (void)epoll_ctl(l->watch, EPOLL_CTL_DEL, l->fd, NULL);
        (void)shutdown(l->fd, SHUT_RDWR);
        (void)!write(l->nudge, &one, sizeof one);
    } else {
        nng_aio_stop(l->recv);
        nng_aio_stop(l->send);
    }
}

void link_free(struct link *l)
{
    if (!l)
        return;
    link_shut(l);
    drop_incoming(l);
    drop_outgoing(l);
    close_ends(l);
}
