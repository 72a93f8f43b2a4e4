/* The plainest loops possible, in double precision. */
#include "net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tensor's values and how to find one. */
struct ref {
    const struct tensor *t;
    double *v;
};

static bool on_map(struct ref x, int32_t r, int32_t c)
{
    return r >= 0 && c >= 0 && r < x.t->dim[ROW] && c < x.t->dim[COL];
}

static double *at(struct ref x, int32_t b, int32_t r, int32_t c, int32_t k)
{
    const int32_t *d = x.t->dim;
    return &x.v[(((int64_t)b * d[ROW] + r) * d[COL] + c) * d[CHAN] + k];
}

/* Where an output value stands. */
struct place {
    int32_t b, r, c, k;
};

/* Written out as ONNX's operator pages do. */
static double ref_function(const struct act *act, double x)
{
    const double a = (double)act->a, b = (double)act->b;
    switch (act->kind) {
    case ACT_ABS:
        return x < 0 ? -x : x;
    case ACT_NEG:
        return -x;
    case ACT_SIGN:
        return x > 0 ? 1 : x < 0 ? -1 : 0;
    case ACT_FLOOR:
        return floor(x);
    case ACT_CEIL:
        return ceil(x);
    case ACT_ROUND:
        return nearbyint(x);
    case ACT_RECIPROCAL:
        return 1 / x;
    case ACT_SQRT:
        return sqrt(x);
    case ACT_EXP:
        return exp(x);
    case ACT_LOG:
        return log(x);
    case ACT_ERF:
        return erf(x);
    case ACT_NOT:
        return x != 0 ? 0 : 1;
    case ACT_NOT_ZERO:
        return x != 0 ? 1 : 0;
    case ACT_TRUNCATE:
        return x < 0 ? ceil(x) : floor(x);
    case ACT_ELU:
        return x < 0 ? a * (exp(x) - 1) : x;
    case ACT_CELU:
        return fmax(0, x) + fmin(0, a * (exp(x / a) - 1));
    case ACT_SELU:
        return b * (x <= 0 ? a * exp(x) - a : x);
    case ACT_SOFTPLUS:
        return log(exp(x) + 1);
    case ACT_SOFTSIGN:
        return x / (1 + fabs(x));
    case ACT_MISH:
        return x * tanh(log(exp(x) + 1));
    case ACT_GELU:
        return x * 0.5 * (1 + erf(x / sqrt(2)));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case ACT_THRESHOLDED_RELU:
        return x > a ? x : 0;
    case ACT_SHRINK:
        return x < -a ? x + b : x > a ? x - b : 0;
    case ACT_SIN:
        return sin(x);
    case ACT_COS:
        return cos(x);
    case ACT_TAN:
        return sin(x) / cos(x);
    case ACT_ASIN:
        return asin(x);
    case ACT_ACOS:
        return acos(x);
    case ACT_ATAN:
        return atan(x);
    case ACT_SINH:
        return (exp(x) - exp(-x)) / 2;
    case ACT_COSH:
        return (exp(x) + exp(-x)) / 2;
    case ACT_ASINH:
        return log(x + sqrt(x * x + 1));
    case ACT_ACOSH:
        return log(x + sqrt(x * x - 1));
    case ACT_ATANH:
        return log((1 + x) / (1 - x)) / 2;
    default:
        return x;
    }
}

static double ref_act(const struct act *act, double x, int32_t k)
{
    const double a = (double)act->a, b = (double)act->b;
    switch (act->kind) {
    case ACT_NONE:
        break;
    case ACT_RELU:
        return fmax(x, 0);
    case ACT_CLIP:
        return fmin(fmax(x, a), b);
    case ACT_LEAKY_RELU:
        return x < 0 ? a * x : x;
    case ACT_PRELU:
        return x < 0 ? (double)act->slope[k] * x : x;
    case ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACT_HARD_SIGMOID:
        return fmin(fmax(a * x + b, 0), 1);
    case ACT_HARD_SWISH:
        return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    case ACT_TANH:
        return tanh(x);
    case ACT_SILU:
        return x / (1 + exp(-x));
    default:
        return ref_function(act, x);
    }
    return x;
}

static double ref_weight(const struct op *op, int64_t o, int64_t i, int64_t y, int64_t x)
{
    const int64_t *s = op->u.conv.weight.stride;
    const float *w = op->u.conv.weight.t->data;
    return (double)w[o * s[0] + i * s[1] + y * s[2] + x * s[3]];
}

static double ref_affine_of(const struct op *op, double sum, int32_t k)
{
    if (op->u.conv.scale)
        sum *= (double)op->u.conv.scale[k];
    return op->u.conv.bias ? sum + (double)op->u.conv.bias[k] : sum;
}

