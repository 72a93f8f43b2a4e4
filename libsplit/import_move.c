/* Operators that carry values unchanged to other places: Concat, Slice, Split, Pad, DepthToSpace,
 * SpaceToDepth. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

/* ---- Concat */

/* The input with most values: its axes become those of the result. */
static int concat_lead(struct import *im, struct value *lead)
{
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        const struct value *v = import_input(im, i);
        if (!v)
            return refuse(im, -EINVAL, "input %d is missing", i);
        if (i == 0 || shape_values(&v->shape) > shape_values(&lead->shape))
            *lead = *v;
    }
    return 0;
}

/* Extents of the result, and axes in which the seam is not in the batch. */
static int concat_shape(struct import *im, int32_t axis, struct shape *out)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        const struct shape *s = &import_input(im, i)->shape;
        if (s->rank != out->rank)
            return refuse(im, -EINVAL, "inputs with %d and %d axes", out->rank, s->rank);
        for (int32_t k = 0; k < s->rank; k++)
            if (k != axis && s->dim[k] != out->dim[k])
                return refuse(im, -EINVAL, "extents %d and %d on axis %d", out->dim[k], s->dim[k],
                              k);
        sum += s->dim[axis];
    }
    if (sum > BOX_MAX_EXTENT)
        return refuse(im, -EINVAL, "the result has an extent of %lld", (long long)sum);
    out->dim[axis] = (int32_t)sum;
    if (shape_role(out, axis) == AXES)
        *out = shape_make(out->rank, out->dim);
    if (shape_role(out, axis) == AXES)
        *out = shape_make_map(out->rank, out->dim);
    if (shape_role(out, axis) == AXES)
        out->axis[ROW] = (int8_t)axis;
    return 0;
}

/* Emits `part` pieces as one; a geometry allows so many inputs only. */
static int concat_emit(struct import *im, const struct shape *like, int32_t axis,
                       const struct value *part, int32_t n, struct value *out)
{
    struct op op = { .type = OP_CONCAT };
    int32_t input[OP_MAX_INPUTS];
    struct shape s = *like;
    op.u.concat.axis = shape_role(like, axis);
    s.dim[axis] = 0;
    for (int32_t i = 0; i < n; i++) {
        input[i] = part[i].tensor;
        s.dim[axis] += part[i].shape.dim[axis];
    }
    return import_emit(im, &op, input, n, &s, out);
}

int import_concat(struct import *im)
{
    struct value lead;
    int32_t axis, held = 0;
    int rc =
        im->node->ninputs > 0 ? concat_lead(im, &lead) : refuse(im, -EINVAL, "it has no inputs");
    if (rc == 0 && im->model->opset >= 4 && !onnx_attr(im->node, "axis", ONNX_ATTR_INT))
        rc = refuse(im, -EINVAL, "axis is missing");
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 1), lead.shape.rank, &axis);
    struct shape out = lead.shape;
    if (rc == 0)
        rc = concat_shape(im, axis, &out);
    if (rc)
        return rc;
    struct value part[OP_MAX_INPUTS];
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        struct value v;
        if ((rc = import_tensor(im, i, &v)))
            return rc;
        struct shape want = v.shape;
        memcpy(want.axis, out.axis, sizeof want.axis);
        if ((rc = import_lay(im, &v, &want)))
            return rc;
        if (held == OP_MAX_INPUTS) {
            if ((rc = concat_emit(im, &out, axis, part, held, &part[0])))
                return rc;
            held = 1;
        }
        part[held++] = v;
    }
    if (held > 1 && (rc = concat_emit(im, &out, axis, part, held, &part[0])))
        return rc;
    return import_define(im, 0, &part[0]);
}

/* ---- Slice */

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

/* How many values start:end:step takes of an axis of `len`, and where it really starts.  ONNX
 * clamps to [0, len] going up, to [0, len - 1] and [-1, len - 1] going down. */
static int64_t slice_extent(int64_t len, int64_t *start, int64_t end, int64_t step)
{
    if (len == 0)
        return *start = 0;
    const int64_t hi = step > 0 ? len : len - 1;
    const int64_t s = clamp(*start < 0 ? *start + len : *start, 0, hi);
    const int64_t e = clamp(end < 0 ? end + len : end, step > 0 ? 0 : -1, hi);
    *start = s;
    const int64_t n = step > 0 ? (e - s + step - 1) / step : (s - e - step - 1) / -step;
    return n > 0 ? n : 0;
}

