/* tiling/geometry.h - what a planner needs to know of a network: shapes and reaches.
 *
 * Values only: no weights, no kinds of operator, no strings.  libsplit makes one from a
 * graph; tests make them at random.  Every operator yields exactly one tensor, and
 * operators stand in an order in which they can run.
 *
 * A reduction over rows and columns (global pooling, the mean of squeeze-and-excite) is
 * two operators.  GEO_PARTIAL reads what a node owns of its first input and yields that
 * node's row of a tensor with one row per node; the operator after it is an ordinary
 * one that reads all rows.  The geometry of such a network therefore depends on the
 * number of nodes. */
#ifndef TILING_GEOMETRY_H
#define TILING_GEOMETRY_H

#include "tiling/box.h"
#include "tiling/reach.h"

enum { GEO_MAX_INPUTS = 64, GEO_MAX_TENSORS = 1 << 16, GEO_NO_OP = -1, GEO_MAX_WAYS = 5 };

enum geo_kind {
    GEO_MAP,     /* needs what its reaches say */
    GEO_PARTIAL, /* row i of the output is node i's own share; one input */
};

struct geo_tensor {
    int32_t dim[AXES]; /* rows, columns, channels; each >= 1 */
    int32_t batch;     /* images, >= 1; every box stands for that many */
    int32_t op;        /* the operator that yields it, GEO_NO_OP for an input of the network */
    bool output;       /* the host wants all of it */
};

struct geo_input {
    int32_t tensor;
    struct reach reach[AXES];
};

/* What one way to compute an operator takes, for plans to weigh.  All for one image; a band of
 * channels takes its part. */
struct geo_way {
    /* Output rows that are computed together, counted from a band's first row; 0 counts as 1. */
    int32_t row_unit;
    /* Where a band ends early in its last unit, r rows of that take (r + row_more) / (row_unit +
     * row_more) of a whole one; 0: as long as that. */
    int32_t row_more;
    int64_t work;         /* multiply-adds of a plain product that takes as long, whole output */
    int64_t band_work;    /* the same once more for every band of rows, however low */
    int64_t weight_bytes; /* read meanwhile: what takes longer counts */
};

struct geo_op {
    enum geo_kind kind;
    int32_t out;            /* tensor */
    int32_t first, ninputs; /* in geometry.input[] */
    /* Output channels that are computed together (a group of a convolution), so that cuts of
     * channels between them save nothing; 0 or 1: none are. */
    int32_t channel_unit;
    int64_t weight_bytes; /* of way[0] */
    int64_t macs;         /* multiply-adds for the whole output, one image */
    /* way[0] is how one node computes it; the others are taken in its place, by all nodes, where
     * bands of rows are so low that they take less.  Estimates go by what takes least: that way[0]
     * does for the whole output was found on the machine, whatever a plan's costs say.  0 ways:
     * one, of `macs` and `weight_bytes`. */
    int32_t nways;
    struct geo_way way[GEO_MAX_WAYS];
};

struct geometry {
    int32_t nodes; /* what GEO_PARTIAL tensors were made for */
    int32_t ntensors, nops, ninputs;
    struct geo_tensor *tensor;
    struct geo_op *op;
    struct geo_input *input;
};

/* Allocates the three arrays, zeroed.  Returns 0, -EINVAL (a count is negative or above
 * its cap) or -ENOMEM. */
int geometry_init(struct geometry *g, int32_t nodes, int32_t ntensors, int32_t nops,
                  int32_t ninputs);
void geometry_done(struct geometry *g);

/* Returns 0 if `g` keeps every promise of this page, else -EINVAL. */
int geometry_check(const struct geometry *g);

/* All of tensor `t`. */
static inline struct box geometry_whole(const struct geometry *g, int32_t t)
{
    return box_whole(g->tensor[t].dim);
}

static inline bool geometry_is_input(const struct geometry *g, int32_t t)
{
    return g->tensor[t].op == GEO_NO_OP;
}

/* Does tensor `t` hold one row per node? */
static inline bool geometry_is_partial(const struct geometry *g, int32_t t)
{
    return !geometry_is_input(g, t) && g->op[g->tensor[t].op].kind == GEO_PARTIAL;
}

/* Output rows that one node computes together of operator `o`, >= 1. */
static inline int32_t geometry_row_unit(const struct geometry *g, int32_t o)
{
    return g->op[o].nways > 0 && g->op[o].way[0].row_unit > 1 ? g->op[o].way[0].row_unit : 1;
}

/* What `op` reads of its input number `i` to compute `out` (GEO_MAP only). */
struct box geometry_need(const struct geometry *g, int32_t op, int32_t i, struct box out);

#endif
