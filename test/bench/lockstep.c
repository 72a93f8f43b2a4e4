/* How much a cluster of emulated nodes can be faster than one when nothing but the emulator
 * stands in the way: N programs that work and wait for their neighbours, in step.
 *
 *     lockstep NODE NODES STEPS WORK_US BYTES PREFIX FIRST PORT [RUNS]
 *
 * One inference is STEPS times: WORK_US / NODES of CPU time, then BYTES to and from each
 * neighbour over plain TCP.  Node I listens on PREFIX.(FIRST + I):PORT.  Node 0 prints the mean of
 * RUNS (default 3) inferences in ms, after one that does not count. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BYTES = 1 << 20, MAX_NODES = 16, CONNECT_TRIES = 500, CONNECT_PAUSE_US = 20000 };
enum { MAX_RUNS = 1000 };

/* A neighbour and what is left to do with it in this step. */
struct side {
    int fd; /* -1: none */
    size_t to_send, to_receive;
};

struct lockstep {
    long node, nodes, steps, bytes, first, port, runs;
    double work_s; /* per node and step */
    const char *prefix;
    struct side side[2]; /* the node below, the node above */
    char *buffer;        /* of `bytes`, contents do not matter */
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work(double cpu_s)
{
    const double end = seconds(CLOCK_THREAD_CPUTIME_ID) + cpu_s;
    volatile double x = 1;
    while (seconds(CLOCK_THREAD_CPUTIME_ID) < end)
        for (int i = 0; i < 200; i++)
            x = x * 1.0000001 + 1e-9;
}

static int address_of(const struct lockstep *l, long node, struct sockaddr_in *to)
{
    char text[32];
    snprintf(text, sizeof text, "%.20s.%ld", l->prefix, l->first + node);
    *to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)l->port) };
    return inet_pton(AF_INET, text, &to->sin_addr) == 1 ? 0 : -EINVAL;
}

static void send_at_once(int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Both return a connection or a negative errno. */
static int accept_below(const struct lockstep *l)
{
    const int on = 1;
    struct sockaddr_in at;
    int fd = -1;

    if (address_of(l, l->node, &at) < 0)
        return -EINVAL;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return -errno;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (const struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1) == 0)
        fd = accept(listener, NULL, NULL);
    if (fd < 0)
        fd = -errno;
    close(listener);
    return fd;
}

static int connect_above(const struct lockstep *l)
{
    struct sockaddr_in at;

    if (address_of(l, l->node + 1, &at) < 0)
        return -EINVAL;
    for (int i = 0; i < CONNECT_TRIES; i++) {
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -errno;
        if (connect(fd, (const struct sockaddr *)&at, sizeof at) == 0)
            return fd;
        close(fd);
        usleep(CONNECT_PAUSE_US);
    }
    return -ETIMEDOUT;
}

/* The upper of two neighbours listens; the chain comes up from its end. */
static int meet_neighbours(struct lockstep *l)
{
    if (l->node > 0 && (l->side[0].fd = accept_below(l)) < 0)
        return l->side[0].fd;
    if (l->node + 1 < l->nodes && (l->side[1].fd = connect_above(l)) < 0)
        return l->side[1].fd;
    for (int k = 0; k < 2; k++)
        if (l->side[k].fd >= 0)
            send_at_once(l->side[k].fd);
    return 0;
}

static short wanted_events(const struct side *s)
{
    return (short)((s->to_send > 0 ? POLLOUT : 0) | (s->to_receive > 0 ? POLLIN : 0));
}

static int move_bytes(const struct lockstep *l, struct side *s, short events)
{
    if (events & POLLOUT) {
        const ssize_t n = send(s->fd, l->buffer, s->to_send, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return -errno;
        s->to_send -= n > 0 ? (size_t)n : 0;
    }
    if (events & (POLLIN | POLLHUP)) {
        const ssize_t n = recv(s->fd, l->buffer, s->to_receive, MSG_DONTWAIT);
        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        s->to_receive -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int exchange(struct lockstep *l)
{
    for (int k = 0; k < 2; k++)
        l->side[k].to_send = l->side[k].to_receive = l->side[k].fd < 0 ? 0 : (size_t)l->bytes;
    for (;;) {
        struct pollfd p[2];
        for (int k = 0; k < 2; k++) {
            const short events = wanted_events(&l->side[k]);
            p[k] = (struct pollfd){ .fd = events ? l->side[k].fd : -1, .events = events };
        }
        if (p[0].fd < 0 && p[1].fd < 0)
            return 0;
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return -errno;
        for (int k = 0; k < 2; k++) {
            const int rc = p[k].fd < 0 ? 0 : move_bytes(l, &l->side[k], p[k].revents);
            if (rc < 0)
                return rc;
        }
    }
}

static int infer(struct lockstep *l)
{
    int rc = 0;
    for (long i = 0; i < l->steps && rc == 0; i++) {
        work(l->work_s);
        rc = exchange(l);
    }
    return rc;
}

static int run_all(struct lockstep *l)
{
    int rc = infer(l);
    const double start = seconds(CLOCK_MONOTONIC);
    for (long i = 0; i < l->runs && rc == 0; i++)
        rc = infer(l);
    if (rc == 0 && l->node == 0)
        printf("%.4f\n", (seconds(CLOCK_MONOTONIC) - start) * 1e3 / (double)l->runs);
    return rc;
}

/* A whole number in lo..hi; otherwise says so and ends: the arguments come from our own script. */
static long number(const char *text, long lo, long hi)
{
    char *end;
    const long n = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || n < lo || n > hi) {
        fprintf(stderr, "lockstep: '%s' is not a whole number in %ld..%ld\n", text, lo, hi);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 9 && argc != 10) {
        fprintf(stderr,
                "usage: lockstep NODE NODES STEPS WORK_US BYTES PREFIX FIRST PORT [RUNS]\n");
        return 2;
    }
    struct lockstep l = { .prefix = argv[6], .side = { { .fd = -1 }, { .fd = -1 } } };
    l.nodes = number(argv[2], 1, MAX_NODES);
    l.node = number(argv[1], 0, l.nodes - 1);
    l.steps = number(argv[3], 1, 1000000);
    l.work_s = (double)number(argv[4], 0, 1000000000) / 1e6 / (double)l.nodes;
    l.bytes = number(argv[5], 1, MAX_BYTES);
    l.first = number(argv[7], 0, 255);
    l.port = number(argv[8], 1, 65535);
    l.runs = argc == 10 ? number(argv[9], 1, MAX_RUNS) : 3;
    l.buffer = calloc((size_t)l.bytes, 1);
    int rc = l.buffer ? meet_neighbours(&l) : -ENOMEM;
    if (rc == 0)
        rc = run_all(&l);
    if (rc < 0)
        fprintf(stderr, "lockstep: node %ld: %s\n", l.node, strerror(-rc));
    for (int k = 0; k < 2; k++)
        if (l.side[k].fd >= 0)
            close(l.side[k].fd);
    free(l.buffer);
    return rc < 0;
}
