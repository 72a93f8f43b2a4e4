/* daemon/secret.h - files that only this node may read: its key, certificates, the API's token.
 *
 * A path may hold "{node}", which stands for the node's name, as cluster.json is the same on all
 * nodes.  Where systemd hands over credentials ($CREDENTIALS_DIRECTORY), a file DIR/NAME is looked
 * for there first, as DIR_NAME without what stands before: LoadCredential=tls:/etc/splitd/tls makes
 * /etc/splitd/tls/node.key the credential tls_node.key. */
#ifndef DAEMON_SECRET_H
#define DAEMON_SECRET_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "libsplit/diag.h"

enum { SECRET_MAX_BYTES = 64 * 1024 };

/* The file that a path stands for.  -ENAMETOOLONG if it does not fit. */
int secret_file(const char *path, const char *node, char file[PATH_MAX]);

/* Reads a text of 1..SECRET_MAX_BYTES bytes; free() it.  `what` names the setting in messages.
 * `private`: a file that others than owner and group may read is refused.  Returns 0, an error of
 * open(2), -EPERM, -EFBIG, -EINVAL (empty, or a zero byte) or -ENOMEM. */
int secret_read(const char *path, const char *node, const char *what, bool private, char **text,
                struct diag *why);

/* Forgets the bytes, then frees.  NULL is fine. */
void secret_free(char *text);

#endif
