/* What exporters write in several operators and a pass brings down to fewer: the same values. */
#include "libsplit/passes.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "libsplit/kernel.h"
#include "libsplit/session.h"
#include "net.h"

/* The only output on one node; free() it. */
static float *answer(struct net *n, const float *input)
{
    struct split_session *s = NULL;
    struct diag why = { "" };
    const struct plan_options o = { .placement = PLAN_ROWS, .nodes = 1, .weight = { 1 } };
    cr_assert_eq(session_open_graph(&s, &n->g, &o, NULL, &why), 0, "%s", why.text);
    float *out = calloc((size_t)net_values(n, n->out[0].tensor), sizeof(float));
    cr_assert_not_null(out);
    cr_assert_eq(split_run(s, &input, &out, NULL, &why), 0, "%s", why.text);
    split_close(s);
    graph_unpack(&n->g);
    return out;
}

/* Runs `pass` on a finished net: the answer stays.  Returns how many operators are left. */
static int32_t left_by(struct net *n, int (*pass)(struct graph *g))
{
    const int64_t values = net_values(n, n->out[0].tensor);
    const float *input = net_floats(n, net_values(n, n->in[0].tensor));
    float *before = answer(n, input);
    cr_assert_eq(pass(&n->g), 0);
    cr_assert_eq(pass_dead(&n->g), 0);
    float *after = answer(n, input);
    for (int64_t i = 0; i < values; i++)
        cr_assert_float_eq(after[i], before[i], 1e-5F + 1e-5F * fabsf(before[i]), "%g, not %g",
                           (double)after[i], (double)before[i]);
    free(before);
    free(after);
    return n->g.nops;
}

static int32_t input(struct net *n, uint64_t seed)
{
    net_init(n, seed);
    return net_input(n, 5, 4, 6, 2);
}

/* ---- operators with one number, activations, products */

static int32_t number(struct net *n, int32_t in, enum binary_kind kind, float with)
{
    const int32_t *dim = n->tensor[in].dim;
    struct op *op = net_op(n, OP_BINARY, 1, &in, dim[ROW], dim[COL], dim[CHAN]);
    op->u.binary.kind = kind;
    op->u.binary.constant = net_floats(n, 1);
    op->u.binary.constant[0] = with;
    return op->output;
}

static int32_t activation(struct net *n, int32_t in, struct act act)
{
    const int32_t *dim = n->tensor[in].dim;
    struct op *op = net_op(n, OP_ACTIVATION, 1, &in, dim[ROW], dim[COL], dim[CHAN]);
    op->act = act;
    return op->output;
}

static int32_t clip(struct net *n, int32_t in, float lo, float hi)
{
    return activation(n, in, (struct act){ .kind = ACT_CLIP, .a = lo, .b = hi });
}

static int32_t product(struct net *n, int32_t a, int32_t b)
{
    const int32_t *dim = n->tensor[a].dim, in[2] = { a, b };
    struct op *op = net_op(n, OP_BINARY, 2, in, dim[ROW], dim[COL], dim[CHAN]);
    op->u.binary.kind = BINARY_MUL;
    return op->output;
}

/* Large enough for every part of the functions. */
static int32_t stretched(struct net *n, uint64_t seed)
{
    return number(n, input(n, seed), BINARY_MUL, 6);
}

static enum act_kind last_act(const struct net *n) { return n->op[n->g.nops - 1].act.kind; }

Test(idioms, hard_sigmoid)
{
    for (int divided = 0; divided < 2; divided++) {
        struct net n;
        const int32_t x = stretched(&n, 1);
        const int32_t c = clip(&n, number(&n, x, BINARY_ADD, 3), 0, 6);
        net_output(&n,
                   divided ? number(&n, c, BINARY_DIV, 6) : number(&n, c, BINARY_MUL, 1.0F / 6));
        cr_assert_eq(left_by(&n, pass_hard_swish), 2);
        cr_assert_eq(last_act(&n), ACT_HARD_SIGMOID);
        net_done(&n);
    }
}

