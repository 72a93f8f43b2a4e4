/* Operators that move values: whatever place they come from, cuts of the result change nothing. */
#include "kernel_trial.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void make_concat(struct net *n, uint64_t seed)
{
    const enum axis axis = (enum axis)(seed % AXES);
    int32_t dim[AXES], in[4], sum = 0;
    trial_dims(n, 5, 9, dim);
    const int32_t ninputs = net_between(n, 1, 4), batch = net_between(n, 1, 2);
    for (int32_t i = 0; i < ninputs; i++) {
        sum += dim[axis] = net_between(n, 1, 4);
        in[i] = net_input(n, dim[ROW], dim[COL], dim[CHAN], batch);
    }
    dim[axis] = sum;
    net_op(n, OP_CONCAT, ninputs, in, dim[ROW], dim[COL], dim[CHAN])->u.concat.axis = axis;
    net_activate(n);
}

Test(kernels_move, concat) { trial_many(&(struct trial_kind){ "concat", 300, make_concat, NULL }); }

static void make_slice(struct net *n, uint64_t seed)
{
    int32_t dim[AXES], start[AXES], step[AXES], out[AXES];
    (void)seed;
    trial_dims(n, 7, 9, dim);
    for (int a = 0; a < AXES; a++) {
        start[a] = net_between(n, 0, dim[a] - 1);
        step[a] = net_between(n, 1, 3) * (net_random(n, 2) ? 1 : -1);
        const int32_t room = step[a] > 0 ? dim[a] - 1 - start[a] : start[a];
        out[a] = net_between(n, 1, room / abs(step[a]) + 1);
    }
    struct op *op = trial_op(n, OP_SLICE, trial_input(n, dim, 2), out);
    memcpy(op->u.slice.start, start, sizeof(start));
    memcpy(op->u.slice.step, step, sizeof(step));
}

Test(kernels_move, slice) { trial_many(&(struct trial_kind){ "slice", 400, make_slice, NULL }); }

static void make_pad(struct net *n, uint64_t seed)
{
    int32_t dim[AXES], before[AXES], out[AXES];
    (void)seed;
    trial_dims(n, 5, 5, dim);
    for (int a = 0; a < AXES; a++) {
        dim[a]++;
        before[a] = net_between(n, -1, dim[a] - 1);
        out[a] = dim[a] + before[a] + net_between(n, 0, dim[a] - 1);
    }
    struct op *op = trial_op(n, OP_PAD, trial_input(n, dim, 2), out);
    memcpy(op->u.pad.before, before, sizeof(before));
    op->u.pad.mode = (enum pad_mode)net_random(n, 3);
    op->u.pad.value = 0.75F;
}

Test(kernels_move, pad) { trial_many(&(struct trial_kind){ "pad", 400, make_pad, NULL }); }

static void make_depth_to_space(struct net *n, uint64_t seed)
{
    const int32_t b = net_between(n, 1, 3);
    int32_t dim[AXES];
    (void)seed;
    trial_dims(n, 4, 4, dim);
    const int32_t in = net_input(n, dim[ROW], dim[COL], dim[CHAN] * b * b, net_between(n, 1, 2));
    struct op *op = net_op(n, OP_DEPTH_TO_SPACE, 1, &in, dim[ROW] * b, dim[COL] * b, dim[CHAN]);
    op->u.depth_to_space.block = b;
    op->u.depth_to_space.crd = net_random(n, 2);
}

Test(kernels_move, depth_to_space)
{
    trial_many(&(struct trial_kind){ "depth to space", 200, make_depth_to_space, NULL });
}

static void make_space_to_depth(struct net *n, uint64_t seed)
{
    const int32_t b = net_between(n, 1, 3);
    int32_t dim[AXES];
    (void)seed;
    trial_dims(n, 4, 4, dim);
    const int32_t in = net_input(n, dim[ROW] * b, dim[COL] * b, dim[CHAN], net_between(n, 1, 2));
    struct op *op = net_op(n, OP_SPACE_TO_DEPTH, 1, &in, dim[ROW], dim[COL], dim[CHAN] * b * b);
    op->u.space_to_depth.block = b;
}

Test(kernels_move, space_to_depth)
{
    trial_many(&(struct trial_kind){ "space to depth", 200, make_space_to_depth, NULL });
}

