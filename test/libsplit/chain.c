#include "chain.h"

#include <stdlib.h>
#include <string.h>

struct chain {
    struct net *n;
    int32_t last; /* the tensor that the next operator reads */
    bool reduces;
};

static const int32_t *dim_of(const struct chain *c) { return c->n->tensor[c->last].dim; }

static struct window random_window(struct chain *c, int32_t kernel, int32_t stride,
                                   int32_t dilation)
{
    struct window w;
    for (int a = 0; a < 2; a++) {
        w.kernel[a] = net_between(c->n, 1, kernel);
        w.stride[a] = net_between(c->n, 1, stride);
        w.dilation[a] = net_between(c->n, 1, dilation);
        const int32_t span = (w.kernel[a] - 1) * w.dilation[a] + 1;
        w.pad[a] = net_between(c->n, 0, span - 1);
        w.pad_end[a] = net_between(c->n, 0, span - 1);
        /* Grow the padding until the window fits. */
        if (dim_of(c)[a] + w.pad[a] + w.pad_end[a] < span)
            w.pad_end[a] = span - dim_of(c)[a] - w.pad[a];
    }
    return w;
}

static void add_conv(struct chain *c)
{
    struct net *n = c->n;
    const int32_t cin = dim_of(c)[CHAN];
    const bool depthwise = net_random(n, 3) == 0;
    const int32_t group = depthwise ? cin : cin % 2 == 0 && net_random(n, 3) == 0 ? 2 : 1;
    const int32_t cout = group * net_between(n, 1, depthwise ? 2 : 6);
    const int32_t wide = net_random(n, 4) ? 1 : 4; /* a halo wider than a neighbour's band */
    c->last = net_conv(n, c->last, cout > 16 ? group : cout, group,
                       random_window(c, 4, dim_of(c)[ROW] > 4 ? 2 : 1, wide));
    net_activate(n);
}

static void add_conv_transpose(struct chain *c)
{
    struct net *n = c->n;
    struct window w = random_window(c, 4, 2, 1);
    for (int a = 0; a < 2; a++) {
        const int32_t full = (dim_of(c)[a] - 1) * w.stride[a] + w.kernel[a];
        w.pad[a] = net_between(n, 0, full > 2 ? 1 : 0);
        w.pad_end[a] = net_between(n, 0, full > 3 ? 1 : 0);
    }
    c->last = net_conv_transpose(n, c->last, net_between(n, 1, 6), 1, w);
}

static void add_pool(struct chain *c)
{
    struct window w = random_window(c, 3, 2, 1);
    const enum op_type type = net_random(c->n, 2) ? OP_MAX_POOL : OP_AVERAGE_POOL;
    c->last = net_pool(c->n, c->last, type, w, net_random(c->n, 2));
}

static struct op *add_same(struct chain *c, enum op_type type, int32_t ninputs,
                           const int32_t *input)
{
    const int32_t *d = dim_of(c);
    struct op *op = net_op(c->n, type, ninputs, input, d[ROW], d[COL], d[CHAN]);
    c->last = op->output;
    return op;
}

/* An earlier tensor that `fits`, else the last one itself. */
static int32_t earlier(struct chain *c,
                       bool (*fits)(const struct tensor *a, const struct tensor *b))
{
    const struct tensor *tensor = c->n->tensor;
    for (int tries = 0; tries < 8; tries++) {
        const int32_t t = net_between(c->n, 0, c->n->g.ntensors - 1);
        if (tensor[t].dim[ROW] > 0 && fits(&tensor[t], &tensor[c->last]))
            return t;
    }
    return c->last;
}

static bool same_dims(const struct tensor *a, const struct tensor *b)
{
    return memcmp(a->dim, b->dim, sizeof(a->dim)) == 0 && a->batch == b->batch;
}

static bool same_map(const struct tensor *a, const struct tensor *b)
{
    return a->dim[ROW] == b->dim[ROW] && a->dim[COL] == b->dim[COL] && a->batch == b->batch;
}

static void add_residual(struct chain *c)
{
    const int32_t in[2] = { c->last, earlier(c, same_dims) };
    add_same(c, OP_BINARY, 2, in)->u.binary.kind = (enum binary_kind)net_random(c->n, 3);
    net_activate(c->n);
}

static void add_constant(struct chain *c)
{
    struct op *op = add_same(c, OP_BINARY, 1, &(int32_t){ c->last });
    const int32_t *d = dim_of(c);
    op->u.binary.kind = (enum binary_kind)net_random(c->n, 3);
    op->u.binary.constant = net_floats(c->n, (int64_t)d[ROW] * d[CHAN]);
    op->u.binary.stride[ROW] = d[CHAN];
    op->u.binary.stride[CHAN] = 1;
}

