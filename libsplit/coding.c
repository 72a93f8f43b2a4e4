#include "libsplit/coding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/runs.h"

struct coding {
    const struct program *pr;
    const struct geometry *geo;
    const struct recipes *recipes;
    bool takes_pixels;
    struct codec_pixels pixels;
    void *scratch;            /* of the largest message by a recipe */
    struct recipe_past *past; /* [pr->nsteps]; NULL where nothing is HALO_VIDEO */
    int16_t *levels;          /* theirs */
};

/* ---- Where the values of a step lie */

static const struct buffer *buffer_of(const struct coding *c, const struct step *s)
{
    return program_buffer(c->pr, s->what);
}

static int32_t batch_of(const struct coding *c, const struct step *s)
{
    return c->geo->tensor[s->what].batch;
}

static size_t message_values(const struct coding *c, const struct step *s)
{
    return (size_t)box_values(s->box) * (size_t)batch_of(c, s);
}

static size_t extent(struct box b, enum axis a) { return (size_t)box_len(b, a); }

static struct grid grid_of(const struct coding *c, const struct step *s)
{
    const struct box stored = buffer_of(c, s)->box;
    struct grid g = { .images = (size_t)batch_of(c, s),
                      .rows = extent(s->box, ROW),
                      .cols = extent(s->box, COL),
                      .channels = extent(s->box, CHAN),
                      .col_stride = extent(stored, CHAN) };
    g.row_stride = g.col_stride * extent(stored, COL);
    g.image_stride = g.row_stride * extent(stored, ROW);
    return g;
}

/* The box's first value, from the buffer's first. */
static size_t offset_of(const struct coding *c, const struct step *s, const struct grid *g)
{
    const struct box stored = buffer_of(c, s)->box;
    return (size_t)(s->box.lo[ROW] - stored.lo[ROW]) * g->row_stride +
           (size_t)(s->box.lo[COL] - stored.lo[COL]) * g->col_stride +
           (size_t)(s->box.lo[CHAN] - stored.lo[CHAN]);
}

static bool is_coded(const struct step *s) { return s->halo == HALO_TQ || s->halo == HALO_VIDEO; }

/* The recipe of a step's tensor, NULL if there is none. */
static const struct recipe *recipe_of(const struct coding *c, const struct step *s)
{
    return c->recipes ? c->recipes->of[s->what] : NULL;
}

enum codec_mode coding_mode(enum halo halo)
{
    static const enum codec_mode mode[HALO_MODES + 1] = {
        [HALO_F32] = CODEC_F32,  [HALO_F16] = CODEC_F16,  [HALO_Q8] = CODEC_Q8,
        [HALO_Q4] = CODEC_Q4,    [HALO_TQ] = CODEC_F16,   [HALO_VIDEO] = CODEC_F16,
        [HALO_DROP] = CODEC_F32, [HALO_AUTO] = CODEC_F32,
    };
    return mode[halo];
}

/* ---- Encoding */

static struct codec_range range_of(const struct coding *c, const struct step *s,
                                   const float *buffer)
{
    struct codec_range range = { 0 };
    struct runs r;
    for (bool more = runs_begin(&r, buffer_of(c, s)->box, s->box, batch_of(c, s)); more;
         more = runs_next(&r))
        codec_range_add(&range, buffer + r.offset, r.len);
    return range;
}

static size_t put_recipe(struct coding *c, int32_t step, const float *buffer,
                         const struct codec_range *range, uint8_t *to)
{
    const struct step *s = &c->pr->step[step];
    const struct grid g = grid_of(c, s);
    struct recipe_past *past = s->halo == HALO_VIDEO ? &c->past[step] : NULL;
    return recipe_put(to, recipe_of(c, s), (size_t)s->box.lo[CHAN], buffer + offset_of(c, s, &g),
                      &g, range, past, c->scratch);
}

size_t coding_put(struct coding *c, int32_t step, const float *buffer, uint8_t *to)
{
    const struct step *s = &c->pr->step[step];
    const bool by_recipe = is_coded(s) && recipe_of(c, s);
    const enum codec_mode mode =
        is_coded(s) && !by_recipe ? CODEC_F32 : coding_mode((enum halo)s->halo);
    struct codec_range range = { 0 };
    struct runs r;
    if (mode != CODEC_F32)
        range = range_of(c, s, buffer);
    size_t len = by_recipe ? put_recipe(c, step, buffer, &range, to) : 0;
    if (len > 0)
        return len;
    len = codec_begin(to, mode, &range, message_values(c, s));
    for (bool more = runs_begin(&r, buffer_of(c, s)->box, s->box, batch_of(c, s)); more;
         more = runs_next(&r))
        codec_set_run(to, r.first, buffer + r.offset, r.len);
    return len;
}

/* ---- Decoding */

static int get_recipe(struct coding *c, int32_t step, float *buffer, const uint8_t *msg, size_t len)
{
    const struct step *s = &c->pr->step[step];
    const struct grid g = grid_of(c, s);
    struct recipe_past *past = s->halo == HALO_VIDEO ? &c->past[step] : NULL;
    return recipe_get(buffer + offset_of(c, s, &g), &g, recipe_of(c, s), (size_t)s->box.lo[CHAN],
                      past, c->scratch, msg, len)
               ? -EBADMSG
               : 0;
}

