#include "proto/plan.h"

#include <math.h>
#include <stdlib.h>

#include "proto/status.h"
#include "proto/text.h"

static void put_box(struct writer *w, const struct box *b)
{
    for (int a = 0; a < AXES; a++)
        put_i32(w, b->lo[a]);
    for (int a = 0; a < AXES; a++)
        put_i32(w, b->hi[a]);
}

static void put_pixels(struct writer *w, const struct msg_plan *m)
{
    put_u8(w, m->pixels.channels);
    if (m->pixels.channels == 0)
        return;
    put_f32(w, m->pixels.scale);
    for (int c = 0; c < m->pixels.channels; c++) {
        put_f32(w, m->pixels.mean[c]);
        put_f32(w, m->pixels.std[c]);
    }
}

static void put_inputs(struct writer *w, const struct msg_plan *m)
{
    put_u8(w, (uint8_t)m->ninputs);
    for (int32_t i = 0; i < m->ninputs; i++) {
        put_u8(w, (uint8_t)m->input[i].rank);
        for (int32_t d = 0; d < m->input[i].rank; d++)
            put_i32(w, m->input[i].dim[d]);
    }
}

static void put_answers(struct writer *w, const struct msg_plan *m)
{
    put_u8(w, (uint8_t)m->nanswers);
    for (int32_t i = 0; i < m->nanswers; i++) {
        const struct plan_answer *a = &m->answer[i];
        put_u8(w, a->form);
        put_u8(w, a->activation);
        put_i32(w, a->object);
        put_i32(w, a->classes);
        put_i32(w, a->offset);
        put_f32(w, a->scale);
        put_f32(w, a->shift);
        put_f32(w, a->least);
    }
}

static void put_step(struct writer *w, const struct step *s)
{
    const bool moves = s->kind != STEP_RUN;

    put_u8(w, (uint8_t)s->kind);
    put_u8(w, moves ? (uint8_t)s->peer : 0);
    put_u8(w, moves ? s->halo : 0);
    put_u8(w, moves && s->may_miss);
    put_i32(w, s->what);
    put_i32(w, moves ? s->transfer : 0);
    put_box(w, &s->box);
}

static void put_program(struct writer *w, const struct msg_plan *m)
{
    const struct program *pr = &m->program;

    put_u8(w, (uint8_t)pr->nodes);
    put_u8(w, (uint8_t)pr->node);
    put_bytes(w, m->member, (size_t)pr->nodes);
    put_i32(w, pr->ntransfers);
    put_i32(w, pr->nbuffers);
    put_i32(w, pr->nsteps);
    put_u32(w, m->recipe_bytes);
    put_u32(w, m->nways);
    for (int32_t i = 0; i < pr->nbuffers; i++) {
        put_i32(w, pr->buffer[i].tensor);
        put_box(w, &pr->buffer[i].box);
    }
    for (int32_t i = 0; i < pr->nsteps; i++)
        put_step(w, &pr->step[i]);
    if (m->recipe_bytes > 0)
        put_bytes(w, m->recipes, m->recipe_bytes);
    if (m->nways > 0)
        put_bytes(w, m->ways, m->nways);
}

static void put_plan(struct writer *w, const struct msg_plan *m)
{
    put_bytes(w, m->sha, sizeof m->sha);
    put_u8(w, m->depth);
    put_u32(w, m->late_ms);
    put_pixels(w, m);
    put_inputs(w, m);
    put_answers(w, m);
    put_program(w, m);
}

size_t plan_msg_bytes(const struct msg_plan *m)
{
    struct writer w = { 0 };

    put_plan(&w, m);
    return w.at;
}

int plan_msg_encode(const struct msg_plan *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    if (m->program.nsteps > PROGRAM_MAX_STEPS || m->program.nbuffers > GEO_MAX_TENSORS ||
        m->program.ntransfers > PLAN_MAX_TRANSFERS || m->recipe_bytes > PLAN_MAX_RECIPE_BYTES ||
        m->nways > GEO_MAX_TENSORS)
        return -EMSGSIZE;
    put_plan(&w, m);
    return writer_length(&w);
}

/* The parts of a decoder return 0, -EBADMSG or -EPROTO. */

static int get_pixels(struct reader *r, struct msg_plan *m)
{
    bool sound = true;

    m->pixels.channels = get_u8(r);
    if (m->pixels.channels > 4)
        return -EPROTO;
    if (m->pixels.channels > 0) {
        m->pixels.scale = get_f32(r);
        sound = isfinite(m->pixels.scale);
    }
    for (int c = 0; c < m->pixels.channels; c++) {
        const float mean = get_f32(r), std = get_f32(r);
        sound = sound && isfinite(mean) && isfinite(std) && std != 0;
        m->pixels.mean[c] = mean;
        m->pixels.std[c] = std;
    }
    if (r->failed)
        return -EBADMSG;
    return sound ? 0 : -EPROTO;
}

