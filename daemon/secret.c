#include "daemon/secret.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libsplit/file.h"

/* Puts `node` in place of every "{node}".  -ENAMETOOLONG if it does not fit. */
static int expand(const char *path, const char *node, char to[PATH_MAX])
{
    static const char mark[] = "{node}";
    size_t at = 0;

    while (*path) {
        const bool is_mark = strncmp(path, mark, sizeof mark - 1) == 0;
        const char *piece = is_mark ? node : path;
        const size_t len = is_mark ? strlen(node) : 1;
        if (at + len >= PATH_MAX)
            return -ENAMETOOLONG;
        memcpy(to + at, piece, len);
        at += len;
        path += is_mark ? sizeof mark - 1 : 1;
    }
    to[at] = '\0';
    return 0;
}

/* The credential that systemd may have made of the file; false if it has not. */
static bool find_credential(const char *path, char to[PATH_MAX])
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY"), *name = strrchr(path, '/');

    if (!dir || !name || name == path)
        return false;
    const char *parent = name;
    while (parent > path && parent[-1] != '/')
        parent--;
    const int n = snprintf(to, PATH_MAX, "%s/%.*s_%s", dir, (int)(name - parent), parent, name + 1);
    return n > 0 && n < PATH_MAX && access(to, R_OK) == 0;
}

int secret_file(const char *path, const char *node, char file[PATH_MAX])
{
    char given[PATH_MAX];

    if (expand(path, node, given) < 0)
        return -ENAMETOOLONG;
    if (!find_credential(given, file))
        memcpy(file, given, sizeof given);
    return 0;
}

int secret_read(const char *path, const char *node, const char *what, bool private, char **text,
                struct diag *why)
{
    char file[PATH_MAX];
    struct stat st;
    uint8_t *bytes;
    size_t len;

    if (secret_file(path, node, file) < 0)
        return diag(why, -ENAMETOOLONG, "%s: \"%s\" is too long", what, path);
    if (private && stat(file, &st) == 0 && (st.st_mode & S_IRWXO))
        return diag(why, -EPERM, "%s: %s can be read by everybody on this machine: chmod 600 %s",
                    what, file, file);
    int rc = file_read(file, SECRET_MAX_BYTES, &bytes, &len, why);
    if (rc < 0) {
        const struct diag reason = *why;
        return diag(why, rc, "%s: %s", what, reason.text);
    }
    if (len == 0 || memchr(bytes, 0, len)) {
        rc = diag(why, -EINVAL, "%s: %s %s", what, file, len == 0 ? "is empty" : "is no text");
        free(bytes);
        return rc;
    }
    *text = (char *)bytes;
    return 0;
}

void secret_free(char *text)
{
    if (!text)
        return;
    explicit_bzero(text, strlen(text));
    free(text);
}
