#include "libsplit/calibrate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/fit.h"
#include "quant/tq.h"

/* Steps, in standard deviations of the tensor.  Errors are measured at the anchors. */
enum { ANCHORS = 5, STEPS = 33 };
static const double ANCHOR[ANCHORS] = { 0.06, 0.3, 1, 2.5, 5.6 };
static const double LEAST_STEP = 0.03125; /* the first of STEPS; each is larger by STEP_RATIO */
static const double STEP_RATIO = 1.189;   /* fourth root of 2 */

static const double THRESHOLD = 0.6; /* of a step */
static const double MOST_GAIN = 2;

enum {
    SAMPLE_PLACES = 16000, /* of a tensor, to learn from */
    RATE_PLACES = 3000,    /* the same, to tell how many bytes a step takes */
    MEASURE_INPUTS = 100,  /* at most, to measure single tensors by; */
    LEAST_INPUTS = 12,     /* at least, */
    MEASURE_FRAMES = 2500, /* and so many frames for all of them, about */
    SEARCHES = 8,
    VIDEO_FRAMES = 24,
};

/* What a tensor may do.  Steps come first. */
enum { CHOICE_DROP = STEPS, CHOICE_PLAIN, CHOICES };

struct choice {
    double bytes; /* of a frame */
    double error; /* relative, squared */
};

/* A tensor that nodes exchange. */
struct subject {
    const struct lab_tensor *t;
    bool with_sign;
    double sigma; /* standard deviation over all values */
    double *mean; /* [channels] */
    struct choice choice[CHOICES];
    int chosen;
    struct recipe recipe;
};

struct bench {
    const struct calibrate_options *o;
    const struct calibrate_input *input;
    int32_t n;
    struct lab *lab;
    struct judge *judge;
    int32_t nsubjects;
    struct subject *subject;
    double done, total; /* runs, for the bar */
    struct diag *why;
};

static void advance(struct bench *b, double runs)
{
    b->done += runs;
    if (b->o->progress)
        b->o->progress(b->o->ctx, fmin(1, b->done / b->total));
}

static int run(struct bench *b, int32_t i)
{
    const int err = lab_run(b->lab, &b->input[i].input, b->why);
    advance(b, 1);
    return err;
}

static int out_of_memory(const struct bench *b)
{
    return diag(b->why, -ENOMEM, "out of memory for the calibration");
}

/* ---- Samples */

static const struct lab_sample *samples_of(const struct bench *b, const struct subject *s,
                                           int32_t *n)
{
    return lab_samples(b->lab, (int32_t)(s - b->subject), n);
}

static size_t pixels_of(const struct grid *g) { return g->images * g->rows * g->cols; }

/* Mean of every channel, deviation of all. */
static void describe(const struct bench *b, struct subject *s)
{
    double *count = s->mean + s->t->channels, sum = 0, square = 0, all = 0;
    int32_t n;
    const struct lab_sample *sample = samples_of(b, s, &n);
    for (int32_t i = 0; i < n; i++)
        for (size_t p = 0; p < pixels_of(&sample[i].grid); p++)
            for (size_t c = 0; c < sample[i].grid.channels; c++) {
                const double x = (double)sample[i].values[p * sample[i].grid.channels + c];
                s->mean[sample[i].first + c] += x;
                count[sample[i].first + c]++;
                s->with_sign |= x < 0;
                sum += x;
                square += x * x;
                all++;
            }
    for (int32_t c = 0; c < s->t->channels; c++)
        s->mean[c] /= fmax(1, count[c]);
    s->sigma = sqrt(fmax(0, square / fmax(1, all) - sum / fmax(1, all) * (sum / fmax(1, all))));
}

/* ---- Recipes */

/* What becomes of values by a quantizer of gain 1 and no rest. */
static double plainly(const struct quantizer *q, double x)
{
    const double size = fabs(x) - (double)q->threshold;
    if (size < 0 || (x < 0 && !q->with_sign))
        return 0;
    const double level = floor(size / (double)q->step);
    return copysign((double)q->threshold + (level + 0.5) * (double)q->step, x);
}

/* Sums over all samples, channel means taken off. */
struct moments {
    double *mean; /* [channels] of what values become */
    double variance, covariance;
};

