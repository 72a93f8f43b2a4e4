#include "cli/discover.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libsplit/clock.h"

/* More than a network full of nodes has to say. */
enum { MAX_BYTES = 64 * 1024 };

/* "=;eth0;IPv4;pi1;_splitd._tcp;local;pi1.local;10.0.0.11;7070;..."  Fields hold no ';':
 * avahi-browse writes what is not plain as a backslash and three digits. */
enum { FIELD_NAME = 3, FIELD_ADDRESS = 7, FIELDS };

struct field {
    const char *at;
    size_t len;
};

static bool split_line(const char *line, size_t len, struct field field[FIELDS])
{
    for (int i = 0; i < FIELDS; i++) {
        const char *end = memchr(line, ';', len);
        const size_t n = end ? (size_t)(end - line) : len;
        if (!end && i < FIELD_ADDRESS)
            return false;
        field[i] = (struct field){ line, n };
        line += n + (end != NULL);
        len -= n + (end != NULL);
    }
    return true;
}

/* False if it does not fit. */
static bool copy(char *to, size_t cap, struct field f)
{
    if (f.len >= cap)
        return false;
    memcpy(to, f.at, f.len);
    to[f.len] = '\0';
    return strlen(to) == f.len;
}

static bool is_name(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!isascii((unsigned char)*c) || (!isalnum((unsigned char)*c) && !strchr("._-", *c)))
            return false;
    return name[0] != '\0' && name[0] != '-' && name[0] != '.';
}

/* `here`: it means something on one machine or one interface only. */
static bool read_address(struct field f, char host[sizeof((struct discovered *)0)->host],
                         bool *here)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr six;
    struct in_addr four;

    if (!copy(text, sizeof text, f))
        return false;
    if (inet_pton(AF_INET, text, &four) == 1) {
        *here = ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET;
        return inet_ntop(AF_INET, &four, host, INET_ADDRSTRLEN) != NULL;
    }
    if (inet_pton(AF_INET6, text, &six) != 1 || !inet_ntop(AF_INET6, &six, text, sizeof text))
        return false;
    *here = IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_LINKLOCAL(&six);
    snprintf(host, sizeof((struct discovered *)0)->host, "[%s]", text);
    return true;
}

static bool read_node(const struct field field[FIELDS], struct discovered *node, bool *here)
{
    return copy(node->name, sizeof node->name, field[FIELD_NAME]) && is_name(node->name) &&
           read_address(field[FIELD_ADDRESS], node->host, here);
}

static void add(struct discovery *d, const struct discovered *node)
{
    for (int32_t i = 0; i < d->n; i++) {
        struct discovered *known = &d->node[i];
        if (strcmp(known->name, node->name) != 0)
            continue;
        if (known->host[0] == '[' && node->host[0] != '[')
            *known = *node;
        return;
    }
    if (d->n < CONFIG_MAX_NODES)
        d->node[d->n++] = *node;
    else
        d->ignored++;
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(((const struct discovered *)a)->name, ((const struct discovered *)b)->name);
}

void discover_parse(struct discovery *d, const char *text, size_t len)
{
    *d = (struct discovery){ 0 };
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        const size_t n = end ? (size_t)(end - text) : len;
        struct field field[FIELDS];
        struct discovered node;
        bool here;
        /* '+' comes before anything is known, '=' with it. */
        if (n > 0 && text[0] == '=') {
            if (!split_line(text, n, field) || !read_node(field, &node, &here))
                d->ignored++;
            else if (!here)
                add(d, &node);
        }
        text += n + (end != NULL);
        len -= n + (end != NULL);
    }
    qsort(d->node, (size_t)d->n, sizeof d->node[0], by_name);
}

/* ---- asking */

extern char **environ;

/* Its errors are in other words than ours: they go nowhere.  Returns the process, or an error. */
static pid_t start(int *from, struct diag *why)
{
    static char *const argv[] = { "avahi-browse", "-rpt", "_splitd._tcp", NULL };
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return diag(why, -errno, "avahi-browse: %s", strerror(errno));
    int err = posix_spawn_file_actions_init(&actions);
    if (err == 0) {
        err = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        if (err == 0)
            err = posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        if (err == 0)
            err = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        if (err == 0)
            err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(ends[1]);
    if (err == 0) {
        *from = ends[0];
        return pid;
    }
    close(ends[0]);
    if (err == ENOENT)
        return diag(why, -ENOENT, "avahi-browse is not installed: apt install avahi-utils");
    return diag(why, -err, "avahi-browse: %s", strerror(err));
}

/* Reads until the end, `cap` bytes or `until_ns`. */
static size_t read_all(int fd, char *text, size_t cap, int64_t until_ns)
{
    size_t len = 0;

    while (len < cap) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const int64_t left_ns = until_ns - clock_ns();
        if (left_ns <= 0 || poll(&p, 1, (int)(left_ns / 1000000) + 1) < 0)
            break;
        if (p.revents == 0)
            continue;
        const ssize_t n = read(fd, text + len, cap - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    return len;
}

int discover(struct discovery *d, int timeout_ms, struct diag *why)
{
    char *text = malloc(MAX_BYTES);
    int fd = -1, status = 0, rc = 0;

    if (!text)
        return diag(why, -ENOMEM, "memory is short");
    const pid_t pid = start(&fd, why);
    if (pid < 0) {
        rc = pid;
        goto out;
    }
    const int64_t until_ns = clock_ns() + (int64_t)timeout_ms * 1000000;
    const size_t len = read_all(fd, text, MAX_BYTES, until_ns);
    close(fd);
    /* It has closed its output, or has had its time: what it found until then counts. */
    kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 0 &&
        len == 0)
        rc = diag(why, -EIO,
                  "avahi-browse fails: does avahi-daemon run? systemctl status avahi-daemon");
    else
        discover_parse(d, text, len);
out:
    free(text);
    return rc;
}
