/* Every kernel against the plain double-precision reference of net.c over all small shapes,
 * and against itself: a map computed in pieces must be the map computed at once. */
#include "libsplit/kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "net.h"

static const float SENTINEL = -12345.5F;

static void *must(void *p)
{
    cr_assert_not_null(p);
    return p;
}

/* A network of inputs and one operator, ready to run. */
struct trial {
    struct net *net;
    struct geometry geo;
    float *input[NET_MAX_PORTS];
    double *want[2 * NET_MAX_OPS];
    float *scratch;
};

static void trial_init(struct trial *t, struct net *net)
{
    t->net = net;
    cr_assert_eq(graph_pack(&net->g, NULL, NULL), 0);
    cr_assert_eq(graph_geometry(&net->g, 1, &t->geo), 0);
    cr_assert_eq(geometry_check(&t->geo), 0);
    for (int32_t i = 0; i < net->g.ninputs; i++)
        t->input[i] = net_floats(net, net_values(net, net->in[i].tensor));
    net_reference(net, (const float *const *)t->input, t->want);
    const struct op *op = &net->op[net->g.nops - 1];
    const struct kernel *k = &kernels[op->type];
    const size_t bytes = k->scratch_bytes ? k->scratch_bytes(&net->g, op) : 0;
    t->scratch = must(aligned_alloc(64, (bytes + 64) & ~(size_t)63));
}

/* After something was written to the inputs. */
static void trial_again(struct trial *t)
{
    net_reference_done(t->net, t->want);
    net_reference(t->net, (const float *const *)t->input, t->want);
}

static void trial_done(struct trial *t)
{
    free(t->scratch);
    net_reference_done(t->net, t->want);
    geometry_done(&t->geo);
    graph_unpack(&t->net->g);
}

/* Exactly the values that the reach names, all images, in memory of exactly that size. */
static struct view crop(const struct tensor *x, const float *values, struct box box)
{
    const ptrdiff_t pixel = box_len(box, CHAN), row = pixel * box_len(box, COL);
    const ptrdiff_t image = row * box_len(box, ROW);
    struct view v = { .box = box,
                      .row_stride = row,
                      .pixel_stride = pixel,
                      .image_stride = image,
                      .data = must(malloc((size_t)(image * x->batch) * sizeof(float) + 1)) };
    for (int32_t b = 0; b < x->batch; b++)
        for (int32_t r = box.lo[ROW]; r < box.hi[ROW]; r++)
            for (int32_t c = box.lo[COL]; c < box.hi[COL]; c++)
                memcpy(view_at(&v, r, c, box.lo[CHAN]) + b * image,
                       values +
                           (((ptrdiff_t)b * x->dim[ROW] + r) * x->dim[COL] + c) * x->dim[CHAN] +
                           box.lo[CHAN],
                       (size_t)pixel * sizeof(float));
    return v;
}

static const float *input_values(const struct trial *t, int32_t tensor)
{
    for (int32_t i = 0; i < t->net->g.ninputs; i++)
        if (t->net->in[i].tensor == tensor)
            return t->input[i];
    return NULL;
}

/* Runs `region` of the last operator, all images, into the whole tensor `out`.  `gap` floats
 * lie between output pixels and must stay as they are. */
