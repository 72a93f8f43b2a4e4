/* Convolution by micro-kernels that read the map itself.
 *
 * A window that hangs over the map reads a copy of a few rows with zeros around them; it costs
 * under one percent (a value is copied once or twice and multiplied kernel^2 * cout / stride^2
 * times) and spares all other code a border.  Where windows see nothing but padding, as a padded
 * 1x1 kernel's do around the map, there is nothing to multiply. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/conv.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/weights.h"

/* Copied rows want to stay in a second-level cache beside a panel of weights. */
enum { STRIP_BYTES = 256 << 10 };

/* Below this all panels of weights stay in that cache, and each block of pixels meets all of
 * them while it is in the first-level one. */
enum { SMALL_WEIGHTS_BYTES = 256 << 10 };

struct direct {
    struct conv_panels layout;
    float *weights; /* of what is at hand: (group, panel, ky, kx, cin, panel's channels) */
    float *bias;    /* (group, vectors * width); NULL: none */
};

static int64_t group_floats(const struct conv_panels *l) { return conv_panels_size(l); }

static int64_t bias_floats(const struct conv *c, const struct conv_panels *l)
{
    return (int64_t)span_len(c->groups) * l->vectors * l->width;
}

static bool direct_fits(const struct conv *c)
{
    return conv_depth(c) <= INT32_MAX / (SIMD_MAX_VECTORS * SIMD_MAX_WIDTH);
}

static size_t direct_packed_bytes(const struct conv *c, const struct simd *simd)
{
    const struct conv_panels l = conv_panels(span_len(c->outs), conv_depth(c), simd);
    return (size_t)(span_len(c->groups) * group_floats(&l) + bias_floats(c, &l)) * sizeof(float) +
           sizeof(struct direct);
}

static void direct_release(void *packed)
{
    struct direct *d = packed;
    if (!d)
        return;
    weights_free(d->weights);
    weights_free(d->bias);
    free(d);
}

/* Output channels [lo, hi) of group `g`, as one panel of `channels` at `to`. */
static void pack_panel(const struct conv *c, int32_t g, int32_t lo, int32_t hi, int32_t channels,
                       float *to)
{
    const int64_t kh = c->win.kernel[ROW], kw = c->win.kernel[COL],
                  pixel = (int64_t)c->cin * channels;
    const int64_t *from = c->op->u.conv.weight.stride;
    const struct weight_layout l = {
        .extent = { c->group, c->cout, c->cin, kh, kw },
        .from = { c->cout * from[0], from[0], from[1], from[2], from[3] },
        .to = { 0, 1, channels, kw * pixel, pixel },
    };
    weights_pack_part(to, c->op, &l, g, (struct span){ lo, hi }, (struct span){ 0, c->cin });
    if (c->graph->model && (weights_by_output(&l) || hi == c->outs.hi))
        onnx_forget(c->graph->model, c->op->u.conv.weight.t);
}

static int direct_prepare(const struct conv *c, const struct simd *simd, void **packed)
{
    struct direct *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->layout = conv_panels(span_len(c->outs), conv_depth(c), simd);
    const struct conv_panels *l = &d->layout;
    d->weights = weights_alloc(span_len(c->groups) * group_floats(l));
    d->bias = weights_alloc(bias_floats(c, l));
    if (!d->weights || !d->bias) {
        direct_release(d);
        return -ENOMEM;
    }
    for (int32_t i = 0; i < span_len(c->groups); i++) {
        const int32_t g = c->groups.lo + i;
        if (c->op->u.conv.bias)
            memcpy(d->bias + (ptrdiff_t)i * l->vectors * l->width,
                   c->op->u.conv.bias + (ptrdiff_t)g * c->cout + c->outs.lo,
                   (size_t)span_len(c->outs) * sizeof(float));
        for (int32_t p = 0; p < l->panels; p++) {
            const int32_t v0 = conv_panel_at(l, p), v1 = conv_panel_at(l, p + 1);
            const int32_t lo = c->outs.lo + v0 * l->width, hi = c->outs.lo + v1 * l->width;
            pack_panel(c, g, lo, min_i32(hi, c->outs.hi), hi - lo,
                       d->weights + i * group_floats(l) + (ptrdiff_t)v0 * l->width * l->depth);
        }
    }
    *packed = d;
    return 0;
}

/* ---- Where a block reads ---- */

/* Rows of input behind `rows` rows of output. */
static int32_t rows_behind(const struct window *w, int32_t rows)
{
    return (rows - 1) * w->stride[ROW] + (w->kernel[ROW] - 1) * w->dilation[ROW] + 1;
}

