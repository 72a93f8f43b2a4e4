/* cli/local.h - a model file run here, on threads in place of nodes: what run, compare and plan
 * share. */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include <argp.h>
#include <stdbool.h>

#include "daemon/config.h"
#include "libsplit/image.h"
#include "libsplit/npy.h"
#include "libsplit/sidecar.h"
#include "libsplit/split.h"

enum { LOCAL_MAX_INPUTS = 8 };

struct local_options {
    bool counted;                             /* --local or --weights said how many nodes */
    int32_t nodes;                            /* 1..PLAN_MAX_NODES */
    int32_t threads;                          /* of each node; 0 means 1 */
    int32_t nweights, weight[PLAN_MAX_NODES]; /* nweights: 0 or nodes */
    int32_t nshapes;
    struct graph_input shape[LOCAL_MAX_INPUTS]; /* name NULL: the only input */
    enum halo halo;                             /* of what nodes send each other */
    enum plan_policy policy;                    /* what nodes do about values that they lack */
    struct plan_costs costs;                    /* what plans are chosen by; 0: the default */
    /* Of --config, or NULL; owned by the process.  Sessions for all of its nodes leave out those
     * that its coordinator would: see split_fastest(). */
    const struct config *cluster;
    const char *sidecar; /* NULL: the one beside the model */
};

/* --local, --threads, --weights, --halo, --policy, --config, --shape and --sidecar; a child parser
 * whose input is a struct local_options. */
extern const struct argp local_argp;

struct local_model {
    const char *file; /* borrowed */
    struct split_model *split;
    const struct onnx_model *onnx;
    struct sidecar sidecar;
    struct halo_file halo;
    bool has_halo; /* there is one beside the model, and the options look at it */
};

/* Opens model, sidecar and halo file.  Returns 0 or a negative errno with `*why`; local_done() of a
 * zeroed or done model is fine. */
int local_load(struct local_model *m, const char *file, const struct local_options *o,
               struct diag *why);
void local_done(struct local_model *m);

/* The network's input called `name` (NULL: the only one), -EINVAL with a sentence that lists the
 * names. */
int local_input(const struct local_model *m, const char *name, struct diag *why);

/* What goes into one run: a picture, or one tensor for every input of the network. */
struct frame {
    const char *file;     /* the first, borrowed */
    struct image picture; /* as decoded; data is NULL when the inputs are tensors */
    uint8_t *pixels;      /* prepared as the sidecar says; NULL when the inputs are tensors */
    int32_t ninputs;
    struct npy tensor[LOCAL_MAX_INPUTS];
    struct graph_input shape[LOCAL_MAX_INPUTS]; /* of every input, in the network's order */
};

/* Does the model leave an extent of `input` open? */
bool local_is_open(const struct local_model *m, int32_t input);

/* True if `arg` is "NAME=FILE" and the network has an input NAME. */
bool local_is_named(const struct local_model *m, const char *arg);

/* Loads the files of one run: one file, or NAME=FILE for each input.  Returns 0 or a negative
 * errno with `*why`; frame_done() of a zeroed or done frame is fine. */
int frame_load(struct frame *f, const struct local_model *m, const struct local_options *o,
               char *const *arg, int nargs, struct diag *why);
void frame_done(struct frame *f);

/* A session for inputs like those of `f` (NULL: shapes from the model and --shape alone) on
 * `nodes` nodes.  split_close() it. */
int local_open(struct split_session **s, const struct local_model *m, const struct local_options *o,
               int32_t nodes, const struct frame *f, struct diag *why);

/* One array of values per output of the graph. */
struct answer {
    int32_t n;
    float **values; /* values[i]: ONNX order, owned */
};

/* Runs `f` in a session that was opened for its shapes.  `stats` is NULL or [nodes].  Returns 0 or
 * a negative errno with `*why`; answer_done() of a zeroed or done answer is fine. */
int frame_run(struct answer *a, const struct frame *f, struct split_session *s,
              struct exec_stats *stats, struct diag *why);
void answer_done(struct answer *a);

#endif