static double ref_conv(const struct op *op, struct ref in, struct ref out, struct place p)
{
    const struct window *w = &op->u.conv.win;
    const int32_t cin = in.t->dim[CHAN] / op->u.conv.group;
    const int32_t g = p.k / (out.t->dim[CHAN] / op->u.conv.group);
    double sum = 0;
    for (int32_t y = 0; y < w->kernel[ROW]; y++)
        for (int32_t x = 0; x < w->kernel[COL]; x++) {
            const int32_t r = p.r * w->stride[ROW] - w->pad[ROW] + y * w->dilation[ROW];
            const int32_t c = p.c * w->stride[COL] - w->pad[COL] + x * w->dilation[COL];
            for (int32_t i = 0; on_map(in, r, c) && i < cin; i++)
                sum += *at(in, p.b, r, c, g * cin + i) * ref_weight(op, p.k, i, y, x);
        }
    return ref_affine_of(op, sum, p.k);
}

static double ref_conv_transpose(const struct op *op, struct ref in, struct ref out, struct place p)
{
    const struct window *w = &op->u.conv.win;
    const int32_t cin = in.t->dim[CHAN] / op->u.conv.group;
    const int32_t cout = out.t->dim[CHAN] / op->u.conv.group;
    const int32_t g = p.k / cout;
    double sum = 0;
    for (int32_t r = 0; r < in.t->dim[ROW]; r++)
        for (int32_t c = 0; c < in.t->dim[COL]; c++)
            for (int32_t y = 0; y < w->kernel[ROW]; y++)
                for (int32_t x = 0; x < w->kernel[COL]; x++)
                    if (r * w->stride[ROW] - w->pad[ROW] + y * w->dilation[ROW] == p.r &&
                        c * w->stride[COL] - w->pad[COL] + x * w->dilation[COL] == p.c)
                        for (int32_t i = 0; i < cin; i++)
                            sum += *at(in, p.b, r, c, g * cin + i) *
                                   ref_weight(op, p.k % cout, g * cin + i, y, x);
    return ref_affine_of(op, sum, p.k);
}

static double ref_pool(const struct op *op, struct ref in, struct place p)
{
    const struct window *w = &op->u.pool.win;
    double sum = 0, max = -INFINITY;
    int32_t inside = 0, padded = 0;
    for (int32_t y = 0; y < w->kernel[ROW]; y++)
        for (int32_t x = 0; x < w->kernel[COL]; x++) {
            const int32_t r = p.r * w->stride[ROW] - w->pad[ROW] + y * w->dilation[ROW];
            const int32_t c = p.c * w->stride[COL] - w->pad[COL] + x * w->dilation[COL];
            padded += r < in.t->dim[ROW] + w->pad_end[ROW] && c < in.t->dim[COL] + w->pad_end[COL];
            if (!on_map(in, r, c))
                continue;
            inside++;
            sum += *at(in, p.b, r, c, p.k);
            max = fmax(max, *at(in, p.b, r, c, p.k));
        }
    if (op->type == OP_MAX_POOL)
        return max;
    const int32_t count = op->u.pool.count_include_pad ? padded : inside;
    return count ? sum / count : 0;
}

/* Where the first of the largest values stands in ONNX's order of the whole input. */
static double ref_pool_place(const struct op *op, struct ref in, struct place p)
{
    const struct window *w = &op->u.pool.win;
    const int32_t rows = in.t->dim[ROW], cols = in.t->dim[COL];
    double max = -INFINITY;
    int32_t best = -1;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < cols; c++) {
            const int32_t y = r - (p.r * w->stride[ROW] - w->pad[ROW]);
            const int32_t x = c - (p.c * w->stride[COL] - w->pad[COL]);
            const bool under = y >= 0 && x >= 0 && y % w->dilation[ROW] == 0 &&
                               x % w->dilation[COL] == 0 && y / w->dilation[ROW] < w->kernel[ROW] &&
                               x / w->dilation[COL] < w->kernel[COL];
            if (!under || !(*at(in, p.b, r, c, p.k) > max))
                continue;
            max = *at(in, p.b, r, c, p.k);
            best = op->u.pool.rows_first ? c * rows + r : r * cols + c;
        }
    return (p.b * in.t->dim[CHAN] + p.k) * rows * cols + best;
}

/* The last of the values that go to this place. */
static double ref_max_unpool(const struct op *op, const struct ref *in, struct place p)
{
    const int32_t *plane = op->u.max_unpool.plane, *d = in[0].t->dim;
    const int32_t here = ((p.b * d[CHAN] + p.k) * plane[ROW] + p.r) * plane[COL] + p.c;
    double value = 0;
    for (int32_t r = 0; r < d[ROW]; r++)
        for (int32_t c = 0; c < d[COL]; c++)
            if (p.r < plane[ROW] && p.c < plane[COL] && *at(in[1], p.b, r, c, p.k) == here)
                value = *at(in[0], p.b, r, c, p.k);
    return value;
}

