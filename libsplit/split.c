#include "libsplit/split.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/answer.h"
#include "libsplit/kernel.h"
#include "libsplit/local.h"
#include "libsplit/session.h"
#include "libsplit/trace_write.h"

struct split_model {
    struct onnx_model onnx;
};

struct split_session {
    struct graph own;    /* what split_open() built; zeroed after session_open_graph() */
    struct graph *graph; /* &own or the caller's */
    struct geometry geo;
    struct halo_choice halo;
    bool *whole_pixels; /* of the options; NULL after session_open_graph() */
    struct fastest fastest;
    struct plan_options options; /* of the plan */
    struct plan plan;
    struct program program[PLAN_MAX_NODES + 1]; /* the host's last */
    int32_t nodes;
    bool takes_pixels;
    struct local *local;
    float **output; /* NHWC, indexed like the graph's */
};

int split_load(struct split_model **to, const char *file, struct diag *why)
{
    struct split_model *m = calloc(1, sizeof(*m));
    if (!m)
        return diag(why, -ENOMEM, "%s: not enough memory", file);
    const int err = onnx_open(&m->onnx, file, why);
    if (err)
        free(m);
    else
        *to = m;
    return err;
}

void split_unload(struct split_model *m)
{
    if (!m)
        return;
    onnx_close(&m->onnx);
    free(m);
}

const struct onnx_model *split_onnx(const struct split_model *m) { return &m->onnx; }

/* ---- Opening ---- */

static size_t port_values(const struct graph *g, const struct port *p)
{
    const struct tensor *t = &g->tensor[p->tensor];
    return (size_t)box_values(box_whole(t->dim)) * (size_t)t->batch;
}

/* One NHWC buffer per port. */
static float **alloc_ports(const struct graph *g, const struct port *port, int32_t n)
{
    float **buffer = calloc((size_t)n + 1, sizeof(*buffer));
    bool ok = buffer != NULL;
    for (int32_t i = 0; ok && i < n; i++) {
        const size_t bytes = port_values(g, &port[i]) * sizeof(float);
        buffer[i] = malloc(bytes + 1);
        ok = buffer[i] != NULL;
        if (ok)
            memset(buffer[i], 0, bytes); /* no page faults in the first frame */
    }
    if (ok || !buffer)
        return buffer;
    for (int32_t i = 0; i < n; i++)
        free(buffer[i]);
    free(buffer);
    return NULL;
}

static void free_ports(float **buffer, int32_t n)
{
    for (int32_t i = 0; buffer && i < n; i++)
        free(buffer[i]);
    free(buffer);
}

/* By s->options, for all of their nodes. */
static int plan_for_all(struct split_session *s)
{
    s->fastest = (struct fastest){ .nodes = s->options.nodes };
    for (int32_t n = 0; n < s->options.nodes; n++)
        s->fastest.member[n] = (uint8_t)n;
    const int err = graph_geometry(s->graph, s->options.nodes, &s->geo);
    return err ? err : plan_build(&s->plan, &s->geo, &s->options);
}

/* For all nodes if `least` is 0; else s->options become those of the nodes that stay. */
static int make_plan(struct split_session *s, int32_t least, struct diag *why)
{
    const struct plan_options *o = &s->options;
    int err = least == 0
                  ? plan_for_all(s)
                  : fastest_plan(&s->fastest, &s->geo, &s->plan, s->graph, &s->options, least);
    if (err == -EINVAL)
        return diag(why, err,
                    "a node's weight is not in 1..1000000, or the node of a whole "
                    "placement is not in 0..%d",
                    o->nodes - 1);
    if (err)
        return diag(why, err, "planning for %d nodes: %s", o->nodes, strerror(-err));
    int32_t bad = 0;
    err = plan_check(&s->plan, &bad);
    if (err)
        return diag(why, err, "planning for %d nodes: the plan of tensor \"%s\" does not hold",
                    o->nodes, s->graph->tensor[bad].name);
    return 0;
}

static int make_programs(struct split_session *s, struct diag *why)
{
    for (int32_t n = 0; n <= s->nodes; n++) {
        const int err = program_compile(&s->program[n], &s->plan, n);
        if (err)
            return diag(why, err, "the program of node %d: %s", n, strerror(-err));
    }
    return 0;
}

