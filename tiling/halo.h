/* tiling/halo.h - how exactly values travel between nodes.
 *
 * What a node computes itself is exact; only what it receives from other nodes may be coarser.
 * Inputs and outputs of the network are always exact; sums and tensors of one row, too, unless they
 * were calibrated. */
#ifndef TILING_HALO_H
#define TILING_HALO_H

#include <stdint.h>

enum halo {
    HALO_F32, /* bit-exact */
    HALO_F16,
    HALO_Q8, /* whole numbers of 8 or 4 bits times a scale of each message */
    HALO_Q4,
    HALO_TQ,    /* few levels, entropy-coded, by the tensor's recipe (quant/recipe.h) */
    HALO_VIDEO, /* the same on top of the previous frame */
    HALO_DROP,  /* nothing is sent: what a node misses reads as zero, or as the recipe says */
    HALO_MODES,
    HALO_AUTO = HALO_MODES /* of options, not of messages: HALO_TQ where a model is calibrated, else
                            * HALO_F32; daemons measure, see daemon/trial.h */
};

/* Of a set. */
static inline uint32_t halo_bit(enum halo h) { return UINT32_C(1) << h; }

/* "f32", "f16", "q8", "q4", "tq", "video" or "drop"; HALO_AUTO: "auto". */
const char *halo_name(enum halo h);
/* The mode of that name (not "auto"), or -EINVAL. */
int halo_parse(const char *name);

/* Bytes of `values` values at most, without the head of their message. */
int64_t halo_bytes(enum halo h, int64_t values);
/* Multiply-adds that take about as long as to encode so many, or to decode them. */
int64_t halo_work(enum halo h, int64_t values);

#endif
