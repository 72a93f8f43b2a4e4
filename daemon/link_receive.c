#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/link_impl.h"

enum {
    /* Who sleeps on part of a payload is not woken for every packet, but for as much as this:
     * a slow link is still heard often enough to be known alive. */
    WORTH_WAKING = 32 * 1024,
    /* Before a puller sleeps it spins, as long as that pays: twice the time that it has taken until
     * something came, half as long whenever nothing did, and once in a while the most in spite of
     * all. */
    SPIN_MOST_NS = 50 * 1000,
    SPIN_LEAST_NS = 2 * 1000,
    SPIN_RETRY = 64,
};

/* `lock` is held. */
static void pass(struct link *l, enum receiver to)
{
    l->receiver = to;
    link_look_out(l);
}

static void lose_for_garbage(struct link *l, const char *what)
{
    pthread_mutex_lock(&l->lock);
    l->garbage = true;
    link_lose_locked(l, what);
    pthread_mutex_unlock(&l->lock);
}

/* ---- messages out of bytes */

enum taken { TAKE_MORE, TAKE_HELD, TAKE_LOST };

static bool is_greeting(enum msg_type t) { return t == MSG_HELLO || t == MSG_HELLO_ACK; }

/* Hands the finished control message to the loop.  After TAKE_HELD NNG's callback must not touch
 * `in`: it is the loop's. */
static enum taken deliver(struct link *l)
{
    struct incoming *in = &l->in;
    struct message *m = malloc(sizeof *m);

    if (!m) {
        link_lose(l, "out of memory");
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
            link_lose(l, "out of memory");
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

    atomic_store_explicit(&l->heard_ms, link_now_ms(), memory_order_relaxed);
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

void link_on_received(void *arg)
{
    struct link *l = arg;
    const int rv = nng_aio_result(l->recv);

    if (rv != 0) {
        link_lose(l, rv == NNG_ECLOSED || rv == NNG_ECONNSHUT ? closed_by_peer : nng_strerror(rv));
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
    link_lose(l, n == 0 ? closed_by_peer : strerror(errno));
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
        atomic_store_explicit(&l->heard_ms, link_now_ms(), memory_order_relaxed);
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
        link_lose(l, strerror(errno));
}

/* A puller that has the link hears what the set tells, too.  Without `lock`, which whoever has just
 * given the link back may still hold. */
void link_listen(struct link *l)
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

void link_drop_incoming(struct link *l)
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