static void add_concat(struct chain *c)
{
    const int32_t in[2] = { c->last, earlier(c, same_map) };
    const struct tensor *a = &c->n->tensor[in[0]], *b = &c->n->tensor[in[1]];
    enum axis axis = CHAN;
    if (a->dim[CHAN] == b->dim[CHAN] && net_random(c->n, 2))
        axis = net_random(c->n, 2) ? ROW : COL;
    int32_t d[AXES];
    memcpy(d, a->dim, sizeof(d));
    d[axis] += b->dim[axis];
    struct op *op = net_op(c->n, OP_CONCAT, 2, in, d[ROW], d[COL], d[CHAN]);
    op->u.concat.axis = axis;
    c->last = op->output;
}

static void add_slice(struct chain *c)
{
    int32_t start[AXES], step[AXES], out[AXES];
    for (int a = 0; a < AXES; a++) {
        const int32_t len = dim_of(c)[a];
        step[a] = net_random(c->n, 4) ? 1 : net_random(c->n, 2) ? 2 : -1;
        start[a] = step[a] < 0 ? len - 1 : net_between(c->n, 0, len > 3 ? 1 : 0);
        const int32_t room = step[a] > 0 ? len - 1 - start[a] : start[a];
        out[a] = room / abs(step[a]) + 1;
    }
    struct op *op = net_op(c->n, OP_SLICE, 1, &c->last, out[ROW], out[COL], out[CHAN]);
    memcpy(op->u.slice.start, start, sizeof(start));
    memcpy(op->u.slice.step, step, sizeof(step));
    c->last = op->output;
}

static void add_pad(struct chain *c)
{
    int32_t before[AXES] = { 0 }, out[AXES];
    for (int a = 0; a < AXES; a++) {
        const int32_t most = dim_of(c)[a] > 2 ? 2 : dim_of(c)[a] - 1;
        if (a != CHAN)
            before[a] = net_between(c->n, most > 1 ? -1 : 0, most);
        out[a] = dim_of(c)[a] + before[a] + (a == CHAN ? 0 : net_between(c->n, 0, most));
    }
    struct op *op = net_op(c->n, OP_PAD, 1, &c->last, out[ROW], out[COL], out[CHAN]);
    memcpy(op->u.pad.before, before, sizeof(before));
    op->u.pad.mode = (enum pad_mode)net_random(c->n, 3);
    op->u.pad.value = 0.5F;
    c->last = op->output;
}

static void add_depth_to_space(struct chain *c)
{
    const struct window one = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    const int32_t in = net_conv(c->n, c->last, 8, 1, one);
    const int32_t *d = dim_of(c);
    struct op *op = net_op(c->n, OP_DEPTH_TO_SPACE, 1, &in, 2 * d[ROW], 2 * d[COL], 2);
    op->u.depth_to_space.block = 2;
    op->u.depth_to_space.crd = net_random(c->n, 2);
    c->last = op->output;
}

static void add_resize(struct chain *c)
{
    const int32_t *d = dim_of(c);
    struct op *op = net_op(c->n, OP_RESIZE, 1, &c->last, 2 * d[ROW], 2 * d[COL], d[CHAN]);
    op->u.resize.mode = (enum resize_mode)net_random(c->n, 3);
    op->u.resize.coordinates = (enum resize_coordinates)net_random(c->n, 5);
    op->u.resize.nearest = (enum resize_nearest)net_random(c->n, 4);
    op->u.resize.scale[ROW] = op->u.resize.scale[COL] = 2;
    op->u.resize.cubic_a = -0.75F;
    c->last = op->output;
}

static void add_softmax(struct chain *c)
{
    struct op *op = add_same(c, OP_SOFTMAX, 1, &(int32_t){ c->last });
    for (int a = 0; a < AXES; a++)
        op->u.softmax.over[a] = net_random(c->n, 2);
}

/* Exchanges two axes of the map. */
static void add_transpose(struct chain *c)
{
    static const int8_t perms[3][4] = { { 0, 2, 1, 3 }, { 0, 1, 3, 2 }, { 0, 3, 2, 1 } };
    const int8_t *perm = perms[net_random(c->n, 3)];
    const int32_t *d = dim_of(c);
    const int32_t from[4] = { c->n->tensor[c->last].batch, d[CHAN], d[ROW], d[COL] };
    int32_t to[4];
    for (int i = 0; i < 4; i++)
        to[i] = from[perm[i]];
    struct op *op = net_op(c->n, OP_RESHAPE, 1, &c->last, to[2], to[3], to[1]);
    op->u.reshape.from = shape_make(4, from);
    op->u.reshape.to = shape_make(4, to);
    memcpy(op->u.reshape.perm, perm, 4);
    c->last = op->output;
}

