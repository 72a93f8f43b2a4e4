/* test/tiling/rule.h - what operators read on one axis, by definition: position by position.
 *
 * The independent twin of tiling/reach.h. */
#ifndef TEST_TILING_RULE_H
#define TEST_TILING_RULE_H

#include <stdbool.h>

#include "tiling/reach.h"

enum rule_kind {
    RULE_SAME,
    RULE_ALL,
    RULE_WINDOW,
    RULE_TRANSPOSED,
    RULE_SHIFT,
    RULE_UP,
    RULE_DOWN
};

struct rule {
    enum rule_kind kind;
    int32_t kernel, stride, dilation, pad; /* WINDOW, TRANSPOSED */
    int32_t offset, step;                  /* SHIFT */
    int32_t factor;                        /* UP, DOWN */
    int32_t len;                           /* ALL */
};

/* Does output position `out` read input position `in`? */
bool rule_reads(const struct rule *r, int32_t out, int32_t in);
struct reach rule_reach(const struct rule *r);

#endif
