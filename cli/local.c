#include "cli/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/parse.h"

enum {
    KEY_LOCAL = 256,
    KEY_THREADS,
    KEY_WEIGHTS,
    KEY_HALO,
    KEY_POLICY,
    KEY_CONFIG,
    KEY_SHAPE,
    KEY_SIDECAR
};

static const struct argp_option options[] = {
    { "local", KEY_LOCAL, "N", 0, "Number of nodes, 1 to 16 (default 1)", 0 },
    { "threads", KEY_THREADS, "T", 0, "Threads of each node, 1 to 64 (default 1)", 0 },
    { "weights", KEY_WEIGHTS, "W,...", 0,
      "Relative speed of each node, whole numbers 1 to 1000000 (default: all equal)", 0 },
    { "halo", KEY_HALO, "MODE", 0,
      "How exactly values travel between nodes: f32 (exact), f16, q8 or q4; tq, or video for a "
      "still camera: as the model's halo file says, which splitctl calibrate makes; drop: not at "
      "all.  Default: tq where there is a halo file, else f32",
      0 },
    { "policy", KEY_POLICY, "POLICY", 0,
      "What a node does about values that it lacks: exchange them, recompute them from the "
      "network's inputs, or auto (the default), for every tensor what costs less",
      0 },
    { "config", KEY_CONFIG, "FILE", 0,
      "Nodes, weights, threads, halo, policy and costs of a cluster.json, in place of --local and "
      "--weights: as its coordinator plans while all nodes are up and as fast as the file says",
      0 },
    { "shape", KEY_SHAPE, "[NAME=]DIMS", 0,
      "Extents of an input whose shape the model leaves open, such as 1x3x224x224", 0 },
    { "sidecar", KEY_SIDECAR, "FILE", 0,
      "Task and preprocessing of the model (default: the .json beside it)", 0 },
    { 0 },
};

static void add_shape(struct local_options *o, char *arg, struct argp_state *state)
{
    if (o->nshapes == LOCAL_MAX_INPUTS)
        argp_error(state, "--shape: more than %d inputs", LOCAL_MAX_INPUTS);
    else if (!parse_shape(arg, &o->shape[o->nshapes]))
        argp_error(state, "--shape: '%s' is not a shape such as 1x3x224x224 or NAME=1x3x224x224",
                   arg);
    else
        o->nshapes++;
}

static void set_halo(struct local_options *o, const char *arg, struct argp_state *state)
{
    const int halo = halo_parse(arg);
    if (halo < 0)
        argp_error(state, "--halo: '%s' is not f32, f16, q8, q4, tq, video or drop", arg);
    else
        o->halo = (enum halo)halo;
}

static void set_policy(struct local_options *o, const char *arg, struct argp_state *state)
{
    const int policy = plan_policy_parse(arg);
    if (policy < 0)
        argp_error(state, "--policy: '%s' is not auto, exchange or recompute", arg);
    else
        o->policy = (enum plan_policy)policy;
}

/* Weights are as fine as those that a coordinator plans by, whose average is rounded. */
enum { WEIGHT_SCALE = 1000 };

/* What the file of --config says, but for what the command line does. */
static void take_cluster(struct local_options *o, const struct config *c)
{
    o->nodes = o->nweights = c->nnodes;
    o->costs = c->costs;
    if (o->halo == HALO_AUTO)
        o->halo = c->halo;
    if (o->policy == PLAN_AUTO)
        o->policy = c->policy;
    int32_t most = 0;
    for (int32_t i = 0; i < c->nnodes; i++) {
        o->weight[i] = WEIGHT_SCALE * c->node[i].weight;
        most = c->node[i].threads > most ? c->node[i].threads : most;
    }
    if (o->threads == 0)
        o->threads = most; /* plans are the same for any number */
}

static void load_cluster(struct local_options *o, const char *file, struct argp_state *state)
{
    static struct config c;
    struct diag why = { "" };

    if (config_load(&c, file, &why) < 0)
        argp_failure(state, RESULT_FAILED, 0, "%s", why.text);
    else
        o->cluster = &c;
}

