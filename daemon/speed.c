#include "daemon/speed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double most_difference = 1.25, least_gain = 1.10;
/* How many times its own error a difference must be.  Errors of neighbouring windows are not quite
 * independent, and nodes are many. */
static const double certain = 6;
/* Windows that are looked at: a change of a few seconds, then a smaller one. */
static const int32_t spans[] = { 9, SPEED_WINDOWS };
/* The median's error by the mean's. */
static const double median_error = 1.25;
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
    s->windows = 0;
    open_window(s, now_ms);
}

void speed_sample(struct speed *s, int32_t node, double work_us, double spent_us)
{
    s->work_us[node] += work_us;
    s->spent_us[node] += spent_us;
    s->frames[node]++;
}

/* Those of `nodes` that have a part in frames. */
static uint32_t at_work(const struct speed *s, uint32_t nodes)
{
    uint32_t some = 0;
    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i) && s->frames[i] > 0)
            some |= UINT32_C(1) << i;
    return some;
}

static bool window_is_full(const struct speed *s, uint32_t nodes, uint64_t now_ms)
{
    if (nodes == 0 || now_ms - s->window_ms < SPEED_WINDOW_MS)
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

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the last `n` windows, at most as many as there are. */
static double median(const struct speed *s, int32_t node, int32_t n)
{
    double x[SPEED_WINDOWS];
    for (int32_t k = 0; k < n; k++)
        x[k] = s->found[s->windows - n + k][node];
    qsort(x, (size_t)n, sizeof *x, rising);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void close_window(struct speed *s, uint32_t nodes, uint64_t now_ms)
{
    if (s->judged != nodes)
        s->windows = 0;
    s->judged = nodes;
    if (s->windows == SPEED_WINDOWS) {
        memmove(s->found[0], s->found[1], sizeof s->found - sizeof s->found[0]);
        s->windows--;
    }
    double *found = s->found[s->windows++];
    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i))
            found[i] = s->work_us[i] / s->spent_us[i] / s->weight[i];
    normalize(s, nodes, found);
    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(nodes, i))
            s->seen[i] = median(s, i, s->windows < spans[0] ? s->windows : spans[0]);
    open_window(s, now_ms);
}

/* The standard deviation of a window's speeds, as a share of them: from one window to the next, so
 * that a change that lasts counts once. */
static double scatter(const struct speed *s)
{
    double sum = 0;
    int32_t n = 0;
    for (int32_t k = 1; k < s->windows; k++)
        for (int32_t i = 0; i < s->nodes; i++)
            if (is_in(s->judged, i)) {
                const double step = log(s->found[k][i] / s->found[k - 1][i]);
                sum += step * step / 2;
                n++;
            }
    return n > 0 ? sqrt(sum / n) : 0;
}

/* The medians of the last `n` windows, their average 1. */
static void look_back(const struct speed *s, int32_t n, double seen[CONFIG_MAX_NODES])
{
    for (int32_t i = 0; i < s->nodes; i++)
        seen[i] = is_in(s->judged, i) ? median(s, i, n) : 0;
    normalize(s, s->judged, seen);
}

/* Is any node for certain far from what is in use, by the last `n` windows?  Then seen[] is what
 * the newer half of them says, since when it has been so, and `*gain` how much longer the busiest
 * node takes than with rows by that. */
static bool differs(struct speed *s, int32_t n, double *gain)
{
    const double error = median_error * scatter(s) / sqrt(n);
    const double limit = fmax(log(most_difference), certain * error);
    double used[CONFIG_MAX_NODES], seen[CONFIG_MAX_NODES];
    bool far = false;

    if (s->windows < n)
        return false;
    memcpy(used, s->used, sizeof used);
    normalize(s, s->judged, used);
    look_back(s, n, seen);
    for (int32_t i = 0; i < s->nodes; i++)
        far = far || (is_in(s->judged, i) && fabs(log(used[i] / seen[i])) > limit);
    if (!far)
        return false;
    look_back(s, (n + 1) / 2, s->seen);
    *gain = 0;
    for (int32_t i = 0; i < s->nodes; i++)
        if (is_in(s->judged, i))
            *gain = fmax(*gain, used[i] / s->seen[i]);
    return true;
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
    const uint32_t judged = at_work(s, nodes);
    double gain;

    if (!window_is_full(s, judged, now_ms))
        return false;
    close_window(s, judged, now_ms);
    if (s->changed_ms > 0 && now_ms - s->changed_ms < s->pause_ms)
        return false;
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        if (differs(s, spans[i], &gain) && gain >= least_gain) {
            adopt(s, judged, now_ms);
            return true;
        }
    return false;
}

int32_t speed_weight(const struct speed *s, int32_t node)
{
    const double weight = s->weight[node] * s->used[node] * SPEED_WEIGHT_SCALE;
    return weight < 1 ? 1 : weight > 1e6 ? 1000000 : (int32_t)(weight + 0.5);
}
