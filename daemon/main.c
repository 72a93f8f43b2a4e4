/* splitd: one node of a cluster, and on the coordinator's node the coordinator and its HTTP. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/api.h"
#include "daemon/log.h"
#include "daemon/mesh.h"
#include "daemon/store.h"
#include "daemon/worker.h"

enum { STOP_MS = 900 }; /* after which a part that does not close is left behind */

struct options {
    const char *config, *node, *state;
    enum log_level log;
    bool check;
};

struct app {
    struct options options;
    struct config config;
    int32_t self;
    uv_loop_t loop;
    uv_signal_t terminate, interrupt;
    uv_timer_t watchdog;
    struct store *store;
    struct worker *worker;
    struct mesh *mesh;
    struct coordinator *coordinator; /* these three: on the coordinator's node */
    struct api *api;
    struct http_server *http;
    bool stopping;
    int to_close; /* parts whose `closed` has not come, and one for who counts them */
    int status;
};

/* ---- options */

const char *argp_program_version = "splitd " SPLITD_VERSION;

static int parse_level(const char *text)
{
    static const char *const levels[] = { "debug", "info", "warn", "error" };
    for (int i = 0; i < 4; i++)
        if (strcmp(text, levels[i]) == 0)
            return i;
    return -EINVAL;
}

