/* cli/discover.h - nodes that announce themselves on this network (conf/avahi), found by
 * avahi-browse.
 *
 * Anybody on the network can announce anything: what is here is checked, and no more than a
 * proposal. */
#ifndef CLI_DISCOVER_H
#define CLI_DISCOVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "libsplit/diag.h"

struct discovered {
    char name[CONFIG_NAME_MAX + 1];      /* letters, digits and ._-, no '-' or '.' first */
    char host[INET6_ADDRSTRLEN + 2 + 1]; /* an address in numbers; of IPv6 in brackets */
};

struct discovery {
    int32_t n; /* in the order of their names, which differ; an IPv4 address is preferred */
    struct discovered node[CONFIG_MAX_NODES];
    int32_t ignored; /* announcements that cannot be of a node, or are too many */
};

/* Reads what `avahi-browse -rpt` printed; any bytes are allowed.  Every node is announced on each
 * interface with each of its addresses, this machine also on the loopback: addresses that other
 * machines cannot use, link-local ones of IPv6 too, are passed over. */
void discover_parse(struct discovery *d, const char *text, size_t len);

/* Runs avahi-browse, for at most `timeout_ms`.  Returns 0, -ENOENT (it is not installed), -EIO (it
 * fails, as without avahi-daemon), -ENOMEM or another negative errno. */
int discover(struct discovery *d, int timeout_ms, struct diag *why);

#endif
