/* cli/result.h - what a network answered, for people and for programs. */
#ifndef CLI_RESULT_H
#define CLI_RESULT_H

#include <argp.h>
#include <stdbool.h>
#include <stdio.h>

#include "libsplit/exec.h"
#include "libsplit/shape.h"
#include "libsplit/task.h"

enum { RESULT_MAX_TENSORS = 64, RESULT_MAX_TOP = 1000 };

struct result_options {
    int32_t top; /* classes to print, 1..RESULT_MAX_TOP */
    bool json;
    bool raw; /* plain tensors whatever the task */
};

/* --json, --top and --raw; a child parser whose input is a struct result_options. */
extern const struct argp result_argp;

struct result_tensor {
    const char *name;
    struct shape shape;
    const float *values; /* ONNX order */
    const char *file;    /* where it was written, NULL if it was not */
};

/* One input and its answer; everything is borrowed. */
struct result {
    const char *file; /* the input */
    int32_t nclasses;
    const struct task_class *classes; /* of a segmentation: with their shares of the picture */
    bool has_boxes;                   /* a detector answered */
    int32_t nboxes;
    const struct detection *box;
    int32_t ntensors;
    const struct result_tensor *tensor;
    const char *picture;   /* the file it was written to, NULL if there is none */
    const char *class_map; /* the same of a segmentation's map */
    double ms;
    bool from_cluster;              /* which says of the next two: */
    double answer_bytes, concealed; /* see struct client_answer */
    int32_t nnodes;                 /* > 0: what each of them did */
    const struct exec_stats *node;
};

/* Lines of text, or one line of JSON.  Returns 0 or -ENOMEM with `*why`. */
int result_print(const struct result *r, bool json, FILE *to, struct diag *why);

/* Completes `r` with `n` tensors, which are written to folder `dir` (NULL: they are not), and
 * prints it to stdout.  Returns 0 or a negative errno with `*why`. */
int result_give_tensors(struct result r, struct result_tensor *tensor, int32_t n, const char *dir,
                        bool json, struct diag *why);

#endif
