/* Reshape, Transpose, Reshape, of which the Transpose is only a renaming by now: how exporters
 * write DepthToSpace (six axes, of which the block's are brought next to rows and columns) and
 * channel shuffle (channels in groups, by turns from each). */
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

/* What both read for the output value at row-major `place`: a Reshape keeps the place, and the
 * renaming between them keeps the spot. */
static struct spot pair_reads(const struct op *first, const struct op *second, int64_t place)
{
    const struct spot middle = spot_of(&second->u.reshape.from, place);
    return spot_of(&first->u.reshape.from, place_of(&first->u.reshape.to, middle));
}

/* True if `first` and `second` do what DepthToSpace does. */
static bool is_depth_to_space(const struct op *first, const struct op *second, int64_t block,
                              bool crd)
{
    const struct shape *to = &second->u.reshape.to;
    const int64_t n = shape_values(to);
    for (int64_t place = 0; place < n; place++) {
        const struct spot in = pair_reads(first, second, place);
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

static bool make_depth_to_space(struct op *first, struct op *second)
{
    const int32_t block = block_of(&first->u.reshape.from, &second->u.reshape.to);
    const bool crd = block && is_depth_to_space(first, second, block, true);
    if (!block || (!crd && !is_depth_to_space(first, second, block, false)))
        return false;
    second->type = OP_DEPTH_TO_SPACE;
    second->u.depth_to_space.block = block;
    second->u.depth_to_space.crd = crd;
    return true;
}

/* Which channel each channel of the result is, in pick[channels].  False if anything else than
 * channels changes place. */
static bool is_channel_shuffle(const struct op *first, const struct op *second, int32_t *pick)
{
    const struct shape *to = &second->u.reshape.to;
    const int64_t n = shape_values(to);
    for (int32_t k = 0; k < shape_len(to, CHAN); k++)
        pick[k] = -1;
    for (int64_t place = 0; place < n; place++) {
        const struct spot in = pair_reads(first, second, place), out = spot_of(to, place);
        if (in.image != out.image || in.at[ROW] != out.at[ROW] || in.at[COL] != out.at[COL])
            return false;
        int32_t *channel = &pick[out.at[CHAN]];
        if (*channel >= 0 && *channel != in.at[CHAN])
            return false;
        *channel = (int32_t)in.at[CHAN];
    }
    return true;
}

/* Returns 1 if it is done, 0 if the pair is something else, or -ENOMEM. */
static int make_channel_shuffle(struct graph *g, struct op *first, struct op *second)
{
    const struct shape *from = &first->u.reshape.from, *to = &second->u.reshape.to;
    const int8_t axis = to->axis[CHAN];
    if (axis < 0 || !shape_same_dims(from, to) || !shape_same_memory(from, to) ||
        from->axis[CHAN] != axis || shape_values(to) > MAX_CHECKED)
        return 0;
    int32_t *pick = graph_integers(g, (size_t)to->dim[axis]);
    if (!pick)
        return -ENOMEM;
    if (!is_channel_shuffle(first, second, pick))
        return 0;
    second->u.reshape.from = first->u.reshape.from;
    second->u.reshape.pick[axis] = pick;
    second->u.reshape.picked[axis] = to->dim[axis];
    return 1;
}

/* The Reshape that `second`, one itself, alone reads; NULL if there is none. */
static struct op *reshape_before(const struct graph *g, const int32_t *readers,
                                 const struct op *second)
{
    if (op_is_dead(second) || !op_is_plain_reshape(second) ||
        g->tensor[second->input[0]].op == GEO_NO_OP)
        return NULL;
    struct op *first = &g->op[g->tensor[second->input[0]].op];
    const bool alone = first->act.kind == ACT_NONE && readers[first->output] == 1;
    return alone && op_is_plain_reshape(first) ? first : NULL;
}

int pass_reshape_pairs(struct graph *g)
{
    int rc = 0;
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    for (int32_t i = 0; i < g->nops && rc >= 0; i++) {
        struct op *second = &g->op[i], *first = reshape_before(g, readers, second);
        if (!first)
            continue;
        rc = make_depth_to_space(first, second) ? 1 : make_channel_shuffle(g, first, second);
        if (rc <= 0)
            continue;
        second->input[0] = first->input[0];
        op_kill(first);
    }
    free(readers);
    return rc < 0 ? rc : 0;
}
