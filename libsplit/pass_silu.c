#include "libsplit/passes.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "libsplit/pass_match.h"

/* If input `side` of the product `mul` is a gate on its other input x, the activation that x *
 * gate(x) is, else ACT_NONE.  *inner is an operator between x and the gate, or NULL. */
static enum act_kind gated(const struct scene *s, const struct op *mul, int side, struct op **gate,
                           struct op **inner)
{
    const int32_t x = mul->input[1 - side];
    *inner = NULL;
    *gate = match_only(s, mul, side);
    if (!*gate || (*gate)->type != OP_ACTIVATION)
        return ACT_NONE;
    const struct act *act = &(*gate)->act;
    if (act->kind == ACT_TANH) {
        *inner = match_act(s, *gate, 0, ACT_SOFTPLUS);
        return *inner && (*inner)->input[0] == x ? ACT_MISH : ACT_NONE;
    }
    if ((*gate)->input[0] != x)
        return ACT_NONE;
    if (act->kind == ACT_SIGMOID)
        return ACT_SILU;
    if (act->kind == ACT_HARD_SIGMOID && match_about(act->a, 1.0F / 6) && act->b == 0.5F)
        return ACT_HARD_SWISH;
    return ACT_NONE;
}

int pass_silu(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    const struct scene s = { g, readers };
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *mul = &g->op[i];
        for (int side = 0; side < 2 && match_product(mul); side++) {
            struct op *gate, *inner;
            const enum act_kind kind = gated(&s, mul, side, &gate, &inner);
            if (kind == ACT_NONE)
                continue;
            match_replace(mul, (struct act){ .kind = kind }, mul->input[1 - side]);
            op_kill(gate);
            if (inner)
                op_kill(inner);
        }
    }
    free(readers);
    return 0;
}
