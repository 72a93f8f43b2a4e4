#include "libsplit/conv.h"
#include "libsplit/functions.h"
#include "libsplit/kernel_ops.h"
#include "libsplit/simd.h"

/* The vector function that `kind` is, SIMD_FUNCTIONS if there is none. */
static enum simd_function vector_function(enum act_kind kind)
{
    switch (kind) {
    case ACT_SIGMOID:
        return SIMD_SIGMOID;
    case ACT_SILU:
        return SIMD_SILU;
    case ACT_TANH:
        return SIMD_TANH;
    case ACT_ERF:
        return SIMD_ERF;
    case ACT_GELU:
        return SIMD_GELU;
    case ACT_MISH:
        return SIMD_MISH;
    case ACT_HARD_SIGMOID:
        return SIMD_HARD_SIGMOID;
    case ACT_HARD_SWISH:
        return SIMD_HARD_SWISH;
    default:
        return SIMD_FUNCTIONS;
    }
}

/* One activation of many values. */
struct activation {
    const struct act *act;
    const struct simd *simd;
    struct simd_act simple; /* SIMD_NONE: it is another one */
    enum simd_function function;
};

/* `slope` is that of the first value, for PRELU. */
static void act_run_of_values(const struct activation *how, float *restrict x, const float *slope,
                              ptrdiff_t n)
{
    const float a = how->act->a, b = how->act->b;
    if (how->simple.kind != SIMD_NONE) {
        how->simd->activate(x, x, n, &how->simple);
    } else if (how->function != SIMD_FUNCTIONS) {
        how->simd->apply(how->function, x, n, a, b);
    } else if (slope) {
        for (ptrdiff_t i = 0; i < n; i++)
            x[i] = x[i] < 0 ? slope[i] * x[i] : x[i];
    } else {
        const act_fn f = act_function(how->act->kind);
        for (ptrdiff_t i = 0; i < n; i++)
            x[i] = f(x[i], a, b);
    }
}

void act_apply(const struct act *act, float *x, ptrdiff_t pixel_stride, int32_t n, int32_t k0,
               int32_t channels)
{
    struct act rest;
    if (act->kind == ACT_NONE)
        return;
    const struct activation how = { act, simd_best(), conv_activation(act, &rest),
                                    vector_function(act->kind) };
    const float *slope = act->kind == ACT_PRELU ? act->slope + k0 : NULL;
    if (pixel_stride == channels && !slope) {
        act_run_of_values(&how, x, NULL, (ptrdiff_t)n * channels);
        return;
    }
    for (int32_t p = 0; p < n; p++)
        act_run_of_values(&how, x + p * pixel_stride, slope, channels);
}

void act_region(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        act_apply(&call->op->act, view_at(&call->out, y, r->lo[COL], r->lo[CHAN]),
                  call->out.pixel_stride, box_len(*r, COL), r->lo[CHAN], box_len(*r, CHAN));
}

void affine_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const struct simd *simd = simd_best();
    struct act rest;
    const struct simd_act act = conv_activation(&call->op->act, &rest);
    const float *scale = call->op->u.affine.scale + r->lo[CHAN];
    const float *bias = call->op->u.affine.bias + r->lo[CHAN];
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            simd->affine(view_at(&call->in[0], y, x, r->lo[CHAN]), scale, bias,
                         view_at(&call->out, y, x, r->lo[CHAN]), box_len(*r, CHAN), &act);
    conv_finish(call, &rest);
}

void activation_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    const size_t n = (size_t)box_len(*r, CHAN);
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++) {
            const float *restrict from = view_at(&call->in[0], y, x, r->lo[CHAN]);
            float *restrict to = view_at(&call->out, y, x, r->lo[CHAN]);
            for (size_t k = 0; k < n; k++)
                to[k] = from[k];
        }
    act_region(call);
}

/* One side of a binary operator; a stride is 0 along an axis that is broadcast. */
struct operand {
    const float *data; /* at the region's first value */
    ptrdiff_t stride[AXES];
};

static struct operand tensor_operand(const struct kernel_call *call, int32_t i)
{
    const struct view *v = &call->in[i];
    const int32_t *dim = input_dim(call, i), *out = output_dim(call);
    const ptrdiff_t stride[AXES] = { v->row_stride, v->pixel_stride, 1 };
    struct operand o = { 0 };
    int32_t at[AXES];
    for (int a = 0; a < AXES; a++) {
        const bool broadcast = dim[a] == 1 && out[a] != 1;
        o.stride[a] = broadcast ? 0 : stride[a];
        at[a] = broadcast ? 0 : call->region.lo[a];
    }
    o.data = view_at(v, at[ROW], at[COL], at[CHAN]);
    return o;
}

