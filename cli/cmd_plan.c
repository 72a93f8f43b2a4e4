#include <argp.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/parse.h"
#include "cli/table.h"
#include "cli/traffic.h"
#include "libsplit/fastest.h"

enum { KEY_NODE = 300, KEY_PROGRAMS, KEY_JSON };

struct options {
    struct local_options local;
    const char *model;
    int32_t node; /* -1: all */
    bool programs, json;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->local;
        return 0;
    case KEY_NODE:
        if (!parse_int(arg, 0, PLAN_MAX_NODES - 1, &o->node))
            argp_error(state, "--node: '%s' is not the number of a node, 0 to %d", arg,
                       PLAN_MAX_NODES - 1);
        return 0;
    case KEY_PROGRAMS:
        o->programs = true;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->model)
            argp_error(state, "one model only, '%s' is too much", arg);
        o->model = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a model is missing");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "node", KEY_NODE, "I", 0, "Show this node only, counted from 0", 0 },
    { "programs", KEY_PROGRAMS, NULL, 0, "Print every node's program, step by step", 0 },
    { "json", KEY_JSON, NULL, 0, "Print JSON", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "MODEL.onnx",
    .doc = "Shows which node computes which rows or channels of every operator's output, and what "
           "crosses between nodes.\vFor every node the table gives the rows that it computes (of "
           "an input: that it reads), or the channels, marked 'ch', where it computes only some "
           "of them.  After a '+' come the bytes that it receives: of an operator's output from "
           "other nodes, because its next operators read them; of an input from the host.  Bytes "
           "are payload.  Where the last column says so, nodes compute rows of each other's "
           "themselves instead of receiving them: how many values are not sent for how many more "
           "multiply-adds.  The bound is how many times faster than one node the cluster could be "
           "at most, were all nodes alike and messages free.  The plan is for all nodes; the last "
           "line says with how many of them a frame is estimated to take least: a coordinator "
           "leaves the others out, and so does the plan of --config.",
    .children = (const struct argp_child[]){ { &local_argp, 0, NULL, 0 }, { 0 } },
};

/* What one plan is shown from. */
struct view {
    const struct options *o;
    const struct graph *g;
    const struct plan *p;
    const struct plan_options *options; /* of the plan */
    const struct fastest *fastest;
    bool pixels; /* the host sends inputs as bytes, not floats */
};

static bool shows(const struct view *v, int32_t node)
{
    return v->o->node < 0 || v->o->node == node;
}

/* "node 2", or what the cluster calls it. */
static const char *node_text(const struct view *v, int32_t node, char *text, size_t cap)
{
    if (v->o->local.cluster)
        return v->o->local.cluster->node[v->fastest->member[node]].name;
    snprintf(text, cap, "node %d", node);
    return text;
}

/* Bytes of `tensor` that `node` receives: from the host if `from_host`, else from other nodes. */
static int64_t received(const struct view *v, int32_t tensor, int32_t node, bool from_host)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < v->p->ntransfers; i++) {
        const struct plan_transfer *t = &v->p->transfer[i];
        if (t->tensor == tensor && t->to == node && (t->from == v->p->nodes) == from_host)
            bytes += traffic_bytes(v->p, v->g, t, v->pixels);
    }
    return bytes;
}

struct totals {
    int64_t halo_bytes, halo_messages; /* between nodes */
    int64_t host_bytes, host_messages; /* inputs out and answers in */
};

/* Of `p`, a plan of the view's network. */
static struct totals total(const struct view *v, const struct plan *p)
{
    struct totals sum = { 0 };
    for (int32_t i = 0; i < p->ntransfers; i++) {
        const struct plan_transfer *t = &p->transfer[i];
        const bool is_host = t->from == p->nodes || t->to == p->nodes;
        *(is_host ? &sum.host_bytes : &sum.halo_bytes) += traffic_bytes(p, v->g, t, v->pixels);
        *(is_host ? &sum.host_messages : &sum.halo_messages) += 1;
    }
    return sum;
}

/* What nodes compute although others do, too. */
struct twice {
    int32_t tensors;
    int64_t values; /* that nodes read, do not own and need not be sent */
    double macs;    /* multiply-adds more */
};

