#include "daemon/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void head(FILE *to, const char *name, const char *type, const char *help)
{
    fprintf(to, "# HELP splitd_%s %s\n# TYPE splitd_%s %s\n", name, help, name, type);
}

/* A value of a label: names may be any text. */
static void put_label(FILE *to, const char *name, const char *value)
{
    fprintf(to, "%s=\"", name);
    for (; *value; value++)
        if (*value == '\n')
            fputs("\\n", to);
        else
            fprintf(to, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    fputc('"', to);
}

/* ---- of the cluster */

static void put_cluster(FILE *to, const struct coordinator *c, const struct config *config)
{
    head(to, "info", "gauge", "Always 1; what the labels say.");
    fputs("splitd_info{", to);
    put_label(to, "version", SPLITD_VERSION);
    fputc(',', to);
    put_label(to, "cluster", config->cluster);
    fputc(',', to);
    put_label(to, "coordinator", config->node[config->coordinator].name);
    fputs("} 1\n", to);
    head(to, "epoch", "counter", "Changes of the set of nodes.");
    fprintf(to, "splitd_epoch %" PRIu32 "\n", coordinator_epoch(c));
}

static void put_requests(FILE *to, const struct coordinator *c, const struct config *config)
{
    struct coordinator_counts n;

    coordinator_counts(c, &n);
    head(to, "requests_total", "counter", "Requests that ended, by how.");
    fprintf(to,
            "splitd_requests_total{outcome=\"answered\"} %" PRIu64 "\n"
            "splitd_requests_total{outcome=\"refused\"} %" PRIu64 "\n"
            "splitd_requests_total{outcome=\"failed\"} %" PRIu64 "\n",
            n.answered, n.refused, n.failed);
    head(to, "request_duration_seconds", "summary", "From request to answer, of those answered.");
    fprintf(to,
            "splitd_request_duration_seconds_sum %.6f\n"
            "splitd_request_duration_seconds_count %" PRIu64 "\n",
            (double)n.answered_ns / 1e9, n.answered);
    head(to, "requests", "gauge", "Requests that are here now.");
    fprintf(to,
            "splitd_requests{state=\"waiting\"} %" PRId32 "\n"
            "splitd_requests{state=\"running\"} %" PRId32 "\n",
            n.waiting, n.running);
    head(to, "queue_limit", "gauge", "Requests that may wait.");
    fprintf(to, "splitd_queue_limit %" PRId32 "\n", config->queue);
    head(to, "frames_total", "counter", "Pictures that were started.");
    fprintf(to, "splitd_frames_total %" PRIu64 "\n", n.frames);
    head(to, "frames_repeated_total", "counter", "Of these, started again after a loss.");
    fprintf(to, "splitd_frames_repeated_total %" PRIu64 "\n", n.repeated);
    head(to, "halos_concealed_total", "counter", "Halos that were late, of pictures answered.");
    fprintf(to, "splitd_halos_concealed_total %" PRIu64 "\n", n.concealed);
}

static void put_models(FILE *to, const struct coordinator *c)
{
    struct model_info m;

    head(to, "model_ready", "gauge", "Whether the model can be asked.");
    for (int32_t i = 0; i < coordinator_models(c); i++) {
        coordinator_model(c, i, &m);
        fprintf(to, "splitd_model_ready{model=\"%s\"} %d\n", m.name, m.ready);
    }
}

/* ---- of each node, and of each model on it.  A row of a table is a metric; what is not known is
 * left out. */

struct metric {
    const char *name, *type, *help;
    /* False: not known. */
    bool (*value)(const struct node_info *n, double *value);
};

static bool is_up(const struct node_info *n, double *v)
{
    *v = n->up;
    return true;
}

static bool temperature(const struct node_info *n, double *v)
{
    *v = n->health.temperature_mc / 1e3;
    return n->up && n->health.temperature_mc != HEALTH_NO_TEMPERATURE;
}

static bool throttled(const struct node_info *n, double *v)
{
    *v = n->health.throttled;
    return n->up;
}

static bool link_sent(const struct node_info *n, double *v)
{
    *v = (double)n->link.sent_bytes;
    return true;
}

static bool link_received(const struct node_info *n, double *v)
{
    *v = (double)n->link.received_bytes;
    return true;
}

static bool compute(const struct node_info *n, double *v)
{
    *v = (double)n->last.compute_ns / 1e9;
    return true;
}

static bool waited(const struct node_info *n, double *v)
{
    *v = (double)n->last.wait_ns / 1e9;
    return true;
}

static bool sending(const struct node_info *n, double *v)
{
    *v = (double)n->last.send_ns / 1e9;
    return true;
}

static bool sent(const struct node_info *n, double *v)
{
    *v = (double)n->last.sent_bytes;
    return true;
}

static bool received(const struct node_info *n, double *v)
{
    *v = (double)n->last.received_bytes;
    return true;
}

static bool rows(const struct node_info *n, double *v)
{
    *v = n->row_hi - n->row_lo;
    return true;
}

static bool arena(const struct node_info *n, double *v)
{
    *v = (double)n->arena_bytes;
    return true;
}

static bool weights(const struct node_info *n, double *v)
{
    *v = (double)n->weight_bytes;
    return true;
}

static const struct metric of_node[] = {
    { "node_up", "gauge", "Whether the coordinator has a link to the node.", is_up },
    { "node_temperature_celsius", "gauge", "The processor's temperature.", temperature },
    { "node_throttled", "gauge", "Bits of vcgencmd get_throttled; 0: all is well.", throttled },
    { "link_sent_bytes_total", "counter", "From the coordinator to the node.", link_sent },
    { "link_received_bytes_total", "counter", "From the node to the coordinator.", link_received },
};

static const struct metric of_node_and_model[] = {
    { "frame_compute_seconds", "gauge", "Computing, in the last picture.", compute },
    { "frame_wait_seconds", "gauge", "Waiting for other nodes, in the last picture.", waited },
    { "frame_send_seconds", "gauge", "Handing over messages, in the last picture.", sending },
    { "frame_sent_bytes", "gauge", "Sent in the last picture.", sent },
    { "frame_received_bytes", "gauge", "Received in the last picture.", received },
    { "frame_rows", "gauge", "Rows of the first map that is cut.", rows },
    { "buffer_bytes", "gauge", "Memory for activations.", arena },
    { "weight_bytes", "gauge", "Memory for weights.", weights },
};

static void put_value(FILE *to, const struct metric *m, const char *model,
                      const struct node_info *n)
{
    double value;

    if (!m->value(n, &value))
        return;
    fprintf(to, "splitd_%s{node=\"%s\"", m->name, n->name);
    if (model)
        fprintf(to, ",model=\"%s\"", model);
    fprintf(to, "} %.9g\n", value);
}

static void put_node_metric(FILE *to, const struct metric *m, const struct coordinator *c,
                            int32_t nnodes)
{
    struct node_info n;

    head(to, m->name, m->type, m->help);
    for (int32_t i = 0; i < nnodes; i++) {
        coordinator_node(c, i, -1, &n);
        put_value(to, m, NULL, &n);
    }
}

static void put_share_metric(FILE *to, const struct metric *m, const struct coordinator *c,
                             int32_t nnodes)
{
    struct model_info model;
    struct node_info n;

    head(to, m->name, m->type, m->help);
    for (int32_t j = 0; j < coordinator_models(c); j++) {
        coordinator_model(c, j, &model);
        for (int32_t i = 0; i < nnodes; i++) {
            coordinator_node(c, i, j, &n);
            put_value(to, m, model.name, &n);
        }
    }
}

char *metrics_text(const struct coordinator *c, const struct config *config, size_t *len)
{
    char *text = NULL;
    FILE *to = open_memstream(&text, len);

    if (!to)
        return NULL;
    put_cluster(to, c, config);
    put_requests(to, c, config);
    put_models(to, c);
    for (size_t i = 0; i < sizeof of_node / sizeof of_node[0]; i++)
        put_node_metric(to, &of_node[i], c, config->nnodes);
    for (size_t i = 0; i < sizeof of_node_and_model / sizeof of_node_and_model[0]; i++)
        put_share_metric(to, &of_node_and_model[i], c, config->nnodes);
    const bool failed = ferror(to) != 0;
    if (fclose(to) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
