/* A steady load of requests whose answers are known: what splitctl's client sends, from several
 * threads, compared with what one node computes in this process.
 *
 *     load [OPTION...] NAME=MODEL.onnx...
 *
 * Every request goes to the next model with the next of its inputs, so that an answer that belongs
 * to another request is a wrong one.  Ends on SIGTERM, or after --count requests; the last line
 * says "N asked, N right, N lost, N wrong".  Exit code 0 if none was lost or wrong.
 *
 * --log FILE gets a line per request: when it began and ended (seconds of the wall clock), "right",
 * "lost" or "wrong", the model, and what was said. */
#include <argp.h>
#include <curl/curl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/client.h"
#include "cli/parse.h"
#include "libsplit/split.h"

enum { MAX_CLIENTS = 64, MAX_MODELS = 8, INPUTS = 4, MAX_OUTPUTS = 16 };

/* Of an output's largest value.  Where a cut falls inside a Winograd tile the last bits differ. */
static const double tolerance = 1e-5;

struct known {
    float *input, *output[MAX_OUTPUTS];
};

struct model {
    const char *file;
    char name[65];
    struct shape shape; /* of the input */
    const char *input_name;
    struct split_model *split;
    struct split_session *session; /* keeps the names */
    int32_t noutputs;
    struct client_want want[MAX_OUTPUTS];
    int64_t values[MAX_OUTPUTS];
    struct known known[INPUTS];
};

static struct {
    struct client_options client;
    int32_t clients, count, rows, cols, pause_ms;
    const char *log;
} options = { .clients = 4, .rows = 96, .cols = 96, .pause_ms = 10 };

static struct model model[MAX_MODELS];
static int32_t nmodels;
static FILE *log_file;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stopping;
static atomic_int started, nright, nlost, nwrong;

/* ---- the command line */

enum { KEY_CLIENTS = 700, KEY_COUNT, KEY_SIZE, KEY_PAUSE, KEY_LOG };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    int32_t n = 0;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options.client;
        return 0;
    case KEY_CLIENTS:
        if (!parse_int(arg, 1, MAX_CLIENTS, &options.clients))
            argp_error(state, "--clients: 1 to %d", MAX_CLIENTS);
        return 0;
    case KEY_COUNT:
        if (!parse_int(arg, 1, 1 << 30, &options.count))
            argp_error(state, "--count: a number");
        return 0;
    case KEY_SIZE:
        if (!parse_int(arg, 1, 4096, &n))
            argp_error(state, "--size: 1 to 4096");
        options.rows = options.cols = n;
        return 0;
    case KEY_PAUSE:
        if (!parse_int(arg, 0, 10000, &options.pause_ms))
            argp_error(state, "--pause: 0 to 10000");
        return 0;
    case KEY_LOG:
        options.log = arg;
        return 0;
    case ARGP_KEY_ARG: {
        const char *equals = strchr(arg, '=');
        struct model *m = &model[nmodels];
        if (!equals || nmodels == MAX_MODELS || equals - arg >= (int)sizeof m->name)
            argp_error(state, "'%s': expected NAME=FILE, at most %d times", arg, MAX_MODELS);
        memcpy(m->name, arg, (size_t)(equals - arg));
        m->file = equals + 1;
        nmodels++;
        return 0;
    }
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a model is missing");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    { "clients", KEY_CLIENTS, "N", 0, "Threads that ask (default 4)", 0 },
    { "count", KEY_COUNT, "N", 0, "Requests of all threads together (default: no end)", 0 },
    { "size", KEY_SIZE, "N", 0, "Rows and columns where a model leaves them open (default 96)", 0 },
    { "pause", KEY_PAUSE, "MS", 0, "A thread's pause between two requests (default 10)", 0 },
    { "log", KEY_LOG, "FILE", 0, "A line per request", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = option_table,
    .parser = parse,
    .args_doc = "NAME=MODEL.onnx...",
    .doc = "Asks a cluster all the time and checks every answer.",
    .children = (const struct argp_child[]){ { &client_argp, 0, NULL, 0 }, { 0 } },
};

/* ---- what the answers must be */