static double ref_broadcast(struct ref x, struct place p)
{
    return *at(x, x.t->batch == 1 ? 0 : p.b, x.t->dim[ROW] == 1 ? 0 : p.r,
               x.t->dim[COL] == 1 ? 0 : p.c, x.t->dim[CHAN] == 1 ? 0 : p.k);
}

static double ref_binary(const struct op *op, const struct ref *in, struct place p)
{
    double a = ref_broadcast(in[0], p), b;
    if (op->u.binary.constant) {
        const int64_t *s = op->u.binary.stride;
        b = (double)
                op->u.binary.constant[p.b * s[AXES] + p.r * s[ROW] + p.c * s[COL] + p.k * s[CHAN]];
        if (op->u.binary.constant_first) {
            const double swap = a;
            a = b;
            b = swap;
        }
    } else {
        b = ref_broadcast(in[1], p);
    }
    switch (op->u.binary.kind) {
    case BINARY_ADD:
        return a + b;
    case BINARY_SUB:
        return a - b;
    case BINARY_MUL:
        return a * b;
    case BINARY_DIV:
        return a / b;
    case BINARY_POW:
        return pow(a, b);
    case BINARY_MIN:
        return fmin(a, b);
    case BINARY_MAX:
        return fmax(a, b);
    case BINARY_PRELU:
        return fmax(a, 0) + fmin(a, 0) * b;
    case BINARY_EQUAL:
        return a == b;
    case BINARY_GREATER:
        return a > b;
    case BINARY_GREATER_OR_EQUAL:
        return a >= b;
    case BINARY_LESS:
        return a < b;
    case BINARY_LESS_OR_EQUAL:
        return a <= b;
    case BINARY_AND:
        return a != 0 && b != 0;
    case BINARY_OR:
        return a != 0 || b != 0;
    case BINARY_XOR:
        return (a != 0) + (b != 0) == 1;
    case BINARY_MOD:
        return a - floor(a / b) * b;
    case BINARY_FMOD:
        return a - trunc(a / b) * b;
    case BINARY_KINDS:
        break;
    }
    return 0;
}

static double ref_concat(const struct op *op, const struct ref *in, struct place p)
{
    int32_t pos[AXES] = { p.r, p.c, p.k };
    const enum axis a = op->u.concat.axis;
    int32_t i = 0;
    for (; pos[a] >= in[i].t->dim[a]; i++)
        pos[a] -= in[i].t->dim[a];
    return *at(in[i], p.b, pos[ROW], pos[COL], pos[CHAN]);
}

static double ref_slice(const struct op *op, struct ref in, struct place p)
{
    const int32_t *start = op->u.slice.start, *step = op->u.slice.step;
    return *at(in, p.b, start[ROW] + p.r * step[ROW], start[COL] + p.c * step[COL],
               start[CHAN] + p.k * step[CHAN]);
}

static double ref_pad(const struct op *op, struct ref in, struct place p)
{
    int32_t pos[AXES] = { p.r, p.c, p.k };
    for (int a = 0; a < AXES; a++) {
        const int32_t len = in.t->dim[a];
        pos[a] -= op->u.pad.before[a];
        if (pos[a] >= 0 && pos[a] < len)
            continue;
        if (op->u.pad.mode == PAD_CONSTANT)
            return (double)op->u.pad.value;
        if (op->u.pad.mode == PAD_REFLECT)
            pos[a] = pos[a] < 0 ? -pos[a] : 2 * len - 2 - pos[a];
        else
            pos[a] = pos[a] < 0 ? 0 : len - 1;
    }
    return *at(in, p.b, pos[ROW], pos[COL], pos[CHAN]);
}

static double ref_depth_to_space(const struct op *op, struct ref in, struct ref out, struct place p)
{
    const int32_t b = op->u.depth_to_space.block, channels = out.t->dim[CHAN];
    const int32_t sy = p.r % b, sx = p.c % b;
    const int32_t k =
        op->u.depth_to_space.crd ? (p.k * b + sy) * b + sx : (sy * b + sx) * channels + p.k;
    return *at(in, p.b, p.r / b, p.c / b, k);
}

