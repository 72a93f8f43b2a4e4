/* Exporters without DepthToSpace write it as Reshape, Transpose, Reshape: six axes, of which the
 * block's are brought next to rows and columns. */
#include "libsplit/passes.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_CHECKED = 1 << 24 }; /* values; a larger map stays as it is */

/* A value's place in memory: the image, and row, column and channel within it. */
struct spot {
    int64_t image, at[AXES];
};

static int role(const struct shape *s, int32_t onnx_axis)
{
    for (int a = 0; a < AXES; a++)
        if (s->axis[a] == onnx_axis)
            return a;
    return AXES;
}

/* Where the value number `place` in row-major order lies. */
static struct spot spot_of(const struct shape *s, int64_t place)
{
    struct spot spot = { .image = 0 };
    int64_t images = 1;
    for (int32_t i = s->rank; i-- > 0; place /= s->dim[i]) {
        const int64_t coord = place % s->dim[i];
        const int a = role(s, i);
        if (a < AXES) {
            spot.at[a] = coord;
        } else {
            spot.image += coord * images;
            images *= s->dim[i];
        }
    }
    return spot;
}

static int64_t place_of(const struct shape *s, struct spot spot)
{
    int64_t place = 0, step = 1;
    for (int32_t i = s->rank; i-- > 0; step *= s->dim[i]) {
        const int a = role(s, i);
        place += step * (a < AXES ? spot.at[a] : spot.image % s->dim[i]);
        if (a == AXES)
            spot.image /= s->dim[i];
    }
    return place;
}

/* What DepthToSpace reads for the output value at `out`, of `channels`. */
static struct spot depth_to_space_reads(struct spot out, int64_t block, int64_t channels, bool crd)
{
    const int64_t y = out.at[ROW] % block, x = out.at[COL] % block;
    struct spot in = { .image = out.image };
    in.at[ROW] = out.at[ROW] / block;
    in.at[COL] = out.at[COL] / block;
    in.at[CHAN] =
        crd ? (out.at[CHAN] * block + y) * block + x : (y * block + x) * channels + out.at[CHAN];
    return in;
}

/* True if `first`, a renaming of axes, and `second` do what DepthToSpace does. */
static bool does(const struct op *first, const struct op *second, int64_t block, bool crd)
{
    const struct shape *to = &second->u.reshape.to;
    const int64_t n = shape_values(to);
    for (int64_t place = 0; place < n; place++) {
        /* Reshape keeps the place, and the renaming keeps the spot. */
        const struct spot middle = spot_of(&second->u.reshape.from, place);
        const struct spot in =
            spot_of(&first->u.reshape.from, place_of(&first->u.reshape.to, middle));
        const struct spot want =
            depth_to_space_reads(spot_of(to, place), block, shape_len(to, CHAN), crd);
        if (in.image != want.image || in.at[ROW] != want.at[ROW] || in.at[COL] != want.at[COL] ||
            in.at[CHAN] != want.at[CHAN])
            return false;
    }
    return true;
}

/* The block by which rows and columns grow, 0 if they do not. */
static int32_t block_of(const struct shape *from, const struct shape *to)
{
    const int32_t block = shape_len(to, ROW) / shape_len(from, ROW);
    if (block < 2 || shape_len(to, ROW) != block * shape_len(from, ROW) ||
        shape_len(to, COL) != block * shape_len(from, COL) ||
        shape_len(from, CHAN) / block / block != shape_len(to, CHAN) ||
        shape_batch(from) != shape_batch(to) || shape_values(to) > MAX_CHECKED)
        return 0;
    return block;
}

static void rewrite(struct op *second, struct op *first, int32_t block, bool crd)
{
    second->type = OP_DEPTH_TO_SPACE;
    second->u.depth_to_space.block = block;
    second->u.depth_to_space.crd = crd;
    second->input[0] = first->input[0];
    op_kill(first);
}

int pass_depth_to_space(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    for (int32_t i = 0; i < g->nops; i++) {
        struct op *second = &g->op[i];
        if (op_is_dead(second) || !op_is_plain_reshape(second) ||
            g->tensor[second->input[0]].op == GEO_NO_OP)
            continue;
        struct op *first = &g->op[g->tensor[second->input[0]].op];
        if (!op_is_plain_reshape(first) || first->act.kind != ACT_NONE ||
            readers[first->output] != 1)
            continue;
        const int32_t block = block_of(&first->u.reshape.from, &second->u.reshape.to);
        if (block && does(first, second, block, true))
            rewrite(second, first, block, true);
        else if (block && does(first, second, block, false))
            rewrite(second, first, block, false);
    }
    free(readers);
    return 0;
}
