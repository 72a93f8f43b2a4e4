#include "libsplit/judge.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_SIGNAL = 1 << 16, /* values that are compared, of an input */
    RIVALS = 8            /* classes that may become the best */
};

/* As far as what is seen may differ from what is expected by chance. */
static const double DEVIATIONS = 2;

/* Of the peak: what changes less was not reached by any halo. */
static const double ROUNDING = 1e-5;
/* What pictures have that nobody knows better. */
static const double UNKNOWN_DB = 35;

/* What is remembered of a reference. */
struct reference {
    double size;          /* of the signal, squared */
    int32_t best[RIVALS]; /* the largest of the signal, largest first */
    double mse;           /* to the picture that is wanted */
};

/* What is remembered of the answers since judge_begin(). */
struct tally {
    int32_t inputs, agree;
    double error, size;        /* sums of squares */
    double expected;           /* loss, or of pictures the dB where they changed; summed */
    double lost, lost_squared; /* points or dB, and their squares */
    int32_t known;             /* inputs whose truth is known */
};

struct judge {
    enum judge_goal goal;
    int32_t n;
    struct judge_truth *truth; /* [n] */
    double peak;
    bool is_softmax;
    size_t signal;  /* values of one */
    int32_t rivals; /* at most RIVALS */
    float *kept;    /* [n][signal] */
    struct reference *reference;
    float *now; /* [signal] */
    struct tally tally;
};

/* ---- Signals */

static size_t values_of(const struct graph *g, enum judge_goal goal)
{
    size_t n = 0;
    for (int32_t i = 0; i < (goal == GOAL_ERROR ? g->noutputs : 1); i++)
        n += (size_t)shape_values(&g->output[i].shape);
    return n;
}

static bool ends_in_softmax(const struct graph *g)
{
    const int32_t op = g->tensor[g->output[0].tensor].op;
    return op != GEO_NO_OP && g->op[op].type == OP_SOFTMAX;
}

static void centre(float *z, size_t n)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)z[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        z[i] -= (float)mean;
}

/* Where value `i` of a signal is among all: evenly spread where there are too many. */
static size_t place_of(size_t i, size_t signal, size_t all) { return i * all / signal; }

static float value_at(const struct lab *l, size_t at)
{
    int64_t count;
    int32_t i = 0;
    const float *values = lab_output(l, 0, &count);
    while (at >= (size_t)count) {
        at -= (size_t)count;
        values = lab_output(l, ++i, &count);
    }
    return values[at];
}

static void take_signal(const struct judge *j, const struct lab *l, float *z)
{
    const size_t all = values_of(lab_graph(l), j->goal);
    for (size_t i = 0; i < j->signal; i++)
        z[i] = value_at(l, place_of(i, j->signal, all));
    if (j->goal != GOAL_CLASSES)
        return;
    for (size_t i = 0; i < j->signal && j->is_softmax; i++)
        z[i] = logf(fmaxf(z[i], 1e-30F));
    centre(z, j->signal);
}

static double square_sum(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (b ? (double)b[i] : 0);
        sum += d * d;
    }
    return sum;
}

/* Where the largest values are, largest first; 0 where there are no more. */
static void list_best(const float *z, size_t n, int32_t best[RIVALS])
{
    size_t count = 0;
    memset(best, 0, RIVALS * sizeof *best);
    for (size_t i = 0; i < n; i++) {
        if (count == RIVALS && z[i] <= z[best[RIVALS - 1]])
            continue;
        size_t at = count < RIVALS ? count++ : RIVALS - 1;
        for (; at > 0 && z[best[at - 1]] < z[i]; at--)
            best[at] = best[at - 1];
        best[at] = (int32_t)i;
    }
}

/* ---- Reference */

static const float *want_of(const struct judge *j, int32_t i)
{
    return j->goal == GOAL_PICTURE ? j->truth[i].want : NULL;
}

/* Mean square error of the picture that is there to the one that is wanted. */
static double mse_to(const float *want, const struct lab *l)
{
    int64_t count;
    const float *values = lab_output(l, 0, &count);
    return square_sum(values, want, (size_t)count) / (double)count;
}

