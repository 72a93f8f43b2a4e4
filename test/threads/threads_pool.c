/* Plain program for the thread sanitizer: pools under many jobs, and networks whose operators
 * several threads share, which must give the bits that one thread gives.  Prints a line per
 * failure; exit 0 or 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../libsplit/chain.h"
#include "libsplit/kernel.h"
#include "libsplit/pool.h"
#include "libsplit/session.h"

enum { JOBS = 4000, CHAINS = 40, FRAMES = 3 };

/* Every part adds to a value of its own, without atomics: the pool alone keeps jobs apart. */
struct sums {
    int32_t job;
    int64_t sum[POOL_MAX_THREADS];
};

static void add(void *ctx, int32_t i)
{
    struct sums *s = ctx;
    s->sum[i] += s->job;
}

static int pool_fails(int32_t threads)
{
    struct pool *p;
    struct diag why = { "" };
    struct sums s = { 0 };
    int64_t want = 0;
    int fails = 0;
    if (pool_new(&p, threads, 1, &why)) {
        printf("%d threads: %s\n", threads, why.text);
        return 1;
    }
    for (s.job = 0; s.job < JOBS; s.job++) {
        pool_run(p, threads, add, &s);
        want += s.job;
        if (s.job % 500 == 0) { /* let them fall asleep */
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
            pool_wake(p);
        }
    }
    pool_free(p);
    for (int32_t i = 0; i < threads; i++)
        fails += s.sum[i] != want;
    if (fails)
        printf("%d threads: %d parts were not called once a job\n", threads, fails);
    return fails > 0;
}

struct ports {
    float *port[NET_MAX_PORTS];
};

static void make_ports(struct net *n, struct ports *p, const struct port *port, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        p->port[i] = net_floats(n, net_values(n, port[i].tensor));
}

/* Runs FRAMES frames on two nodes of `threads` threads each; `out` holds the last. */
static int run_with(struct net *n, int32_t threads, const struct ports *in, const struct ports *out)
{
    const struct plan_options o = { .placement = PLAN_ROWS, .nodes = 2, .weight = { 1, 2 } };
    const struct local_options local = { .threads = threads, .part_work = 1 };
    struct split_session *s = NULL;
    struct diag why = { "" };
    int err = session_open_graph(&s, &n->g, &o, &local, &why);
    for (int frame = 0; frame < FRAMES && !err; frame++)
        err = split_run(s, (const float *const *)in->port, out->port, NULL, &why);
    split_close(s);
    if (err)
        printf("%d threads: %s\n", threads, why.text);
    return err;
}

static int chain_fails(uint64_t seed)
{
    struct net n;
    struct ports in, want, got;
    chain_init(&n, seed, 8);
    make_ports(&n, &in, n.in, n.g.ninputs);
    make_ports(&n, &want, n.out, n.g.noutputs);
    make_ports(&n, &got, n.out, n.g.noutputs);
    const int32_t threads = 2 + (int32_t)(seed % 3);
    int fails = run_with(&n, 1, &in, &want) || run_with(&n, threads, &in, &got);
    for (int32_t i = 0; i < n.g.noutputs && !fails; i++)
        if (memcmp(got.port[i], want.port[i],
                   (size_t)net_values(&n, n.out[i].tensor) * sizeof(float)) != 0) {
            printf("chain %d, %d threads: output %d differs\n", (int)seed, threads, i);
            fails = 1;
        }
    graph_unpack(&n.g);
    net_done(&n);
    return fails;
}

int main(void)
{
    int failed = 0, passed = 0;
    for (int32_t threads = 1; threads <= 5; threads++)
        pool_fails(threads) ? failed++ : passed++;
    for (uint64_t seed = 0; seed < CHAINS; seed++)
        chain_fails(seed) ? failed++ : passed++;
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
