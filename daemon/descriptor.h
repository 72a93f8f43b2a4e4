/* daemon/descriptor.h - the socket under an NNG stream.
 *
 * NNG reads a stream on a thread of its own, which then wakes whoever waits: two wake-ups a
 * message, where a thread that waits on the socket itself needs one, and none while it spins.  NNG
 * does not hand the socket out, so it is looked for among the open files of the process, by its two
 * addresses. */
#ifndef DAEMON_DESCRIPTOR_H
#define DAEMON_DESCRIPTOR_H

#include <nng/nng.h>

/* A duplicate of the stream's descriptor, non-blocking like the original; the caller's to close(2).
 * -1 for anything but plain TCP (bytes of TLS make sense to NNG only, the ends of a local socket
 * have no addresses that tell them apart), or if it cannot be found. */
int descriptor_of(nng_stream *s);

#endif
