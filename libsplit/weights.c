#include "libsplit/weights.h"

#include <string.h>

#include "libsplit/resident.h"

/* Source elements between two onnx_forget(): what packing may hold of the file beside its own
 * copy. */
static const int64_t FORGET_EVERY = 4 << 20;

/* Output channels moved together: one cache line of the packed weights is written whole. */
enum { OUT_BLOCK = 16 };

int64_t weights_count(const struct weight_layout *l, struct span groups, struct span outs)
{
    return (int64_t)(groups.hi - groups.lo) * (outs.hi - outs.lo) * l->extent[W_IN] *
           l->extent[W_ROW] * l->extent[W_COL];
}

float *weights_alloc(int64_t count)
{
    if (count < 0 || count > (INT64_MAX >> 8))
        return NULL;
    return resident_alloc((size_t)count * sizeof(float));
}

void weights_free(void *weights) { resident_free(weights); }

static inline float element(const struct onnx_tensor *t, int64_t i)
{
    if (t->type != ONNX_FLOAT)
        return onnx_float(t, i);
    float f; /* the file aligns nothing */
    memcpy(&f, (const uint8_t *)t->data + 4 * i, sizeof(f));
    return f;
}

void weights_pack_part(float *to, const struct op *op, const struct weight_layout *l, int64_t g,
                       struct span outs, struct span ins)
{
    const struct onnx_tensor *t = op->u.conv.weight.t;
    const float *scale = op->u.conv.scale ? op->u.conv.scale + g * l->extent[W_OUT] : NULL;
    for (int64_t i = ins.lo; i < ins.hi; i++)
        for (int64_t y = 0; y < l->extent[W_ROW]; y++)
            for (int64_t x = 0; x < l->extent[W_COL]; x++) {
                const int64_t from = g * l->from[W_GROUP] + i * l->from[W_IN] + y * l->from[W_ROW] +
                                     x * l->from[W_COL];
                float *line = to + (i - ins.lo) * l->to[W_IN] + y * l->to[W_ROW] + x * l->to[W_COL];
                for (int64_t o = outs.lo; o < outs.hi; o++) {
                    const float w = element(t, from + o * l->from[W_OUT]);
                    line[(o - outs.lo) * l->to[W_OUT]] = scale ? w * scale[o] : w;
                }
            }
}

bool weights_by_output(const struct weight_layout *l) { return l->from[W_OUT] >= l->from[W_IN]; }

float *weights_pack(const struct graph *g, const struct op *op, const struct weight_layout *l,
                    struct span groups, struct span outs)
{
    float *to = weights_alloc(weights_count(l, groups, outs));
    if (!to)
        return NULL;

    /* Walk the file in its own order, so that pages let go are not needed again. */
    const int64_t block = weights_by_output(l) ? OUT_BLOCK : outs.hi - outs.lo;
    const int64_t per_out = l->extent[W_IN] * l->extent[W_ROW] * l->extent[W_COL];
    const struct span all = { 0, (int32_t)l->extent[W_IN] };
    int64_t read = 0;
    for (int64_t group = groups.lo; group < groups.hi; group++)
        for (struct span part = outs; part.lo < outs.hi; part.lo = part.hi) {
            part.hi = part.lo + block < outs.hi ? part.lo + (int32_t)block : outs.hi;
            weights_pack_part(to + (group - groups.lo) * l->to[W_GROUP] +
                                  (part.lo - outs.lo) * l->to[W_OUT],
                              op, l, group, part, all);
            read += (part.hi - part.lo) * per_out;
            if (read >= FORGET_EVERY && g->model) {
                onnx_forget(g->model, op->u.conv.weight.t);
                read = 0;
            }
        }
    if (g->model)
        onnx_forget(g->model, op->u.conv.weight.t);
    return to;
}
