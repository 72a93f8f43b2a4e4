/* Traces: every step of every program is in it, once, in order, and their JSON is JSON. */
#include "libsplit/trace_write.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "chain.h"
#include "libsplit/session.h"

static struct split_session *open_on(struct net *n, int32_t nodes)
{
    struct plan_options o = { .placement = PLAN_MIXED, .nodes = nodes };
    struct split_session *s = NULL;
    struct diag why = { "" };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    cr_assert_eq(session_open_graph(&s, &n->g, &o, NULL, &why), 0, "%s", why.text);
    return s;
}

static void run_frame(struct split_session *s, const struct net *n, struct exec_stats *stats)
{
    float *in[NET_MAX_PORTS], *out[NET_MAX_PORTS];
    struct diag why = { "" };
    for (int32_t i = 0; i < n->g.ninputs; i++)
        in[i] = calloc((size_t)net_values(n, n->in[i].tensor), sizeof(float));
    for (int32_t i = 0; i < n->g.noutputs; i++)
        out[i] = calloc((size_t)net_values(n, n->out[i].tensor), sizeof(float));
    cr_assert_eq(split_run(s, (const float *const *)in, out, stats, &why), 0, "%s", why.text);
    for (int32_t i = 0; i < n->g.ninputs; i++)
        free(in[i]);
    for (int32_t i = 0; i < n->g.noutputs; i++)
        free(out[i]);
}

static cJSON *traced(const struct split_session *s)
{
    char *text = NULL;
    size_t len = 0;
    struct diag why = { "" };
    FILE *to = open_memstream(&text, &len);
    cr_assert(to);
    cr_assert_eq(split_trace_write(s, to, &why), 0);
    cr_assert_eq(fclose(to), 0);
    cJSON *json = cJSON_Parse(text);
    cr_assert(cJSON_IsObject(json), "%.200s", text);
    free(text);
    return json;
}

static const cJSON *member(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *o, const char *key)
{
    cr_assert(cJSON_IsNumber(member(o, key)), "no number '%s'", key);
    return member(o, key)->valuedouble;
}

static bool is_text(const cJSON *o, const char *key, const char *text)
{
    const char *found = cJSON_GetStringValue(member(o, key));
    return found && strcmp(found, text) == 0;
}

/* Bars of one thread do not overlap; returns how many of a category there are and adds their ms. */
static int count_bars(const cJSON *trace, int process, const char *category, double *ms)
{
    const cJSON *e;
    int count = 0;
    cJSON_ArrayForEach(e, member(trace, "traceEvents")) {
        if (!is_text(e, "ph", "X") || (int)number(e, "pid") != process ||
            !is_text(e, "cat", category))
            continue;
        cr_assert_geq(number(e, "ts"), 0);
        cr_assert_geq(number(e, "dur"), 0);
        count++;
        *ms += number(e, "dur") / 1e3;
    }
    return count;
}

static void bars_do_not_overlap(const cJSON *trace, int process)
{
    const cJSON *e;
    double end = 0;
    cJSON_ArrayForEach(e, member(trace, "traceEvents")) {
        if (!is_text(e, "ph", "X") || (int)number(e, "pid") != process)
            continue;
        cr_assert_geq(number(e, "ts"), end - 0.002); /* three digits behind the point */
        end = number(e, "ts") + number(e, "dur");
    }
}

static int count_steps(const struct program *pr, enum step_kind kind)
{
    int count = 0;
    for (int32_t i = 0; i < pr->nsteps; i++)
        count += pr->step[i].kind == kind;
    return count;
}

static void node_is_complete(const cJSON *trace, const struct split_session *s, int32_t node,
                             const struct exec_stats *stats)
{
    const struct program *pr = split_program(s, node);
    const struct {
        const char *category;
        int count;
        double ms; /* negative: not told apart */
    } want[] = {
        { "compute", count_steps(pr, STEP_RUN), (double)stats->compute_ns / 1e6 },
        { "pack", count_steps(pr, STEP_SEND), -1 },
        { "send", count_steps(pr, STEP_SEND), (double)stats->send_ns / 1e6 },
        { "wait", count_steps(pr, STEP_RECV), (double)stats->wait_ns / 1e6 },
        { "unpack", count_steps(pr, STEP_RECV), -1 },
        { "queue", 1, -1 },
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        double ms = 0;
        cr_assert_eq(count_bars(trace, node + 1, want[i].category, &ms), want[i].count,
                     "node %d: %s", node, want[i].category);
        if (want[i].ms >= 0)
            cr_assert_lt(fabs(ms - want[i].ms), 1e-6 * (1 + want[i].count) * 1e3, "%s: %g %g",
                         want[i].category, ms, want[i].ms);
    }
    bars_do_not_overlap(trace, node + 1);
}