static void find_moments(const struct bench *b, const struct subject *s, const struct quantizer *q,
                         struct moments *m)
{
    double *count = m->mean + s->t->channels;
    int32_t n;
    const struct lab_sample *sample = samples_of(b, s, &n);
    for (int32_t i = 0; i < n; i++)
        for (size_t p = 0; p < pixels_of(&sample[i].grid); p++)
            for (size_t c = 0; c < sample[i].grid.channels; c++) {
                const double x = (double)sample[i].values[p * sample[i].grid.channels + c];
                const size_t at = sample[i].first + c;
                m->mean[at] += plainly(q, x);
                count[at]++;
                m->variance += (x - s->mean[at]) * (x - s->mean[at]);
                m->covariance += plainly(q, x) * (x - s->mean[at]);
            }
    for (int32_t c = 0; c < s->t->channels; c++)
        m->mean[c] /= fmax(1, count[c]);
}

/* A quantizer that makes everything 0. */
static struct quantizer silent(bool with_sign)
{
    return (
        struct quantizer){ .step = 1e30F, .threshold = 1e30F, .gain = 1, .with_sign = with_sign };
}

/* The recipe for a step of so many deviations, or for nothing at all (0), without contexts.  What
 * quantizing takes off the energy of a tensor a gain gives back, and off its channels' means their
 * rests: lost energy adds up behind a convolution, noise does not. */
static int make_recipe(const struct bench *b, const struct subject *s, double deviations,
                       struct recipe *to)
{
    const size_t channels = (size_t)s->t->channels;
    struct recipe r = { .channels = s->t->channels, .drop = deviations <= 0 };
    struct moments m = { .mean = calloc(2 * channels, sizeof *m.mean) };
    r.rest = calloc(channels, sizeof *r.rest);
    if (!m.mean || !r.rest) {
        free(m.mean);
        recipe_done(&r);
        return out_of_memory(b);
    }
    const double step = fmin(1e30, fmax(1e-30, s->sigma * deviations));
    r.quantizer = (struct quantizer){ .step = (float)step,
                                      .threshold = (float)(THRESHOLD * step),
                                      .gain = 1,
                                      .with_sign = s->with_sign };
    if (r.drop)
        r.quantizer = silent(s->with_sign);
    else
        find_moments(b, s, &r.quantizer, &m);
    if (m.covariance > 0)
        r.quantizer.gain = (float)fmin(MOST_GAIN, fmax(1, m.variance / m.covariance));
    for (size_t c = 0; c < channels; c++)
        r.rest[c] = (float)(s->mean[c] - (double)r.quantizer.gain * m.mean[c]);
    free(m.mean);
    *to = r;
    return 0;
}

/* ---- Contexts */

static struct levels levels_for(const struct lab_sample *s) { return levels_of(&s->grid, NULL); }

/* The levels of a sample; free() their storage. */
static int quantize(const struct bench *b, const struct lab_sample *s, const struct quantizer *q,
                    struct levels *l)
{
    *l = levels_for(s);
    l->level = malloc(l->channels * levels_plane(l) * sizeof *l->level);
    if (!l->level)
        return out_of_memory(b);
    levels_of_values(l, s->values, &s->grid, q);
    return 0;
}

/* The sample of the frame before, NULL if it was not kept. */
static const struct lab_sample *before(const struct lab_sample *list, int32_t n,
                                       const struct lab_sample *s)
{
    for (int32_t i = 0; i < n; i++)
        if (list[i].source == s->source && list[i].frame == s->frame - 1)
            return &list[i];
    return NULL;
}

static int add_sample(const struct bench *b, struct fit_samples *fit, const struct quantizer *q,
                      const struct lab_sample *s, const struct lab_sample *last)
{
    struct levels now, past = { .level = NULL };
    int err = quantize(b, s, q, &now);
    if (err)
        return err;
    if (last)
        err = quantize(b, last, q, &past);
    if (!err)
        fit_samples_add(fit, &now, s->first, last ? &past : NULL);
    free(now.level);
    free(past.level);
    return err;
}

/* Learns from every `every`th sample; for video from those that have one before them. */
static int learn(const struct bench *b, const struct subject *s, const struct quantizer *q,
                 int64_t places, int32_t every, bool video, struct context **to)
{
    int32_t n;
    const struct lab_sample *list = samples_of(b, s, &n);
    struct fit_samples fit;
    struct context *x = calloc(1, sizeof *x);
    size_t most = 0;
    for (int32_t i = 0; i < n; i += every) {
        const struct levels l = levels_for(&list[i]);
        most += levels_plane(&l);
    }
    most = most < (size_t)places ? most : (size_t)places;
    if (!x || fit_samples_init(&fit, (size_t)s->t->channels, most, video)) {
        free(x);
        return out_of_memory(b);
    }
    int err = 0;
    for (int32_t i = 0; i < n && !err; i += every) {
        const struct lab_sample *last = video ? before(list, n, &list[i]) : NULL;
        if (!video || (last && list[i].frame % 2 == 1))
            err = add_sample(b, &fit, q, &list[i], last);
    }
    if (!err && context_fit(x, &fit, s->with_sign))
        err = out_of_memory(b);
    fit_samples_done(&fit);
    if (err)
        free(x);
    else
        *to = x;
    return err;
}

