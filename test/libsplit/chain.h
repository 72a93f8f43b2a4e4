/* test/libsplit/chain.h - random networks.
 *
 * Narrow chains of all operators with residuals, branches and squeeze-and-excite, small enough to
 * run thousands; and wide ones, mostly of convolutions, whose kernels have a choice. */
#ifndef TEST_LIBSPLIT_CHAIN_H
#define TEST_LIBSPLIT_CHAIN_H

#include "net.h"

/* Initialises `n` with `ops` operators or a few more, on one or two inputs.  Some tensors on
 * the way are outputs too.  Returns true if a reduction is among the operators: then cuts may
 * change the last bit. */
bool chain_init(struct net *n, uint64_t seed, int32_t ops);

/* Initialises `n` with a network whose maps have channels enough to be cut along them, and to go
 * by Winograd's algorithm.  Returns as above. */
bool wide_init(struct net *n, uint64_t seed);

#endif