/* Every arrow has a beginning and an end, and none leads back in time. */
static void arrows_are_whole(const cJSON *trace, int messages)
{
    const cJSON *from, *to;
    int found = 0;
    cJSON_ArrayForEach(from, member(trace, "traceEvents")) {
        if (!is_text(from, "ph", "s"))
            continue;
        int ends = 0;
        cJSON_ArrayForEach(to, member(trace, "traceEvents"))
            if (is_text(to, "ph", "f") && number(to, "id") == number(from, "id")) {
                cr_assert_geq(number(to, "ts"), number(from, "ts") - 0.002);
                ends++;
            }
        cr_assert_eq(ends, 1);
        found++;
    }
    cr_assert_eq(found, messages);
}

Test(trace, holds_every_step_of_every_node)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct net n;
        struct exec_stats stats[PLAN_MAX_NODES];
        const int32_t nodes = 1 + (int32_t)(seed % 5);
        chain_init(&n, seed, 10);
        struct split_session *s = open_on(&n, nodes);
        struct diag why = { "" };
        run_frame(s, &n, stats);
        cr_assert_eq(split_trace(s, &why), 0);
        for (int frame = 0; frame < 2; frame++) { /* the second replaces the first */
            run_frame(s, &n, stats);
            cJSON *trace = traced(s);
            for (int32_t i = 0; i < nodes; i++)
                node_is_complete(trace, s, i, &stats[i]);
            arrows_are_whole(trace, split_plan(s)->ntransfers);
            cJSON_Delete(trace);
        }
        split_close(s);
        net_done(&n);
    }
}

/* A session that nobody asked has nothing to tell. */
Test(trace, without_being_asked_for_is_empty)
{
    struct net n;
    double ms = 0;
    chain_init(&n, 1, 5);
    struct split_session *s = open_on(&n, 2);
    run_frame(s, &n, NULL);
    cJSON *trace = traced(s);
    cr_assert_eq(count_bars(trace, 1, "compute", &ms), 0);
    cJSON_Delete(trace);
    split_close(s);
    net_done(&n);
}

/* Names come from a model's file, and may hold anything. */
Test(trace, names_are_escaped)
{
    char name[] = "a \"quoted\\name\"\n\x01 \xc3\xa9";
    struct net n;
    chain_init(&n, 3, 4);
    for (int32_t i = 0; i < n.g.nops; i++)
        n.op[i].name = name;
    struct split_session *s = open_on(&n, 2);
    struct diag why = { "" };
    cr_assert_eq(split_trace(s, &why), 0);
    run_frame(s, &n, NULL);
    cJSON *trace = traced(s);
    const cJSON *e;
    int found = 0;
    cJSON_ArrayForEach(e, member(trace, "traceEvents"))
        found += is_text(e, "cat", "compute") && is_text(e, "name", name);
    cr_assert_gt(found, 0);
    cJSON_Delete(trace);
    split_close(s);
    net_done(&n);
}

/* A trace holds what it has room for and no more. */
Test(trace, is_bounded)
{
    const struct program pr = { .nsteps = 3 };
    struct trace *t = trace_new(&pr);
    cr_assert(t);
    cr_assert_eq(t->capacity, 7);
    for (int i = 0; i < 100; i++)
        trace_add(t, TRACE_RUN, i, 0, 1);
    cr_assert_eq(t->n, 7);
    cr_assert_eq(t->event[6].step, 6);
    free(t);
    const struct program longest = { .nsteps = PROGRAM_MAX_STEPS };
    t = trace_new(&longest);
    cr_assert(t);
    cr_assert_eq(t->capacity, TRACE_MAX_EVENTS);
    free(t);
}

Test(trace, events_from_elsewhere_must_fit_the_program)
{
    struct step step[3] = { { .kind = STEP_RECV }, { .kind = STEP_RUN }, { .kind = STEP_SEND } };
    const struct program pr = { .nsteps = 3, .step = step };
    const int32_t first[TRACE_KINDS] = { [TRACE_RUN] = 1,  [TRACE_PACK] = 2,   [TRACE_SEND] = 2,
                                         [TRACE_WAIT] = 0, [TRACE_UNPACK] = 0, [TRACE_QUEUE] = 0 };
    for (int kind = 0; kind < TRACE_KINDS; kind++)
        for (int32_t s = -2; s < 5; s++) {
            struct trace_event e = { .kind = (enum trace_kind)kind, .step = s, .end_ns = 1 };
            cr_assert_eq(trace_event_fits(&e, &pr), s == first[kind]);
            e.start_ns = 2;
            cr_assert_not(trace_event_fits(&e, &pr));
        }
    const struct trace_event e = { .kind = TRACE_KINDS };
    cr_assert_not(trace_event_fits(&e, &pr));
}