Test(idioms, hard_sigmoid_needs_its_own_factor)
{
    struct net n;
    const int32_t x = stretched(&n, 2);
    net_output(&n, number(&n, clip(&n, number(&n, x, BINARY_ADD, 3), 0, 6), BINARY_DIV, 5));
    cr_assert_eq(left_by(&n, pass_hard_swish), 4);
    net_done(&n);
}

Test(idioms, hard_swish_in_any_order)
{
    for (int order = 0; order < 4; order++) {
        struct net n;
        const int32_t x = stretched(&n, 3);
        int32_t c = clip(&n, number(&n, x, BINARY_ADD, 3), 0, 6);
        if (order & 2)
            c = number(&n, c, BINARY_DIV, 6);
        int32_t y = order & 1 ? product(&n, x, c) : product(&n, c, x);
        if (!(order & 2))
            y = number(&n, y, BINARY_MUL, 0.16666667F);
        net_output(&n, y);
        left_by(&n, pass_hard_swish);
        cr_assert_eq(left_by(&n, pass_silu), 2, "order %d", order);
        cr_assert_eq(last_act(&n), ACT_HARD_SWISH);
        net_done(&n);
    }
}

/* The clipped value is of another tensor than the factor. */
Test(idioms, hard_swish_of_two_values_stays)
{
    struct net n;
    const int32_t x = stretched(&n, 4), other = number(&n, x, BINARY_MUL, 2);
    const int32_t c = clip(&n, number(&n, other, BINARY_ADD, 3), 0, 6);
    net_output(&n, number(&n, product(&n, x, c), BINARY_DIV, 6));
    cr_assert_eq(left_by(&n, pass_hard_swish), 6);
    net_done(&n);
}

Test(idioms, hard_swish_whose_parts_others_read_stays)
{
    struct net n;
    const int32_t x = stretched(&n, 5);
    const int32_t c = clip(&n, number(&n, x, BINARY_ADD, 3), 0, 6);
    net_output(&n, number(&n, product(&n, x, c), BINARY_DIV, 6));
    net_output(&n, c);
    cr_assert_eq(pass_hard_swish(&n.g), 0);
    cr_assert_eq(pass_dead(&n.g), 0);
    cr_assert_eq(n.g.nops, 5);
    net_done(&n);
}

Test(idioms, relu6_in_any_spelling)
{
    for (int spelling = 0; spelling < 4; spelling++) {
        struct net n;
        const int32_t x = stretched(&n, 16);
        const int32_t low = spelling & 1 ? number(&n, x, BINARY_MAX, 0)
                                         : activation(&n, x, (struct act){ .kind = ACT_RELU });
        net_output(&n, spelling & 2 ? number(&n, low, BINARY_MIN, 6) : clip(&n, low, 0, 6));
        cr_assert_eq(left_by(&n, pass_clip), 2, "spelling %d", spelling);
        cr_assert_eq(last_act(&n), ACT_CLIP);
        net_done(&n);
    }
}

/* Bounds in any place to each other. */
Test(idioms, clips_of_clips)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct net n;
        int32_t x = stretched(&n, seed);
        for (int k = 0; k < 3; k++) {
            const float lo = (float)net_between(&n, -4, 4);
            x = clip(&n, x, lo, lo + (float)net_between(&n, 0, 4));
        }
        net_output(&n, x);
        cr_assert_eq(left_by(&n, pass_clip), 2);
        net_done(&n);
    }
}

Test(idioms, the_larger_of_value_and_zero_is_relu)
{
    struct net n;
    net_output(&n, number(&n, stretched(&n, 17), BINARY_MAX, 0));
    cr_assert_eq(left_by(&n, pass_clip), 2);
    cr_assert_eq(last_act(&n), ACT_RELU);
    net_done(&n);
}

/* Upside down bounds give the upper one, whatever comes. */
Test(idioms, a_clip_with_its_bounds_exchanged_stays)
{
    struct net n;
    net_output(&n, clip(&n, clip(&n, stretched(&n, 18), 2, 1), 0, 6));
    cr_assert_eq(left_by(&n, pass_clip), 3);
    net_done(&n);
}

