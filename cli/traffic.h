/* cli/traffic.h - what a plan's messages weigh. */
#ifndef CLI_TRAFFIC_H
#define CLI_TRAFFIC_H

#include <stdbool.h>

#include "libsplit/graph.h"
#include "tiling/plan.h"

/* Bytes of payload of one message, at most.  `pixels`: the host sends inputs as bytes, not
 * floats. */
int64_t traffic_bytes(const struct plan *p, const struct graph *g, const struct plan_transfer *t,
                      bool pixels);

#endif