static void make_resize(struct net *n, uint64_t seed)
{
    static const float scales[] = { 0.5F, 1, 1.5F, 2, 3, 4 };
    const float scale[2] = { scales[net_random(n, 6)], scales[net_random(n, 6)] };
    int32_t dim[AXES], out[AXES];
    (void)seed;
    trial_dims(n, 5, 5, dim);
    out[CHAN] = dim[CHAN];
    for (int a = ROW; a <= COL; a++)
        out[a] = (int32_t)((float)++dim[a] * scale[a]);
    struct op *op = trial_op(n, OP_RESIZE, trial_input(n, dim, 2), out);
    memcpy(op->u.resize.scale, scale, sizeof(scale));
    op->u.resize.mode = (enum resize_mode)net_random(n, 3);
    op->u.resize.coordinates = (enum resize_coordinates)net_random(n, 6);
    for (int a = ROW; a <= COL; a++) {
        const bool part = net_random(n, 2);
        op->u.resize.crop[a][0] = part ? -0.21F : 0;
        op->u.resize.crop[a][1] = part ? 0.77F : 1;
    }
    op->u.resize.outside = 5;
    op->u.resize.nearest = (enum resize_nearest)net_random(n, 4);
    op->u.resize.cubic_a = net_random(n, 2) ? -0.75F : -0.5F;
    op->u.resize.exclude_outside = net_random(n, 2);
}

Test(kernels_move, resize)
{
    trial_many(&(struct trial_kind){ "resize", 1000, make_resize, NULL });
}

static void shuffle(struct net *n, int8_t *perm, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t j = net_between(n, 0, i);
        perm[i] = perm[j];
        perm[j] = (int8_t)i;
    }
}

/* A Transpose of a random tensor of four axes; `d` are its extents then. */
struct transposed {
    int32_t input, from[4], d[4];
    int8_t perm[SHAPE_MAX_RANK];
};

static struct transposed transpose(struct net *n)
{
    struct transposed t = { .perm = { 0 } };
    int32_t dim[AXES];
    trial_dims(n, 4, 5, dim);
    t.input = trial_input(n, dim, 3);
    t.from[0] = n->tensor[t.input].batch;
    t.from[1] = dim[CHAN];
    t.from[2] = dim[ROW];
    t.from[3] = dim[COL];
    shuffle(n, t.perm, 4);
    for (int a = 0; a < 4; a++)
        t.d[a] = t.from[t.perm[a]];
    return t;
}

static struct op *reshape(struct net *n, const struct transposed *t, struct shape to)
{
    const int32_t dim[AXES] = { shape_len(&to, ROW), shape_len(&to, COL), shape_len(&to, CHAN) };
    struct op *op = trial_op(n, OP_RESHAPE, t->input, dim);
    n->tensor[op->output].batch = shape_batch(&to);
    op->u.reshape.from = shape_make(4, t->from);
    op->u.reshape.to = to;
    memcpy(op->u.reshape.perm, t->perm, sizeof(t->perm));
    return op;
}

/* Then a Reshape to rank 1, 2, 3, 4 or 6. */
static void make_reshape(struct net *n, uint64_t seed)
{
    const struct transposed t = transpose(n);
    const int32_t *d = t.d;
    const int32_t to[5][6] = { { d[0] * d[1] * d[2] * d[3] },
                               { d[0], d[1] * d[2] * d[3] },
                               { d[0], d[1], d[2] * d[3] },
                               { d[0], d[1], d[2], d[3] },
                               { d[0], 1, d[1], d[2], 1, d[3] } };
    static const int32_t ranks[5] = { 1, 2, 3, 4, 6 };
    reshape(n, &t, shape_make(ranks[seed % 5], to[seed % 5]));
}

Test(kernels_move, reshape)
{
    trial_many(&(struct trial_kind){ "reshape", 500, make_reshape, NULL });
}

/* Coordinates chosen at random on every axis after a transpose. */
static void make_pick(struct net *n, uint64_t seed)
{
    const struct transposed t = transpose(n);
    int32_t to[4], *pick[4] = { NULL };
    (void)seed;
    for (int a = 0; a < 4; a++) {
        to[a] = net_random(n, 2) ? net_between(n, 1, 5) : 0;
        if (to[a])
            pick[a] = (void *)net_floats(n, to[a]);
        for (int32_t i = 0; i < to[a]; i++)
            pick[a][i] = net_between(n, 0, t.d[a] - 1);
        to[a] = to[a] ? to[a] : t.d[a];
    }
    struct op *op = reshape(n, &t, shape_make(4, to));
    for (int a = 0; a < 4; a++) {
        op->u.reshape.pick[a] = pick[a];
        op->u.reshape.picked[a] = t.d[a];
    }
}

Test(kernels_move, reshape_that_picks)
{
    trial_many(&(struct trial_kind){ "pick", 400, make_pick, NULL });
}

