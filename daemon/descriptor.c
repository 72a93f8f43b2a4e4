#include "daemon/descriptor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static bool is_same(const nng_sockaddr *a, const struct sockaddr_storage *b)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)b;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)b;

    if (a->s_family == NNG_AF_INET)
        return b->ss_family == AF_INET && in->sin_port == a->s_in.sa_port &&
               in->sin_addr.s_addr == a->s_in.sa_addr;
    return a->s_family == NNG_AF_INET6 && b->ss_family == AF_INET6 &&
           in6->sin6_port == a->s_in6.sa_port &&
           memcmp(&in6->sin6_addr, a->s_in6.sa_addr, sizeof in6->sin6_addr) == 0;
}

/* Is `fd` the socket from `local` to `remote`? */
static bool is_between(int fd, const nng_sockaddr *local, const nng_sockaddr *remote)
{
    struct sockaddr_storage at = { 0 };
    socklen_t len = sizeof at;

    if (getpeername(fd, (struct sockaddr *)&at, &len) < 0 || !is_same(remote, &at))
        return false;
    len = sizeof at;
    return getsockname(fd, (struct sockaddr *)&at, &len) == 0 && is_same(local, &at);
}

int descriptor_of(nng_stream *s)
{
    nng_sockaddr local, remote;
    int found = -1;

    if (nng_stream_get_addr(s, NNG_OPT_LOCADDR, &local) != 0 ||
        nng_stream_get_addr(s, NNG_OPT_REMADDR, &remote) != 0)
        return -1;
    DIR *files = opendir("/proc/self/fd");
    if (!files)
        return -1;
    for (const struct dirent *e; found < 0 && (e = readdir(files)) != NULL;) {
        char *end;
        const long fd = strtol(e->d_name, &end, 10);
        if (end != e->d_name && *end == '\0' && is_between((int)fd, &local, &remote))
            found = fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
    }
    closedir(files);
    return found;
}
