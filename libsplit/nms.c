#include "libsplit/nms.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

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
static int rising(int32_t a, int32_t b) { return (a > b) - (a < b); }

/* A total order, so that the answer does not depend on the order of the candidates. */
static bool is_before(const struct detection *a, const struct detection *b)
{
    const int order[] = { falling(a->score, b->score),     rising(a->place, b->place),
                          falling(b->row, a->row),         falling(b->col, a->col),
                          falling(b->row_end, a->row_end), falling(b->col_end, a->col_end),
                          rising(a->index, b->index) };

    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (order[i] != 0)
            return order[i] < 0;
    return false;
}

/* Restores the heap below `at`: no box is before those under it. */
static void sink(struct detection *d, int32_t n, int32_t at)
{
    const struct detection moved = d[at];

    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_before(&d[child], &d[child + 1]))
            child++;
        if (!is_before(&moved, &d[child]))
            break;
        d[at] = d[child];
    }
    d[at] = moved;
}

/* Heapsort: qsort() may allocate. */
static void sort(struct detection *d, int32_t n)
{
    for (int32_t i = n / 2; i-- > 0;)
        sink(d, n, i);
    for (int32_t end = n - 1; end > 0; end--) {
        const struct detection last = d[0];
        d[0] = d[end];
        d[end] = last;
        sink(d, end, 0);
    }
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

    sort(d, n);
    for (int32_t i = 0; i < n && taken < limit; i++)
        if (!is_taken(d, taken, &d[i], iou))
            d[taken++] = d[i];
    return taken;
}
