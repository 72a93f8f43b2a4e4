#include <errno.h>
#include <stdlib.h>

#include "libsplit/pass_match.h"
#include "libsplit/passes.h"

static bool is_convolution(const struct op *op)
{
    return op->type == OP_CONV || op->type == OP_CONV_TRANSPOSE;
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
        if (!match_line(g, op) || g->tensor[op->input[0]].op == GEO_NO_OP)
            continue;
        struct op *conv = &g->op[g->tensor[op->input[0]].op];
        const int32_t channels = g->tensor[op->output].dim[CHAN];
        if (!is_convolution(conv) || conv->act.kind != ACT_NONE || readers[conv->output] != 1)
            continue;
        if ((rc = make_arrays(g, conv, channels)) < 0)
            break;
        for (int32_t c = 0; c < channels; c++) {
            const struct line l = match_line_at(op, c);
            conv->u.conv.scale[c] *= l.scale;
            conv->u.conv.bias[c] = conv->u.conv.bias[c] * l.scale + l.bias;
        }
        conv->act = op->act;
        op_absorb(g, conv, op);
    }
    free(readers);
    return rc;
}
