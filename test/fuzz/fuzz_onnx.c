/* ONNX files: whatever is accepted must make a graph whose geometry, plan and programs hold, and
 * no file of a few hundred KB may make the loader ask for more than scripts/fuzz allows in one
 * piece (64 MB). */
#include <stdint.h>
#include <stdlib.h>

#include "libsplit/graph.h"
#include "tiling/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NODES = 3 };

static void check_plan(const struct graph *g)
{
    struct geometry geo;
    struct plan plan;
    const struct plan_options o = { .nodes = NODES, .weight = { 1, 1, 1 } };
    if (graph_geometry(g, NODES, &geo) != 0)
        return; /* out of memory */
    if (geometry_check(&geo) != 0)
        abort();
    if (plan_build(&plan, &geo, &o) == 0) {
        if (plan_check(&plan, NULL) != 0)
            abort();
        for (int32_t n = 0; n < NODES; n++) {
            struct program pr;
            if (program_compile(&pr, &plan, n) != 0)
                continue;
            if (program_check(&pr, &geo, NULL) != 0)
                abort();
            program_done(&pr);
        }
        plan_done(&plan);
    }
    geometry_done(&geo);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct onnx_model m;
    struct graph g;
    struct diag why;

    if (onnx_decode(&m, data, size, "fuzz.onnx", &why) != 0)
        return 0;
    if (graph_build(&g, &m, NULL, 0, &why) == 0) {
        check_plan(&g);
        graph_done(&g);
    }
    onnx_close(&m);
    return 0;
}
