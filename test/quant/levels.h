/* test/quant/levels.h - random levels, grids and recipes. */
#ifndef TEST_QUANT_LEVELS_H
#define TEST_QUANT_LEVELS_H

#include "quant/recipe.h"

/* Levels of a small random shape, from nearly empty to dense, with a few large ones.  free() the
 * storage. */
struct levels test_levels(unsigned seed, bool with_sign);
/* Of the same shape, filled with what must be overwritten. */
struct levels test_levels_like(const struct levels *l);
bool test_levels_equal(const struct levels *a, const struct levels *b);
bool test_levels_in_range(const struct levels *l);

/* Contexts with random weights for so many channels; context_done() frees. */
struct context test_context(unsigned seed, int32_t channels, bool with_sign, bool with_before);

/* With one or both contexts or none, with or without `rest`; recipe_done() frees. */
struct recipe test_recipe(unsigned seed, int32_t channels);

/* A message of `g->channels` channels inside a larger tensor; `*values` is how many floats the
 * strides reach over. */
struct grid test_grid(unsigned seed, size_t *values);

#endif
