/* Slow HTTP clients, a thousand of them: each asks for something and takes its time.
 *
 *     cluster-slow HOST PORT CLIENTS SECONDS
 *
 * In turn they trickle a request line, trickle a body, send nothing at all, and ask for pages over
 * and over without ever reading an answer.  One that is cut off comes back at once.  Prints how
 * many connections were made, and how many of them the server ended. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 4000, TURN_MS = 250, KINDS = 4 };

static const char *const request[KINDS] = {
    "GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "POST /v2/models/fashion/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    "",
    "GET /splitd/status HTTP/1.1\r\nHost: x\r\n\r\n",
};

struct client {
    int fd; /* -1: none */
    size_t at;
};

static int made, ended;

static int connect_to(const struct addrinfo *to)
{
    const int small = 2048;
    const int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(fd, to->ai_addr, to->ai_addrlen) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    made++;
    return fd;
}

/* False when the connection is over. */
static bool turn(struct client *c, int kind)
{
    const char *text = request[kind];
    const size_t len = strlen(text);
    char byte;
    ssize_t n = 1;

    if (kind == 3) /* as much as the server takes */
        n = send(c->fd, text, len, MSG_NOSIGNAL);
    else if (c->at < len)
        n = send(c->fd, text + c->at, kind == 1 ? len : 1, MSG_NOSIGNAL);
    else if (kind == 1)
        n = send(c->fd, "x", 1, MSG_NOSIGNAL);
    if (n > 0)
        c->at += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != ENOTCONN)
        return false;
    /* What it was answered is left unread: only the end is of interest. */
    const ssize_t there = recv(c->fd, &byte, 1, MSG_PEEK);
    if (kind == 3 || there > 0) {
        struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
        return poll(&p, 1, 0) <= 0 || !(p.revents & (POLLHUP | POLLERR | POLLRDHUP));
    }
    return there < 0 && (errno == EAGAIN || errno == ENOTCONN);
}

int main(int argc, char **argv)
{
    static struct client client[MAX_CLIENTS];
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    const struct timespec pause = { .tv_nsec = TURN_MS * 1000000L };
    struct rlimit files;
    struct addrinfo *to;

    if (argc != 5 || getaddrinfo(argv[1], argv[2], &hints, &to) != 0) {
        fprintf(stderr, "usage: cluster-slow HOST PORT CLIENTS SECONDS\n");
        return 2;
    }
    int n = atoi(argv[3]);
    const time_t end = time(NULL) + atoi(argv[4]);
    if (n > MAX_CLIENTS)
        n = MAX_CLIENTS;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < n; i++)
        client[i].fd = -1;
    while (time(NULL) < end) {
        for (int i = 0; i < n; i++) {
            struct client *c = &client[i];
            if (c->fd < 0)
                *c = (struct client){ .fd = connect_to(to) };
            else if (!turn(c, i % KINDS)) {
                ended++;
                close(c->fd);
                c->fd = -1;
            }
        }
        nanosleep(&pause, NULL);
    }
    freeaddrinfo(to);
    printf("%d connections, %d ended by the server\n", made, ended);
    return EXIT_SUCCESS;
}
