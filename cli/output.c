#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

bool output_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool output_is_picture(const char *path)
{
    static const char *const endings[] = { ".png", ".jpg", ".jpeg" };
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return !output_is_dir(path);
    return false;
}

/* Makes every folder of `path`, which is cut up and put together again on the way. */
static int make_dirs(char *path)
{
    if (path[0] == '\0')
        return -ENOENT;
    for (char *at = path; *at != '\0'; at++) {
        const bool is_end = at[1] == '\0';
        if (!is_end && at[1] != '/')
            continue;
        at[1] = '\0';
        if (mkdir(path, 0777) < 0 && !output_is_dir(path))
            return errno == EEXIST ? -ENOTDIR : -errno;
        if (!is_end)
            at[1] = '/';
    }
    return 0;
}

int output_make_dir(const char *path, struct diag *why)
{
    char *copy = strdup(path);
    const int rc = copy ? make_dirs(copy) : -ENOMEM;

    free(copy);
    return rc < 0 ? diag(why, rc, "%s: %s", path, strerror(-rc)) : 0;
}

/* The name without its folders; `*len` without its last ending. */
static const char *stem(const char *path, int *len)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    *len = dot && dot != name ? (int)(dot - name) : (int)strlen(name);
    return name;
}

int output_name(char path[OUTPUT_PATH_MAX], const char *dir, const char *source, const char *part,
                const char *ending, struct diag *why)
{
    int len, dir_len = (int)strlen(dir);
    const char *name = stem(source, &len);

    while (dir_len > 0 && dir[dir_len - 1] == '/')
        dir_len--;
    const int n = snprintf(path, OUTPUT_PATH_MAX, "%.*s/%.*s%s%s%s", dir_len, dir, len, name,
                           part ? "." : "", part ? part : "", ending);
    if (n < 0 || n >= OUTPUT_PATH_MAX)
        return diag(why, -ENAMETOOLONG, "%s/%.*s: the name is too long", dir, len, name);
    for (char *c = path + dir_len + 1; *c; c++)
        if (*c == '/')
            *c = '_';
    return 0;
}

int output_check_names(char *const *sources, int n, struct diag *why)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            int a_len, b_len;
            const char *a = stem(sources[j], &a_len), *b = stem(sources[i], &b_len);
            if (a_len == b_len && memcmp(a, b, (size_t)a_len) == 0)
                return diag(why, -EINVAL, "%s and %s: both results would go to the same file",
                            sources[j], sources[i]);
        }
    return 0;
}
