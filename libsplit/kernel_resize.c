#include <math.h>
#include <string.h>

#include "libsplit/kernel_ops.h"
#include "libsplit/simd.h"

enum { MAX_TAPS = 4 };

/* The input pixels behind one output coordinate of one axis, with their weights. */
struct taps {
    int32_t n;
    int32_t at[MAX_TAPS];
    float weight[MAX_TAPS];
};

/* Position of output coordinate `i` on the input's axis, in single precision like the
 * engines that models are tested with: ties of "nearest" depend on it. */
static float position(const struct op *op, enum axis a, int32_t i, int32_t in, int32_t out)
{
    const float x = (float)i, scale = op->u.resize.scale[a];
    switch (op->u.resize.coordinates) {
    case RESIZE_HALF_PIXEL:
        return (x + 0.5F) / scale - 0.5F;
    case RESIZE_PYTORCH_HALF_PIXEL:
        return out > 1 ? (x + 0.5F) / scale - 0.5F : 0;
    case RESIZE_ALIGN_CORNERS:
        return out > 1 ? x * (float)(in - 1) / (float)(out - 1) : 0;
    case RESIZE_ASYMMETRIC:
        return x / scale;
    case RESIZE_TF_HALF_PIXEL:
        return (x + 0.5F) / scale;
    case RESIZE_CROP: {
        const float start = op->u.resize.crop[a][0], end = op->u.resize.crop[a][1];
        const float last = (float)(in - 1);
        return out > 1 ? start * last + x * (end - start) * last / (float)(out - 1)
                       : 0.5F * (start + end) * last;
    }
    }
    return x;
}

static float round_to_pixel(enum resize_nearest how, float x)
{
    switch (how) {
    case RESIZE_ROUND_PREFER_FLOOR:
        return ceilf(x - 0.5F);
    case RESIZE_ROUND_PREFER_CEIL:
        return floorf(x + 0.5F);
    case RESIZE_FLOOR:
        return floorf(x);
    case RESIZE_CEIL:
        return ceilf(x);
    }
    return x;
}

static struct taps linear_taps(float x, int32_t len)
{
    x = fminf(fmaxf(x, 0), (float)(len - 1));
    const int32_t lo = min_i32((int32_t)x, len - 1);
    const float part = x - (float)lo;
    return (struct taps){ .n = 2,
                          .at = { lo, min_i32(lo + 1, len - 1) },
                          .weight = { 1 - part, part } };
}

void cubic_weights(float t, float a, float weight[4])
{
    const float u = 1 - t, v = 2 - t, w = 1 + t;
    weight[0] = ((a * w - 5 * a) * w + 8 * a) * w - 4 * a;
    weight[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    weight[2] = ((a + 2) * u - (a + 3)) * u * u + 1;
    weight[3] = ((a * v - 5 * a) * v + 8 * a) * v - 4 * a;
}

static struct taps cubic_taps(float x, float a)
{
    const float floor_x = floorf(x);
    struct taps taps = { .n = 4 };
    cubic_weights(x - floor_x, a, taps.weight);
    for (int32_t i = 0; i < 4; i++)
        taps.at[i] = (int32_t)floor_x - 1 + i;
    return taps;
}

/* Taps beyond the map fall on its edge, or weigh nothing and leave the others more. */
static void keep_inside(struct taps *t, int32_t len, bool exclude)
{
    float sum = 0;
    for (int32_t i = 0; i < t->n; i++) {
        const int32_t at = clamp_i32(t->at[i], 0, len - 1);
        if (exclude && at != t->at[i])
            t->weight[i] = 0;
        t->at[i] = at;
        sum += t->weight[i];
    }
    for (int32_t i = 0; exclude && i < t->n; i++)
        t->weight[i] /= sum;
}

static struct taps taps_at(const struct kernel_call *call, enum axis a, int32_t i)
{
    const struct op *op = call->op;
    const int32_t in = input_dim(call, 0)[a], out = output_dim(call)[a];
    const float *crop = op->u.resize.crop[a];
    const bool cropped = op->u.resize.coordinates == RESIZE_CROP && (crop[0] != 0 || crop[1] != 1);
    /* An axis that keeps its extent is copied, whatever the coordinates say of it. */
    if (in == out && op->u.resize.scale[a] == 1.0F && !cropped)
        return (struct taps){ .n = 1, .at = { i }, .weight = { 1 } };
    const float x = position(op, a, i, in, out);
    if (cropped && !(x >= 0 && x <= (float)(in - 1)))
        return (struct taps){ .n = 0 };
    switch (op->u.resize.mode) {
    case RESIZE_LINEAR:
        return linear_taps(x, in);
    case RESIZE_CUBIC: {
        struct taps t = cubic_taps(x, op->u.resize.cubic_a);
        keep_inside(&t, in, op->u.resize.exclude_outside);
        return t;
    }
    case RESIZE_NEAREST:
        break;
    }
    /* Clamped before the conversion: a float may exceed any integer. */
    const float pixel = round_to_pixel(op->u.resize.nearest, x);
    return (struct taps){ .n = 1,
                          .at = { (int32_t)fminf(fmaxf(pixel, 0), (float)(in - 1)) },
                          .weight = { 1 } };
}

static void blend(const struct kernel_call *call, const struct simd *simd, float *to,
                  const struct taps *rows, const struct taps *cols)
{
    const int32_t k0 = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    const float *x[MAX_TAPS * MAX_TAPS];
    float weight[MAX_TAPS * MAX_TAPS];
    int32_t taps = 0;
    for (int32_t i = 0; i < rows->n; i++)
        for (int32_t j = 0; j < cols->n; j++) {
            x[taps] = view_at(&call->in[0], rows->at[i], cols->at[j], k0);
            weight[taps++] = rows->weight[i] * cols->weight[j];
        }
    if (taps == 1)
        memcpy(to, x[0], (size_t)n * sizeof *to); /* its weight is 1 */
    else if (taps == 0)
        for (int32_t k = 0; k < n; k++)
            to[k] = call->op->u.resize.outside;
    else
        simd->blend(x, weight, taps, to, n);
}

void resize_run(const struct kernel_call *call)
{
    const struct simd *simd = simd_best();
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++) {
        const struct taps rows = taps_at(call, ROW, y);
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const struct taps cols = taps_at(call, COL, x);
            blend(call, simd, view_at(&call->out, y, x, r->lo[CHAN]), &rows, &cols);
        }
    }
    act_region(call);
}
