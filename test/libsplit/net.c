#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/store.h"

static void *own(struct net *n, void *p)
{
    if (!p || n->nowned == NET_MAX_OWNED)
        abort();
    n->owned[n->nowned++] = p;
    return p;
}

void net_init(struct net *n, uint64_t seed)
{
    memset(n, 0, sizeof(*n));
    n->g.tensor = n->tensor;
    n->g.op = n->op;
    n->g.input = n->in;
    n->g.output = n->out;
    n->random = seed * 0x9E3779B97F4A7C15U + 1;
}

void net_done(struct net *n)
{
    struct store *made_by_passes = n->g.store;
    store_free(&made_by_passes);
    for (int32_t i = 0; i < n->nowned; i++)
        free(n->owned[i]);
}

/* splitmix64 */
uint32_t net_random(struct net *n, uint32_t below)
{
    uint64_t z = n->random += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return (uint32_t)((z ^ (z >> 31)) >> 32) % below;
}

int32_t net_between(struct net *n, int32_t lo, int32_t hi)
{
    return lo + (int32_t)net_random(n, (uint32_t)(hi - lo + 1));
}

float *net_floats(struct net *n, int64_t count)
{
    float *f = own(n, malloc((size_t)count * sizeof(*f) + 1));
    for (int64_t i = 0; i < count; i++)
        f[i] = (float)net_random(n, 1 << 16) / (1 << 15) - 1;
    return f;
}

static int32_t add_tensor(struct net *n, int32_t rows, int32_t cols, int32_t channels,
                          int32_t batch, int32_t op)
{
    const int32_t t = n->g.ntensors++;
    char *name = own(n, malloc(16));
    snprintf(name, 16, "t%d", t);
    n->tensor[t] =
        (struct tensor){ .name = name, .dim = { rows, cols, channels }, .batch = batch, .op = op };
    return t;
}

static struct port port_of(const struct net *n, int32_t t)
{
    const struct tensor *x = &n->tensor[t];
    const int32_t dim[4] = { x->batch, x->dim[CHAN], x->dim[ROW], x->dim[COL] };
    return (struct port){ .name = x->name, .tensor = t, .shape = shape_make(4, dim) };
}

int32_t net_input(struct net *n, int32_t rows, int32_t cols, int32_t channels, int32_t batch)
{
    const int32_t t = add_tensor(n, rows, cols, channels, batch, GEO_NO_OP);
    n->in[n->g.ninputs++] = port_of(n, t);
    return t;
}

void net_output(struct net *n, int32_t tensor)
{
    if (n->g.noutputs < NET_MAX_PORTS)
        n->out[n->g.noutputs++] = port_of(n, tensor);
}

struct op *net_op(struct net *n, enum op_type type, int32_t ninputs, const int32_t *input,
                  int32_t rows, int32_t cols, int32_t channels)
{
    if (n->g.nops == NET_MAX_OPS)
        abort();
    struct op *op = &n->op[n->g.nops];
    op->type = type;
    op->ninputs = ninputs;
    op->input = own(n, malloc((size_t)ninputs * sizeof(*op->input) + 1));
    for (int32_t i = 0; i < ninputs; i++)
        op->input[i] = input[i];
    op->output =
        add_tensor(n, rows, cols, channels, ninputs ? n->tensor[input[0]].batch : 1, n->g.nops);
    op->name = n->tensor[op->output].name;
    n->g.nops++;
    return op;
}

struct window net_window(int32_t kernel, int32_t stride, int32_t pad)
{
    return (struct window){
        { kernel, kernel }, { stride, stride }, { 1, 1 }, { pad, pad }, { pad, pad }
    };
}

int32_t net_window_out(const struct window *w, enum axis a, int32_t len)
{
    const int32_t span = (w->kernel[a] - 1) * w->dilation[a] + 1;
    const int32_t room = len + w->pad[a] + w->pad_end[a] - span;
    return room < 0 ? 0 : room / w->stride[a] + 1;
}

static struct onnx_tensor *random_constant(struct net *n, int64_t count)
{
    struct onnx_tensor *t = own(n, calloc(1, sizeof(*t)));
    *t = (struct onnx_tensor){ .name = "w",
                               .type = ONNX_FLOAT,
                               .rank = 1,
                               .dim = { count },
                               .count = count,
                               .data = net_floats(n, count),
                               .bytes = (size_t)count * sizeof(float) };
    return t;
}

