#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/table.h"
#include "cli/traffic.h"

struct options {
    struct local_options local;
    const char *model;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->local;
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

static const struct argp argp = {
    .parser = parse,
    .args_doc = "MODEL.onnx",
    .doc =
        "Says in its first line whether a model runs, then for every operator how it is split.\v"
        "An operator is cut into bands of 'rows' or 'channels', 'replicated' (every node computes "
        "what it needs of it), a 'reduction' (every node sums up its part, then the sums are "
        "exchanged), or 'whole' on one node.  'share' is the largest part that a node computes.  "
        "The messages are those in which nodes send each other its result, with the most rows "
        "that one carries and the bytes of payload of all.  An operator that is 'folded' "
        "costs nothing: it is computed at load, only renames, or is part of another.  Exit code "
        "1 if the model cannot run.",
    .children = (const struct argp_child[]){ { &local_argp, 0, NULL, 0 }, { 0 } },
};

static const double mega = 1e6;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- a model that cannot run */

static bool type_is_listed(const struct onnx_model *m, int32_t node)
{
    for (int32_t i = 0; i < node; i++)
        if (strcmp(m->node[i].op_type, m->node[node].op_type) == 0)
            return true;
    return false;
}

static int32_t count_type(const struct onnx_model *m, const char *op_type)
{
    int32_t n = 0;
    for (int32_t i = 0; i < m->nnodes; i++)
        n += strcmp(m->node[i].op_type, op_type) == 0;
    return n;
}

/* Which operators are known, each once. */
static int print_types(const struct onnx_model *m)
{
    struct table t;

    table_init(&t, "lrl");
    table_add(&t, "type");
    table_add(&t, "operators");
    table_add(&t, "supported");
    for (int32_t i = 0; i < m->nnodes; i++) {
        const struct onnx_node *n = &m->node[i];
        if (type_is_listed(m, i))
            continue;
        table_add(&t, "%s", n->op_type);
        table_add(&t, "%d", count_type(m, n->op_type));
        table_add(&t, "%s", graph_knows(n) ? "yes" : "NO");
    }
    putchar('\n');
    const int rc = table_print(&t, stdout);
    table_done(&t);
    return rc;
}

/* ---- a model that runs */

struct view {
    const struct onnx_model *m;
    const struct graph *g;
    const struct plan *p;
    bool *shown; /* [g->nops] */
};

static int64_t weight_bytes(const struct onnx_model *m)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < m->ntensors; i++)
        sum += (int64_t)m->tensor[i].bytes;
    return sum;
}

/* Bytes that a node takes, from loading on; its daemon takes tensors and messages once for every
 * frame in flight. */
struct memory {
    int64_t tensors, messages, weights;
};

static int64_t memory_sum(const struct memory *m) { return m->tensors + m->messages + m->weights; }

static int node_memory(struct memory *m, const struct split_session *s, int32_t node,
                       int32_t threads, struct diag *why)
{
    const struct program *pr = split_program(s, node);

    m->tensors = exec_arena_bytes(split_graph(s), split_plan(s)->geo, pr, threads);
    m->messages = exec_message_bytes(split_plan(s)->geo, pr);
    m->weights = exec_weight_bytes(split_graph(s), pr);
    if (m->tensors < 0)
        return diag(why, (int)m->tensors,
                    "node %d: the memory of its tensors cannot be planned: %s", node,
                    strerror((int)-m->tensors));
    return 0;
}

/* What the nodes do with an operator's result. */
static const char *split_text(const struct plan *p, int32_t tensor)
{
    const struct box all = geometry_whole(p->geo, tensor);
    int32_t busy = 0, complete = 0, whole_chans = 0;

    if (geometry_is_partial(p->geo, tensor))
        return "reduction";
    for (int32_t n = 0; n < p->nodes; n++) {
        const struct box b = plan_share(p, tensor, n)->run;
        busy += !box_empty(b);
        complete += box_equal(b, all);
        whole_chans += !box_empty(b) && box_len(b, CHAN) == all.hi[CHAN];
    }
    if (busy <= 1)
        return "whole";
    if (complete == busy)
        return "replicated";
    return whole_chans == busy ? "rows" : "channels";
}

/* The largest part: "14 of 56 rows". */
static void add_share(struct table *t, const struct plan *p, int32_t tensor)
{
    const struct box all = geometry_whole(p->geo, tensor);
    int32_t rows = 0, chans = 0;

    for (int32_t n = 0; n < p->nodes; n++) {
        const struct box b = plan_share(p, tensor, n)->run;
        if (box_empty(b))
            continue;
        rows = box_len(b, ROW) > rows ? box_len(b, ROW) : rows;
        chans = box_len(b, CHAN) > chans ? box_len(b, CHAN) : chans;
    }
    if (chans < all.hi[CHAN])
        table_add(t, "%d of %d channels", chans, all.hi[CHAN]);
    else
        table_add(t, "%d of %d rows", rows, all.hi[ROW]);
}

static void add_exchange(struct table *t, const struct view *v, int32_t tensor)
{
    int64_t bytes = 0;
    int32_t messages = 0, rows = 0;

    for (int32_t i = 0; i < v->p->ntransfers; i++) {
        const struct plan_transfer *x = &v->p->transfer[i];
        if (x->tensor != tensor || x->from == v->p->nodes || x->to == v->p->nodes)
            continue;
        messages++;
        rows = box_len(x->box, ROW) > rows ? box_len(x->box, ROW) : rows;
        bytes += traffic_bytes(v->p, v->g, x, false);
    }
    table_add(t, "%d", messages);
    table_add(t, "%d", rows);
    table_add(t, "%" PRId64, bytes);
}

