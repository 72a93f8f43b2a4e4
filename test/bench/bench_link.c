/* What a message between two daemons costs: round trips from compute thread to compute thread
 * over two meshes on TCP loopback, and in the same run round trips over two plain sockets.
 *
 *     bench_link [BLOCKS]
 *
 * Two processes, as two daemons are.  Blocks of plain and of mesh round trips take turns, so that
 * whatever else the machine does hits both.  "cpu" is what one message costs each of its two
 * sides: the CPU time of both processes, all threads, over four times the round trips. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/mesh.h"
#include "libsplit/mailbox.h"

static const int32_t message_bytes[] = { 1 << 10, 4 << 10, 30000, 200000 };

enum {
    SIZES = sizeof message_bytes / sizeof *message_bytes,
    MAX_BYTES = 200000,
    DEFAULT_BLOCKS = 20,
    MAX_BLOCKS = 1000,
    BLOCK = 100,       /* round trips */
    FRAME_ROUNDS = 20, /* between two mesh_give_back() */
    WARM_UP = 50,
    UP_MS = 5000,
    PATIENCE_S = 20,
};

/* One of the two processes. */
struct side {
    int32_t self;
    int plain; /* the plain socket to the other one */
    int epoll; /* watches it */
    uint8_t bytes[MAX_BYTES];

    uv_loop_t loop;
    uv_async_t stop;
    pthread_t thread;
    struct config config;
    struct mesh *mesh;
    _Atomic bool up;
    pthread_mutex_t lock; /* as the worker's, around claim and arrived */
    struct mailbox *mailbox;
    struct mesh_slot slot[SIZES];
    uint32_t frame;
};

