/* daemon/token.h - the text that clients of the API have to know: "Authorization: Bearer TEXT". */
#ifndef DAEMON_TOKEN_H
#define DAEMON_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "libsplit/diag.h"

enum { TOKEN_MIN_BYTES = 16, TOKEN_MAX_BYTES = 512 };

struct token {
    uint8_t sha[32]; /* SHA-256 of the text: all that is kept of it */
};

/* Reads the text from `path` (daemon/secret.h): one line of TOKEN_MIN_BYTES..TOKEN_MAX_BYTES
 * visible ASCII characters.  Returns 0 or a negative errno with a sentence. */
int token_read(struct token *t, const char *path, const char *node, struct diag *why);

/* Whether the header of a request, NULL for none, shows it.  Takes as long whatever it says. */
bool token_is_shown(const struct token *t, const char *authorization);

#endif