static int get_input(struct reader *r, int32_t *rank, int32_t dim[PLAN_MAX_RANK])
{
    int64_t values = 1;

    *rank = get_u8(r);
    if (*rank > PLAN_MAX_RANK)
        return -EPROTO;
    for (int32_t d = 0; d < *rank; d++) {
        dim[d] = get_i32(r);
        if (r->failed)
            return -EBADMSG;
        if (dim[d] < 1 || dim[d] > BOX_MAX_EXTENT)
            return -EPROTO;
        values *= dim[d];
        if (values > BOX_MAX_VALUES)
            return -EPROTO;
    }
    return 0;
}

static int get_inputs(struct reader *r, struct msg_plan *m)
{
    m->ninputs = get_u8(r);
    if (m->ninputs > PLAN_MAX_INPUTS)
        return -EPROTO;
    for (int32_t i = 0; i < m->ninputs; i++) {
        const int err = get_input(r, &m->input[i].rank, m->input[i].dim);
        if (err != 0)
            return err;
    }
    return 0;
}

static int get_answers(struct reader *r, struct msg_plan *m)
{
    bool sound = true;

    m->nanswers = get_u8(r);
    if (m->nanswers > PLAN_MAX_ANSWERS)
        return -EPROTO;
    for (int32_t i = 0; i < m->nanswers; i++) {
        struct plan_answer *a = &m->answer[i];
        a->form = get_u8(r);
        a->activation = get_u8(r);
        a->object = get_i32(r);
        a->classes = get_i32(r);
        a->offset = get_i32(r);
        a->scale = get_f32(r);
        a->shift = get_f32(r);
        a->least = get_f32(r);
        sound = sound && isfinite(a->scale) && isfinite(a->shift) && isfinite(a->least);
    }
    if (r->failed)
        return -EBADMSG;
    return sound ? 0 : -EPROTO;
}

static int get_nodes(struct reader *r, struct msg_plan *m)
{
    struct program *pr = &m->program;

    pr->nodes = get_u8(r);
    pr->node = get_u8(r);
    const uint8_t *member = get_bytes(r, (size_t)pr->nodes);
    if (r->failed)
        return -EBADMSG;
    if (pr->nodes < 1 || pr->nodes > PLAN_MAX_NODES || pr->node >= pr->nodes)
        return -EPROTO;
    memcpy(m->member, member, (size_t)pr->nodes);
    return 0;
}

/* The counts, and whether the rest of the message is exactly what they announce. */
static int get_counts(struct reader *r, struct msg_plan *m)
{
    struct program *pr = &m->program;
    const uint32_t ntransfers = get_u32(r);
    const uint32_t nbuffers = get_u32(r);
    const uint32_t nsteps = get_u32(r);
    const uint32_t recipe_bytes = get_u32(r);
    const uint32_t nways = get_u32(r);

    if (r->failed)
        return -EBADMSG;
    if (ntransfers > PLAN_MAX_TRANSFERS || nbuffers > GEO_MAX_TENSORS ||
        nsteps > PROGRAM_MAX_STEPS || recipe_bytes > PLAN_MAX_RECIPE_BYTES ||
        nways > GEO_MAX_TENSORS)
        return -EPROTO;
    if (reader_left(r) != (size_t)nbuffers * PLAN_BUFFER_BYTES + (size_t)nsteps * PLAN_STEP_BYTES +
                              recipe_bytes + nways)
        return -EBADMSG;
    pr->ntransfers = (int32_t)ntransfers;
    pr->nbuffers = (int32_t)nbuffers;
    pr->nsteps = (int32_t)nsteps;
    m->recipe_bytes = recipe_bytes;
    m->nways = nways;
    return 0;
}

static bool get_box(struct reader *r, struct box *b)
{
    int64_t values = 1;

    for (int a = 0; a < AXES; a++)
        b->lo[a] = get_i32(r);
    for (int a = 0; a < AXES; a++) {
        b->hi[a] = get_i32(r);
        if (b->lo[a] < 0 || b->lo[a] > b->hi[a] || b->hi[a] > BOX_MAX_EXTENT)
            return false;
        values *= box_len(*b, (enum axis)a);
        if (values > BOX_MAX_VALUES)
            return false;
    }
    return true;
}

static bool get_index(struct reader *r, int32_t *index, int32_t below)
{
    *index = get_i32(r);
    return *index >= 0 && *index < below;
}

