/* test/tiling/sim.h - runs programs on symbolic values, pixel by pixel.
 *
 * A value of the network is a hash of everything it was made from, by the definitions in
 * struct net and not by reaches.  A node knows only what it has computed or received; the
 * first wrong step ends the run with a sentence. */
#ifndef TEST_TILING_SIM_H
#define TEST_TILING_SIM_H

#include "net.h"
#include "tiling/program.h"

/* Runs all programs of `p` and the host's, in turns.  Returns NULL if each node has what it
 * reads, each message is sent once and received once, nobody waits for ever, and the host
 * ends up with the outputs that one computer computes; else what went wrong. */
const char *sim_cluster(const struct net *net, const struct plan *p);

/* Runs one program as if every message arrived.  Returns NULL if it reads and writes only
 * what it may. */
const char *sim_alone(const struct net *net, const struct program *pr);

#endif
