#include "tiling/box.h"

static int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }

bool box_equal(struct box a, struct box b)
{
    if (box_empty(a) || box_empty(b))
        return box_empty(a) && box_empty(b);
    for (int x = 0; x < AXES; x++)
        if (a.lo[x] != b.lo[x] || a.hi[x] != b.hi[x])
            return false;
    return true;
}

bool box_inside(struct box inner, struct box outer)
{
    if (box_empty(inner))
        return true;
    for (int x = 0; x < AXES; x++)
        if (inner.lo[x] < outer.lo[x] || inner.hi[x] > outer.hi[x])
            return false;
    return true;
}

struct box box_intersect(struct box a, struct box b)
{
    for (int x = 0; x < AXES; x++) {
        a.lo[x] = max32(a.lo[x], b.lo[x]);
        a.hi[x] = min32(a.hi[x], b.hi[x]);
    }
    return box_empty(a) ? box_none() : a;
}

struct box box_hull(struct box a, struct box b)
{
    if (box_empty(a))
        return box_empty(b) ? box_none() : b;
    if (box_empty(b))
        return a;
    for (int x = 0; x < AXES; x++) {
        a.lo[x] = min32(a.lo[x], b.lo[x]);
        a.hi[x] = max32(a.hi[x], b.hi[x]);
    }
    return a;
}

int box_subtract(struct box a, struct box b, struct box out[BOX_SUBTRACT_MAX])
{
    if (box_empty(a))
        return 0;
    const struct box hole = box_intersect(a, b);
    if (box_empty(hole)) {
        out[0] = a;
        return 1;
    }

    /* Slice off both sides of the hole on one axis after the other; what is left has the
     * hole's extent there, so the next slices meet none of the former. */
    int n = 0;
    for (int x = 0; x < AXES; x++) {
        if (a.lo[x] < hole.lo[x]) {
            out[n] = a;
            out[n++].hi[x] = hole.lo[x];
        }
        if (hole.hi[x] < a.hi[x]) {
            out[n] = a;
            out[n++].lo[x] = hole.hi[x];
        }
        a.lo[x] = hole.lo[x];
        a.hi[x] = hole.hi[x];
    }
    return n;
}
