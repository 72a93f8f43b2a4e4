#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/pki.h"

enum {
    KEY_DIR = 300,
    KEY_HOST,
    KEY_CLUSTER,
    MAX_HOSTS = 16,
};

struct options {
    const char *action, *node, *dir, *cluster;
    const char *host[MAX_HOSTS];
    int nhosts;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case KEY_DIR:
        o->dir = arg;
        return 0;
    case KEY_CLUSTER:
        o->cluster = arg;
        return 0;
    case KEY_HOST:
        if (o->nhosts == MAX_HOSTS)
            argp_error(state, "--host: at most %d", MAX_HOSTS);
        o->host[o->nhosts++] = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0)
            o->action = arg;
        else if (state->arg_num == 1)
            o->node = arg;
        else
            argp_error(state, "'%s' is too much", arg);
        return 0;
    case ARGP_KEY_END:
        if (!o->action || (strcmp(o->action, "init") != 0 && strcmp(o->action, "add") != 0))
            argp_error(state, "expected init, or add and the name of a node");
        else if ((strcmp(o->action, "add") == 0) != (o->node != NULL))
            argp_error(state, o->node ? "init takes no node" : "add needs the name of a node");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "dir", KEY_DIR, "DIR", 0, "Where the files are (default: pki)", 0 },
    { "cluster", KEY_CLUSTER, "NAME", 0, "init: the cluster's name, for humans", 0 },
    { "host", KEY_HOST, "HOST", 0,
      "add: a name or address under which clients reach the node; may be repeated", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "init\nadd NODE",
    .doc =
        "Makes the keys and certificates of a cluster.\vinit makes the cluster's own certificate "
        "authority: DIR/ca.pem and DIR/ca.key.  add makes DIR/NODE with ca.pem, node.pem and "
        "node.key, which belong into /etc/splitd/tls of that node and nowhere else.  Whoever has "
        "ca.key can add nodes: keep it off the nodes.",
};

int cmd_pki(int argc, char **argv)
{
    struct options o = { .dir = "pki", .cluster = "" };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    const bool is_init = strcmp(o.action, "init") == 0;
    const int rc =
        is_init ? pki_init(o.dir, o.cluster, &why) : pki_add(o.dir, o.node, o.host, o.nhosts, &why);
    if (rc < 0)
        return complain("%s", why.text);
    if (is_init)
        printf("%s/ca.pem and %s/ca.key: now \"splitctl pki add NODE\" for every node\n", o.dir,
               o.dir);
    else
        printf("%s/%s: copy its files to /etc/splitd/tls of %s, then delete them here\n", o.dir,
               o.node, o.node);
    return RESULT_OK;
}
