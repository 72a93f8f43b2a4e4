/* cli/target.h - the model of a server that a command asks, and the file that it sends: what infer
 * and trace share. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "cli/client.h"
#include "libsplit/npy.h"
#include "libsplit/sidecar.h"

enum { TARGET_NAME_MAX = 255 };

struct target {
    struct client *client;
    const char *wanted;              /* the caller's choice, borrowed; NULL: the only model */
    bool raw;                        /* whatever its task is */
    char model[TARGET_NAME_MAX + 1]; /* its name */
    enum task task;                  /* TASK_RAW if raw */
    cJSON *metadata;                 /* of the model */
    const char *input;               /* its only one's name, points into metadata */
};

/* Finds the model, once it is loaded, as `wanted` and `raw` say, which may be NULL and false.
 * Returns 0, -ENOTSUP (it has several inputs) or an error of cli/client.h, with `*why`;
 * target_close() of a zeroed or half open target is fine. */
int target_open(struct target *t, const struct client_options *o, const char *wanted, bool raw,
                struct diag *why);
void target_close(struct target *t);

/* A picture or a tensor to be sent. */
struct target_file {
    struct client_input in; /* what it points to is the file's, or the target's */
    uint8_t *bytes;
    struct npy tensor;
};

/* Returns 0 or a negative errno with `*why`; target_file_done() of a zeroed or done one is fine. */
int target_load(const struct target *t, const char *file, struct target_file *f, struct diag *why);
void target_file_done(struct target_file *f);

#endif
