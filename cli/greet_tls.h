/* cli/greet_tls.h - a connection to a node as links have it: TLS, with certificates on both sides.
 */
#ifndef CLI_GREET_TLS_H
#define CLI_GREET_TLS_H

#include <stddef.h>
#include <sys/types.h>

#include "cli/greet.h"

struct greet_tls;

/* Begins TLS with `node` on `fd`, which does not block and stays the caller's.  Returns 0 or
 * -ENOMEM. */
int greet_tls_new(struct greet_tls **t, int fd, const struct tls *tls, const char *node);
void greet_tls_free(struct greet_tls *t); /* NULL is fine */

/* Goes on with it.  Returns 0: done, what the node shows is in g->until and, if it is not what that
 * node should show, in g->result and g->problem; POLLIN or POLLOUT: call again when the socket is
 * ready; negative: g->result and g->problem say why not. */
int greet_tls_shake_hands(struct greet_tls *t, struct greeting *g);

/* As send(2) and recv(2). */
ssize_t greet_tls_send(struct greet_tls *t, const void *bytes, size_t len);
ssize_t greet_tls_receive(struct greet_tls *t, void *bytes, size_t len);

#endif
