/* Resize and its forerunner Upsample. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* The index of `said` in `name`, -1 if it is not there. */
static int choice(const char *said, const char *const *name, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(said, name[i]) == 0)
            return i;
    return -1;
}

static int read_mode(struct import *im, struct op *op)
{
    static const char *const name[] = { [RESIZE_NEAREST] = "nearest",
                                        [RESIZE_LINEAR] = "linear",
                                        [RESIZE_CUBIC] = "cubic",
                                        "bilinear" };
    const char *said = onnx_attr_string(im->node, "mode", "nearest");
    const int i = choice(said, name, 4);
    if (i < 0)
        return refuse(im, -ENOTSUP, "mode \"%s\"", said);
    op->u.resize.mode = i == 3 ? RESIZE_LINEAR : (enum resize_mode)i;
    return 0;
}

static int read_coordinates(struct import *im, struct op *op)
{
    static const char *const coordinates[] = {
        [RESIZE_HALF_PIXEL] = "half_pixel",
        [RESIZE_PYTORCH_HALF_PIXEL] = "pytorch_half_pixel",
        [RESIZE_ALIGN_CORNERS] = "align_corners",
        [RESIZE_ASYMMETRIC] = "asymmetric",
        [RESIZE_TF_HALF_PIXEL] = "tf_half_pixel_for_nn",
    };
    static const char *const nearest[] = {
        [RESIZE_ROUND_PREFER_FLOOR] = "round_prefer_floor",
        [RESIZE_ROUND_PREFER_CEIL] = "round_prefer_ceil",
        [RESIZE_FLOOR] = "floor",
        [RESIZE_CEIL] = "ceil",
    };
    const char *said = onnx_attr_string(im->node, "coordinate_transformation_mode", "half_pixel");
    const int c = choice(said, coordinates, 5);
    if (c < 0)
        return refuse(im, -ENOTSUP, "coordinate_transformation_mode \"%s\"", said);
    said = onnx_attr_string(im->node, "nearest_mode", "round_prefer_floor");
    const int n = choice(said, nearest, 4);
    if (n < 0)
        return refuse(im, -ENOTSUP, "nearest_mode \"%s\"", said);
    op->u.resize.coordinates = (enum resize_coordinates)c;
    op->u.resize.nearest = (enum resize_nearest)n;
    return 0;
}

static int refuse_options(struct import *im)
{
    if (onnx_attr_int(im->node, "antialias", 0))
        return refuse(im, -ENOTSUP, "antialias");
    const char *policy = onnx_attr_string(im->node, "keep_aspect_ratio_policy", "stretch");
    if (strcmp(policy, "stretch") != 0)
        return refuse(im, -ENOTSUP, "keep_aspect_ratio_policy \"%s\"", policy);
    return 0;
}

/* The axes that scales and sizes are about: all, or those of attribute `axes` (opset 18). */
static int resize_axes(struct import *im, int32_t rank, int32_t axis[SHAPE_MAX_RANK], int32_t *n)
{
    const struct onnx_attr *a = onnx_attr(im->node, "axes", ONNX_ATTR_INTS);
    *n = a ? a->n : rank;
    if (*n > rank)
        return refuse(im, -EINVAL, "axes has %d numbers for %d axes", *n, rank);
    for (int32_t i = 0; i < *n; i++) {
        const int rc = import_axis(im, a ? a->ints[i] : i, rank, &axis[i]);
        if (rc)
            return rc;
    }
    return 0;
}

static int set_scale(struct import *im, int32_t dim, float f, float *scale, int64_t *out)
{
    const double len = floor((double)dim * (double)f);
    if (!(f > 0) || !(len >= 1) || !(len <= BOX_MAX_EXTENT))
        return refuse(im, -EINVAL, "scale %g of an axis of %d", (double)f, dim);
    *scale = f;
    *out = (int64_t)len;
    return 0;
}

static int set_size(struct import *im, int32_t dim, int64_t size, float *scale, int64_t *out)
{
    if (size < 1 || size > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "size %lld of an axis of %d", (long long)size, dim);
    *scale = (float)size / (float)dim;
    *out = size;
    return 0;
}

/* Scale and extent of every ONNX axis, from whichever of scales and sizes is there. */
static int resize_dims(struct import *im, const struct shape *s, const struct onnx_tensor *scales,
                       const struct onnx_tensor *sizes, float *scale, int64_t *out)
{
    int32_t axis[SHAPE_MAX_RANK], n;
    int rc = resize_axes(im, s->rank, axis, &n);
    if (rc)
        return rc;
    /* An empty tensor stands for one that is left out. */
    const struct onnx_tensor *given = scales && scales->count ? scales : sizes;
    if (!given || given->count != n || (scales && scales->count && sizes && sizes->count))
        return refuse(im, -EINVAL, "either scales or sizes must have %d numbers", n);
    for (int32_t i = 0; i < s->rank; i++) {
        scale[i] = 1;
        out[i] = s->dim[i];
    }
    for (int32_t i = 0; i < n && rc == 0; i++) {
        const int32_t a = axis[i];
        rc = given == scales ? set_scale(im, s->dim[a], onnx_float(given, i), &scale[a], &out[a])
                             : set_size(im, s->dim[a], onnx_int(given, i), &scale[a], &out[a]);
    }
    return rc;
}

