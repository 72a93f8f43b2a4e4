/* Plain program for the thread sanitizer: clusters of threads on random networks, frame after
 * frame, must give what one node gives.  Prints a line per failure; exit 0 or 1. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../libsplit/chain.h"
#include "libsplit/kernel.h"
#include "libsplit/session.h"

enum { CHAINS = 60, FRAMES = 5 };

struct ports {
    float *port[NET_MAX_PORTS];
};

static void make_ports(struct net *n, struct ports *p, const struct port *port, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        p->port[i] = net_floats(n, net_values(n, port[i].tensor));
}

/* Runs FRAMES frames on `nodes` nodes; `out` holds the last.  `late_ns`: of struct local_options;
 * `*concealed` counts what was late. */
static int run_on(struct net *n, int32_t nodes, int64_t late_ns, const struct ports *in,
                  const struct ports *out, int64_t *concealed)
{
    bool may_miss[2 * NET_MAX_OPS];
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes, .may_miss = may_miss };
    struct exec_stats stats[PLAN_MAX_NODES];
    graph_may_miss(&n->g, may_miss);
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1 + i % 3;
    struct split_session *s;
    struct diag why = { "" };
    const struct local_options local = { .late_ns = late_ns };
    int err = session_open_graph(&s, &n->g, &o, &local, &why);
    if (err) {
        printf("%d nodes: %s\n", nodes, why.text);
        return err;
    }
    for (int frame = 0; frame < FRAMES && !err; frame++) {
        err = split_run(s, (const float *const *)in->port, out->port, stats, &why);
        for (int32_t i = 0; i < nodes && !err; i++)
            *concealed += stats[i].concealed;
    }
    split_close(s);
    if (err)
        printf("%d nodes: %s\n", nodes, why.text);
    return err;
}

static bool near(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b)) ||
           fabs((double)a - (double)b) <= 1e-4 * (1 + fabs((double)b));
}

/* Values that differ from those of one node. */
static int64_t differences(const struct net *n, const struct ports *a, const struct ports *b)
{
    int64_t count = 0;
    for (int32_t i = 0; i < n->g.noutputs; i++)
        for (int64_t k = 0; k < net_values(n, n->out[i].tensor); k++)
            count += !near(a->port[i][k], b->port[i][k]);
    return count;
}

/* `*concealed` counts what nodes that wait for next to no time did without. */
static int chain_fails(uint64_t seed, int64_t *concealed)
{
    int64_t none = 0;
    struct net n;
    struct ports in, want, got;
    chain_init(&n, seed, 8);
    make_ports(&n, &in, n.in, n.g.ninputs);
    make_ports(&n, &want, n.out, n.g.noutputs);
    make_ports(&n, &got, n.out, n.g.noutputs);
    const int32_t nodes = 2 + (int32_t)(seed % 5);
    int fails = run_on(&n, 1, 0, &in, &want, &none) || run_on(&n, nodes, 0, &in, &got, &none);
    const int64_t wrong = fails ? 0 : differences(&n, &got, &want) + none;
    fails = fails || run_on(&n, nodes, 1, &in, &got, concealed);
    if (wrong) {
        printf("chain %d on %d nodes: %lld values differ\n", (int)seed, nodes, (long long)wrong);
        fails = 1;
    }
    graph_unpack(&n.g);
    net_done(&n);
    return fails;
}

int main(void)
{
    int failed = 0;
    int64_t concealed = 0;
    for (uint64_t seed = 0; seed < CHAINS; seed++)
        failed += chain_fails(seed, &concealed);
    if (concealed == 0) {
        printf("no message was ever late\n");
        failed++;
    }
    printf("%d passed, %d failed\n", CHAINS - failed, failed);
    return failed > 0;
}