Test(idioms, mish)
{
    struct net n;
    const int32_t x = stretched(&n, 6);
    const int32_t s = activation(&n, x, (struct act){ .kind = ACT_SOFTPLUS });
    net_output(&n, product(&n, x, activation(&n, s, (struct act){ .kind = ACT_TANH })));
    cr_assert_eq(left_by(&n, pass_silu), 2);
    cr_assert_eq(last_act(&n), ACT_MISH);
    net_done(&n);
}

Test(idioms, tanh_times_something_stays)
{
    struct net n;
    const int32_t x = stretched(&n, 7);
    net_output(&n, product(&n, x, activation(&n, x, (struct act){ .kind = ACT_TANH })));
    cr_assert_eq(left_by(&n, pass_silu), 3);
    net_done(&n);
}

/* x/2 (1 + erf(x / sqrt 2)), halved before or after, factors in any order. */
Test(idioms, gelu)
{
    for (int order = 0; order < 4; order++) {
        struct net n;
        const int32_t x = stretched(&n, 8);
        const int32_t scaled = number(&n, x, BINARY_DIV, 1.41421354F);
        const int32_t e = activation(&n, scaled, (struct act){ .kind = ACT_ERF });
        const int32_t bell = number(&n, e, BINARY_ADD, 1);
        const int32_t left = order & 2 ? number(&n, x, BINARY_MUL, 0.5F) : x;
        const int32_t y = order & 1 ? product(&n, bell, left) : product(&n, left, bell);
        net_output(&n, order & 2 ? y : number(&n, y, BINARY_MUL, 0.5F));
        cr_assert_eq(left_by(&n, pass_gelu), 2, "order %d", order);
        cr_assert_eq(last_act(&n), ACT_GELU);
        net_done(&n);
    }
}

Test(idioms, gelu_of_another_width_stays)
{
    struct net n;
    const int32_t x = stretched(&n, 9);
    const int32_t e =
        activation(&n, number(&n, x, BINARY_DIV, 1.5F), (struct act){ .kind = ACT_ERF });
    const int32_t y = product(&n, x, number(&n, e, BINARY_ADD, 1));
    net_output(&n, number(&n, y, BINARY_MUL, 0.5F));
    cr_assert_eq(left_by(&n, pass_gelu), 6);
    net_done(&n);
}

Test(idioms, powers)
{
    struct net n;
    const int32_t square = number(&n, stretched(&n, 13), BINARY_POW, 2);
    net_output(&n, number(&n, square, BINARY_POW, 0.5F));
    cr_assert_eq(left_by(&n, pass_power), 3);
    cr_assert_eq(n.op[1].u.binary.kind, BINARY_MUL);
    cr_assert_eq(last_act(&n), ACT_SQRT);
    net_done(&n);
}

Test(idioms, powers_that_are_no_product_stay)
{
    struct net n;
    const int32_t x = input(&n, 14);
    const int32_t cube =
        number(&n, activation(&n, x, (struct act){ .kind = ACT_ABS }), BINARY_POW, 3);
    const int32_t y = number(&n, cube, BINARY_POW, 2);
    n.op[2].u.binary.constant_first = true; /* 2 to the power of x */
    net_output(&n, y);
    left_by(&n, pass_power);
    cr_assert_eq(n.op[1].u.binary.kind, BINARY_POW);
    cr_assert_eq(n.op[2].u.binary.kind, BINARY_POW);
    net_done(&n);
}

/* ---- Pad */

static struct window random_window(struct net *n, bool padded)
{
    struct window w = { .dilation = { 1, 1 } };
    for (int a = ROW; a <= COL; a++) {
        w.kernel[a] = net_between(n, 1, 3);
        w.stride[a] = net_between(n, 1, 2);
        w.dilation[a] = net_between(n, 1, 4) == 4 ? 2 : 1;
        const int32_t most = padded ? (w.kernel[a] - 1) * w.dilation[a] : 0;
        w.pad[a] = net_between(n, 0, most);
        w.pad_end[a] = net_between(n, 0, most);
    }
    return w;
}