static void free_context(struct context *x)
{
    if (x)
        context_done(x);
    free(x);
}

/* Bytes of the payload of a sample's message. */
static int64_t coded_bytes(const struct bench *b, const struct lab_sample *s,
                           const struct quantizer *q, const struct context *x)
{
    struct levels l;
    const size_t most = codec_len(CODEC_F16, pixels_of(&s->grid) * s->grid.channels);
    int64_t bytes = -ENOMEM;
    if (quantize(b, s, q, &l))
        return bytes;
    uint8_t *to = malloc(most);
    void *scratch = malloc(context_scratch_bytes(&l));
    if (to && scratch) {
        const size_t len = x ? context_put(to, most - 1, &l, x, s->first, NULL, scratch)
                             : tq_put(to, most - 1, &l, q->with_sign);
        bytes = (int64_t)(len == SIZE_MAX ? most : len + 1);
    }
    free(to);
    free(scratch);
    free(l.level);
    return bytes;
}

/* Bytes of a frame with this quantizer, heads included: learned from one half of the samples and
 * measured on the other. */
static int measure_rate(const struct bench *b, const struct subject *s, const struct quantizer *q,
                        double *bytes)
{
    int32_t n;
    const struct lab_sample *list = samples_of(b, s, &n);
    struct context *x = NULL;
    double sum = 0, places = 0;
    int err = b->o->gamma ? 0 : learn(b, s, q, RATE_PLACES, n > 1 ? 2 : 1, false, &x);
    for (int32_t i = n > 1; i < n && !err && places < RATE_PLACES; i += 2) {
        const int64_t one = coded_bytes(b, &list[i], q, x);
        if (one < 0)
            err = out_of_memory(b);
        sum += (double)one;
        places += (double)pixels_of(&list[i].grid);
    }
    free_context(x);
    *bytes = sum * (double)s->t->places / fmax(1, places) +
             (double)s->t->messages * b->o->lab.head_bytes;
    return err;
}

/* ---- Measuring */

static double step_at(int i) { return LEAST_STEP * pow(STEP_RATIO, i); }

/* Between anchors, and beyond them, powers. */
static double interpolate(const double anchor[ANCHORS], double deviations)
{
    int i = 0;
    while (i < ANCHORS - 2 && deviations > ANCHOR[i + 1])
        i++;
    const double along = log(deviations / ANCHOR[i]) / log(ANCHOR[i + 1] / ANCHOR[i]);
    const double low = log(fmax(anchor[i], 1e-30)), high = log(fmax(anchor[i + 1], 1e-30));
    return exp(low + along * (high - low));
}

/* How many inputs single tensors are measured by: a number that hangs on no clock, so that a
 * calibration always comes to the same. */
static int32_t measure_inputs(const struct bench *b, int32_t known)
{
    int32_t n = MEASURE_FRAMES / (b->nsubjects * (ANCHORS + 1));
    n = n > LEAST_INPUTS ? n : LEAST_INPUTS;
    n = n < MEASURE_INPUTS ? n : MEASURE_INPUTS;
    return n < known ? n : known;
}

/* The error from one tensor alone. */
static int measure_error(struct bench *b, int32_t i, const struct recipe *r, int32_t inputs,
                         double *error)
{
    int err = 0;
    lab_use(b->lab, i, r);
    judge_begin(b->judge);
    for (int32_t k = 0, taken = 0; k < b->n && taken < inputs && !err; k++) {
        if (b->input[k].held_out)
            continue;
        err = run(b, k);
        judge_add(b->judge, k, b->lab);
        taken++;
    }
    lab_use(b->lab, i, NULL);
    const double relative = judge_end(b->judge).error;
    *error = relative * relative;
    return err;
}

/* What nodes would send of it without a recipe. */
static struct choice plain_choice(const struct bench *b, const struct subject *s)
{
    return (struct choice){ .bytes = 2.0 * (double)s->t->places * s->t->channels +
                                     (double)s->t->messages * (b->o->lab.head_bytes + 1) };
}

