/* tiling/readers.h - who reads each tensor: geometry.input[] the other way round. */
#ifndef TILING_READERS_H
#define TILING_READERS_H

#include "tiling/geometry.h"

/* Operator `op` reads the tensor as its input number `input`. */
struct reader {
    int32_t op, input;
};

struct readers {
    int32_t *first; /* [ntensors + 1]: those of tensor t are reader[first[t]..first[t + 1]) */
    struct reader *reader; /* of a tensor by rising operator, then input */
};

/* Returns 0 or -ENOMEM.  On success readers_done() frees. */
int readers_init(struct readers *r, const struct geometry *g);
void readers_done(struct readers *r);

#endif
