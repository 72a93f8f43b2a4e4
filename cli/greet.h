/* cli/greet.h - asks a daemon who is there: a HELLO that is no node's (proto/hello.h), over TLS
 * where links have it. */
#ifndef CLI_GREET_H
#define CLI_GREET_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/tls.h"
#include "proto/hello.h"

enum greet_result {
    GREET_OK,
    GREET_CONNECTED,     /* somebody takes connections; without a certificate it cannot be asked */
    GREET_UNREACHABLE,   /* `error` says why */
    GREET_SILENT,        /* something is there, but no daemon answers */
    GREET_OTHER_VERSION, /* a daemon of another version of the protocol */
    GREET_NO_TLS,        /* no connection of TLS comes about; `problem` says why */
    GREET_STRANGER,      /* what it shows is no certificate of that node; `problem` says why */
};

struct greeting {
    enum greet_result result;
    int error;              /* GREET_UNREACHABLE: a positive errno, 0: no such host */
    int64_t rtt_us;         /* of HELLO and its answer */
    int64_t skew_ms;        /* its time of day minus ours, wrong by at most half of rtt_us */
    int32_t mss, their_mss; /* what our link and the way to it allow in a segment; 0: not TCP */
    int64_t until;          /* its certificate is valid, s since 1970; 0: it showed none */
    char problem[160];      /* a part of a sentence */
    struct msg_hello hello; /* GREET_OK */
};

struct greet_way {
    bool secure;           /* as config->secure: tcp:// is TLS */
    const struct tls *tls; /* what to show; NULL: only connects where there is TLS */
    int timeout_ms;        /* for connecting, and for all that comes then */
};

/* Connects to a node of cluster.json, asks, and hangs up.  A certificate that is no longer valid is
 * no reason not to ask: see `until`. */
void greet(struct greeting *g, const struct config_node *node, const struct greet_way *way);

#endif
