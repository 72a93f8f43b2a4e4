#include "libsplit/graph.h"

#include <errno.h>
#include <math.h>

#include "libsplit/conv.h"
#include "libsplit/import.h"
#include "libsplit/kernel.h"
#include "libsplit/passes.h"
#include "libsplit/store.h"

const char *op_type_name(enum op_type t)
{
    static const char *const name[OP_TYPES] = {
        [OP_CONV] = "Conv",
        [OP_CONV_TRANSPOSE] = "ConvTranspose",
        [OP_MAX_POOL] = "MaxPool",
        [OP_AVERAGE_POOL] = "AveragePool",
        [OP_AFFINE] = "Affine",
        [OP_ACTIVATION] = "Activation",
        [OP_BINARY] = "Binary",
        [OP_CONCAT] = "Concat",
        [OP_SLICE] = "Slice",
        [OP_PAD] = "Pad",
        [OP_DEPTH_TO_SPACE] = "DepthToSpace",
        [OP_SOFTMAX] = "Softmax",
        [OP_PARTIAL] = "Partial",
        [OP_COMBINE] = "Combine",
        [OP_RESHAPE] = "Reshape",
        [OP_RESIZE] = "Resize",
        [OP_CONSTANT] = "Constant",
        [OP_REDUCE] = "Reduce",
        [OP_MATMUL] = "MatMul",
        [OP_WHERE] = "Where",
        [OP_LRN] = "LRN",
        [OP_SPACE_TO_DEPTH] = "SpaceToDepth",
        [OP_TOP_K] = "TopK",
        [OP_GATHER] = "Gather",
        [OP_NMS] = "NonMaxSuppression",
        [OP_MAX_UNPOOL] = "MaxUnpool",
        [OP_GRID_SAMPLE] = "GridSample",
        [OP_ROI_ALIGN] = "RoiAlign",
    };
    return (unsigned)t < OP_TYPES ? name[t] : "?";
}

static bool all_nan(const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isnan(values[i]))
            return false;
    return true;
}

struct shape port_shape(const struct port *p, const float *values)
{
    struct shape s = p->shape;
    if (!p->found)
        return s;
    const int64_t row = shape_values(&s) / s.dim[0];
    while (s.dim[0] > 0 && all_nan(values + (s.dim[0] - 1) * row, row))
        s.dim[0]--;
    return s;
}

int graph_build(struct graph *g, const struct onnx_model *m, const struct graph_input *inputs,
                int32_t ninputs, struct diag *why)
{
    struct graph made = { .model = m };
    struct import im = { .model = m, .graph = &made, .why = why };
    int rc = import_model(&im, inputs, ninputs);
    made.store = im.store;
    if (rc == 0 && (rc = passes_run(&made)) < 0)
        diag(why, rc, "%s: out of memory", m->file);
    if (rc < 0) {
        graph_done(&made);
        return rc;
    }
    *g = made;
    rc = conv_choose_all(g, NULL, conv_budget());
    if (rc < 0) {
        diag(why, rc, "%s: out of memory", m->file);
        graph_done(g);
    }
    return rc;
}

void graph_done(struct graph *g)
{
    graph_unpack(g);
    struct store *store = g->store;
    store_free(&store);
    *g = (struct graph){ .model = NULL };
}

static const char *op_name(const void *ctx, int32_t op)
{
    const struct graph *g = ctx;
    return op >= 0 && op < g->nops ? g->op[op].name : NULL;
}

static const char *tensor_name(const void *ctx, int32_t tensor)
{
    const struct graph *g = ctx;
    return tensor >= 0 && tensor < g->ntensors ? g->tensor[tensor].name : NULL;
}

struct program_names graph_names(const struct graph *g)
{
    return (struct program_names){ .op = op_name, .tensor = tensor_name, .ctx = g };
}
