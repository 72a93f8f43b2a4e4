#include "libsplit/arena.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Sorts by falling size, then by number, so that every node plans alike. */
struct order {
    int64_t bytes;
    int32_t index;
};

static int by_falling_size(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool live_together(const struct arena_item *a, const struct arena_item *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* First gap of item `it` between the `n` placed items, which stand by rising offset. */
static int64_t first_fit(const struct arena_item *item, const int32_t *placed, int32_t n,
                         const struct arena_item *it)
{
    int64_t end = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct arena_item *other = &item[placed[i]];
        if (!live_together(it, other))
            continue;
        if (other->offset - end >= it->bytes)
            break;
        if (other->offset + other->bytes > end)
            end = other->offset + other->bytes;
    }
    return end;
}

static void insert_by_offset(const struct arena_item *item, int32_t *placed, int32_t n, int32_t it)
{
    int32_t i = n;
    for (; i > 0 && item[placed[i - 1]].offset > item[it].offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = it;
}

/* Rounds sizes up to the alignment.  Returns false when all together would overflow. */
static bool align_sizes(struct arena_item *item, int32_t n)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        if (item[i].bytes > INT64_MAX - ARENA_ALIGN)
            return false;
        item[i].bytes = (item[i].bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
        if (__builtin_add_overflow(sum, item[i].bytes, &sum))
            return false;
    }
    return true;
}

int64_t arena_plan(struct arena_item *item, int32_t n)
{
    if (n <= 0)
        return 0;
    if (!align_sizes(item, n))
        return -EOVERFLOW;
    int64_t total = -ENOMEM;
    struct order *order = calloc((size_t)n, sizeof(*order));
    int32_t *placed = calloc((size_t)n, sizeof(*placed));
    if (!order || !placed)
        goto out;

    for (int32_t i = 0; i < n; i++)
        order[i] = (struct order){ item[i].bytes, i };
    qsort(order, (size_t)n, sizeof(*order), by_falling_size);
    total = 0;
    for (int32_t i = 0; i < n; i++) {
        struct arena_item *it = &item[order[i].index];
        it->offset = first_fit(item, placed, i, it);
        insert_by_offset(item, placed, i, order[i].index);
        if (it->offset + it->bytes > total)
            total = it->offset + it->bytes;
    }
out:
    free(placed);
    free(order);
    return total;
}
