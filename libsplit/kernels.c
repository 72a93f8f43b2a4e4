#include "libsplit/kernel.h"

#include <errno.h>
#include <stdlib.h>

#include "libsplit/gemm.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

const struct kernel kernels[OP_TYPES] = {
    [OP_CONV] = { conv_prepare, conv_release, conv_scratch_bytes, conv_packed_bytes, conv_run,
                  conv_pieces, conv_cut_channel },
    [OP_CONV_TRANSPOSE] = { .prepare = conv_transpose_prepare,
                            .release = weights_free,
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
    [OP_GATHER] = { .run = gather_run },
    [OP_NMS] = { .scratch_bytes = nms_scratch_bytes,
                 .run = nms_run,
                 .cut_channel = uncut_channels },
    [OP_MAX_UNPOOL] = { .run = max_unpool_run },
    [OP_GRID_SAMPLE] = { .run = grid_sample_run },
    [OP_ROI_ALIGN] = { .run = roi_align_run },
};

int32_t uncut_channels(const struct graph *g, const struct op *op, int32_t at)
{
    (void)g;
    (void)op;
    (void)at;
    return 0;
}

static struct span hull(struct span a, struct span b)
{
    if (a.lo >= a.hi)
        return b;
    if (b.lo >= b.hi)
        return a;
    return (struct span){ min_i32(a.lo, b.lo), max_i32(a.hi, b.hi) };
}

void program_channels(const struct graph *g, const struct program *pr, int32_t count,
                      struct span *channels)
{
    for (int32_t o = 0; o < g->nops; o++)
        channels[o] = (struct span){ 0, 0 };
    for (int32_t p = 0; p < count; p++)
        for (int32_t s = 0; s < pr[p].nsteps; s++) {
            const struct step *it = &pr[p].step[s];
            const struct span computed = { it->box.lo[CHAN], it->box.hi[CHAN] };
            if (it->kind == STEP_RUN)
                channels[it->what] = hull(channels[it->what], computed);
        }
}

/* Makes op->packed serve `channels` beside those that it serves already. */
static int pack_op(struct graph *g, int32_t i, struct span channels, struct diag *why)
{
    struct op *op = &g->op[i];
    const struct kernel *k = &kernels[op->type];
    const struct span want = hull(channels, op->packed_channels);
    if (!k->prepare || channels.lo >= channels.hi ||
        (want.lo == op->packed_channels.lo && want.hi == op->packed_channels.hi))
        return 0;
    void *packed;
    const int err = k->prepare(g, op, want, &packed);
    if (err)
        return diag(why, err, "%s \"%s\": not enough memory to lay out %zu bytes of weights",
                    op_type_name(op->type), op->name, k->packed_bytes(g, op, want));
    if (op->packed)
        k->release(op->packed);
    op->packed = packed;
    op->packed_channels = want;
    return 0;
}

int graph_pack_all(struct graph *g, const struct program *pr, int32_t count, struct diag *why)
{
    gemm_init();
    struct span *channels = calloc((size_t)g->nops + 1, sizeof(*channels));
    if (!channels)
        return diag(why, -ENOMEM, "not enough memory for a list of %d operators", g->nops);
    program_channels(g, pr, count, channels);
    int err = 0;
    for (int32_t i = 0; i < g->nops && !err; i++)
        err = pack_op(g, i, channels[i], why);
    free(channels);
    return err;
}

int graph_pack(struct graph *g, const struct program *pr, struct diag *why)
{
    if (pr)
        return graph_pack_all(g, pr, 1, why);
    gemm_init();
    int err = 0;
    for (int32_t i = 0; i < g->nops && !err; i++)
        err = pack_op(g, i, all_channels(g, &g->op[i]), why);
    return err;
}

void graph_unpack(struct graph *g)
{
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *op = &g->op[i];
        if (op->packed)
            kernels[op->type].release(op->packed);
        op->packed = NULL;
        op->packed_channels = (struct span){ 0, 0 };
    }
}