static void compute(const struct trial *t, struct box region, ptrdiff_t gap, float *out)
{
    struct net *n = t->net;
    const struct op *op = &n->op[n->g.nops - 1];
    const struct tensor *x = &n->tensor[op->output];
    struct view whole[OP_MAX_INPUTS], in[OP_MAX_INPUTS];
    for (int32_t i = 0; i < op->ninputs; i++)
        whole[i] = crop(&n->tensor[op->input[i]], input_values(t, op->input[i]),
                        geometry_need(&t->geo, n->g.nops - 1, i, region));

    const ptrdiff_t pixel = box_len(region, CHAN) + gap;
    const ptrdiff_t pixels = (ptrdiff_t)box_len(region, ROW) * box_len(region, COL);
    float *store = must(malloc((size_t)(pixels * pixel) * sizeof(float)));
    struct kernel_call call = { .graph = &n->g,
                                .op = op,
                                .in = in,
                                .out = { .data = store,
                                         .box = region,
                                         .row_stride = pixel * box_len(region, COL),
                                         .pixel_stride = pixel },
                                .region = region,
                                .nodes = 1,
                                .scratch = t->scratch };
    for (call.image = 0; call.image < x->batch; call.image++) {
        for (ptrdiff_t i = 0; i < pixels * pixel; i++)
            store[i] = SENTINEL;
        for (int32_t i = 0; i < op->ninputs; i++) {
            in[i] = whole[i];
            if (op->type != OP_RESHAPE && n->tensor[op->input[i]].batch == x->batch)
                in[i].data += call.image * whole[i].image_stride;
        }
        kernels[op->type].run(&call);
        for (int32_t r = region.lo[ROW]; r < region.hi[ROW]; r++)
            for (int32_t c = region.lo[COL]; c < region.hi[COL]; c++) {
                const float *from = view_at(&call.out, r, c, region.lo[CHAN]);
                memcpy(out +
                           (((ptrdiff_t)call.image * x->dim[ROW] + r) * x->dim[COL] + c) *
                               x->dim[CHAN] +
                           region.lo[CHAN],
                       from, (size_t)box_len(region, CHAN) * sizeof(float));
                for (ptrdiff_t k = box_len(region, CHAN); k < pixel; k++)
                    cr_assert_eq(from[k], SENTINEL, "wrote between pixels");
            }
    }
    free(store);
    for (int32_t i = 0; i < op->ninputs; i++)
        free(whole[i].data);
}

/* Dilated windows may miss a small map altogether: the largest of nothing is -inf, and some
 * activations make NaN of that. */
static void expect_near(const float *got, const double *want, int64_t n, const char *what)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        cr_assert(fabs((double)got[i] - want[i]) <= 1e-5 * (1 + largest) ||
                      (double)got[i] == want[i] || (isnan(got[i]) && isnan(want[i])),
                  "%s: value %lld is %g, want %g", what, (long long)i, (double)got[i], want[i]);
}

/* Computes the last operator whole, in random bands of rows, and in random boxes. */
static void check_trial(const struct trial *t, const char *what)
{
    struct net *n = t->net;
    const struct op *op = &n->op[n->g.nops - 1];
    const int32_t *dim = n->tensor[op->output].dim;
    const int64_t values = net_values(n, op->output);
    float *whole = must(malloc((size_t)values * sizeof(float)));
    float *pieces = must(malloc((size_t)values * sizeof(float)));
    compute(t, box_whole(dim), 0, whole);
    expect_near(whole, t->want[op->output], values, what);

    for (int32_t r = 0; r < dim[ROW];) {
        struct box band = box_whole(dim);
        band.lo[ROW] = r;
        r = band.hi[ROW] = net_between(n, r + 1, dim[ROW]);
        compute(t, band, net_between(n, 0, 3), pieces);
    }
    cr_assert(memcmp(whole, pieces, (size_t)values * sizeof(float)) == 0,
              "%s: bands of rows differ from the whole", what);

    memcpy(pieces, whole, (size_t)values * sizeof(float));
    struct box box;
    for (int a = 0; a < AXES; a++) {
        box.lo[a] = net_between(n, 0, dim[a] - 1);
        box.hi[a] = net_between(n, box.lo[a] + 1, dim[a]);
    }
    compute(t, box, net_between(n, 0, 3), pieces);
    expect_near(pieces, t->want[op->output], values, what);
    free(pieces);
    free(whole);
}

static void check_with(struct net *n, const char *what)
{
    struct trial t;
    trial_init(&t, n);
    check_trial(&t, what);
    trial_done(&t);
}

/* Also ends the net. */
static void check(struct net *n, const char *what)
{
    check_with(n, what);
    net_done(n);
}

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
    check(n, "convolution");
}

Test(kernels, convolution) { over_all_windows(conv_case); }

static void grouped_case(struct net *n, struct window w)
{
    const int32_t group = net_between(n, 2, 4);
    const int32_t in = fitting_input(n, &w, group * net_between(n, 1, 3));
    net_conv(n, in, group * net_between(n, 1, 3), group, w);
    net_activate(n);
    check(n, "grouped convolution");
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
        check(&n, "wide convolution");
        net_init(&n, (uint64_t)cols);
        net_conv_transpose(&n, net_input(&n, 3, cols, 3, 1), 4, 1,
                           (struct window){ { 4, 4 }, { 2, 2 }, { 1, 1 }, { 1, 1 }, { 1, 1 } });
        check(&n, "wide transposed convolution");
    }
}

