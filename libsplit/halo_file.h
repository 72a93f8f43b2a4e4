/* libsplit/halo_file.h - model.halo.json beside model.onnx: how calibrated tensors travel.
 *
 *   { "model": "9f86d0...",        SHA-256 of the .onnx file
 *     "recipes": "60303a...",      SHA-256 of all recipes as bytes (quant/recipe.h)
 *     "nodes": 4,                  how many it was calibrated for
 *     "budget": "0.5%",            what was asked for
 *     "measured": {                on inputs that nothing was chosen by
 *       "inputs": 100,
 *       "bytes": 8211.5,           between nodes for a frame, headers included
 *       "dense_bytes": 211902,     the same with "f32"
 *       "error": 0.093,            of the outputs, relative to one node's
 *       "agreement": 0.97,         answers that stayed the same; null where there are no classes
 *       "drop": 0.3,               points of accuracy (pictures: dB) lost; null without labels
 *       "drop_error": 0.2 },       its standard error
 *     "within": ["q8"],            of "q8" and "q4" what costs these inputs no more than the budget
 *                                  either; files without it: unknown, so none
 *     "tensors": [ {
 *       "tensor": 12,              in the network as this version of splitd reads it
 *       "operator": "conv1",       that yields it
 *       "channels": 16,
 *       "t": 0.31, "step": 0.52,   threshold and step, in units of the tensor
 *       "gain": 1.1,
 *       "signed": false,           values below 0 have levels too
 *       "soft": false,             t is not added back
 *       "drop": false,             nothing is sent
 *       "bytes": 512.3,            for a frame, headers included, all nodes
 *       "error": 0.031,            of the outputs, from this tensor alone
 *       "rest": [0.1, ...],        per channel: what a level of 0 becomes; or null
 *       "contexts": "base64",      quant/context.h; or null: gamma codes
 *       "video": "base64" } ] }    the same with the previous frame; or null
 *
 * Written by splitctl calibrate (or by training), read by whoever plans.  A file that is damaged,
 * of another model or of another version is an error that says so. */
#ifndef LIBSPLIT_HALO_FILE_H
#define LIBSPLIT_HALO_FILE_H

#include "libsplit/diag.h"
#include "libsplit/graph.h"
#include "libsplit/recipes.h"
#include "tiling/halo.h"

enum { HALO_SHA_BYTES = 32, HALO_BUDGET_MAX = 31 };

struct halo_tensor {
    int32_t tensor;
    char *name; /* of the operator that yields it; owned */
    struct recipe recipe;
    double bytes, error;
};

struct halo_measure {
    int32_t inputs;
    double bytes, dense_bytes;
    double error;
    double agreement, drop, drop_error; /* NAN: unknown */
};

struct halo_file {
    uint8_t model[HALO_SHA_BYTES];
    int32_t nodes;
    char budget[HALO_BUDGET_MAX + 1];
    struct halo_measure measured;
    uint32_t within; /* halo_bit() of HALO_Q8, HALO_Q4 */
    int32_t ntensors;
    struct halo_tensor *tensor; /* owned */
};

/* "dir/resnet.onnx" -> "dir/resnet.halo.json"; -ENAMETOOLONG if `cap` bytes are too few. */
int halo_file_path(const char *onnx_file, char *path, size_t cap);

/* The SHA-256 of a model's file. */
void halo_file_model(const struct onnx_model *m, uint8_t sha[HALO_SHA_BYTES]);

/* Reads `file`, which must be for the model `sha`.  Returns 0, an error of open(2), -EINVAL (a
 * field is missing, unknown or out of range), -EBADMSG (damaged), -ESTALE (of another model) or
 * -ENOMEM; halo_file_done() frees. */
int halo_file_load(struct halo_file *f, const char *file, const uint8_t sha[HALO_SHA_BYTES],
                   struct diag *why);
int halo_file_parse(struct halo_file *f, const char *json, size_t len, const char *file,
                    const uint8_t sha[HALO_SHA_BYTES], struct diag *why);
int halo_file_save(const struct halo_file *f, const char *file, struct diag *why);
void halo_file_done(struct halo_file *f);

/* What a plan needs to know: how each tensor of a graph travels between nodes. */
struct halo_choice {
    enum halo mode;         /* with HALO_AUTO: what it means here */
    struct recipes recipes; /* of the file's tensors, which it borrows */
    uint8_t *tensor_halo;   /* [ntensors] enum halo, for plan_options */
};

/* How tensors without a recipe travel when the others do by `mode`: exactly if they are inputs of
 * the network or graph_exact(), which have no recipes ever; as halves beside recipes, so that a
 * plan costs the same whatever was chosen to have one; else by `mode` if they are halos.  Fills
 * `tensor_halo`, [g->ntensors].  Returns 0 or -ENOMEM. */
int halo_plain(const struct graph *g, enum halo mode, uint8_t *tensor_halo);

/* Chooses by `mode`, where HALO_AUTO is HALO_TQ with a file and HALO_F32 without: HALO_TQ and
 * HALO_VIDEO need a file; what it does not name travels by halo_plain().  Of the other modes
 * HALO_DROP takes from the file, if there is one, what a dropped halo reads as. `f` may be NULL and
 * stays borrowed.  Returns 0, -EINVAL (no file), -ESTALE (a tensor is not what the file says, or
 * graph_exact(): another version) or -ENOMEM; halo_choice_done() of zeros is fine. */
int halo_choose(struct halo_choice *c, const struct halo_file *f, const struct graph *g,
                enum halo mode, struct diag *why);
void halo_choice_done(struct halo_choice *c);

#endif
