/* libsplit/recipes.h - the recipes of a plan: how each tensor that nodes exchange travels.
 *
 * The coordinator has them from a model's halo file; the other nodes get those of their plan
 * inside it, so that no node codes by other recipes than the plan's. */
#ifndef LIBSPLIT_RECIPES_H
#define LIBSPLIT_RECIPES_H

#include "libsplit/diag.h"
#include "quant/recipe.h"
#include "tiling/program.h"

struct recipes {
    int32_t ntensors;
    const struct recipe **of; /* [ntensors], NULL where a tensor has none; the array is owned */
    struct recipe *own;       /* what recipes_read() made */
    int32_t nown;
};

/* No recipes for so many tensors.  Returns 0 or -ENOMEM; recipes_done() of zeros is fine. */
int recipes_init(struct recipes *r, int32_t ntensors);
void recipes_done(struct recipes *r);

/* Those that `pr` uses, as bytes: per tensor its index u32 and its recipe.  `bytes` is NULL or has
 * room; returns how many there are. */
size_t recipes_write(const struct recipes *r, const struct program *pr, uint8_t *bytes);

/* Reads any bytes for tensors of `g`.  Returns 0, -EBADMSG or -ENOMEM with `*why`. */
int recipes_read(struct recipes *r, const struct geometry *g, const uint8_t *bytes, size_t len,
                 struct diag *why);

/* Does every tensor that needs a recipe have one of its number of channels?  Returns 0 or -EPROTO
 * with `*why`. */
int recipes_check(const struct recipes *r, const struct geometry *g, const struct program *pr,
                  struct diag *why);

#endif
