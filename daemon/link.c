#include "daemon/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/descriptor.h"
#include "daemon/link_impl.h"

void link_look_out(struct link *l)
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

void link_lose_locked(struct link *l, const char *why)
{
    if (l->why[0])
        return;
    snprintf(l->why, sizeof l->why, "%s", why);
    link_look_out(l);
    l->events.wake(l->events.ctx);
}

void link_lose(struct link *l, const char *why)
{
    pthread_mutex_lock(&l->lock);
    link_lose_locked(l, why);
    pthread_mutex_unlock(&l->lock);
}

void link_ready(struct link *l, uint32_t events)
{
    if (events & EPOLLOUT) {
        pthread_mutex_lock(&l->lock);
        if (!l->why[0])
            link_send_on(l);
        pthread_mutex_unlock(&l->lock);
    }
    if (events & ~(uint32_t)EPOLLOUT)
        link_listen(l);
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
    return waiting > 0 ? 0
                       : link_now_ms() - atomic_load_explicit(&l->heard_ms, memory_order_relaxed);
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
    if (!l->record || nng_aio_alloc(&l->recv, link_on_received, l) != 0)
        return -ENOMEM;
    return nng_aio_alloc(&l->send, link_on_sent, l) == 0 ? 0 : -ENOMEM;
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
    l->heard_ms = link_now_ms();
    if (open_ends(l, s, tls) < 0) {
        nng_stream_close(s);
        close_ends(l);
        return -ENOMEM;
    }
    *out = l;
    return 0;
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
    link_drop_incoming(l);
    link_drop_outgoing(l);
    close_ends(l);
}
