#include <errno.h>
#include <string.h>

#include "libsplit/gemm.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

/* Input columns of one product, counted from column 0 of the map: see kernel_conv.c. */
enum { BLOCK = 256 };

struct transposed {
    struct window win;
    int32_t group, cin, cout; /* channels of one group */
};

static struct transposed transposed_of(const struct graph *g, const struct op *op)
{
    return (struct transposed){
        .win = op->u.conv.win,
        .group = op->u.conv.group,
        .cin = g->tensor[op->input[0]].dim[CHAN] / op->u.conv.group,
        .cout = g->tensor[op->output].dim[CHAN] / op->u.conv.group,
    };
}

/* Values that one input pixel adds to one output row: (kx, cout). */
static int32_t spread(const struct transposed *t) { return t->win.kernel[COL] * t->cout; }

/* Packed weights: (group, ky, cin, kx, cout). */
static struct weight_layout layout_of(const struct op *op, const struct transposed *t)
{
    const int64_t *from = op->u.conv.weight.stride;
    const int64_t kh = t->win.kernel[ROW], kw = t->win.kernel[COL];
    const int64_t cin = t->cin, cout = t->cout;
    return (struct weight_layout){
        .extent = { t->group, cout, cin, kh, kw },
        .from = { cin * from[1], from[0], from[1], from[2], from[3] },
        .to = { kh * cin * kw * cout, 1, kw * cout, cin * kw * cout, cout },
    };
}

/* All channels, whichever are asked for: a product yields all of them. */
int conv_transpose_prepare(const struct graph *g, const struct op *op, struct span channels,
                           void **packed)
{
    (void)channels;
    const struct transposed t = transposed_of(g, op);
    const struct weight_layout l = layout_of(op, &t);
    float *w = weights_pack(g, op, &l, (struct span){ 0, t.group }, (struct span){ 0, t.cout });
    if (!w)
        return -ENOMEM;
    *packed = w;
    return 0;
}

size_t conv_transpose_packed_bytes(const struct graph *g, const struct op *op, struct span channels)
{
    (void)channels;
    const struct transposed t = transposed_of(g, op);
    const struct weight_layout l = layout_of(op, &t);
    return (size_t)weights_count(&l, (struct span){ 0, t.group }, (struct span){ 0, t.cout }) *
           sizeof(float);
}

size_t conv_transpose_scratch_bytes(const struct graph *g, const struct op *op)
{
    const struct transposed t = transposed_of(g, op);
    const int32_t cols = min_i32(g->tensor[op->input[0]].dim[COL], BLOCK);
    return (size_t)cols * (size_t)spread(&t) * sizeof(float);
}

/* Adds what input columns [j0, j1) bring, `from` (j1 - j0, kx, cout), to the channels
 * [lo, hi) of group `g` in row y. */
static void scatter(const struct kernel_call *call, const struct transposed *t, int32_t y,
                    int32_t j0, int32_t j1, int32_t g, int32_t lo, int32_t hi, const float *from)
{
    const struct window *w = &t->win;
    for (int32_t j = j0; j < j1; j++)
        for (int32_t kx = 0; kx < w->kernel[COL]; kx++, from += t->cout) {
            const int32_t x = j * w->stride[COL] - w->pad[COL] + kx * w->dilation[COL];
            if (x < call->region.lo[COL] || x >= call->region.hi[COL])
                continue;
            float *restrict to = view_at(&call->out, y, x, lo);
            const float *restrict add = from + (lo - g * t->cout);
            for (int32_t i = 0; i < hi - lo; i++)
                to[i] += add[i];
        }
}

/* The input columns that reach the columns of the region.  They follow from the region alone,
 * not from what the node happens to hold: equal extents of the products, equal bits. */
static struct span columns_behind(const struct kernel_call *call, const struct window *w)
{
    const int32_t stride = w->stride[COL];
    const int32_t first =
        call->region.lo[COL] + w->pad[COL] - (w->kernel[COL] - 1) * w->dilation[COL];
    const int32_t last = call->region.hi[COL] - 1 + w->pad[COL];
    return (struct span){
        .lo = first > 0 ? (first + stride - 1) / stride : 0,
        .hi = min_i32(last / stride + 1, input_dim(call, 0)[COL]),
    };
}

/* Adds what input row `i` brings to output row `y` through kernel row `ky`. */
static void add_row(const struct kernel_call *call, const struct transposed *t, int32_t y,
                    int32_t i, int32_t ky)
{
    const struct view *in = &call->in[0];
    const struct box *r = &call->region;
    const int32_t n = spread(t);
    const struct span cols = columns_behind(call, &t->win);
    for (int32_t g = r->lo[CHAN] / t->cout; g * t->cout < r->hi[CHAN]; g++) {
        const float *weight =
            (const float *)call->op->packed + ((ptrdiff_t)g * t->win.kernel[ROW] + ky) * t->cin * n;
        const int32_t lo = max_i32(r->lo[CHAN], g * t->cout);
        const int32_t hi = min_i32(r->hi[CHAN], (g + 1) * t->cout);
        for (int32_t j0 = cols.lo, j1; j0 < cols.hi; j0 = j1) {
            j1 = min_i32(cols.hi, (j0 / BLOCK + 1) * BLOCK);
            gemm(j1 - j0, n, t->cin, view_at(in, i, j0, g * t->cin), in->pixel_stride, weight, n,
                 call->scratch, n);
            scatter(call, t, y, j0, j1, g, lo, hi, call->scratch);
        }
    }
}

/* Starts output row `y` with the bias, or zeros. */
static void start_row(const struct kernel_call *call, int32_t y)
{
    const struct box *r = &call->region;
    const float *bias = call->op->u.conv.bias;
    const size_t bytes = (size_t)box_len(*r, CHAN) * sizeof(float);
    for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
        float *pixel = view_at(&call->out, y, x, r->lo[CHAN]);
        if (bias)
            memcpy(pixel, bias + r->lo[CHAN], bytes);
        else
            memset(pixel, 0, bytes);
    }
}

void conv_transpose_run(const struct kernel_call *call)
{
    const struct transposed t = transposed_of(call->graph, call->op);
    const struct window *w = &t.win;
    const int32_t rows = input_dim(call, 0)[ROW];
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        start_row(call, y);
        for (int32_t ky = 0; ky < w->kernel[ROW]; ky++) {
            const int32_t at = y + w->pad[ROW] - ky * w->dilation[ROW];
            if (at >= 0 && at % w->stride[ROW] == 0 && at / w->stride[ROW] < rows)
                add_row(call, &t, y, at / w->stride[ROW], ky);
        }
    }
    act_region(call);
}
