/* Operators that slide windows, and those that work value by value. */
#include "kernel_trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* A map that the window fits on, with random padding smaller than the kernel. */
static int32_t fitting_input(struct net *n, struct window *w, int32_t channels)
{
    int32_t dim[2];
    for (int a = 0; a < 2; a++) {
        const int32_t span = (w->kernel[a] - 1) * w->dilation[a] + 1;
        w->pad[a] = net_between(n, 0, span - 1);
        w->pad_end[a] = net_between(n, 0, span - 1);
        const int32_t least = span - w->pad[a] - w->pad_end[a];
        dim[a] = net_between(n, least > 1 ? least : 1, (least > 1 ? least : 1) + 6);
    }
    return net_input(n, dim[ROW], dim[COL], channels, net_between(n, 1, 2));
}

typedef void (*window_test)(struct net *n, struct window w);

/* All kernels 1..4 on both axes, strides 1..3, dilations 1..2; what else there is at random. */
static void over_all_windows(window_test test)
{
    uint64_t seed = 0;
    for (int32_t i = 0; i < 4 * 4 * 3 * 3 * 2 * 2; i++) {
        const struct window w = { .kernel = { 1 + i % 4, 1 + i / 4 % 4 },
                                  .stride = { 1 + i / 16 % 3, 1 + i / 48 % 3 },
                                  .dilation = { 1 + i / 144 % 2, 1 + i / 288 % 2 } };
        struct net n;
        net_init(&n, ++seed);
        test(&n, w);
    }
}

static void conv_case(struct net *n, struct window w)
{
    const int32_t cin = net_between(n, 1, 9);
    const int32_t in = fitting_input(n, &w, cin);
    net_conv(n, in, net_between(n, 1, 9), 1, w);
    net_activate(n);
    trial_run(n, "convolution");
}

Test(kernels, convolution) { over_all_windows(conv_case); }

static void grouped_case(struct net *n, struct window w)
{
    const int32_t group = net_between(n, 2, 4);
    const int32_t in = fitting_input(n, &w, group * net_between(n, 1, 3));
    net_conv(n, in, group * net_between(n, 1, 3), group, w);
    net_activate(n);
    trial_run(n, "grouped convolution");
}

Test(kernels, grouped_and_depthwise_convolution) { over_all_windows(grouped_case); }

/* Wider than one block of columns, so that blocks have to meet. */
Test(kernels, convolution_of_wide_rows)
{
    for (int32_t cols = 255; cols < 260; cols++) {
        struct net n;
        net_init(&n, (uint64_t)cols);
        net_conv(&n, net_input(&n, 3, cols, 3, 1), 4, 1,
                 (struct window){ { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } });
        trial_run(&n, "wide convolution");
        net_init(&n, (uint64_t)cols);
        net_conv_transpose(&n, net_input(&n, 3, cols, 3, 1), 4, 1,
                           (struct window){ { 4, 4 }, { 2, 2 }, { 1, 1 }, { 1, 1 }, { 1, 1 } });
        trial_run(&n, "wide transposed convolution");
    }
}

/* A fully connected layer: Gemm's weights, input channel fastest or output channel fastest. */
static void make_fully_connected(struct net *n, uint64_t seed)
{
    const struct window w = { .kernel = { 1, 1 }, .stride = { 1, 1 }, .dilation = { 1, 1 } };
    const int32_t in = net_between(n, 1, 40), out = net_between(n, 1, 40);
    net_conv(n, net_input(n, 1, 1, in, 2), out, 1, w);
    if (seed % 2) {
        n->op[0].u.conv.weight.stride[0] = 1;
        n->op[0].u.conv.weight.stride[1] = out;
    }
}

Test(kernels, fully_connected)
{
    trial_many(&(struct trial_kind){ "fully connected", 40, make_fully_connected, NULL });
}

static void transposed_case(struct net *n, struct window w)
{
    const int32_t group = net_between(n, 0, 3) ? 1 : net_between(n, 2, 3);
    const int32_t rows = net_between(n, 1, 6), cols = net_between(n, 1, 6);
    const int32_t len[2] = { rows, cols };
    for (int a = 0; a < 2; a++) {
        const int32_t full = (len[a] - 1) * w.stride[a] + (w.kernel[a] - 1) * w.dilation[a] + 1;
        w.pad[a] = net_between(n, 0, full > 3 ? 2 : 0);
        w.pad_end[a] = net_between(n, 0, full - w.pad[a] > 2 ? 1 : 0);
    }
    const int32_t in = net_input(n, rows, cols, group * net_between(n, 1, 4), net_between(n, 1, 2));
    net_conv_transpose(n, in, group * net_between(n, 1, 4), group, w);
    net_activate(n);
    trial_run(n, "transposed convolution");
}

