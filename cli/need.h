/* cli/need.h - what a model takes on a node of a cluster, before it is loaded. */
#ifndef CLI_NEED_H
#define CLI_NEED_H

#include <stdint.h>

#include "daemon/config.h"
#include "libsplit/diag.h"

/* Bytes that the daemon of each node takes for the model in `file` while all nodes are there:
 * weights, and activations and messages of two pictures; 0 of nodes that the coordinator leaves
 * out because fewer are faster (libsplit/fastest.h).  Where nodes refuse their parts because of
 * their max_memory it takes more of them, and what no number of nodes can hold is that of all.
 * `sidecar` NULL: the one beside the model.  Reads the files, and that for halos, packs nothing.
 * Returns 0, or a negative errno with a sentence: those of local_load(), graph_build() (a model
 * whose input has no size of its own) and halo_choose(). */
int need_bytes(const char *file, const char *sidecar, const struct config *c,
               int64_t bytes[CONFIG_MAX_NODES], struct diag *why);

#endif