static int measure_subject(struct bench *b, struct subject *s, int32_t inputs)
{
    const int32_t index = (int32_t)(s - b->subject);
    double bytes[ANCHORS], error[ANCHORS];
    int err = 0;
    for (int a = 0; a <= ANCHORS && !err; a++) {
        struct recipe r;
        err = make_recipe(b, s, a < ANCHORS ? ANCHOR[a] : 0, &r);
        if (err)
            break;
        if (a < ANCHORS)
            err = measure_rate(b, s, &r.quantizer, &bytes[a]);
        if (!err)
            err = measure_error(b, index, &r, inputs,
                                a < ANCHORS ? &error[a] : &s->choice[CHOICE_DROP].error);
        recipe_done(&r);
    }
    for (int i = 0; i < STEPS && !err; i++)
        s->choice[i] = (struct choice){ .bytes = interpolate(bytes, step_at(i)),
                                        .error = interpolate(error, step_at(i)) };
    s->choice[CHOICE_PLAIN] = plain_choice(b, s);
    return err;
}

/* ---- Choosing */

/* Fewest bytes + price * error for every tensor.  Returns the error of all, squared. */
static double choose_by_price(struct bench *b, double price)
{
    double error = 0;
    for (int32_t i = 0; i < b->nsubjects; i++) {
        struct subject *s = &b->subject[i];
        s->chosen = 0;
        for (int c = 1; c < CHOICES; c++)
            if (s->choice[c].bytes + price * s->choice[c].error <
                s->choice[s->chosen].bytes + price * s->choice[s->chosen].error)
                s->chosen = c;
        error += s->choice[s->chosen].error;
    }
    return error;
}

/* The fewest bytes at about that error. */
static void choose_by_error(struct bench *b, double error)
{
    double low = -6, high = 18; /* decimal logarithms of prices */
    for (int i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        if (choose_by_price(b, pow(10, middle)) > error * error)
            low = middle;
        else
            high = middle;
    }
    choose_by_price(b, pow(10, high));
}

static void forget_recipes(struct bench *b)
{
    for (int32_t i = 0; i < b->nsubjects; i++) {
        lab_use(b->lab, i, NULL);
        recipe_done(&b->subject[i].recipe);
    }
}

/* Gives every tensor the recipe that was chosen, without contexts. */
static int make_recipes(struct bench *b)
{
    forget_recipes(b);
    for (int32_t i = 0; i < b->nsubjects; i++) {
        struct subject *s = &b->subject[i];
        if (s->chosen == CHOICE_PLAIN)
            continue;
        const int err =
            make_recipe(b, s, s->chosen == CHOICE_DROP ? 0 : step_at(s->chosen), &s->recipe);
        if (err)
            return err;
        lab_use(b->lab, i, &s->recipe);
    }
    return 0;
}

/* Runs the inputs that are, or are not, held out, all tensors by their recipes. */
static int judge_all(struct bench *b, bool held_out, struct verdict *v, double *bytes)
{
    int err = 0;
    double sum = 0;
    judge_begin(b->judge);
    for (int32_t i = 0; i < b->n && !err; i++) {
        if (b->input[i].held_out != held_out)
            continue;
        err = run(b, i);
        judge_add(b->judge, i, b->lab);
        sum += (double)lab_bytes(b->lab);
    }
    *v = judge_end(b->judge);
    *bytes = sum / fmax(1, v->inputs);
    return err;
}

/* The coarsest recipes whose loss is within the budget. */
static int search(struct bench *b)
{
    double fine = log(0.003), coarse = log(1.0), bytes;
    struct verdict v;
    for (int i = 0; i < SEARCHES; i++) {
        const double middle = (fine + coarse) / 2;
        choose_by_error(b, exp(middle));
        int err = make_recipes(b);
        if (!err)
            err = judge_all(b, false, &v, &bytes);
        if (err)
            return err;
        if (v.loss <= b->o->budget)
            fine = middle;
        else
            coarse = middle;
    }
    choose_by_error(b, exp(fine));
    return make_recipes(b);
}

/* ---- Learning */

static int learn_contexts(struct bench *b, bool video)
{
    for (int32_t i = 0; i < b->nsubjects; i++) {
        struct subject *s = &b->subject[i];
        struct recipe *r = &s->recipe;
        const bool is_coded = s->chosen < STEPS;
        const int err = is_coded ? learn(b, s, &r->quantizer, SAMPLE_PLACES, 1, video,
                                         video ? &r->video : &r->context)
                                 : 0;
        if (err)
            return err;
    }
    return 0;
}