void judge_refer(struct judge *j, int32_t i, const struct lab *l)
{
    float *z = j->kept + (size_t)i * j->signal;
    struct reference *r = &j->reference[i];
    take_signal(j, l, z);
    r->size = square_sum(z, NULL, j->signal);
    list_best(z, j->signal, r->best);
    r->mse = want_of(j, i) ? mse_to(want_of(j, i), l) : 0;
}

/* ---- Answers */

void judge_begin(struct judge *j) { j->tally = (struct tally){ 0 }; }

static int32_t label_of(const struct judge *j, int32_t i) { return j->truth[i].label; }

static void add_lost(struct tally *t, double lost)
{
    t->lost += lost;
    t->lost_squared += lost * lost;
    t->known++;
}

/* How much the value of one of the best classes sways beside the others, as a standard deviation.
 */
static double sway_of(const struct judge *j, const struct reference *r, const float *z)
{
    double mean = 0, sum = 0;
    for (int32_t k = 0; k < j->rivals; k++)
        mean += ((double)j->now[r->best[k]] - (double)z[r->best[k]]) / j->rivals;
    for (int32_t k = 0; k < j->rivals; k++) {
        const double off = (double)j->now[r->best[k]] - (double)z[r->best[k]] - mean;
        sum += off * off;
    }
    return j->rivals > 1 ? sqrt(sum / (j->rivals - 1)) : 0;
}

/* The chance that the class of rank `k` is the best, when all of them sway so. */
static double chance_of(const struct judge *j, const struct reference *r, const float *z, int32_t k,
                        double sway)
{
    enum { REACH = 16 }; /* of the integral over its own error, in steps */
    static const double width = 0.25;
    double chance = 0;
    if (sway <= 0)
        return k == 0;
    for (int at = -REACH; at <= REACH; at++) {
        const double own = at * width;
        double wins = exp(-own * own / 2) / sqrt(2 * M_PI) * width;
        for (int32_t i = 0; i < j->rivals; i++) {
            const double lead = (double)z[r->best[k]] - (double)z[r->best[i]];
            wins *= i == k ? 1 : 0.5 * erfc(-(lead / sway + own) / M_SQRT2);
        }
        chance += wins;
    }
    return chance;
}

/* Points that errors of the size that is seen cost on average; see judge.h. */
static double expected_loss(const struct judge *j, const struct reference *r, const float *z,
                            int32_t label)
{
    const double sway = sway_of(j, r, z);
    if (label < 0)
        return 100 * (1 - chance_of(j, r, z, 0, sway));
    double right = 0;
    for (int32_t k = 0; k < j->rivals; k++)
        if (r->best[k] == label)
            right = chance_of(j, r, z, k, sway);
    return 100 * ((r->best[0] == label) - right);
}

static void add_class(struct judge *j, int32_t i)
{
    struct tally *t = &j->tally;
    const struct reference *r = &j->reference[i];
    const float *z = j->kept + (size_t)i * j->signal;
    const int32_t label = label_of(j, i);
    int32_t now[RIVALS];
    list_best(j->now, j->signal, now);
    t->agree += now[0] == r->best[0];
    if (label >= 0)
        add_lost(t, 100.0 * ((r->best[0] == label) - (now[0] == label)));
    t->expected += expected_loss(j, r, z, label);
}

static double db(double peak, double mse) { return 10 * log10(peak * peak / fmax(mse, 1e-30)); }

/* dB that the values lost that changed.  What no halo reaches is exact, and would dilute seams. */
static double local_loss(const struct judge *j, int32_t i, const struct lab *l)
{
    const float *want = want_of(j, i), *reference = j->kept + (size_t)i * j->signal;
    const size_t all = values_of(lab_graph(l), j->goal);
    double before = 0, after = 0;
    for (size_t k = 0; k < j->signal; k++) {
        const double change = (double)j->now[k] - (double)reference[k];
        if (fabs(change) <= ROUNDING * j->peak)
            continue;
        const double off =
            want ? (double)reference[k] - (double)want[place_of(k, j->signal, all)] : 0;
        before += want ? off * off : j->peak * j->peak * pow(10, -UNKNOWN_DB / 10);
        after += want ? (off + change) * (off + change) : change * change;
    }
    after += want ? 0 : before;
    return before > 0 && after > 0 ? 10 * log10(after / before) : 0;
}

