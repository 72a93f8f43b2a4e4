#include "sim.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define MISSING UINT64_MAX

struct machine {
    const struct net *net;
    const struct program *pr; /* NULL: one computer that holds everything */
    uint64_t *value;          /* of all tensors, net.at[] */
    int32_t next;             /* step */
};

static struct machine machine_new(const struct net *net, const struct program *pr)
{
    const int64_t count = net->at[net->g.ntensors];
    struct machine m = { net, pr, malloc((size_t)count * sizeof(*m.value) + 1), 0 };
    cr_assert_not_null(m.value);
    for (int64_t i = 0; i < count; i++)
        m.value[i] = MISSING;
    return m;
}

static uint64_t *value_at(const struct machine *m, int32_t t, int32_t r, int32_t c, int32_t k)
{
    const int32_t *dim = m->net->g.tensor[t].dim;
    return m->value + m->net->at[t] + ((int64_t)r * dim[COL] + c) * dim[CHAN] + k;
}

/* A loop over the pixels of a box, rows first. */
struct cursor {
    struct box box;
    int32_t r, c, k;
};

static struct cursor cursor_first(struct box b)
{
    return (struct cursor){ b, b.lo[ROW], b.lo[COL], b.lo[CHAN] };
}

static bool cursor_valid(const struct cursor *at)
{
    return !box_empty(at->box) && at->r < at->box.hi[ROW];
}

static void cursor_next(struct cursor *at)
{
    if (++at->k < at->box.hi[CHAN])
        return;
    at->k = at->box.lo[CHAN];
    if (++at->c < at->box.hi[COL])
        return;
    at->c = at->box.lo[COL];
    at->r++;
}

static bool holds(const struct machine *m, int32_t t, struct box b)
{
    if (!m->pr || box_empty(b))
        return true;
    const struct buffer *buffer = program_buffer(m->pr, t);
    return buffer && box_inside(b, buffer->box);
}

static const char *store(const struct machine *m, int32_t t, struct box b, const uint64_t *from)
{
    if (!holds(m, t, b))
        return "writes outside of its buffer";
    for (struct cursor at = cursor_first(b); cursor_valid(&at); cursor_next(&at)) {
        uint64_t *to = value_at(m, t, at.r, at.c, at.k);
        if (*to != MISSING)
            return "writes a value twice";
        *to = *from++;
    }
    return NULL;
}

static const char *load(const struct machine *m, int32_t t, struct box b, uint64_t *to)
{
    for (struct cursor at = cursor_first(b); cursor_valid(&at); cursor_next(&at)) {
        *to = *value_at(m, t, at.r, at.c, at.k);
        if (*to++ == MISSING)
            return "sends a value that it does not have";
    }
    return NULL;
}

/* The positions that one output position reads on one axis. */
struct taps {
    int32_t count;
    int32_t at[NET_MAX_LEN];
};

static struct taps taps_of(const struct rule *rule, int32_t out, struct span in)
{
    struct taps t = { 0 };
    for (int32_t i = in.lo; i < in.hi; i++)
        if (rule_reads(rule, out, i))
            t.at[t.count++] = i;
    return t;
}

/* Mixes what one output value reads of input `i`, of which only `part` is looked at, into
 * `*acc`. */
static const char *gather(const struct machine *m, int32_t op, int32_t i, const struct cursor *at,
                          struct box part, uint64_t *acc)
{
    const struct geometry *g = &m->net->g;
    const int32_t index = g->op[op].first + i, in = g->input[index].tensor;
    const int32_t out[AXES] = { at->r, at->c, at->k };
    struct taps taps[AXES];
    for (int x = 0; x < AXES; x++)
        taps[x] = taps_of(&m->net->rule[index][x], out[x], (struct span){ part.lo[x], part.hi[x] });

