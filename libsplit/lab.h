/* libsplit/lab.h - a cluster in this process on which recipes are tried out.
 *
 * It runs a network as split_open() would, but how each exchanged tensor travels can change from
 * frame to frame, bytes between nodes are counted as they would be on a wire, and messages of
 * exact frames can be kept as samples.  For calibration; allocates as it goes. */
#ifndef LIBSPLIT_LAB_H
#define LIBSPLIT_LAB_H

#include "libsplit/diag.h"
#include "libsplit/graph.h"
#include "libsplit/recipes.h"
#include "tiling/plan.h"

struct lab;

struct lab_options {
    const struct onnx_model *onnx;
    const struct graph_input *inputs; /* extents that the model leaves open */
    int32_t ninputs;
    const struct codec_pixels *pixels; /* NULL: inputs are tensors */
    int32_t nodes;
    enum plan_policy policy;
    struct plan_costs costs;
    int32_t head_bytes; /* of a message, to be counted with it */
    bool video;         /* messages may build on those of the frame before */
    enum halo plain;    /* but HALO_F32: everything travels so, and no tensor takes a recipe */
};

/* Returns 0 or a negative errno with `*why`. */
int lab_open(struct lab **l, const struct lab_options *o, struct diag *why);
void lab_close(struct lab *l);
const struct graph *lab_graph(const struct lab *l);

/* ---- The tensors that nodes exchange, numbered from 0 */

struct lab_tensor {
    int32_t tensor;   /* in the graph */
    const char *name; /* of the operator that yields it */
    int32_t channels;
    int32_t messages; /* a frame */
    int64_t places;   /* values of a frame's messages, per channel */
    bool is_halo;     /* else a sum or a tensor of one row */
};
int32_t lab_tensors(const struct lab *l);
const struct lab_tensor *lab_tensor(const struct lab *l, int32_t i);

/* From the next frame on tensor `i` travels by `r`, which is kept; NULL: exactly. */
void lab_use(struct lab *l, int32_t i, const struct recipe *r);

/* ---- Frames */

/* One input of a network: a picture, or the values of every input. */
struct lab_input {
    const uint8_t *pixels;
    const float *const *values;
};

/* Runs a frame.  Its outputs are lab_output() until the next. */
int lab_run(struct lab *l, const struct lab_input *in, struct diag *why);
/* Values of output `i`, in ONNX's order. */
const float *lab_output(const struct lab *l, int32_t i, int64_t *count);
/* Of the last frame between nodes, heads included. */
int64_t lab_bytes(const struct lab *l);
/* The next frame builds on none before. */
void lab_forget(struct lab *l);

/* ---- Samples */

/* A message as it was sent exactly: dense rows, columns, channels. */
struct lab_sample {
    struct grid grid;
    size_t first;   /* channel of the tensor */
    int32_t source; /* transfer of the plan */
    int32_t frame;  /* since lab_keep(), from 0 */
    float *values;
};

/* Keeps messages of the next frames, which must be exact, up to about `places` values per channel
 * and tensor out of `frames` frames.  Those kept before are forgotten. */
void lab_keep(struct lab *l, int64_t places, int32_t frames);
void lab_stop(struct lab *l); /* keeps no more */
const struct lab_sample *lab_samples(const struct lab *l, int32_t i, int32_t *count);
/* Memory ran out while messages were kept. */
bool lab_is_full(const struct lab *l);

#endif
