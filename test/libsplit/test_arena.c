#include "libsplit/arena.h"

#include <errno.h>
#include <stdlib.h>

#include <criterion/criterion.h>

static bool overlap(const struct arena_item *a, const struct arena_item *b)
{
    return a->first <= b->last && b->first <= a->last && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

Test(arena, live_items_never_overlap)
{
    srand(1);
    for (int round = 0; round < 3000; round++) {
        struct arena_item item[40];
        const int32_t n = rand() % 40;
        int64_t sum = 0, most = 0, live[64] = { 0 };
        for (int32_t i = 0; i < n; i++) {
            const int32_t first = rand() % 50;
            item[i] = (struct arena_item){ .bytes = rand() % 5000,
                                           .first = first,
                                           .last = first + rand() % 10 };
        }
        const int64_t total = arena_plan(item, n);
        for (int32_t i = 0; i < n; i++) {
            cr_assert(item[i].offset >= 0 && item[i].offset % ARENA_ALIGN == 0);
            cr_assert(item[i].offset + item[i].bytes <= total);
            sum += item[i].bytes;
            for (int32_t s = item[i].first; s <= item[i].last; s++)
                live[s] += item[i].bytes;
            for (int32_t k = 0; k < i; k++)
                cr_assert(!overlap(&item[i], &item[k]), "round %d: items %d and %d", round, i, k);
        }
        for (int s = 0; s < 64; s++)
            most = live[s] > most ? live[s] : most;
        cr_assert(total >= most && total <= sum);
    }
}

/* A chain of equal layers needs two buffers, however long it is. */
Test(arena, chain_takes_two_buffers)
{
    struct arena_item item[20];
    for (int32_t i = 0; i < 20; i++)
        item[i] = (struct arena_item){ .bytes = 640, .first = i, .last = i + 1 };
    cr_assert_eq(arena_plan(item, 20), 1280);
}

Test(arena, refuses_what_cannot_be_added_up)
{
    struct arena_item item[2] = { { .bytes = INT64_MAX - 100 }, { .bytes = INT64_MAX - 100 } };
    cr_assert_eq(arena_plan(item, 2), -EOVERFLOW);
    item[0].bytes = INT64_MAX;
    cr_assert_eq(arena_plan(item, 1), -EOVERFLOW);
    cr_assert_eq(arena_plan(item, 0), 0);
}
