/* Operators whose values are made of many. */
#include "kernel_trial.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void make_softmax(struct net *n, uint64_t seed)
{
    int32_t dim[AXES];
    trial_dims(n, 4, 9, dim);
    struct op *op = trial_op(n, OP_SOFTMAX, trial_input(n, dim, 2), dim);
    for (int a = 0; a < AXES; a++)
        op->u.softmax.over[a] = seed >> a & 1;
    op->u.softmax.log = net_random(n, 2);
}

Test(kernels_reduce, softmax)
{
    trial_many(&(struct trial_kind){ "softmax", 200, make_softmax, NULL });
}

/* exp(1000) is infinite; the softmax of it is not. */
Test(kernels_reduce, softmax_of_large_values)
{
    struct net n;
    net_init(&n, 1);
    const int32_t in = net_input(&n, 1, 1, 2, 1);
    net_op(&n, OP_SOFTMAX, 1, &in, 1, 1, 2)->u.softmax.over[CHAN] = true;
    struct trial t;
    trial_init(&t, &n);
    t.input[0][0] = 1000;
    t.input[0][1] = 999;
    float out[2];
    trial_compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert_float_eq(out[0], 0.7310586F, 1e-6F);
    cr_assert_float_eq(out[1], 0.2689414F, 1e-6F);
    trial_done(&t);
    net_done(&n);
}

static void make_reduction(struct net *n, uint64_t seed)
{
    const enum reduce_kind kind = (enum reduce_kind)(seed % (REDUCE_ARG_MIN + 1));
    const bool arg = kind == REDUCE_ARG_MAX || kind == REDUCE_ARG_MIN;
    bool over[AXES];
    int32_t dim[AXES], out[AXES];
    trial_dims(n, 5, 7, dim);
    for (int a = 0; a < AXES; a++) {
        over[a] = arg ? a == (int)(seed / 7 % 3) : seed / 7 >> a & 1;
        out[a] = over[a] ? 1 : dim[a];
    }
    struct op *op = trial_op(n, OP_REDUCE, trial_input(n, dim, 2), out);
    op->u.reduce.kind = kind;
    op->u.reduce.last = net_random(n, 2);
    memcpy(op->u.reduce.over, over, sizeof over);
}

Test(kernels_reduce, over_any_axes)
{
    trial_many(&(struct trial_kind){ "reduction", 600, make_reduction, trial_coarse });
}

static void make_matmul(struct net *n, uint64_t seed)
{
    const int32_t rows = net_between(n, 1, 6), terms = net_between(n, 1, 20);
    const int32_t channels = net_between(n, 1, 20), batch = net_between(n, 1, 3);
    int32_t in[2];
    (void)seed;
    in[0] = net_input(n, rows, 1, terms, batch);
    in[1] = net_input(n, terms, 1, channels, trial_one_or(n, batch));
    net_op(n, OP_MATMUL, 2, in, rows, 1, channels);
    net_activate(n);
}

Test(kernels_reduce, matmul)
{
    trial_many(&(struct trial_kind){ "matmul", 200, make_matmul, NULL });
}

static void make_lrn(struct net *n, uint64_t seed)
{
    int32_t dim[AXES];
    (void)seed;
    trial_dims(n, 4, 9, dim);
    struct op *op = trial_op(n, OP_LRN, trial_input(n, dim, 2), dim);
    op->u.lrn.size = net_between(n, 1, 6);
    op->u.lrn.alpha = 0.3F;
    op->u.lrn.beta = 0.75F;
    op->u.lrn.bias = 1.5F;
}

Test(kernels_reduce, local_response_normalization)
{
    trial_many(&(struct trial_kind){ "local response normalization", 200, make_lrn, NULL });
}