/* A fully connected layer: Gemm's weights, input channel fastest or output channel fastest. */
Test(kernels, fully_connected)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct net n;
        net_init(&n, seed);
        const struct window w = { .kernel = { 1, 1 }, .stride = { 1, 1 }, .dilation = { 1, 1 } };
        const int32_t in = net_between(&n, 1, 40), out = net_between(&n, 1, 40);
        net_conv(&n, net_input(&n, 1, 1, in, 2), out, 1, w);
        if (seed % 2) {
            n.op[0].u.conv.weight.stride[0] = 1;
            n.op[0].u.conv.weight.stride[1] = out;
        }
        check(&n, "fully connected");
    }
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
    check(n, "transposed convolution");
}

Test(kernels, transposed_convolution) { over_all_windows(transposed_case); }

static void pool_case(struct net *n, struct window w)
{
    const int32_t in = fitting_input(n, &w, net_between(n, 1, 9));
    const enum op_type type = net_random(n, 2) ? OP_MAX_POOL : OP_AVERAGE_POOL;
    const int32_t out = net_pool(n, in, type, w, net_random(n, 2));
    /* What ceil_mode makes of it: a last window that begins on the map and hangs over. */
    int32_t *rows = &n->tensor[out].dim[ROW];
    if (*rows * w.stride[ROW] - w.pad[ROW] < n->tensor[in].dim[ROW])
        ++*rows;
    net_activate(n);
    check(n, "pooling");
}

Test(kernels, pooling) { over_all_windows(pool_case); }

Test(kernels, elementwise)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t channels = net_between(&n, 1, 9);
        const int32_t rows = net_between(&n, 1, 6), cols = net_between(&n, 1, 6);
        const int32_t in = net_input(&n, rows, cols, channels, net_between(&n, 1, 2));
        const bool affine = net_random(&n, 2);
        struct op *op =
            net_op(&n, affine ? OP_AFFINE : OP_ACTIVATION, 1, &in, rows, cols, channels);
        if (affine) {
            op->u.affine.scale = net_floats(&n, channels);
            op->u.affine.bias = net_floats(&n, channels);
        }
        net_activate(&n);
        check(&n, "elementwise");
    }
}

static int32_t one_or(struct net *n, int32_t len) { return net_random(n, 3) ? len : 1; }

Test(kernels, binary_of_tensors)
{
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 5), cols = net_between(&n, 1, 5);
        const int32_t channels = net_between(&n, 1, 9), batch = net_between(&n, 1, 2);
        int32_t in[2];
        in[0] = net_input(&n, rows, cols, channels, batch);
        in[1] = net_input(&n, one_or(&n, rows), one_or(&n, cols), one_or(&n, channels),
                          one_or(&n, batch));
        struct op *op = net_op(&n, OP_BINARY, 2, in, rows, cols, channels);
        op->u.binary.kind = (enum binary_kind)net_random(&n, 3);
        if (net_random(&n, 2) && n.tensor[in[1]].batch == batch) {
            op->input[0] = in[1];
            op->input[1] = in[0];
        }
        net_activate(&n);
        check(&n, "binary");
    }
}

Test(kernels, binary_with_constant)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t dim[AXES] = { net_between(&n, 1, 5), net_between(&n, 1, 5),
                                    net_between(&n, 1, 9) };
        const int32_t in = net_input(&n, dim[ROW], dim[COL], dim[CHAN], net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_BINARY, 1, &in, dim[ROW], dim[COL], dim[CHAN]);
        int64_t count = 1;
        for (int a = AXES; a >= 0; a--) {
            const int32_t len = a == AXES ? n.tensor[in].batch : dim[a];
            op->u.binary.stride[a] = net_random(&n, 2) ? count : 0;
            count *= op->u.binary.stride[a] ? len : 1;
        }
        op->u.binary.constant = net_floats(&n, count);
        for (int64_t i = 0; i < count; i++) /* away from 0: it may divide */
            op->u.binary.constant[i] += op->u.binary.constant[i] < 0 ? -0.5F : 0.5F;
        op->u.binary.kind = (enum binary_kind)net_random(&n, 4);
        op->u.binary.constant_first = op->u.binary.kind != BINARY_DIV && net_random(&n, 2);
        check(&n, "binary with constant");
    }
}