static void check(struct local_options *o, struct argp_state *state)
{
    if (o->cluster && o->counted)
        argp_error(state, "--config says which nodes there are: neither --local nor --weights");
    if (o->cluster)
        take_cluster(o, o->cluster);
    if (o->nodes == 0)
        o->nodes = o->nweights > 0 ? o->nweights : 1;
    if (o->nweights > 0 && o->nweights != o->nodes)
        argp_error(state, "--weights: %d weights for --local %d", o->nweights, o->nodes);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct local_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        o->halo = HALO_AUTO;
        return 0;
    case KEY_LOCAL:
        if (!parse_int(arg, 1, PLAN_MAX_NODES, &o->nodes))
            argp_error(state, "--local: '%s' is not a number of nodes from 1 to %d", arg,
                       PLAN_MAX_NODES);
        o->counted = true;
        return 0;
    case KEY_THREADS:
        if (!parse_int(arg, 1, POOL_MAX_THREADS, &o->threads))
            argp_error(state, "--threads: '%s' is not a number of threads from 1 to %d", arg,
                       POOL_MAX_THREADS);
        return 0;
    case KEY_WEIGHTS:
        o->nweights = parse_list(arg, 1, 1000000, o->weight, PLAN_MAX_NODES);
        if (o->nweights == 0)
            argp_error(state,
                       "--weights: '%s' is not a list such as 5,3,1 of 1 to %d whole numbers from "
                       "1 to 1000000",
                       arg, PLAN_MAX_NODES);
        o->counted = true;
        return 0;
    case KEY_HALO:
        set_halo(o, arg, state);
        return 0;
    case KEY_POLICY:
        set_policy(o, arg, state);
        return 0;
    case KEY_CONFIG:
        load_cluster(o, arg, state);
        return 0;
    case KEY_SHAPE:
        add_shape(o, arg, state);
        return 0;
    case KEY_SIDECAR:
        o->sidecar = arg;
        return 0;
    case ARGP_KEY_END:
        check(o, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp local_argp = { .options = options, .parser = parse };

static int load_sidecar(struct sidecar *s, const char *model_file, const char *named,
                        struct diag *why)
{
    char beside[4096];

    if (named)
        return sidecar_load(s, named, why);
    if (sidecar_path(model_file, beside, sizeof beside) < 0 || access(beside, F_OK) != 0) {
        sidecar_default(s);
        return 0;
    }
    return sidecar_load(s, beside, why);
}

/* The calibration beside the model, where halos may travel by one. */
static int load_halo(struct local_model *m, const struct local_options *o, struct diag *why)
{
    const bool wanted =
        o->halo == HALO_AUTO || o->halo == HALO_TQ || o->halo == HALO_VIDEO || o->halo == HALO_DROP;
    uint8_t sha[HALO_SHA_BYTES];
    char beside[4096];

    if (!wanted || halo_file_path(m->file, beside, sizeof beside) < 0 || access(beside, F_OK) != 0)
        return 0;
    halo_file_model(m->onnx, sha);
    const int rc = halo_file_load(&m->halo, beside, sha, why);
    m->has_halo = rc == 0;
    return rc;
}

int local_load(struct local_model *m, const char *file, const struct local_options *o,
               struct diag *why)
{
    *m = (struct local_model){ .file = file };

    int rc = split_load(&m->split, file, why);
    if (rc < 0)
        return rc;
    m->onnx = split_onnx(m->split);
    if (m->onnx->ninputs > LOCAL_MAX_INPUTS)
        rc = diag(why, -ENOTSUP, "%s: %d inputs, at most %d are supported here", file,
                  m->onnx->ninputs, LOCAL_MAX_INPUTS);
    else
        rc = load_sidecar(&m->sidecar, file, o->sidecar, why);
    if (rc == 0) {
        rc = load_halo(m, o, why);
        if (rc < 0)
            sidecar_done(&m->sidecar);
    }
    if (rc < 0) {
        split_unload(m->split);
        *m = (struct local_model){ 0 };
    }
    return rc;
}

void local_done(struct local_model *m)
{
    if (m->split) {
        halo_file_done(&m->halo);
        sidecar_done(&m->sidecar);
        split_unload(m->split);
    }
    *m = (struct local_model){ 0 };
}

static const char *input_names(const struct onnx_model *m, char *text, size_t cap)
{
    size_t at = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < m->ninputs && at < cap; i++)
        at += (size_t)snprintf(text + at, cap - at, "%s%s", i > 0 ? ", " : "", m->input[i].name);
    return text;
}

int local_input(const struct local_model *m, const char *name, struct diag *why)
{
    char names[256];

    if (!name && m->onnx->ninputs == 1)
        return 0;
    for (int32_t i = 0; name && i < m->onnx->ninputs; i++)
        if (strcmp(m->onnx->input[i].name, name) == 0)
            return i;
    input_names(m->onnx, names, sizeof names);
    if (name)
        return diag(why, -EINVAL, "%s: no input is called '%s', it has: %s", m->file, name, names);
    return diag(why, -EINVAL, "%s: has %d inputs, say NAME=... for each of: %s", m->file,
                m->onnx->ninputs, names);
}

/* The input that `arg` = "NAME=FILE" names, -1 if it names none. */
static int32_t named_input(const struct local_model *m, const char *arg)
{
    for (int32_t i = 0; i < m->onnx->ninputs; i++) {
        const size_t len = strlen(m->onnx->input[i].name);
        if (strncmp(arg, m->onnx->input[i].name, len) == 0 && arg[len] == '=')
            return i;
    }
    return -1;
}

bool local_is_named(const struct local_model *m, const char *arg)
{
    return named_input(m, arg) >= 0;
}

static bool is_open(const struct onnx_value *v)
{
    for (int32_t i = 0; i < v->rank; i++)
        if (v->dim[i] < 0)
            return true;
    return v->rank < 0;
}

/* The model's own idea of an input, "?" where it leaves an extent open. */
static const char *declared_text(const struct onnx_value *v, char text[SHAPE_TEXT_BYTES])
{
    size_t at = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < v->rank && at < SHAPE_TEXT_BYTES; i++)
        at += (size_t)(v->dim[i] < 0
                           ? snprintf(text + at, SHAPE_TEXT_BYTES - at, "%s?", i > 0 ? "x" : "")
                           : snprintf(text + at, SHAPE_TEXT_BYTES - at, "%s%lld", i > 0 ? "x" : "",
                                      (long long)v->dim[i]));
    return text;
}

