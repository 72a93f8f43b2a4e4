/* libsplit/npy.h - NumPy's .npy files, the exchange format of tests and of splitctl run. */
#ifndef LIBSPLIT_NPY_H
#define LIBSPLIT_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"
#include "libsplit/shape.h"

struct npy {
    int32_t rank;
    int32_t dim[SHAPE_MAX_RANK];
    int64_t count;
    float *values; /* row-major, owned */
};

/* Reads versions 1 to 3, little-endian f4, f8, u1, i4, i8, C order; converts to float.
 * Returns 0, an error of open(2), -EINVAL (no .npy, cut off, another type) or -ENOMEM. */
int npy_load(struct npy *a, const char *file, struct diag *why);
/* The same from memory; `name` is quoted in messages. */
int npy_parse(struct npy *a, const uint8_t *bytes, size_t len, const char *name, struct diag *why);
void npy_done(struct npy *a);

/* Writes version 1, f4, C order.  Returns 0, -EINVAL (a shape that npy_load() would not
 * take) or an error of open(2) or write(2). */
int npy_save(const char *file, int32_t rank, const int32_t *dim, const float *values,
             struct diag *why);

#endif