static double ref_softmax(const struct op *op, struct ref in, struct place p)
{
    const bool *over = op->u.softmax.over;
    double sum = 0;
    for (int32_t r = 0; r < in.t->dim[ROW]; r++)
        for (int32_t c = 0; c < in.t->dim[COL]; c++)
            for (int32_t k = 0; k < in.t->dim[CHAN]; k++)
                if ((over[ROW] || r == p.r) && (over[COL] || c == p.c) && (over[CHAN] || k == p.k))
                    sum += exp(*at(in, p.b, r, c, k));
    const double x = *at(in, p.b, p.r, p.c, p.k);
    return op->u.softmax.log ? x - log(sum) : exp(x) / sum;
}

/* `in` is what the OP_PARTIAL before reads. */
static double ref_reduce(const struct op *op, struct ref in, struct place p)
{
    double sum = 0, max = -INFINITY;
    for (int32_t r = 0; r < in.t->dim[ROW]; r++)
        for (int32_t c = 0; c < in.t->dim[COL]; c++) {
            sum += *at(in, p.b, r, c, p.k);
            max = fmax(max, *at(in, p.b, r, c, p.k));
        }
    switch (op->u.reduce.kind) {
    case REDUCE_SUM:
        return sum;
    case REDUCE_MEAN:
        return sum / (in.t->dim[ROW] * in.t->dim[COL]);
    case REDUCE_MAX:
        return max;
    default:
        return 0;
    }
}

/* All that share the place on the axes that stay. */
static double ref_reduce_axes(const struct op *op, struct ref in, struct place p)
{
    const bool *over = op->u.reduce.over;
    double sum = 0, product = 1, min = INFINITY, max = -INFINITY;
    int32_t n = 0, min_at[2] = { 0, 0 }, max_at[2] = { 0, 0 }; /* first and last */
    for (int32_t r = 0; r < in.t->dim[ROW]; r++)
        for (int32_t c = 0; c < in.t->dim[COL]; c++)
            for (int32_t k = 0; k < in.t->dim[CHAN]; k++) {
                if ((!over[ROW] && r != p.r) || (!over[COL] && c != p.c) ||
                    (!over[CHAN] && k != p.k))
                    continue;
                const double x = *at(in, p.b, r, c, k);
                if (x < min)
                    min_at[0] = n;
                if (x <= min)
                    min_at[1] = n;
                if (x > max)
                    max_at[0] = n;
                if (x >= max)
                    max_at[1] = n;
                min = fmin(min, x);
                max = fmax(max, x);
                sum += x;
                product *= x;
                n++;
            }
    switch (op->u.reduce.kind) {
    case REDUCE_SUM:
        return sum;
    case REDUCE_MEAN:
        return sum / n;
    case REDUCE_MAX:
        return max;
    case REDUCE_MIN:
        return min;
    case REDUCE_PROD:
        return product;
    case REDUCE_ARG_MAX:
        return max_at[op->u.reduce.last];
    case REDUCE_ARG_MIN:
        return min_at[op->u.reduce.last];
    }
    return 0;
}

static double ref_matmul(const struct ref *in, struct place p)
{
    double sum = 0;
    for (int32_t i = 0; i < in[0].t->dim[CHAN]; i++)
        sum += *at(in[0], p.b, p.r, 0, i) * *at(in[1], in[1].t->batch == 1 ? 0 : p.b, i, 0, p.k);
    return sum;
}

static double ref_lrn(const struct op *op, struct ref in, struct place p)
{
    const int32_t size = op->u.lrn.size;
    double sum = 0;
    for (int32_t k = 0; k < in.t->dim[CHAN]; k++)
        if (k >= p.k - (int32_t)floor((size - 1) / 2.0) &&
            k <= p.k + (int32_t)ceil((size - 1) / 2.0))
            sum += pow(*at(in, p.b, p.r, p.c, k), 2);
    const double scale = (double)op->u.lrn.bias + (double)op->u.lrn.alpha / size * sum;
    return *at(in, p.b, p.r, p.c, p.k) / pow(scale, (double)op->u.lrn.beta);
}

/* The place of the value that `place` others on its line come before. */
static double ref_top_k(const struct op *op, struct ref in, struct place p)
{
    const enum axis axis = op->u.top_k.axis;
    int32_t pos[AXES] = { p.r, p.c, p.k };
    const int32_t place = pos[axis], len = in.t->dim[axis];
    for (int32_t i = 0; i < len; i++) {
        pos[axis] = i;
        const double x = *at(in, p.b, pos[ROW], pos[COL], pos[CHAN]);
        int32_t before = 0;
        for (int32_t j = 0; j < len; j++) {
            pos[axis] = j;
            const double y = *at(in, p.b, pos[ROW], pos[COL], pos[CHAN]);
            before += (op->u.top_k.smallest ? y < x : y > x) || (y == x && j < i);
        }
        if (before == place)
            return op->u.top_k.indices ? i : x;
    }
    return NAN;
}