static float *room(int64_t values)
{
    float *p = malloc((size_t)values * sizeof *p);
    if (!p) {
        fprintf(stderr, "load: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return p;
}

static void fill(float *values, int64_t n, uint32_t seed)
{
    uint32_t x = seed * UINT32_C(2654435761) + 1;

    for (int64_t i = 0; i < n; i++) {
        x = x * UINT32_C(1664525) + UINT32_C(1013904223);
        values[i] = (float)(x >> 8) / (float)(1 << 24);
    }
}

static int know(struct model *m, struct diag *why)
{
    const struct graph *g = split_graph(m->session);
    const float *in;

    for (int32_t k = 0; k < INPUTS; k++) {
        m->known[k].input = room(shape_values(&m->shape));
        fill(m->known[k].input, shape_values(&m->shape), (uint32_t)k + 1);
        for (int32_t o = 0; o < m->noutputs; o++)
            m->known[k].output[o] = room(shape_values(&g->output[o].shape));
        in = m->known[k].input;
        const int rc = split_run(m->session, &in, m->known[k].output, NULL, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int prepare(struct model *m, struct diag *why)
{
    struct graph_input input = { .rank = 0 };
    int rc = split_load(&m->split, m->file, why);

    if (rc < 0)
        return rc;
    const struct onnx_value *v = &split_onnx(m->split)->input[0];
    if (split_onnx(m->split)->ninputs != 1 || v->rank < 1)
        return diag(why, -ENOTSUP, "%s: expected one input of a known rank", m->file);
    input.rank = v->rank;
    for (int32_t a = 0; a < v->rank; a++) {
        const int32_t open = a == 2 ? options.rows : a == 3 ? options.cols : 1;
        input.dim[a] = v->dim[a] < 0 ? open : (int32_t)v->dim[a];
    }
    const struct split_options o = { .inputs = &input, .ninputs = 1 };
    rc = split_open(&m->session, m->split, &o, why);
    if (rc < 0)
        return rc;
    const struct graph *g = split_graph(m->session);
    m->input_name = g->input[0].name;
    m->shape = g->input[0].shape;
    m->noutputs = g->noutputs < MAX_OUTPUTS ? g->noutputs : MAX_OUTPUTS;
    for (int32_t o1 = 0; o1 < m->noutputs; o1++) {
        m->want[o1] = (struct client_want){ .name = g->output[o1].name };
        m->values[o1] = shape_values(&g->output[o1].shape);
    }
    return know(m, why);
}

static bool close_to(const float *got, const float *expected, int64_t n)
{
    double largest = 0, error = 0;

    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)expected[i]);
        if (isnan(d))
            return false;
        error = fmax(error, d);
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return error <= tolerance * largest;
}

static bool is_right(const struct model *m, const struct known *k, const struct client_answer *a)
{
    if (a->n != m->noutputs)
        return false;
    for (int32_t o = 0; o < a->n; o++) {
        const struct client_output *got = &a->output[o];
        if (strcmp(got->name, m->want[o].name) != 0 || !got->values ||
            shape_values(&got->shape) != m->values[o] ||
            !close_to(got->values, k->output[o], m->values[o]))
            return false;
    }
    return true;
}

/* ---- asking */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void note(double start, const char *verdict, const struct model *m, const char *why)
{
    pthread_mutex_lock(&log_lock);
    if (log_file)
        fprintf(log_file, "%.4f %.4f %s %s %s\n", start, now_s(), verdict, m->name, why);
    pthread_mutex_unlock(&log_lock);
}

static void ask(struct client *c, int32_t number)
{
    const struct model *m = &model[number % nmodels];
    const struct known *k = &m->known[number / nmodels % INPUTS];
    const struct client_input in = { .name = m->input_name, .shape = m->shape, .values = k->input };
    struct client_answer a = { 0 };
    struct diag why = { "" };
    const double start = now_s();
    const struct client_query q = { .in = &in, .want = m->want, .nwant = m->noutputs };
    const int rc = client_infer(c, m->name, &q, &a, &why);

    if (rc < 0) {
        atomic_fetch_add(&nlost, 1);
        note(start, "lost", m, why.text);
    } else if (!is_right(m, k, &a)) {
        atomic_fetch_add(&nwrong, 1);
        note(start, "wrong", m, "");
    } else {
        atomic_fetch_add(&nright, 1);
        note(start, "right", m, "");
    }
    client_answer_done(&a);
}

static void *run(void *arg)
{
    struct diag why = { "" };
    const struct timespec pause = { .tv_sec = options.pause_ms / 1000,
                                    .tv_nsec = options.pause_ms % 1000 * 1000000L };
    struct client *c;
    (void)arg;

    if (client_new(&c, &options.client, &why) < 0) {
        fprintf(stderr, "load: %s\n", why.text);
        exit(EXIT_FAILURE);
    }
    while (!atomic_load(&stopping)) {
        const int number = atomic_fetch_add(&started, 1);
        if (options.count > 0 && number >= options.count)
            break;
        ask(c, number);
        if (options.pause_ms > 0)
            nanosleep(&pause, NULL);
    }
    client_free(c);
    return NULL;
}

static void on_signal(int signum)
{
    (void)signum;
    atomic_store(&stopping, true);
}

int main(int argc, char **argv)
{
    pthread_t thread[MAX_CLIENTS];
    struct diag why = { "" };

    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    for (int32_t i = 0; i < nmodels; i++)
        if (prepare(&model[i], &why) < 0) {
            fprintf(stderr, "load: %s\n", why.text);
            return EXIT_FAILURE;
        }
    if (options.log) {
        log_file = fopen(options.log, "w");
        if (!log_file) {
            perror(options.log);
            return EXIT_FAILURE;
        }
        setlinebuf(log_file);
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    for (int32_t i = 0; i < options.clients; i++)
        if (pthread_create(&thread[i], NULL, run, NULL) != 0) {
            fprintf(stderr, "load: cannot start a thread\n");
            return EXIT_FAILURE;
        }
    for (int32_t i = 0; i < options.clients; i++)
        pthread_join(thread[i], NULL);
    printf("%d asked, %d right, %d lost, %d wrong\n", nright + nlost + nwrong, nright, nlost,
           nwrong);
    return nlost + nwrong == 0 && nright > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
