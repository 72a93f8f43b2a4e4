#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/parse.h"
#include "cli/target.h"
#include "cli/trace_summary.h"
#include "libsplit/file.h"

enum { KEY_SUMMARY = 400, KEY_AFTER };
enum { DEFAULT_AFTER = 3, MAX_AFTER = 1000 };

struct options {
    struct client_options client;
    struct local_options local;
    bool is_local;
    const char *model; /* the name of a server's, or the file of a local one */
    const char *output;
    char **input;
    int ninputs;
    int32_t after;
    bool summary;
};

static void take_arguments(struct options *o, struct argp_state *state)
{
    o->input = state->argv + state->next;
    o->ninputs = state->argc - state->next;
    /* Options come before arguments, so both are known by now; without them there is one node. */
    o->is_local = o->local.counted || o->local.cluster;
    if (!o->is_local && o->ninputs > 1)
        argp_error(state, "one picture or tensor is sent to a server, '%s' is too much",
                   o->input[1]);
    if (!o->is_local)
        return;
    if (o->model)
        argp_error(state,
                   "--model names a model of a server; with --local or --config give a file");
    if (o->ninputs < 2)
        argp_error(state, "--local needs a model and an input");
    o->model = *o->input++;
    o->ninputs--;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->client;
        state->child_inputs[1] = &o->local;
        return 0;
    case 'm':
        o->model = arg;
        return 0;
    case 'o':
        o->output = arg;
        return 0;
    case KEY_SUMMARY:
        o->summary = true;
        return 0;
    case KEY_AFTER:
        if (!parse_int(arg, 0, MAX_AFTER, &o->after))
            argp_error(state, "--after: '%s' is not a number from 0 to %d", arg, MAX_AFTER);
        return 0;
    case ARGP_KEY_ARGS:
        take_arguments(o, state);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a picture is missing");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "model", 'm', "NAME", 0, "The model to ask (default: the only one that the server has)", 0 },
    { "output", 'o', "FILE", 0, "Where the trace goes (default trace.json)", 0 },
    { "summary", KEY_SUMMARY, NULL, 0, "Print where every node's time went, and the worst waits",
      0 },
    { "after", KEY_AFTER, "N", 0, "Inferences that run before the one that is traced (default 3)",
      0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "INPUT\n--local N MODEL.onnx INPUT...",
    .doc =
        "Writes what every node did during one inference, and when, as a trace that "
        "https://ui.perfetto.dev and chrome://tracing show.\vWithout --local (or --weights) the "
        "INPUT, a picture or a tensor, is sent to a server and its cluster is traced; with it the "
        "model runs here, as with `splitctl run`.  Every node is a process of the trace, its "
        "thread \"compute\" shows operators by the names of `splitctl plan`, packing and sending "
        "of messages, and waiting for them; arrows lead from a message's sender to its receiver; "
        "the thread \"host\" shows what the coordinator does.  The nodes' clocks are compared by "
        "heartbeats: each process says how far its clock is off and how exactly that is known.  "
        "In the summary, the part of a wait that is late passed before the message was even sent, "
        "and the rest while it was on its way.",
    .children = (const struct argp_child[]){ { &client_argp, 0, "With a server:", 2 },
                                             { &local_argp, 0, "With a model here:", 3 },
                                             { 0 } },
};

/* ---- here */

static int run_here(const struct options *o, const struct frame *f, struct split_session *s,
                    struct diag *why)
{
    int rc = split_trace(s, why);
    for (int32_t i = 0; i <= o->after && rc == 0; i++) {
        struct answer a = { 0 };
        rc = frame_run(&a, f, s, NULL, why);
        answer_done(&a);
    }
    return rc;
}

static int write_here(const struct split_session *s, char **json, struct diag *why)
{
    size_t len;
    FILE *to = open_memstream(json, &len);
    if (!to)
        return diag(why, -ENOMEM, "memory is short for the trace");
    const int rc = split_trace_write(s, to, why);
    return fclose(to) != 0 && rc == 0 ? diag(why, -ENOMEM, "memory is short for the trace") : rc;
}

/* Puts the trace into `*json`; free() it. */
static int trace_here(const struct options *o, char **json, struct diag *why)
{
    struct local_model m = { 0 };
    struct split_session *s = NULL;
    struct frame f = { 0 };

    int rc = local_load(&m, o->model, &o->local, why);
    if (rc == 0)
        rc = frame_load(&f, &m, &o->local, o->input, o->ninputs, why);
    if (rc == 0)
        rc = local_open(&s, &m, &o->local, o->local.nodes, &f, why);
    if (rc == 0)
        rc = run_here(o, &f, s, why);
    if (rc == 0)
        rc = write_here(s, json, why);
    frame_done(&f);
    split_close(s);
    local_done(&m);
    return rc;
}

/* ---- on a cluster */

/* Asks once; takes the trace out of the answer. */
static int ask(const struct target *t, const struct client_query *q, cJSON **trace,
               struct diag *why)
{
    struct client_answer a = { 0 };

    const int rc = client_infer(t->client, t->model, q, &a, why);
    *trace = a.trace;
    a.trace = NULL;
    client_answer_done(&a);
    return rc;
}

static int ask_often(const struct options *o, const struct target *t, const struct client_query *q,
                     cJSON **trace, struct diag *why)
{
    struct client_query untraced = *q;
    int rc = 0;

    untraced.trace = false;
    for (int32_t i = 0; i < o->after && rc == 0; i++) {
        rc = ask(t, &untraced, trace, why);
        cJSON_Delete(*trace);
        *trace = NULL;
    }
    return rc == 0 ? ask(t, q, trace, why) : rc;
}

/* Puts the trace into `*json`; free() it. */
static int trace_cluster(const struct options *o, char **json, struct diag *why)
{
    struct target t = { 0 };
    struct target_file f = { 0 };
    cJSON *trace = NULL;

    int rc = target_open(&t, &o->client, o->model, true, why);
    if (rc == 0)
        rc = target_load(&t, o->input[0], &f, why);
    if (rc < 0)
        goto out;
    const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(t.metadata, "outputs");
    const struct client_want want = { .name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
                                          cJSON_GetArrayItem(outputs, 0), "name")) };
    const struct client_query q = { .in = &f.in, .want = &want, .nwant = 1, .trace = true };
    rc = want.name ? ask_often(o, &t, &q, &trace, why)
                   : diag(why, -EREMOTEIO, "the server names no outputs of model '%s'", t.model);
    if (rc == 0 && !trace)
        rc = diag(why, -EREMOTEIO, "the server sent no trace: it may be of another version");
    if (rc == 0) {
        *json = cJSON_PrintUnformatted(trace);
        if (!*json)
            rc = diag(why, -ENOMEM, "memory is short for the trace");
    }
out:
    cJSON_Delete(trace);
    target_file_done(&f);
    target_close(&t);
    return rc;
}

/* ---- both */

static int summarize(const char *json, struct diag *why)
{
    cJSON *trace = cJSON_Parse(json);
    const int rc = trace ? trace_summary(trace, stdout, why)
                         : diag(why, -ENOMEM, "memory is short for the summary");
    cJSON_Delete(trace);
    return rc;
}

static int run(const struct options *o, struct diag *why)
{
    char *json = NULL;

    int rc = o->is_local ? trace_here(o, &json, why) : trace_cluster(o, &json, why);
    if (rc == 0)
        rc = file_write(o->output, (const uint8_t *)json, strlen(json), why);
    if (rc == 0) {
        printf("%s: open it in https://ui.perfetto.dev or chrome://tracing\n", o->output);
        rc = o->summary ? summarize(json, why) : 0;
    }
    free(json);
    return rc;
}

int cmd_trace(int argc, char **argv)
{
    struct options o = { .output = "trace.json", .after = DEFAULT_AFTER };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    return run(&o, &why) < 0 ? complain("%s", why.text) : RESULT_OK;
}