/* Scales every channel by what a small layer makes of the map's mean. */
static void add_squeeze_excite(struct chain *c)
{
    const struct window one = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } };
    struct net *n = c->n;
    const int32_t channels = dim_of(c)[CHAN];
    const int32_t mean = net_reduce(n, c->last, (enum reduce_kind)net_between(n, 1, 2));
    const int32_t scale = net_conv(n, net_conv(n, mean, 2, 1, one), channels, 1, one);
    n->op[n->g.nops - 1].act.kind = ACT_SIGMOID;
    add_same(c, OP_BINARY, 2, (int32_t[]){ c->last, scale })->u.binary.kind = BINARY_MUL;
    c->reduces = true;
}

static void add_mean(struct chain *c)
{
    c->last = net_reduce(c->n, c->last, REDUCE_MEAN);
    c->reduces = true;
}

static int32_t add_constant_tensor(struct chain *c, int32_t rows, int32_t cols, int32_t channels)
{
    struct op *op = net_op(c->n, OP_CONSTANT, 0, NULL, rows, cols, channels);
    op->u.constant.values = net_floats(c->n, (int64_t)rows * cols * channels);
    return op->output;
}

static void add_function(struct chain *c)
{
    static const enum act_kind kind[] = { ACT_ABS, ACT_ERF, ACT_SOFTPLUS, ACT_GELU, ACT_SIN };
    add_same(c, OP_ACTIVATION, 1, &(int32_t){ c->last })->act.kind = kind[net_random(c->n, 5)];
}

/* A mask decides between two maps, or a map and one pixel. */
static void add_where(struct chain *c)
{
    const int32_t *d = dim_of(c);
    const int32_t rows = d[ROW], cols = d[COL], channels = d[CHAN];
    int32_t in[3] = { add_constant_tensor(c, rows, cols, 1), c->last, earlier(c, same_dims) };
    float *mask = c->n->op[c->n->g.nops - 1].u.constant.values;
    for (int32_t i = 0; i < rows * cols; i += 2)
        mask[i] = 0;
    if (net_random(c->n, 2))
        in[2] = add_constant_tensor(c, 1, 1, channels);
    c->last = net_op(c->n, OP_WHERE, 3, in, rows, cols, channels)->output;
    c->n->tensor[c->last].batch = c->n->tensor[in[1]].batch;
}

static void add_reduce(struct chain *c)
{
    int32_t d[AXES];
    memcpy(d, dim_of(c), sizeof(d));
    const uint32_t over = 1 + net_random(c->n, 7);
    for (int a = 0; a < AXES; a++)
        d[a] = over >> a & 1 ? 1 : d[a];
    struct op *op = net_op(c->n, OP_REDUCE, 1, &c->last, d[ROW], d[COL], d[CHAN]);
    op->u.reduce.kind = net_random(c->n, 2) ? REDUCE_MEAN : REDUCE_MIN;
    for (int a = 0; a < AXES; a++)
        op->u.reduce.over[a] = over >> a & 1;
    c->last = op->output;
}

/* Of one column, times a constant matrix. */
static void add_matmul(struct chain *c)
{
    const int32_t *d = dim_of(c);
    struct op *op = net_op(c->n, OP_REDUCE, 1, &c->last, d[ROW], 1, d[CHAN]);
    op->u.reduce.kind = REDUCE_MAX;
    op->u.reduce.over[COL] = true;
    const int32_t out = net_between(c->n, 1, 6), rows = d[ROW];
    const int32_t in[2] = { op->output, add_constant_tensor(c, d[CHAN], 1, out) };
    c->last = net_op(c->n, OP_MATMUL, 2, in, rows, 1, out)->output;
}

static void add_lrn(struct chain *c)
{
    struct op *op = add_same(c, OP_LRN, 1, &(int32_t){ c->last });
    op->u.lrn.size = net_between(c->n, 1, 5);
    op->u.lrn.alpha = 0.1F;
    op->u.lrn.beta = 0.75F;
    op->u.lrn.bias = 1;
}

static void add_space_to_depth(struct chain *c)
{
    const int32_t *d = dim_of(c);
    if (d[ROW] % 2 || d[COL] % 2)
        return;
    struct op *op =
        net_op(c->n, OP_SPACE_TO_DEPTH, 1, &c->last, d[ROW] / 2, d[COL] / 2, 4 * d[CHAN]);
    op->u.space_to_depth.block = 2;
    c->last = op->output;
}

static void add_top_k(struct chain *c)
{
    int32_t d[AXES];
    memcpy(d, dim_of(c), sizeof(d));
    const enum axis axis = (enum axis)net_random(c->n, AXES);
    d[axis] = net_between(c->n, 1, d[axis]);
    struct op *op = net_op(c->n, OP_TOP_K, 1, &c->last, d[ROW], d[COL], d[CHAN]);
    op->u.top_k.axis = axis;
    c->last = op->output;
}