/* Keeps sums of what a file says within int64_t. */
static int64_t tame(int64_t v)
{
    const int64_t most = (int64_t)1 << 40;
    return v > most ? most : v < -most ? -most : v;
}

int slice_dims(struct import *im, int32_t rank, const int64_t *dim, int64_t *start, int64_t *step,
               int64_t *out)
{
    enum { MAX = SHAPE_MAX_RANK };
    int64_t starts[MAX], ends[MAX], axes[MAX], steps[MAX];
    int32_t n, nends, naxes, nsteps;
    int rc = import_ints(im, "starts", 1, starts, MAX, &n);
    if (rc == 0)
        rc = import_ints(im, "ends", 2, ends, MAX, &nends);
    if (rc == 0)
        rc = import_ints(im, "axes", 3, axes, MAX, &naxes);
    if (rc == 0)
        rc = import_ints(im, NULL, 4, steps, MAX, &nsteps);
    if (rc)
        return rc;
    if (n < 0 || n > rank || nends != n || (naxes >= 0 && naxes != n) ||
        (nsteps >= 0 && nsteps != n))
        return refuse(im, -EINVAL, "starts, ends, axes and steps do not match");
    for (int32_t i = 0; i < rank; i++) {
        start[i] = 0;
        step[i] = 1;
        out[i] = dim[i];
    }
    uint32_t seen = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t a;
        if ((rc = import_axis(im, naxes < 0 ? i : axes[i], rank, &a)))
            return rc;
        step[a] = tame(nsteps < 0 ? 1 : steps[i]);
        start[a] = tame(starts[i]);
        if (step[a] == 0 || seen >> a & 1)
            return refuse(im, -EINVAL, "step 0, or an axis named twice");
        seen |= 1u << a;
        out[a] = slice_extent(dim[a], &start[a], tame(ends[i]), step[a]);
    }
    return 0;
}

/* Emits the slice that starts at `start` with `step` and has extents `len` (ONNX axes). */
static int emit_slice(struct import *im, const struct value *in, const int64_t *start,
                      const int64_t *step, const int64_t *len, struct value *out)
{
    struct value x = *in;
    uint32_t cut = 0;
    for (int32_t i = 0; i < x.shape.rank; i++)
        if (start[i] != 0 || step[i] != 1 || len[i] != x.shape.dim[i])
            cut |= 1u << i;
    *out = x;
    if (!cut)
        return 0;
    const int rc = import_lay_unbatched(im, &x, cut);
    if (rc)
        return rc;
    struct op op = { .type = OP_SLICE };
    struct shape s = x.shape;
    for (int a = 0; a < AXES; a++)
        op.u.slice.step[a] = 1;
    for (int32_t i = 0; i < s.rank; i++) {
        if (!(cut >> i & 1))
            continue;
        const enum axis a = shape_role(&s, i);
        op.u.slice.start[a] = (int32_t)start[i];
        /* One value needs no step; a huge one would not fit. */
        op.u.slice.step[a] = len[i] > 1 ? (int32_t)step[i] : 1;
        s.dim[i] = (int32_t)len[i];
    }
    return import_emit(im, &op, &x.tensor, 1, &s, out);
}

static void dims64(const struct shape *s, int64_t *dim)
{
    for (int32_t i = 0; i < s->rank; i++)
        dim[i] = s->dim[i];
}

int import_slice(struct import *im)
{
    struct value x;
    int64_t dim[SHAPE_MAX_RANK], start[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK], out[SHAPE_MAX_RANK];
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    dims64(&x.shape, dim);
    rc = slice_dims(im, x.shape.rank, dim, start, step, out);
    for (int32_t i = 0; i < x.shape.rank && rc == 0; i++)
        if (out[i] == 0)
            rc = refuse(im, -EINVAL, "nothing is left on axis %d", i);
    if (rc == 0)
        rc = emit_slice(im, &x, start, step, out, &x);
    return rc ? rc : import_define(im, 0, &x);
}

/* ---- Split */