static double ref_space_to_depth(const struct op *op, struct ref in, struct place p)
{
    const int32_t b = op->u.space_to_depth.block, channels = in.t->dim[CHAN];
    for (int32_t y = 0; y < b; y++)
        for (int32_t x = 0; x < b; x++)
            for (int32_t k = 0; k < channels; k++)
                if ((y * b + x) * channels + k == p.k)
                    return *at(in, p.b, p.r * b + y, p.c * b + x, k);
    return NAN;
}

static double ref_resize_position(const struct op *op, enum axis a, int32_t i, int32_t in,
                                  int32_t out)
{
    const double s = (double)op->u.resize.scale[a];
    const double start = (double)op->u.resize.crop[a][0], end = (double)op->u.resize.crop[a][1];
    if (op->u.resize.coordinates == RESIZE_CROP && (start != 0 || end != 1))
        return out > 1 ? (in - 1) * (start + (end - start) * i / (out - 1))
                       : (in - 1) * (start + end) / 2;
    if (s == 1) /* as ONNX Runtime: such an axis is left alone */
        return i;
    switch (op->u.resize.coordinates) {
    case RESIZE_HALF_PIXEL:
        return (i + 0.5) / s - 0.5;
    case RESIZE_PYTORCH_HALF_PIXEL:
        return out > 1 ? (i + 0.5) / s - 0.5 : 0;
    case RESIZE_ALIGN_CORNERS:
        return out > 1 ? (double)i * (in - 1) / (out - 1) : 0;
    case RESIZE_ASYMMETRIC:
        return i / s;
    case RESIZE_TF_HALF_PIXEL:
        return (i + 0.5) / s;
    case RESIZE_CROP:
        return out > 1 ? (double)i * (in - 1) / (out - 1) : (in - 1) / 2.0;
    }
    return 0;
}

static double ref_resize_weight(const struct op *op, double x, int32_t pixel)
{
    const double d = fabs(x - pixel), a = (double)op->u.resize.cubic_a;
    switch (op->u.resize.mode) {
    case RESIZE_LINEAR:
        return fmax(1 - d, 0);
    case RESIZE_CUBIC:
        if (d <= 1)
            return (a + 2) * d * d * d - (a + 3) * d * d + 1;
        return d < 2 ? a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a : 0;
    case RESIZE_NEAREST:
        break;
    }
    switch (op->u.resize.nearest) {
    case RESIZE_ROUND_PREFER_FLOOR:
        return pixel == ceil(x - 0.5);
    case RESIZE_ROUND_PREFER_CEIL:
        return pixel == floor(x + 0.5);
    case RESIZE_FLOOR:
        return pixel == floor(x);
    case RESIZE_CEIL:
        return pixel == ceil(x);
    }
    return 0;
}

/* All pixels near and far, those outside the map taken from its edge, or not at all. */
static double ref_resize(const struct op *op, struct ref in, struct ref out, struct place p)
{
    const int32_t rows = in.t->dim[ROW], cols = in.t->dim[COL];
    const double y = ref_resize_position(op, ROW, p.r, rows, out.t->dim[ROW]);
    const double x = ref_resize_position(op, COL, p.c, cols, out.t->dim[COL]);
    const bool exclude = op->u.resize.exclude_outside && op->u.resize.mode == RESIZE_CUBIC;
    double sum = 0, weights = 0;
    if (op->u.resize.coordinates == RESIZE_CROP && (y < 0 || y > rows - 1 || x < 0 || x > cols - 1))
        return (double)op->u.resize.outside;
    for (int32_t r = -4; r < rows + 4; r++)
        for (int32_t c = -4; c < cols + 4; c++) {
            const double w = ref_resize_weight(op, y, r) * ref_resize_weight(op, x, c);
            const int32_t ir = r < 0 ? 0 : r >= rows ? rows - 1 : r;
            const int32_t ic = c < 0 ? 0 : c >= cols ? cols - 1 : c;
            if (w == 0 || (exclude && (ir != r || ic != c)))
                continue;
            sum += w * *at(in, p.b, ir, ic, p.k);
            weights += w;
        }
    return exclude ? sum / weights : sum;
}

/* ---- pixels between pixels */

static double ref_fold_back(const struct op *op, double x, int32_t len)
{
    const double lo = op->u.grid_sample.corners ? 0 : -0.5, hi = len - 1 - lo;
    if (op->u.grid_sample.beyond == SAMPLE_REFLECTION && hi <= lo)
        x = lo;
    while (op->u.grid_sample.beyond == SAMPLE_REFLECTION && (x < lo || x > hi))
        x = x < lo ? 2 * lo - x : 2 * hi - x;
    return op->u.grid_sample.beyond == SAMPLE_ZEROS ? x : fmin(fmax(x, 0), len - 1);
}

