/* cli/greet.h - asks a daemon who is there: a HELLO that is no node's (proto/hello.h). */
#ifndef CLI_GREET_H
#define CLI_GREET_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/hello.h"

enum greet_result {
    GREET_OK,
    GREET_CONNECTED,     /* somebody takes connections; it was not asked more */
    GREET_UNREACHABLE,   /* `error` says why */
    GREET_SILENT,        /* something is there, but no daemon answers */
    GREET_OTHER_VERSION, /* a daemon of another version of the protocol */
};

struct greeting {
    enum greet_result result;
    int error;              /* GREET_UNREACHABLE: a positive errno, 0: no such host */
    int64_t rtt_us;         /* of HELLO and its answer */
    int64_t skew_ms;        /* its time of day minus ours, wrong by at most half of rtt_us */
    int32_t mss, their_mss; /* what our link and the way to it allow in a segment; 0: not TCP */
    struct msg_hello hello; /* GREET_OK */
};

/* Connects to an address of cluster.json, asks, and hangs up.  Each step may take `timeout_ms`.
 * `only_connect`: does not ask, as nodes with TLS answer nobody without a certificate. */
void greet(struct greeting *g, const char *address, bool only_connect, int timeout_ms);

#endif
