#include "libsplit/trace_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { THREAD_COMPUTE = 1, THREAD_HOST = 2 };

/* Process numbers begin with 1. */
static int process_of(const struct trace_writer *w, int32_t node)
{
    return (node == w->cast->nodes ? w->cast->host_on : node) + 1;
}

static int thread_of(const struct trace_writer *w, int32_t node)
{
    return node == w->cast->nodes ? THREAD_HOST : THREAD_COMPUTE;
}

/* What stands between the quotes of a JSON string. */
static void print_text(FILE *to, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c < 0x20)
            fprintf(to, "\\u%04x", *c);
        else if (*c == '"' || *c == '\\')
            fprintf(to, "\\%c", *c);
        else
            fputc(*c, to);
    }
}

/* Begins an event; the caller adds what else it has, and the brace. */
static void open_event(struct trace_writer *w, const char *phase, int process, int thread)
{
    fprintf(w->to, "%s{\"ph\":\"%s\",\"pid\":%d,\"tid\":%d", w->any ? ",\n" : "", phase, process,
            thread);
    w->any = true;
}

/* In microseconds of the host's clock. */
static void print_time(struct trace_writer *w, const char *key, int64_t ns)
{
    fprintf(w->to, ",\"%s\":%.3f", key, (double)ns / 1e3);
}

/* ---- who is there */

static void name_thread(struct trace_writer *w, int process, int thread, const char *name)
{
    open_event(w, "M", process, thread);
    fprintf(w->to, ",\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}", name);
}

static void name_process(struct trace_writer *w, int process, const char *name)
{
    open_event(w, "M", process, 0);
    fputs(",\"name\":\"process_name\",\"args\":{\"name\":\"", w->to);
    print_text(w->to, name);
    fputs("\"}}", w->to);
    open_event(w, "M", process, 0);
    fprintf(w->to, ",\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%d}}", process);
}

/* The label is for people, splitd_clock for programs. */
static void print_clock(struct trace_writer *w, int process, struct trace_clock clock)
{
    const double offset = (double)clock.offset_ns / 1e3, error = (double)clock.error_ns / 1e3;
    open_event(w, "M", process, 0);
    fputs(",\"name\":\"process_labels\",\"args\":{\"labels\":\"", w->to);
    if (clock.error_ns < 0)
        fputs("clock not compared yet", w->to);
    else
        fprintf(w->to, "clock %+.0f us, give or take %.0f", offset, error);
    fputs("\"}}", w->to);
    open_event(w, "M", process, 0);
    fprintf(w->to, ",\"name\":\"splitd_clock\",\"args\":{\"offset_us\":%.3f,\"error_us\":%.3f}}",
            offset, error);
}

int trace_begin(struct trace_writer *w, FILE *to, const struct trace_cast *cast, int64_t zero_ns)
{
    *w = (struct trace_writer){ .to = to, .cast = cast, .zero_ns = zero_ns };
    w->describe = open_memstream(&w->text, &w->text_bytes);
    if (!w->describe)
        return -ENOMEM;
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", to);
    for (int32_t n = 0; n < cast->nodes; n++) {
        name_process(w, process_of(w, n), cast->name[n]);
        name_thread(w, process_of(w, n), THREAD_COMPUTE, "compute");
    }
    if (cast->host_on == cast->nodes)
        name_process(w, process_of(w, cast->nodes), cast->name[cast->nodes]);
    name_thread(w, process_of(w, cast->nodes), THREAD_HOST, "host");
    return 0;
}

void trace_end(struct trace_writer *w)
{
    fputs("\n]}\n", w->to);
    fclose(w->describe);
    free(w->text);
}

/* ---- what they did */

static const char *tensor_label(const struct graph *g, int32_t tensor)
{
    const struct tensor *t = &g->tensor[tensor];
    return t->op == GEO_NO_OP ? t->name : g->op[t->op].name;
}

