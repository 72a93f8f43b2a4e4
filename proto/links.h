/* proto/links.h - LINKS: with whom a node can talk.  Sent to the coordinator when its link comes
 * up, and with every link that comes or goes.
 *
 *   LINKS  nodes u32: a bit per node, by its index in cluster.json, to which the sender has a link
 *
 * A plan makes neighbours of any two of its nodes, and a link that was lost took messages along:
 * the coordinator has to know of both. */
#ifndef PROTO_LINKS_H
#define PROTO_LINKS_H

#include <stddef.h>
#include <stdint.h>

enum { LINKS_BYTES = 4 };

void links_encode(uint32_t nodes, uint8_t to[LINKS_BYTES]);
/* Any bytes are allowed.  Returns 0 or -EBADMSG (length does not fit); `*nodes` is written only on
 * success.  Bits of nodes that are in nobody's cluster.json are the receiver's to ignore. */
int links_decode(uint32_t *nodes, const uint8_t *buf, size_t len);

#endif
