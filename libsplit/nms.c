#include "libsplit/nms.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static float area(float rows, float cols) { return rows > 0 && cols > 0 ? rows * cols : 0; }

float nms_iou(const struct detection *a, const struct detection *b)
{
    const float both = area(fminf(a->row_end, b->row_end) - fmaxf(a->row, b->row),
                            fminf(a->col_end, b->col_end) - fmaxf(a->col, b->col));
    const float any = area(a->row_end - a->row, a->col_end - a->col) +
                      area(b->row_end - b->row, b->col_end - b->col) - both;

    return both > 0 ? both / any : 0;
}

static int falling(float a, float b) { return (a < b) - (a > b); }

/* A total order, so that the answer does not depend on the order of the candidates. */
static int by_score(const void *x, const void *y)
{
    const struct detection *a = x, *b = y;
    const int order[] = {
        falling(a->score, b->score),     falling(b->row, a->row),
        falling(b->col, a->col),         falling(b->row_end, a->row_end),
        falling(b->col_end, a->col_end), (a->index > b->index) - (a->index < b->index)
    };

    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (order[i] != 0)
            return order[i];
    return 0;
}

static bool is_taken(const struct detection *taken, int32_t n, const struct detection *d, float iou)
{
    for (int32_t i = 0; i < n; i++)
        if (taken[i].index == d->index && nms_iou(&taken[i], d) > iou)
            return true;
    return false;
}

int32_t nms(struct detection *d, int32_t n, float iou, int32_t limit)
{
    int32_t taken = 0;

    if (n > 0)
        qsort(d, (size_t)n, sizeof *d, by_score);
    for (int32_t i = 0; i < n && taken < limit; i++)
        if (!is_taken(d, taken, &d[i], iou))
            d[taken++] = d[i];
    return taken;
}
