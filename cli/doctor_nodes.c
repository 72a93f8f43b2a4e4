/* Who answers, and whether all agree. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/doctor.h"
#include "cli/status.h"

/* More than this, and certificates and logs of different nodes contradict each other. */
enum { SKEW_MS = 2000 };
/* Time enough to make new certificates. */
enum { SOON_DAYS = 30 };

void doctor_config(struct doctor *d)
{
    if (!d->config || d->self < 0)
        doctor_say(d, DOCTOR_ERROR, "%s", d->config_why.text);
    else
        doctor_say(d, DOCTOR_FINE, "%s: cluster %s, %d node%s, %d model%s; this machine is %s",
                   d->config_file, d->config->cluster, d->config->nnodes, plural(d->config->nnodes),
                   d->config->nmodels, plural(d->config->nmodels), d->config->node[d->self].name);
}

static int32_t node_count(const struct doctor *d) { return d->config ? d->config->nnodes : 0; }

static const char *name_of(const struct doctor *d, int32_t i) { return d->config->node[i].name; }

static bool answered(const struct doctor *d, int32_t i)
{
    return d->greeting[i].result == GREET_OK;
}

static void say_unreachable(struct doctor *d, int32_t i)
{
    const char *name = name_of(d, i), *address = d->config->node[i].address;
    const int error = d->greeting[i].error;

    if (error == 0)
        doctor_say(d, DOCTOR_ERROR, "%s: the host in %s is not known here", name, address);
    else if (i == d->self)
        doctor_say(d, DOCTOR_ERROR,
                   "%s: splitd does not run on this machine (%s: %s): systemctl status splitd",
                   name, address, strerror(error));
    else if (error == ECONNREFUSED)
        doctor_say(d, DOCTOR_ERROR,
                   "%s: the machine is there, but no splitd at %s: systemctl status splitd there",
                   name, address);
    else
        doctor_say(d, DOCTOR_ERROR,
                   "%s: %s cannot be reached (%s): power, cable, address, firewall?", name, address,
                   strerror(error));
}

void doctor_nodes(struct doctor *d)
{
    for (int32_t i = 0; i < node_count(d); i++) {
        const struct greeting *g = &d->greeting[i];
        switch (g->result) {
        case GREET_UNREACHABLE:
            say_unreachable(d, i);
            break;
        case GREET_SILENT:
            doctor_say(d, DOCTOR_ERROR, "%s: what is at %s is no splitd, or it hangs",
                       name_of(d, i), d->config->node[i].address);
            break;
        case GREET_CONNECTED:
            doctor_say(d, DOCTOR_FINE,
                       "%s takes connections; without this node's key it cannot be asked more",
                       name_of(d, i));
            break;
        case GREET_OTHER_VERSION:
            doctor_say(d, DOCTOR_ERROR,
                       "%s: speaks another version of the protocol: install the same package on "
                       "all nodes",
                       name_of(d, i));
            break;
        case GREET_NO_TLS:
            doctor_say(d, DOCTOR_ERROR,
                       "%s: what is at %s %s: its cluster.json has no TLS, or its certificate is "
                       "of another authority",
                       name_of(d, i), d->config->node[i].address, g->problem);
            break;
        case GREET_STRANGER:
            doctor_say(d, DOCTOR_ERROR,
                       "%s: what is at %s %s: no node links with it; is the address right, and are "
                       "the files those of splitctl pki add %s?",
                       name_of(d, i), d->config->node[i].address, g->problem, name_of(d, i));
            break;
        case GREET_OK:
            if (strcmp(g->hello.node, name_of(d, i)) != 0)
                doctor_say(d, DOCTOR_ERROR, "%s: at %s answers a node that is called %s",
                           name_of(d, i), d->config->node[i].address, g->hello.node);
            else
                doctor_say(d, DOCTOR_FINE, "%s answers in %.1f ms", name_of(d, i),
                           (double)g->rtt_us / 1e3);
        }
    }
}

void doctor_versions(struct doctor *d)
{
    for (int32_t i = 0; i < node_count(d); i++)
        if (answered(d, i) && strcmp(d->greeting[i].hello.version, SPLITD_VERSION) != 0)
            doctor_say(d, DOCTOR_WARNING, "%s runs version %s, and this is %s", name_of(d, i),
                       d->greeting[i].hello.version, SPLITD_VERSION);
}

