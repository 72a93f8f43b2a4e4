/* tiling/halo.h - how exactly values travel between nodes.
 *
 * What a node computes itself is exact; only what it receives from other nodes may be coarser.
 * Inputs and outputs of the network, sums and tensors of one row are always exact. */
#ifndef TILING_HALO_H
#define TILING_HALO_H

#include <stdint.h>

enum halo {
    HALO_F32, /* bit-exact */
    HALO_F16,
    HALO_Q8, /* whole numbers of 8 or 4 bits times a scale of each message */
    HALO_Q4,
    HALO_MODES
};

/* "f32", "f16", "q8" or "q4". */
const char *halo_name(enum halo h);
/* The mode of that name, or -EINVAL. */
int halo_parse(const char *name);

/* Bytes of `values` values, without the head of their message. */
int64_t halo_bytes(enum halo h, int64_t values);

#endif