static void make_constant(struct net *n, uint64_t seed)
{
    int32_t dim[AXES];
    (void)seed;
    trial_dims(n, 5, 9, dim);
    struct op *op = net_op(n, OP_CONSTANT, 0, NULL, dim[ROW], dim[COL], dim[CHAN]);
    n->tensor[op->output].batch = net_between(n, 1, 3);
    op->u.constant.values = net_floats(n, net_values(n, op->output));
}

Test(kernels_move, constant)
{
    trial_many(&(struct trial_kind){ "constant", 50, make_constant, NULL });
}

/* ---- places that the network computes ---- */

/* One index for a pixel, or for every value. */
static void make_gather(struct net *n, uint64_t seed)
{
    const bool each = seed % 2;
    int32_t dim[AXES], in[2];
    trial_dims(n, 5, 5, dim);
    const int32_t cols = net_between(n, 1, 6), numbers = each ? 1 : net_between(n, 1, 3);
    int32_t len[3], places = 1;
    for (int32_t i = 0; i < numbers; i++)
        places *= len[i] = net_between(n, 1, 3);
    in[0] = net_input(n, dim[ROW], places, dim[CHAN], 1);
    in[1] = net_input(n, each ? dim[ROW] : trial_one_or(n, dim[ROW]), cols,
                      each ? dim[CHAN] : numbers, 1);
    struct op *op = net_op(n, OP_GATHER, 2, in, dim[ROW], cols, dim[CHAN]);
    op->u.gather.each = each;
    op->u.gather.n = numbers;
    for (int32_t i = numbers - 1, step = 1; i >= 0; step *= len[i--]) {
        op->u.gather.len[i] = len[i];
        op->u.gather.step[i] = step;
    }
}

/* Whole numbers, of which some are too small, too large, or none. */
static void feed_gather(const struct net *n, float *const *input)
{
    for (int64_t i = 0; i < net_values(n, n->in[1].tensor); i++) {
        input[1][i] = truncf(input[1][i] * 4.2F);
        if (i % 7 == 6)
            input[1][i] = NAN;
    }
}

Test(kernels_move, gather)
{
    trial_many(&(struct trial_kind){ "gather", 600, make_gather, feed_gather });
}

static void make_nms(struct net *n, uint64_t seed)
{
    const int32_t images = net_between(n, 1, 2), classes = net_between(n, 1, 3);
    const int32_t boxes = net_between(n, 1, 12), most = net_between(n, 1, 5);
    const int32_t in[2] = { net_input(n, images, boxes, 4, 1),
                            net_input(n, images, classes, boxes, 1) };
    const int32_t per_class = most < boxes ? most : boxes;
    struct op *op = net_op(n, OP_NMS, 2, in, 1, images * classes * per_class + (seed % 3 == 0), 3);
    op->u.nms.centre = net_random(n, 2);
    op->u.nms.per_class = per_class;
    op->u.nms.iou = 0.15F * (float)net_random(n, 4);
    op->u.nms.score = seed % 5 ? -0.3F : -INFINITY;
}

/* Equal scores, and some that are none; extents are not below 0. */
static void feed_nms(const struct net *n, float *const *input)
{
    for (int64_t i = 0; i < net_values(n, n->in[0].tensor) && n->op[0].u.nms.centre; i++)
        if (i % 4 >= 2)
            input[0][i] = fabsf(input[0][i]);
    for (int64_t i = 0; i < net_values(n, n->in[1].tensor); i++)
        input[1][i] = i % 6 == 5 ? NAN : truncf(input[1][i] * 4) / 4;
}

Test(kernels_move, non_maximum_suppression)
{
    trial_many(&(struct trial_kind){ "non-maximum suppression", 600, make_nms, feed_nms });
}

/* ---- pixels between pixels */

static void make_max_unpool(struct net *n, uint64_t seed)
{
    int32_t dim[AXES];
    (void)seed;
    trial_dims(n, 3, 3, dim);
    const int32_t batch = net_between(n, 1, 2);
    int32_t in[2];
    for (int i = 0; i < 2; i++)
        in[i] = net_input(n, dim[ROW], dim[COL], dim[CHAN], batch);
    const int32_t plane[2] = { 2 * dim[ROW], 2 * dim[COL] + 1 };
    struct op *op =
        net_op(n, OP_MAX_UNPOOL, 2, in, plane[ROW] + net_between(n, 0, 1), plane[COL], dim[CHAN]);
    memcpy(op->u.max_unpool.plane, plane, sizeof plane);
}