Test(kernels, transposed_convolution) { over_all_windows(transposed_case); }

/* Does every window meet the map?  Else there is no largest value, and no place of it. */
static bool reaches_map(const struct net *n, int32_t in, const struct window *w)
{
    const int32_t *dim = n->tensor[in].dim;
    return w->dilation[ROW] <= dim[ROW] && w->dilation[COL] <= dim[COL] &&
           w->pad[ROW] < w->kernel[ROW] && w->pad[COL] < w->kernel[COL] &&
           w->pad_end[ROW] < w->kernel[ROW] && w->pad_end[COL] < w->kernel[COL];
}

static void pool_case(struct net *n, struct window w)
{
    const int32_t in = fitting_input(n, &w, net_between(n, 1, 9));
    const enum op_type type = net_random(n, 2) ? OP_MAX_POOL : OP_AVERAGE_POOL;
    const int32_t out = net_pool(n, in, type, w, net_random(n, 2));
    struct op *op = &n->op[n->g.nops - 1];
    op->u.pool.places = type == OP_MAX_POOL && reaches_map(n, in, &w) && net_random(n, 2);
    op->u.pool.rows_first = net_random(n, 2);
    /* What ceil_mode makes of it: a last window that begins on the map and hangs over. */
    int32_t *rows = &n->tensor[out].dim[ROW];
    if (*rows * w.stride[ROW] - w.pad[ROW] < n->tensor[in].dim[ROW])
        ++*rows;
    net_activate(n);
    trial_run(n, "pooling");
}

Test(kernels, pooling) { over_all_windows(pool_case); }

/* ---- value by value ---- */

static void make_elementwise(struct net *n, uint64_t seed)
{
    int32_t dim[AXES];
    (void)seed;
    trial_dims(n, 6, 9, dim);
    const bool affine = net_random(n, 2);
    struct op *op = trial_op(n, affine ? OP_AFFINE : OP_ACTIVATION, trial_input(n, dim, 2), dim);
    if (affine) {
        op->u.affine.scale = net_floats(n, dim[CHAN]);
        op->u.affine.bias = net_floats(n, dim[CHAN]);
    }
    net_activate(n);
}

Test(kernels, elementwise)
{
    trial_many(&(struct trial_kind){ "elementwise", 300, make_elementwise, NULL });
}

/* A tensor of these extents or of 1, where it is broadcast. */
static int32_t broadcast_input(struct net *n, const int32_t dim[AXES], int32_t batch)
{
    return net_input(n, trial_one_or(n, dim[ROW]), trial_one_or(n, dim[COL]),
                     trial_one_or(n, dim[CHAN]), trial_one_or(n, batch));
}

/* The operator on a tensor of `dim` and others that are broadcast. */
static struct op *broadcast_op(struct net *n, enum op_type type, int32_t ninputs)
{
    int32_t dim[AXES], in[3];
    trial_dims(n, 5, 9, dim);
    in[0] = trial_input(n, dim, 2);
    for (int32_t i = 1; i < ninputs; i++)
        in[i] = broadcast_input(n, dim, n->tensor[in[0]].batch);
    return net_op(n, type, ninputs, in, dim[ROW], dim[COL], dim[CHAN]);
}

static void make_binary(struct net *n, uint64_t seed)
{
    struct op *op = broadcast_op(n, OP_BINARY, 2);
    const int32_t first = op->input[0], second = op->input[1];
    (void)seed;
    op->u.binary.kind = (enum binary_kind)net_random(n, 3);
    if (net_random(n, 2) && n->tensor[second].batch == n->tensor[first].batch) {
        op->input[0] = second;
        op->input[1] = first;
    }
    net_activate(n);
}

Test(kernels, binary_of_tensors)
{
    trial_many(&(struct trial_kind){ "binary", 400, make_binary, NULL });
}

static void make_binary_with_constant(struct net *n, uint64_t seed)
{
    int32_t dim[AXES];
    int64_t count = 1;
    (void)seed;
    trial_dims(n, 5, 9, dim);
    const int32_t in = trial_input(n, dim, 2);
    struct op *op = trial_op(n, OP_BINARY, in, dim);
    for (int a = AXES; a >= 0; a--) {
        const int32_t len = a == AXES ? n->tensor[in].batch : dim[a];
        op->u.binary.stride[a] = net_random(n, 2) ? count : 0;
        count *= op->u.binary.stride[a] ? len : 1;
    }
    op->u.binary.constant = net_floats(n, count);
    for (int64_t i = 0; i < count; i++) /* away from 0: it may divide */
        op->u.binary.constant[i] += op->u.binary.constant[i] < 0 ? -0.5F : 0.5F;
    op->u.binary.kind = (enum binary_kind)net_random(n, 4);
    op->u.binary.constant_first = op->u.binary.kind != BINARY_DIV && net_random(n, 2);
}