static void make_top_k(struct net *n, uint64_t seed)
{
    const enum axis axis = (enum axis)(seed % AXES);
    int32_t dim[AXES];
    trial_dims(n, 6, 9, dim);
    const int32_t in = trial_input(n, dim, 2);
    dim[axis] = net_between(n, 1, dim[axis]);
    struct op *op = trial_op(n, OP_TOP_K, in, dim);
    op->u.top_k.axis = axis;
    op->u.top_k.smallest = net_random(n, 2);
    op->u.top_k.indices = net_random(n, 2);
}

Test(kernels_reduce, top_k)
{
    trial_many(&(struct trial_kind){ "top k", 300, make_top_k, trial_coarse });
}

Test(kernels_reduce, top_k_puts_what_is_no_number_last)
{
    struct net n;
    net_init(&n, 1);
    const int32_t in = net_input(&n, 1, 1, 4, 1);
    struct op *op = net_op(&n, OP_TOP_K, 1, &in, 1, 1, 4);
    op->u.top_k.axis = CHAN;
    op->u.top_k.indices = true;
    struct trial t;
    trial_init(&t, &n);
    const float values[4] = { NAN, 1, NAN, 2 }, want[4] = { 3, 1, 0, 2 };
    memcpy(t.input[0], values, sizeof values);
    float out[4];
    trial_compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert(memcmp(out, want, sizeof want) == 0);
    trial_done(&t);
    net_done(&n);
}

/* ---- Reductions: shares of random bands, combined ---- */

static void run_partial(const struct net *n, const struct op *op, const struct view *in,
                        int32_t node, struct box share, float *to)
{
    const int32_t channels = n->tensor[op->input[0]].dim[CHAN];
    const struct box row = { { node, 0, 0 }, { node + 1, 1, 2 * channels } };
    double scratch[16];
    kernels[OP_PARTIAL].run(&(struct kernel_call){
        .graph = &n->g,
        .op = op,
        .in = in,
        .out = { .data = to, .box = row, .row_stride = 2 * channels, .pixel_stride = 2 * channels },
        .region = row,
        .share = share,
        .scratch = (void *)scratch });
}

Test(kernels_reduce, reductions_of_any_cut_give_the_same)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 9), cols = net_between(&n, 1, 5);
        const int32_t channels = net_between(&n, 1, 9), nodes = net_between(&n, 1, 6);
        const int32_t t = net_input(&n, rows, cols, channels, 1);
        const int32_t result = net_reduce(&n, t, (enum reduce_kind)(seed % 3));
        float *values = net_floats(&n, net_values(&n, t)), out[9];
        double *want[2 * NET_MAX_OPS];
        net_reference(&n, (const float *const *)&values, want);

        float share[6 * 18];
        struct view in = trial_crop(&n.tensor[t], values, box_whole(n.tensor[t].dim));
        int32_t lo = 0;
        for (int32_t node = 0; node < nodes; node++) {
            const int32_t hi = node == nodes - 1 ? rows : net_between(&n, lo, rows);
            struct box band = box_whole(n.tensor[t].dim);
            band.lo[ROW] = lo;
            band.hi[ROW] = hi;
            run_partial(&n, &n.op[0], &in, node, lo < hi ? band : box_none(),
                        share + (ptrdiff_t)node * 2 * channels);
            lo = hi;
        }
        const struct box whole = box_whole(n.tensor[result].dim);
        const struct view shares = { .data = share,
                                     .box = { { 0, 0, 0 }, { nodes, 1, 2 * channels } },
                                     .row_stride = 2 * channels,
                                     .pixel_stride = 2 * channels };
        kernels[OP_COMBINE].run(&(struct kernel_call){
            .graph = &n.g,
            .op = &n.op[1],
            .in = &shares,
            .out = { .data = out, .box = whole, .row_stride = channels, .pixel_stride = channels },
            .region = whole,
            .nodes = nodes });
        for (int32_t k = 0; k < channels; k++)
            cr_assert_eq(out[k], (float)want[result][k], "seed %d: %.9g, want %.9g", (int)seed,
                         (double)out[k], want[result][k]);
        free(in.data);
        net_reference_done(&n, want);
        net_done(&n);
    }
}