static bool get_step(struct reader *r, const struct program *pr, struct step *s)
{
    const uint8_t kind = get_u8(r);

    s->peer = get_u8(r);
    s->halo = get_u8(r);
    const uint8_t may_miss = get_u8(r);
    s->may_miss = may_miss != 0;
    switch (kind) {
    case STEP_RUN:
        s->kind = STEP_RUN;
        /* Every operator yields a tensor of its own: there are no more operators. */
        return get_index(r, &s->what, GEO_MAX_TENSORS) && s->peer == 0 && s->halo == 0 &&
               may_miss == 0 && get_index(r, &s->transfer, 1) && get_box(r, &s->box);
    case STEP_SEND:
    case STEP_RECV:
        s->kind = (enum step_kind)kind;
        return get_index(r, &s->what, GEO_MAX_TENSORS) && s->peer <= pr->nodes &&
               s->peer != pr->node && s->halo < HALO_MODES && may_miss <= 1 &&
               get_index(r, &s->transfer, pr->ntransfers) && get_box(r, &s->box);
    default:
        return false;
    }
}

/* `n` bytes on the heap; NULL where there are none.  Returns 0 or -ENOMEM. */
static int get_copy(struct reader *r, uint8_t **to, uint32_t n)
{
    if (n == 0)
        return 0;
    *to = malloc(n);
    if (!*to)
        return -ENOMEM;
    memcpy(*to, get_bytes(r, n), n);
    return 0;
}

/* Buffers, steps, recipes and ways; get_counts() has checked that all their bytes are there. */
static int get_lists(struct reader *r, struct msg_plan *m)
{
    struct program *pr = &m->program;
    if (pr->nbuffers > 0) {
        pr->buffer = calloc((size_t)pr->nbuffers, sizeof *pr->buffer);
        if (!pr->buffer)
            return -ENOMEM;
    }
    if (pr->nsteps > 0) {
        pr->step = calloc((size_t)pr->nsteps, sizeof *pr->step);
        if (!pr->step)
            return -ENOMEM;
    }
    for (int32_t i = 0; i < pr->nbuffers; i++)
        if (!get_index(r, &pr->buffer[i].tensor, GEO_MAX_TENSORS) ||
            !get_box(r, &pr->buffer[i].box))
            return -EPROTO;
    for (int32_t i = 0; i < pr->nsteps; i++)
        if (!get_step(r, pr, &pr->step[i]))
            return -EPROTO;
    const int err = get_copy(r, &m->recipes, m->recipe_bytes);
    return err ? err : get_copy(r, &m->ways, m->nways);
}

int plan_msg_decode(struct msg_plan *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_plan d = { 0 };
    int err;

    const uint8_t *sha = get_bytes(&r, sizeof d.sha);
    d.depth = get_u8(&r);
    d.late_ms = get_u32(&r);
    if (r.failed)
        return -EBADMSG;
    if (d.depth < 1 || d.depth > PLAN_MAX_DEPTH || d.late_ms > PLAN_MAX_LATE_MS)
        return -EPROTO;
    memcpy(d.sha, sha, sizeof d.sha);

    if ((err = get_pixels(&r, &d)) != 0 || (err = get_inputs(&r, &d)) != 0 ||
        (err = get_answers(&r, &d)) != 0 || (err = get_nodes(&r, &d)) != 0 ||
        (err = get_counts(&r, &d)) != 0)
        return err;
    err = get_lists(&r, &d);
    if (err != 0) {
        plan_msg_done(&d);
        return err;
    }
    *m = d;
    return 0;
}

void plan_msg_done(struct msg_plan *m)
{
    program_done(&m->program);
    free(m->recipes);
    m->recipes = NULL;
    m->recipe_bytes = 0;
    free(m->ways);
    m->ways = NULL;
    m->nways = 0;
}

int plan_ack_encode(const struct msg_plan_ack *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    put_i32(&w, m->status);
    put_u64(&w, m->arena_bytes);
    put_u64(&w, m->weight_bytes);
    put_text(&w, m->detail, PLAN_DETAIL_MAX, TEXT_U16);
    return writer_length(&w);
}

int plan_ack_decode(struct msg_plan_ack *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_plan_ack d = { 0 };

    d.status = get_i32(&r);
    d.arena_bytes = get_u64(&r);
    d.weight_bytes = get_u64(&r);
    const int err = get_text(&r, d.detail, PLAN_DETAIL_MAX, TEXT_U16);
    if (err != 0)
        return err;
    if (!reader_ended(&r))
        return -EBADMSG;
    if (!status_valid(d.status))
        return -EPROTO;
    *m = d;
    return 0;
}
