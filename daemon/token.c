#include "daemon/token.h"

#include <errno.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>
#include <strings.h>

#include "daemon/secret.h"

static void sha256(const char *text, size_t len, uint8_t sha[32])
{
    struct sha256_ctx sum;

    sha256_init(&sum);
    sha256_update(&sum, len, (const uint8_t *)text);
    sha256_digest(&sum, 32, sha);
}

static bool is_visible(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

int token_read(struct token *t, const char *path, const char *node, struct diag *why)
{
    char *text;

    int rc = secret_read(path, node, "http.token", true, &text, why);
    if (rc < 0)
        return rc;
    const size_t len = strcspn(text, "\r\n");
    if (len < TOKEN_MIN_BYTES || len > TOKEN_MAX_BYTES || !is_visible(text, len) ||
        text[len + strspn(text + len, "\r\n")] != '\0')
        rc = diag(why, -EINVAL, "http.token: %s: expected one line of %d to %d visible characters",
                  path, TOKEN_MIN_BYTES, TOKEN_MAX_BYTES);
    else
        sha256(text, len, t->sha);
    secret_free(text);
    return rc;
}

bool token_is_shown(const struct token *t, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    uint8_t sha[32];

    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *text = authorization + sizeof scheme - 1;
    sha256(text, strlen(text), sha);
    return memeql_sec(sha, t->sha, sizeof sha) != 0;
}