/* How many values output `i` of `n` gets when nothing says so: as even as can be, the last one
 * less (num_outputs of opset 18). */
static int64_t even_part(int64_t len, int32_t n, int32_t i)
{
    const int64_t part = (len + n - 1) / n;
    const int64_t left = len - part * i;
    return left < part ? left : part;
}

int import_split(struct import *im)
{
    struct value x;
    int64_t part[ONNX_MAX_NODE_IO], start[SHAPE_MAX_RANK] = { 0 }, step[SHAPE_MAX_RANK];
    int64_t len[SHAPE_MAX_RANK], at = 0;
    int32_t axis, n;
    const int32_t outputs = im->node->noutputs;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_axis(im, onnx_attr_int(im->node, "axis", 0), x.shape.rank, &axis);
    if (rc == 0)
        rc = import_ints(im, "split", 1, part, ONNX_MAX_NODE_IO, &n);
    if (rc)
        return rc;
    const int64_t asked = onnx_attr_int(im->node, "num_outputs", outputs);
    if (outputs < 1 || asked != outputs || (n >= 0 && n != outputs))
        return refuse(im, -EINVAL, "%d outputs, but another number of parts", outputs);
    if (n < 0 && im->model->opset < 18 && x.shape.dim[axis] % outputs)
        return refuse(im, -EINVAL, "%d values do not split into %d equal parts", x.shape.dim[axis],
                      outputs);
    dims64(&x.shape, len);
    for (int32_t i = 0; i < x.shape.rank; i++)
        step[i] = 1;
    for (int32_t i = 0; i < outputs; i++) {
        struct value out;
        len[axis] = n < 0 ? even_part(x.shape.dim[axis], outputs, i) : part[i];
        if (len[axis] < 1 || len[axis] > x.shape.dim[axis] - at)
            return refuse(im, -EINVAL, "part %d would have %lld values", i, (long long)len[axis]);
        start[axis] = at;
        at += len[axis];
        if (!im->node->output[i][0])
            continue;
        if ((rc = emit_slice(im, &x, start, step, len, &out)) || (rc = import_define(im, i, &out)))
            return rc;
    }
    if (at != x.shape.dim[axis])
        return refuse(im, -EINVAL, "the parts have %lld values, axis %d has %d", (long long)at,
                      axis, x.shape.dim[axis]);
    return 0;
}

/* ---- Pad */

static int pad_mode(struct import *im, enum pad_mode *mode)
{
    static const char *const name[] = {
        [PAD_CONSTANT] = "constant", [PAD_REFLECT] = "reflect", [PAD_EDGE] = "edge"
    };
    int i;
    const int rc = import_choice(im, "mode", "constant", name, 3, &i);
    if (rc == 0)
        *mode = (enum pad_mode)i;
    return rc;
}

