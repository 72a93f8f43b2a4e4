/* A peer that is not what it seems: greets as a node of the cluster and then breaks the protocol.
 *
 *     cluster-peer listen PORT CLUSTER NODE MODE           as a node whom the others dial
 *     cluster-peer dial HOST PORT CLUSTER NODE MODE        as a node that dials, once
 *
 * MODE is what it does to whoever took it for NODE:
 *
 *   garbage   sends random bytes
 *   half      sends half a message and then nothing
 *   huge      sends a header that announces 4 GB
 *   old       keeps its link alive and sends messages of epochs, plans and frames that are none
 *   other     belongs to another cluster
 *   silent    says nothing at all, not even HELLO
 *
 * Listens, or stays, until it is killed or the other side ends the connection.  On connections that
 * it accepts, it begins anew. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/header.h"
#include "proto/hello.h"
#include "proto/model.h"
#include "proto/plan.h"

enum { BEAT_MS = 50, BODY_MAX = 1 << 22, OLD_BURST = 64 };

static const char *cluster, *node, *mode;

static bool is(const char *name) { return strcmp(mode, name) == 0; }

/* ---- bytes in and out; false when the connection is over */

static bool put(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        const ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool get(int fd, void *bytes, size_t len)
{
    char *at = bytes;

    while (len > 0) {
        const ssize_t n = recv(fd, at, len, 0);
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_message(int fd, struct header h, const void *body)
{
    uint8_t bytes[HEADER_BYTES];

    header_encode(&h, bytes);
    return put(fd, bytes, sizeof bytes) && (h.length == 0 || put(fd, body, h.length));
}

/* `body` has BODY_MAX bytes. */
static bool get_message(int fd, struct header *h, uint8_t *body)
{
    uint8_t bytes[HEADER_BYTES];

    if (!get(fd, bytes, sizeof bytes) || header_decode(h, bytes) < 0)
        return false;
    for (uint32_t left = h->length; left > BODY_MAX; left -= BODY_MAX)
        if (!get(fd, body, BODY_MAX))
            return false;
    return get(fd, body, h->length > BODY_MAX ? h->length % BODY_MAX : h->length);
}

static bool send_hello(int fd, enum msg_type type)
{
    struct msg_hello hello = { .status = HELLO_OK, .boot = (uint64_t)getpid() << 32 };
    uint8_t body[HELLO_MAX_BYTES];

    snprintf(hello.cluster, sizeof hello.cluster, "%s", is("other") ? "another cluster" : cluster);
    snprintf(hello.node, sizeof hello.node, "%s", node);
    const int n = type == MSG_HELLO ? hello_encode(&hello, body, sizeof body)
                                    : hello_ack_encode(&hello, body, sizeof body);
    return send_message(fd, (struct header){ .type = type, .length = (uint32_t)n }, body);
}

/* ---- what it does */

static bool send_garbage(int fd)
{
    uint8_t bytes[4096];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)random();
    return put(fd, bytes, sizeof bytes);
}

static bool send_half(int fd)
{
    uint8_t bytes[HEADER_BYTES];

    header_encode(&(struct header){ .type = MSG_MODEL_STATE, .length = 100 }, bytes);
    return put(fd, bytes, sizeof bytes) && put(fd, bytes, 10);
}

static bool send_huge(int fd)
{
    uint8_t bytes[HEADER_BYTES];

    header_encode(&(struct header){ .type = MSG_HALO, .length = UINT32_MAX }, bytes);
    return put(fd, bytes, sizeof bytes);
}

/* Well-formed messages of every kind that a node sends, for times that are over or never come. */
static bool send_old(int fd, uint32_t epoch)
{
    const struct msg_frame_done done = { .status = 0 };
    const struct msg_plan_ack ack = { .status = 0 };
    uint8_t frame_done[FRAME_DONE_BYTES], plan_ack[PLAN_ACK_MAX_BYTES], noise[256];

    frame_done_encode(&done, NULL, frame_done);
    const int n = plan_ack_encode(&ack, plan_ack, sizeof plan_ack);
    for (int i = 0; i < OLD_BURST; i++) {
        struct header h = { .epoch = epoch - (uint32_t)(random() % 3) + 1,
                            .plan = (uint32_t)(random() % 16),
                            .frame = (uint32_t)(random() % 1000),
                            .transfer = (uint32_t)(random() % 64) };
        for (size_t k = 0; k < sizeof noise; k++)
            noise[k] = (uint8_t)random();
        h.type = MSG_FRAME_DONE;
        h.length = sizeof frame_done;
        bool sent = send_message(fd, h, frame_done);
        h.type = MSG_PLAN_ACK;
        h.length = (uint32_t)n;
        sent = sent && send_message(fd, h, plan_ack);
        h.type = MSG_HALO;
        h.flags = random() & HEADER_TO_HOST;
        h.length = (uint32_t)(random() % (long)sizeof noise);
        if (!sent || !send_message(fd, h, noise))
            return false;
    }
    return true;
}

/* Stays, with heartbeats. */
static void live(int fd)
{
    uint8_t *body = malloc(BODY_MAX);
    struct pollfd poll_in = { .fd = fd, .events = POLLIN };
    struct header h;
    uint32_t epoch = 0;
    bool go_on = body != NULL;

    while (go_on) {
        if (poll(&poll_in, 1, BEAT_MS) > 0) {
            go_on = get_message(fd, &h, body);
            if (go_on && h.epoch > 0)
                epoch = h.epoch;
        }
        if (go_on)
            go_on = send_message(fd, (struct header){ .type = MSG_HEARTBEAT }, NULL);
        if (go_on)
            go_on = send_old(fd, epoch);
    }
    free(body);
}

static void misbehave(int fd)
{
    char rest[256];
    bool sent = true;

    if (is("garbage"))
        sent = send_garbage(fd);
    else if (is("half"))
        sent = send_half(fd);
    else if (is("huge"))
        sent = send_huge(fd);
    else if (is("old"))
        live(fd);
    while (sent && recv(fd, rest, sizeof rest, 0) > 0)
        ;
}

static void *serve(void *arg)
{
    const int fd = *(int *)arg;
    uint8_t *body = malloc(BODY_MAX);
    struct header h;

    free(arg);
    if (is("silent") || (body && get_message(fd, &h, body) && send_hello(fd, MSG_HELLO_ACK)))
        misbehave(fd);
    free(body);
    close(fd);
    return NULL;
}

static int listen_at(const char *port)
{
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in at = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)strtoul(port, NULL, 10)) };

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 16) < 0) {
        perror("cluster-peer");
        return EXIT_FAILURE;
    }
    for (;;) {
        int *one_more = malloc(sizeof *one_more);
        pthread_t thread;
        if (!one_more)
            return EXIT_FAILURE;
        *one_more = accept(fd, NULL, NULL);
        if (*one_more < 0 || pthread_create(&thread, NULL, serve, one_more) != 0) {
            perror("cluster-peer");
            return EXIT_FAILURE;
        }
        pthread_detach(thread);
    }
}

static int dial(const char *host, const char *port)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *found;
    uint8_t *body = malloc(BODY_MAX);
    struct header h;

    if (!body || getaddrinfo(host, port, &hints, &found) != 0)
        return EXIT_FAILURE;
    const int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
        perror("cluster-peer");
        return EXIT_FAILURE;
    }
    freeaddrinfo(found);
    if (is("silent") || (send_hello(fd, MSG_HELLO) && get_message(fd, &h, body)))
        misbehave(fd);
    close(fd);
    free(body);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    const bool listens = argc == 6 && strcmp(argv[1], "listen") == 0;
    const bool dials = argc == 7 && strcmp(argv[1], "dial") == 0;

    if (!listens && !dials) {
        fprintf(stderr,
                "usage: cluster-peer listen PORT CLUSTER NODE MODE | dial HOST PORT CLUSTER "
                "NODE MODE\n");
        return 2;
    }
    cluster = argv[argc - 3];
    node = argv[argc - 2];
    mode = argv[argc - 1];
    srandom((unsigned)getpid());
    return listens ? listen_at(argv[2]) : dial(argv[2], argv[3]);
}