static struct operand constant_operand(const struct kernel_call *call)
{
    const struct op *op = call->op;
    struct operand o = { .data = op->u.binary.constant + call->image * op->u.binary.stride[AXES] };
    for (int a = 0; a < AXES; a++) {
        o.stride[a] = (ptrdiff_t)op->u.binary.stride[a];
        o.data += call->region.lo[a] * o.stride[a];
    }
    return o;
}

/* to[i] = a[i * sa] (kind) b[i * sb].  Called with literal strides 0 and 1 so that the loops
 * vectorise. */
static inline void combine(enum binary_kind kind, float *restrict to, const float *a, ptrdiff_t sa,
                           const float *b, ptrdiff_t sb, ptrdiff_t n)
{
    switch (kind) {
    case BINARY_ADD:
        for (ptrdiff_t i = 0; i < n; i++)
            to[i] = a[i * sa] + b[i * sb];
        break;
    case BINARY_SUB:
        for (ptrdiff_t i = 0; i < n; i++)
            to[i] = a[i * sa] - b[i * sb];
        break;
    case BINARY_MUL:
        for (ptrdiff_t i = 0; i < n; i++)
            to[i] = a[i * sa] * b[i * sb];
        break;
    case BINARY_DIV:
        for (ptrdiff_t i = 0; i < n; i++)
            to[i] = a[i * sa] / b[i * sb];
        break;
    default: {
        const binary_fn f = binary_function(kind);
        for (ptrdiff_t i = 0; i < n; i++)
            to[i] = f(a[i * sa], b[i * sb]);
    }
    }
}

static void combine_run_of_values(enum binary_kind kind, float *to, const float *a, ptrdiff_t sa,
                                  const float *b, ptrdiff_t sb, ptrdiff_t n)
{
    if (sa == 1 && sb == 1)
        combine(kind, to, a, 1, b, 1, n);
    else if (sa == 1 && sb == 0)
        combine(kind, to, a, 1, b, 0, n);
    else
        combine(kind, to, a, sa, b, sb, n);
}

void binary_run(const struct kernel_call *call)
{
    const struct op *op = call->op;
    const struct box *r = &call->region;
    struct operand a = tensor_operand(call, 0);
    struct operand b = op->u.binary.constant ? constant_operand(call) : tensor_operand(call, 1);
    if (op->u.binary.constant && op->u.binary.constant_first) {
        const struct operand swap = a;
        a = b;
        b = swap;
    }

    const int32_t rows = box_len(*r, ROW), cols = box_len(*r, COL), channels = box_len(*r, CHAN);
    /* Whole rows at once where nothing is broadcast and no channels are left out. */
    const bool dense = a.stride[COL] == channels && b.stride[COL] == channels &&
                       a.stride[CHAN] == 1 && b.stride[CHAN] == 1 &&
                       call->out.pixel_stride == channels;
    for (int32_t y = 0; y < rows; y++) {
        float *to = view_at(&call->out, r->lo[ROW] + y, r->lo[COL], r->lo[CHAN]);
        const float *from_a = a.data + y * a.stride[ROW], *from_b = b.data + y * b.stride[ROW];
        if (dense) {
            combine_run_of_values(op->u.binary.kind, to, from_a, 1, from_b, 1,
                                  (ptrdiff_t)cols * channels);
            continue;
        }
        for (int32_t x = 0; x < cols; x++)
            combine_run_of_values(op->u.binary.kind, to + x * call->out.pixel_stride,
                                  from_a + x * a.stride[COL], a.stride[CHAN],
                                  from_b + x * b.stride[COL], b.stride[CHAN], channels);
    }
    act_region(call);
}

void where_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    struct operand o[3];
    for (int i = 0; i < 3; i++)
        o[i] = tensor_operand(call, i);
    for (int32_t y = 0; y < box_len(*r, ROW); y++)
        for (int32_t x = 0; x < box_len(*r, COL); x++) {
            const float *from[3];
            for (int i = 0; i < 3; i++)
                from[i] = o[i].data + y * o[i].stride[ROW] + x * o[i].stride[COL];
            float *to = view_at(&call->out, r->lo[ROW] + y, r->lo[COL] + x, r->lo[CHAN]);
            for (ptrdiff_t k = 0; k < box_len(*r, CHAN); k++)
                to[k] = from[0][k * o[0].stride[CHAN]] != 0 ? from[1][k * o[1].stride[CHAN]]
                                                            : from[2][k * o[2].stride[CHAN]];
        }
    act_region(call);
}