Test(kernels, concat)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct net n;
        net_init(&n, seed);
        const enum axis axis = (enum axis)net_random(&n, AXES);
        int32_t dim[AXES] = { net_between(&n, 1, 5), net_between(&n, 1, 5), net_between(&n, 1, 9) };
        const int32_t ninputs = net_between(&n, 1, 4), batch = net_between(&n, 1, 2);
        int32_t in[4], sum = 0;
        for (int32_t i = 0; i < ninputs; i++) {
            sum += dim[axis] = net_between(&n, 1, 4);
            in[i] = net_input(&n, dim[ROW], dim[COL], dim[CHAN], batch);
        }
        dim[axis] = sum;
        net_op(&n, OP_CONCAT, ninputs, in, dim[ROW], dim[COL], dim[CHAN])->u.concat.axis = axis;
        net_activate(&n);
        check(&n, "concat");
    }
}

Test(kernels, slice)
{
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t dim[AXES] = { net_between(&n, 1, 7), net_between(&n, 1, 7),
                                    net_between(&n, 1, 9) };
        const int32_t in = net_input(&n, dim[ROW], dim[COL], dim[CHAN], net_between(&n, 1, 2));
        int32_t start[AXES], step[AXES], out[AXES];
        for (int a = 0; a < AXES; a++) {
            start[a] = net_between(&n, 0, dim[a] - 1);
            step[a] = net_between(&n, 1, 3) * (net_random(&n, 2) ? 1 : -1);
            const int32_t room = step[a] > 0 ? dim[a] - 1 - start[a] : start[a];
            out[a] = net_between(&n, 1, room / abs(step[a]) + 1);
        }
        struct op *op = net_op(&n, OP_SLICE, 1, &in, out[ROW], out[COL], out[CHAN]);
        memcpy(op->u.slice.start, start, sizeof(start));
        memcpy(op->u.slice.step, step, sizeof(step));
        check(&n, "slice");
    }
}

Test(kernels, pad)
{
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t dim[AXES] = { net_between(&n, 2, 6), net_between(&n, 2, 6),
                                    net_between(&n, 2, 6) };
        const int32_t in = net_input(&n, dim[ROW], dim[COL], dim[CHAN], net_between(&n, 1, 2));
        int32_t before[AXES], out[AXES];
        for (int a = 0; a < AXES; a++) {
            before[a] = net_between(&n, -1, dim[a] - 1);
            out[a] = dim[a] + before[a] + net_between(&n, 0, dim[a] - 1);
        }
        struct op *op = net_op(&n, OP_PAD, 1, &in, out[ROW], out[COL], out[CHAN]);
        memcpy(op->u.pad.before, before, sizeof(before));
        op->u.pad.mode = (enum pad_mode)net_random(&n, 3);
        op->u.pad.value = 0.75F;
        check(&n, "pad");
    }
}

Test(kernels, depth_to_space)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t b = net_between(&n, 1, 3), channels = net_between(&n, 1, 4);
        const int32_t rows = net_between(&n, 1, 4), cols = net_between(&n, 1, 4);
        const int32_t in = net_input(&n, rows, cols, channels * b * b, net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_DEPTH_TO_SPACE, 1, &in, rows * b, cols * b, channels);
        op->u.depth_to_space.block = b;
        op->u.depth_to_space.crd = net_random(&n, 2);
        check(&n, "depth to space");
    }
}

Test(kernels, softmax)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 4), cols = net_between(&n, 1, 4);
        const int32_t channels = net_between(&n, 1, 9);
        const int32_t in = net_input(&n, rows, cols, channels, net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_SOFTMAX, 1, &in, rows, cols, channels);
        for (int a = 0; a < AXES; a++)
            op->u.softmax.over[a] = seed >> a & 1;
        op->u.softmax.log = net_random(&n, 2);
        check(&n, "softmax");
    }
}

