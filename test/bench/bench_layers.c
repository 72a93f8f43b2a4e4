/* Where the time of a network goes: every operator's time, GFLOP/s, and share of this core's
 * measured peak of multiply-adds.
 *
 *     bench_layers MODEL.onnx [PASSES, default 20]
 *
 * Operators run one after the other as in a frame, so caches hold what they would hold; the
 * smallest of PASSES times counts.  Convolutions also run in every other way that fits them, in
 * the same pass, so that choices can be judged.  SPLITD_SIMD=avx2 and the like pick an instruction
 * set. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libsplit/conv.h"
#include "libsplit/graph.h"
#include "libsplit/kernel.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of the fastest micro-kernel on data in the nearest cache. */
static double peak_gflops(const struct simd *simd)
{
    enum { DEPTH = 256, RUNS = 2000 };
    static float in[SIMD_MAX_PIXELS * DEPTH], w[SIMD_MAX_VECTORS * SIMD_MAX_WIDTH * DEPTH];
    static float out[SIMD_MAX_PIXELS * SIMD_MAX_VECTORS * SIMD_MAX_WIDTH];
    double best = 0;
    for (int repeat = 0; repeat < 10; repeat++)
        for (int32_t v = 2; v <= SIMD_MAX_VECTORS; v++) {
            const int32_t pixels = simd->pixels[v] > 8 ? 8 : simd->pixels[v];
            const struct simd_block b = { .rows = 1,
                                          .runs = 1,
                                          .len = DEPTH,
                                          .in_pixel = DEPTH,
                                          .out_pixel = (ptrdiff_t)v * simd->width,
                                          .last = simd->width };
            const double start = now();
            for (int i = 0; i < RUNS; i++)
                simd->block[v][pixels](&b, in, w, out, NULL, NULL);
            const double flops = 2.0 * DEPTH * v * simd->width * pixels * RUNS;
            const double gflops = 1e-9 * flops / (now() - start);
            best = gflops > best ? gflops : best;
        }
    return best;
}

/* A whole network in memory, every tensor in its own block. */
struct network {
    struct onnx_model model;
    struct graph g;
    struct geometry geo;
    float **tensor;
    float *scratch;
    struct layer *layer; /* [nops] */
};

/* Ways to compute a convolution, in the order of the columns. */
static const struct conv_method *const ways[] = { &conv_direct,    &conv_winograd12,
                                                  &conv_winograd2, &conv_winograd24,
                                                  &conv_winograd4, &conv_depthwise,
                                                  &conv_gemm };
enum { WAYS = sizeof(ways) / sizeof(*ways) };

struct layer {
    double best;          /* seconds, as a frame would run it */
    void *packed[WAYS];   /* of the other ways; NULL where one does not fit */
    double best_of[WAYS]; /* seconds */
};

static struct view view_of(const struct network *n, int32_t t)
{
    const struct tensor *x = &n->g.tensor[t];
    const ptrdiff_t pixel = x->dim[CHAN], row = pixel * x->dim[COL];
    return (struct view){ .data = n->tensor[t],
                          .box = box_whole(x->dim),
                          .row_stride = row,
                          .pixel_stride = pixel,
                          .image_stride = row * x->dim[ROW] };
}

/* `way` < 0: as a frame would run it. */
static void run_op(const struct network *n, int32_t i, int way)
{
    const struct op *op = &n->g.op[i];
    struct view in[OP_MAX_INPUTS];
    for (int32_t k = 0; k < op->ninputs; k++)
        in[k] = view_of(n, op->input[k]);
    const struct box whole = box_whole(n->g.tensor[op->output].dim);
    const struct kernel_call call = {
        .graph = &n->g,
        .op = op,
        .in = in,
        .out = view_of(n, op->output),
        .region = whole,
        .share = op->type == OP_PARTIAL ? box_whole(n->g.tensor[op->input[0]].dim) : box_none(),
        .nodes = 1,
        .scratch = n->scratch,
    };
    if (way < 0) {
        kernels[op->type].run(&call);
        return;
    }
    const struct conv c = conv_of(&n->g, op);
    ways[way]->run(&c, simd_best(), n->layer[i].packed[way], &call);
}

static double time_of(const struct network *n, int32_t i, int way)
{
    const double start = now();
    run_op(n, i, way);
    return now() - start;
}

/* Lays out the weights of convolution `i` for every way; returns the most scratch. */
static size_t prepare_ways(struct network *n, int32_t i)
{
    const struct conv c = conv_of(&n->g, &n->g.op[i]);
    const struct simd *simd = simd_best();
    size_t most = 0;
    for (int w = 0; w < WAYS; w++) {
        if (!ways[w]->fits(&c) || ways[w]->prepare(&c, simd, &n->layer[i].packed[w]))
            continue;
        const size_t bytes = ways[w]->scratch_bytes(&c, simd);
        most = bytes > most ? bytes : most;
        n->layer[i].best_of[w] = 1e9;
    }
    return most;
}