/* Weights (a, b, kernel rows, kernel columns) as ONNX stores them. */
static struct weight_ref random_weights(struct net *n, int64_t a, int64_t b, const struct window *w,
                                        bool outputs_first)
{
    const int64_t taps = (int64_t)w->kernel[ROW] * w->kernel[COL];
    struct weight_ref ref = { .t = random_constant(n, a * b * taps),
                              .stride = { b * taps, taps, w->kernel[COL], 1 } };
    if (!outputs_first) {
        ref.stride[0] = taps;
        ref.stride[1] = b * taps;
    }
    return ref;
}

int32_t net_conv(struct net *n, int32_t in, int32_t cout, int32_t group, struct window w)
{
    const struct tensor *t = &n->tensor[in];
    struct op *op = net_op(n, OP_CONV, 1, &in, net_window_out(&w, ROW, t->dim[ROW]),
                           net_window_out(&w, COL, t->dim[COL]), cout);
    op->u.conv.win = w;
    op->u.conv.group = group;
    op->u.conv.weight = random_weights(n, cout, t->dim[CHAN] / group, &w, true);
    op->u.conv.bias = net_random(n, 2) ? net_floats(n, cout) : NULL;
    op->u.conv.scale = net_random(n, 3) ? NULL : net_floats(n, cout);
    return op->output;
}

static int32_t transposed_out(const struct window *w, enum axis a, int32_t len)
{
    return (len - 1) * w->stride[a] + (w->kernel[a] - 1) * w->dilation[a] + 1 - w->pad[a] -
           w->pad_end[a];
}

int32_t net_conv_transpose(struct net *n, int32_t in, int32_t cout, int32_t group, struct window w)
{
    const struct tensor *t = &n->tensor[in];
    struct op *op = net_op(n, OP_CONV_TRANSPOSE, 1, &in, transposed_out(&w, ROW, t->dim[ROW]),
                           transposed_out(&w, COL, t->dim[COL]), cout);
    op->u.conv.win = w;
    op->u.conv.group = group;
    op->u.conv.weight = random_weights(n, t->dim[CHAN], cout / group, &w, false);
    op->u.conv.bias = net_random(n, 2) ? net_floats(n, cout) : NULL;
    op->u.conv.scale = net_random(n, 3) ? NULL : net_floats(n, cout);
    return op->output;
}

int32_t net_pool(struct net *n, int32_t in, enum op_type type, struct window w, bool include_pad)
{
    const struct tensor *t = &n->tensor[in];
    struct op *op = net_op(n, type, 1, &in, net_window_out(&w, ROW, t->dim[ROW]),
                           net_window_out(&w, COL, t->dim[COL]), t->dim[CHAN]);
    op->u.pool.win = w;
    op->u.pool.count_include_pad = include_pad;
    return op->output;
}

int32_t net_reduce(struct net *n, int32_t in, enum reduce_kind kind)
{
    const struct tensor *t = &n->tensor[in];
    const int64_t count = (int64_t)t->dim[ROW] * t->dim[COL];
    struct op *partial = net_op(n, OP_PARTIAL, 1, &in, 0, 1, 2 * t->dim[CHAN]);
    partial->u.reduce.kind = kind;
    partial->u.reduce.count = count;
    struct op *op = net_op(n, OP_COMBINE, 1, &partial->output, 1, 1, t->dim[CHAN]);
    op->u.reduce.kind = kind;
    op->u.reduce.count = count;
    return op->output;
}

void net_activate(struct net *n)
{
    struct op *op = &n->op[n->g.nops - 1];
    op->act.kind = (enum act_kind)net_random(n, ACT_SILU + 1);
    op->act.a = op->act.kind == ACT_CLIP ? -0.25F : 0.2F;
    op->act.b = 0.5F;
    if (op->act.kind == ACT_PRELU)
        op->act.slope = net_floats(n, n->tensor[op->output].dim[CHAN]);
}

int64_t net_values(const struct net *n, int32_t tensor)
{
    const struct tensor *t = &n->tensor[tensor];
    return (int64_t)t->batch * t->dim[ROW] * t->dim[COL] * t->dim[CHAN];
}
