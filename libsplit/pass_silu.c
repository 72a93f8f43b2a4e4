#include "libsplit/passes.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* The activation that x * gate(x) is, ACT_NONE if it has no name. */
static enum act_kind gated(const struct act *gate)
{
    if (gate->kind == ACT_SIGMOID)
        return ACT_SILU;
    if (gate->kind == ACT_HARD_SIGMOID && fabsf(gate->a - 1.0f / 6) < 1e-6f && gate->b == 0.5f)
        return ACT_HARD_SWISH;
    return ACT_NONE;
}

/* If input `side` of the product `mul` is a gate on its other input, the gate. */
static struct op *gate_of(const struct graph *g, const struct op *mul, int side)
{
    const int32_t maker = g->tensor[mul->input[side]].op;
    if (maker == GEO_NO_OP)
        return NULL;
    struct op *gate = &g->op[maker];
    return gate->type == OP_ACTIVATION && gate->input[0] == mul->input[1 - side] ? gate : NULL;
}

int pass_silu(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *mul = &g->op[i];
        if (op_is_dead(mul) || mul->type != OP_BINARY || mul->u.binary.kind != BINARY_MUL ||
            mul->ninputs != 2 || mul->act.kind != ACT_NONE)
            continue;
        for (int side = 0; side < 2; side++) {
            struct op *gate = gate_of(g, mul, side);
            const enum act_kind kind = gate ? gated(&gate->act) : ACT_NONE;
            if (kind == ACT_NONE || readers[gate->output] != 1)
                continue;
            mul->type = OP_ACTIVATION;
            mul->act = (struct act){ .kind = kind };
            mul->input[0] = gate->input[0];
            mul->ninputs = 1;
            op_kill(gate);
            break;
        }
    }
    free(readers);
    return 0;
}
