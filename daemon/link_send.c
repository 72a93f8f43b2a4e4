#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "daemon/link_impl.h"
#include "libsplit/futex.h"

enum { GATHER = 4 /* messages in one write */ };

/* A control message on its way out. */
struct copy {
    struct mesh_slot slot; /* first: what is queued is the slot */
    uint8_t body[];
};

/* A slot's `busy`; AWAITED: somebody sleeps until it is free. */
enum { SLOT_FREE, SLOT_BUSY, SLOT_AWAITED };

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
        link_lose_locked(l, strerror(errno));
    if (n > 0)
        advance(l, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

/* `lock` is held and no send is under way.  NNG never runs a callback inside nng_stream_send(): it
 * queues it for one of its threads. */
void link_send_on(struct link *l)
{
    if (l->fd != NO_FD)
        while (l->head && write_now(l))
            ;
    l->sending = l->head && !l->why[0];
    if (l->sending && l->fd == NO_FD)
        send_record(l);
    link_look_out(l);
}

void link_on_sent(void *arg)
{
    struct link *l = arg;
    const int rv = nng_aio_result(l->send);

    pthread_mutex_lock(&l->lock);
    if (rv != 0) {
        l->sending = false;
        link_lose_locked(l, nng_strerror(rv));
    } else {
        advance(l, nng_aio_count(l->send));
        link_send_on(l);
    }
    pthread_mutex_unlock(&l->lock);
}

/* `lock` is held. */
static int enqueue(struct link *l, struct mesh_slot *s)
{
    const size_t bytes = HEADER_BYTES + (size_t)s->header.length;

    if (l->why[0])
        return -ENOTCONN;
    if (l->out_count >= LINK_MAX_OUT ||
        (s->copied && l->copied_bytes + bytes > LINK_MAX_OUT_BYTES)) {
        link_lose_locked(l, "does not read what is sent to it");
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
        link_send_on(l);
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
        link_send_on(l);
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

void link_drop_outgoing(struct link *l)
{
    while (l->head) {
        struct mesh_slot *s = l->head;
        l->head = s->next;
        release(l, s);
    }
}