/* xorshift64*, and a bell from it. */
static double noise(uint64_t *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        sum += (double)(*state * UINT64_C(2685821657736338717) >> 11) * 0x1p-53;
    }
    return sum;
}

/* The picture as a sensor sees it, that never sees the same twice. */
static void add_noise(uint8_t *to, const uint8_t *from, int64_t len, uint64_t *state)
{
    const double deviation = 2; /* of 255 */
    for (int64_t i = 0; i < len; i++) {
        const double value = from[i] + deviation * noise(state);
        to[i] = (uint8_t)lrint(fmax(0, fmin(255, value)));
    }
}

/* Keeps pairs of frames that only differ by a sensor's noise. */
static int film(struct bench *b)
{
    uint8_t *pixels = malloc((size_t)b->o->pixels_len + 1);
    uint64_t state = 88172645463325252U;
    int err = pixels ? 0 : out_of_memory(b);
    for (int32_t i = 0; i < b->nsubjects; i++)
        lab_use(b->lab, i, NULL);
    lab_keep(b->lab, INT64_MAX, 2 * VIDEO_FRAMES);
    for (int32_t i = 0, taken = 0; i < b->n && taken < VIDEO_FRAMES && !err; i++) {
        if (b->input[i].held_out)
            continue;
        for (int frame = 0; frame < 2 && !err; frame++) {
            add_noise(pixels, b->input[i].input.pixels, b->o->pixels_len, &state);
            err = lab_run(b->lab, &(struct lab_input){ .pixels = pixels }, b->why);
            advance(b, 1);
        }
        taken++;
    }
    if (!err && lab_is_full(b->lab))
        err = out_of_memory(b);
    free(pixels);
    return err;
}

/* Contexts for single frames, and for video, if that is wanted. */
static int learn_all(struct bench *b)
{
    int err = b->o->gamma ? 0 : learn_contexts(b, false);
    if (!err && b->o->video && !b->o->gamma) {
        err = film(b);
        if (!err)
            err = learn_contexts(b, true);
    }
    for (int32_t i = 0; i < b->nsubjects && !err; i++)
        if (b->subject[i].chosen != CHOICE_PLAIN)
            lab_use(b->lab, i, &b->subject[i].recipe);
    return err;
}

/* ---- All of it */

static int32_t count_known(const struct bench *b)
{
    int32_t n = 0;
    for (int32_t i = 0; i < b->n; i++)
        n += !b->input[i].held_out;
    return n;
}

/* One node's answers, and samples of what nodes send each other. */
static int refer(struct bench *b, double *dense_bytes)
{
    double sum = 0;
    lab_keep(b->lab, SAMPLE_PLACES, count_known(b));
    for (int pass = 0; pass < 2; pass++) { /* samples of those that are held out are none */
        for (int32_t i = 0; i < b->n; i++) {
            if (b->input[i].held_out != (pass == 1))
                continue;
            const int err = run(b, i);
            if (err)
                return err;
            judge_refer(b->judge, i, b->lab);
            sum += (double)lab_bytes(b->lab);
        }
        if (lab_is_full(b->lab))
            return out_of_memory(b);
        lab_stop(b->lab);
    }
    *dense_bytes = sum / b->n;
    return 0;
}

static int list_subjects(struct bench *b)
{
    b->nsubjects = lab_tensors(b->lab);
    if (b->nsubjects == 0)
        return diag(b->why, -EINVAL, "%d nodes exchange nothing: there is nothing to calibrate",
                    b->o->lab.nodes);
    b->subject = calloc((size_t)b->nsubjects, sizeof *b->subject);
    if (!b->subject)
        return out_of_memory(b);
    for (int32_t i = 0; i < b->nsubjects; i++) {
        struct subject *s = &b->subject[i];
        s->t = lab_tensor(b->lab, i);
        s->mean = calloc(2 * (size_t)s->t->channels, sizeof *s->mean);
        if (!s->mean)
            return out_of_memory(b);
        describe(b, s);
    }
    return 0;
}

static int measure(struct bench *b)
{
    const int32_t known = count_known(b), inputs = measure_inputs(b, known);
    const double film_runs = b->o->video ? 2 * VIDEO_FRAMES : 0;
    b->total = 2.0 * b->n + (double)b->nsubjects * (ANCHORS + 1) * inputs +
               (double)SEARCHES * known + film_runs + 3.0 * (known < b->n ? b->n - known : known);
    for (int32_t i = 0; i < b->nsubjects; i++) {
        const int err = measure_subject(b, &b->subject[i], inputs);
        if (err)
            return err;
    }
    return 0;
}

