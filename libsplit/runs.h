/* libsplit/runs.h - a box of a stored tensor as runs of values that lie side by side.
 *
 * Messages hold boxes; buffers hold larger boxes.  Walking a box in runs moves it with the
 * fewest and longest copies: a band of whole rows is one run. */
#ifndef LIBSPLIT_RUNS_H
#define LIBSPLIT_RUNS_H

#include <stdbool.h>
#include <stddef.h>

#include "tiling/box.h"

enum { RUNS_LEVELS = 3 }; /* images, rows, columns */

struct runs {
    size_t len;    /* values in every run */
    size_t offset; /* of the current run from the first value of the buffer, in values */
    size_t first;  /* number of the run's first value, counted in the order of the runs */
    /* Private: what is not merged into a run, outermost first. */
    int32_t count[RUNS_LEVELS], at[RUNS_LEVELS];
    size_t stride[RUNS_LEVELS];
};

/* Walks `part` of each of `batch` images stored as `stored` (NHWC, dense):
 *
 *     for (bool more = runs_begin(&r, stored, part, batch); more; more = runs_next(&r))
 *
 * `part` lies inside `stored`. */
bool runs_begin(struct runs *r, struct box stored, struct box part, int32_t batch);
bool runs_next(struct runs *r);

#endif
