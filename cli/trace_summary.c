#include "cli/trace_summary.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "tiling/trace.h"

enum { WORST_WAITS = 10, MAX_PROCESSES = PLAN_MAX_NODES + 1, THREAD_HOST = 2 };

/* One bar of the trace, times in ms. */
struct bar {
    enum trace_kind kind;
    bool by_host;
    int process; /* index in summary.process */
    int transfer;
    double start, length, bytes;
    const char *name, *peer;
};

struct process {
    int pid;
    const char *name;
    double offset_us, error_us; /* error < 0: not known */
    double ms[TRACE_KINDS];     /* of the node */
    double host_ms[TRACE_KINDS];
    double late_ms; /* of the waits: until the message was sent */
    double bytes;
    int messages;
    bool is_node;
};

struct summary {
    int nprocesses;
    struct process process[MAX_PROCESSES];
    int nbars;
    struct bar *bar;
};

/* ---- reading */

static const cJSON *member(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = member(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static const char *text(const cJSON *o, const char *key)
{
    const char *v = cJSON_GetStringValue(member(o, key));
    return v ? v : "";
}

/* The process with number `pid`; a new one if need be, NULL when there are too many. */
static struct process *process_of(struct summary *s, int pid)
{
    for (int i = 0; i < s->nprocesses; i++)
        if (s->process[i].pid == pid)
            return &s->process[i];
    if (s->nprocesses == MAX_PROCESSES)
        return NULL;
    struct process *p = &s->process[s->nprocesses++];
    *p = (struct process){ .pid = pid, .name = "?", .error_us = -1 };
    return p;
}

static void read_metadata(struct process *p, const cJSON *e)
{
    const cJSON *args = member(e, "args");
    if (strcmp(text(e, "name"), "process_name") == 0)
        p->name = text(args, "name");
    if (strcmp(text(e, "name"), "splitd_clock") == 0) {
        p->offset_us = number(args, "offset_us");
        p->error_us = number(args, "error_us");
    }
}

static int kind_of(const char *name)
{
    for (int k = 0; k < TRACE_KINDS; k++)
        if (strcmp(name, trace_kind_name((enum trace_kind)k)) == 0)
            return k;
    return -1;
}

static void read_bar(struct summary *s, struct process *p, const cJSON *e)
{
    const cJSON *args = member(e, "args");
    const int kind = kind_of(text(e, "cat"));
    if (kind < 0)
        return; /* what the host does beside its program: see print_host() */
    s->bar[s->nbars++] = (struct bar){ .kind = (enum trace_kind)kind,
                                       .by_host = number(e, "tid") == THREAD_HOST,
                                       .process = (int)(p - s->process),
                                       .transfer = (int)number(args, "transfer"),
                                       .start = number(e, "ts") / 1e3,
                                       .length = number(e, "dur") / 1e3,
                                       .bytes = number(args, "bytes"),
                                       .name = text(e, "name"),
                                       .peer = text(args, "peer") };
}

static int read_trace(struct summary *s, const cJSON *trace, struct diag *why)
{
    const cJSON *events = member(trace, "traceEvents"), *e;

    if (!cJSON_IsArray(events))
        return diag(why, -EREMOTEIO, "what came is no trace");
    s->bar = calloc((size_t)cJSON_GetArraySize(events) + 1, sizeof *s->bar);
    if (!s->bar)
        return diag(why, -ENOMEM, "memory is short for the summary");
    cJSON_ArrayForEach(e, events) {
        struct process *p = process_of(s, (int)number(e, "pid"));
        if (p && strcmp(text(e, "ph"), "M") == 0)
            read_metadata(p, e);
        if (p && strcmp(text(e, "ph"), "X") == 0)
            read_bar(s, p, e);
    }
    return 0;
}

/* ---- sums */

static const struct bar *sent(const struct summary *s, int transfer)
{
    for (int i = 0; i < s->nbars; i++)
        if (s->bar[i].kind == TRACE_SEND && s->bar[i].transfer == transfer)
            return &s->bar[i];
    return NULL;
}

/* How much of the wait had passed when the message was sent. */
static double late(const struct summary *s, const struct bar *wait)
{
    const struct bar *b = sent(s, wait->transfer);
    return b ? fmin(fmax(b->start - wait->start, 0), wait->length) : 0;
}

static void add_up(struct summary *s)
{
    for (int i = 0; i < s->nbars; i++) {
        const struct bar *b = &s->bar[i];
        struct process *p = &s->process[b->process];
        (b->by_host ? p->host_ms : p->ms)[b->kind] += b->length;
        if (b->by_host)
            continue;
        p->is_node = true;
        if (b->kind == TRACE_WAIT)
            p->late_ms += late(s, b);
        if (b->kind == TRACE_SEND) {
            p->messages++;
            p->bytes += b->bytes;
        }
    }
}

/* ---- printing */

static void add_clock(struct table *t, const struct process *p)
{
    if (p->error_us < 0)
        table_add(t, "unknown");
    else
        table_add(t, "%+.0f +- %.0f us", p->offset_us, p->error_us);
}

static int print_nodes(const struct summary *s, FILE *to)
{
    static const char *const heading[] = { "node",       "clock", "compute", "wait",
                                           "of it late", "pack",  "unpack",  "send",
                                           "queue",      "sent",  "bytes" };
    struct table t;

    table_init(&t, "lrrrrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof heading[0]; i++)
        table_add(&t, "%s", heading[i]);
    for (int i = 0; i < s->nprocesses; i++) {
        const struct process *p = &s->process[i];
        if (!p->is_node)
            continue;
        table_add(&t, "%s", p->name);
        add_clock(&t, p);
        table_add(&t, "%.3f", p->ms[TRACE_RUN]);
        table_add(&t, "%.3f", p->ms[TRACE_WAIT]);
        table_add(&t, "%.3f", p->late_ms);
        table_add(&t, "%.3f", p->ms[TRACE_PACK]);
        table_add(&t, "%.3f", p->ms[TRACE_UNPACK]);
        table_add(&t, "%.3f", p->ms[TRACE_SEND]);
        table_add(&t, "%.3f", p->ms[TRACE_QUEUE]);
        table_add(&t, "%d", p->messages);
        table_add(&t, "%.0f", p->bytes);
    }
    const int rc = table_print(&t, to);
    table_done(&t);
    return rc;
}

/* Steps of its program by their sums, the rest one by one. */
static void print_host(const struct summary *s, const cJSON *trace, FILE *to)
{
    static const enum trace_kind shown[] = { TRACE_PACK, TRACE_SEND, TRACE_WAIT, TRACE_UNPACK };
    const cJSON *e;
    double sum[TRACE_KINDS] = { 0 };

    fputs("host, ms:", to);
    cJSON_ArrayForEach(e, member(trace, "traceEvents")) {
        if (strcmp(text(e, "cat"), "host") == 0)
            fprintf(to, " %s %.3f at %.3f,", text(e, "name"), number(e, "dur") / 1e3,
                    number(e, "ts") / 1e3);
    }
    for (int i = 0; i < s->nprocesses; i++)
        for (int k = 0; k < TRACE_KINDS; k++)
            sum[k] += s->process[i].host_ms[k];
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        fprintf(to, "%s %s %.3f", i > 0 ? "," : "", trace_kind_name(shown[i]), sum[shown[i]]);
    fputc('\n', to);
}

static int by_length(const void *a, const void *b)
{
    const struct bar *x = a, *y = b;
    return (x->length < y->length) - (x->length > y->length);
}

/* Sorts the bars. */
static int print_waits(struct summary *s, FILE *to)
{
    struct table t;
    int printed = 0;

    table_init(&t, "lrllrrr");
    table_add(&t, "node");
    table_add(&t, "at ms");
    table_add(&t, "worst waits");
    table_add(&t, "for");
    table_add(&t, "ms");
    table_add(&t, "until sent");
    table_add(&t, "on its way");
    qsort(s->bar, (size_t)s->nbars, sizeof *s->bar, by_length);
    for (int i = 0; i < s->nbars && printed < WORST_WAITS; i++) {
        const struct bar *b = &s->bar[i];
        if (b->kind != TRACE_WAIT || b->by_host)
            continue;
        const double late_ms = late(s, b);
        table_add(&t, "%s", s->process[b->process].name);
        table_add(&t, "%.3f", b->start);
        table_add(&t, "%s", b->name + (strncmp(b->name, "wait ", 5) == 0 ? 5 : 0));
        table_add(&t, "%s", b->peer);
        table_add(&t, "%.3f", b->length);
        table_add(&t, "%.3f", late_ms);
        table_add(&t, "%.3f", b->length - late_ms);
        printed++;
    }
    const int rc = printed > 0 ? table_print(&t, to) : 0;
    table_done(&t);
    return rc;
}

int trace_summary(const cJSON *trace, FILE *to, struct diag *why)
{
    struct summary s = { 0 };

    int rc = read_trace(&s, trace, why);
    if (rc < 0)
        return rc;
    add_up(&s);
    rc = print_nodes(&s, to);
    print_host(&s, trace, to);
    if (rc == 0)
        rc = print_waits(&s, to);
    free(s.bar);
    return rc < 0 ? diag(why, rc, "memory is short for the summary") : 0;
}
