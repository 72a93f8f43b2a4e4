#include "libsplit/passes.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* y = scale * x + bias on one channel. */
struct line {
    float scale, bias;
};

static bool is_convolution(const struct op *op)
{
    return op->type == OP_CONV || op->type == OP_CONV_TRANSPOSE;
}

/* True if `op` is y = scale[c] * x + bias[c] with constants, one per channel. */
static bool is_line(const struct graph *g, const struct op *op)
{
    if (op->type == OP_AFFINE)
        return true;
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

static struct line line_at(const struct op *op, int32_t c)
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

/* Infinite and NaN lines stay apart: they would spoil sums that were finite. */
static bool all_finite(const struct op *op, int32_t channels)
{
    for (int32_t c = 0; c < channels; c++) {
        const struct line l = line_at(op, c);
        if (!isfinite(l.scale) || !isfinite(l.bias))
            return false;
    }
    return true;
}

/* Scale and bias of a convolution as arrays, made where there are none. */
static int make_arrays(struct graph *g, struct op *conv, int32_t channels)
{
    if (!conv->u.conv.scale) {
        float *scale = graph_floats(g, (size_t)channels);
        if (!scale)
            return -ENOMEM;
        for (int32_t c = 0; c < channels; c++)
            scale[c] = 1;
        conv->u.conv.scale = scale;
    }
    if (!conv->u.conv.bias)
        conv->u.conv.bias = graph_floats(g, (size_t)channels);
    return conv->u.conv.bias ? 0 : -ENOMEM;
}

int pass_fold_affine(struct graph *g)
{
    int rc = 0;
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    for (int32_t i = 0; i < g->nops && rc == 0; i++) {
        struct op *op = &g->op[i];
        if (op_is_dead(op) || !is_line(g, op) || g->tensor[op->input[0]].op == GEO_NO_OP)
            continue;
        struct op *conv = &g->op[g->tensor[op->input[0]].op];
        const int32_t channels = g->tensor[op->output].dim[CHAN];
        if (!is_convolution(conv) || conv->act.kind != ACT_NONE || readers[conv->output] != 1 ||
            !all_finite(op, channels))
            continue;
        if ((rc = make_arrays(g, conv, channels)) < 0)
            break;
        for (int32_t c = 0; c < channels; c++) {
            const struct line l = line_at(op, c);
            conv->u.conv.scale[c] *= l.scale;
            conv->u.conv.bias[c] = conv->u.conv.bias[c] * l.scale + l.bias;
        }
        conv->act = op->act;
        op_absorb(g, conv, op);
    }
    free(readers);
    return rc;
}
