#include "quant/fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_COLUMNS = 1 + CONTEXT_NEAR + CONTEXT_SOURCES,
    CANDIDATES = 24, /* sources that are looked at again after the first round */
    ADD_A_ROUND = 2
};

/* What one source must promise, as the square of a normal deviate: four standard errors. */
static const double LEAST_SCORE = 16;
/* What keeps weights small where samples are few. */
static const double RIDGE = 16;

/* Of the units of struct predictor. */
static const double UNIT = 32;

/* ---- Samples */

int fit_samples_init(struct fit_samples *s, size_t channels, size_t cap, bool with_before)
{
    struct fit_samples made = { .channels = channels, .cap = cap + 2, .places = 1 };
    made.level = calloc(channels, made.cap);
    made.before = with_before ? calloc(channels, made.cap) : NULL;
    made.above = calloc(made.cap, sizeof *made.above);
    made.holds = calloc(made.cap, sizeof *made.holds);
    *s = made;
    if (made.level && made.above && made.holds && (made.before || !with_before))
        return 0;
    fit_samples_done(s);
    return -ENOMEM;
}

void fit_samples_done(struct fit_samples *s)
{
    free(s->level);
    free(s->before);
    free(s->above);
    free(s->holds);
    *s = (struct fit_samples){ 0 };
}

static int8_t clamped(int32_t level)
{
    return (int8_t)(level > FIT_MAX_LEVEL    ? FIT_MAX_LEVEL
                    : level < -FIT_MAX_LEVEL ? -FIT_MAX_LEVEL
                                             : level);
}

/* `less` is NULL or what is taken off. */
static void add_line(struct fit_samples *s, int8_t *to, const struct levels *l,
                     const struct levels *less, size_t first, size_t line)
{
    for (size_t c = 0; c < l->channels; c++) {
        const size_t at = c * levels_plane(l) + levels_line(l, line);
        for (size_t x = 0; x < l->cols; x++)
            to[(first + c) * s->cap + s->places + x] =
                clamped(l->level[at + x] - (less ? less->level[at + x] : 0));
    }
}

void fit_samples_add(struct fit_samples *s, const struct levels *l, size_t first,
                     const struct levels *before)
{
    for (size_t line = 0; line < l->lines && s->places + l->cols + 1 < s->cap; line++) {
        add_line(s, s->level, l, s->before ? before : NULL, first, line);
        if (s->before && before)
            add_line(s, s->before, before, NULL, first, line);
        for (size_t x = 0; x < l->cols; x++) {
            s->holds[s->places + x] = true;
            s->above[s->places + x] = line > 0 ? (uint32_t)(s->places + x - l->cols - 1) : 0;
        }
        s->places += l->cols + 1;
    }
}

/* ---- Logistic regression */

/* One question about one channel. */
struct problem {
    const struct fit_samples *s;
    const int8_t *size; /* [channels][cap]: what counts, with a sign where the question needs it */
    size_t n;           /* places */
    uint8_t *asked;     /* [n] */
    uint8_t *answer;    /* [n] */
    float *rest;        /* [n]: answer less chance, 0 where it is not asked */
    float *spread;      /* [n]: chance * (1 - chance), or 0 */
    int ncolumns;
    float *column[MAX_COLUMNS]; /* [n] each; the first is all 1 */
    double weight[MAX_COLUMNS];
};

/* Solves h x = g for a positive definite h by Cholesky's decomposition, in place; x lands in g. */
static bool solve(double h[MAX_COLUMNS][MAX_COLUMNS], double g[MAX_COLUMNS], int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k <= i; k++) {
            double sum = h[i][k];
            for (int j = 0; j < k; j++)
                sum -= h[i][j] * h[k][j];
            if (i == k && sum <= 0)
                return false;
            h[i][k] = i == k ? sqrt(sum) : sum / h[k][k];
        }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            g[i] -= h[i][k] * g[k];
        g[i] /= h[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++)
            g[i] -= h[k][i] * g[k];
        g[i] /= h[i][i];
    }
    return true;
}