/* Some places of one axis, in any order. */
static void add_pick(struct chain *c)
{
    const int32_t *d = dim_of(c);
    const int32_t from[4] = { c->n->tensor[c->last].batch, d[CHAN], d[ROW], d[COL] };
    const int a = net_between(c->n, 1, 3);
    int32_t to[4];
    memcpy(to, from, sizeof(to));
    to[a] = net_between(c->n, 1, from[a] + 2);
    struct op *op = net_op(c->n, OP_RESHAPE, 1, &c->last, to[2], to[3], to[1]);
    op->u.reshape.from = shape_make(4, from);
    op->u.reshape.to = shape_make(4, to);
    for (int8_t i = 0; i < 4; i++)
        op->u.reshape.perm[i] = i;
    op->u.reshape.pick[a] = (void *)net_floats(c->n, to[a]);
    op->u.reshape.picked[a] = from[a];
    for (int32_t i = 0; i < to[a]; i++)
        op->u.reshape.pick[a][i] = net_between(c->n, 0, from[a] - 1);
    c->last = op->output;
}

bool chain_init(struct net *n, uint64_t seed, int32_t ops)
{
    static void (*const add[])(struct chain *) = {
        add_conv,
        add_conv,
        add_conv,
        add_conv,
        add_conv_transpose,
        add_pool,
        add_pool,
        add_residual,
        add_residual,
        add_constant,
        add_concat,
        add_slice,
        add_pad,
        add_depth_to_space,
        add_resize,
        add_softmax,
        add_transpose,
        add_squeeze_excite,
        add_mean,
        add_function,
        add_where,
        add_reduce,
        add_matmul,
        add_lrn,
        add_space_to_depth,
        add_top_k,
        add_pick,
    };
    enum { LARGEST = 40 };

    net_init(n, seed);
    struct chain c = { .n = n };
    const int32_t batch = net_random(n, 4) ? 1 : 2;
    const int32_t inputs = net_random(n, 4) ? 1 : 2;
    const int32_t rows = net_between(n, 1, 24), cols = net_between(n, 1, 8);
    for (int32_t i = 0; i < inputs; i++)
        c.last = net_input(n, rows, cols, net_between(n, 1, 6), batch);
    while (n->g.nops < ops) {
        const int32_t *d = dim_of(&c);
        if (d[ROW] > LARGEST || d[COL] > LARGEST || d[CHAN] > LARGEST)
            add_pool(&c);
        else
            add[net_random(n, sizeof(add) / sizeof(add[0]))](&c);
        if (net_random(n, 8) == 0)
            net_output(n, c.last);
    }
    net_output(n, c.last);
    if (net_random(n, 4) == 0)
        net_output(n, c.last); /* two outputs may be one tensor */
    if (net_random(n, 8) == 0)
        net_output(n, n->in[0].tensor); /* and an output may be an input */
    return c.reduces;
}

/* 3x3 or 1x1, plain, depthwise or of groups; or a pool. */
static int32_t add_wide(struct net *n, int32_t in)
{
    const int32_t channels = n->tensor[in].dim[CHAN], wide = net_between(n, 1, 150);
    switch (net_random(n, 5)) {
    case 0:
        return net_conv(n, in, channels, channels, net_window(3, net_between(n, 1, 2), 1));
    case 1:
        return net_conv(n, in, wide, 1, net_window(1, 1, 0));
    case 2:
        return net_pool(n, in, net_random(n, 2) ? OP_MAX_POOL : OP_AVERAGE_POOL,
                        net_window(3, 1, 1), true);
    case 3: {
        const int32_t group = channels % 4 == 0 ? 4 : 1;
        return net_conv(n, in, group * net_between(n, 1, 40), group, net_window(3, 1, 1));
    }
    default: /* where Winograd's algorithm fits */
        return net_conv(n, in, wide, 1, net_window(3, 1, 1));
    }
}

bool wide_init(struct net *n, uint64_t seed)
{
    net_init(n, seed);
    int32_t t = net_input(n, net_between(n, 1, 19), net_between(n, 1, 15), net_between(n, 1, 70),
                          net_between(n, 1, 2));
    for (int32_t i = 0; i < 4; i++) {
        t = add_wide(n, t);
        net_activate(n);
    }
    const bool reduces = net_random(n, 3) == 0;
    if (reduces)
        t = net_reduce(n, t, REDUCE_MEAN);
    net_output(n, net_conv(n, t, net_between(n, 1, 200), 1, net_window(1, 1, 0)));
    return reduces;
}
