/* splitd: one node of a cluster, and on the coordinator's node the coordinator and its HTTP. */
#include <argp.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/log.h"
#include "daemon/node.h"
#include "daemon/notify.h"
#include "libsplit/resident.h"

enum {
    STOP_MS = 900,   /* after which a part that does not close is left behind */
    DRAIN_MS = 5000, /* requests that a reload lets end */
    TELL_MS = 1000,  /* systemd hears of a new status as often */
    STATUS_BYTES = 256,
};

/* A configuration that is refused stays refused: debian/splitd.service does not try again. */
enum { EXIT_USAGE = 2 };

struct options {
    const char *config, *node, *state;
    enum log_level log;
    bool check;
};

struct app {
    struct options options;
    struct config config[2]; /* the one in use, and room for the next */
    int current, self;
    uv_loop_t loop;
    uv_signal_t terminate, interrupt, hangup;
    uv_timer_t limit; /* of stopping */
    uv_timer_t tell;  /* systemd */
    int64_t watchdog_ms;
    char told[STATUS_BYTES];
    struct node *node;
    enum {
        RUNNING,
        RELOADING, /* the node is closing; the next configuration comes then */
        REVERTING, /* so is the one of a configuration that did not work */
        STOPPING
    } state;
    bool again; /* SIGHUP came while reloading */
    int status; /* of the process */
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
    { "node", 'n', "NAME", 0,
      "The node to be (default: the one called like this host, or with its address)", 0 },
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
           "SIGHUP: read the configuration again.\n"
           "Exit status: 0 after SIGTERM or SIGINT, 1 after a failure, 2 for wrong usage or a "
           "configuration that is refused.",
};

static const char *state_dir(const struct options *o)
{
    const char *systemd = getenv("STATE_DIRECTORY");
    if (o->state)
        return o->state;
    return systemd && systemd[0] ? systemd : "/var/lib/splitd";
}

/* ---- systemd */

static void tell_status(struct app *app)
{
    char text[STATUS_BYTES] = "";

    if (app->state != RUNNING)
        return;
    node_status(app->node, text, sizeof text);
    if (strcmp(text, app->told) != 0)
        notify("STATUS=%s", text);
    memcpy(app->told, text, sizeof text);
}

/* That this timer fires shows that the loop goes round. */
static void on_tell(uv_timer_t *t)
{
    struct app *app = t->data;

    if (app->watchdog_ms > 0)
        notify("WATCHDOG=1");
    tell_status(app);
}

static void tell_ready(struct app *app)
{
    notify("READY=1");
    app->told[0] = '\0';
    tell_status(app);
}

/* ---- stopping */

static void close_handles(struct app *app)
{
    uv_handle_t *const handles[] = { (uv_handle_t *)&app->terminate, (uv_handle_t *)&app->interrupt,
                                     (uv_handle_t *)&app->hangup, (uv_handle_t *)&app->limit,
                                     (uv_handle_t *)&app->tell };
    for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++)
        uv_close(handles[i], NULL);
}

static void on_limit(uv_timer_t *t)
{
    const struct app *app = t->data;
    log_event(LOG_WARN, "stop-forced", "after_ms=%d", STOP_MS);
    _exit(app->status);
}

static void on_stopped(void *ctx)
{
    struct app *app = ctx;
    app->node = NULL;
    close_handles(app);
}

static void stop(struct app *app)
{
    app->state = STOPPING;
    notify("STOPPING=1");
    uv_timer_start(&app->limit, on_limit, STOP_MS, 0);
    if (app->node)
        node_close(app->node, 0, on_stopped, app);
    else
        on_stopped(app);
}

static void on_signal(uv_signal_t *s, int signum)
{
    struct app *app = s->data;

    if (app->state == STOPPING)
        _exit(128 + signum);
    log_event(LOG_INFO, "stopping", "signal=%s", signum == SIGTERM ? "SIGTERM" : "SIGINT");
    stop(app);
}

/* ---- reading the configuration again.  Everything in the file may change: the node closes, once
 * what clients wait for has been answered, and a new one opens in the same process.  A file that
 * is refused changes nothing, and one that does not work (a port is taken) is given up for the
 * one before. */

static int open_node(struct app *app, struct diag *why)
{
    return node_open(&app->node, &app->loop, &app->config[app->current], app->self,
                     state_dir(&app->options), why);
}

/* Reads the file into `config`.  Returns the index of this node in it or a negative errno. */
static int load(const struct options *o, struct config *config, struct diag *why)
{
    const int rc = config_load(config, o->config, why);
    return rc < 0 ? rc : config_self(config, o->node, why);
}

static void reload(struct app *app);

static void reloaded(struct app *app)
{
    const struct config *config = &app->config[app->current];

    if (app->state == RELOADING)
        log_event(LOG_INFO, "reloaded", "cluster=%s nodes=%d models=%d", config->cluster,
                  config->nnodes, config->nmodels);
    app->state = RUNNING;
    tell_ready(app);
    if (app->again)
        reload(app);
}