/* exp(1000) is infinite; the softmax of it is not. */
Test(kernels, softmax_of_large_values)
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
    compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert_float_eq(out[0], 0.7310586F, 1e-6F);
    cr_assert_float_eq(out[1], 0.2689414F, 1e-6F);
    trial_done(&t);
    net_done(&n);
}

Test(kernels, resize)
{
    static const float scales[] = { 0.5F, 1, 1.5F, 2, 3, 4 };
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct net n;
        net_init(&n, seed);
        const float scale[2] = { scales[net_random(&n, 6)], scales[net_random(&n, 6)] };
        const int32_t rows = net_between(&n, 2, 6), cols = net_between(&n, 2, 6);
        const int32_t channels = net_between(&n, 1, 5);
        const int32_t in = net_input(&n, rows, cols, channels, net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_RESIZE, 1, &in, (int32_t)((float)rows * scale[ROW]),
                               (int32_t)((float)cols * scale[COL]), channels);
        memcpy(op->u.resize.scale, scale, sizeof(scale));
        op->u.resize.mode = (enum resize_mode)net_random(&n, 3);
        op->u.resize.coordinates = (enum resize_coordinates)net_random(&n, 5);
        op->u.resize.nearest = (enum resize_nearest)net_random(&n, 4);
        op->u.resize.cubic_a = net_random(&n, 2) ? -0.75F : -0.5F;
        op->u.resize.exclude_outside = net_random(&n, 2);
        check(&n, "resize");
    }
}

static void shuffle(struct net *n, int8_t *perm, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t j = net_between(n, 0, i);
        perm[i] = perm[j];
        perm[j] = (int8_t)i;
    }
}

/* Any transpose of a rank 4 tensor, then a reshape to rank 1, 2, 3, 4 or 6. */
Test(kernels, reshape)
{
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 5), cols = net_between(&n, 1, 5);
        const int32_t channels = net_between(&n, 1, 6), batch = net_between(&n, 1, 3);
        const int32_t in = net_input(&n, rows, cols, channels, batch);
        int8_t perm[SHAPE_MAX_RANK] = { 0 };
        shuffle(&n, perm, 4);
        const int32_t from[4] = { batch, channels, rows, cols };
        const int32_t d[4] = { from[perm[0]], from[perm[1]], from[perm[2]], from[perm[3]] };
        const int32_t to[5][6] = { { d[0] * d[1] * d[2] * d[3] },
                                   { d[0], d[1] * d[2] * d[3] },
                                   { d[0], d[1], d[2] * d[3] },
                                   { d[0], d[1], d[2], d[3] },
                                   { d[0], 1, d[1], d[2], 1, d[3] } };
        static const int32_t ranks[5] = { 1, 2, 3, 4, 6 };
        const uint32_t pick = net_random(&n, 5);
        const struct shape shape = shape_make(ranks[pick], to[pick]);
        struct op *op = net_op(&n, OP_RESHAPE, 1, &in, shape_len(&shape, ROW),
                               shape_len(&shape, COL), shape_len(&shape, CHAN));
        n.tensor[op->output].batch = shape_batch(&shape);
        op->u.reshape.from = shape_make(4, from);
        op->u.reshape.to = shape;
        memcpy(op->u.reshape.perm, perm, sizeof(perm));
        check(&n, "reshape");
    }
}

/* ---- Functions and operators that are rare ---- */

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
        check(&n, what);
    }
}

Test(kernels, functions_of_two_values)
{
    for (uint64_t seed = 0; seed < 10 * BINARY_KINDS; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 5), cols = net_between(&n, 1, 5);
        const int32_t channels = net_between(&n, 1, 9);
        int32_t in[2];
        in[0] = net_input(&n, rows, cols, channels, 2);
        in[1] = net_input(&n, one_or(&n, rows), one_or(&n, cols), one_or(&n, channels), 1);
        struct op *op = net_op(&n, OP_BINARY, 2, in, rows, cols, channels);
        op->u.binary.kind = (enum binary_kind)(seed % BINARY_KINDS);
        check(&n, "binary function");
    }
}

