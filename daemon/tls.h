/* daemon/tls.h - what a node shows to prove that it belongs to the cluster, and what it asks to
 * see.
 *
 * Every node has a key and a certificate that the cluster's own authority has signed (splitctl
 * pki). A certificate is for the node whose identity it carries as a DNS name, "NODE.splitd":
 * whoever dials a node insists on it.  The other way NNG 1.5.2 does not say whose certificate it
 * was, only that it is of this cluster: see SECURITY.md. */
#ifndef DAEMON_TLS_H
#define DAEMON_TLS_H

#include <stdint.h>

#include "daemon/config.h"
#include "libsplit/diag.h"

struct tls {
    char *ca, *certificate, *key; /* PEM */
    int64_t until;                /* the certificate is valid, s since 1970 */
};

/* Reads and checks the files of config->tls for node `self`: the key fits the certificate, which is
 * for this node, of this authority and valid now.  Returns 0, or a negative errno with a sentence.
 */
int tls_open(struct tls **t, const struct config *config, int32_t self, struct diag *why);
void tls_free(struct tls *t); /* NULL is fine */

enum { TLS_IDENTITY_BYTES = CONFIG_NAME_MAX + 8 };
void tls_identity(const char *node, char identity[TLS_IDENTITY_BYTES]);

#endif
