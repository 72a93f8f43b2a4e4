/* libsplit/split.h - the public API: run a CNN on N virtual nodes of this process.
 *
 *     struct split_model *m;
 *     struct split_session *s;
 *     split_load(&m, "resnet18.onnx", &why);
 *     split_open(&s, m, &(struct split_options){ .nodes = 4 }, &why);
 *     split_run(s, &image, &answer, NULL, &why);
 *
 * The same engine, plans and programs as the daemon's, with threads in place of machines.
 * Every function returns 0 or a negative errno and then a sentence in `*why`. */
#ifndef LIBSPLIT_SPLIT_H
#define LIBSPLIT_SPLIT_H

#include <stdio.h>

#include "libsplit/diag.h"
#include "libsplit/exec.h"
#include "libsplit/fastest.h"
#include "libsplit/graph.h"
#include "libsplit/halo_file.h"
#include "libsplit/sidecar.h"
#include "tiling/plan.h"

struct split_model;   /* an ONNX file; shared by any number of sessions */
struct split_session; /* a model, its input shapes, a plan, N nodes */

struct split_options {
    int32_t nodes;                    /* 0 means 1 */
    int32_t threads;                  /* of each node, 1..POOL_MAX_THREADS; 0 means 1 */
    const int32_t *weights;           /* [nodes] relative speeds; NULL: equal */
    const struct graph_input *inputs; /* extents that the model leaves open; may be NULL */
    int32_t ninputs;
    const struct codec_pixels *pixels; /* needed by split_run_pixels() */
    enum halo halo;                    /* of what nodes send each other; 0 is exact */
    /* The model's calibration, needed by HALO_TQ and HALO_VIDEO; kept.  NULL: none. */
    const struct halo_file *halo_file;
    enum plan_policy policy; /* what nodes do about values that they lack */
    struct plan_costs costs; /* what plans are chosen by; 0: the default */
    uint32_t busy;           /* a bit for each node that has other work, too: plan_options.busy */
    /* Nodes without which a frame is estimated to take less are left out, as a coordinator does, as
     * long as so many stay; 0: all nodes take part. */
    int32_t least;
    /* Whose task wants some outputs in whole pixels (libsplit/answer.h); NULL: nobody's. */
    const struct sidecar *sidecar;
};

int split_load(struct split_model **m, const char *file, struct diag *why);
void split_unload(struct split_model *m); /* after its sessions are closed */
const struct onnx_model *split_onnx(const struct split_model *m);

int split_open(struct split_session **s, const struct split_model *m, const struct split_options *o,
               struct diag *why);
void split_close(struct split_session *s);

/* Which of the nodes asked for take part, as nodes 0 .. split_plan()->nodes - 1; with estimates
 * where fewer than all may. */
const struct fastest *split_fastest(const struct split_session *s);
const struct graph *split_graph(const struct split_session *s);
const struct plan *split_plan(const struct split_session *s);
/* What the plan was built from. */
const struct plan_options *split_plan_options(const struct split_session *s);
const struct program *split_program(const struct split_session *s, int32_t node);

/* Bytes that an open session holds; it takes nothing more while frames run. */
struct split_memory {
    int64_t weights;     /* as kernels want them, once for all nodes */
    int64_t activations; /* of all nodes, with the scratch of their threads */
    int64_t messages;    /* with the outputs of a frame */
};
struct split_memory split_memory(const struct split_session *s);

/* Runs one frame; a session runs one at a time.  `inputs[i]` holds the values of graph.input[i] and
 * `outputs[i]` receives those of graph.output[i], both in ONNX's row-major order.  `stats` is NULL
 * or [nodes]. */
int split_run(struct split_session *s, const float *const *inputs, float *const *outputs,
              struct exec_stats *stats, struct diag *why);
/* The same for a network with one input, from the bytes of a picture (rows, columns, channels). */
int split_run_pixels(struct split_session *s, const uint8_t *pixels, float *const *outputs,
                     struct exec_stats *stats, struct diag *why);

/* With HALO_VIDEO: the next frame does not continue the last. */
void split_forget(struct split_session *s);

/* From the next frame on, a session records what its nodes do and when; split_trace_write() writes
 * the last frame as libsplit/trace_write.h describes. */
int split_trace(struct split_session *s, struct diag *why);
int split_trace_write(const struct split_session *s, FILE *to, struct diag *why);

#endif