static int32_t padded(struct net *n, int32_t in, float value)
{
    const int32_t *dim = n->tensor[in].dim;
    const int32_t before[2] = { net_between(n, 0, 2), net_between(n, 0, 2) };
    struct op *op = net_op(n, OP_PAD, 1, &in, dim[ROW] + before[ROW] + net_between(n, 0, 2),
                           dim[COL] + before[COL] + net_between(n, 0, 2), dim[CHAN]);
    op->u.pad.value = value;
    op->u.pad.before[ROW] = before[ROW];
    op->u.pad.before[COL] = before[COL];
    return op->output;
}

/* A pooling may hang over its end, as ceil_mode lets it. */
static int32_t pool(struct net *n, int32_t in, enum op_type type, struct window w, bool include)
{
    int32_t out[2];
    for (int a = ROW; a <= COL; a++) {
        const int32_t len = n->tensor[in].dim[a];
        out[a] = net_window_out(&w, (enum axis)a, len);
        if (net_random(n, 2) && out[a] * w.stride[a] < len + w.pad[a])
            out[a]++;
    }
    struct op *op = net_op(n, type, 1, &in, out[ROW], out[COL], n->tensor[in].dim[CHAN]);
    op->u.pool.win = w;
    op->u.pool.count_include_pad = include;
    return op->output;
}

static bool fits(const struct net *n, int32_t in, const struct window *w)
{
    return net_window_out(w, ROW, n->tensor[in].dim[ROW]) > 0 &&
           net_window_out(w, COL, n->tensor[in].dim[COL]) > 0;
}

enum { TRIALS = 300 };

/* How many of TRIALS random paddings before an operator of `type` fold. */
static int32_t folded(enum op_type type, struct act before, float value)
{
    int32_t count = 0;
    for (uint64_t seed = 0; seed < TRIALS; seed++) {
        struct net n;
        const int32_t x = activation(&n, input(&n, seed), before);
        const int32_t p = padded(&n, x, value);
        const struct window w = random_window(&n, net_random(&n, 2));
        if (!fits(&n, p, &w)) {
            net_done(&n);
            continue;
        }
        net_output(&n, type == OP_CONV ? net_conv(&n, p, 4, 1, w)
                                       : pool(&n, p, type, w, net_random(&n, 2)));
        count += left_by(&n, pass_pad) == 2;
        net_done(&n);
    }
    return count;
}

static const struct act nothing = { .kind = ACT_NEG }, relu = { .kind = ACT_RELU };

Test(idioms, padding_by_zero_is_a_convolution_s_own)
{
    cr_assert_gt(folded(OP_CONV, nothing, 0), TRIALS / 2);
    cr_assert_eq(folded(OP_CONV, nothing, 1), 0);
}

Test(idioms, padding_by_zero_counts_in_an_average)
{
    cr_assert_gt(folded(OP_AVERAGE_POOL, nothing, 0), TRIALS / 4);
    cr_assert_eq(folded(OP_AVERAGE_POOL, nothing, 1), 0);
}

Test(idioms, padding_that_never_is_the_largest)
{
    cr_assert_gt(folded(OP_MAX_POOL, relu, 0), TRIALS / 16);
    cr_assert_gt(folded(OP_MAX_POOL, nothing, -FLT_MAX), TRIALS / 16);
    cr_assert_eq(folded(OP_MAX_POOL, nothing, 0), 0);
    cr_assert_eq(folded(OP_MAX_POOL, relu, 1), 0);
}

Test(idioms, padding_that_others_read_stays_for_them)
{
    struct net n;
    const struct window w = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    const int32_t x = input(&n, 10), p = padded(&n, x, 0);
    net_output(&n, net_conv(&n, p, 4, 1, w));
    net_output(&n, p);
    cr_assert_eq(pass_pad(&n.g), 0);
    cr_assert_eq(n.op[1].input[0], x);
    cr_assert_eq(pass_dead(&n.g), 0);
    cr_assert_eq(n.g.nops, 2);
    net_done(&n);
}

/* ---- taps that only meet padding */