static int network_open(struct network *n, const char *file, struct diag *why)
{
    if (onnx_open(&n->model, file, why))
        return -1;
    if (graph_build(&n->g, &n->model, NULL, 0, why) || graph_pack(&n->g, NULL, why) ||
        graph_geometry(&n->g, 1, &n->geo))
        return -1;
    n->tensor = calloc((size_t)n->g.ntensors + 1, sizeof(*n->tensor));
    n->layer = calloc((size_t)n->g.nops + 1, sizeof(*n->layer));
    if (!n->tensor || !n->layer)
        return -1;
    for (int32_t t = 0; t < n->g.ntensors; t++) {
        struct tensor *x = &n->g.tensor[t];
        memcpy(x->dim, n->geo.tensor[t].dim, sizeof(x->dim));
        const size_t bytes = (size_t)box_values(box_whole(x->dim)) * sizeof(float);
        n->tensor[t] = aligned_alloc(64, (bytes + 127) / 64 * 64);
        if (!n->tensor[t])
            return -1;
        for (size_t v = 0; v < bytes / sizeof(float); v++)
            n->tensor[t][v] = (float)(v % 255) / 255 - 0.5F;
    }
    size_t most = 0;
    for (int32_t i = 0; i < n->g.nops; i++) {
        const struct kernel *k = &kernels[n->g.op[i].type];
        const size_t bytes = k->scratch_bytes ? k->scratch_bytes(&n->g, &n->g.op[i]) : 0;
        most = bytes > most ? bytes : most;
        n->layer[i].best = 1e9;
        if (n->g.op[i].type == OP_CONV) {
            const size_t more = prepare_ways(n, i);
            most = more > most ? more : most;
        }
    }
    n->scratch = aligned_alloc(64, (most + 127) / 64 * 64);
    return n->scratch ? 0 : -1;
}

static void network_close(struct network *n)
{
    for (int32_t t = 0; n->tensor && t < n->g.ntensors; t++)
        free(n->tensor[t]);
    for (int32_t i = 0; n->layer && i < n->g.nops; i++)
        for (int w = 0; w < WAYS; w++)
            if (n->layer[i].packed[w])
                ways[w]->release(n->layer[i].packed[w]);
    free(n->tensor);
    free(n->layer);
    free(n->scratch);
    geometry_done(&n->geo);
    graph_done(&n->g);
    onnx_close(&n->model);
}

/* "conv 3x3/2 64-128 depthwise": what the operator is and how it is computed. */
static void describe(const struct network *n, const struct op *op, const struct simd *simd,
                     char *to, size_t size)
{
    const struct tensor *in = &n->g.tensor[op->input[0]], *out = &n->g.tensor[op->output];
    if (op->type != OP_CONV) {
        snprintf(to, size, "%-14s %4d        @%d", op_type_name(op->type), out->dim[CHAN],
                 out->dim[ROW]);
        return;
    }
    const struct conv c = conv_of(&n->g, op);
    snprintf(to, size, "%-9s %dx%d/%d %4d-%-4d @%d%s", conv_choose(&c, simd)->name,
             c.win.kernel[ROW], c.win.kernel[COL], c.win.stride[ROW], in->dim[CHAN], out->dim[CHAN],
             out->dim[ROW], op->ninputs > 1 ? " + add" : "");
}

int main(int argc, char **argv)
{
    struct diag why = { { 0 } };
    struct network n = { 0 };
    const int passes = argc > 2 ? atoi(argv[2]) : 20;
    if (argc < 2 || network_open(&n, argv[1], &why)) {
        fprintf(stderr, "bench_layers: %s\n", argc < 2 ? "which model?" : why.text);
        network_close(&n);
        return 1;
    }
    const struct simd *simd = simd_best();
    const double peak = peak_gflops(simd);
    double whole = 1e9;
    for (int pass = 0; pass < passes; pass++) {
        double sum = 0;
        for (int32_t i = 0; i < n.g.nops; i++) {
            struct layer *l = &n.layer[i];
            const double took = time_of(&n, i, -1);
            l->best = took < l->best ? took : l->best;
            sum += took;
            for (int w = 0; w < WAYS; w++) {
                const double other = l->packed[w] ? time_of(&n, i, w) : 1e9;
                l->best_of[w] = other < l->best_of[w] ? other : l->best_of[w];
            }
        }
        whole = sum < whole ? sum : whole;
    }
    printf("%s, peak %.1f GFLOP/s\n", simd->name, peak);
    double sum = 0, flops = 0;
    for (int32_t i = 0; i < n.g.nops; i++) {
        char what[96];
        describe(&n, &n.g.op[i], simd, what, sizeof(what));
        const double macs = (double)n.geo.op[i].macs, gflops = 2e-9 * macs / n.layer[i].best;
        printf("%-44s %8.3f ms  %6.1f GFLOP/s  %4.0f %%", what, 1e3 * n.layer[i].best, gflops,
               100 * gflops / peak);
        for (int w = 0; w < WAYS; w++)
            if (n.layer[i].packed[w])
                printf("  %s %.3f", ways[w]->name, 1e3 * n.layer[i].best_of[w]);
        printf("\n");
        sum += n.layer[i].best;
        flops += 2 * macs;
    }
    printf("%-44s %8.3f ms  %6.1f GFLOP/s  %4.0f %%\n", "sum of the smallest", 1e3 * sum,
           1e-9 * flops / sum, 1e-7 * flops / sum / peak);
    printf("%-44s %8.3f ms\n", "smallest whole pass", 1e3 * whole);
    network_close(&n);
    return 0;
}