/* `source` says where the extents come from. */
static int fit(const struct local_model *m, int32_t input, const struct graph_input *given,
               const char *source, struct diag *why)
{
    const struct onnx_value *v = &m->onnx->input[input];
    bool fits = v->rank < 0 || v->rank == given->rank;
    for (int32_t i = 0; fits && i < v->rank; i++)
        fits = v->dim[i] < 0 || v->dim[i] == given->dim[i];
    if (fits)
        return 0;

    char found[SHAPE_TEXT_BYTES], allowed[SHAPE_TEXT_BYTES];
    const struct shape s = shape_make(given->rank, given->dim);
    return diag(why, -EINVAL, "%s: shape %s does not fit input '%s' of %s, which takes %s", source,
                shape_text(&s, found), v->name, m->file, declared_text(v, allowed));
}

/* Puts the --shape of `input` into `*shape`.  Returns 1, 0 if none was given, or an error. */
static int given_shape(const struct local_model *m, const struct local_options *o, int32_t input,
                       struct graph_input *shape, struct diag *why)
{
    for (int32_t i = 0; i < o->nshapes; i++) {
        const int named = local_input(m, o->shape[i].name, why);
        if (named < 0)
            return named;
        if (named != input)
            continue;
        const int rc = fit(m, input, &o->shape[i], "--shape", why);
        if (rc < 0)
            return rc;
        *shape = o->shape[i];
        shape->name = m->onnx->input[input].name;
        return 1;
    }
    return 0;
}