void doctor_same_config(struct doctor *d)
{
    for (int32_t i = 0; i < node_count(d); i++) {
        const struct msg_hello *hello = &d->greeting[i].hello;
        if (!answered(d, i))
            continue;
        if (strcmp(hello->cluster, d->config->cluster) != 0)
            doctor_say(d, DOCTOR_ERROR, "%s belongs to another cluster: %s", name_of(d, i),
                       hello->cluster);
        else if (memcmp(hello->config, d->config->sha, sizeof hello->config) != 0)
            doctor_say(d, DOCTOR_WARNING,
                       "%s runs with another configuration than %s: copy the same file to every "
                       "node, then systemctl reload splitd",
                       name_of(d, i), d->config_file);
    }
}

/* ---- certificates */

static void say_until(struct doctor *d, int32_t node, int64_t until)
{
    const int64_t left_days = (until - (int64_t)time(NULL)) / 86400;
    const time_t end = until;
    char day[32];
    struct tm tm;

    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&end, &tm));
    if (until < (int64_t)time(NULL))
        doctor_say(d, DOCTOR_ERROR,
                   "the certificate of %s was valid until %s: nodes refuse new links with it; "
                   "splitctl pki add makes another one",
                   name_of(d, node), day);
    else if (left_days < SOON_DAYS)
        doctor_say(d, DOCTOR_WARNING,
                   "the certificate of %s is valid until %s, %" PRId64 " more days: splitctl pki "
                   "add makes another one",
                   name_of(d, node), day, left_days);
    else
        doctor_say(d, DOCTOR_FINE, "the certificate of %s is valid until %s", name_of(d, node),
                   day);
}

void doctor_certificates(struct doctor *d)
{
    if (!d->config || !d->config->secure || d->self < 0)
        return;
    if (d->tls)
        say_until(d, d->self, d->tls->until);
    else
        doctor_say(d, d->tls_error == -EACCES ? DOCTOR_NOTE : DOCTOR_ERROR, "%s%s", d->tls_why.text,
                   d->tls_error == -EACCES ? ": with sudo, doctor asks nodes as nodes do" : "");
    for (int32_t i = 0; i < node_count(d); i++)
        if (i != d->self && d->greeting[i].until != 0)
            say_until(d, i, d->greeting[i].until);
}

void doctor_clocks(struct doctor *d)
{
    for (int32_t i = 0; i < node_count(d); i++) {
        const struct greeting *g = &d->greeting[i];
        const int64_t off_ms = llabs(g->skew_ms) - g->rtt_us / 2000;
        if (answered(d, i) && off_ms > SKEW_MS)
            doctor_say(d, DOCTOR_WARNING,
                       "the clock of %s is %.1f s %s this machine's: timedatectl", name_of(d, i),
                       (double)llabs(g->skew_ms) / 1e3, g->skew_ms > 0 ? "ahead of" : "behind");
    }
}

/* ---- what the coordinator says */

static void say_links(struct doctor *d)
{
    const cJSON *node;
    int32_t i = 0;

    cJSON_ArrayForEach(node, status_list(d->status, "nodes")) {
        if (i < node_count(d) && answered(d, i) && !status_true(node, "up"))
            doctor_say(d, DOCTOR_ERROR,
                       "%s answers, but has no link to the coordinator: journalctl -u splitd on "
                       "both",
                       status_text(node, "name"));
        i++;
    }
}

static void say_models(struct doctor *d)
{
    const cJSON *model;

    cJSON_ArrayForEach(model, status_list(d->status, "models")) {
        const char *name = status_text(model, "name");
        if (status_true(model, "ready"))
            doctor_say(d, DOCTOR_FINE, "model %s is ready", name);
        else if (status_text(model, "problem")[0] != '\0')
            doctor_say(d, DOCTOR_ERROR, "model %s: %s", name, status_text(model, "problem"));
        else
            doctor_say(d, DOCTOR_NOTE, "model %s is still being loaded", name);
    }
}

void doctor_coordinator(struct doctor *d)
{
    if (!d->status) {
        if (d->status_why.text[0] != '\0')
            doctor_say(
                d, d->self >= 0 && d->config->coordinator == d->self ? DOCTOR_ERROR : DOCTOR_NOTE,
                "the coordinator cannot be asked: %s", d->status_why.text);
        return;
    }
    say_links(d);
    say_models(d);
}
