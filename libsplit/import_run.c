/* Operators on constants alone, that no function of import_fold.c knows: their importer makes a
 * graph without inputs, which runs once, in this thread. */
#include "libsplit/import.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "libsplit/kernel.h"

/* Multiply-adds that a small file can make us do while it is loaded. */
#define MAX_MACS ((int64_t)1 << 30)

/* The graph's tensors, whole, on one node. */
struct workspace {
    struct graph *graph;
    struct geometry geo;
    float **value; /* [ntensors] */
    float *scratch;
};

static int64_t tensor_values(const struct workspace *w, int32_t t)
{
    return box_values(geometry_whole(&w->geo, t)) * w->geo.tensor[t].batch;
}

static struct view view_of(const struct workspace *w, int32_t t, int32_t image)
{
    const int32_t *dim = w->geo.tensor[t].dim;
    const ptrdiff_t row = (ptrdiff_t)dim[COL] * dim[CHAN], whole = row * dim[ROW];
    return (struct view){ .data = w->value[t] + image * whole,
                          .box = box_whole(dim),
                          .row_stride = row,
                          .pixel_stride = dim[CHAN],
                          .image_stride = whole };
}

static void run_operator(const struct workspace *w, const struct op *op)
{
    struct view in[OP_MAX_INPUTS];
    const int32_t batch = w->geo.tensor[op->output].batch;
    struct kernel_call call = { .graph = w->graph,
                                .op = op,
                                .in = in,
                                .region = geometry_whole(&w->geo, op->output),
                                .nodes = 1,
                                .scratch = w->scratch };
    if (op->type == OP_PARTIAL)
        call.share = geometry_whole(&w->geo, op->input[0]);
    for (call.image = 0; call.image < batch; call.image++) {
        for (int32_t i = 0; i < op->ninputs; i++) {
            const bool follows =
                op->type != OP_RESHAPE && w->geo.tensor[op->input[i]].batch == batch;
            in[i] = view_of(w, op->input[i], follows ? call.image : 0);
        }
        call.out = view_of(w, op->output, call.image);
        kernels[op->type].run(&call);
    }
}

/* Refuses work that is out of proportion, and finds the most scratch that an operator wants. */
static int measure(struct import *im, const struct workspace *w, size_t *scratch)
{
    int64_t macs = 0, bytes = 0;
    *scratch = 0;
    for (int32_t i = 0; i < w->graph->nops; i++) {
        const struct op *op = &w->graph->op[i];
        const struct kernel *k = &kernels[op->type];
        const size_t wanted = k->scratch_bytes ? k->scratch_bytes(w->graph, op) : 0;
        *scratch = wanted > *scratch ? wanted : *scratch;
        /* Below 2^31 values, and 2^62 before it overflows. */
        bytes += tensor_values(w, op->output) * (int64_t)sizeof(float);
        if (w->geo.op[i].macs > MAX_MACS)
            return refuse(im, -EINVAL, "too much to compute at load");
        macs += w->geo.op[i].macs * w->geo.tensor[op->output].batch;
        if (macs > MAX_MACS || bytes > im->spare_bytes || *scratch > (size_t)im->spare_bytes)
            return refuse(im, -EINVAL, "too much to compute at load");
    }
    return 0;
}

static int run_graph(struct import *im, struct workspace *w)
{
    size_t scratch;
    int rc = graph_geometry(w->graph, 1, &w->geo);
    if (rc)
        return import_no_memory(im);
    if ((rc = measure(im, w, &scratch)))
        return rc;
    if ((rc = graph_pack(w->graph, NULL, im->why)))
        return rc;
    w->value = calloc((size_t)w->graph->ntensors + 1, sizeof(*w->value));
    w->scratch = aligned_alloc(64, (scratch + 64) / 64 * 64);
    if (!w->value || !w->scratch)
        return import_no_memory(im);
    for (int32_t i = 0; i < w->graph->nops; i++) {
        const struct op *op = &w->graph->op[i];
        w->value[op->output] = calloc((size_t)tensor_values(w, op->output) + 1, sizeof(float));
        if (!w->value[op->output])
            return import_no_memory(im);
        run_operator(w, op);
    }
    return 0;
}

static void workspace_done(struct workspace *w)
{
    for (int32_t i = 0; w->value && i < w->graph->ntensors; i++)
        free(w->value[i]);
    free(w->value);
    free(w->scratch);
    geometry_done(&w->geo);
    graph_unpack(w->graph);
}

static bool takes_floats(const struct import *im)
{
    for (int32_t i = 0; i < im->node->ninputs; i++) {
        const struct value *v = import_input(im, i);
        if (v && onnx_type_is_float(v->constant->type))
            return true;
    }
    return false;
}

static int to_integers(struct import *im, const float *from, int64_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(from[i]) <= (float)IMPORT_MAX_EXACT) || from[i] != rintf(from[i]))
            return refuse(im, -ENOTSUP, "of integers");
        to[i] = (int64_t)from[i];
    }
    return 0;
}

/* The constant that `v`, a tensor of the workspace, is. */
static int make_constant(struct import *im, const struct workspace *w, struct value *v)
{
    /* Integers stay integers, so that they can be shapes. */
    const bool floats = !v->integer && takes_floats(im);
    int64_t n = shape_values(&v->shape);
    struct onnx_tensor *t = store_array(&im->store, 1, sizeof *t);
    float *values = NULL;
    int64_t *integers = NULL;
    if (!t)
        return import_no_memory(im);
    int rc = import_array(im, n, sizeof *values, &values);
    if (rc == 0)
        shape_to_onnx(&v->shape, values, w->value[v->tensor]);
    const struct port port = { v->name, v->tensor, v->shape, v->found != 0 };
    if (rc == 0) {
        v->shape = port_shape(&port, values);
        n = shape_values(&v->shape);
    }
    if (rc == 0 && !floats)
        rc = import_array(im, n, sizeof *integers, &integers);
    if (rc == 0 && !floats)
        rc = to_integers(im, values, integers, n);
    if (rc)
        return rc;
    *t = (struct onnx_tensor){ .name = v->name,
                               .type = floats ? ONNX_FLOAT : ONNX_INT64,
                               .rank = v->shape.rank,
                               .count = n,
                               .data = floats ? (const void *)values : integers,
                               .bytes = (size_t)n * (floats ? sizeof *values : sizeof *integers) };
    for (int32_t i = 0; i < t->rank; i++)
        t->dim[i] = v->shape.dim[i];
    v->constant = t;
    v->tensor = -1;
    v->found = 0;
    v->shape = shape_make(v->shape.rank, v->shape.dim);
    return 0;
}

int fold_by_running(struct import *im, import_fn run)
{
    struct graph graph = { .model = im->model };
    struct workspace w = { .graph = &graph };
    const int32_t first = im->nvalues;
    struct import inner = *im;
    inner.graph = &graph;
    inner.op_cap = inner.tensor_cap = 0;
    int rc = run(&inner);
    im->store = inner.store;
    im->nvalues = inner.nvalues;
    im->spare_bytes = inner.spare_bytes;
    if (rc == 0)
        rc = run_graph(im, &w);
    if (rc == 0)
        rc = import_follow(&inner);
    for (int32_t i = first; i < im->nvalues && rc == 0; i++)
        if (!im->value[i].constant)
            rc = make_constant(im, &w, &im->value[i]);
    workspace_done(&w);
    return rc;
}