enum { OPTION_STATE = 256, OPTION_LOG, OPTION_CHECK };

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    int level;

    switch (key) {
    case 'c':
        o->config = arg;
        return 0;
    case 'n':
        o->node = arg;
        return 0;
    case OPTION_STATE:
        o->state = arg;
        return 0;
    case OPTION_LOG:
        level = parse_level(arg);
        if (level < 0)
            argp_error(state, "--log %s: expected debug, info, warn or error", arg);
        o->log = (enum log_level)level;
        return 0;
    case OPTION_CHECK:
        o->check = true;
        return 0;
    case ARGP_KEY_END:
        if (!o->config)
            argp_error(state, "--config FILE is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    { "config", 'c', "FILE", 0, "The cluster's cluster.json, the same on every node", 0 },
    { "node", 'n', "NAME", 0, "The node to be (default: the one called like this host)", 0 },
    { "state", OPTION_STATE, "DIR", 0,
      "Where models are kept (default: $STATE_DIRECTORY, else /var/lib/splitd)", 0 },
    { "log", OPTION_LOG, "LEVEL", 0, "debug, info, warn or error (default: info)", 0 },
    { "check", OPTION_CHECK, NULL, 0, "Check the configuration and exit", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = option_table,
    .parser = parse_option,
    .doc = "Runs one node of a cluster that computes a neural network together.\v"
           "Exit status: 0 after SIGTERM or SIGINT, 1 after a failure, 2 for wrong usage.",
};

static const char *state_dir(const struct options *o)
{
    const char *systemd = getenv("STATE_DIRECTORY");
    if (o->state)
        return o->state;
    return systemd && systemd[0] ? systemd : "/var/lib/splitd";
}

/* ---- who gets what from the mesh */

static bool is_for_coordinator(const struct header *h)
{
    return h->type == MSG_MODEL_STATE || h->type == MSG_PLAN_ACK || h->type == MSG_FRAME_DONE;
}

static void on_up(void *ctx, int32_t node, const struct msg_hello *hello)
{
    struct app *app = ctx;
    if (app->coordinator)
        coordinator_up(app->coordinator, node, hello);
}

static void on_down(void *ctx, int32_t node, const char *why)
{
    struct app *app = ctx;
    worker_down(app->worker, node);
    if (app->coordinator)
        coordinator_down(app->coordinator, node, why);
}

static void on_message(void *ctx, int32_t node, const struct header *h, const uint8_t *body)
{
    struct app *app = ctx;

    if (!is_for_coordinator(h))
        worker_message(app->worker, node, h, body);
    else if (app->coordinator)
        coordinator_message(app->coordinator, node, h, body);
    else
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not the coordinator\"",
                  app->config.node[node].name, (int)h->type);
}

static uint8_t *on_claim(void *ctx, int32_t node, const struct header *h)
{
    struct app *app = ctx;

    if (h->flags & HEADER_TO_HOST)
        return app->coordinator ? coordinator_claim(app->coordinator, node, h) : NULL;
    return worker_claim(app->worker, node, h);
}

static void on_arrived(void *ctx, int32_t node, const struct header *h)
{
    struct app *app = ctx;
    if (h->flags & HEADER_TO_HOST)
        coordinator_arrived(app->coordinator, node, h);
    else
        worker_arrived(app->worker, node, h);
}

static void on_failed(void *ctx, int32_t node, const struct header *h)
{
    struct app *app = ctx;
    if (h->flags & HEADER_TO_HOST)
        coordinator_failed(app->coordinator, node, h);
    else
        worker_failed(app->worker, node, h);
}

/* ---- stopping.  First the clients get their answers and the peers our leave; then nothing
 * comes from the mesh any more and the rest can close. */

static void stop_end(void *ctx)
{
    struct app *app = ctx;

    if (--app->to_close > 0)
        return;
    mesh_free(app->mesh);
    coordinator_free(app->coordinator);
    api_free(app->api);
    store_close(app->store);
    uv_close((uv_handle_t *)&app->terminate, NULL);
    uv_close((uv_handle_t *)&app->interrupt, NULL);
    uv_close((uv_handle_t *)&app->watchdog, NULL);
}

static void stop_rest(void *ctx)
{
    struct app *app = ctx;

    if (--app->to_close > 0)
        return;
    app->to_close = 1 + (app->http != NULL) + (app->worker != NULL);
    if (app->http)
        http_close(app->http, stop_end, app);
    if (app->worker)
        worker_close(app->worker, stop_end, app);
    stop_end(app);
}

static void on_watchdog(uv_timer_t *t)
{
    const struct app *app = t->data;
    log_event(LOG_WARN, "stop-forced", "after_ms=%d", STOP_MS);
    _exit(app->status);
}

static void stop(struct app *app)
{
    app->stopping = true;
    uv_timer_start(&app->watchdog, on_watchdog, STOP_MS, 0);
    app->to_close = 1 + (app->coordinator != NULL) + (app->mesh != NULL);
    if (app->api)
        api_stop(app->api);
    if (app->coordinator)
        coordinator_close(app->coordinator, stop_rest, app);
    if (app->mesh)
        mesh_close(app->mesh, stop_rest, app);
    stop_rest(app);
}

static void on_signal(uv_signal_t *s, int signum)
{
    struct app *app = s->data;

    if (app->stopping)
        _exit(128 + signum);
    log_event(LOG_INFO, "stopping", "signal=%s", signum == SIGTERM ? "SIGTERM" : "SIGINT");
    stop(app);
}

/* ---- starting */

static int start_coordinator(struct app *app, struct diag *why)
{
    int rc = coordinator_new(&app->coordinator, &app->loop, &app->config, why);
    if (rc == 0 && api_new(&app->api, &app->loop, app->coordinator, &app->config) < 0)
        rc = diag(why, -ENOMEM, "out of memory");
    return rc;
}

static int start(struct app *app, struct diag *why)
{
    const struct config *config = &app->config;
    const struct mesh_events events = { .ctx = app,
                                        .up = on_up,
                                        .down = on_down,
                                        .message = on_message,
                                        .claim = on_claim,
                                        .arrived = on_arrived,
                                        .failed = on_failed };
    const bool coordinates = app->self == config->coordinator;

    int rc = store_open(&app->store, state_dir(&app->options), why);
    if (rc == 0)
        rc = worker_new(&app->worker, &app->loop, config, app->self, app->store, why);
    if (rc == 0 && coordinates)
        rc = start_coordinator(app, why);
    if (rc < 0)
        return rc;

    rc = mesh_open(&app->mesh, &app->loop, config, app->self, &events, why);
    if (rc < 0)
        return rc;
    worker_attach(app->worker, app->mesh);
    if (!coordinates) {
        log_event(LOG_INFO, "ready", "node=%s", config->node[app->self].name);
        return 0;
    }
    coordinator_attach(app->coordinator, app->mesh);
    rc = http_open(&app->http, &app->loop, config->http_host, config->http_port, API_MAX_BODY,
                   api_handle, app->api, why);
    if (rc == 0)
        log_event(LOG_INFO, "ready", "node=%s http=%s:%u", config->node[app->self].name,
                  config->http_host, http_port(app->http));
    return rc;
}

static int open_loop(struct app *app, struct diag *why)
{
    int rc = uv_loop_init(&app->loop);

    if (rc < 0)
        return diag(why, rc, "no event loop: %s", uv_strerror(rc));
    uv_timer_init(&app->loop, &app->watchdog);
    uv_signal_init(&app->loop, &app->terminate);
    uv_signal_init(&app->loop, &app->interrupt);
    app->watchdog.data = app->terminate.data = app->interrupt.data = app;
    uv_signal_start(&app->terminate, on_signal, SIGTERM);
    uv_signal_start(&app->interrupt, on_signal, SIGINT);
    return 0;
}

static int run(struct app *app, struct diag *why)
{
    int rc = open_loop(app, why);
    if (rc < 0)
        return rc;
    rc = start(app, why);
    if (rc < 0) {
        app->status = EXIT_FAILURE;
        stop(app);
    }
    (void)uv_run(&app->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&app->loop); /* the loop ended because nothing is open in it */
    return rc;
}

int main(int argc, char **argv)
{
    struct app *app = calloc(1, sizeof *app);
    struct diag why = { "" };
    int rc;

    if (!app) {
        fprintf(stderr, "splitd: out of memory\n");
        return EXIT_FAILURE;
    }
    app->options.log = LOG_INFO;
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &app->options);
    log_init(app->options.log);
    signal(SIGPIPE, SIG_IGN);

    rc = config_load(&app->config, app->options.config, &why);
    if (rc == 0)
        rc = app->self = config_self(&app->config, app->options.node, &why);
    if (rc >= 0 && app->options.check)
        printf("%s: cluster \"%s\", %d nodes, %d models: fine\n", app->options.config,
               app->config.cluster, app->config.nnodes, app->config.nmodels);
    else if (rc >= 0)
        rc = run(app, &why);
    if (rc < 0)
        fprintf(stderr, "splitd: %s\n", why.text);
    free(app);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
