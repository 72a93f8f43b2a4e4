/* Resize and its forerunner Upsample. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static int read_mode(struct import *im, struct op *op)
{
    static const char *const name[] = { [RESIZE_NEAREST] = "nearest",
                                        [RESIZE_LINEAR] = "linear",
                                        [RESIZE_CUBIC] = "cubic",
                                        "bilinear" };
    int i;
    const int rc = import_choice(im, "mode", "nearest", name, 4, &i);
    if (rc)
        return rc;
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
        [RESIZE_CROP] = "tf_crop_and_resize",
    };
    static const char *const nearest[] = {
        [RESIZE_ROUND_PREFER_FLOOR] = "round_prefer_floor",
        [RESIZE_ROUND_PREFER_CEIL] = "round_prefer_ceil",
        [RESIZE_FLOOR] = "floor",
        [RESIZE_CEIL] = "ceil",
    };
    int c, n;
    int rc = import_choice(im, "coordinate_transformation_mode", "half_pixel", coordinates, 6, &c);
    if (rc == 0)
        rc = import_choice(im, "nearest_mode", "round_prefer_floor", nearest, 4, &n);
    if (rc)
        return rc;
    op->u.resize.coordinates = (enum resize_coordinates)c;
    op->u.resize.nearest = (enum resize_nearest)n;
    return 0;
}

/* What a node says of every ONNX axis. */
struct resizing {
    const struct onnx_tensor *scales, *sizes, *roi; /* as given; NULL if not */
    float scale[SHAPE_MAX_RANK];
    float crop[SHAPE_MAX_RANK][2]; /* the part of the axis that is left, 0 to 1 */
    int64_t out[SHAPE_MAX_RANK];
};

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

static int set_scale(struct import *im, struct resizing *r, int32_t axis, int32_t dim, float f)
{
    const double part = (double)r->crop[axis][1] - (double)r->crop[axis][0];
    const double len = floor((double)dim * part * (double)f);
    if (!(f > 0) || !(len >= 1) || !(len <= BOX_MAX_EXTENT))
        return refuse(im, -EINVAL, "scale %g of an axis of %d", (double)f, dim);
    r->scale[axis] = f;
    r->out[axis] = (int64_t)len;
    return 0;
}

static int set_size(struct import *im, struct resizing *r, int32_t axis, int32_t dim, int64_t size)
{
    if (size < 1 || size > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "size %lld of an axis of %d", (long long)size, dim);
    r->scale[axis] = (float)size / (float)dim;
    r->out[axis] = size;
    return 0;
}

/* The part of each axis that tf_crop_and_resize takes. */
static int read_crop(struct import *im, struct resizing *r, const int32_t *axis, int32_t n)
{
    if (!r->roi)
        return 0;
    if (r->roi->count != 2 * (int64_t)n)
        return refuse(im, -EINVAL, "roi must have %d numbers", 2 * n);
    for (int32_t i = 0; i < n; i++)
        for (int32_t end = 0; end < 2; end++) {
            const float at = onnx_float(r->roi, end * n + i);
            if (!(fabsf(at) <= 1e6F))
                return refuse(im, -EINVAL, "roi has the number %g", (double)at);
            r->crop[axis[i]][end] = at;
        }
    return 0;
}

/* Scale and extent of every ONNX axis, from whichever of scales and sizes is there. */
static int resize_dims(struct import *im, const struct shape *s, struct resizing *r)
{
    int32_t axis[SHAPE_MAX_RANK], n;
    int rc = resize_axes(im, s->rank, axis, &n);
    if (rc)
        return rc;
    /* An empty tensor stands for one that is left out. */
    const bool scaled = r->scales && r->scales->count, sized = r->sizes && r->sizes->count;
    const struct onnx_tensor *given = scaled ? r->scales : r->sizes;
    if (scaled == sized || given->count != n)
        return refuse(im, -EINVAL, "either scales or sizes must have %d numbers", n);
    for (int32_t i = 0; i < s->rank; i++) {
        r->scale[i] = 1;
        r->out[i] = s->dim[i];
        r->crop[i][0] = 0;
        r->crop[i][1] = 1;
    }
    rc = read_crop(im, r, axis, n);
    for (int32_t i = 0; i < n && rc == 0; i++) {
        const int32_t a = axis[i];
        rc = scaled ? set_scale(im, r, a, s->dim[a], onnx_float(given, i))
                    : set_size(im, r, a, s->dim[a], onnx_int(given, i));
    }
    return rc;
}

