#include "libsplit/pass_match.h"

#include <math.h>

#include "libsplit/passes.h"

struct op *match_only(const struct scene *s, const struct op *op, int side)
{
    const int32_t tensor = op->input[side];
    const int32_t maker = s->g->tensor[tensor].op;
    return maker == GEO_NO_OP || s->readers[tensor] != 1 ? NULL : &s->g->op[maker];
}

struct op *match_act(const struct scene *s, const struct op *op, int side, enum act_kind kind)
{
    struct op *act = match_only(s, op, side);
    return act && act->type == OP_ACTIVATION && act->act.kind == kind ? act : NULL;
}

bool match_number(const struct graph *g, const struct op *op, float *number)
{
    if (op_is_dead(op) || op->type != OP_BINARY || !op->u.binary.constant ||
        op->act.kind != ACT_NONE)
        return false;
    const struct tensor *in = &g->tensor[op->input[0]], *out = &g->tensor[op->output];
    const int64_t *stride = op->u.binary.stride;
    if (in->batch != out->batch || (stride[AXES] && out->batch > 1))
        return false;
    for (int a = 0; a < AXES; a++)
        if (in->dim[a] != out->dim[a] || (stride[a] && out->dim[a] > 1))
            return false;
    *number = op->u.binary.constant[0];
    return isfinite(*number);
}

float match_factor(const struct graph *g, const struct op *op)
{
    float number;
    if (!match_number(g, op, &number) || number == 0)
        return 0;
    if (op->u.binary.kind == BINARY_MUL)
        return number;
    return op->u.binary.kind == BINARY_DIV && !op->u.binary.constant_first ? 1 / number : 0;
}

static bool has_channel_constant(const struct graph *g, const struct op *op)
{
    if (op->type != OP_BINARY || !op->u.binary.constant || op->u.binary.kind > BINARY_DIV)
        return false;
    const struct tensor *in = &g->tensor[op->input[0]], *out = &g->tensor[op->output];
    for (int a = 0; a < AXES; a++)
        if (in->dim[a] != out->dim[a])
            return false;
    const int64_t *stride = op->u.binary.stride;
    if ((stride[ROW] && out->dim[ROW] > 1) || (stride[COL] && out->dim[COL] > 1) ||
        (stride[AXES] && out->batch > 1))
        return false;
    return op->u.binary.kind != BINARY_DIV || !op->u.binary.constant_first;
}

struct line match_line_at(const struct op *op, int32_t c)
{
    if (op->type == OP_AFFINE)
        return (struct line){ op->u.affine.scale[c], op->u.affine.bias[c] };
    const float k = op->u.binary.constant[c * op->u.binary.stride[CHAN]];
    switch (op->u.binary.kind) {
    case BINARY_ADD:
        return (struct line){ 1, k };
    case BINARY_SUB:
        return op->u.binary.constant_first ? (struct line){ -1, k } : (struct line){ 1, -k };
    case BINARY_MUL:
        return (struct line){ k, 0 };
    default:
        return (struct line){ 1 / k, 0 };
    }
}

bool match_line(const struct graph *g, const struct op *op)
{
    if (op_is_dead(op) || (op->type != OP_AFFINE && !has_channel_constant(g, op)))
        return false;
    /* Infinite and NaN lines stay apart: they would spoil sums that were finite. */
    for (int32_t c = 0; c < g->tensor[op->output].dim[CHAN]; c++) {
        const struct line l = match_line_at(op, c);
        if (!isfinite(l.scale) || !isfinite(l.bias))
            return false;
    }
    return true;
}

bool match_product(const struct op *op)
{
    return !op_is_dead(op) && op->type == OP_BINARY && op->u.binary.kind == BINARY_MUL &&
           op->ninputs == 2 && op->act.kind == ACT_NONE;
}

bool match_about(float a, float b) { return fabsf(a - b) <= 1e-6F * fabsf(b); }

void match_replace(struct op *op, struct act act, int32_t x)
{
    op->type = OP_ACTIVATION;
    op->act = act;
    op->input[0] = x;
    op->ninputs = 1;
}
