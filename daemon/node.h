/* daemon/node.h - one node of a cluster, from a configuration that was checked: cache of models,
 * worker, links and, on the coordinator's node, coordinator, API and HTTP.
 *
 * Loop thread.  A process may run one after the other, as a reload does. */
#ifndef DAEMON_NODE_H
#define DAEMON_NODE_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "libsplit/diag.h"

struct node;

/* Starts node `self`; `config` and `state_dir`, where models are kept, must
 * outlive it.  Returns 0 or a
 * negative errno with a sentence.  Whatever it returns, `*n` must be closed unless it is NULL. */
int node_open(struct node **n, uv_loop_t *loop, const struct config *config, int32_t self,
              const char *state_dir, struct diag *why);

/* Refuses new requests, gives those that are there at most `drain_ms` to end, ends the rest with
 * 503, takes leave of the peers, closes and frees everything, then calls `closed` on the loop.
 * Called again it only ends the draining.  Without draining all takes less than 900 ms unless a
 * pool thread is in the middle of something long. */
void node_close(struct node *n, uint64_t drain_ms, void (*closed)(void *ctx), void *ctx);

/* One line for `systemctl status`: "epoch 4, 3 of 4 nodes, resnet18", or on another node than the
 * coordinator's "pi2 of attic, 2 of 3 links". */
void node_status(const struct node *n, char *text, size_t cap);

#endif