Test(kernels, binary_with_constant)
{
    trial_many(
        &(struct trial_kind){ "binary with constant", 300, make_binary_with_constant, NULL });
}

static void make_binary_function(struct net *n, uint64_t seed)
{
    broadcast_op(n, OP_BINARY, 2)->u.binary.kind = (enum binary_kind)(seed % BINARY_KINDS);
}

Test(kernels, functions_of_two_values)
{
    trial_many(
        &(struct trial_kind){ "binary function", 20 * BINARY_KINDS, make_binary_function, NULL });
}

/* Every function alone, at values where it is defined. */
Test(kernels, functions_of_one_value)
{
    for (int kind = ACT_ABS; kind < ACT_KINDS; kind++) {
        struct net n;
        net_init(&n, (uint64_t)kind);
        const int32_t in = net_input(&n, 3, 4, 5, 2);
        struct op *op = net_op(&n, OP_ACTIVATION, 1, &in, 3, 4, 5);
        op->act = (struct act){ .kind = (enum act_kind)kind, .a = 0.7F, .b = 0.3F };
        char what[32];
        snprintf(what, sizeof what, "function %d", kind);
        trial_run(&n, what);
    }
}

static void make_where(struct net *n, uint64_t seed)
{
    (void)seed;
    broadcast_op(n, OP_WHERE, 3);
}

/* Half of the conditions are 0. */
static void feed_where(const struct net *n, float *const *input)
{
    for (int64_t i = 0; i < net_values(n, n->in[0].tensor); i += 2)
        input[0][i] = 0;
}

Test(kernels, where) { trial_many(&(struct trial_kind){ "where", 200, make_where, feed_where }); }

/* ---- Known answers, so that kernels and reference cannot be wrong alike ---- */

/* ONNX's own example of AveragePool with count_include_pad and ceil_mode's hanging window. */
Test(kernels, average_pool_divides_by_what_onnx_says)
{
    struct net n;
    net_init(&n, 1);
    const struct window w = { { 3, 1 }, { 2, 1 }, { 1, 1 }, { 1, 0 }, { 1, 0 } };
    const int32_t in = net_input(&n, 4, 1, 1, 1);
    net_pool(&n, in, OP_AVERAGE_POOL, w, true);
    n.tensor[1].dim[ROW] = 3; /* ceil mode: windows at -1, 1, 3; the last covers 3, pad, beyond */
    struct trial t;
    trial_init(&t, &n);
    for (int i = 0; i < 4; i++)
        t.input[0][i] = (float)(i + 1);
    float out[3];
    trial_compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert_eq(out[0], 1.0F); /* (0 + 1 + 2) / 3 */
    cr_assert_eq(out[1], 3.0F); /* (2 + 3 + 4) / 3 */
    cr_assert_eq(out[2], 2.0F); /* (4 + 0) / 2: what lies beyond the padding does not count */
    n.op[0].u.pool.count_include_pad = false;
    trial_compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert_eq(out[0], 1.5F);
    cr_assert_eq(out[1], 3.0F);
    cr_assert_eq(out[2], 4.0F);
    trial_done(&t);
    net_done(&n);
}

Test(kernels, transposed_convolution_spreads_a_kernel)
{
    struct net n;
    net_init(&n, 3);
    const struct window w = { { 2, 2 }, { 2, 2 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    net_conv_transpose(&n, net_input(&n, 1, 2, 1, 1), 1, 1, w);
    struct op *op = &n.op[0];
    op->u.conv.bias = op->u.conv.scale = NULL;
    float *weight = net_floats(&n, 4);
    for (int i = 0; i < 4; i++)
        weight[i] = (float)(i + 1);
    struct onnx_tensor constant = *op->u.conv.weight.t;
    constant.data = weight;
    op->u.conv.weight.t = &constant;
    struct trial t;
    trial_init(&t, &n);
    t.input[0][0] = 1;
    t.input[0][1] = 10;
    float out[8];
    trial_compute(&t, box_whole(n.tensor[1].dim), 0, out);
    const float want[8] = { 1, 2, 10, 20, 3, 4, 30, 40 };
    cr_assert(memcmp(out, want, sizeof(want)) == 0);
    trial_done(&t);
    net_done(&n);
}