/* Of one tensor, which may be none that is recomputed. */
static struct twice twice(const struct plan *p, int32_t tensor)
{
    struct twice sum = { 0 };
    const struct geo_tensor *t = &p->geo->tensor[tensor];
    const double whole = (double)box_values(geometry_whole(p->geo, tensor));
    for (int32_t n = 0; p->recomputed[tensor] && n < p->nodes; n++) {
        const struct plan_share *s = plan_share(p, tensor, n);
        const int64_t more = box_values(s->run) - box_values(s->own);
        sum.values += box_values(s->want) - box_values(box_intersect(s->want, s->own));
        sum.macs += (double)p->geo->op[t->op].macs * (double)more / whole;
    }
    sum.tensors = sum.values > 0;
    sum.values *= t->batch;
    sum.macs *= t->batch;
    return sum;
}

static struct twice twice_in_all(const struct plan *p)
{
    struct twice sum = { 0 };
    for (int32_t t = 0; t < p->geo->ntensors; t++) {
        const struct twice of = twice(p, t);
        sum.tensors += of.tensors;
        sum.values += of.values;
        sum.macs += of.macs;
    }
    return sum;
}

static double macs_in_all(const struct geometry *g)
{
    double sum = 0;
    for (int32_t o = 0; o < g->nops; o++)
        sum += (double)g->op[o].macs * g->tensor[g->op[o].out].batch;
    return sum;
}

/* An input is sent by the host, so its rows are what each node receives; any other tensor is
 * computed. */
static struct box shown_box(const struct view *v, int32_t tensor, int32_t node)
{
    const struct plan_share *s = plan_share(v->p, tensor, node);
    return v->g->tensor[tensor].op == GEO_NO_OP ? s->want : s->run;
}

/* "0..56", "ch 128..256", both where a node has a part of either, "-" for nothing. */
static void box_text(char *text, size_t cap, struct box b, const int32_t dim[AXES])
{
    const bool all_rows = box_len(b, ROW) == dim[ROW], all_chans = box_len(b, CHAN) == dim[CHAN];
    if (box_empty(b))
        snprintf(text, cap, "-");
    else if (all_chans)
        snprintf(text, cap, "%d..%d", b.lo[ROW], b.hi[ROW]);
    else if (all_rows)
        snprintf(text, cap, "ch %d..%d", b.lo[CHAN], b.hi[CHAN]);
    else
        snprintf(text, cap, "%d..%d ch %d..%d", b.lo[ROW], b.hi[ROW], b.lo[CHAN], b.hi[CHAN]);
}

static void add_node_cell(const struct view *v, struct table *t, int32_t tensor, int32_t node)
{
    const bool is_input = v->g->tensor[tensor].op == GEO_NO_OP;
    const struct box b = shown_box(v, tensor, node);
    const int64_t bytes = received(v, tensor, node, is_input);
    char part[64], plus[32] = "";

    box_text(part, sizeof part, b, v->p->geo->tensor[tensor].dim);
    if (bytes > 0)
        snprintf(plus, sizeof plus, " +%" PRId64, bytes);
    table_add(t, "%s%s", part, plus);
}

/* Rows of a partial result's tensor are one per node, which only the geometry knows. */
static void add_tensor(const struct view *v, struct table *t, int32_t tensor)
{
    const struct tensor *gt = &v->g->tensor[tensor];
    const int32_t *dim = v->p->geo->tensor[tensor].dim;
    const struct op *op = gt->op == GEO_NO_OP ? NULL : &v->g->op[gt->op];

    table_add(t, "%s", op ? op->name : gt->name);
    table_add(t, "%s", op ? op_type_name(op->type) : "input");
    table_add(t, "%dx%dx%d", dim[ROW], dim[COL], dim[CHAN]);
    for (int32_t n = 0; n < v->p->nodes; n++)
        if (shows(v, n))
            add_node_cell(v, t, tensor, n);
    const struct twice again = twice(v->p, tensor);
    if (again.tensors > 0)
        table_add(t, "%" PRId64 " values, %.0f multiply-adds", again.values, again.macs);
    else
        table_add(t, "%s", "");
}

/* What recomputing saves and costs; `wide` is the plan that exchanges everything. */
static void print_recomputed(const struct view *v, const struct plan *wide)
{
    const struct twice again = twice_in_all(v->p);
    const struct totals sum = total(v, wide);
    const double macs = macs_in_all(v->p->geo);
    printf("recomputed: %d tensors, %" PRId64 " values that nobody sends, %.1f %% more "
           "multiply-adds; with everything exchanged %" PRId64 " bytes in %" PRId64
           " messages, %.1f ms by estimate in place of %.1f\n",
           again.tensors, again.values, macs > 0 ? 100 * again.macs / macs : 0, sum.halo_bytes,
           sum.halo_messages, plan_estimate_us(wide, v->options) / 1000,
           plan_estimate_us(v->p, v->options) / 1000);
}