/* Half of the conditions are 0. */
Test(kernels, where)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 5), cols = net_between(&n, 1, 5);
        const int32_t channels = net_between(&n, 1, 9), batch = net_between(&n, 1, 2);
        int32_t in[3];
        for (int i = 0; i < 3; i++)
            in[i] = net_input(&n, i ? one_or(&n, rows) : rows, i ? one_or(&n, cols) : cols,
                              i ? one_or(&n, channels) : channels, i ? one_or(&n, batch) : batch);
        net_op(&n, OP_WHERE, 3, in, rows, cols, channels);
        struct trial t;
        trial_init(&t, &n);
        for (int64_t i = 0; i < net_values(&n, in[0]); i += 2)
            t.input[0][i] = 0;
        trial_again(&t);
        check_trial(&t, "where");
        trial_done(&t);
        net_done(&n);
    }
}

Test(kernels, constant)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 5), cols = net_between(&n, 1, 5);
        const int32_t channels = net_between(&n, 1, 9), batch = net_between(&n, 1, 3);
        struct op *op = net_op(&n, OP_CONSTANT, 0, NULL, rows, cols, channels);
        n.tensor[op->output].batch = batch;
        op->u.constant.values = net_floats(&n, (int64_t)batch * rows * cols * channels);
        check(&n, "constant");
    }
}

/* Values of few kinds, so that the first and the last of equal ones differ. */
static float coarse(float x) { return (float)(int)(x * 3); }

Test(kernels, reductions_over_any_axes)
{
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t dim[AXES] = { net_between(&n, 1, 5), net_between(&n, 1, 5),
                                    net_between(&n, 1, 7) };
        const enum reduce_kind kind = (enum reduce_kind)(seed % (REDUCE_ARG_MIN + 1));
        const bool arg = kind == REDUCE_ARG_MAX || kind == REDUCE_ARG_MIN;
        bool over[AXES];
        int32_t out[AXES];
        for (int a = 0; a < AXES; a++) {
            over[a] = arg ? a == (int)(seed / 7 % 3) : seed / 7 >> a & 1;
            out[a] = over[a] ? 1 : dim[a];
        }
        const int32_t in = net_input(&n, dim[ROW], dim[COL], dim[CHAN], net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_REDUCE, 1, &in, out[ROW], out[COL], out[CHAN]);
        op->u.reduce.kind = kind;
        op->u.reduce.last = net_random(&n, 2);
        memcpy(op->u.reduce.over, over, sizeof over);
        struct trial t;
        trial_init(&t, &n);
        for (int64_t i = 0; i < net_values(&n, in); i++)
            t.input[0][i] = coarse(t.input[0][i]);
        trial_again(&t);
        check_trial(&t, "reduction");
        trial_done(&t);
        net_done(&n);
    }
}

Test(kernels, matmul)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 6), terms = net_between(&n, 1, 20);
        const int32_t channels = net_between(&n, 1, 20), batch = net_between(&n, 1, 3);
        int32_t in[2];
        in[0] = net_input(&n, rows, 1, terms, batch);
        in[1] = net_input(&n, terms, 1, channels, one_or(&n, batch));
        net_op(&n, OP_MATMUL, 2, in, rows, 1, channels);
        net_activate(&n);
        check(&n, "matmul");
    }
}

Test(kernels, local_response_normalization)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 4), cols = net_between(&n, 1, 4);
        const int32_t channels = net_between(&n, 1, 9);
        const int32_t in = net_input(&n, rows, cols, channels, net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_LRN, 1, &in, rows, cols, channels);
        op->u.lrn.size = net_between(&n, 1, 6);
        op->u.lrn.alpha = 0.3F;
        op->u.lrn.beta = 0.75F;
        op->u.lrn.bias = 1.5F;
        check(&n, "local response normalization");
    }
}

Test(kernels, space_to_depth)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t b = net_between(&n, 1, 3), channels = net_between(&n, 1, 4);
        const int32_t rows = net_between(&n, 1, 4), cols = net_between(&n, 1, 4);
        const int32_t in = net_input(&n, rows * b, cols * b, channels, net_between(&n, 1, 2));
        struct op *op = net_op(&n, OP_SPACE_TO_DEPTH, 1, &in, rows, cols, channels * b * b);
        op->u.space_to_depth.block = b;
        check(&n, "space to depth");
    }
}