static int pack_weights(struct split_session *s, struct diag *why)
{
    return graph_pack_all(s->graph, s->program, s->nodes, why);
}

/* By s->options. */
static int open_session(struct split_session *s, int32_t least, const struct local_options *local,
                        struct diag *why)
{
    if (s->options.nodes < 1 || s->options.nodes > PLAN_MAX_NODES)
        return diag(why, -EINVAL, "%d nodes asked for, 1 to %d are possible", s->options.nodes,
                    PLAN_MAX_NODES);
    int err = make_plan(s, least, why);
    s->nodes = s->options.nodes;
    if (!err)
        err = make_programs(s, why);
    if (!err)
        err = pack_weights(s, why);
    if (err)
        return err;
    s->output = alloc_ports(s->graph, s->graph->output, s->graph->noutputs);
    if (!s->output)
        return diag(why, -ENOMEM, "not enough memory for the outputs");
    s->takes_pixels = local && local->pixels;
    return local_new(&s->local, s->graph, &s->geo, s->program, local, why);
}

int session_open_graph(struct split_session **to, struct graph *g, const struct plan_options *o,
                       const struct local_options *local, struct diag *why)
{
    struct split_session *s = calloc(1, sizeof(*s));
    if (!s)
        return diag(why, -ENOMEM, "not enough memory for a session");
    s->graph = g;
    s->options = *o;
    const int err = open_session(s, 0, local, why);
    if (err)
        split_close(s);
    else
        *to = s;
    return err;
}

static int want_whole_pixels(struct split_session *s, const struct sidecar *sidecar,
                             struct diag *why)
{
    s->whole_pixels = calloc((size_t)s->graph->ntensors + 1, sizeof(*s->whole_pixels));
    if (!s->whole_pixels)
        return diag(why, -ENOMEM, "not enough memory for a plan");
    answer_whole_pixels(s->graph, sidecar, s->whole_pixels);
    s->options.whole_pixels = s->whole_pixels;
    return 0;
}

int split_open(struct split_session **to, const struct split_model *m,
               const struct split_options *o, struct diag *why)
{
    const int32_t nodes = o->nodes ? o->nodes : 1;
    if (nodes < 1 || nodes > PLAN_MAX_NODES)
        return diag(why, -EINVAL, "%d nodes asked for, 1 to %d are possible", nodes,
                    PLAN_MAX_NODES);
    struct split_session *s = calloc(1, sizeof(*s));
    if (!s)
        return diag(why, -ENOMEM, "%s: not enough memory for a session", m->onnx.file);
    s->options = (struct plan_options){ .placement = PLAN_MIXED,
                                        .nodes = nodes,
                                        .policy = o->policy,
                                        .costs = o->costs,
                                        .busy = o->busy,
                                        .pixels = o->pixels != NULL };
    for (int32_t n = 0; n < nodes; n++)
        s->options.weight[n] = o->weights ? o->weights[n] : 1;
    int err = graph_build(&s->own, &m->onnx, o->inputs, o->ninputs, why);
    if (err) {
        free(s);
        return err;
    }
    s->graph = &s->own;
    const struct local_options local = { .pixels = o->pixels,
                                         .threads = o->threads,
                                         .recipes = &s->halo.recipes };
    err = halo_choose(&s->halo, o->halo_file, s->graph, o->halo, why);
    s->options.halo = s->halo.mode;
    s->options.tensor_halo = s->halo.tensor_halo;
    if (!err && o->sidecar)
        err = want_whole_pixels(s, o->sidecar, why);
    if (!err)
        err = open_session(s, o->least, &local, why);
    if (err)
        split_close(s);
    else
        *to = s;
    return err;
}

void split_close(struct split_session *s)
{
    if (!s)
        return;
    local_free(s->local);
    free_ports(s->output, s->graph->noutputs);
    for (int32_t n = 0; n <= PLAN_MAX_NODES; n++)
        program_done(&s->program[n]);
    plan_done(&s->plan);
    geometry_done(&s->geo);
    free(s->whole_pixels);
    halo_choice_done(&s->halo);
    if (s->graph == &s->own)
        graph_done(&s->own);
    free(s);
}

