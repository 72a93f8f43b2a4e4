#include "tiling/program.h"

#include <errno.h>
#include <stdlib.h>

/* Most pieces in which a tensor may come to a node: bounds the time of a check. */
enum { MAX_PIECES = 256, NO_STEP = -1 };

/* What the steps so far have written.  No value is written twice, so the pieces of a tensor are
 * disjoint, and a box has been written if what it shares with them adds up to all of it. */
struct written {
    const struct program *pr;
    const struct geometry *g;
    int32_t *last;     /* [ntensors]: the last step that wrote the tensor, or NO_STEP */
    int32_t *pieces;   /* [ntensors]: how many did */
    int32_t *previous; /* [nsteps]: the step that wrote the same tensor before this one */
    uint8_t *used;     /* a bit for each transfer */
};

static struct box written_by(const struct written *w, int32_t step)
{
    const struct step *s = &w->pr->step[step];
    return s->kind == STEP_RUN ? program_output(w->pr, w->g, s) : s->box;
}

/* How many values of box `b`, which lies inside tensor `t`, have been written. */
static int64_t values_written(const struct written *w, int32_t t, struct box b)
{
    if (w->pr->node == w->pr->nodes && geometry_is_input(w->g, t))
        return box_values(b); /* the host has them from the start */
    int64_t values = 0;
    for (int32_t i = w->last[t]; i != NO_STEP; i = w->previous[i])
        values += box_values(box_intersect(b, written_by(w, i)));
    return values;
}

static bool may_read(const struct written *w, int32_t t, struct box b)
{
    return values_written(w, t, b) == box_values(b);
}

static bool may_write(const struct written *w, int32_t t, struct box b)
{
    const struct buffer *to = program_buffer(w->pr, t);
    return to && box_inside(b, to->box) && w->pieces[t] < MAX_PIECES &&
           values_written(w, t, b) == 0;
}

static void note(struct written *w, int32_t t, int32_t step)
{
    w->previous[step] = w->last[t];
    w->last[t] = step;
    w->pieces[t]++;
}

static bool part_of(const struct geometry *g, int32_t t, struct box b)
{
    return !box_empty(b) && box_inside(b, geometry_whole(g, t));
}

/* Nothing, said in the one way in which functions return it. */
static bool is_none(struct box b)
{
    for (int x = 0; x < AXES; x++)
        if (b.lo[x] != 0 || b.hi[x] != 0)
            return false;
    return true;
}

static bool run_ok(const struct written *w, const struct step *s)
{
    const struct geometry *g = w->g;
    if (w->pr->node == w->pr->nodes || s->what < 0 || s->what >= g->nops)
        return false;
    const struct geo_op *op = &g->op[s->what];

    if (op->kind == GEO_PARTIAL) {
        const int32_t in = g->input[op->first].tensor;
        if (!is_none(s->box) && !(part_of(g, in, s->box) && may_read(w, in, s->box)))
            return false;
    } else {
        if (!part_of(g, op->out, s->box))
            return false;
        for (int32_t i = 0; i < op->ninputs; i++)
            if (!may_read(w, g->input[op->first + i].tensor, geometry_need(g, s->what, i, s->box)))
                return false;
    }
    return may_write(w, op->out, program_output(w->pr, g, s));
}

/* Takes the transfer of `s` for this step alone. */
static bool claim_transfer(struct written *w, const struct step *s)
{
    if (s->transfer < 0 || s->transfer >= w->pr->ntransfers)
        return false;
    uint8_t *byte = &w->used[s->transfer / 8];
    const uint8_t bit = (uint8_t)(1u << (s->transfer % 8));
    if (*byte & bit)
        return false;
    *byte |= bit;
    return true;
}

/* The host sends and takes exact values only, and all of them. */
static bool halo_ok(const struct program *pr, const struct step *s)
{
    const bool with_host = pr->node == pr->nodes || s->peer == pr->nodes;
    return with_host ? s->halo == HALO_F32 && !s->may_miss : s->halo < HALO_MODES;
}

static bool message_ok(struct written *w, const struct step *s)
{
    const struct program *pr = w->pr;
    return s->what >= 0 && s->what < w->g->ntensors && part_of(w->g, s->what, s->box) &&
           s->peer >= 0 && s->peer <= pr->nodes && s->peer != pr->node && halo_ok(pr, s) &&
           claim_transfer(w, s);
}

static bool step_ok(struct written *w, int32_t i)
{
    const struct step *s = &w->pr->step[i];
    switch (s->kind) {
    case STEP_RUN:
        if (!run_ok(w, s))
            return false;
        note(w, w->g->op[s->what].out, i);
        return true;
    case STEP_SEND:
        return message_ok(w, s) && may_read(w, s->what, s->box);
    case STEP_RECV:
        if (!message_ok(w, s) || !may_write(w, s->what, s->box))
            return false;
        note(w, s->what, i);
        return true;
    }
    return false;
}

static bool counts_ok(const struct program *pr, const struct geometry *g)
{
    return pr->nodes >= 1 && pr->nodes <= PLAN_MAX_NODES && pr->nodes == g->nodes &&
           pr->node >= 0 && pr->node <= pr->nodes && pr->ntransfers >= 0 &&
           pr->ntransfers <= PROGRAM_MAX_TRANSFERS && pr->nbuffers >= 0 &&
           pr->nbuffers <= g->ntensors && pr->nsteps >= 0 && pr->nsteps <= PROGRAM_MAX_STEPS;
}

static bool buffers_ok(const struct program *pr, const struct geometry *g)
{
    for (int32_t i = 0; i < pr->nbuffers; i++) {
        const struct buffer *b = &pr->buffer[i];
        if (b->tensor < 0 || b->tensor >= g->ntensors || !part_of(g, b->tensor, b->box))
            return false;
        if (i > 0 && b->tensor <= b[-1].tensor)
            return false;
    }
    return true;
}

/* The first bad step, or nsteps. */
static int32_t first_bad_step(struct written *w)
{
    for (int32_t t = 0; t < w->g->ntensors; t++)
        w->last[t] = NO_STEP;
    int32_t i = 0;
    while (i < w->pr->nsteps && step_ok(w, i))
        i++;
    return i;
}

int program_check(const struct program *pr, const struct geometry *g, int32_t *step)
{
    if (!counts_ok(pr, g) || !buffers_ok(pr, g)) {
        if (step)
            *step = NO_STEP;
        return -EPROTO;
    }

    const size_t ntensors = (size_t)g->ntensors;
    struct written w = {
        .pr = pr,
        .g = g,
        .last = calloc(ntensors + 1, sizeof(*w.last)),
        .pieces = calloc(ntensors + 1, sizeof(*w.pieces)),
        .previous = calloc((size_t)pr->nsteps + 1, sizeof(*w.previous)),
        .used = calloc((size_t)pr->ntransfers / 8 + 1, 1),
    };
    int r = -ENOMEM;
    if (w.last && w.pieces && w.previous && w.used) {
        const int32_t bad = first_bad_step(&w);
        r = bad == pr->nsteps ? 0 : -EPROTO;
        if (r && step)
            *step = bad;
    }
    free(w.last);
    free(w.pieces);
    free(w.previous);
    free(w.used);
    return r;
}
