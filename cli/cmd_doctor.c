#include <argp.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/doctor.h"
#include "cli/parse.h"
#include "cli/status.h"
#include "daemon/secret.h"
#include "libsplit/gemm.h"

enum { KEY_JSON = 300, KEY_ROOT, KEY_TIMEOUT };

/* Exit codes beside RESULT_OK. */
enum { RESULT_WARNINGS = 3, RESULT_ERRORS = 4 };

struct options {
    const char *config, *node, *root;
    double timeout_s;
    bool json;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'c':
        o->config = arg;
        return 0;
    case 'n':
        o->node = arg;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case KEY_ROOT:
        o->root = arg;
        return 0;
    case KEY_TIMEOUT:
        if (!parse_float(arg, 0.1, 60, &o->timeout_s))
            argp_error(state, "--timeout: '%s' is not a number of seconds from 0.1 to 60", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is too much", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "config", 'c', "FILE", 0, "The cluster (default: /etc/splitd/cluster.json)", 0 },
    { "node", 'n', "NAME", 0, "The node that this machine is (default: as splitd finds it)", 0 },
    { "timeout", KEY_TIMEOUT, "S", 0, "Seconds to wait for each node (default 2)", 0 },
    { "json", KEY_JSON, NULL, 0, "Print JSON", 0 },
    { "root", KEY_ROOT, "DIR", 0, "Look for /sys, /proc and models below DIR", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .doc =
        "Says in plain words what is wrong with a cluster, seen from one of its machines: nodes "
        "that do not answer or do not agree, slow links, weak supplies, heat, memory.\v"
        "Exit status: 0 all is well (or nothing but notes), 3 warnings: it works, but not as well "
        "as it could; 4 errors: something does not work; 1 if this could not be found out, 2 for "
        "wrong usage.",
};

static const struct {
    const char *json, *human;
} severities[] = {
    [DOCTOR_FINE] = { "fine", "ok" },
    [DOCTOR_NOTE] = { "note", "note" },
    [DOCTOR_WARNING] = { "warning", "warning" },
    [DOCTOR_ERROR] = { "error", "ERROR" },
};

/* ---- looking */

/* NULL if there is none. */
static const char *file_of(const char *path, const char *node, char file[PATH_MAX])
{
    return path[0] != '\0' && secret_file(path, node, file) == 0 ? file : NULL;
}

/* The coordinator's API, as its own machine or, where it listens to more, any other reaches it. */
static void ask_coordinator(struct doctor *d, double timeout_s)
{
    const struct config *c = d->config;
    const char *self = d->self >= 0 ? c->node[d->self].name : "";
    char ca[PATH_MAX], token[PATH_MAX];
    const bool here = d->self == c->coordinator;
    const bool anywhere = strcmp(c->http_host, "0.0.0.0") == 0 || strcmp(c->http_host, "::") == 0;
    char host[CONFIG_ADDRESS_MAX + 1], url[CONFIG_ADDRESS_MAX + 40];
    uint16_t port;
    struct client *client;

    if (anywhere && here)
        snprintf(host, sizeof host, "127.0.0.1");
    else if (!anywhere || !config_host_port(c->node[c->coordinator].address, host, &port))
        snprintf(host, sizeof host, "%s", c->http_host);
    if (!here && (strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
                  strcmp(host, "::1") == 0))
        return; /* it answers nobody but itself */
    snprintf(url, sizeof url, strchr(host, ':') ? "http%s://[%s]:%u" : "http%s://%s:%u",
             c->secure ? "s" : "", host, c->http_port);
    const struct client_options o = { .server = url,
                                      .timeout_s = timeout_s,
                                      .ca = file_of(c->tls.ca, self, ca),
                                      .token = file_of(c->http_token, self, token) };
    if (client_new(&client, &o, &d->status_why) < 0)
        return;
    if (status_get(client, &d->status, &d->status_why) < 0)
        d->status = NULL;
    client_free(client);
}

static void examine(struct doctor *d, struct config *config, const struct options *o)
{
    d->config_file = o->config;
    d->root = o->root;
    d->blas_core = gemm_core();
    d->self = -1;
    if (config_load(config, o->config, &d->config_why) == 0) {
        d->config = config;
        d->self = config_self(config, o->node, &d->config_why);
        if (config->secure && d->self >= 0)
            d->tls_error = tls_open(&d->tls, config, d->self, &d->tls_why);
        const struct greet_way way = { .secure = config->secure,
                                       .tls = d->tls,
                                       .timeout_ms = (int)(o->timeout_s * 1e3) };
        for (int32_t i = 0; i < config->nnodes; i++)
            greet(&d->greeting[i], &config->node[i], &way);
        if (!config->secure || d->tls)
            ask_coordinator(d, o->timeout_s);
    }
    doctor_find_links(d);
    doctor_run(d);
}

/* ---- saying */

static int print_json(const struct doctor *d)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(json, "findings");

    cJSON_AddStringToObject(json, "severity", severities[doctor_worst(d)].json);
    for (int32_t i = 0; i < d->n; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "check", d->finding[i].check);
        cJSON_AddStringToObject(one, "severity", severities[d->finding[i].severity].json);
        cJSON_AddStringToObject(one, "text", d->finding[i].text);
        cJSON_AddItemToArray(list, one);
    }
    char *text = json ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (!text)
        return -ENOMEM;
    printf("%s\n", text);
    cJSON_free(text);
    return 0;
}

static void print_findings(const struct doctor *d)
{
    int count[DOCTOR_ERROR + 1] = { 0 };

    for (int32_t i = 0; i < d->n; i++) {
        const struct finding *f = &d->finding[i];
        count[f->severity]++;
        printf("%-8s %s: %s\n", severities[f->severity].human, f->check, f->text);
    }
    printf("%d error%s, %d warning%s, %d note%s\n", count[DOCTOR_ERROR],
           plural(count[DOCTOR_ERROR]), count[DOCTOR_WARNING], plural(count[DOCTOR_WARNING]),
           count[DOCTOR_NOTE], plural(count[DOCTOR_NOTE]));
}

int cmd_doctor(int argc, char **argv)
{
    struct options o = { .config = "/etc/splitd/cluster.json", .root = "", .timeout_s = 2 };
    int result = RESULT_OK;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    struct doctor *d = calloc(1, sizeof *d);
    struct config *config = calloc(1, sizeof *config);
    if (d && config) {
        examine(d, config, &o);
        result = doctor_worst(d) == DOCTOR_ERROR     ? RESULT_ERRORS
                 : doctor_worst(d) == DOCTOR_WARNING ? RESULT_WARNINGS
                                                     : RESULT_OK;
        if (!o.json)
            print_findings(d);
    }
    if (!d || !config || (o.json && print_json(d) < 0))
        result = complain("memory is short");
    if (d) {
        cJSON_Delete(d->status);
        tls_free(d->tls);
    }
    free(config);
    free(d);
    return result;
}