static double ref_sample_weight(enum resize_mode mode, double x, double pixel)
{
    const double d = fabs(x - pixel), a = -0.75;
    if (mode == RESIZE_NEAREST)
        return pixel == rint(x);
    if (mode == RESIZE_LINEAR)
        return fmax(0, 1 - d);
    if (d <= 1)
        return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/* Of every pixel far and near what it weighs, those beyond the map brought back or 0. */
static double ref_grid_sample(const struct op *op, const struct ref *in, struct place p)
{
    const enum resize_mode mode = op->u.grid_sample.mode;
    double where[2], sum = 0;
    for (int a = ROW; a <= COL; a++) {
        const int32_t len = in[0].t->dim[a];
        const double g = *at(in[1], p.b, p.r, p.c, a == ROW ? 1 : 0);
        where[a] = op->u.grid_sample.corners ? (g + 1) / 2 * (len - 1) : ((g + 1) * len - 1) / 2;
        if (mode != RESIZE_CUBIC)
            where[a] = ref_fold_back(op, where[a], len);
    }
    for (int32_t r = -30; r < 40; r++)
        for (int32_t c = -30; c < 40; c++) {
            const double w =
                ref_sample_weight(mode, where[ROW], r) * ref_sample_weight(mode, where[COL], c);
            const int32_t ir = (int32_t)ref_fold_back(op, r, in[0].t->dim[ROW]);
            const int32_t ic = (int32_t)ref_fold_back(op, c, in[0].t->dim[COL]);
            if (w != 0 && on_map(in[0], ir, ic))
                sum += w * *at(in[0], p.b, ir, ic, p.k);
        }
    return sum;
}

static double ref_bilinear(struct ref in, double y, double x, int32_t k)
{
    const int32_t rows = in.t->dim[ROW], cols = in.t->dim[COL];
    double sum = 0;
    if (y < -1 || y > rows || x < -1 || x > cols)
        return 0;
    y = fmin(fmax(y, 0), rows - 1);
    x = fmin(fmax(x, 0), cols - 1);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < cols; c++)
            sum += fmax(0, 1 - fabs(y - r)) * fmax(0, 1 - fabs(x - c)) * *at(in, 0, r, c, k);
    return sum;
}

static double ref_roi_align(const struct op *op, const struct ref *in, struct ref out,
                            struct place p)
{
    const double scale = (double)op->u.roi_align.scale, shift = (double)op->u.roi_align.shift;
    double cell[2], first[2], sum = 0;
    int32_t n[2];
    for (int a = ROW; a <= COL; a++) {
        const double lo = *at(in[1], p.b, 0, 0, a == ROW ? 1 : 0) * scale - shift;
        const double hi = *at(in[1], p.b, 0, 0, a == ROW ? 3 : 2) * scale - shift;
        cell[a] = (shift == 0 ? fmax(hi - lo, 1) : hi - lo) / out.t->dim[a];
        first[a] = lo + cell[a] * (a == ROW ? p.r : p.c);
        n[a] = op->u.roi_align.points ? op->u.roi_align.points : (int32_t)ceil(cell[a]);
        n[a] = n[a] < 0                                            ? 0
               : n[a] > in[0].t->dim[a] && !op->u.roi_align.points ? in[0].t->dim[a]
                                                                   : n[a];
    }
    for (int32_t i = 0; i < n[ROW]; i++)
        for (int32_t j = 0; j < n[COL]; j++)
            sum += ref_bilinear(in[0], first[ROW] + cell[ROW] * (i + 0.5) / n[ROW],
                                first[COL] + cell[COL] * (j + 0.5) / n[COL], p.k);
    return n[ROW] * n[COL] > 0 ? sum / (n[ROW] * n[COL]) : 0;
}