/* Places in the right plane, some of them twice; a few are none. */
static void feed_max_unpool(const struct net *n, float *const *input)
{
    const struct tensor *t = &n->tensor[n->in[1].tensor];
    const int32_t *plane = n->op[0].u.max_unpool.plane, values = plane[ROW] * plane[COL];
    for (int64_t i = 0; i < net_values(n, n->in[1].tensor); i++) {
        const int64_t image = i / ((int64_t)t->dim[ROW] * t->dim[COL] * t->dim[CHAN]);
        const int64_t channel = i % t->dim[CHAN];
        const float at = floorf((input[1][i] + 1) / 2 * (float)values);
        input[1][i] = (float)((image * t->dim[CHAN] + channel) * values) + at;
        if (i % 9 == 8)
            input[1][i] = i % 2 ? NAN : -1e9F;
    }
}

Test(kernels_move, max_unpool)
{
    trial_many(&(struct trial_kind){ "max unpool", 200, make_max_unpool, feed_max_unpool });
}

static void make_grid_sample(struct net *n, uint64_t seed)
{
    int32_t dim[AXES], out[AXES];
    (void)seed;
    trial_dims(n, 5, 4, dim);
    trial_dims(n, 4, 1, out);
    const int32_t batch = net_between(n, 1, 2);
    const int32_t in[2] = { net_input(n, dim[ROW], dim[COL], dim[CHAN], batch),
                            net_input(n, out[ROW], out[COL], 2, batch) };
    struct op *op = net_op(n, OP_GRID_SAMPLE, 2, in, out[ROW], out[COL], dim[CHAN]);
    op->u.grid_sample.mode = (enum resize_mode)net_random(n, 3);
    op->u.grid_sample.beyond = (enum sample_beyond)net_random(n, 3);
    op->u.grid_sample.corners = net_random(n, 2);
}

/* Up to three maps away. */
static void feed_grid_sample(const struct net *n, float *const *input)
{
    for (int64_t i = 0; i < net_values(n, n->in[1].tensor); i++)
        input[1][i] *= i % 3 ? 1.1F : 5;
}

Test(kernels_move, grid_sample)
{
    trial_many(&(struct trial_kind){ "grid sample", 600, make_grid_sample, feed_grid_sample });
}

/* Where a grid points is nobody's promise. */
Test(kernels_move, grid_sample_of_places_that_are_none)
{
    static const float wild[] = { NAN, INFINITY, -INFINITY, 3e38F, -3e38F, 1e10F };
    for (uint64_t seed = 0; seed < 18; seed++) {
        struct net n;
        struct trial t;
        net_init(&n, seed);
        const int32_t in[2] = { net_input(&n, 3, 4, 2, 1), net_input(&n, 1, 6, 2, 1) };
        struct op *op = net_op(&n, OP_GRID_SAMPLE, 2, in, 1, 6, 2);
        op->u.grid_sample.mode = (enum resize_mode)(seed % 3);
        op->u.grid_sample.beyond = (enum sample_beyond)(seed / 3 % 3);
        op->u.grid_sample.corners = seed >= 9;
        trial_init(&t, &n);
        for (int i = 0; i < 12; i++)
            t.input[1][i] = wild[i / 2];
        float out[12];
        trial_compute(&t, box_whole(n.tensor[op->output].dim), 0, out);
        for (int i = 0; i < 12; i++)
            cr_assert(isfinite(out[i]), "seed %d: value %d is %g", (int)seed, i, (double)out[i]);
        trial_done(&t);
        net_done(&n);
    }
}

static void make_roi_align(struct net *n, uint64_t seed)
{
    int32_t dim[AXES], out[AXES];
    (void)seed;
    trial_dims(n, 6, 4, dim);
    trial_dims(n, 3, 1, out);
    const int32_t in[2] = { net_input(n, dim[ROW], dim[COL], dim[CHAN], 1),
                            net_input(n, 1, 1, 4, net_between(n, 1, 3)) };
    struct op *op = net_op(n, OP_ROI_ALIGN, 2, in, out[ROW], out[COL], dim[CHAN]);
    n->tensor[op->output].batch = n->tensor[in[1]].batch;
    op->u.roi_align.scale = net_random(n, 2) ? 1 : 0.5F;
    op->u.roi_align.shift = net_random(n, 2) ? 0.5F : 0;
    op->u.roi_align.points = net_between(n, 0, 2);
}

/* Boxes on the map and around it, some turned. */
static void feed_roi_align(const struct net *n, float *const *input)
{
    for (int64_t i = 0; i < net_values(n, n->in[1].tensor); i++)
        input[1][i] = (input[1][i] + (i % 4 < 2 ? 0.5F : 1.5F)) * 4;
}

Test(kernels_move, roi_align)
{
    trial_many(&(struct trial_kind){ "region of interest", 400, make_roi_align, feed_roi_align });
}
