/* ReLU6 comes as Relu and Clip, or as Max and Min with numbers: all are bounds, and bounds of
 * bounds are bounds. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "libsplit/pass_match.h"
#include "libsplit/passes.h"

struct bounds {
    float lo, hi;
};

/* True if `op` only keeps values within *b. */
static bool match_bounds(const struct graph *g, const struct op *op, struct bounds *b)
{
    *b = (struct bounds){ -INFINITY, INFINITY };
    if (op_is_dead(op))
        return false;
    if (op->type == OP_ACTIVATION && op->act.kind == ACT_RELU) {
        b->lo = 0;
        return true;
    }
    if (op->type == OP_ACTIVATION && op->act.kind == ACT_CLIP) {
        *b = (struct bounds){ op->act.a, op->act.b };
        return b->lo <= b->hi;
    }
    float number;
    if (!match_number(g, op, &number))
        return false;
    if (op->u.binary.kind == BINARY_MAX)
        b->lo = number;
    else if (op->u.binary.kind == BINARY_MIN)
        b->hi = number;
    else
        return false;
    return true;
}

static float within(float x, struct bounds b) { return fminf(fmaxf(x, b.lo), b.hi); }

static struct act clip(struct bounds b)
{
    if (b.lo == 0 && b.hi == INFINITY)
        return (struct act){ .kind = ACT_RELU };
    return (struct act){ .kind = ACT_CLIP, .a = b.lo, .b = b.hi };
}

int pass_clip(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    const struct scene s = { g, readers };
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *op = &g->op[i];
        struct bounds outer, inner;
        if (!match_bounds(g, op, &outer))
            continue;
        struct op *before = match_only(&s, op, 0);
        if (before && match_bounds(g, before, &inner)) {
            outer = (struct bounds){ within(inner.lo, outer), within(inner.hi, outer) };
            match_replace(op, clip(outer), before->input[0]);
            op_kill(before);
        } else {
            match_replace(op, clip(outer), op->input[0]);
        }
    }
    free(readers);
    return 0;
}
