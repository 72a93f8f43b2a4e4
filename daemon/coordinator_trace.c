#include <stdio.h>
#include <stdlib.h>

#include "daemon/coordinator_impl.h"
#include "libsplit/clock.h"

enum { MAX_NOTES = 8 };

struct job_trace {
    struct trace *of[PLAN_MAX_NODES + 1]; /* by plan node, the host's last; NULL: nothing came */
    struct trace_clock clock[PLAN_MAX_NODES];
    int32_t nodes;
    int32_t nnotes;
    struct {
        const char *name;
        int64_t start_ns, end_ns;
    } note[MAX_NOTES];

    const char *name[PLAN_MAX_NODES + 1];
    struct trace_cast cast;
    struct trace_writer writer;
    FILE *stream; /* NULL: not being written */
    char *text;
    size_t text_bytes;
};

struct job_trace *job_trace_new(void) { return calloc(1, sizeof(struct job_trace)); }

/* Forgets the frame, not what was noted before. */
static void forget(struct job_trace *t)
{
    for (int32_t i = 0; i <= PLAN_MAX_NODES; i++) {
        free(t->of[i]);
        t->of[i] = NULL;
    }
    if (t->stream) {
        trace_end(&t->writer);
        fclose(t->stream);
    }
    t->stream = NULL;
    free(t->text);
    t->text = NULL;
}

void job_trace_free(struct job_trace *t)
{
    if (!t)
        return;
    forget(t);
    free(t);
}

void job_trace_note(struct job_trace *t, const char *name, int64_t start_ns, int64_t end_ns)
{
    if (!t || t->nnotes == MAX_NOTES)
        return;
    t->note[t->nnotes].name = name;
    t->note[t->nnotes].start_ns = start_ns;
    t->note[t->nnotes++].end_ns = end_ns;
}

void job_trace_start(struct job_trace *t, const struct deployment *d)
{
    if (!t)
        return;
    forget(t);
    t->nodes = d->nodes;
    t->of[d->nodes] = trace_new(&d->host);
}

void job_trace_step(struct job_trace *t, enum trace_kind kind, int32_t step, int64_t *since_ns)
{
    if (!t)
        return;
    const int64_t now = clock_ns();
    if (t->of[t->nodes])
        trace_add(t->of[t->nodes], kind, step, *since_ns, now);
    *since_ns = now;
}

void job_trace_take(struct job_trace *t, int32_t i, const uint8_t *body, int32_t nevents)
{
    if (!t || i >= t->nodes)
        return;
    struct trace *of = malloc(sizeof *of + (size_t)nevents * sizeof of->event[0]);
    if (!of)
        return;
    of->n = of->capacity = nevents;
    for (int32_t k = 0; k < nevents; k++)
        of->event[k] = frame_done_event(body, k);
    free(t->of[i]);
    t->of[i] = of;
}

void job_trace_clocks(struct job_trace *t, const struct deployment *d)
{
    if (!t)
        return;
    for (int32_t i = 0; i < d->nodes; i++) {
        struct trace_clock *c = &t->clock[i];
        if (!mesh_clock(d->c->mesh, d->member[i], &c->offset_ns, &c->error_ns))
            *c = (struct trace_clock){ .error_ns = -1 };
    }
}

/* Leaves out what a node cannot have done. */
static void drop_misfits(struct trace *t, const struct program *pr)
{
    int32_t n = 0;
    for (int32_t i = 0; i < t->n; i++)
        if (trace_event_fits(&t->event[i], pr))
            t->event[n++] = t->event[i];
    t->n = n;
}

static void write_node(struct job_trace *t, const struct deployment *d, int32_t i)
{
    struct program pr;
    if (!t->of[i] || program_compile(&pr, &d->plan, i))
        return;
    drop_misfits(t->of[i], &pr);
    trace_node(&t->writer, i, &pr, t->of[i], t->clock[i]);
    program_done(&pr);
}

void job_trace_write(struct job_trace *t, const struct deployment *d, int64_t zero_ns)
{
    static const struct trace_clock same = { 0 };
    const struct config *config = d->c->config;

    if (!t)
        return;
    t->cast = (struct trace_cast){ .g = &d->network->graph,
                                   .geo = &d->geo,
                                   .nodes = d->nodes,
                                   .name = t->name,
                                   .host_on = d->nodes };
    for (int32_t i = 0; i < d->nodes; i++) {
        t->name[i] = node_name(d->c, d->member[i]);
        if (d->member[i] == config->coordinator)
            t->cast.host_on = i;
    }
    t->name[d->nodes] = node_name(d->c, config->coordinator);
    t->stream = open_memstream(&t->text, &t->text_bytes);
    if (t->stream && trace_begin(&t->writer, t->stream, &t->cast, zero_ns)) {
        fclose(t->stream);
        t->stream = NULL;
    }
    if (!t->stream)
        return;
    for (int32_t i = 0; i < d->nodes; i++)
        write_node(t, d, i);
    trace_node(&t->writer, d->nodes, &d->host, t->of[d->nodes], same);
}

const char *job_trace_text(struct job_trace *t)
{
    if (!t || !t->stream)
        return NULL;
    for (int32_t i = 0; i < t->nnotes; i++)
        trace_host(&t->writer, t->note[i].name, t->note[i].start_ns, t->note[i].end_ns);
    trace_end(&t->writer);
    const bool whole = fclose(t->stream) == 0;
    t->stream = NULL;
    return whole ? t->text : NULL;
}