/* What plans for all nodes that were asked for, or for fewer of them, take. */
static int find_fastest(const struct options *o, const struct split_session *s, struct fastest *f,
                        struct diag *why)
{
    struct plan_options all = *split_plan_options(s);
    struct geometry geo;
    struct plan p;

    *f = *split_fastest(s);
    if (o->local.cluster)
        return 0;
    const int rc = fastest_plan(f, &geo, &p, split_graph(s), &all, 1);
    if (rc < 0)
        return diag(why, rc, "planning for fewer nodes: %s", strerror(-rc));
    plan_done(&p);
    geometry_done(&geo);
    return 0;
}

static void print_fastest(const struct view *v)
{
    const int32_t nodes = v->o->local.nodes;

    if (nodes == 1)
        return;
    printf("estimates:");
    for (int32_t n = 1; n <= nodes; n++)
        if (v->fastest->estimate_us[n] > 0)
            printf(" %.1f ms on %d%s", v->fastest->estimate_us[n] / 1000, n, n < nodes ? "," : ";");
    printf(" a coordinator takes %d\n", v->fastest->nodes);
}

static int print_totals(const struct view *v, struct diag *why)
{
    const struct totals sum = total(v, v->p);
    struct plan_options exchange = *v->options;
    struct plan wide;

    exchange.policy = PLAN_EXCHANGE;
    const int rc = plan_build(&wide, v->p->geo, &exchange);
    if (rc < 0)
        return diag(why, rc, "memory is short for a second plan");
    printf("\nper frame: %" PRId64 " bytes in %" PRId64 " messages between nodes, %" PRId64
           " bytes in %" PRId64 " messages from and to the host; bound %.2f\n",
           sum.halo_bytes, sum.halo_messages, sum.host_bytes, sum.host_messages, plan_bound(v->p));
    print_recomputed(v, &wide);
    plan_done(&wide);
    print_fastest(v);
    return 0;
}

static int print_table(const struct view *v, struct diag *why)
{
    char align[3 + PLAN_MAX_NODES + 1 + 1] = { 0 }, name[16];
    struct table t;

    memset(align, 'l', (size_t)(v->o->node < 0 ? 3 + v->p->nodes : 3 + 1) + 1);
    table_init(&t, align);
    table_add(&t, "operator");
    table_add(&t, "type");
    table_add(&t, "rows x cols x chans");
    for (int32_t n = 0; n < v->p->nodes; n++)
        if (shows(v, n))
            table_add(&t, "%s", node_text(v, n, name, sizeof name));
    table_add(&t, "recomputed");
    for (int32_t i = 0; i < v->g->ntensors; i++)
        add_tensor(v, &t, i);
    const int rc = table_print(&t, stdout);
    table_done(&t);
    if (rc < 0)
        return diag(why, rc, "memory is short for the table");
    return print_totals(v, why);
}

static void add_box(cJSON *o, struct box b)
{
    const int32_t rows[2] = { b.lo[ROW], b.hi[ROW] };
    const int32_t channels[2] = { b.lo[CHAN], b.hi[CHAN] };
    cJSON_AddItemToObject(o, "rows", cJSON_CreateIntArray(rows, 2));
    cJSON_AddItemToObject(o, "channels", cJSON_CreateIntArray(channels, 2));
}

static cJSON *node_json(const struct view *v, int32_t tensor, int32_t node)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "node", node);
    add_box(o, shown_box(v, tensor, node));
    add_box(cJSON_AddObjectToObject(o, "owns"), plan_share(v->p, tensor, node)->part);
    cJSON_AddNumberToObject(o, "halo_bytes", (double)received(v, tensor, node, false));
    cJSON_AddNumberToObject(o, "host_bytes", (double)received(v, tensor, node, true));
    return o;
}