static void add_picture(struct judge *j, int32_t i, const struct lab *l)
{
    const float *want = want_of(j, i);
    j->tally.expected += local_loss(j, i, l);
    if (want)
        add_lost(&j->tally, db(j->peak, j->reference[i].mse) - db(j->peak, mse_to(want, l)));
}

void judge_add(struct judge *j, int32_t i, const struct lab *l)
{
    struct tally *t = &j->tally;
    take_signal(j, l, j->now);
    const double error = square_sum(j->now, j->kept + (size_t)i * j->signal, j->signal);
    t->error += error;
    t->size += j->reference[i].size;
    t->inputs++;
    if (j->goal == GOAL_CLASSES)
        add_class(j, i);
    else if (j->goal == GOAL_PICTURE)
        add_picture(j, i, l);
}

/* ---- Verdict */

/* Points lost: what is expected, or what was seen where that is more than chance explains. */
static double class_loss(const struct judge *j, const struct verdict *v)
{
    const double expected = j->tally.expected / v->inputs;
    const double flips = 1 - v->agreement;
    const bool has_truth = isfinite(v->drop);
    const double seen = has_truth ? v->drop : 100 * flips;
    const double deviation =
        has_truth ? v->drop_error : 100 * sqrt(flips * (1 - flips) / v->inputs);
    return fmax(expected, seen - DEVIATIONS * deviation);
}

struct verdict judge_end(const struct judge *j)
{
    const struct tally *t = &j->tally;
    struct verdict v = { .inputs = t->inputs, .agreement = NAN, .drop = NAN, .drop_error = NAN };
    if (t->inputs == 0)
        return v;
    v.error = sqrt(t->error / fmax(t->size, 1e-30));
    if (j->goal == GOAL_CLASSES)
        v.agreement = (double)t->agree / t->inputs;
    if (t->known > 0) {
        const double mean = t->lost / t->known;
        const double variance = fmax(0, t->lost_squared / t->known - mean * mean);
        v.drop = mean;
        v.drop_error = sqrt(variance / t->known);
    }
    v.loss = j->goal == GOAL_CLASSES   ? class_loss(j, &v)
             : j->goal == GOAL_PICTURE ? t->expected / t->inputs
                                       : 100 * v.error;
    return v;
}

/* ---- Life */

int judge_new(struct judge **to, enum judge_goal goal, const struct graph *g, int32_t n,
              const struct judge_truth *truth, double peak)
{
    struct judge *j = calloc(1, sizeof *j);
    if (!j)
        return -ENOMEM;
    const size_t all = values_of(g, goal);
    *j = (struct judge){ .goal = goal,
                         .n = n,
                         .peak = peak,
                         .is_softmax = ends_in_softmax(g),
                         .signal = all < MAX_SIGNAL ? all : MAX_SIGNAL };
    j->rivals = j->signal < RIVALS ? (int32_t)j->signal : RIVALS;
    j->kept = calloc((size_t)n * j->signal + 1, sizeof *j->kept);
    j->now = calloc(j->signal + 1, sizeof *j->now);
    j->reference = calloc((size_t)n + 1, sizeof *j->reference);
    j->truth = calloc((size_t)n + 1, sizeof *j->truth);
    if (j->kept && j->now && j->reference && j->truth) {
        memcpy(j->truth, truth, (size_t)n * sizeof *truth);
        *to = j;
        return 0;
    }
    judge_free(j);
    return -ENOMEM;
}

void judge_free(struct judge *j)
{
    if (!j)
        return;
    free(j->kept);
    free(j->now);
    free(j->reference);
    free(j->truth);
    free(j);
}
