#include "cli/greet.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/greet_tls.h"
#include "proto/header.h"

static int64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- connecting.  Sockets do not block; negative results are -errno. */

static int wait_for(int fd, short events, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = events };
    const int n = poll(&p, 1, timeout_ms);
    return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int connect_to(const struct sockaddr *address, socklen_t len, int timeout_ms)
{
    const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof(int);
    int err = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, address, len) < 0)
        err = -errno;
    if (err == -EINPROGRESS) {
        err = wait_for(fd, POLLOUT, timeout_ms);
        int late = 0;
        if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &late, &size) == 0)
            err = -late;
    }
    if (err == 0)
        return fd;
    close(fd);
    return err;
}

/* -ENXIO: no such host. */
static int connect_tcp(const char *host, uint16_t port, int timeout_ms)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
    struct addrinfo *found;
    char service[8];
    int fd = -ENXIO;

    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return -ENXIO;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = connect_to(a->ai_addr, a->ai_addrlen, timeout_ms);
    freeaddrinfo(found);
    return fd;
}

static int connect_unix(const char *path, int timeout_ms)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof a.sun_path)
        return -ENAMETOOLONG;
    memcpy(a.sun_path, path, strlen(path) + 1);
    return connect_to((struct sockaddr *)&a, sizeof a, timeout_ms);
}

/* `*tcp`: whether that is how it is reached. */
static int connect_node(const char *address, bool *tcp, int timeout_ms)
{
    char host[CONFIG_ADDRESS_MAX + 1];
    uint16_t port;

    *tcp = config_host_port(address, host, &port);
    return *tcp ? connect_tcp(host, port, timeout_ms)
                : connect_unix(address + strlen("ipc://"), timeout_ms);
}

/* ---- asking */

/* A connection that has to have served its purpose at some time. */
struct line {
    int fd;
    struct greet_tls *tls; /* NULL: plain */
    int64_t until_us;
};

static int wait_on(const struct line *l, short events)
{
    const int64_t left_us = l->until_us - clock_us(CLOCK_MONOTONIC);
    return left_us <= 0 ? -ETIMEDOUT : wait_for(l->fd, events, (int)(left_us / 1000) + 1);
}

static int receive(const struct line *l, uint8_t *to, size_t len)
{
    while (len > 0) {
        const ssize_t n = l->tls ? greet_tls_receive(l->tls, to, len) : recv(l->fd, to, len, 0);
        if (n == 0)
            return -EPIPE;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (n < 0) {
            const int err = wait_on(l, POLLIN);
            if (err < 0)
                return err;
            continue;
        }
        to += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_question(const struct line *l)
{
    const struct msg_hello hello = { 0 };
    uint8_t bytes[HEADER_BYTES + HELLO_MAX_BYTES];
    const int n = hello_encode(&hello, bytes + HEADER_BYTES, HELLO_MAX_BYTES);

    header_encode(&(struct header){ .type = MSG_HELLO, .length = (uint32_t)n }, bytes);
    const size_t len = HEADER_BYTES + (size_t)n;
    /* It fits a socket's buffer that is empty. */
    const ssize_t sent =
        l->tls ? greet_tls_send(l->tls, bytes, len) : send(l->fd, bytes, len, MSG_NOSIGNAL);
    return sent == (ssize_t)len ? 0 : -EPIPE;
}

static enum greet_result receive_answer(const struct line *l, struct msg_hello *hello)
{
    uint8_t bytes[HELLO_MAX_BYTES];
    struct header h;

    if (receive(l, bytes, HEADER_BYTES) < 0)
        return GREET_SILENT;
    const int err = header_decode(&h, bytes);
    if (err == -EPROTONOSUPPORT)
        return GREET_OTHER_VERSION;
    if (err < 0 || h.type != MSG_HELLO_ACK || h.length > sizeof bytes ||
        receive(l, bytes, h.length) < 0 || hello_ack_decode(hello, bytes, h.length) < 0)
        return GREET_SILENT;
    return hello->status == HELLO_OTHER_VERSION ? GREET_OTHER_VERSION : GREET_OK;
}

static void read_mss(int fd, struct greeting *g)
{
    struct tcp_info info;
    socklen_t len = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return;
    g->mss = (int32_t)info.tcpi_advmss;
    g->their_mss = (int32_t)info.tcpi_snd_mss;
}

static void ask(struct greeting *g, const struct line *l)
{
    const int on = 1;

    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    read_mss(l->fd, g);
    const int64_t asked_us = clock_us(CLOCK_MONOTONIC);
    g->result = send_question(l) < 0 ? GREET_SILENT : receive_answer(l, &g->hello);
    g->rtt_us = clock_us(CLOCK_MONOTONIC) - asked_us;
    if (g->result == GREET_OK) {
        const int64_t then_ms = (clock_us(CLOCK_REALTIME) - g->rtt_us / 2) / 1000;
        g->skew_ms = (int64_t)g->hello.clock_ms - then_ms;
    }
}

static void ask_in_secret(struct greeting *g, struct line *l, const struct tls *tls,
                          const char *node)
{
    int rc = 0;

    g->result = GREET_OK;
    if (greet_tls_new(&l->tls, l->fd, tls, node) < 0) {
        g->result = GREET_NO_TLS;
        snprintf(g->problem, sizeof g->problem, "cannot be asked, memory is short");
        return;
    }
    while ((rc = greet_tls_shake_hands(l->tls, g)) > 0) {
        if (wait_on(l, (short)rc) < 0) {
            g->result = GREET_SILENT;
            break;
        }
    }
    if (rc == 0 && g->result == GREET_OK)
        ask(g, l);
    greet_tls_free(l->tls);
}

void greet(struct greeting *g, const struct config_node *node, const struct greet_way *way)
{
    bool tcp;

    *g = (struct greeting){ .result = GREET_UNREACHABLE };
    const int fd = connect_node(node->address, &tcp, way->timeout_ms);
    if (fd < 0) {
        g->error = fd == -ENXIO ? 0 : -fd;
        return;
    }
    struct line l = { .fd = fd,
                      .until_us = clock_us(CLOCK_MONOTONIC) + (int64_t)way->timeout_ms * 1000 };
    if (!tcp || !way->secure)
        ask(g, &l);
    else if (way->tls)
        ask_in_secret(g, &l, way->tls, node->name);
    else
        g->result = GREET_CONNECTED;
    close(fd);
}
