#include "libsplit/runs.h"

static size_t extent(struct box b, enum axis a) { return (size_t)box_len(b, a); }

bool runs_begin(struct runs *r, struct box stored, struct box part, int32_t batch)
{
    if (box_empty(part) || batch < 1)
        return false;
    const size_t pixel = extent(stored, CHAN), row = pixel * extent(stored, COL);
    const size_t image = row * extent(stored, ROW);
    *r = (struct runs){
        .len = extent(part, CHAN),
        .offset = (size_t)(part.lo[ROW] - stored.lo[ROW]) * row +
                  (size_t)(part.lo[COL] - stored.lo[COL]) * pixel +
                  (size_t)(part.lo[CHAN] - stored.lo[CHAN]),
        .count = { batch, box_len(part, ROW), box_len(part, COL) },
        .stride = { image, row, pixel },
    };
    /* From the inside out: a level whose steps are as long as the run continues it. */
    for (int l = RUNS_LEVELS - 1; l >= 0 && (r->stride[l] == r->len || r->count[l] == 1); l--) {
        r->len *= (size_t)r->count[l];
        r->count[l] = 1;
    }
    return true;
}

bool runs_next(struct runs *r)
{
    r->first += r->len;
    for (int l = RUNS_LEVELS - 1; l >= 0; l--) {
        if (++r->at[l] < r->count[l]) {
            r->offset += r->stride[l];
            return true;
        }
        r->offset -= (size_t)(r->at[l] - 1) * r->stride[l];
        r->at[l] = 0;
    }
    return false;
}
