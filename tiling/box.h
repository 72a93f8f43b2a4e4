/* tiling/box.h - boxes of a tensor: the only geometry that a plan knows.
 *
 * A tensor is rows x columns x channels (a batch repeats it and is never cut).  A box
 * is a half-open range on each of the three axes, in whole-tensor coordinates, never
 * in those of a tile.  A box with an empty axis is empty and equals every other empty
 * box; box_none() is the one that functions return. */
#ifndef TILING_BOX_H
#define TILING_BOX_H

#include <stdbool.h>
#include <stdint.h>

enum axis { ROW, COL, CHAN, AXES };

/* Largest extent of an axis, and largest number of values in a box.  Everything that
 * enters from a file or the network is checked against them, so sums and products of
 * coordinates fit int64_t. */
#define BOX_MAX_EXTENT ((int32_t)1 << 28)
#define BOX_MAX_VALUES ((int64_t)1 << 31)

struct span {
    int32_t lo, hi;
};

struct box {
    int32_t lo[AXES], hi[AXES];
};

static inline struct box box_none(void) { return (struct box){ { 0 }, { 0 } }; }

/* The box that covers a whole tensor of `dim` = { rows, columns, channels }. */
static inline struct box box_whole(const int32_t dim[AXES])
{
    return (struct box){ { 0, 0, 0 }, { dim[ROW], dim[COL], dim[CHAN] } };
}

static inline int32_t box_len(struct box b, enum axis a) { return b.hi[a] - b.lo[a]; }

static inline bool box_empty(struct box b)
{
    return b.lo[ROW] >= b.hi[ROW] || b.lo[COL] >= b.hi[COL] || b.lo[CHAN] >= b.hi[CHAN];
}

/* Number of values in `b`, 0 if it is empty. */
static inline int64_t box_values(struct box b)
{
    if (box_empty(b))
        return 0;
    return (int64_t)box_len(b, ROW) * box_len(b, COL) * box_len(b, CHAN);
}

/* `b` with [lo, hi) of axis `a` in place of its own; box_none() if that is empty. */
static inline struct box box_band(struct box b, enum axis a, int32_t lo, int32_t hi)
{
    b.lo[a] = lo;
    b.hi[a] = hi;
    return box_empty(b) ? box_none() : b;
}

/* The same for rows. */
static inline struct box box_rows(struct box b, int32_t lo, int32_t hi)
{
    return box_band(b, ROW, lo, hi);
}

bool box_equal(struct box a, struct box b);
bool box_inside(struct box inner, struct box outer); /* an empty `inner` is inside anything */
struct box box_intersect(struct box a, struct box b);
/* The smallest box that holds both; an empty one does not count. */
struct box box_hull(struct box a, struct box b);

enum { BOX_SUBTRACT_MAX = 2 * AXES };

/* Cuts `a` minus `b` into disjoint boxes.  Writes them to `out`, in the order above,
 * below, left, right, first channels, last channels, and returns how many (0 when `b`
 * covers `a`; 1 and `a` itself when they do not meet). */
int box_subtract(struct box a, struct box b, struct box out[BOX_SUBTRACT_MAX]);

#endif