const struct fastest *split_fastest(const struct split_session *s) { return &s->fastest; }
const struct graph *split_graph(const struct split_session *s) { return s->graph; }
const struct plan *split_plan(const struct split_session *s) { return &s->plan; }
const struct plan_options *split_plan_options(const struct split_session *s) { return &s->options; }
const struct program *split_program(const struct split_session *s, int32_t node)
{
    return &s->program[node];
}

static int64_t port_bytes(const struct graph *g, const struct port *port, int32_t n)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < n; i++)
        bytes += (int64_t)(port_values(g, &port[i]) * sizeof(float));
    return bytes;
}

struct split_memory split_memory(const struct split_session *s)
{
    const struct graph *g = s->graph;
    struct split_memory m = {
        .activations = local_arena_bytes(s->local),
        .messages = local_message_bytes(s->local) + port_bytes(g, g->output, g->noutputs),
    };
    for (int32_t i = 0; i < g->nops; i++)
        if (g->op[i].packed)
            m.weights += (int64_t)kernels[g->op[i].type].packed_bytes(g, &g->op[i],
                                                                      g->op[i].packed_channels);
    return m;
}

/* ---- Running ---- */

static int run(struct split_session *s, const struct host_input *input, float *const *outputs,
               struct exec_stats *stats, struct diag *why)
{
    const int err = local_run(s->local, input, s->output, stats);
    if (err)
        return diag(why, err, "running on %d nodes: %s", s->nodes, strerror(-err));
    for (int32_t i = 0; i < s->graph->noutputs; i++)
        shape_to_onnx(&s->graph->output[i].shape, outputs[i], s->output[i]);
    return 0;
}

int split_run(struct split_session *s, const float *const *inputs, float *const *outputs,
              struct exec_stats *stats, struct diag *why)
{
    struct host_input input[OP_MAX_INPUTS];
    if (s->graph->ninputs > OP_MAX_INPUTS)
        return diag(why, -EINVAL, "the network has %d inputs, at most %d are possible",
                    s->graph->ninputs, OP_MAX_INPUTS);
    for (int32_t i = 0; i < s->graph->ninputs; i++)
        input[i] = (struct host_input){ .values = inputs[i] };
    return run(s, input, outputs, stats, why);
}

int split_run_pixels(struct split_session *s, const uint8_t *pixels, float *const *outputs,
                     struct exec_stats *stats, struct diag *why)
{
    if (s->graph->ninputs != 1 || !s->takes_pixels)
        return diag(why, -EINVAL,
                    "this session takes no picture: the network needs one input "
                    "and split_options.pixels has to be given");
    const struct host_input input = { .pixels = pixels };
    return run(s, &input, outputs, stats, why);
}

void split_forget(struct split_session *s) { local_forget(s->local); }

/* ---- Tracing ---- */

int split_trace(struct split_session *s, struct diag *why)
{
    const int err = local_trace(s->local, s->program);
    return err ? diag(why, err, "not enough memory for a trace") : 0;
}

int split_trace_write(const struct split_session *s, FILE *to, struct diag *why)
{
    static const struct trace_clock same = { 0 };
    char text[PLAN_MAX_NODES][16];
    const char *name[PLAN_MAX_NODES + 1];
    struct trace_writer w;
    int64_t start_ns;

    for (int32_t n = 0; n < s->nodes; n++) {
        snprintf(text[n], sizeof text[n], "node %d", n);
        name[n] = text[n];
    }
    name[s->nodes] = "host";
    const struct trace_cast cast = {
        .g = s->graph, .geo = &s->geo, .nodes = s->nodes, .name = name, .host_on = s->nodes
    };
    (void)local_traced(s->local, 0, &start_ns);
    if (trace_begin(&w, to, &cast, start_ns))
        return diag(why, -ENOMEM, "not enough memory for a trace");
    for (int32_t n = 0; n <= s->nodes; n++)
        trace_node(&w, n, &s->program[n], local_traced(s->local, n, &start_ns), same);
    trace_end(&w);
    return 0;
}