static void on_node_closed(void *ctx)
{
    struct app *app = ctx;
    struct diag why = { "" };

    app->node = NULL;
    app->current = !app->current;
    app->self = config_self(&app->config[app->current], app->options.node, &why);
    if (app->self >= 0 && open_node(app, &why) == 0) {
        reloaded(app);
    } else if (app->state == RELOADING) {
        log_event(LOG_ERROR, "reload-failed",
                  "reason=\"%s\" action=\"back to the configuration before\"", why.text);
        app->state = REVERTING;
        if (app->node)
            node_close(app->node, 0, on_node_closed, app);
        else
            on_node_closed(app);
    } else {
        log_event(LOG_ERROR, "start-failed", "reason=\"%s\"", why.text);
        app->status = EXIT_FAILURE;
        stop(app);
    }
}

static void reload(struct app *app)
{
    struct diag why = { "" };

    app->again = false;
    notify_reloading();
    const struct config *now = &app->config[app->current];
    struct config *next = &app->config[!app->current];
    const int self = load(&app->options, next, &why);

    if (self < 0) {
        log_event(LOG_ERROR, "reload-refused", "reason=\"%s\" action=\"the old one stays\"",
                  why.text);
        tell_ready(app);
    } else if (memcmp(now->sha, next->sha, sizeof now->sha) == 0) {
        log_event(LOG_INFO, "reload-unneeded", "file=%s reason=\"it has not changed\"",
                  app->options.config);
        tell_ready(app);
    } else {
        log_event(LOG_INFO, "reloading", "file=%s", app->options.config);
        app->state = RELOADING;
        node_close(app->node, DRAIN_MS, on_node_closed, app);
    }
}

static void on_hangup(uv_signal_t *s, int signum)
{
    struct app *app = s->data;
    (void)signum;

    if (app->state == RUNNING)
        reload(app);
    else
        app->again = true;
}

/* ---- starting */

static int open_loop(struct app *app, struct diag *why)
{
    int rc = uv_loop_init(&app->loop);

    if (rc < 0)
        return diag(why, rc, "no event loop: %s", uv_strerror(rc));
    uv_timer_init(&app->loop, &app->limit);
    uv_timer_init(&app->loop, &app->tell);
    uv_signal_init(&app->loop, &app->terminate);
    uv_signal_init(&app->loop, &app->interrupt);
    uv_signal_init(&app->loop, &app->hangup);
    app->limit.data = app->tell.data = app->terminate.data = app->interrupt.data =
        app->hangup.data = app;
    uv_signal_start(&app->terminate, on_signal, SIGTERM);
    uv_signal_start(&app->interrupt, on_signal, SIGINT);
    uv_signal_start(&app->hangup, on_hangup, SIGHUP);
    return 0;
}

static void tell_regularly(struct app *app)
{
    app->watchdog_ms = notify_watchdog_ms();
    const uint64_t half = (uint64_t)app->watchdog_ms / 2;
    const uint64_t every = half > 0 && half < TELL_MS ? half : TELL_MS;
    uv_timer_start(&app->tell, on_tell, every, every);
}

static int run(struct app *app, struct diag *why)
{
    int rc = open_loop(app, why);
    if (rc < 0)
        return rc;
    rc = open_node(app, why);
    if (rc < 0) {
        app->status = EXIT_FAILURE;
        stop(app);
    } else {
        tell_ready(app);
        tell_regularly(app);
    }
    (void)uv_run(&app->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&app->loop); /* the loop ended because nothing is open in it */
    return rc;
}

/* Plans are made and freed by many threads, some KB to MB each.  With glibc's arena per thread a
 * coordinator went from 18 to 24 MB while ten nodes were lost (scripts/soak), with two arenas it
 * stays at 18.  Frames allocate nothing, so threads hardly ever meet in an arena. */
enum { MALLOC_ARENAS = 2 };

int main(int argc, char **argv)
{
    (void)mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    resident_keep(true);
    struct app *app = calloc(1, sizeof *app);
    struct diag why = { "" };
    int rc;

    if (!app) {
        fprintf(stderr, "splitd: out of memory\n");
        return EXIT_FAILURE;
    }
    app->options.log = LOG_INFO;
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &app->options);
    log_init(app->options.log);
    signal(SIGPIPE, SIG_IGN);

    const struct config *config = &app->config[app->current];
    rc = app->self = load(&app->options, &app->config[app->current], &why);
    if (rc < 0)
        app->status = EXIT_USAGE;
    else if (app->options.check)
        printf("%s: cluster \"%s\", %d nodes, %d models: fine\n", app->options.config,
               config->cluster, config->nnodes, config->nmodels);
    else if ((rc = run(app, &why)) < 0)
        app->status = EXIT_FAILURE;
    if (rc < 0)
        log_failure(why.text);
    rc = app->status;
    free(app);
    return rc;
}