Test(kernels, top_k)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct net n;
        net_init(&n, seed);
        int32_t dim[AXES] = { net_between(&n, 1, 6), net_between(&n, 1, 6), net_between(&n, 1, 9) };
        const int32_t in = net_input(&n, dim[ROW], dim[COL], dim[CHAN], net_between(&n, 1, 2));
        const enum axis axis = (enum axis)(seed % AXES);
        dim[axis] = net_between(&n, 1, dim[axis]);
        struct op *op = net_op(&n, OP_TOP_K, 1, &in, dim[ROW], dim[COL], dim[CHAN]);
        op->u.top_k.axis = axis;
        op->u.top_k.smallest = net_random(&n, 2);
        op->u.top_k.indices = net_random(&n, 2);
        struct trial t;
        trial_init(&t, &n);
        for (int64_t i = 0; i < net_values(&n, in); i++)
            t.input[0][i] = coarse(t.input[0][i]);
        trial_again(&t);
        check_trial(&t, "top k");
        trial_done(&t);
        net_done(&n);
    }
}

Test(kernels, top_k_puts_what_is_no_number_last)
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
    compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert(memcmp(out, want, sizeof want) == 0);
    trial_done(&t);
    net_done(&n);
}

/* Coordinates chosen at random on every axis after a transpose. */
Test(kernels, reshape_that_picks)
{
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct net n;
        net_init(&n, seed);
        const int32_t rows = net_between(&n, 1, 4), cols = net_between(&n, 1, 4);
        const int32_t channels = net_between(&n, 1, 4), batch = net_between(&n, 1, 3);
        const int32_t in = net_input(&n, rows, cols, channels, batch);
        int8_t perm[SHAPE_MAX_RANK] = { 0 };
        shuffle(&n, perm, 4);
        const int32_t from[4] = { batch, channels, rows, cols };
        int32_t to[4], *pick[4] = { NULL };
        for (int a = 0; a < 4; a++) {
            const int32_t len = from[perm[a]];
            to[a] = net_random(&n, 2) ? net_between(&n, 1, 5) : 0;
            if (to[a])
                pick[a] = (void *)net_floats(&n, to[a]);
            for (int32_t i = 0; i < to[a]; i++)
                pick[a][i] = net_between(&n, 0, len - 1);
            to[a] = to[a] ? to[a] : len;
        }
        const struct shape shape = shape_make(4, to);
        struct op *op = net_op(&n, OP_RESHAPE, 1, &in, shape_len(&shape, ROW),
                               shape_len(&shape, COL), shape_len(&shape, CHAN));
        n.tensor[op->output].batch = shape_batch(&shape);
        op->u.reshape.from = shape_make(4, from);
        op->u.reshape.to = shape;
        memcpy(op->u.reshape.perm, perm, sizeof(perm));
        for (int a = 0; a < 4; a++) {
            op->u.reshape.pick[a] = pick[a];
            op->u.reshape.picked[a] = from[perm[a]];
        }
        check(&n, "pick");
    }
}

/* ---- Reductions: shares of random bands, combined ---- */

struct shares {
    float *value; /* [nodes][2 * channels] */
    int32_t nodes, channels;
};

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

Test(kernels, reductions_of_any_cut_give_the_same)
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
        struct view in = crop(&n.tensor[t], values, box_whole(n.tensor[t].dim));
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
    compute(&t, box_whole(n.tensor[1].dim), 0, out);
    cr_assert_eq(out[0], 1.0F); /* (0 + 1 + 2) / 3 */
    cr_assert_eq(out[1], 3.0F); /* (2 + 3 + 4) / 3 */
    cr_assert_eq(out[2], 2.0F); /* (4 + 0) / 2: what lies beyond the padding does not count */
    n.op[0].u.pool.count_include_pad = false;
    compute(&t, box_whole(n.tensor[1].dim), 0, out);
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
    compute(&t, box_whole(n.tensor[1].dim), 0, out);
    const float want[8] = { 1, 2, 10, 20, 3, 4, 30, 40 };
    cr_assert(memcmp(out, want, sizeof(want)) == 0);
    trial_done(&t);
    net_done(&n);
}