/* What nodes send each other of `tensor`. */
static cJSON *messages_json(const struct view *v, int32_t tensor)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; i < v->p->ntransfers; i++) {
        const struct plan_transfer *t = &v->p->transfer[i];
        const bool is_host = t->from == v->p->nodes || t->to == v->p->nodes;
        if (t->tensor != tensor || is_host || !shows(v, t->to))
            continue;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "from", t->from);
        cJSON_AddNumberToObject(o, "to", t->to);
        add_box(o, t->box);
        cJSON_AddNumberToObject(o, "bytes", (double)traffic_bytes(v->p, v->g, t, v->pixels));
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static cJSON *tensor_json(const struct view *v, int32_t tensor)
{
    const struct tensor *gt = &v->g->tensor[tensor];
    const struct op *op = gt->op == GEO_NO_OP ? NULL : &v->g->op[gt->op];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", op ? op->name : gt->name);
    cJSON_AddStringToObject(o, "type", op ? op_type_name(op->type) : "input");
    cJSON_AddStringToObject(o, "tensor", gt->name);
    /* Entries of this list, which holds every tensor in its place. */
    cJSON *inputs = cJSON_AddArrayToObject(o, "inputs");
    for (int32_t i = 0; op && i < op->ninputs; i++)
        cJSON_AddItemToArray(inputs, cJSON_CreateNumber(op->input[i]));
    cJSON_AddItemToObject(o, "dim", cJSON_CreateIntArray(v->p->geo->tensor[tensor].dim, AXES));
    cJSON *nodes = cJSON_AddArrayToObject(o, "nodes");
    for (int32_t n = 0; n < v->p->nodes; n++)
        if (shows(v, n))
            cJSON_AddItemToArray(nodes, node_json(v, tensor, n));
    cJSON_AddItemToObject(o, "messages", messages_json(v, tensor));
    const struct twice again = twice(v->p, tensor);
    cJSON_AddBoolToObject(o, "recomputed", again.tensors > 0);
    cJSON_AddNumberToObject(o, "values_not_sent", (double)again.values);
    cJSON_AddNumberToObject(o, "macs_added", again.macs);
    return o;
}

static int print_json(const struct view *v, struct diag *why)
{
    const struct totals sum = total(v, v->p);
    const struct twice again = twice_in_all(v->p);
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "model", v->o->model);
    cJSON_AddNumberToObject(root, "nodes", v->p->nodes);
    cJSON *list = cJSON_AddArrayToObject(root, "operators");
    for (int32_t i = 0; list && i < v->g->ntensors; i++)
        cJSON_AddItemToArray(list, tensor_json(v, i));
    cJSON_AddNumberToObject(root, "halo_bytes", (double)sum.halo_bytes);
    cJSON_AddNumberToObject(root, "halo_messages", (double)sum.halo_messages);
    cJSON_AddNumberToObject(root, "host_bytes", (double)sum.host_bytes);
    cJSON_AddNumberToObject(root, "host_messages", (double)sum.host_messages);
    cJSON_AddNumberToObject(root, "values_not_sent", (double)again.values);
    cJSON_AddNumberToObject(root, "macs", macs_in_all(v->p->geo));
    cJSON_AddNumberToObject(root, "macs_added", again.macs);
    cJSON_AddNumberToObject(root, "estimate_us", plan_estimate_us(v->p, v->options));
    cJSON_AddNumberToObject(root, "fastest_nodes", v->fastest->nodes);
    cJSON_AddNumberToObject(root, "bound", plan_bound(v->p));
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (!text)
        return diag(why, -ENOMEM, "memory is short for the JSON");
    printf("%s\n", text);
    cJSON_free(text);
    return 0;
}

static void print_programs(const struct view *v, const struct split_session *s)
{
    const struct program_names names = graph_names(v->g);
    char name[16];
    for (int32_t n = 0; n < v->p->nodes; n++)
        if (shows(v, n)) {
            printf("%s\n", node_text(v, n, name, sizeof name));
            program_dump(split_program(s, n), v->p->geo, &names, stdout);
        }
}

static int show(const struct options *o, struct diag *why)
{
    struct local_model m;
    struct split_session *s = NULL;
    struct fastest fastest = { 0 };

    int rc = local_load(&m, o->model, &o->local, why);
    if (rc < 0)
        return rc;
    rc = local_open(&s, &m, &o->local, o->local.nodes, NULL, why);
    if (rc == 0)
        rc = find_fastest(o, s, &fastest, why);
    if (rc < 0)
        goto out;
    const struct view v = { o,
                            split_graph(s),
                            split_plan(s),
                            split_plan_options(s),
                            &fastest,
                            m.sidecar.task != TASK_RAW };
    if (o->programs)
        print_programs(&v, s);
    else
        rc = o->json ? print_json(&v, why) : print_table(&v, why);
out:
    split_close(s);
    local_done(&m);
    return rc;
}

int cmd_plan(int argc, char **argv)
{
    struct options o = { .node = -1 };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    if (o.node >= o.local.nodes) {
        complain("--node: %d of %d nodes, counted from 0", o.node, o.local.nodes);
        return RESULT_USAGE;
    }
    return show(&o, &why) < 0 ? complain("%s", why.text) : RESULT_OK;
}
