#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/command.h"
#include "cli/parse.h"
#include "cli/status.h"
#include "cli/table.h"

enum { KEY_COUNT = 300, KEY_INTERVAL };

struct options {
    struct client_options client;
    double interval_s;
    int32_t count; /* 0: until it is interrupted */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->client;
        return 0;
    case KEY_INTERVAL:
        if (!parse_float(arg, 0.1, 3600, &o->interval_s))
            argp_error(state, "--interval: '%s' is not a number of seconds from 0.1 to 3600", arg);
        return 0;
    case KEY_COUNT:
        if (!parse_int(arg, 1, 1000000, &o->count))
            argp_error(state, "--count: '%s' is not a number from 1 to 1000000", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is too much", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "interval", KEY_INTERVAL, "S", 0, "Seconds from one look to the next (default 1)", 0 },
    { "count", KEY_COUNT, "N", 0, "Look N times, then end (default: until it is interrupted)", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .doc =
        "Shows what a cluster does, again and again: pictures a second, and for every model what "
        "each node did in the last picture.\v"
        "A '!' behind a temperature: the board slows itself down or its supply is too weak; "
        "'splitctl doctor' on that node says more.",
    .children = (const struct argp_child[]){ { &client_argp, 0, NULL, 0 }, { 0 } },
};

/* What was counted at the look before. */
struct before {
    bool known;
    double at_s, answered, answered_ms;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* "12.3 pictures/s, 81.0 ms each": since the look before. */
static void put_rate(FILE *to, const cJSON *counters, struct before *b)
{
    const double at_s = now_s(), answered = status_number(counters, "answered");
    const double answered_ms = status_number(counters, "answered_ms");
    const double n = answered - b->answered;

    /* A coordinator that was started anew counts from 0. */
    if (b->known && n >= 0 && at_s > b->at_s)
        fprintf(to, "%.1f pictures/s", n / (at_s - b->at_s));
    else
        fputs("- pictures/s", to);
    if (b->known && n > 0)
        fprintf(to, ", %.1f ms each", (answered_ms - b->answered_ms) / n);
    *b = (struct before){ true, at_s, answered, answered_ms };
}

static void put_heading(FILE *to, const cJSON *status, struct before *b)
{
    const cJSON *node, *queue = status_list(status, "queue");
    int nodes = 0, up = 0;

    cJSON_ArrayForEach(node, status_list(status, "nodes")) {
        nodes++;
        up += status_true(node, "up");
    }
    fprintf(to, "%s: epoch %.0f, %d of %d nodes    ", status_text(status, "cluster"),
            status_number(status, "epoch"), up, nodes);
    put_rate(to, status_list(status, "counters"), b);
    fprintf(to, "    %.0f running, %.0f waiting\n", status_number(queue, "running"),
            status_number(queue, "waiting"));
}

static void add_temperature(struct table *t, const cJSON *node)
{
    const double c = status_number(node, "temperature_c");
    const char *mark = status_number(node, "throttled") > 0 ? "!" : "";

    if (isnan(c))
        table_add(t, "-%s", mark);
    else
        table_add(t, "%.1f%s", c, mark);
}

enum { FIGURES = 7 }; /* cells between the node's name and its temperature */

static void add_row(struct table *t, const cJSON *node, const char *model)
{
    const cJSON *f = status_figures(node, model);
    const double mega = 1e6, kilo = 1e3;

    table_add(t, "%s", status_text(node, "name"));
    if (!status_true(node, "up") || !f) {
        table_add(t, "down");
        for (int i = 1; i < FIGURES; i++)
            table_add(t, "-");
    } else {
        status_add_rows(t, f);
        table_add(t, "%.1f", status_number(f, "compute_ms"));
        table_add(t, "%.1f", status_number(f, "wait_ms"));
        table_add(t, "%.1f", status_number(f, "send_ms"));
        table_add(t, "%.1f", status_number(f, "sent_bytes") / kilo);
        table_add(t, "%.1f", status_number(f, "received_bytes") / kilo);
        table_add(t, "%.1f",
                  (status_number(f, "arena_bytes") + status_number(f, "weight_bytes")) / mega);
    }
    add_temperature(t, node);
}

static int put_model(FILE *to, const cJSON *status, const cJSON *model)
{
    static const char *const heading[] = { "node",        "rows",      "compute ms",
                                           "wait ms",     "send ms",   "sent kB",
                                           "received kB", "memory MB", "Celsius" };
    const char *name = status_text(model, "name");
    const cJSON *node;
    struct table t;

    fprintf(to, "\n%s (%s): %s\n", name, status_text(model, "task"), status_of_model(model));
    table_init(&t, "lrrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof heading[0]; i++)
        table_add(&t, "%s", heading[i]);
    cJSON_ArrayForEach(node, status_list(status, "nodes"))
        add_row(&t, node, name);
    const int rc = table_print(&t, to);
    table_done(&t);
    return rc;
}

/* One look, as a text that free() frees.  NULL when memory is short. */
static char *page_of(const cJSON *status, struct before *b)
{
    const cJSON *model;
    char *page = NULL;
    size_t len;
    FILE *to = open_memstream(&page, &len);
    int rc = 0;

    if (!to)
        return NULL;
    put_heading(to, status, b);
    cJSON_ArrayForEach(model, status_list(status, "models"))
        if (rc == 0)
            rc = put_model(to, status, model);
    if (fclose(to) == 0 && rc == 0)
        return page;
    free(page);
    return NULL;
}

/* On a terminal over the page before: from the upper left corner, every line to its end. */
static void show(const char *page, bool is_terminal)
{
    if (is_terminal)
        fputs("\x1b[H", stdout);
    for (; *page; page++) {
        if (*page == '\n' && is_terminal)
            fputs("\x1b[K", stdout);
        putchar(*page);
    }
    fputs(is_terminal ? "\x1b[J" : "\n", stdout);
    (void)fflush(stdout);
}

/* Looks once.  Returns 0 or a negative errno with a sentence. */
static int look(struct client *c, struct before *b, bool is_terminal, struct diag *why)
{
    cJSON *status;

    const int rc = status_get(c, &status, why);
    if (rc < 0)
        return rc;
    char *page = page_of(status, b);
    cJSON_Delete(status);
    if (!page)
        return diag(why, -ENOMEM, "memory is short");
    show(page, is_terminal);
    free(page);
    return 0;
}

int cmd_top(int argc, char **argv)
{
    struct options o = { .interval_s = 1 };
    struct before before = { 0 };
    struct diag why = { "" };
    struct client *c;
    int rc = 0;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    if (client_new(&c, &o.client, &why) < 0)
        return complain("%s", why.text);
    const bool is_terminal = isatty(STDOUT_FILENO);
    if (is_terminal)
        fputs("\x1b[2J", stdout);
    const struct timespec pause = { .tv_sec = (time_t)o.interval_s,
                                    .tv_nsec = (long)(fmod(o.interval_s, 1) * 1e9) };
    for (int32_t i = 0; rc == 0 && !ferror(stdout) && (o.count == 0 || i < o.count); i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        rc = look(c, &before, is_terminal, &why);
    }
    client_free(c);
    return rc < 0 ? complain("%s", why.text) : RESULT_OK;
}