/* What the weights make of every place. */
static void find_rest(struct problem *p)
{
    for (size_t i = 0; i < p->n; i++) {
        p->rest[i] = p->spread[i] = 0;
        if (!p->asked[i])
            continue;
        double sum = 0;
        for (int k = 0; k < p->ncolumns; k++)
            sum += p->weight[k] * (double)p->column[k][i];
        const float chance = 1 / (1 + expf((float)-sum));
        p->rest[i] = (float)p->answer[i] - chance;
        p->spread[i] = chance * (1 - chance);
    }
}

/* One step of Newton's method. */
static void improve(struct problem *p)
{
    double h[MAX_COLUMNS][MAX_COLUMNS] = { { 0 } }, g[MAX_COLUMNS] = { 0 };
    find_rest(p);
    for (size_t i = 0; i < p->n; i++) {
        if (!p->asked[i])
            continue;
        for (int k = 0; k < p->ncolumns; k++) {
            const float part = p->spread[i] * p->column[k][i];
            g[k] += (double)(p->rest[i] * p->column[k][i]);
            for (int j = 0; j <= k; j++)
                h[k][j] += (double)(part * p->column[j][i]);
        }
    }
    for (int k = 0; k < p->ncolumns; k++) {
        h[k][k] += k > 0 ? RIDGE : 0.01;
        g[k] -= k > 0 ? RIDGE * p->weight[k] : 0;
    }
    if (!solve(h, g, p->ncolumns))
        return;
    for (int k = 0; k < p->ncolumns; k++)
        p->weight[k] += fmax(-2, fmin(2, g[k]));
}

static void improve_times(struct problem *p, int times)
{
    for (int i = 0; i < times; i++)
        improve(p);
}

/* ---- Sources */

struct candidate {
    uint16_t channel;
    int8_t col;
    double score;
};

/* How much the likelihood would gain from this source, at first glance (Rao's score). */
static double score_of(const struct problem *p, uint16_t channel, int col)
{
    enum { LANES = 8 };
    const int8_t *from = p->size + (size_t)channel * p->s->cap;
    float up[LANES] = { 0 }, down[LANES] = { 0 };
    double rest = 0, spread = 0;
    size_t i = 1;
    for (; i + LANES < p->n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float size = from[(ptrdiff_t)i + k + col];
            up[k] += p->rest[i + (size_t)k] * size;
            down[k] += p->spread[i + (size_t)k] * size * size;
        }
    for (; i + 1 < p->n; i++) {
        const float size = from[(ptrdiff_t)i + col];
        up[0] += p->rest[i] * size;
        down[0] += p->spread[i] * size * size;
    }
    for (int k = 0; k < LANES; k++) {
        rest += (double)up[k];
        spread += (double)down[k];
    }
    return rest * rest / (spread + RIDGE);
}

static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* Scores `n` candidates and puts the best first. */
static void rank_candidates(const struct problem *p, struct candidate *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        list[i].score = score_of(p, list[i].channel, list[i].col);
    qsort(list, n, sizeof *list, by_score);
}

static size_t list_candidates(struct candidate *list, size_t channel)
{
    size_t n = 0;
    for (size_t c = 0; c < channel; c++)
        for (int8_t col = -1; col <= 1; col++)
            list[n++] = (struct candidate){ (uint16_t)c, col, 0 };
    return n;
}

static void add_column(struct problem *p, const int8_t *from, int col)
{
    float *to = p->column[p->ncolumns];
    to[0] = to[p->n - 1] = 0;
    for (size_t i = 1; i + 1 < p->n; i++)
        to[i] = from[(ptrdiff_t)i + col];
    p->weight[p->ncolumns++] = 0;
}

/* Adds sources round by round; returns how many. */
static int choose_sources(struct problem *p, size_t channel, struct candidate *list,
                          struct candidate chosen[CONTEXT_SOURCES])
{
    size_t n = list_candidates(list, channel);
    int count = 0;
    while (count < CONTEXT_SOURCES && n > 0) {
        find_rest(p);
        rank_candidates(p, list, n);
        n = n < CANDIDATES ? n : CANDIDATES;
        size_t taken = 0;
        while (taken < ADD_A_ROUND && taken < n && count < CONTEXT_SOURCES &&
               list[taken].score >= LEAST_SCORE) {
            add_column(p, p->size + (size_t)list[taken].channel * p->s->cap, list[taken].col);
            chosen[count++] = list[taken++];
        }
        if (taken == 0)
            break;
        n -= taken;
        memmove(list, list + taken, n * sizeof *list);
        improve_times(p, 2);
    }
    return count;
}