/* Through real arrays in ONNX order: transpose, pick, then copy. */
static void ref_reshape(const struct op *op, struct ref in, struct ref out)
{
    const struct shape *from = &op->u.reshape.from, *to = &op->u.reshape.to;
    const int64_t n = shape_values(from);
    float *nhwc = calloc((size_t)n + 1, sizeof(*nhwc)),
          *onnx = calloc((size_t)n + 1, sizeof(*onnx));
    float *moved = calloc((size_t)n + 1, sizeof(*moved));
    if (!nhwc || !onnx || !moved)
        abort();
    for (int64_t i = 0; i < n; i++)
        nhwc[i] = (float)i;
    shape_to_onnx(from, onnx, nhwc);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, index = 0, coordinate[SHAPE_MAX_RANK];
        for (int32_t a = from->rank - 1; a >= 0; a--) {
            const int32_t len = from->dim[op->u.reshape.perm[a]];
            coordinate[op->u.reshape.perm[a]] = rest % len;
            rest /= len;
        }
        for (int32_t a = 0; a < from->rank; a++)
            index = index * from->dim[a] + coordinate[a];
        moved[i] = onnx[index];
    }
    const int64_t m = shape_values(to);
    float *picked = calloc((size_t)m + 1, sizeof(*picked)),
          *last = calloc((size_t)m + 1, sizeof(*last));
    if (!picked || !last)
        abort();
    for (int64_t i = 0; i < m; i++) {
        int64_t rest = i, index = 0, step = 1;
        for (int32_t a = to->rank - 1; a >= 0; a--) {
            const int32_t *pick = op->u.reshape.pick[a], o = (int32_t)(rest % to->dim[a]);
            index += step * (pick ? pick[o] : o);
            step *= pick ? op->u.reshape.picked[a] : to->dim[a];
            rest /= to->dim[a];
        }
        picked[i] = moved[index];
    }
    shape_from_onnx(to, last, picked);
    for (int64_t i = 0; i < m; i++)
        out.v[i] = in.v[(int64_t)last[i]];
    free(last);
    free(picked);
    free(moved);
    free(onnx);
    free(nhwc);
}

/* An index that is below 0 counts from the end; one that is none yields NaN. */
static double ref_gather(const struct op *op, const struct ref *in, struct place p)
{
    const int32_t row = in[1].t->dim[ROW] == 1 ? 0 : p.r;
    int32_t place = 0;
    for (int32_t i = 0; i < op->u.gather.n; i++) {
        const double index = *at(in[1], p.b, row, p.c, op->u.gather.each ? p.k : i);
        const int32_t len = op->u.gather.len[i];
        if (isnan(index) || index < -len || index >= len)
            return NAN;
        const int32_t whole = (int32_t)index; /* what is not yet fed holds fractions, too */
        place += (whole + (whole < 0 ? len : 0)) * op->u.gather.step[i];
    }
    return *at(in[0], p.b, p.r, place, p.k);
}

static double ref_overlap(double a, double a_end, double b, double b_end)
{
    return fmax(0, fmin(fmax(a, a_end), fmax(b, b_end)) - fmax(fmin(a, a_end), fmin(b, b_end)));
}

/* Intersection over union of boxes `i` and `j`. */
static double ref_iou(const struct op *op, struct ref boxes, int32_t image, int32_t i, int32_t j)
{
    double area[2], both = 1, corner[2][4];
    for (int n = 0; n < 2; n++) {
        for (int32_t k = 0; k < 4; k++)
            corner[n][k] = *at(boxes, 0, image, n ? j : i, k);
        if (op->u.nms.centre) {
            const double c[4] = { corner[n][0], corner[n][1], corner[n][2], corner[n][3] };
            for (int k = 0; k < 2; k++) {
                corner[n][k] = c[k] - c[k + 2] / 2;
                corner[n][k + 2] = c[k] + c[k + 2] / 2;
            }
        }
        area[n] = fabs(corner[n][2] - corner[n][0]) * fabs(corner[n][3] - corner[n][1]);
    }
    for (int k = 0; k < 2; k++)
        both *= ref_overlap(corner[0][k], corner[0][k + 2], corner[1][k], corner[1][k + 2]);
    return both > 0 ? both / (area[0] + area[1] - both) : 0;
}

/* Takes the best box that no taken one covers, again and again. */
static void ref_nms(const struct op *op, const struct ref *in, struct ref out)
{
    const int32_t *scores = in[1].t->dim, boxes = in[0].t->dim[COL], room = out.t->dim[COL];
    int32_t n = 0;
    for (int32_t m = 0; m < scores[ROW]; m++)
        for (int32_t c = 0; c < scores[COL]; c++) {
            const int32_t first = n;
            while (n - first < op->u.nms.per_class) {
                int32_t best = -1;
                for (int32_t i = 0; i < boxes; i++) {
                    const double score = *at(in[1], 0, m, c, i);
                    bool is_left = score > (double)op->u.nms.score;
                    for (int32_t k = first; k < n && is_left; k++) {
                        const int32_t taken = (int32_t)*at(out, 0, 0, k, 2);
                        is_left =
                            taken != i && ref_iou(op, in[0], m, taken, i) <= (double)op->u.nms.iou;
                    }
                    if (is_left && (best < 0 || score > *at(in[1], 0, m, c, best)))
                        best = i;
                }
                if (best < 0)
                    break;
                *at(out, 0, 0, n, 0) = m;
                *at(out, 0, 0, n, 1) = c;
                *at(out, 0, 0, n++, 2) = best;
            }
        }
    for (; n < room; n++)
        for (int32_t k = 0; k < 3; k++)
            *at(out, 0, 0, n, k) = NAN;
}