/* How the messages of one size went over one way. */
struct figures {
    double *us; /* per round trip */
    size_t n;
    double cpu_us; /* of this process, for all of them */
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- over plain sockets */

static int await(const struct side *s, uint32_t events)
{
    struct epoll_event e = { .events = events };

    if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->plain, &e) < 0)
        return -errno;
    const int n = epoll_wait(s->epoll, &e, 1, PATIENCE_S * 1000);
    return n == 1 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int plain_send(struct side *s, size_t bytes)
{
    for (size_t sent = 0; sent < bytes;) {
        const ssize_t n = send(s->plain, s->bytes + sent, bytes - sent, MSG_NOSIGNAL);
        const int err = n >= 0 ? 0 : errno == EAGAIN ? await(s, EPOLLOUT) : -errno;
        if (err < 0)
            return err;
        sent += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int plain_receive(struct side *s, size_t bytes)
{
    for (size_t got = 0; got < bytes;) {
        int err = await(s, EPOLLIN);
        const ssize_t n = err < 0 ? -1 : recv(s->plain, s->bytes + got, bytes - got, 0);
        if (err == 0 && n <= 0 && errno != EAGAIN)
            err = n == 0 ? -EPIPE : -errno;
        if (err < 0)
            return err;
        got += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int plain_round(struct side *s, int size)
{
    const size_t bytes = (size_t)message_bytes[size];
    int err = s->self == 0 ? plain_send(s, bytes) : plain_receive(s, bytes);

    if (err == 0)
        err = s->self == 0 ? plain_receive(s, bytes) : plain_send(s, bytes);
    return err;
}

static int listen_plain(struct sockaddr_in *at)
{
    socklen_t len = sizeof *at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (fd < 0 || bind(fd, (const struct sockaddr *)at, sizeof *at) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)at, &len) < 0)
        return -1;
    return fd;
}

static int open_plain(struct side *s, int listener, const struct sockaddr_in *at)
{
    const int on = 1;

    if (s->self == 1) {
        s->plain = accept(listener, NULL, NULL);
    } else {
        s->plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (s->plain >= 0 && connect(s->plain, (const struct sockaddr *)at, sizeof *at) < 0)
            return -errno;
    }
    close(listener);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = { 0 };
    if (s->plain < 0 || s->epoll < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->plain, &e) < 0 ||
        setsockopt(s->plain, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        fcntl(s->plain, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

/* ---- over the mesh */

static void on_up(void *ctx, int32_t node, const struct msg_hello *hello)
{
    struct side *s = ctx;
    (void)node;
    (void)hello;
    atomic_store(&s->up, true);
}

static void on_down(void *ctx, int32_t node, const char *why)
{
    (void)node;
    (void)why;
    mailbox_cancel(((struct side *)ctx)->mailbox);
}

static void on_message(void *ctx, int32_t node, const struct header *h, const uint8_t *body)
{
    (void)ctx;
    (void)node;
    (void)h;
    (void)body;
}

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct side *s = ctx;
    (void)node;
    pthread_mutex_lock(&s->lock);
    uint8_t *to = mailbox_claim(s->mailbox, (int32_t)h->transfer, h->length);
    pthread_mutex_unlock(&s->lock);
    return to;
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct side *s = ctx;
    (void)node;
    pthread_mutex_lock(&s->lock);
    mailbox_post(s->mailbox, (int32_t)h->transfer, h->length);
    pthread_mutex_unlock(&s->lock);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    (void)node;
    mailbox_abandon(((struct side *)ctx)->mailbox, (int32_t)h->transfer);
}

static int push(struct side *s, int size)
{
    struct mesh_slot *slot = &s->slot[size];

    if (!mesh_slot_wait(slot, now_ns() + PATIENCE_S * INT64_C(1000000000)))
        return -ETIMEDOUT;
    slot->header.frame = ++s->frame;
    return mesh_send_slot(s->mesh, 1 - s->self, slot);
}

struct awaited {
    struct mailbox *mailbox;
    int32_t transfer;
};

static bool has_come(void *ctx)
{
    const struct awaited *a = ctx;
    return mailbox_ready(a->mailbox, a->transfer);
}

static int await_message(struct side *s, int size)
{
    struct awaited a = { s->mailbox, size };
    const uint8_t *message;
    size_t len;

    while (!has_come(&a) && mesh_pull(s->mesh, 1 - s->self, has_come, &a, INT64_MAX))
        ;
    const int err =
        mailbox_wait(s->mailbox, size, now_ns() + PATIENCE_S * INT64_C(1000000000), &message, &len);

    if (err == 0)
        mailbox_clear(s->mailbox);
    return err;
}

static int mesh_round(struct side *s, int size)
{
    if (s->frame % FRAME_ROUNDS == 0)
        mesh_give_back(s->mesh, 1 - s->self);
    int err = s->self == 0 ? push(s, size) : await_message(s, size);

    if (err == 0)
        err = s->self == 0 ? await_message(s, size) : push(s, size);
    return err;
}

/* A mailbox with one slot per size. */
static struct mailbox *make_mailbox(void)
{
    struct geo_tensor tensor[SIZES];
    struct step step[SIZES];
    const struct geometry g = { .nodes = 2, .ntensors = SIZES, .tensor = tensor };
    const struct program pr = { .nodes = 2, .ntransfers = SIZES, .nsteps = SIZES, .step = step };

    for (int i = 0; i < SIZES; i++) {
        tensor[i] = (struct geo_tensor){ .dim = { 1, 1, message_bytes[i] / 4 }, .batch = 1 };
        step[i] = (struct step){
            .kind = STEP_RECV, .what = i, .transfer = i, .box = box_whole(tensor[i].dim)
        };
    }
    return mailbox_new(&pr, &g);
}

static void *run_loop(void *arg)
{
    struct side *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void on_closed(void *ctx) { uv_close((uv_handle_t *)&((struct side *)ctx)->stop, NULL); }

static void on_stop(uv_async_t *async)
{
    mesh_close(((struct side *)async->data)->mesh, on_closed, async->data);
}

static int open_mesh(struct side *s)
{
    const struct mesh_events events = { .ctx = s,
                                        .up = on_up,
                                        .down = on_down,
                                        .message = on_message,
                                        .claim = on_claim,
                                        .arrived = on_arrived,
                                        .failed = on_failed };
    struct diag why = { "out of memory" };

    pthread_mutex_init(&s->lock, NULL);
    s->mailbox = make_mailbox();
    if (!s->mailbox || uv_loop_init(&s->loop) < 0 ||
        uv_async_init(&s->loop, &s->stop, on_stop) < 0 ||
        mesh_open(&s->mesh, &s->loop, &s->config, s->self, NULL, &events, &why) < 0) {
        fprintf(stderr, "bench_link: %s\n", why.text);
        return -ENOMEM;
    }
    s->stop.data = s;
    for (int i = 0; i < SIZES; i++) {
        s->slot[i].payload = s->bytes;
        s->slot[i].header = (struct header){ .type = MSG_HALO,
                                             .transfer = (uint32_t)i,
                                             .length = (uint32_t)message_bytes[i] };
    }
    const int err = -pthread_create(&s->thread, NULL, run_loop, s);
    for (int i = 0; err == 0 && i < UP_MS && !atomic_load(&s->up); i++)
        usleep(1000);
    return err < 0 ? err : atomic_load(&s->up) ? 0 : -ETIMEDOUT;
}

static void close_mesh(struct side *s)
{
    uv_async_send(&s->stop);
    pthread_join(s->thread, NULL);
    mesh_free(s->mesh);
    mailbox_free(s->mailbox);
    uv_loop_close(&s->loop);
}

/* Each side listens, also the one that nobody dials. */
static void make_config(struct config *c, const struct sockaddr_in at[2])
{
    *c = (struct config){ .nnodes = 2, .heartbeat_ms = 1000, .lost_ms = PATIENCE_S * 1000 };
    strcpy(c->cluster, "bench");
    for (int i = 0; i < 2; i++) {
        snprintf(c->node[i].name, sizeof c->node[i].name, "node%d", i);
        snprintf(c->node[i].address, sizeof c->node[i].address, "tcp://127.0.0.1:%d",
                 ntohs(at[i].sin_port));
    }
}

/* ---- measuring: both sides go through the same blocks in the same order */

typedef int (*round_trip)(struct side *s, int size);

enum { PLAIN, MESH, WAYS };
static const round_trip way[WAYS] = { plain_round, mesh_round };

static int run_block(struct side *s, int w, int size, int rounds, struct figures *f)
{
    const double cpu = cpu_us();

    for (int i = 0; i < rounds; i++) {
        const int64_t start = now_ns();
        const int err = way[w](s, size);
        if (err < 0)
            return err;
        if (f)
            f->us[f->n++] = (double)(now_ns() - start) / 1e3;
    }
    if (f)
        f->cpu_us += cpu_us() - cpu;
    return 0;
}

static int run_all(struct side *s, int blocks, struct figures f[SIZES][WAYS])
{
    int err = 0;

    for (int size = 0; size < SIZES; size++) {
        for (int w = 0; err == 0 && w < WAYS; w++)
            err = run_block(s, w, size, WARM_UP, NULL);
        for (int b = 0; err == 0 && b < blocks; b++)
            for (int w = 0; err == 0 && w < WAYS; w++)
                err = run_block(s, w, size, BLOCK, &f[size][w]);
    }
    return err;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* `part` in 0..1.  Sorts. */
static double quantile(struct figures *f, double part)
{
    qsort(f->us, f->n, sizeof *f->us, compare);
    return f->us[(size_t)(part * (double)(f->n - 1))];
}

static void print(struct figures f[SIZES][WAYS], double other[SIZES][WAYS])
{
    printf("%8s | %8s %8s %8s | %8s %8s %8s | %6s\n", "bytes", "tcp p50", "p90", "cpu", "mesh p50",
           "p90", "cpu", "ratio");
    for (int i = 0; i < SIZES; i++) {
        printf("%8d |", message_bytes[i]);
        for (int w = 0; w < WAYS; w++)
            printf(" %8.1f %8.1f %8.1f |", quantile(&f[i][w], 0.5), quantile(&f[i][w], 0.9),
                   (f[i][w].cpu_us + other[i][w]) / (4 * (double)f[i][w].n));
        printf(" %6.2f\n", quantile(&f[i][MESH], 0.5) / quantile(&f[i][PLAIN], 0.5));
    }
}

/* The side that is asked reports its CPU time through `report` (a pipe's end). */
static int run_side(struct side *s, int blocks, int report)
{
    static struct figures f[SIZES][WAYS];
    double other[SIZES][WAYS];
    int err = open_mesh(s);

    for (int i = 0; i < SIZES; i++)
        for (int w = 0; w < WAYS; w++)
            if (!(f[i][w].us = calloc((size_t)blocks * BLOCK, sizeof(double))))
                return -ENOMEM;
    if (err == 0)
        err = run_all(s, blocks, f);
    if (err < 0)
        return err;
    if (s->self == 1) {
        for (int i = 0; i < SIZES; i++)
            for (int w = 0; w < WAYS; w++)
                other[i][w] = f[i][w].cpu_us;
        err = write(report, other, sizeof other) == (ssize_t)sizeof other ? 0 : -EIO;
    } else {
        err = read(report, other, sizeof other) == (ssize_t)sizeof other ? 0 : -EIO;
        if (err == 0)
            print(f, other);
    }
    for (int i = 0; i < SIZES; i++)
        for (int w = 0; w < WAYS; w++)
            free(f[i][w].us);
    close_mesh(s);
    return err;
}

/* Where the two processes run.  Left alone, the scheduler may put them on one processor, where a
 * wake-up is cheap, or spread the threads of each over several, where it is dear. */
enum placement { ANYWHERE, ONE_EACH, ONE_FOR_BOTH, PLACEMENTS };
static const char *const placement_name[] = { "where the scheduler likes", "one processor each",
                                              "one processor for both" };

static int settle(enum placement p, int32_t self)
{
    cpu_set_t allowed, one;
    int skip = p == ONE_EACH ? self : 0;

    if (p == ANYWHERE)
        return 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return -errno;
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &allowed) && skip-- == 0)
            CPU_SET(i, &one);
    if (CPU_COUNT(&one) == 0)
        return -ENODEV;
    return sched_setaffinity(0, sizeof one, &one) < 0 ? -errno : 0;
}

/* The whole life of a side.  NNG starts its threads at its first call: after fork() and settle().
 */
static int be_side(struct side *s, enum placement p, int blocks, int listener,
                   const struct sockaddr_in *at, int report)
{
    int err = settle(p, s->self);

    if (err == 0)
        err = open_plain(s, listener, at);
    if (err == 0)
        err = run_side(s, blocks, report);
    if (err < 0)
        fprintf(stderr, "bench_link: node%d: %s\n", s->self, strerror(-err));
    return err < 0;
}

static int wait_for(const pid_t child[2])
{
    int failed = 0;

    for (int i = 0; i < 2; i++) {
        int status = 0;
        const pid_t pid = wait(&status);
        if (pid < 0 || status != 0) {
            failed = 1;
            if (i == 0) /* the other would wait for it */
                kill(child[pid == child[0]], SIGKILL);
        }
    }
    return failed;
}

static int run(struct side *s, enum placement p, int blocks)
{
    struct sockaddr_in at, unused[2];
    const int listener = listen_plain(&at);
    const int probe[] = { listen_plain(&unused[0]), listen_plain(&unused[1]) };
    pid_t child[2];
    int report[2];

    if (listener < 0 || probe[0] < 0 || probe[1] < 0 || pipe(report) < 0) {
        perror("bench_link");
        return 1;
    }
    close(probe[0]);
    close(probe[1]);
    make_config(&s->config, unused);
    printf("%s\n", placement_name[p]);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] < 0) {
            perror("bench_link: fork");
            if (i == 1)
                kill(child[0], SIGKILL);
            return 1;
        }
        if (child[i] == 0) {
            s->self = i;
            exit(be_side(s, p, blocks, listener, &at, report[i]));
        }
    }
    close(listener);
    close(report[0]);
    close(report[1]);
    return wait_for(child);
}

int main(int argc, char **argv)
{
    static struct side side;
    const int blocks = argc > 1 ? atoi(argv[1]) : DEFAULT_BLOCKS;
    double load = -1;

    if (argc > 2 || blocks < 1 || blocks > MAX_BLOCKS) {
        fprintf(stderr, "usage: bench_link [BLOCKS], 1..%d\n", MAX_BLOCKS);
        return 2;
    }
    log_init(LOG_ERROR);
    (void)getloadavg(&load, 1);
    printf("round trips on loopback, us; load %.1f\n", load);
    for (enum placement p = ANYWHERE; p < PLACEMENTS; p++) {
        if (p == ONE_EACH && sysconf(_SC_NPROCESSORS_ONLN) < 2)
            continue;
        if (run(&side, p, blocks) != 0)
            return 1;
    }
    return 0;
}