static bool changes(const struct resizing *r, int32_t axis, int32_t dim)
{
    return r->scale[axis] != 1 || r->out[axis] != dim || r->crop[axis][0] != 0 ||
           r->crop[axis][1] != 1;
}

/* Emits `op` once mode and coordinates are known. */
static int emit_resize(struct import *im, struct op *op, struct value *x, const struct resizing *r)
{
    uint32_t changed = 0;
    for (int32_t i = 0; i < x->shape.rank; i++)
        if (changes(r, i, x->shape.dim[i]))
            changed |= 1u << i;
    if (!changed)
        return import_define(im, 0, x);
    int rc = import_lay_unbatched(im, x, changed);
    if (rc)
        return rc;
    if (x->shape.axis[CHAN] >= 0 && changed >> x->shape.axis[CHAN] & 1)
        rc = import_lay_usual(im, x);
    if (rc)
        return rc;
    struct shape s = x->shape;
    for (int a = ROW; a <= COL; a++) {
        op->u.resize.scale[a] = 1;
        op->u.resize.crop[a][1] = 1;
    }
    for (int32_t i = 0; i < s.rank; i++) {
        const enum axis a = shape_role(&s, i);
        if (!(changed >> i & 1))
            continue;
        if (a != ROW && a != COL)
            return refuse(im, -ENOTSUP, "a scale on axis %d, which is neither rows nor columns", i);
        s.dim[i] = (int32_t)r->out[i];
        op->u.resize.scale[a] = r->scale[i];
        memcpy(op->u.resize.crop[a], r->crop[i], sizeof r->crop[i]);
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

static int resize(struct import *im, struct resizing *r)
{
    struct value x;
    struct op op = { .type = OP_RESIZE };
    const bool old = im->model->opset < 11;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = read_mode(im, &op);
    if (rc == 0)
        rc = refuse_options(im);
    if (rc == 0 && !old)
        rc = read_coordinates(im, &op);
    if (rc == 0 && !old && op.u.resize.coordinates == RESIZE_CROP)
        rc = import_constant(im, 1, false, &r->roi);
    if (rc == 0)
        rc = resize_dims(im, &x.shape, r);
    if (rc == 0 && old)
        rc = old_coordinates(im, &x.shape, r->scale, &op);
    op.u.resize.exclude_outside = onnx_attr_int(im->node, "exclude_outside", 0) != 0;
    op.u.resize.cubic_a = onnx_attr_float(im->node, "cubic_coeff_a", -0.75f);
    op.u.resize.outside = onnx_attr_float(im->node, "extrapolation_value", 0);
    return rc ? rc : emit_resize(im, &op, &x, r);
}

int import_resize(struct import *im)
{
    struct resizing r = { .scales = NULL };
    const bool old = im->model->opset < 11;
    int rc = import_constant(im, old ? 1 : 2, true, &r.scales);
    if (rc == 0 && !old)
        rc = import_constant(im, 3, true, &r.sizes);
    return rc ? rc : resize(im, &r);
}

int import_upsample(struct import *im)
{
    const struct onnx_attr *a = onnx_attr(im->node, "scales", ONNX_ATTR_FLOATS);
    struct resizing r = { .scales = NULL };
    if (im->model->opset > 9)
        return refuse(im, -ENOTSUP, "it left ONNX with operator set 10");
    const int rc = import_constant(im, 1, true, &r.scales);
    if (rc)
        return rc;
    const struct onnx_tensor attr = { .name = "scales",
                                      .type = ONNX_FLOAT,
                                      .rank = 1,
                                      .dim = { a ? a->n : 0 },
                                      .count = a ? a->n : 0,
                                      .data = a ? a->floats : NULL };
    if (a)
        r.scales = &attr;
    return resize(im, &r);
}