    for (int32_t r = 0; r < taps[ROW].count; r++)
        for (int32_t c = 0; c < taps[COL].count; c++)
            for (int32_t k = 0; k < taps[CHAN].count; k++) {
                const int32_t p[AXES] = { taps[ROW].at[r], taps[COL].at[c], taps[CHAN].at[k] };
                const struct box pixel = { { p[ROW], p[COL], p[CHAN] },
                                           { p[ROW] + 1, p[COL] + 1, p[CHAN] + 1 } };
                const uint64_t v = *value_at(m, in, p[ROW], p[COL], p[CHAN]);
                if (v == MISSING)
                    return "reads a value that it does not have";
                if (!holds(m, in, pixel))
                    return "reads outside of its buffer";
                *acc = m->net->sums[op] ? *acc + v : rng_mix(*acc ^ v) + 1;
            }
    return NULL;
}

/* Computes box `out` of the output of `op`; a partial sum adds up `share` of its input. */
static const char *compute(const struct machine *m, int32_t op, struct box out, struct box share)
{
    const struct geometry *g = &m->net->g;
    const struct geo_op *it = &g->op[op];
    uint64_t *result = malloc((size_t)box_values(out) * sizeof(*result) + 1), *to = result;
    cr_assert_not_null(result);

    const char *wrong = NULL;
    for (struct cursor at = cursor_first(out); cursor_valid(&at) && !wrong; cursor_next(&at)) {
        *to = m->net->sums[op] ? 0 : (uint64_t)op + 1;
        for (int32_t i = 0; i < it->ninputs && !wrong; i++)
            wrong = gather(
                m, op, i, &at,
                it->kind == GEO_PARTIAL ? share : geometry_whole(g, g->input[it->first + i].tensor),
                to);
        if (*to == MISSING)
            *to = 0;
        to++;
    }
    if (!wrong)
        wrong = store(m, it->out, out, result);
    free(result);
    return wrong;
}

static const char *run(const struct machine *m, const struct step *s)
{
    return compute(m, s->what, program_output(m->pr, &m->net->g, s), s->box);
}

static void fill_inputs(const struct machine *m)
{
    for (int32_t t = 0; t < m->net->g.ntensors; t++)
        if (geometry_is_input(&m->net->g, t))
            for (int64_t i = m->net->at[t]; i < m->net->at[t + 1]; i++)
                m->value[i] = rng_mix((uint64_t)i + 12345);
}

/* What one computer computes.  Of partial sums the first row holds everything. */
static struct machine reference(const struct net *net)
{
    const struct geometry *g = &net->g;
    struct machine m = machine_new(net, NULL);
    fill_inputs(&m);
    for (int32_t o = 0; o < g->nops; o++) {
        const int32_t out = g->op[o].out;
        if (g->op[o].kind == GEO_MAP) {
            cr_assert_null(compute(&m, o, geometry_whole(g, out), box_none()));
            continue;
        }
        for (int32_t row = 0; row < g->nodes; row++)
            cr_assert_null(compute(&m, o, box_rows(geometry_whole(g, out), row, row + 1),
                                   row == 0 ? geometry_whole(g, g->input[g->op[o].first].tensor)
                                            : box_none()));
    }
    return m;
}

struct message {
    bool received;
    int32_t from;
    struct step sent;
    uint64_t *value; /* NULL: not sent */
};

static const char *send(const struct machine *m, const struct step *s, struct message *msg)
{
    if (msg->value)
        return "sends a message twice";
    msg->from = m->pr->node;
    msg->sent = *s;
    msg->value = malloc((size_t)box_values(s->box) * sizeof(*msg->value) + 1);
    cr_assert_not_null(msg->value);
    return load(m, s->what, s->box, msg->value);
}

static const char *receive(const struct machine *m, const struct step *s, struct message *msg)
{
    if (msg->received)
        return "receives a message twice";
    if (msg->from != s->peer || msg->sent.peer != m->pr->node || msg->sent.what != s->what ||
        !box_equal(msg->sent.box, s->box))
        return "receives another message than it expects";
    msg->received = true;
    return store(m, s->what, s->box, msg->value);
}