/* ---- Questions */

static int8_t weight_of(double weight)
{
    return (int8_t)lrint(fmax(-127, fmin(127, UNIT * weight)));
}

static int16_t bias_of(double weight)
{
    return (int16_t)lrint(fmax(-CONTEXT_MAX_BIAS, fmin(CONTEXT_MAX_BIAS, UNIT * weight)));
}

static void pose(struct problem *p, size_t channel, enum context_question q)
{
    const int8_t *level = p->s->level + channel * p->s->cap;
    for (size_t i = 0; i < p->n; i++) {
        const int size = level[i] < 0 ? -level[i] : level[i];
        p->asked[i] = p->s->holds[i] && (q == ASK_ZERO || size > 0);
        p->answer[i] = q == ASK_ZERO ? size > 0 : q == ASK_MORE ? size > 1 : level[i] > 0;
    }
}

static void add_near(struct problem *p, size_t channel, const int8_t *before)
{
    const int8_t *own = p->size + channel * p->s->cap;
    add_column(p, own, -1);
    float *left_2 = p->column[p->ncolumns];
    add_column(p, own, 0);
    float *above = p->column[p->ncolumns];
    add_column(p, own, 0);
    for (size_t i = 0; i < p->n; i++) {
        left_2[i] = i >= 2 && p->s->holds[i - 1] ? own[i - 2] : 0;
        above[i] = p->s->above[i] ? own[p->s->above[i]] : 0;
    }
    for (int col = -1; before && col <= 1; col++)
        add_column(p, before + channel * p->s->cap, col);
}

static void fit_question(struct problem *p, size_t channel, enum context_question q,
                         const int8_t *before, struct candidate *list, struct predictor *to)
{
    struct candidate chosen[CONTEXT_SOURCES];
    double asked = 0, yes = 0;
    pose(p, channel, q);
    p->ncolumns = 1;
    for (size_t i = 0; i < p->n; i++) {
        p->column[0][i] = 1;
        asked += p->asked[i];
        yes += p->asked[i] & p->answer[i];
    }
    add_near(p, channel, before);
    memset(p->weight, 0, sizeof p->weight);
    p->weight[0] = log((yes + 0.4) / (asked - yes + 0.4));
    const bool is_known = yes > 0 && yes < asked;
    if (is_known)
        improve_times(p, 4);
    const int nnear = p->ncolumns - 1;
    const int nsources = is_known ? choose_sources(p, channel, list, chosen) : 0;
    if (is_known)
        improve_times(p, 3);
    *to = (struct predictor){ .bias = bias_of(p->weight[0]), .nsources = (uint8_t)nsources };
    for (int i = 0; i < nnear; i++)
        to->near[i] = weight_of(p->weight[1 + i]);
    for (int i = 0; i < nsources; i++)
        to->source[i] = (struct context_source){ .channel = chosen[i].channel,
                                                 .col = chosen[i].col,
                                                 .weight = weight_of(p->weight[1 + nnear + i]) };
}

/* ---- Ranks */

enum { SUMS = 4096 };

/* How often "more than k?" was asked at a sum of ASK_MORE, and how often the answer was yes. */
struct tally {
    uint32_t asked[CONTEXT_RANKS][SUMS], yes[CONTEXT_RANKS];
};

static void count_ranks(struct tally *t, const struct problem *p, size_t channel)
{
    const int8_t *level = p->s->level + channel * p->s->cap;
    for (size_t i = 0; i < p->n; i++) {
        const int size = level[i] < 0 ? -level[i] : level[i];
        double sum = 0;
        for (int c = 0; c < p->ncolumns && size > 1; c++)
            sum += p->weight[c] * (double)p->column[c][i];
        const double at = fmax(0, fmin(SUMS - 1, UNIT * sum + SUMS / 2.0));
        for (int k = 2; k < CONTEXT_RANKS && size >= k; k++) {
            t->asked[k][(size_t)at]++;
            t->yes[k] += size > k;
        }
    }
}