static void add_op(struct table *t, const struct view *v, const struct onnx_node *n, int32_t op)
{
    const int32_t tensor = v->g->op[op].output;

    table_add(t, "%s", n->name);
    table_add(t, "%s", n->op_type);
    table_add(t, "%s", op_type_name(v->g->op[op].type));
    table_add(t, "%s", split_text(v->p, tensor));
    add_share(t, v->p, tensor);
    add_exchange(t, v, tensor);
}

static void add_folded(struct table *t, const struct onnx_node *n)
{
    table_add(t, "%s", n->name);
    table_add(t, "%s", n->op_type);
    table_add(t, "folded");
    for (int i = 0; i < 5; i++)
        table_add(t, "-");
}

/* The operators that node number `i` of the file became carry its name. */
static bool add_node(struct table *t, const struct view *v, int32_t i)
{
    const struct onnx_node *n = &v->m->node[i];
    bool found = false;

    for (int32_t op = 0; op < v->g->nops; op++)
        if (!v->shown[op] && strcmp(v->g->op[op].name, n->name) == 0) {
            add_op(t, v, n, op);
            v->shown[op] = true;
            found = true;
        }
    if (!found)
        add_folded(t, n);
    return found;
}

/* Fills the table of operators.  Returns how many of the file's nodes are folded. */
static int32_t make_operators(struct table *t, const struct view *v)
{
    static const char *const heading[] = { "operator", "type",     "runs as", "split",
                                           "share",    "messages", "rows",    "bytes" };
    int32_t folded = 0;

    table_init(t, "lllllrrr");
    for (size_t i = 0; i < sizeof heading / sizeof heading[0]; i++)
        table_add(t, "%s", heading[i]);
    for (int32_t i = 0; i < v->m->nnodes; i++)
        folded += !add_node(t, v, i);
    return folded;
}

static int print_nodes(const struct memory *memory, int32_t nodes)
{
    struct table t;

    table_init(&t, "lrrrr");
    table_add(&t, "node");
    table_add(&t, "all MB");
    table_add(&t, "tensors MB");
    table_add(&t, "messages MB");
    table_add(&t, "weights MB");
    for (int32_t n = 0; n < nodes; n++) {
        table_add(&t, "%d", n);
        table_add(&t, "%.2f", (double)memory_sum(&memory[n]) / mega);
        table_add(&t, "%.2f", (double)memory[n].tensors / mega);
        table_add(&t, "%.2f", (double)memory[n].messages / mega);
        table_add(&t, "%.2f", (double)memory[n].weights / mega);
    }
    putchar('\n');
    const int rc = table_print(&t, stdout);
    table_done(&t);
    return rc;
}

static int report(const struct options *o, const struct local_model *m,
                  const struct split_session *s, struct diag *why)
{
    struct memory memory[PLAN_MAX_NODES], most = { 0 };
    const int32_t nodes = split_plan(s)->nodes,
                  threads = o->local.threads > 0 ? o->local.threads : 1;
    struct view v = { .m = m->onnx, .g = split_graph(s), .p = split_plan(s) };
    struct table t;
    int rc = 0;

    for (int32_t n = 0; rc == 0 && n < nodes; n++) {
        rc = node_memory(&memory[n], s, n, threads, why);
        if (rc == 0 && memory_sum(&memory[n]) > memory_sum(&most))
            most = memory[n];
    }
    if (rc < 0)
        return rc;
    v.shown = calloc((size_t)v.g->nops + 1, sizeof *v.shown);
    if (!v.shown)
        return diag(why, -ENOMEM, "memory is short");
    const int32_t folded = make_operators(&t, &v);
    printf("%s runs on %d node%s: %d operators (%d of the file's %d are folded), %.1f MB weights; "
           "a node takes up to %.1f MB: %.1f MB for tensors, %.1f MB for messages, %.1f MB for "
           "weights\n",
           base_name(o->model), nodes, nodes == 1 ? "" : "s", v.g->nops, folded, v.m->nnodes,
           (double)weight_bytes(v.m) / mega, (double)memory_sum(&most) / mega,
           (double)most.tensors / mega, (double)most.messages / mega, (double)most.weights / mega);
    putchar('\n');
    rc = table_print(&t, stdout);
    if (rc == 0)
        rc = print_nodes(memory, nodes);
    table_done(&t);
    free(v.shown);
    return rc < 0 ? diag(why, rc, "memory is short for the table") : 0;
}

static void refuse(const char *model, const struct diag *why)
{
    printf("%s cannot run: %s\n", base_name(model), why->text);
}

static int check(const struct options *o)
{
    struct local_model m;
    struct split_session *s = NULL;
    struct diag why = { "" };

    if (local_load(&m, o->model, &o->local, &why) < 0) {
        refuse(o->model, &why);
        return RESULT_FAILED;
    }
    int result = RESULT_OK;
    if (local_open(&s, &m, &o->local, o->local.nodes, NULL, &why) < 0) {
        refuse(o->model, &why);
        result =
            print_types(m.onnx) < 0 ? complain("memory is short for the table") : RESULT_FAILED;
    } else if (report(o, &m, s, &why) < 0) {
        result = complain("%s", why.text);
    }
    split_close(s);
    local_done(&m);
    return result;
}

int cmd_check(int argc, char **argv)
{
    struct options o = { 0 };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    return check(&o);
}