/* What is added before and after each axis; input 3 (opset 18) names the axes. */
static int pad_amounts(struct import *im, int32_t rank, int64_t *before, int64_t *after)
{
    int64_t pads[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    int32_t n, naxes;
    const char *attr = im->model->opset < 2 ? "paddings" : "pads";
    int rc = import_ints(im, attr, 1, pads, 2 * SHAPE_MAX_RANK, &n);
    if (rc == 0)
        rc = import_ints(im, NULL, 3, axes, SHAPE_MAX_RANK, &naxes);
    if (rc)
        return rc;
    const int32_t named = naxes < 0 ? rank : naxes;
    if (n != 2 * named)
        return refuse(im, -EINVAL, "%d pads for %d axes", n, named);
    for (int32_t i = 0; i < rank; i++)
        before[i] = after[i] = 0;
    uint32_t seen = 0;
    for (int32_t i = 0; i < named; i++) {
        int32_t a;
        if ((rc = import_axis(im, naxes < 0 ? i : axes[i], rank, &a)))
            return rc;
        if (seen >> a & 1)
            return refuse(im, -EINVAL, "axis %d is named twice", a);
        seen |= 1u << a;
        before[a] = tame(pads[i]);
        after[a] = tame(pads[i + named]);
    }
    return 0;
}

static int check_pad(struct import *im, enum pad_mode mode, int64_t len, int64_t before,
                     int64_t after)
{
    const int64_t out = len + before + after;
    if (out < 1 || out > BOX_MAX_EXTENT || before < -len || after < -len)
        return refuse(im, -EINVAL, "pads %lld and %lld on an axis of %lld", (long long)before,
                      (long long)after, (long long)len);
    if (mode != PAD_CONSTANT && (before < 0 || after < 0))
        return refuse(im, -ENOTSUP, "negative pads with mode reflect or edge");
    if (mode == PAD_REFLECT && (before >= len || after >= len))
        return refuse(im, -EINVAL, "reflecting %lld and %lld values of an axis of %lld",
                      (long long)before, (long long)after, (long long)len);
    return 0;
}

int import_pad(struct import *im)
{
    struct value x;
    struct op op = { .type = OP_PAD };
    int64_t before[SHAPE_MAX_RANK], after[SHAPE_MAX_RANK];
    uint32_t padded = 0;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = pad_mode(im, &op.u.pad.mode);
    if (rc == 0)
        rc = import_scalar(im, 2, onnx_attr_float(im->node, "value", 0), &op.u.pad.value);
    if (rc == 0)
        rc = pad_amounts(im, x.shape.rank, before, after);
    for (int32_t i = 0; i < x.shape.rank && rc == 0; i++) {
        rc = check_pad(im, op.u.pad.mode, x.shape.dim[i], before[i], after[i]);
        if (before[i] || after[i])
            padded |= 1u << i;
    }
    if (rc)
        return rc;
    if (!padded)
        return import_define(im, 0, &x);
    if ((rc = import_lay_unbatched(im, &x, padded)))
        return rc;
    struct shape s = x.shape;
    for (int32_t i = 0; i < s.rank; i++) {
        s.dim[i] = (int32_t)(s.dim[i] + before[i] + after[i]);
        if (padded >> i & 1)
            op.u.pad.before[shape_role(&s, i)] = (int32_t)before[i];
    }
    return import_simple(im, &op, &x, &s);
}

/* ---- DepthToSpace, SpaceToDepth */

int import_depth_to_space(struct import *im)
{
    struct value x;
    const int64_t block = onnx_attr_int(im->node, "blocksize", 0);
    const char *mode = onnx_attr_string(im->node, "mode", "DCR");
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return refuse(im, -ENOTSUP, "mode \"%s\"", mode);
    if (x.shape.rank != 4 || block < 1 || block > 4096 || x.shape.dim[1] % (block * block))
        return refuse(im, -EINVAL, "blocksize %lld of a tensor with %d axes and %d channels",
                      (long long)block, x.shape.rank, x.shape.rank > 1 ? x.shape.dim[1] : 0);
    if ((rc = import_lay_usual(im, &x)))
        return rc;
    struct op op = { .type = OP_DEPTH_TO_SPACE };
    op.u.depth_to_space.block = (int32_t)block;
    op.u.depth_to_space.crd = strcmp(mode, "CRD") == 0;
    struct shape s = x.shape;
    s.dim[1] /= (int32_t)(block * block);
    for (int i = 2; i < 4; i++) {
        if (s.dim[i] > BOX_MAX_EXTENT / block)
            return refuse(im, -EINVAL, "the result is too large");
        s.dim[i] *= (int32_t)block;
    }
    return import_simple(im, &op, &x, &s);
}

int import_space_to_depth(struct import *im)
{
    struct value x;
    const int64_t block = onnx_attr_int(im->node, "blocksize", 0);
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (x.shape.rank != 4 || block < 1 || block > 4096 || x.shape.dim[2] % block ||
        x.shape.dim[3] % block || x.shape.dim[1] > BOX_MAX_EXTENT / (block * block))
        return refuse(im, -EINVAL, "blocksize %lld of a tensor with %d axes", (long long)block,
                      x.shape.rank);
    if ((rc = import_lay_usual(im, &x)))
        return rc;
    struct op op = { .type = OP_SPACE_TO_DEPTH };
    struct shape s = x.shape;
    op.u.space_to_depth.block = (int32_t)block;
    s.dim[1] *= (int32_t)(block * block);
    s.dim[2] /= (int32_t)block;
    s.dim[3] /= (int32_t)block;
    return import_simple(im, &op, &x, &s);
}
