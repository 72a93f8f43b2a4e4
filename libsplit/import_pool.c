/* Pooling. */
#include "libsplit/import.h"

#include <errno.h>

static int import_pool(struct import *im, enum op_type type)
{
    struct value x;
    struct window_attrs w;
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_only_outputs(im, 1);
    if (rc == 0)
        rc = import_window(im, &x.shape, NULL, type == OP_MAX_POOL, &w);
    if (rc == 0)
        rc = import_lay_usual(im, &x);
    if (rc)
        return rc;
    for (int32_t i = 0; i < w.axes; i++) {
        const int64_t span = ((int64_t)w.win.kernel[i] - 1) * w.win.dilation[i] + 1;
        if (w.win.pad[i] >= span || w.win.pad_end[i] >= span)
            return refuse(im, -EINVAL, "padding of %d and %d for a kernel that spans %lld",
                          w.win.pad[i], w.win.pad_end[i], (long long)span);
    }
    struct op op = { .type = type };
    op.u.pool.win = w.win;
    op.u.pool.count_include_pad = onnx_attr_int(im->node, "count_include_pad", 0) != 0;
    struct shape out = x.shape;
    for (int32_t i = 0; i < w.axes; i++)
        out.dim[2 + i] = w.out[i];
    return import_simple(im, &op, &x, &out);
}

int import_max_pool(struct import *im) { return import_pool(im, OP_MAX_POOL); }
int import_average_pool(struct import *im) { return import_pool(im, OP_AVERAGE_POOL); }

static int import_global(struct import *im, enum reduce_kind kind)
{
    struct value x;
    int rc = import_tensor(im, 0, &x);
    if (rc)
        return rc;
    if (x.shape.rank < 3)
        return refuse(im, -EINVAL, "an input with %d axes has no space", x.shape.rank);
    rc = import_lay_usual(im, &x);
    if (rc == 0) /* all axes but batch and channels */
        rc = import_reduced(im, kind, &x, (1u << x.shape.rank) - 4);
    return rc ? rc : import_define(im, 0, &x);
}

int import_global_average_pool(struct import *im) { return import_global(im, REDUCE_MEAN); }
int import_global_max_pool(struct import *im) { return import_global(im, REDUCE_MAX); }