/* One turn of one machine: runs until it waits.  `*progress` is set if it took a step. */
static const char *turn(struct machine *m, struct message *msg, bool *progress)
{
    const char *wrong = NULL;
    for (; m->next < m->pr->nsteps && !wrong; m->next++) {
        const struct step *s = &m->pr->step[m->next];
        if (s->kind == STEP_RUN)
            wrong = run(m, s);
        else if (s->kind == STEP_SEND)
            wrong = send(m, s, &msg[s->transfer]);
        else if (!msg[s->transfer].value)
            return NULL;
        else
            wrong = receive(m, s, &msg[s->transfer]);
        *progress = true;
    }
    return wrong;
}

static const char *compare_outputs(const struct machine *host)
{
    const struct net *net = host->net;
    struct machine one = reference(net);
    const char *wrong = NULL;
    for (int32_t t = 0; t < net->g.ntensors; t++)
        if (net->g.tensor[t].output)
            for (int64_t i = net->at[t]; i < net->at[t + 1]; i++)
                if (host->value[i] != one.value[i])
                    wrong = host->value[i] == MISSING ? "the host lacks a value of an output"
                                                      : "an output differs from one computer's";
    free(one.value);
    return wrong;
}

const char *sim_cluster(const struct net *net, const struct plan *p)
{
    struct program pr[PLAN_MAX_NODES + 1] = { { 0 } };
    struct machine m[PLAN_MAX_NODES + 1] = { { 0 } };
    struct message *msg = calloc((size_t)p->ntransfers + 1, sizeof(*msg));
    cr_assert_not_null(msg);
    const char *wrong = NULL;
    for (int32_t n = 0; n <= p->nodes; n++) {
        cr_assert_eq(program_compile(&pr[n], p, n), 0);
        if (program_check(&pr[n], &net->g, NULL))
            wrong = "program_check() refuses a compiled program";
        m[n] = machine_new(net, &pr[n]);
    }
    fill_inputs(&m[p->nodes]);

    for (bool progress = true; progress && !wrong;) {
        progress = false;
        for (int32_t n = 0; n <= p->nodes && !wrong; n++)
            wrong = turn(&m[n], msg, &progress);
    }
    for (int32_t n = 0; n <= p->nodes && !wrong; n++)
        if (m[n].next < pr[n].nsteps)
            wrong = "a node waits for ever";
    for (int32_t i = 0; i < p->ntransfers; i++) {
        if (!wrong && !msg[i].received)
            wrong = "a transfer is in nobody's program";
        free(msg[i].value);
    }
    if (!wrong)
        wrong = compare_outputs(&m[p->nodes]);

    free(msg);
    for (int32_t n = 0; n <= p->nodes; n++) {
        free(m[n].value);
        program_done(&pr[n]);
    }
    return wrong;
}

/* A message from nowhere: any values will do. */
static const char *receive_anything(const struct machine *m, const struct step *s)
{
    uint64_t *zeros = calloc((size_t)box_values(s->box) + 1, sizeof(*zeros));
    cr_assert_not_null(zeros);
    const char *wrong = store(m, s->what, s->box, zeros);
    free(zeros);
    return wrong;
}

static const char *send_nowhere(const struct machine *m, const struct step *s)
{
    struct message msg = { 0 };
    const char *wrong = send(m, s, &msg);
    free(msg.value);
    return wrong;
}

const char *sim_alone(const struct net *net, const struct program *pr)
{
    struct machine m = machine_new(net, pr);
    if (pr->node == pr->nodes)
        fill_inputs(&m);
    const char *wrong = NULL;
    for (int32_t i = 0; i < pr->nsteps && !wrong; i++) {
        const struct step *s = &pr->step[i];
        wrong = s->kind == STEP_RUN    ? run(&m, s)
                : s->kind == STEP_SEND ? send_nowhere(&m, s)
                                       : receive_anything(&m, s);
    }
    free(m.value);
    return wrong;
}
