#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/client.h"
#include "cli/command.h"
#include "cli/parse.h"
#include "cli/status.h"
#include "cli/table.h"

enum { KEY_JSON = 300, KEY_WAIT };

struct options {
    struct client_options client;
    double wait_s; /* 0: do not */
    bool json;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->client;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case KEY_WAIT:
        if (!parse_float(arg, 0.001, 86400, &o->wait_s))
            argp_error(state, "--wait: '%s' is not a number of seconds from 0.001 to 86400", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is too much", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "json", KEY_JSON, NULL, 0, "Print the server's JSON", 0 },
    { "wait", KEY_WAIT, "S", 0,
      "Wait up to S seconds until all nodes are up and all models ready; exit code 1 if they are "
      "not by then",
      0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .doc = "Shows the nodes and models of a cluster, and for every model what each node did in the "
           "last frame.",
    .children = (const struct argp_child[]){ { &client_argp, 0, NULL, 0 }, { 0 } },
};

static void add_node(struct table *t, const cJSON *node)
{
    table_add(t, "%s", status_text(node, "name"));
    table_add(t, "%s", status_text(node, "address"));
    table_add(t, "%.2f", status_number(node, "speed"));
    table_add(t, "%s",
              !status_true(node, "up")      ? "down"
              : status_true(node, "member") ? "up"
                                            : "joining");
}

static void add_share(struct table *t, const cJSON *node, const cJSON *figures)
{
    table_add(t, "%s", status_text(node, "name"));
    status_add_rows(t, figures);
    table_add(t, "%.2f", status_number(figures, "compute_ms"));
    table_add(t, "%.2f", status_number(figures, "wait_ms"));
    table_add(t, "%.0f", status_number(figures, "sent_bytes"));
    table_add(t, "%.0f", status_number(figures, "received_bytes"));
    table_add(t, "%.0f", status_number(figures, "halo_bytes"));
    table_add(t, "%.1f", status_number(figures, "arena_bytes") / 1e6);
    table_add(t, "%.1f", status_number(figures, "weight_bytes") / 1e6);
}

static int print_nodes(const cJSON *status)
{
    const cJSON *node;
    struct table t;

    table_init(&t, "llrl");
    table_add(&t, "node");
    table_add(&t, "address");
    table_add(&t, "speed");
    table_add(&t, "state");
    cJSON_ArrayForEach(node, status_list(status, "nodes"))
        add_node(&t, node);
    const int rc = table_print(&t, stdout);
    table_done(&t);
    return rc;
}

static int print_shares(const cJSON *status, const char *model)
{
    static const char *const heading[] = { "node",       "rows",       "compute ms",
                                           "wait ms",    "sent bytes", "received bytes",
                                           "halo bytes", "buffers MB", "weights MB" };
    const cJSON *node;
    struct table t;

    table_init(&t, "lrrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof heading[0]; i++)
        table_add(&t, "%s", heading[i]);
    cJSON_ArrayForEach(node, status_list(status, "nodes")) {
        const cJSON *figures = status_figures(node, model);
        if (figures)
            add_share(&t, node, figures);
    }
    const int rc = table_print(&t, stdout);
    table_done(&t);
    return rc;
}

/* How halos travel, and what the ways took that were tried. */
static void print_halo(const cJSON *model)
{
    const cJSON *time, *times = cJSON_GetObjectItemCaseSensitive(model, "halo_ms");
    const char *before = " (measured: ";

    if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(model, "halo")))
        return;
    printf("halos by %s", status_text(model, "halo"));
    cJSON_ArrayForEach(time, times) {
        printf("%s%s %.2f ms", before, time->string, time->valuedouble);
        before = ", ";
    }
    printf("%s\n", cJSON_GetArraySize(times) > 0 ? ")" : "");
}

static int print_model(const cJSON *status, const cJSON *model)
{
    printf("\nmodel %s (%s): %s\n", status_text(model, "name"), status_text(model, "task"),
           status_of_model(model));
    print_halo(model);
    return status_text(model, "problem")[0] != '\0'
               ? 0
               : print_shares(status, status_text(model, "name"));
}

static int print_status(const cJSON *status)
{
    const cJSON *model;

    printf("cluster %s, coordinator %s, epoch %.0f\n\n", status_text(status, "cluster"),
           status_text(status, "coordinator"), status_number(status, "epoch"));
    int rc = print_nodes(status);
    cJSON_ArrayForEach(model, status_list(status, "models"))
        if (rc == 0)
            rc = print_model(status, model);
    return rc;
}

static int print_json(const cJSON *status)
{
    char *text = cJSON_Print(status);
    if (!text)
        return -ENOMEM;
    printf("%s\n", text);
    cJSON_free(text);
    return 0;
}

/* Returns 0 if every node is up and every model ready, else -EAGAIN with the first that is not. */
static int find_missing(const cJSON *status, struct diag *why)
{
    const cJSON *o;

    cJSON_ArrayForEach(o, status_list(status, "nodes")) {
        if (!status_true(o, "up"))
            return diag(why, -EAGAIN, "node %s is down", status_text(o, "name"));
        if (!status_true(o, "member"))
            return diag(why, -EAGAIN, "node %s has not joined yet", status_text(o, "name"));
    }
    cJSON_ArrayForEach(o, status_list(status, "models")) {
        const char *problem = status_text(o, "problem");
        if (!status_true(o, "ready"))
            return diag(why, -EAGAIN, "model %s is not ready%s%s", status_text(o, "name"),
                        problem[0] != '\0' ? ": " : "", problem);
    }
    return 0;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The status, after waiting as long as --wait allows; cJSON_Delete() `*status` on 0. */
static int get_status(const struct options *o, struct client *c, cJSON **status, struct diag *why)
{
    const struct timespec pause = { .tv_nsec = 50000000 };
    const double deadline = now_s() + o->wait_s;
    struct diag missing = { "" };

    for (;;) {
        int rc = status_get(c, status, why);
        if (rc < 0 || o->wait_s <= 0)
            return rc;
        rc = find_missing(*status, &missing);
        if (rc == 0)
            return 0;
        cJSON_Delete(*status);
        if (now_s() >= deadline)
            return diag(why, rc, "not ready after %g s: %s", o->wait_s, missing.text);
        nanosleep(&pause, NULL);
    }
}

int cmd_status(int argc, char **argv)
{
    struct options o = { 0 };
    struct diag why = { "" };
    struct client *c;
    cJSON *status;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    if (o.wait_s > 0 && o.client.timeout_s <= 0)
        o.client.timeout_s = o.wait_s;
    if (client_new(&c, &o.client, &why) < 0)
        return complain("%s", why.text);
    int rc = get_status(&o, c, &status, &why);
    client_free(c);
    if (rc < 0)
        return complain("%s", why.text);
    rc = o.json ? print_json(status) : print_status(status);
    cJSON_Delete(status);
    return rc < 0 ? complain("memory is short for the status") : RESULT_OK;
}
