#include "libsplit/judge.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_SIGNAL = 1 << 16, /* values that are compared, of an input */
    RIVALS = 8            /* classes whose errors tell how far an answer sways */
};

/* What is remembered of a reference. */
struct reference {
    double size;          /* of the signal, squared */
    int32_t best[RIVALS]; /* the largest of the signal, largest first */
    double margin;        /* between the first two */
    double mse;           /* to the picture that is wanted */
};

/* What is remembered of the answers since judge_begin(). */
struct tally {
    int32_t inputs, agree;
    double error, size;        /* sums of squares */
    double expected;           /* loss, summed */
    double lost, lost_squared; /* points or dB, and their squares */
    int32_t known;             /* inputs whose truth is known */
    double mse;                /* mean square error of pictures, summed */
};

struct judge {
    enum judge_goal goal;
    int32_t n;
    struct judge_truth *truth; /* [n] */
    double peak;
    bool is_softmax;
    size_t signal; /* values of one */
    float *kept;   /* [n][signal] */
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
    r->margin = (double)z[r->best[0]] - (double)z[r->best[1]];
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

/* How much the lead of the best class over its rivals sways, as a standard deviation. */
static double sway_of(const struct judge *j, const struct reference *r, const float *z)
{
    const int32_t rivals = j->signal < RIVALS ? (int32_t)j->signal : RIVALS;
    double sum = 0;
    for (int32_t k = 1; k < rivals; k++) {
        const double rival = (double)j->now[r->best[k]] - (double)z[r->best[k]];
        const double best = (double)j->now[r->best[0]] - (double)z[r->best[0]];
        sum += (rival - best) * (rival - best);
    }
    return rivals > 1 ? sqrt(sum / (rivals - 1)) : 0;
}

static void add_class(struct judge *j, int32_t i)
{
    struct tally *t = &j->tally;
    const struct reference *r = &j->reference[i];
    const float *z = j->kept + (size_t)i * j->signal;
    const int32_t label = label_of(j, i);
    const double sway = sway_of(j, r, z);
    int32_t now[RIVALS];
    list_best(j->now, j->signal, now);
    t->agree += now[0] == r->best[0];
    if (label >= 0)
        add_lost(t, 100.0 * ((r->best[0] == label) - (now[0] == label)));
    const double flips = sway > 0 ? 0.5 * erfc(r->margin / sway / M_SQRT2) : 0;
    const double worth = label < 0 ? 1 : (r->best[0] == label) - (r->best[1] == label);
    t->expected += 100 * flips * worth;
}

static double db(double peak, double mse) { return 10 * log10(peak * peak / fmax(mse, 1e-30)); }

static void add_picture(struct judge *j, int32_t i, const struct lab *l)
{
    const float *want = want_of(j, i);
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
    t->mse += error / (double)j->signal;
    t->inputs++;
    if (j->goal == GOAL_CLASSES)
        add_class(j, i);
    else if (j->goal == GOAL_PICTURE)
        add_picture(j, i, l);
}

/* ---- Verdict */

/* Points that were lost. */
static double seen_loss(const struct verdict *v)
{
    return isfinite(v->drop) ? v->drop : 100 * (1 - v->agreement);
}

/* What a picture of 35 dB loses to the error that was seen. */
static double picture_loss(const struct judge *j)
{
    const struct tally *t = &j->tally;
    const double own = j->peak * j->peak * pow(10, -3.5);
    return t->known > 0 ? t->lost / t->known : 10 * log10(1 + t->mse / t->inputs / own);
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
    v.loss = j->goal == GOAL_CLASSES   ? fmax(t->expected / t->inputs, seen_loss(&v))
             : j->goal == GOAL_PICTURE ? picture_loss(j)
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