/* Moves the recipes into the file. */
static int write_file(struct bench *b, struct halo_file *f)
{
    f->tensor = calloc((size_t)b->nsubjects, sizeof *f->tensor);
    if (!f->tensor)
        return out_of_memory(b);
    for (int32_t i = 0; i < b->nsubjects; i++) {
        struct subject *s = &b->subject[i];
        if (s->chosen == CHOICE_PLAIN)
            continue;
        struct halo_tensor *t = &f->tensor[f->ntensors++];
        *t = (struct halo_tensor){ .tensor = s->t->tensor,
                                   .name = strdup(s->t->name),
                                   .recipe = s->recipe,
                                   .bytes = s->choice[s->chosen].bytes,
                                   .error = sqrt(s->choice[s->chosen].error) };
        s->recipe = (struct recipe){ 0 };
        lab_use(b->lab, i, NULL);
        if (!t->name)
            return out_of_memory(b);
    }
    return 0;
}

/* Would the inputs that verify lose no more with all halos of a plain mode? */
static int verify_plain(struct bench *b, bool held_out, enum halo mode, uint32_t *within)
{
    struct lab_options o = b->o->lab;
    struct lab *by_recipes = b->lab;
    struct verdict v;
    double bytes;
    o.plain = mode;
    b->lab = NULL;
    int err = lab_open(&b->lab, &o, b->why);
    if (!err)
        err = judge_all(b, held_out, &v, &bytes);
    if (!err && v.loss <= b->o->budget)
        *within |= halo_bit(mode);
    lab_close(b->lab);
    b->lab = by_recipes;
    return err;
}

static int calibrate_all(struct bench *b, struct halo_file *f)
{
    struct verdict v;
    const bool verifies = count_known(b) < b->n;
    int err = refer(b, &f->measured.dense_bytes);
    if (!err)
        err = list_subjects(b);
    if (!err)
        err = measure(b);
    if (!err)
        err = search(b);
    if (!err)
        err = learn_all(b);
    if (!err)
        err = judge_all(b, verifies, &v, &f->measured.bytes);
    if (!err)
        err = verify_plain(b, verifies, HALO_Q8, &f->within);
    if (!err)
        err = verify_plain(b, verifies, HALO_Q4, &f->within);
    if (err)
        return err;
    f->measured.inputs = v.inputs;
    f->measured.error = v.error;
    f->measured.agreement = v.agreement;
    f->measured.drop = v.drop;
    f->measured.drop_error = v.drop_error;
    f->nodes = b->o->lab.nodes;
    snprintf(f->budget, sizeof f->budget, "%s", b->o->budget_text);
    halo_file_model(b->o->lab.onnx, f->model);
    return write_file(b, f);
}

static int open_bench(struct bench *b)
{
    struct judge_truth *truth = calloc((size_t)b->n, sizeof *truth);
    int err = truth ? lab_open(&b->lab, &b->o->lab, b->why) : out_of_memory(b);
    for (int32_t i = 0; i < b->n && !err; i++)
        truth[i] = b->input[i].truth;
    if (!err && judge_new(&b->judge, b->o->goal, lab_graph(b->lab), b->n, truth, b->o->peak))
        err = out_of_memory(b);
    free(truth);
    return err;
}

static void close_bench(struct bench *b)
{
    for (int32_t i = 0; b->subject && i < b->nsubjects; i++) {
        recipe_done(&b->subject[i].recipe);
        free(b->subject[i].mean);
    }
    free(b->subject);
    judge_free(b->judge);
    lab_close(b->lab);
}

int calibrate(struct halo_file *to, const struct calibrate_options *o,
              const struct calibrate_input *input, int32_t n, struct diag *why)
{
    struct bench b = { .o = o, .input = input, .n = n, .total = 1e9, .why = why };
    struct halo_file f = { .ntensors = 0 };
    if (count_known(&b) < CALIBRATE_LEAST_INPUTS)
        return diag(why, -EINVAL, "%d inputs to calibrate by, at least %d are needed",
                    count_known(&b), CALIBRATE_LEAST_INPUTS);
    int err = open_bench(&b);
    if (!err)
        err = calibrate_all(&b, &f);
    close_bench(&b);
    if (err)
        halo_file_done(&f);
    else
        *to = f;
    return err;
}