static int32_t cols_behind(const struct window *w, int32_t cols)
{
    return (cols - 1) * w->stride[COL] + (w->kernel[COL] - 1) * w->dilation[COL] + 1;
}

/* Rows of output computed from one copy of their input.  All of them where the weights are
 * larger than the map: they would otherwise be read from memory once per strip. */
static int32_t strip_rows(const struct conv *c, const struct conv_panels *l)
{
    const int64_t row =
        (int64_t)cols_behind(&c->win, c->out[COL]) * c->cin * (int64_t)sizeof(float);
    const int64_t weights = group_floats(l) * (int64_t)sizeof(float);
    const int64_t budget = weights > STRIP_BYTES ? weights : STRIP_BYTES;
    const int64_t more = (budget / row - rows_behind(&c->win, 1)) / c->win.stride[ROW];
    if (more < 0)
        return 1;
    return more < c->out[ROW] ? (int32_t)more + 1 : c->out[ROW];
}

/* The part of output region `r` whose windows reach the map; all others see padding alone. */
static struct box reaching_map(const struct conv *c, const struct box *r)
{
    struct box b = *r;
    for (enum axis a = ROW; a <= COL; a++) {
        const int32_t stride = c->win.stride[a], pad = c->win.pad[a];
        const int32_t before = pad - (c->win.kernel[a] - 1) * c->win.dilation[a];
        const int32_t first = before > 0 ? (before + stride - 1) / stride : 0;
        b.lo[a] = clamp_i32(first, r->lo[a], r->hi[a]);
        b.hi[a] = clamp_i32((c->in[a] - 1 + pad) / stride + 1, b.lo[a], r->hi[a]);
    }
    return b;
}

static size_t direct_scratch_bytes(const struct conv *c, const struct simd *simd)
{
    const struct box whole = { { 0 }, { c->out[ROW], c->out[COL], c->cout * c->group } };
    const struct box reaching = reaching_map(c, &whole);
    if (!conv_is_padded(c, &reaching))
        return 0;
    const struct conv_panels l = conv_panels(c->cout, conv_depth(c), simd);
    const int32_t rows = strip_rows(c, &l);
    return (size_t)rows_behind(&c->win, rows) * (size_t)cols_behind(&c->win, c->out[COL]) *
           (size_t)c->cin * sizeof(float);
}

/* Where output pixel (row, col) of the region begins to read. */
struct source {
    const float *data; /* of output pixel (row, col) */
    int32_t row, col;
    ptrdiff_t row_stride, pixel_stride; /* of input pixels */
};

/* One row of the map, from column `x` on, `cols` pixels, zeros outside the map. */
static void copy_row(const struct conv *c, const struct view *in, int32_t y, int32_t x,
                     int32_t cols, int32_t k, float *to)
{
    const size_t pixel = (size_t)c->cin * sizeof(float);
    const int32_t lo = clamp_i32(-x, 0, cols), hi = clamp_i32(c->in[COL] - x, lo, cols);
    if (y < 0 || y >= c->in[ROW] || lo == hi) {
        memset(to, 0, (size_t)cols * pixel);
        return;
    }
    memset(to, 0, (size_t)lo * pixel);
    const float *from = view_at(in, y, x + lo, k);
    if (in->pixel_stride == c->cin)
        memcpy(to + (ptrdiff_t)lo * c->cin, from, (size_t)(hi - lo) * pixel);
    else
        for (int32_t i = lo; i < hi; i++, from += in->pixel_stride)
            memcpy(to + (ptrdiff_t)i * c->cin, from, pixel);
    memset(to + (ptrdiff_t)hi * c->cin, 0, (size_t)(cols - hi) * pixel);
}

/* What output rows [y0, y1) of group `g` read. */
static struct source source_of(const struct conv *c, const struct kernel_call *call, int32_t g,
                               int32_t y0, int32_t y1)
{
    const struct window *w = &c->win;
    const struct view *in = &call->in[0];
    const struct box *r = &call->region;
    const int32_t iy = y0 * w->stride[ROW] - w->pad[ROW];
    const int32_t ix = r->lo[COL] * w->stride[COL] - w->pad[COL];
    struct source s = { .row = y0, .col = r->lo[COL] };
    if (!conv_is_padded(c, r)) {
        s.data = view_at(in, iy, ix, g * c->cin);
        s.row_stride = in->row_stride;
        s.pixel_stride = in->pixel_stride;
        return s;
    }
    const int32_t cols = cols_behind(w, box_len(*r, COL)), rows = rows_behind(w, y1 - y0);
    s.data = call->scratch;
    s.pixel_stride = c->cin;
    s.row_stride = (ptrdiff_t)cols * c->cin;
    for (int32_t i = 0; i < rows; i++)
        copy_row(c, in, iy + i, ix, cols, g * c->cin, call->scratch + i * s.row_stride);
    return s;
}