int coding_get(struct coding *c, int32_t step, float *buffer, const uint8_t *msg, size_t len)
{
    const struct step *s = &c->pr->step[step];
    const struct codec_pixels *pixels = c->takes_pixels ? &c->pixels : NULL;
    struct runs r;
    if (is_coded(s) && recipe_of(c, s) && recipe_is_message(msg, len))
        return get_recipe(c, step, buffer, msg, len);
    if (c->past)
        c->past[step].frames = 0;
    if (codec_check(msg, len, message_values(c, s), pixels))
        return -EBADMSG;
    for (bool more = runs_begin(&r, buffer_of(c, s)->box, s->box, batch_of(c, s)); more;
         more = runs_next(&r))
        codec_get_run(buffer + r.offset, r.first, r.len, msg, pixels);
    return 0;
}

bool coding_drops(const struct coding *c, int32_t step)
{
    const struct step *s = &c->pr->step[step];
    const struct recipe *r = is_coded(s) ? recipe_of(c, s) : NULL;
    return s->halo == HALO_DROP || (r && r->drop);
}

void coding_fill(const struct coding *c, int32_t step, float *buffer)
{
    const struct step *s = &c->pr->step[step];
    const struct grid g = grid_of(c, s);
    recipe_fill(buffer + offset_of(c, s, &g), &g, recipe_of(c, s), (size_t)s->box.lo[CHAN]);
}

void coding_conceal(const struct coding *c, int32_t step, struct box own, float *buffer)
{
    const struct step *s = &c->pr->step[step];
    const struct grid g = grid_of(c, s);
    const struct box beside = box_rows(s->box, own.lo[ROW], own.hi[ROW]);
    if (box_empty(beside) || !box_inside(beside, own)) {
        coding_fill(c, step, buffer);
        return;
    }
    float *first = buffer + offset_of(c, s, &g);
    for (size_t line = 0; line < g.images * g.rows; line++) {
        const int32_t row = s->box.lo[ROW] + (int32_t)(line % g.rows);
        const int32_t nearest = row < own.lo[ROW] ? own.lo[ROW] : own.hi[ROW] - 1;
        float *to = first + line / g.rows * g.image_stride + line % g.rows * g.row_stride;
        const float *from = to + (nearest - row) * (ptrdiff_t)g.row_stride;
        for (size_t x = 0; x < g.cols; x++)
            memcpy(to + x * g.col_stride, from + x * g.col_stride, g.channels * sizeof *to);
    }
}

void coding_forget(struct coding *c)
{
    for (int32_t i = 0; c->past && i < c->pr->nsteps; i++)
        c->past[i].frames = 0;
}

/* ---- Life */

/* Bytes to code the largest message by a recipe in. */
static size_t scratch_bytes(const struct coding *c)
{
    size_t most = 0;
    for (int32_t i = 0; i < c->pr->nsteps; i++) {
        const struct step *s = &c->pr->step[i];
        if (s->kind == STEP_RUN || !is_coded(s))
            continue;
        const struct grid g = grid_of(c, s);
        const size_t bytes = recipe_scratch_bytes(&g);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Gives every message of HALO_VIDEO room for two frames; with `to` NULL only counts it. */
static size_t share_levels(const struct coding *c, int16_t *to)
{
    size_t at = 0;
    for (int32_t i = 0; i < c->pr->nsteps; i++) {
        const struct step *s = &c->pr->step[i];
        if (s->kind == STEP_RUN || s->halo != HALO_VIDEO)
            continue;
        const struct grid g = grid_of(c, s);
        for (int frame = 0; frame < 2; frame++) {
            if (to)
                c->past[i].level[frame] = to + at / sizeof *to;
            at += recipe_past_bytes(&g);
        }
    }
    return at;
}

int64_t coding_bytes(const struct program *pr, const struct geometry *geo)
{
    const struct coding c = { .pr = pr, .geo = geo };
    return (int64_t)(scratch_bytes(&c) + share_levels(&c, NULL));
}

static bool give_past(struct coding *c)
{
    const size_t bytes = share_levels(c, NULL);
    if (bytes == 0)
        return true;
    c->past = calloc((size_t)c->pr->nsteps, sizeof(*c->past));
    c->levels = malloc(bytes);
    if (!c->past || !c->levels)
        return false;
    share_levels(c, c->levels);
    return true;
}

struct coding *coding_new(const struct program *pr, const struct geometry *geo,
                          const struct recipes *recipes, const struct codec_pixels *pixels)
{
    struct coding *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->pr = pr;
    c->geo = geo;
    c->recipes = recipes;
    c->takes_pixels = pixels != NULL;
    if (pixels)
        c->pixels = *pixels;
    c->scratch = malloc(scratch_bytes(c) + 1);
    if (c->scratch && give_past(c))
        return c;
    coding_free(c);
    return NULL;
}

void coding_free(struct coding *c)
{
    if (!c)
        return;
    free(c->scratch);
    free(c->past);
    free(c->levels);
    free(c);
}