/* What stands on the bar: the operator, or what is done with whose message. */
static void print_name(struct trace_writer *w, const struct step *s, enum trace_kind kind)
{
    const struct graph *g = w->cast->g;
    fputs(",\"name\":\"", w->to);
    if (kind != TRACE_RUN)
        fputs(trace_kind_name(kind), w->to);
    if (kind != TRACE_RUN && kind != TRACE_QUEUE)
        fputc(' ', w->to);
    if (kind != TRACE_QUEUE)
        print_text(w->to, kind == TRACE_RUN ? g->op[s->what].name : tensor_label(g, s->what));
    fprintf(w->to, "\",\"cat\":\"%s\"", trace_kind_name(kind));
}

static int64_t message_bytes(const struct trace_writer *w, const struct step *s)
{
    return halo_bytes((enum halo)s->halo, box_values(s->box) * w->cast->geo->tensor[s->what].batch);
}

/* The line of program_dump(), and of a message what a program would have to pick out of it. */
static void print_args(struct trace_writer *w, const struct program *pr, int32_t step)
{
    const struct program_names names = graph_names(w->cast->g);
    const struct step *s = &pr->step[step];

    rewind(w->describe);
    program_dump_step(pr, w->cast->geo, &names, step, w->describe);
    fputc('\0', w->describe);
    fputs(",\"args\":{\"step\":\"", w->to);
    if (fflush(w->describe) == 0)
        print_text(w->to, w->text);
    fputc('"', w->to);
    if (s->kind != STEP_RUN) {
        fprintf(w->to, ",\"transfer\":%" PRId32 ",\"bytes\":%" PRId64 ",\"peer\":\"", s->transfer,
                message_bytes(w, s));
        print_text(w->to, w->cast->name[s->peer]);
        fputc('"', w->to);
    }
    fputc('}', w->to);
}

/* The ends of the arrow from TRACE_SEND to TRACE_UNPACK. */
static void print_arrow(struct trace_writer *w, const char *phase, int32_t node, int32_t transfer,
                        int64_t at_ns)
{
    open_event(w, phase, process_of(w, node), thread_of(w, node));
    fprintf(w->to, ",\"id\":%" PRId32 ",\"name\":\"message\",\"cat\":\"message\",\"bp\":\"e\"",
            transfer);
    print_time(w, "ts", at_ns);
    fputc('}', w->to);
}

void trace_node(struct trace_writer *w, int32_t node, const struct program *pr,
                const struct trace *t, struct trace_clock clock)
{
    if (node != w->cast->nodes)
        print_clock(w, process_of(w, node), clock);
    for (int32_t i = 0; t && i < t->n; i++) {
        const struct trace_event *e = &t->event[i];
        const struct step *s = e->kind == TRACE_QUEUE ? NULL : &pr->step[e->step];
        const int64_t start_ns = e->start_ns - clock.offset_ns - w->zero_ns;

        open_event(w, "X", process_of(w, node), thread_of(w, node));
        print_name(w, s, e->kind);
        print_time(w, "ts", start_ns);
        print_time(w, "dur", e->end_ns - e->start_ns);
        if (e->kind != TRACE_QUEUE)
            print_args(w, pr, e->step);
        fputc('}', w->to);
        if (e->kind == TRACE_SEND)
            print_arrow(w, "s", node, s->transfer, start_ns);
        if (e->kind == TRACE_UNPACK)
            print_arrow(w, "f", node, s->transfer, start_ns);
    }
}

void trace_host(struct trace_writer *w, const char *name, int64_t start_ns, int64_t end_ns)
{
    open_event(w, "X", process_of(w, w->cast->nodes), THREAD_HOST);
    fprintf(w->to, ",\"name\":\"%s\",\"cat\":\"host\"", name);
    print_time(w, "ts", start_ns - w->zero_ns);
    print_time(w, "dur", end_ns - start_ns);
    fputc('}', w->to);
}
