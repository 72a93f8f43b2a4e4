#include "libsplit/recipes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int recipes_init(struct recipes *r, int32_t ntensors)
{
    *r = (struct recipes){ .ntensors = ntensors,
                           .of = calloc((size_t)ntensors + 1, sizeof(void *)) };
    return r->of ? 0 : -ENOMEM;
}

void recipes_done(struct recipes *r)
{
    for (int32_t i = 0; i < r->nown; i++)
        recipe_done(&r->own[i]);
    free(r->own);
    free(r->of);
    *r = (struct recipes){ 0 };
}

/* What is dropped may have a recipe, too: it says what to read instead. */
static bool may_use(const struct step *s)
{
    return s->kind != STEP_RUN &&
           (s->halo == HALO_TQ || s->halo == HALO_VIDEO || s->halo == HALO_DROP);
}

/* ---- As bytes */

enum { INDEX_BYTES = 4 };

static bool is_used(const struct program *pr, int32_t tensor)
{
    for (int32_t i = 0; i < pr->nsteps; i++)
        if (pr->step[i].what == tensor && may_use(&pr->step[i]))
            return true;
    return false;
}

size_t recipes_write(const struct recipes *r, const struct program *pr, uint8_t *bytes)
{
    size_t at = 0;
    for (int32_t t = 0; t < r->ntensors; t++) {
        if (!r->of[t] || !is_used(pr, t))
            continue;
        if (bytes) {
            const uint32_t index = (uint32_t)t;
            memcpy(bytes + at, &index, INDEX_BYTES);
            recipe_write(bytes + at + INDEX_BYTES, r->of[t]);
        }
        at += INDEX_BYTES + recipe_bytes(r->of[t]);
    }
    return at;
}

/* Reads one recipe behind the last.  Returns how many bytes it took, or a negative errno. */
static int64_t read_one(struct recipes *r, const struct geometry *g, const uint8_t *bytes,
                        size_t len)
{
    uint32_t tensor;
    size_t used;
    if (len < INDEX_BYTES)
        return -EBADMSG;
    memcpy(&tensor, bytes, INDEX_BYTES);
    if (tensor >= (uint32_t)g->ntensors || r->of[tensor])
        return -EBADMSG;
    struct recipe *to = &r->own[r->nown];
    const int err = recipe_read(to, bytes + INDEX_BYTES, len - INDEX_BYTES, &used);
    if (err)
        return err;
    r->nown++;
    r->of[tensor] = to;
    return to->channels == g->tensor[tensor].dim[CHAN] ? (int64_t)(INDEX_BYTES + used) : -EBADMSG;
}

int recipes_read(struct recipes *to, const struct geometry *g, const uint8_t *bytes, size_t len,
                 struct diag *why)
{
    struct recipes r;
    int64_t took = recipes_init(&r, g->ntensors);
    if (!took) {
        r.own = calloc((size_t)g->ntensors + 1, sizeof(*r.own));
        took = r.own ? 0 : -ENOMEM;
    }
    for (size_t at = 0; at < len && took >= 0; at += (size_t)took) {
        took = read_one(&r, g, bytes + at, len - at);
        if (took < 0)
            break;
    }
    if (took < 0) {
        recipes_done(&r);
        return diag(why, (int)took, "the recipes of the plan's halos: %s",
                    took == -ENOMEM ? "out of memory" : "damaged, or of another model");
    }
    *to = r;
    return 0;
}

int recipes_check(const struct recipes *r, const struct geometry *g, const struct program *pr,
                  struct diag *why)
{
    for (int32_t i = 0; i < pr->nsteps; i++) {
        const struct step *s = &pr->step[i];
        if (!may_use(s))
            continue;
        const struct recipe *found = r ? r->of[s->what] : NULL;
        if (!found && s->halo == HALO_DROP)
            continue;
        if (!found)
            return diag(why, -EPROTO, "step %d moves tensor %d by a recipe that the plan lacks", i,
                        s->what);
        if (found->channels != g->tensor[s->what].dim[CHAN])
            return diag(why, -EPROTO, "step %d moves tensor %d of %d channels by a recipe for %d",
                        i, s->what, g->tensor[s->what].dim[CHAN], found->channels);
    }
    return 0;
}