static int load_tensor(struct frame *f, const struct local_model *m, int32_t input,
                       const char *file, struct diag *why)
{
    const char *name = m->onnx->input[input].name;
    struct npy *a = &f->tensor[input];

    if (a->values)
        return diag(why, -EINVAL, "%s: input '%s' is given twice", file, name);
    const int rc = npy_load(a, file, why);
    if (rc < 0)
        return rc;
    f->shape[input] = (struct graph_input){ .name = name, .rank = a->rank };
    memcpy(f->shape[input].dim, a->dim, sizeof a->dim);
    return fit(m, input, &f->shape[input], file, why);
}

static int load_tensors(struct frame *f, const struct local_model *m, char *const *arg, int nargs,
                        struct diag *why)
{
    char names[256];

    for (int i = 0; i < nargs; i++) {
        const int32_t input = named_input(m, arg[i]);
        if (input < 0)
            return diag(why, -EINVAL, "%s: %s wants NAME=FILE for its inputs %s", arg[i], m->file,
                        input_names(m->onnx, names, sizeof names));
        const char *file = arg[i] + strlen(m->onnx->input[input].name) + 1;
        const int rc = load_tensor(f, m, input, file, why);
        if (rc < 0)
            return rc;
    }
    for (int32_t i = 0; i < m->onnx->ninputs; i++)
        if (!f->tensor[i].values)
            return diag(why, -EINVAL, "%s: input '%s' is missing", m->file, m->onnx->input[i].name);
    return 0;
}

/* The size that the network wants a picture in; 0 0 if it takes any. */
static int picture_size(const struct local_model *m, const struct local_options *o, int32_t *rows,
                        int32_t *cols, struct diag *why)
{
    const struct onnx_value *v = &m->onnx->input[0];
    struct graph_input given;

    const int rc = given_shape(m, o, 0, &given, why);
    if (rc < 0)
        return rc;
    if (rc == 1 && given.rank == 4) {
        *rows = given.dim[2];
        *cols = given.dim[3];
        return 0;
    }
    if (v->rank >= 0 && v->rank != 4)
        return diag(why, -EINVAL, "%s: input '%s' takes no pictures (%d axes, 4 needed)", m->file,
                    v->name, v->rank);
    const bool fixed = v->rank == 4 && v->dim[2] > 0 && v->dim[3] > 0 &&
                       v->dim[2] <= BOX_MAX_EXTENT && v->dim[3] <= BOX_MAX_EXTENT;
    *rows = fixed ? (int32_t)v->dim[2] : 0;
    *cols = fixed ? (int32_t)v->dim[3] : 0;
    return 0;
}

static int load_picture(struct frame *f, const struct local_model *m, const struct local_options *o,
                        const char *file, struct diag *why)
{
    const struct sidecar *s = &m->sidecar;
    int32_t rows, cols;

    if (m->onnx->ninputs != 1)
        return local_input(m, NULL, why);
    int rc = picture_size(m, o, &rows, &cols, why);
    if (rc == 0)
        rc = image_load(&f->picture, file, why);
    if (rc == 0)
        rc = sidecar_prepare(s, &f->picture, &rows, &cols, &f->pixels, why);
    if (rc < 0)
        return rc;
    f->shape[0] = (struct graph_input){ .name = m->onnx->input[0].name,
                                        .rank = 4,
                                        .dim = { 1, s->pixels.channels, rows, cols } };
    return fit(m, 0, &f->shape[0], file, why);
}

static bool is_npy(const char *file)
{
    const size_t len = strlen(file);
    return len >= 4 && strcmp(file + len - 4, ".npy") == 0;
}

int frame_load(struct frame *f, const struct local_model *m, const struct local_options *o,
               char *const *arg, int nargs, struct diag *why)
{
    *f = (struct frame){ .file = arg[0], .ninputs = m->onnx->ninputs };
    int rc;
    if (nargs > 1 || local_is_named(m, arg[0]))
        rc = load_tensors(f, m, arg, nargs, why);
    else if (!is_npy(arg[0]))
        rc = load_picture(f, m, o, arg[0], why);
    else if ((rc = local_input(m, NULL, why)) == 0)
        rc = load_tensor(f, m, 0, arg[0], why);
    if (rc < 0)
        frame_done(f);
    return rc;
}