/* The number that makes as many answers likely as there were. */
static int16_t rank_of(const struct tally *t, int k)
{
    int low = -SUMS / 4, high = SUMS / 4;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        /* As if one more answer had been half a yes, for those that were never asked. */
        double expected = 1 / (1 + exp(-middle / UNIT));
        for (int i = 0; i < SUMS; i++)
            if (t->asked[k][i] > 0)
                expected += t->asked[k][i] / (1 + exp(-(i - SUMS / 2.0 + middle) / UNIT));
        if (expected < t->yes[k] + 0.5)
            low = middle;
        else
            high = middle;
    }
    return (int16_t)low;
}

/* ---- All of it */

static void sizes_of(int8_t *to, const int8_t *level, size_t n, bool with_sign)
{
    for (size_t i = 0; i < n; i++) {
        const int8_t size = context_size(level[i]);
        to[i] = with_sign && level[i] < 0 ? (int8_t)-size : size;
    }
}

struct workshop {
    struct problem p;
    struct candidate *list;
    struct tally *tally;
    int8_t *size[2], *before[2]; /* without and with signs; before[] may be NULL */
};

static int workshop_init(struct workshop *w, const struct fit_samples *s)
{
    const size_t all = s->channels * s->cap;
    bool holds = true;
    *w = (struct workshop){ .p = { .s = s, .n = s->places + 1 } };
    w->list = calloc(3 * s->channels + 1, sizeof *w->list);
    w->tally = calloc(1, sizeof *w->tally);
    w->p.asked = malloc(w->p.n);
    w->p.answer = malloc(w->p.n);
    w->p.rest = malloc(w->p.n * sizeof *w->p.rest);
    w->p.spread = malloc(w->p.n * sizeof *w->p.spread);
    for (int i = 0; i < MAX_COLUMNS; i++) {
        w->p.column[i] = malloc(w->p.n * sizeof *w->p.column[i]);
        holds = holds && w->p.column[i];
    }
    for (int i = 0; i < 2; i++) {
        w->size[i] = malloc(all + 1);
        w->before[i] = s->before ? malloc(all + 1) : NULL;
        holds = holds && w->size[i] && (w->before[i] || !s->before);
    }
    if (!holds || !w->list || !w->tally || !w->p.asked || !w->p.answer || !w->p.rest ||
        !w->p.spread)
        return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        sizes_of(w->size[i], s->level, all, i);
        if (s->before)
            sizes_of(w->before[i], s->before, all, i);
    }
    return 0;
}

static void workshop_done(struct workshop *w)
{
    free(w->list);
    free(w->tally);
    free(w->p.asked);
    free(w->p.answer);
    free(w->p.rest);
    free(w->p.spread);
    for (int i = 0; i < MAX_COLUMNS; i++)
        free(w->p.column[i]);
    for (int i = 0; i < 2; i++) {
        free(w->size[i]);
        free(w->before[i]);
    }
}

static void fit_channel(struct workshop *w, const struct context *x, size_t c)
{
    for (int q = 0; q < (x->with_sign ? CONTEXT_QUESTIONS : ASK_SIGN); q++) {
        w->p.size = w->size[q == ASK_SIGN];
        fit_question(&w->p, c, (enum context_question)q, w->before[q == ASK_SIGN], w->list,
                     &x->predictor[c * CONTEXT_QUESTIONS + (size_t)q]);
        if (q == ASK_MORE)
            count_ranks(w->tally, &w->p, c);
    }
}

int context_fit(struct context *to, const struct fit_samples *s, bool with_sign)
{
    struct workshop w;
    struct context x = { .channels = (int32_t)s->channels,
                         .with_sign = with_sign || s->before,
                         .with_before = s->before != NULL };
    int err = workshop_init(&w, s);
    if (!err) {
        x.predictor = calloc(s->channels * CONTEXT_QUESTIONS, sizeof *x.predictor);
        err = x.predictor ? 0 : -ENOMEM;
    }
    for (size_t c = 0; c < s->channels && !err; c++)
        fit_channel(&w, &x, c);
    for (int k = 2; k < CONTEXT_RANKS && !err; k++)
        x.rank[k] = rank_of(w.tally, k);
    workshop_done(&w);
    if (!err)
        *to = x;
    return err;
}
