#include <math.h>

#include "libsplit/kernel_ops.h"

/* Points of one axis of a cell. */
struct points {
    float first, step;
    int32_t n;
};

/* Axis `a` of the box that image `call->image` is, at output coordinate `at`. */
static struct points points_at(const struct kernel_call *call, enum axis a, int32_t at)
{
    const struct op *op = call->op;
    const float *box = view_at(&call->in[1], 0, 0, 0); /* column, row, column, row */
    const int32_t len = input_dim(call, 0)[a];
    const float scale = op->u.roi_align.scale, shift = op->u.roi_align.shift;
    const float start = box[a == ROW ? 1 : 0] * scale - shift;
    float extent = box[a == ROW ? 3 : 2] * scale - shift - start;
    if (shift == 0) /* as it was first: no box is smaller than a pixel */
        extent = fmaxf(extent, 1);
    const float cell = extent / (float)output_dim(call)[a];
    struct points p = { .n = op->u.roi_align.points };
    if (p.n == 0) /* a box that is larger than the map has pixels of the map only */
        p.n = (int32_t)fminf(fmaxf(ceilf(cell), 0), (float)len);
    p.step = cell / (float)max_i32(p.n, 1);
    p.first = start + cell * (float)at + p.step / 2;
    return p;
}

/* The two pixels around a point, and what the second weighs.  False beyond the map. */
static bool around(float x, int32_t len, int32_t at[2], float weight[2])
{
    if (!(x >= -1 && x <= (float)len))
        return false;
    x = fminf(fmaxf(x, 0), (float)(len - 1));
    at[0] = (int32_t)x;
    at[1] = min_i32(at[0] + 1, len - 1);
    weight[1] = x - (float)at[0];
    weight[0] = 1 - weight[1];
    return true;
}

static void add_point(const struct kernel_call *call, float y, float x, float *to)
{
    const int32_t *dim = input_dim(call, 0);
    const int32_t k0 = call->region.lo[CHAN], n = box_len(call->region, CHAN);
    int32_t rows[2], cols[2];
    float row_weight[2], col_weight[2];
    if (!around(y, dim[ROW], rows, row_weight) || !around(x, dim[COL], cols, col_weight))
        return;
    for (int i = 0; i < 4; i++) {
        const float *from = view_at(&call->in[0], rows[i / 2], cols[i % 2], k0);
        const float weight = row_weight[i / 2] * col_weight[i % 2];
        for (int32_t k = 0; k < n; k++)
            to[k] += weight * from[k];
    }
}

static void align_cell(const struct kernel_call *call, int32_t y, int32_t x)
{
    const struct points rows = points_at(call, ROW, y), cols = points_at(call, COL, x);
    const int32_t n = box_len(call->region, CHAN);
    float *to = view_at(&call->out, y, x, call->region.lo[CHAN]);
    for (int32_t k = 0; k < n; k++)
        to[k] = 0;
    for (int32_t i = 0; i < rows.n; i++)
        for (int32_t j = 0; j < cols.n; j++)
            add_point(call, rows.first + rows.step * (float)i, cols.first + cols.step * (float)j,
                      to);
    const float count = (float)max_i32(rows.n * cols.n, 1);
    for (int32_t k = 0; k < n; k++)
        to[k] /= count;
}

void roi_align_run(const struct kernel_call *call)
{
    const struct box *r = &call->region;
    for (int32_t y = r->lo[ROW]; y < r->hi[ROW]; y++)
        for (int32_t x = r->lo[COL]; x < r->hi[COL]; x++)
            align_cell(call, y, x);
    act_region(call);
}