static double ref_value(const struct op *op, const struct ref *in, struct ref out, struct place p)
{
    switch (op->type) {
    case OP_CONV:
        return ref_conv(op, in[0], out, p);
    case OP_CONV_TRANSPOSE:
        return ref_conv_transpose(op, in[0], out, p);
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
        return op->u.pool.places ? ref_pool_place(op, in[0], p) : ref_pool(op, in[0], p);
    case OP_AFFINE:
        return *at(in[0], p.b, p.r, p.c, p.k) * (double)op->u.affine.scale[p.k] +
               (double)op->u.affine.bias[p.k];
    case OP_ACTIVATION:
        return *at(in[0], p.b, p.r, p.c, p.k);
    case OP_BINARY:
        return ref_binary(op, in, p);
    case OP_CONCAT:
        return ref_concat(op, in, p);
    case OP_SLICE:
        return ref_slice(op, in[0], p);
    case OP_PAD:
        return ref_pad(op, in[0], p);
    case OP_DEPTH_TO_SPACE:
        return ref_depth_to_space(op, in[0], out, p);
    case OP_SOFTMAX:
        return ref_softmax(op, in[0], p);
    case OP_COMBINE:
        return ref_reduce(op, in[0], p);
    case OP_RESIZE:
        return ref_resize(op, in[0], out, p);
    case OP_CONSTANT: {
        const int32_t *d = out.t->dim;
        return (double)
            op->u.constant.values[(((int64_t)p.b * d[ROW] + p.r) * d[COL] + p.c) * d[CHAN] + p.k];
    }
    case OP_REDUCE:
        return ref_reduce_axes(op, in[0], p);
    case OP_MATMUL:
        return ref_matmul(in, p);
    case OP_WHERE:
        return ref_broadcast(in[ref_broadcast(in[0], p) != 0 ? 1 : 2], p);
    case OP_LRN:
        return ref_lrn(op, in[0], p);
    case OP_SPACE_TO_DEPTH:
        return ref_space_to_depth(op, in[0], p);
    case OP_TOP_K:
        return ref_top_k(op, in[0], p);
    case OP_GATHER:
        return ref_gather(op, in, p);
    case OP_MAX_UNPOOL:
        return ref_max_unpool(op, in, p);
    case OP_GRID_SAMPLE:
        return ref_grid_sample(op, in, p);
    case OP_ROI_ALIGN:
        return ref_roi_align(op, in, out, p);
    case OP_NMS:
    case OP_PARTIAL:
    case OP_RESHAPE:
    case OP_TYPES:
        break;
    }
    return *at(out, p.b, p.r, p.c, p.k);
}

static void ref_op(const struct net *n, const struct op *op, double **value)
{
    const struct tensor *t = &n->tensor[op->output];
    struct ref in[OP_MAX_INPUTS] = { { 0 } };
    for (int32_t i = 0; i < op->ninputs; i++) {
        int32_t from = op->input[i];
        if (op->type == OP_COMBINE)
            from = n->op[n->tensor[from].op].input[0];
        in[i] = (struct ref){ &n->tensor[from], value[from] };
    }
    const struct ref out = { t, value[op->output] };
    if (op->type == OP_RESHAPE)
        ref_reshape(op, in[0], out);
    if (op->type == OP_NMS)
        ref_nms(op, in, out);
    struct place p;
    for (p.b = 0; p.b < t->batch; p.b++)
        for (p.r = 0; p.r < t->dim[ROW]; p.r++)
            for (p.c = 0; p.c < t->dim[COL]; p.c++)
                for (p.k = 0; p.k < t->dim[CHAN]; p.k++)
                    *at(out, p.b, p.r, p.c, p.k) =
                        ref_act(&op->act, ref_value(op, in, out, p), p.k);
}

void net_reference(const struct net *n, const float *const *input, double **value)
{
    for (int32_t t = 0; t < n->g.ntensors; t++) {
        value[t] = calloc((size_t)net_values(n, t) + 1, sizeof(double));
        if (!value[t])
            abort();
    }
    for (int32_t i = 0; i < n->g.ninputs; i++)
        for (int64_t k = 0; k < net_values(n, n->in[i].tensor); k++)
            value[n->in[i].tensor][k] = (double)input[i][k];
    for (int32_t o = 0; o < n->g.nops; o++)
        if (n->op[o].type != OP_PARTIAL)
            ref_op(n, &n->op[o], value);
}

void net_reference_done(const struct net *n, double **value)
{
    for (int32_t t = 0; t < n->g.ntensors; t++)
        free(value[t]);
}