void frame_done(struct frame *f)
{
    image_done(&f->picture);
    free(f->pixels);
    for (int32_t i = 0; i < f->ninputs; i++)
        npy_done(&f->tensor[i]);
    *f = (struct frame){ 0 };
}

/* How much accuracy halos cost hangs on how many seams there are. */
static void note_nodes(const struct local_model *m, enum halo halo, int32_t nodes)
{
    const bool by_file = halo == HALO_AUTO || halo == HALO_TQ || halo == HALO_VIDEO;
    if (m->has_halo && by_file && nodes > 1 && nodes != m->halo.nodes)
        fprintf(stderr, "splitctl: %s: calibrated for %d nodes, not for %d\n", m->file,
                m->halo.nodes, nodes);
}

bool local_is_open(const struct local_model *m, int32_t input)
{
    return is_open(&m->onnx->input[input]);
}

int local_open(struct split_session **s, const struct local_model *m, const struct local_options *o,
               int32_t nodes, const struct frame *f, struct diag *why)
{
    /* Without an input, as it would be: a model of no task is given tensors. */
    const bool pixels = f ? f->pixels != NULL : m->sidecar.task != TASK_RAW;
    const bool as_cluster = o->cluster && nodes == o->nodes;
    struct graph_input shape[LOCAL_MAX_INPUTS];
    int32_t nshapes = 0;

    for (int32_t i = 0; i < m->onnx->ninputs; i++) {
        const int rc = f ? 0 : given_shape(m, o, i, &shape[nshapes], why);
        if (rc < 0)
            return rc;
        if (f)
            shape[nshapes] = f->shape[i];
        if ((f || rc == 1) && is_open(&m->onnx->input[i]))
            nshapes++;
    }
    const struct split_options so = {
        .nodes = nodes,
        .threads = o->threads,
        .weights = o->nweights > 0 && nodes == o->nodes ? o->weight : NULL,
        .inputs = shape,
        .ninputs = nshapes,
        .pixels = pixels ? &m->sidecar.pixels : NULL,
        .halo = o->halo,
        .halo_file = m->has_halo ? &m->halo : NULL,
        .policy = o->policy,
        .costs = o->costs,
        .busy = as_cluster ? UINT32_C(1) << o->cluster->coordinator : 0,
        .least = as_cluster ? 1 : 0,
        .sidecar = &m->sidecar,
    };
    note_nodes(m, o->halo, nodes);
    return split_open(s, m->split, &so, why);
}

static int answer_init(struct answer *a, const struct graph *g)
{
    *a = (struct answer){ .values = calloc((size_t)g->noutputs, sizeof *a->values) };
    if (!a->values)
        return -ENOMEM;
    for (a->n = 0; a->n < g->noutputs; a->n++) {
        const int64_t count = shape_values(&g->output[a->n].shape);
        a->values[a->n] = malloc((size_t)(count > 0 ? count : 1) * sizeof(float));
        if (!a->values[a->n]) {
            answer_done(a);
            return -ENOMEM;
        }
    }
    return 0;
}

void answer_done(struct answer *a)
{
    for (int32_t i = 0; i < a->n; i++)
        free(a->values[i]);
    free(a->values);
    *a = (struct answer){ 0 };
}

int frame_run(struct answer *a, const struct frame *f, struct split_session *s,
              struct exec_stats *stats, struct diag *why)
{
    const float *inputs[LOCAL_MAX_INPUTS];

    int rc = answer_init(a, split_graph(s));
    if (rc < 0)
        return diag(why, rc, "%s: memory is short for the outputs", f->file);
    for (int32_t i = 0; i < f->ninputs; i++)
        inputs[i] = f->tensor[i].values;
    rc = f->pixels ? split_run_pixels(s, f->pixels, a->values, stats, why)
                   : split_run(s, inputs, a->values, stats, why);
    if (rc < 0)
        answer_done(a);
    return rc;
}