/* ---- Blocks ---- */

struct job {
    const struct conv *c;
    const struct kernel_call *call;
    const struct direct *d;
    struct conv_run run;
    struct source src;
    int32_t g;
    const float *weights, *bias; /* of group g */
    int32_t first, last;         /* panels [first, last) that the region touches */
};

static struct simd_block block_of(const struct conv *c, const struct source *s,
                                  const struct kernel_call *call, struct simd_act act)
{
    const struct window *w = &c->win;
    /* Taps of one kernel row lie side by side: one long run. */
    const bool dense = s->pixel_stride == c->cin && w->dilation[COL] == 1;
    return (struct simd_block){
        .rows = w->kernel[ROW],
        .runs = dense ? 1 : w->kernel[COL],
        .len = dense ? w->kernel[COL] * c->cin : c->cin,
        .row_stride = w->dilation[ROW] * s->row_stride,
        .run_stride = w->dilation[COL] * s->pixel_stride,
        .in_pixel = w->stride[COL] * s->pixel_stride,
        .out_pixel = call->out.pixel_stride,
        .add_pixel = call->op->ninputs > 1 ? call->in[1].pixel_stride : 0,
        .act = act,
    };
}

/* Points the run at the first pixel of output row `y`. */
static void start_row(struct job *j, int32_t y)
{
    const int32_t x = j->call->region.lo[COL], k = j->g * j->c->cout + j->c->outs.lo + j->run.lo;
    j->run.in = j->src.data + (y - j->src.row) * j->c->win.stride[ROW] * j->src.row_stride;
    j->run.out = view_at(&j->call->out, y, x, k);
    j->run.add = j->call->op->ninputs > 1 ? view_at(&j->call->in[1], y, x, k) : NULL;
}

static void multiply(const struct job *j, int32_t p, int32_t first, int32_t n)
{
    const struct conv_panels *l = &j->d->layout;
    conv_block(&j->run, l, p, j->weights, j->bias, first, n);
}

/* Most pixels of a block of panel `p`. */
static int32_t most_pixels(const struct job *j, int32_t p)
{
    const struct conv_panels *l = &j->d->layout;
    return j->run.simd->pixels[conv_panel_at(l, p + 1) - conv_panel_at(l, p)];
}

/* One row of `n` pixels with one panel. */
static void multiply_row(const struct job *j, int32_t p, int32_t n)
{
    const int32_t most = most_pixels(j, p), count = (n + most - 1) / most;
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = conv_block_at(n, count, i);
        multiply(j, p, first, conv_block_at(n, count, i + 1) - first);
    }
}

/* One row of `n` pixels, every block with all panels while it is near. */
static void multiply_row_by_pixels(const struct job *j, int32_t n)
{
    int32_t most = SIMD_MAX_PIXELS;
    for (int32_t p = j->first; p < j->last; p++)
        most = min_i32(most, most_pixels(j, p));
    const int32_t count = (n + most - 1) / most;
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = conv_block_at(n, count, i);
        for (int32_t p = j->first; p < j->last; p++)
            multiply(j, p, first, conv_block_at(n, count, i + 1) - first);
    }
}

/* Rows [y0, y1) of `n` pixels. */
static void multiply_rows(struct job *j, int32_t y0, int32_t y1, int32_t n)
{
    if (group_floats(&j->d->layout) * (int64_t)sizeof(float) <= SMALL_WEIGHTS_BYTES) {
        for (int32_t y = y0; y < y1; y++) {
            start_row(j, y);
            multiply_row_by_pixels(j, n);
        }
        return;
    }
    for (int32_t p = j->first; p < j->last; p++)
        for (int32_t y = y0; y < y1; y++) {
            start_row(j, y);
            multiply_row(j, p, n);
        }
}

/* Can all rows of the region be taken for one long row?  True of a 1x1 kernel where pixels
 * follow each other across row ends. */
static bool rows_merge(const struct conv *c, const struct kernel_call *call)
{
    const struct window *w = &c->win;
    const int32_t cols = box_len(call->region, COL);
    const struct view *v[3] = { &call->in[0], &call->out, &call->in[1] };
    if (w->kernel[ROW] != 1 || w->kernel[COL] != 1 || w->stride[ROW] != 1 || w->stride[COL] != 1 ||
        conv_is_padded(c, &call->region))
        return false;
    for (int32_t i = 0; i < (call->op->ninputs > 1 ? 3 : 2); i++)
        if (v[i]->row_stride != cols * v[i]->pixel_stride)
            return false;
    return true;
}