Test(idioms, taps_that_never_meet_the_map)
{
    int32_t smaller = 0;
    for (uint64_t seed = 0; seed < TRIALS; seed++) {
        struct net n;
        struct window w;
        const int32_t x = input(&n, seed);
        for (int a = ROW; a <= COL; a++) {
            w.kernel[a] = net_between(&n, 1, 4);
            w.stride[a] = net_between(&n, 1, 2);
            w.dilation[a] = net_between(&n, 1, 7);
            w.pad[a] = net_between(&n, 0, 16);
            w.pad_end[a] = net_between(&n, 0, 16);
        }
        if (!fits(&n, x, &w)) {
            net_done(&n);
            continue;
        }
        net_output(&n, net_conv(&n, x, 4, net_random(&n, 2) ? 1 : 2, w));
        cr_assert_eq(left_by(&n, pass_taps), 1);
        const struct window *left = &n.op[0].u.conv.win;
        smaller += left->kernel[ROW] < w.kernel[ROW] || left->kernel[COL] < w.kernel[COL];
        net_done(&n);
    }
    cr_assert_gt(smaller, TRIALS / 8);
}

/* Padding as large as the dilation and the map: a convolution of pixels. */
Test(idioms, a_dilated_kernel_on_a_small_map_is_one_tap)
{
    struct net n;
    const struct window w = { { 3, 3 }, { 1, 1 }, { 6, 6 }, { 6, 6 }, { 6, 6 } };
    net_output(&n, net_conv(&n, input(&n, 15), 4, 1, w));
    left_by(&n, pass_taps);
    for (int a = ROW; a <= COL; a++) {
        cr_assert_eq(n.op[0].u.conv.win.kernel[a], 1);
        cr_assert_eq(n.op[0].u.conv.win.pad[a], 0);
        cr_assert_eq(n.op[0].u.conv.win.pad_end[a], 0);
    }
    net_done(&n);
}

/* ---- a line before a convolution */

static int32_t affine(struct net *n, int32_t in, bool with_bias)
{
    const int32_t *dim = n->tensor[in].dim;
    struct op *op = net_op(n, OP_AFFINE, 1, &in, dim[ROW], dim[COL], dim[CHAN]);
    op->u.affine.scale = net_floats(n, dim[CHAN]);
    op->u.affine.bias = net_floats(n, dim[CHAN]);
    for (int32_t c = 0; c < dim[CHAN] && !with_bias; c++)
        op->u.affine.bias[c] = 0;
    return op->output;
}

Test(idioms, a_line_before_a_convolution)
{
    static const int32_t group[] = { 1, 2, 3, 6 };
    for (int32_t k = 0; k < 4; k++)
        for (int32_t kind = 0; kind < 4; kind++) {
            struct net n;
            const bool with_bias = kind & 1, pads = kind & 2;
            const struct window w = { { 3, 2 }, { 1, 1 }, { 1, 1 }, { pads, 0 }, { 0, 0 } };
            const int32_t x = affine(&n, input(&n, (uint64_t)k), with_bias);
            net_output(&n, net_conv(&n, x, 12, group[k], w));
            cr_assert_eq(left_by(&n, pass_fold_before), with_bias && pads ? 2 : 1);
            net_done(&n);
        }
}

/* After folding what comes behind: scale and bias of the convolution are there already. */
Test(idioms, lines_before_and_behind_a_convolution)
{
    struct net n;
    const struct window w = { { 1, 3 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    const int32_t x = affine(&n, input(&n, 11), true);
    net_output(&n, affine(&n, net_conv(&n, x, 4, 2, w), true));
    cr_assert_eq(left_by(&n, pass_fold_affine), 2);
    cr_assert_eq(left_by(&n, pass_fold_before), 1);
    net_done(&n);
}

Test(idioms, a_line_that_others_read_stays)
{
    struct net n;
    const struct window w = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    const int32_t x = affine(&n, input(&n, 12), true);
    net_output(&n, product(&n, x, net_conv(&n, x, 6, 1, w)));
    cr_assert_eq(left_by(&n, pass_fold_before), 3);
    net_done(&n);
}
