/* cli/need.h - what a model takes on a node of a cluster, before it is loaded. */
#ifndef CLI_NEED_H
#define CLI_NEED_H

#include <stdint.h>

#include "daemon/config.h"
#include "libsplit/diag.h"

/* Bytes that the daemon of each node takes for the model in `file` while all nodes are there:
 * weights, and activations and messages of two pictures.  Reads the model, packs nothing.
 * Returns 0, or a negative errno with a sentence: those of onnx_open() and graph_build(), as for a
 * model whose input has no size of its own. */
int need_bytes(const char *file, const struct config *c, int64_t bytes[CONFIG_MAX_NODES],
               struct diag *why);

#endif
