#include "libsplit/kernel.h"

#include <errno.h>
#include <stdlib.h>

#include "libsplit/gemm.h"
#include "libsplit/kernel_ops.h"

const struct kernel kernels[OP_TYPES] = {
    [OP_CONV] = { conv_prepare, conv_release, conv_scratch_bytes, conv_packed_bytes, conv_run,
                  conv_cut_rows, conv_cut_channel },
    [OP_CONV_TRANSPOSE] = { .prepare = conv_transpose_prepare,
                            .release = free,
                            .scratch_bytes = conv_transpose_scratch_bytes,
                            .packed_bytes = conv_transpose_packed_bytes,
                            .run = conv_transpose_run,
                            .cut_channel = uncut_channels },
    [OP_MAX_POOL] = { .run = max_pool_run },
    [OP_AVERAGE_POOL] = { .run = average_pool_run },
    [OP_AFFINE] = { .run = affine_run },
    [OP_ACTIVATION] = { .run = activation_run },
    [OP_BINARY] = { .run = binary_run },
    [OP_CONCAT] = { .run = concat_run },
    [OP_SLICE] = { .run = slice_run },
    [OP_PAD] = { .run = pad_run },
    [OP_DEPTH_TO_SPACE] = { .run = depth_to_space_run },
    [OP_SOFTMAX] = { .run = softmax_run, .cut_channel = uncut_channels },
    [OP_PARTIAL] = { .scratch_bytes = partial_scratch_bytes,
                     .run = partial_run,
                     .cut_channel = uncut_channels },
    [OP_COMBINE] = { .run = combine_run },
    [OP_RESHAPE] = { .run = reshape_run },
    [OP_RESIZE] = { .run = resize_run },
    [OP_CONSTANT] = { .run = constant_run },
    [OP_REDUCE] = { .run = reduce_run },
    [OP_MATMUL] = { .run = matmul_run },
    [OP_WHERE] = { .run = where_run },
    [OP_LRN] = { .run = lrn_run },
    [OP_SPACE_TO_DEPTH] = { .run = space_to_depth_run },
    [OP_TOP_K] = { .run = top_k_run, .cut_channel = uncut_channels },
};

int32_t uncut_channels(const struct graph *g, const struct op *op, int32_t at)
{
    (void)g;
    (void)op;
    (void)at;
    return 0;
}

static int pack_op(struct graph *g, int32_t i, struct diag *why)
{
    struct op *op = &g->op[i];
    const struct kernel *k = &kernels[op->type];
    if (op->packed || !k->prepare)
        return 0;
    const int err = k->prepare(g, op, &op->packed);
    if (err)
        return diag(why, err, "%s \"%s\": not enough memory to lay out %zu bytes of weights",
                    op_type_name(op->type), op->name, k->packed_bytes(g, op));
    return 0;
}

int graph_pack(struct graph *g, const struct program *pr, struct diag *why)
{
    gemm_init();
    int err = 0;
    if (!pr) {
        for (int32_t i = 0; i < g->nops && !err; i++)
            err = pack_op(g, i, why);
        return err;
    }
    for (int32_t s = 0; s < pr->nsteps && !err; s++)
        if (pr->step[s].kind == STEP_RUN)
            err = pack_op(g, pr->step[s].what, why);
    return err;
}

void graph_unpack(struct graph *g)
{
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *op = &g->op[i];
        if (op->packed)
            kernels[op->type].release(op->packed);
        op->packed = NULL;
    }
}
