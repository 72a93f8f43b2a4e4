/* Attributes of everything that slides a window: kernel, strides, dilations, padding. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

enum { MAX_SPATIAL = 2 };

enum auto_pad { AUTO_PAD_NOTSET, AUTO_PAD_VALID, AUTO_PAD_SAME_UPPER, AUTO_PAD_SAME_LOWER };

static int read_auto_pad(struct import *im, enum auto_pad *mode)
{
    static const char *const name[] = { "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER" };
    const char *said = onnx_attr_string(im->node, "auto_pad", "NOTSET");
    for (int i = 0; i < 4; i++)
        if (strcmp(said, name[i]) == 0) {
            *mode = (enum auto_pad)i;
            return 0;
        }
    return refuse(im, -ENOTSUP, "auto_pad \"%s\"", said);
}

/* A list attribute of `n` numbers in [min, BOX_MAX_EXTENT], `otherwise` where it is absent. */
static int read_list(struct import *im, const char *attr, int32_t n, int64_t min, int32_t otherwise,
                     int32_t *list)
{
    const struct onnx_attr *a = onnx_attr(im->node, attr, ONNX_ATTR_INTS);
    if (a && a->n != n)
        return refuse(im, -EINVAL, "%s has %d numbers, %d are needed", attr, a->n, n);
    for (int32_t i = 0; i < n; i++) {
        const int64_t v = a ? a->ints[i] : otherwise;
        if (v < min || v > BOX_MAX_EXTENT)
            return refuse(im, -EINVAL, "%s: %lld is not in %lld..%d", attr, (long long)v,
                          (long long)min, BOX_MAX_EXTENT);
        list[i] = (int32_t)v;
    }
    return 0;
}

static int read_kernel(struct import *im, const int64_t *kernel, struct window_attrs *w)
{
    const struct onnx_attr *a = onnx_attr(im->node, "kernel_shape", ONNX_ATTR_INTS);
    if (!a && !kernel)
        return refuse(im, -EINVAL, "kernel_shape is missing");
    if (a && a->n != w->axes)
        return refuse(im, -EINVAL, "kernel_shape has %d numbers, %d are needed", a->n, w->axes);
    for (int32_t i = 0; i < w->axes; i++) {
        const int64_t k = kernel ? kernel[i] : a->ints[i];
        if (k < 1 || k > BOX_MAX_EXTENT)
            return refuse(im, -EINVAL, "a kernel of extent %lld", (long long)k);
        if (a && kernel && a->ints[i] != k)
            return refuse(im, -EINVAL, "kernel_shape says %lld, the weights have %lld",
                          (long long)a->ints[i], (long long)k);
        w->win.kernel[i] = (int32_t)k;
    }
    return 0;
}

/* Everything but padding.  A missing second spatial axis behaves as one of extent 1. */
static int read_window(struct import *im, const struct shape *in, const int64_t *kernel,
                       struct window_attrs *w)
{
    *w = (struct window_attrs){ .axes = in->rank - 2,
                                .in = { 1, 1 },
                                .win = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 } } };
    if (w->axes < 1 || w->axes > MAX_SPATIAL)
        return refuse(im, -ENOTSUP, "an input with %d axes; 3 and 4 are supported", in->rank);
    for (int32_t i = 0; i < w->axes; i++)
        w->in[i] = in->dim[2 + i];
    int rc = read_kernel(im, kernel, w);
    if (rc == 0)
        rc = read_list(im, "strides", w->axes, 1, 1, w->win.stride);
    if (rc == 0)
        rc = read_list(im, "dilations", w->axes, 1, 1, w->win.dilation);
    for (int32_t i = 0; i < w->axes && rc == 0; i++)
        if (((int64_t)w->win.kernel[i] - 1) * w->win.dilation[i] >= BOX_MAX_EXTENT)
            rc = refuse(im, -EINVAL, "the kernel spans more than %d pixels", BOX_MAX_EXTENT);
    return rc;
}

static int read_pads(struct import *im, struct window_attrs *w)
{
    int32_t pads[2 * MAX_SPATIAL] = { 0 };
    const int rc = read_list(im, "pads", 2 * w->axes, 0, 0, pads);
    if (rc)
        return rc;
    for (int32_t i = 0; i < w->axes; i++) {
        w->win.pad[i] = pads[i];
        w->win.pad_end[i] = pads[w->axes + i];
    }
    return 0;
}

static int64_t span_of(const struct window *w, int32_t i)
{
    return ((int64_t)w->kernel[i] - 1) * w->dilation[i] + 1;
}

