/* cli/pki.h - keys and certificates of a cluster, in a folder: the authority's DIR/ca.pem and
 * DIR/ca.key, and for every node DIR/NODE with ca.pem, node.pem and node.key.  Folders get mode
 * 0700 and files 0600; nothing is ever overwritten. */
#ifndef CLI_PKI_H
#define CLI_PKI_H

#include "libsplit/diag.h"

/* Makes DIR, if it is not there, and an authority for `cluster`, a name for humans.  -EEXIST if it
 * has one; -ENOMEM or another negative errno if that cannot be done. */
int pki_init(const char *dir, const char *cluster, struct diag *why);

/* Makes the key and certificate of `node`, which clients also reach by `host[nhosts]`, names or
 * addresses.  -EINVAL if that is no name for a node, otherwise as pki_init(). */
int pki_add(const char *dir, const char *node, const char *const *host, int nhosts,
            struct diag *why);

#endif
