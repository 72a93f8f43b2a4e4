#include "daemon/speed.h"

#include <string.h>

static const double most_difference = 1.25, least_gain = 1.10;
static const double slowest = 0.05, fastest = 20;

static double bounded(double x) { return x < slowest ? slowest : x > fastest ? fastest : x; }

static bool is_in(uint32_t nodes, int32_t node) { return nodes >> node & 1; }

void speed_init(struct speed *s, const struct config *c)
{
    *s = (struct speed){ .nodes = c->nnodes, .pause_ms = SPEED_PAUSE_MS };
    for (int32_t i = 0; i < c->nnodes; i++) {
        s->weight[i] = c->node[i].weight;
        s->used[i] = 1;
    }
}

void speed_reset(struct speed *s, int32_t node)
{
    s->used[node] = 1;
    s->seen[node] = 0;
}

static void open_window(struct speed *s, uint64_t now_ms)
{
    memset(s->work_us, 0, sizeof s->work_us);
    memset(s->spent_us, 0, sizeof s->spent_us);
    memset(s->frames, 0, sizeof s->frames);
    s->window_ms = now_ms;
}

void speed_forget(struct speed *s, uint64_t now_ms)
{
    memset(s->seen, 0, sizeof s->seen);
    s->differs_ms = 0;
    open_window(s, now_ms);
}

void speed_sample(struct speed *s, int32_t node, double work_us, double spent_us)
{
    s->work_us[node] += work_us;
    s->spent_us[node] += spent_us;
    s->frames[node]++;
}

static bool window_is_full(const struct speed *s, uint32_t nodes, uint64_t now_ms)
{
    if (now_ms - s->window_ms < SPEED_WINDOW_MS)
        return false;
    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i) && (s->frames[i] < SPEED_FRAMES || s->spent_us[i] <= 0))
            return false;
    return true;
}

/* Scales speeds so that their average, by the nodes' weights, is 1. */
static void normalize(const struct speed *s, uint32_t nodes, double x[CONFIG_MAX_NODES])
{
    double sum = 0, weights = 0;

    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i)) {
            sum += x[i] * s->weight[i];
            weights += s->weight[i];
        }
    for (int32_t i = 0; i < s->nodes && sum > 0; i++)
        if (is_in(nodes, i))
            x[i] *= weights / sum;
}

static void close_window(struct speed *s, uint32_t nodes, uint64_t now_ms)
{
    double found[CONFIG_MAX_NODES] = { 0 };

    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i))
            found[i] = s->work_us[i] / s->spent_us[i] / s->weight[i];
    normalize(s, nodes, found);
    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i))
            s->seen[i] = s->seen[i] > 0 ? (s->seen[i] + found[i]) / 2 : found[i];
    normalize(s, nodes, s->seen);
    open_window(s, now_ms);
}

/* How much longer the busiest node takes than it would with rows by what was seen, and whether any
 * node is far from what is in use. */
static bool differs(const struct speed *s, uint32_t nodes, double *gain)
{
    double used[CONFIG_MAX_NODES];
    bool far = false;

    memcpy(used, s->used, sizeof used);
    normalize(s, nodes, used);
    *gain = 0;
    for (int32_t i = 0; i < s->nodes; i++) {
        if (!is_in(nodes, i))
            continue;
        const double longer = used[i] / s->seen[i];
        *gain = longer > *gain ? longer : *gain;
        far = far || longer > most_difference || longer < 1 / most_difference;
    }
    return far;
}

/* Rows are taken away at once and given back little by little: a processor whose quota is used up
 * looks fast as soon as it has less to do. */
static void adopt(struct speed *s, uint32_t nodes, uint64_t now_ms)
{
    bool raised = false, lowered = false;

    normalize(s, nodes, s->used);
    for (int32_t i = 0; i < s->nodes; i++) {
        if (!is_in(nodes, i))
            continue;
        const double most = s->used[i] * most_difference;
        lowered = lowered || s->seen[i] < s->used[i] / most_difference;
        raised = raised || s->seen[i] > most;
        s->used[i] = bounded(s->seen[i] > most ? most : s->seen[i]);
    }
    if (s->changed_ms == 0 || now_ms - s->changed_ms > 4 * s->pause_ms)
        s->pause_ms = SPEED_PAUSE_MS;
    else if (lowered && s->raised) /* what was given back was too much */
        s->pause_ms = s->pause_ms < SPEED_PAUSE_MOST_MS / 2 ? 2 * s->pause_ms : SPEED_PAUSE_MOST_MS;
    s->raised = raised && !lowered;
    s->changed_ms = now_ms;
    speed_forget(s, now_ms);
}

bool speed_tick(struct speed *s, uint32_t nodes, uint64_t now_ms)
{
    double gain;

    if (!window_is_full(s, nodes, now_ms))
        return false;
    close_window(s, nodes, now_ms);
    if (!differs(s, nodes, &gain)) {
        s->differs_ms = 0;
        return false;
    }
    if (s->differs_ms == 0)
        s->differs_ms = now_ms;
    if (now_ms - s->differs_ms < SPEED_LAST_MS || gain < least_gain ||
        (s->changed_ms > 0 && now_ms - s->changed_ms < s->pause_ms))
        return false;
    adopt(s, nodes, now_ms);
    return true;
}

int32_t speed_weight(const struct speed *s, int32_t node)
{
    const double weight = s->weight[node] * s->used[node] * SPEED_WEIGHT_SCALE;
    return weight < 1 ? 1 : weight > 1e6 ? 1000000 : (int32_t)(weight + 0.5);
}
