#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/parse.h"
#include "cli/table.h"

enum { KEY_INPUT = 300, KEY_EXPECT, KEY_TOLERANCE };
enum { MAX_OUTPUTS = 64 };

struct options {
    struct local_options local;
    const char *model;
    char *input[LOCAL_MAX_INPUTS], *expect[MAX_OUTPUTS];
    int ninputs, nexpect;
    int list; /* KEY_INPUT or KEY_EXPECT: where a bare argument belongs */
    double tolerance;
};

static void add_file(struct options *o, char *arg, struct argp_state *state)
{
    if (o->list == KEY_INPUT && o->ninputs < LOCAL_MAX_INPUTS)
        o->input[o->ninputs++] = arg;
    else if (o->list == KEY_EXPECT && o->nexpect < MAX_OUTPUTS)
        o->expect[o->nexpect++] = arg;
    else
        argp_error(state, "too many arguments at '%s'", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->local;
        return 0;
    case KEY_INPUT:
    case KEY_EXPECT:
        o->list = key;
        add_file(o, arg, state);
        return 0;
    case KEY_TOLERANCE:
        if (!parse_float(arg, 0, 1e30, &o->tolerance))
            argp_error(state, "--tolerance: '%s' is not a number of 0 or more", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (!o->model)
            o->model = arg;
        else
            add_file(o, arg, state);
        return 0;
    case ARGP_KEY_END:
        if (!o->model)
            argp_error(state, "a model is missing");
        if (o->ninputs == 0)
            argp_error(state, "--input is missing");
        if (o->nexpect == 0)
            argp_error(state, "--expect is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "input", KEY_INPUT, "FILE", 0, "A tensor (.npy), a picture, or NAME=FILE.npy", 0 },
    { "expect", KEY_EXPECT, "FILE...", 0,
      "Expected outputs (.npy): NAME=FILE.npy, or of equal shapes in the model's order", 0 },
    { "tolerance", KEY_TOLERANCE, "T", 0,
      "Largest error allowed, as a share of the output's largest value (default 1e-4)", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "MODEL.onnx --input FILE... --expect FILE...",
    .doc = "Compares what a model gives with what it should give.\vWith --local above 1 the "
           "outputs are also compared with those of one node.  Exit code 1 if a difference passes "
           "the tolerance, a shape differs, or a value is not a number.",
    .children = (const struct argp_child[]){ { &local_argp, 0, NULL, 0 }, { 0 } },
};

struct difference {
    double largest; /* of the expected values, absolute */
    double error;   /* largest absolute difference; NaN if any value is NaN or infinite */
};

static struct difference differ(const float *got, const float *expected, int64_t n)
{
    struct difference d = { 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - (double)expected[i]);
        const double value = fabs((double)expected[i]);
        /* A comparison with NaN is false: written so that NaN is taken, and then stays. */
        if (!(error <= d.error) && !isnan(d.error))
            d.error = error;
        if (value > d.largest)
            d.largest = value;
    }
    if (!isfinite(d.error) || !isfinite(d.largest))
        d.error = (double)NAN;
    return d;
}

/* Answers of two runs; NaN if they have not found equally much. */
static struct difference differ_answers(const struct port *out, const float *a, const float *b)
{
    const struct shape sa = port_shape(out, a), sb = port_shape(out, b);
    return shape_same_dims(&sa, &sb) ? differ(a, b, shape_values(&sa))
                                     : (struct difference){ 0, (double)NAN };
}

/* The error as a share of the largest value; of an output of zeros the error itself counts. */
static double share(struct difference d) { return d.largest > 0 ? d.error / d.largest : d.error; }

/* What the command line expects of one output. */
struct expectation {
    const char *file;
    struct npy values;
    int32_t output; /* -1: not known yet */
};

static void expectations_done(struct expectation *e, int n)
{
    for (int i = 0; i < n; i++)
        npy_done(&e[i].values);
}

/* The output that `arg` = "NAME=FILE" names, -1 if it names none; `*file` is what is left. */
static int32_t named_output(const struct graph *g, const char *arg, const char **file)
{
    *file = arg;
    for (int32_t k = 0; k < g->noutputs; k++) {
        const size_t len = strlen(g->output[k].name);
        if (strncmp(arg, g->output[k].name, len) == 0 && arg[len] == '=') {
            *file = arg + len + 1;
            return k;
        }
    }
    return -1;
}

static int load_expectations(struct expectation *e, const struct options *o, const struct graph *g,
                             bool *taken, struct diag *why)
{
    for (int i = 0; i < o->nexpect; i++) {
        const int32_t k = e[i].output = named_output(g, o->expect[i], &e[i].file);
        if (k >= 0 && taken[k])
            return diag(why, -EINVAL, "%s: output '%s' is expected twice", o->model,
                        g->output[k].name);
        if (k >= 0)
            taken[k] = true;
        const int rc = npy_load(&e[i].values, e[i].file, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int32_t free_output(const struct graph *g, const struct answer *got, const bool *taken,
                           const struct shape *shape)
{
    for (int32_t k = 0; k < g->noutputs; k++) {
        const struct shape have = port_shape(&g->output[k], got->values[k]);
        if (!taken[k] && (!shape || shape_same_dims(&have, shape)))
            return k;
    }
    return -1;
}

/* Gives every file without a name an output of its shape; those that fit nowhere get what is left,
 * so that the sentence about them names an output. */
static void match_expectations(struct expectation *e, int n, const struct graph *g,
                               const struct answer *got, bool *taken)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            const struct shape shape = shape_make(e[i].values.rank, e[i].values.dim);
            if (e[i].output >= 0)
                continue;
            e[i].output = free_output(g, got, taken, pass == 0 ? &shape : NULL);
            if (e[i].output >= 0)
                taken[e[i].output] = true;
        }
}

/* Returns 1 if the output holds, 0 if it does not, or a negative errno. */
static int compare_output(const struct options *o, const struct port *out, const float *got,
                          const float *one_node, const struct expectation *e, struct table *t,
                          struct diag *why)
{
    char expected_text[SHAPE_TEXT_BYTES], text[SHAPE_TEXT_BYTES];

    const struct shape shape = shape_make(e->values.rank, e->values.dim);
    const struct shape have = port_shape(out, got);
    if (!shape_same_dims(&shape, &have))
        return diag(why, -EINVAL, "%s: shape %s, but output '%s' of %s is %s", e->file,
                    shape_text(&shape, expected_text), out->name, o->model,
                    shape_text(&have, text));
    const struct difference d = differ(got, e->values.values, shape_values(&have));
    const struct difference split =
        one_node ? differ_answers(out, got, one_node) : (struct difference){ 0 };

    /* Written so that NaN fails. */
    const bool holds = share(d) <= o->tolerance && share(split) <= o->tolerance;
    table_add(t, "%s", out->name);
    table_add(t, "%s", shape_text(&have, text));
    table_add(t, "%.3g", d.error);
    table_add(t, "%.6g", d.largest);
    table_add(t, "%.3g", share(d));
    if (one_node)
        table_add(t, "%.3g", share(split));
    table_add(t, "%s", holds ? "holds" : "FAILS");
    return holds;
}

static int print_comparison(const struct options *o, const struct graph *g,
                            const struct answer *got, const struct answer *one_node,
                            const struct expectation *e, struct diag *why)
{
    static const char *const heading[] = { "output",   "shape",       "max error", "largest value",
                                           "relative", "to one node", "verdict" };
    const bool with_one = one_node->n > 0;
    struct table t;
    int all = 1, rc = 0;

    table_init(&t, with_one ? "llrrrrl" : "llrrrl");
    for (int i = 0; i < 7; i++)
        if (with_one || i != 5)
            table_add(&t, "%s", heading[i]);
    for (int i = 0; rc >= 0 && i < o->nexpect; i++) {
        const int32_t k = e[i].output;
        rc = compare_output(o, &g->output[k], got->values[k], with_one ? one_node->values[k] : NULL,
                            &e[i], &t, why);
        all &= rc;
    }
    if (rc >= 0)
        rc =
            table_print(&t, stdout) < 0 ? diag(why, -ENOMEM, "memory is short for the table") : all;
    table_done(&t);
    return rc;
}

static int compare_all(const struct options *o, const struct graph *g, const struct answer *got,
                       const struct answer *one_node, struct diag *why)
{
    struct expectation e[MAX_OUTPUTS] = { 0 };
    bool taken[MAX_OUTPUTS] = { false };

    if (o->nexpect != g->noutputs || g->noutputs > MAX_OUTPUTS)
        return diag(why, -EINVAL, "%s: has %d outputs, %d are expected", o->model, g->noutputs,
                    o->nexpect);
    int rc = load_expectations(e, o, g, taken, why);
    if (rc == 0) {
        match_expectations(e, o->nexpect, g, got, taken);
        rc = print_comparison(o, g, got, one_node, e, why);
    }
    expectations_done(e, o->nexpect);
    return rc;
}

/* Runs `f` on one node, for comparison. */
static int run_one_node(struct answer *a, const struct options *o, const struct local_model *m,
                        const struct frame *f, struct diag *why)
{
    struct split_session *s;
    int rc = local_open(&s, m, &o->local, 1, f, why);
    if (rc < 0)
        return rc;
    rc = frame_run(a, f, s, NULL, why);
    split_close(s);
    return rc;
}

static int compare(const struct options *o, struct diag *why)
{
    struct local_model m;
    struct split_session *s = NULL;
    struct frame f = { 0 };
    struct answer got = { 0 }, one_node = { 0 };

    int rc = local_load(&m, o->model, &o->local, why);
    if (rc < 0)
        return rc;
    rc = frame_load(&f, &m, &o->local, o->input, o->ninputs, why);
    if (rc == 0)
        rc = local_open(&s, &m, &o->local, o->local.nodes, &f, why);
    if (rc == 0)
        rc = frame_run(&got, &f, s, NULL, why);
    if (rc == 0 && o->local.nodes > 1)
        rc = run_one_node(&one_node, o, &m, &f, why);
    if (rc == 0)
        rc = compare_all(o, split_graph(s), &got, &one_node, why);
    answer_done(&one_node);
    answer_done(&got);
    split_close(s);
    frame_done(&f);
    local_done(&m);
    return rc;
}

int cmd_compare(int argc, char **argv)
{
    struct options o = { .tolerance = 1e-4 };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o) != 0)
        return RESULT_USAGE;
    const int rc = compare(&o, &why);
    if (rc < 0)
        return complain("%s", why.text);
    return rc == 1 ? RESULT_OK
                   : complain("%s: an output differs by more than %g of its largest "
                              "value",
                              o.model, o.tolerance);
}
