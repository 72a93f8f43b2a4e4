/* libsplit/kernel.h - computing a part of one operator's output.
 *
 * One table row per operator type (libsplit/kernels.c).  A faster kernel replaces a row, or
 * becomes a choice made in its prepare(); nothing else in the library knows kernels. */
#ifndef LIBSPLIT_KERNEL_H
#define LIBSPLIT_KERNEL_H

#include <stddef.h>

#include "libsplit/graph.h"

/* A part of one image of a tensor in memory.  Value (r, c, k), in coordinates of the whole
 * tensor, lies at data[(r - box.lo[ROW]) * row_stride + (c - box.lo[COL]) * pixel_stride +
 * (k - box.lo[CHAN])].  Strides in floats. */
struct view {
    float *data;
    struct box box;
    ptrdiff_t row_stride, pixel_stride;
    ptrdiff_t image_stride; /* from here to the same value of the next image */
};

static inline float *view_at(const struct view *v, int32_t r, int32_t c, int32_t k)
{
    return v->data + (r - v->box.lo[ROW]) * v->row_stride + (c - v->box.lo[COL]) * v->pixel_stride +
           (k - v->box.lo[CHAN]);
}

struct kernel_call {
    const struct graph *graph;
    const struct op *op;
    /* [op->ninputs], each holds at least what the reach says; no data and an empty box where
     * that is nothing.  A view shows image number `image`; image 0 where the input's batch is
     * not the output's, and always for OP_RESHAPE, which walks image_stride itself. */
    const struct view *in;
    struct view out;    /* holds at least `region` */
    struct box region;  /* the part of the output to write, not empty */
    struct span pieces; /* of those of kernel.pieces(), the ones to write; empty: all */
    int32_t image;      /* index in the batch (for constants that vary with it) */
    struct box share;   /* OP_PARTIAL: the part of the input to reduce, may be empty */
    int32_t nodes;      /* OP_COMBINE: rows of its input */
    float *scratch;     /* scratch_bytes(), 64-byte aligned */
};

struct kernel {
    /* Lays out the weights behind output channels `channels`, or more; the result becomes
     * op->packed, and run() is asked for no others.  NULL: nothing to prepare.
     * Returns 0 or -ENOMEM. */
    int (*prepare)(const struct graph *g, const struct op *op, struct span channels, void **packed);
    void (*release)(void *packed);
    /* Most scratch that a call on any region can want.  NULL: none. */
    size_t (*scratch_bytes)(const struct graph *g, const struct op *op);
    /* Bytes that prepare() will take.  NULL: none. */
    size_t (*packed_bytes)(const struct graph *g, const struct op *op, struct span channels);
    /* Writes `region` of the output, activation included.  Cannot fail, allocates nothing.
     * The value of an output pixel does not depend on how the map is cut into regions:
     * bit-equal for every cut (test/libsplit/test_kernels.c); of convolutions, where
     * libsplit/conv.h says. */
    void (*run)(const struct kernel_call *call);
    /* The pieces of `region` that run() computes one by one, each at about the same cost, where
     * they are not its rows: threads share them.  NULL or 0: they are. */
    int32_t (*pieces)(const struct graph *g, const struct op *op, const struct box *region);
    /* The place near channel `at`, not after the last, where threads may share the channels of a
     * region, each at no more than its part of the cost; 0: nowhere.  Bit-equal, like rows.
     * `op` is packed.  NULL: anywhere. */
    int32_t (*cut_channel)(const struct graph *g, const struct op *op, int32_t at);
};

extern const struct kernel kernels[OP_TYPES];

/* All output channels of `op`. */
static inline struct span all_channels(const struct graph *g, const struct op *op)
{
    return (struct span){ 0, g->tensor[op->output].dim[CHAN] };
}

/* Sets channels[i] for every operator i to the output channels that `count` programs compute, in
 * one stretch; empty where they run it not at all. */
void program_channels(const struct graph *g, const struct program *pr, int32_t count,
                      struct span *channels);

/* Frees what graph_pack() laid out; graph_done() calls it first. */
void graph_unpack(struct graph *g);

/* Applies op->act to `n` pixels of `channels` floats, channel `k0` first, in place. */
void act_apply(const struct act *act, float *x, ptrdiff_t pixel_stride, int32_t n, int32_t k0,
               int32_t channels);

#endif