/* Emits `op` once mode and coordinates are known. */
static int emit_resize(struct import *im, struct op *op, struct value *x, const float *scale,
                       const int64_t *out)
{
    uint32_t scaled = 0;
    for (int32_t i = 0; i < x->shape.rank; i++)
        if (scale[i] != 1 || out[i] != x->shape.dim[i])
            scaled |= 1u << i;
    if (!scaled)
        return import_define(im, 0, x);
    int rc = import_lay_unbatched(im, x, scaled);
    if (rc)
        return rc;
    if (x->shape.axis[CHAN] >= 0 && scaled >> x->shape.axis[CHAN] & 1)
        rc = import_lay_usual(im, x);
    if (rc)
        return rc;
    struct shape s = x->shape;
    op->u.resize.scale[ROW] = op->u.resize.scale[COL] = 1;
    for (int32_t i = 0; i < s.rank; i++) {
        const enum axis a = shape_role(&s, i);
        if (scaled >> i & 1 && a != ROW && a != COL)
            return refuse(im, -ENOTSUP, "a scale on axis %d, which is neither rows nor columns", i);
        s.dim[i] = (int32_t)out[i];
        if (scaled >> i & 1)
            op->u.resize.scale[a] = scale[i];
    }
    return import_simple(im, op, x, &s);
}

/* Until opset 10 the corner of a pixel was its place, and nearest meant the pixel before it when
 * enlarging and the one after it when shrinking. */
static int old_coordinates(struct import *im, const struct shape *s, const float *scale,
                           struct op *op)
{
    bool up = false, down = false;
    for (int32_t i = 0; i < s->rank; i++) {
        up |= scale[i] > 1;
        down |= scale[i] < 1;
    }
    op->u.resize.coordinates = RESIZE_ASYMMETRIC;
    op->u.resize.nearest = down ? RESIZE_CEIL : RESIZE_FLOOR;
    if (up && down && op->u.resize.mode == RESIZE_NEAREST)
        return refuse(im, -ENOTSUP, "nearest with one axis enlarged and another shrunk");
    return 0;
}

static int resize(struct import *im, const struct onnx_tensor *scales,
                  const struct onnx_tensor *sizes)
{
    struct value x;
    struct op op = { .type = OP_RESIZE };
    float scale[SHAPE_MAX_RANK];
    int64_t out[SHAPE_MAX_RANK];
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = read_mode(im, &op);
    if (rc == 0)
        rc = refuse_options(im);
    if (rc == 0)
        rc = resize_dims(im, &x.shape, scales, sizes, scale, out);
    if (rc == 0)
        rc = im->model->opset < 11 ? old_coordinates(im, &x.shape, scale, &op)
                                   : read_coordinates(im, &op);
    op.u.resize.exclude_outside = onnx_attr_int(im->node, "exclude_outside", 0) != 0;
    op.u.resize.cubic_a = onnx_attr_float(im->node, "cubic_coeff_a", -0.75f);
    return rc ? rc : emit_resize(im, &op, &x, scale, out);
}

int import_resize(struct import *im)
{
    const struct onnx_tensor *scales = NULL, *sizes = NULL;
    const bool old = im->model->opset < 11;
    int rc = import_constant(im, old ? 1 : 2, true, &scales);
    if (rc == 0 && !old)
        rc = import_constant(im, 3, true, &sizes);
    return rc ? rc : resize(im, scales, sizes);
}

int import_upsample(struct import *im)
{
    const struct onnx_attr *a = onnx_attr(im->node, "scales", ONNX_ATTR_FLOATS);
    const struct onnx_tensor *scales = NULL;
    if (im->model->opset > 9)
        return refuse(im, -ENOTSUP, "it left ONNX with operator set 10");
    const int rc = import_constant(im, 1, true, &scales);
    if (rc)
        return rc;
    const struct onnx_tensor attr = { .name = "scales",
                                      .type = ONNX_FLOAT,
                                      .rank = 1,
                                      .dim = { a ? a->n : 0 },
                                      .count = a ? a->n : 0,
                                      .data = a ? a->floats : NULL };
    return resize(im, a ? &attr : scales, NULL);
}