static void run_group(struct job *j, struct simd_act act)
{
    const struct box *r = &j->call->region;
    const struct conv_panels *l = &j->d->layout;
    const int32_t rows = box_len(*r, ROW), cols = box_len(*r, COL);
    const int32_t at = j->g - j->c->groups.lo;
    j->weights = j->d->weights + at * group_floats(l);
    j->bias = j->d->bias + (ptrdiff_t)at * l->vectors * l->width;
    for (j->first = 0; conv_panel_at(l, j->first + 1) * l->width <= j->run.lo; j->first++)
        ;
    for (j->last = j->first; conv_panel_at(l, j->last) * l->width < j->run.hi; j->last++)
        ;

    const bool merge = rows_merge(j->c, j->call);
    const int32_t step = conv_is_padded(j->c, r) ? strip_rows(j->c, l) : rows;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y += step) {
        const int32_t end = min_i32(y + step, r->hi[ROW]);
        j->src = source_of(j->c, j->call, j->g, y, end);
        j->run.block = block_of(j->c, &j->src, j->call, act);
        if (merge)
            multiply_rows(j, y, y + 1, rows * cols);
        else
            multiply_rows(j, y, end, cols);
    }
}

/* Output pixels `xs` of row `y`, whose windows see padding alone. */
static void run_padding(const struct conv *c, const struct simd *simd, const struct direct *d,
                        const struct kernel_call *call, struct simd_act act, int32_t y,
                        struct span xs)
{
    const struct box *r = &call->region;
    for (int32_t g = r->lo[CHAN] / c->cout; g * c->cout < r->hi[CHAN]; g++) {
        const int32_t first = g * c->cout + c->outs.lo;
        const int32_t k = max_i32(r->lo[CHAN], first);
        const int32_t n = min_i32(r->hi[CHAN], g * c->cout + c->outs.hi) - k;
        const ptrdiff_t at = (ptrdiff_t)(g - c->groups.lo) * d->layout.vectors * d->layout.width;
        const float *bias = d->bias + at + (k - first);
        for (int32_t x = xs.lo; x < xs.hi; x++) {
            float *to = view_at(&call->out, y, x, k);
            if (call->op->ninputs > 1)
                simd->add(bias, view_at(&call->in[1], y, x, k), to, n, &act);
            else
                simd->activate(bias, to, n, &act);
        }
    }
}

/* The region but for `inside`. */
static void run_around(const struct conv *c, const struct simd *simd, const struct direct *d,
                       const struct kernel_call *call, struct simd_act act,
                       const struct box *inside)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        struct span left = { r->lo[COL], r->hi[COL] }, right = { 0, 0 };
        if (y >= inside->lo[ROW] && y < inside->hi[ROW]) {
            left.hi = inside->lo[COL];
            right = (struct span){ inside->hi[COL], r->hi[COL] };
        }
        run_padding(c, simd, d, call, act, y, left);
        run_padding(c, simd, d, call, act, y, right);
    }
}

static void run_inside(const struct conv *c, const struct simd *simd, const struct direct *d,
                       const struct kernel_call *call, struct simd_act act)
{
    const struct box *r = &call->region;
    for (int32_t g = r->lo[CHAN] / c->cout; g * c->cout < r->hi[CHAN]; g++) {
        struct job j = { .c = c, .call = call, .d = d, .g = g };
        j.run.simd = simd;
        const int32_t first = g * c->cout + c->outs.lo;
        j.run.cout = span_len(c->outs);
        j.run.lo = max_i32(r->lo[CHAN] - first, 0);
        j.run.hi = min_i32(r->hi[CHAN] - first, j.run.cout);
        run_group(&j, act);
    }
}

static void direct_run(const struct conv *c, const struct simd *simd, const void *packed,
                       const struct kernel_call *call)
{
    struct act rest;
    const struct simd_act act = conv_activation(&c->op->act, &rest);
    struct kernel_call inside = *call;
    inside.region = reaching_map(c, &call->region);
    run_around(c, simd, packed, call, act, &inside.region);
    if (!box_empty(inside.region))
        run_inside(c, simd, packed, &inside, act);
    conv_finish(call, &rest);
}

const struct conv_method conv_direct = {
    .name = "direct",
    .cut_rows = 1,
    .fits = direct_fits,
    .packed_bytes = direct_packed_bytes,
    .scratch_bytes = direct_scratch_bytes,
    .prepare = direct_prepare,
    .release = direct_release,
    .run = direct_run,
    .cut_channel = conv_cut_panels,
};
