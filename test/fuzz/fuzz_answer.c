/* Any bytes as the message of an answer in any form. */
#include <stdlib.h>
#include <string.h>

#include "libsplit/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 6, MOST = 16 };

static int32_t extent(uint8_t byte) { return 1 + byte % MOST; }

/* The first bytes say form, extents and the part; the rest is the message.  Memory ends where the
 * output does. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    const struct answer_rule a = { .form = (enum answer_form)(1 + data[0] % (ANSWER_FORMS - 1)) };
    const int32_t dim[AXES] = { extent(data[1]), a.form == ANSWER_CANDIDATES ? 1 : extent(data[2]),
                                a.form == ANSWER_MASK ? 1 : extent(data[3]) };
    const int32_t lo = data[4] % dim[ROW], hi = lo + 1 + data[5] % (dim[ROW] - lo);
    const struct box part = box_rows(box_whole(dim), lo, hi);
    const size_t n = (size_t)box_values(box_whole(dim)), bytes = answer_bytes(&a, dim);
    float *values = malloc(n * sizeof *values);
    uint8_t *to = malloc(bytes + 1);
    if (values && to && answer_fits(&a, dim, 1, part))
        (void)answer_decode(&a, data + HEAD, size - HEAD, dim, part, values, to);
    free(values);
    free(to);
    return 0;
}