/* Shares `total` zeros out between both ends. */
static void split_padding(struct window *w, int32_t i, int64_t total, bool more_at_end)
{
    const int32_t half = (int32_t)(total / 2), rest = (int32_t)(total - total / 2);
    w->pad[i] = more_at_end ? half : rest;
    w->pad_end[i] = more_at_end ? rest : half;
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Extent of the output; with `ceil_mode` a last window may hang over the end, but must start
 * inside the input or the padding before it. */
static int64_t window_out(const struct window_attrs *w, int32_t i, bool ceil_mode)
{
    const struct window *win = &w->win;
    const int64_t room = (int64_t)w->in[i] + win->pad[i] + win->pad_end[i] - span_of(win, i);
    if (room < 0)
        return 0;
    int64_t out = (ceil_mode ? ceil_div(room, win->stride[i]) : room / win->stride[i]) + 1;
    if (ceil_mode && (out - 1) * win->stride[i] >= (int64_t)w->in[i] + win->pad[i])
        out--;
    return out;
}

int import_window(struct import *im, const struct shape *in, const int64_t *kernel, bool may_dilate,
                  struct window_attrs *w)
{
    enum auto_pad mode;
    int rc = read_window(im, in, kernel, w);
    if (rc == 0)
        rc = read_auto_pad(im, &mode);
    if (rc == 0 && mode == AUTO_PAD_NOTSET)
        rc = read_pads(im, w);
    if (rc)
        return rc;
    const bool ceil_mode = onnx_attr_int(im->node, "ceil_mode", 0) != 0;
    for (int32_t i = 0; i < MAX_SPATIAL; i++) {
        if (!may_dilate && w->win.dilation[i] != 1)
            return refuse(im, -ENOTSUP, "dilations");
        if (mode == AUTO_PAD_SAME_UPPER || mode == AUTO_PAD_SAME_LOWER) {
            const int64_t out = ceil_div(w->in[i], w->win.stride[i]);
            const int64_t total = (out - 1) * w->win.stride[i] + span_of(&w->win, i) - w->in[i];
            split_padding(&w->win, i, total > 0 ? total : 0, mode == AUTO_PAD_SAME_UPPER);
        }
        const int64_t out = window_out(w, i, ceil_mode && mode != AUTO_PAD_VALID);
        if (out < 1)
            return refuse(im, -EINVAL,
                          "the kernel spans %lld pixels, more than the padded input's %lld",
                          (long long)span_of(&w->win, i),
                          (long long)w->in[i] + w->win.pad[i] + w->win.pad_end[i]);
        w->out[i] = (int32_t)out;
    }
    return 0;
}

int import_window_transposed(struct import *im, const struct shape *in, const int64_t *kernel,
                             struct window_attrs *w)
{
    enum auto_pad mode;
    int32_t extra[MAX_SPATIAL] = { 0, 0 }, wanted[MAX_SPATIAL] = { 0, 0 };
    const bool shaped = onnx_attr(im->node, "output_shape", ONNX_ATTR_INTS) != NULL;
    int rc = read_window(im, in, kernel, w);
    if (rc == 0)
        rc = read_auto_pad(im, &mode);
    if (rc == 0 && mode == AUTO_PAD_NOTSET && !shaped)
        rc = read_pads(im, w);
    if (rc == 0)
        rc = read_list(im, "output_padding", w->axes, 0, 0, extra);
    if (rc == 0 && shaped)
        rc = read_list(im, "output_shape", w->axes, 1, 1, wanted);
    if (rc)
        return rc;
    for (int32_t i = 0; i < MAX_SPATIAL; i++) {
        struct window *win = &w->win;
        const int64_t full = (int64_t)win->stride[i] * (w->in[i] - 1) + extra[i] + span_of(win, i);
        int64_t out = full - win->pad[i] - win->pad_end[i];
        const bool same = mode == AUTO_PAD_SAME_UPPER || mode == AUTO_PAD_SAME_LOWER;
        if (i < w->axes && (shaped || same)) {
            out = shaped ? wanted[i] : (int64_t)w->in[i] * win->stride[i];
            split_padding(win, i, full > out ? full - out : 0, mode == AUTO_PAD_SAME_UPPER);
        }
        if (out < 1 || out > BOX_MAX_EXTENT)
            return refuse(im, -EINVAL, "the output would have an extent of %lld", (long long)out);
        w->out[i] = (int32_t)out;
    }
    return 0;
}
