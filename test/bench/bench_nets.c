/* One contender of `make bench`: runs a network as scripts/bench tells it over standard input.
 *
 *     bench_nets MODEL THREADS NAME=FILE.npy...     one file for every input of the network
 *
 * Says "ready", or "failed " and a sentence.  Then, line by line, until the input ends:
 *
 *     run N         runs N inferences and says "ms" and how long each took
 *     answer DIR    runs one and writes its outputs, in ONNX order, as raw f32 to DIR/0.f32...;
 *                   says "done" and how many there are
 *
 * The other contenders, peer_*, speak the same. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libsplit/npy.h"
#include "libsplit/split.h"

enum { MAX_INPUTS = 8, MAX_OUTPUTS = 16, MAX_RUNS = 100000, LINE_BYTES = 4096 };

struct bench {
    struct split_model *model;
    struct split_session *session;
    int32_t ninputs;
    struct npy input[MAX_INPUTS];
    const float *values[MAX_INPUTS]; /* of graph.input[i], borrowed from `input` */
    float *output[MAX_OUTPUTS];
};

static int load_inputs(struct bench *b, char **arg, int n, struct graph_input *in, struct diag *why)
{
    if (n > MAX_INPUTS)
        return diag(why, -EINVAL, "%d inputs, at most %d are supported", n, MAX_INPUTS);
    for (int i = 0; i < n; i++) {
        char *file = strchr(arg[i], '=');
        if (!file)
            return diag(why, -EINVAL, "'%s' is not NAME=FILE", arg[i]);
        *file++ = '\0';
        const int rc = npy_load(&b->input[i], file, why);
        if (rc < 0)
            return rc;
        b->ninputs = i + 1;
        in[i] = (struct graph_input){ .name = arg[i], .rank = b->input[i].rank };
        memcpy(in[i].dim, b->input[i].dim, sizeof in[i].dim);
    }
    return 0;
}

/* Puts the inputs into the order of the graph. */
static int match_inputs(struct bench *b, const struct graph_input *in, struct diag *why)
{
    const struct graph *g = split_graph(b->session);
    if (g->ninputs != b->ninputs)
        return diag(why, -EINVAL, "%" PRId32 " inputs are given, the network has %" PRId32,
                    b->ninputs, g->ninputs);
    for (int32_t i = 0; i < g->ninputs; i++) {
        const struct port *port = &g->input[i];
        int32_t k = 0;
        while (k < b->ninputs && strcmp(in[k].name, port->name) != 0)
            k++;
        if (k == b->ninputs || b->input[k].count != shape_values(&port->shape))
            return diag(why, -EINVAL, "input '%s' is missing or has another shape", port->name);
        b->values[i] = b->input[k].values;
    }
    return 0;
}

static int alloc_outputs(struct bench *b, struct diag *why)
{
    const struct graph *g = split_graph(b->session);
    if (g->noutputs > MAX_OUTPUTS)
        return diag(why, -EINVAL, "%" PRId32 " outputs, at most %d are supported", g->noutputs,
                    MAX_OUTPUTS);
    for (int32_t i = 0; i < g->noutputs; i++) {
        b->output[i] = calloc((size_t)shape_values(&g->output[i].shape), sizeof(float));
        if (!b->output[i])
            return diag(why, -ENOMEM, "memory is short");
    }
    return 0;
}

static int open_bench(struct bench *b, const char *model, const char *threads, char **arg, int n,
                      struct diag *why)
{
    struct graph_input in[MAX_INPUTS] = { { 0 } };
    char *end;
    const long count = strtol(threads, &end, 10);
    if (*end != '\0' || count < 1 || count > POOL_MAX_THREADS)
        return diag(why, -EINVAL, "'%s' threads, 1 to %d are possible", threads, POOL_MAX_THREADS);
    int rc = load_inputs(b, arg, n, in, why);
    if (rc == 0)
        rc = split_load(&b->model, model, why);
    if (rc < 0)
        return rc;
    const struct split_options o = { .threads = (int32_t)count,
                                     .inputs = in,
                                     .ninputs = b->ninputs };
    rc = split_open(&b->session, b->model, &o, why);
    if (rc == 0)
        rc = match_inputs(b, in, why);
    if (rc == 0)
        rc = alloc_outputs(b, why);
    return rc;
}

static void close_bench(struct bench *b)
{
    split_close(b->session);
    split_unload(b->model);
    for (int i = 0; i < MAX_OUTPUTS; i++)
        free(b->output[i]);
    for (int32_t i = 0; i < b->ninputs; i++)
        npy_done(&b->input[i]);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int run(struct bench *b, int runs, struct diag *why)
{
    double *ms = calloc((size_t)runs, sizeof *ms);
    if (!ms)
        return diag(why, -ENOMEM, "memory is short");
    int rc = 0;
    for (int i = 0; i < runs && rc == 0; i++) {
        const double start = now_ms();
        rc = split_run(b->session, b->values, b->output, NULL, why);
        ms[i] = now_ms() - start;
    }
    /* Printed afterwards: a write must not disturb the next run. */
    if (rc == 0) {
        printf("ms");
        for (int i = 0; i < runs; i++)
            printf(" %.4f", ms[i]);
        printf("\n");
    }
    free(ms);
    return rc;
}

static int write_output(const struct bench *b, int32_t i, const char *dir, struct diag *why)
{
    const size_t count = (size_t)shape_values(&split_graph(b->session)->output[i].shape);
    char path[LINE_BYTES + 16];
    snprintf(path, sizeof path, "%s/%" PRId32 ".f32", dir, i);
    FILE *f = fopen(path, "wb");
    if (!f)
        return diag(why, -errno, "%s: %s", path, strerror(errno));
    const size_t written = fwrite(b->output[i], sizeof(float), count, f);
    if (fclose(f) != 0 || written != count)
        return diag(why, -EIO, "%s: cannot be written", path);
    return 0;
}

static int answer(struct bench *b, const char *dir, struct diag *why)
{
    const int32_t n = split_graph(b->session)->noutputs;
    int rc = split_run(b->session, b->values, b->output, NULL, why);
    for (int32_t i = 0; i < n && rc == 0; i++)
        rc = write_output(b, i, dir, why);
    if (rc == 0)
        printf("done %" PRId32 "\n", n);
    return rc;
}

static int obey(struct bench *b, char *line, struct diag *why)
{
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "answer ", 7) == 0)
        return answer(b, line + 7, why);
    if (strncmp(line, "run ", 4) == 0) {
        const long runs = strtol(line + 4, NULL, 10);
        if (runs >= 1 && runs <= MAX_RUNS)
            return run(b, (int)runs, why);
    }
    return diag(why, -EINVAL, "'%s' is neither run N nor answer DIR", line);
}

int main(int argc, char **argv)
{
    struct bench b = { 0 };
    struct diag why = { "" };
    char line[LINE_BYTES];

    if (argc < 4) {
        fprintf(stderr, "usage: bench_nets MODEL THREADS NAME=FILE.npy...\n");
        return 2;
    }
    int rc = open_bench(&b, argv[1], argv[2], argv + 3, argc - 3, &why);
    if (rc == 0)
        printf("ready\n");
    fflush(stdout);
    while (rc == 0 && fgets(line, sizeof line, stdin)) {
        rc = obey(&b, line, &why);
        fflush(stdout);
    }
    if (rc < 0)
        printf("failed %s\n", why.text);
    close_bench(&b);
    return rc < 0;
}
