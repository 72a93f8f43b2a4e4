#include "daemon/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 1024 };

/* The address of $NOTIFY_SOCKET: a path, or with '@' a name that is in no folder.  Returns its
 * length, 0 if there is none. */
static socklen_t find_socket(struct sockaddr_un *address)
{
    const char *name = getenv("NOTIFY_SOCKET");
    const size_t len = name ? strlen(name) : 0;

    if (len < 2 || len >= sizeof address->sun_path || (name[0] != '/' && name[0] != '@'))
        return 0;
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(address->sun_path, name, len);
    if (name[0] == '@')
        address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

void notify(const char *fmt, ...)
{
    struct sockaddr_un address;
    const socklen_t len = find_socket(&address);
    char text[MESSAGE_BYTES];
    va_list ap;

    if (len == 0)
        return;
    va_start(ap, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n <= 0)
        return;
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, MSG_NOSIGNAL,
                 (struct sockaddr *)&address, len);
    close(fd);
}

void notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    notify("RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=reading the configuration again",
           (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

/* The value of a variable that is one decimal number; 0 if it is not. */
static int64_t number_in(const char *variable)
{
    const char *text = getenv(variable);
    char *end;

    if (!text || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    const long long n = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? n : 0;
}

int64_t notify_watchdog_ms(void)
{
    const int64_t usec = number_in("WATCHDOG_USEC");
    /* The variable may have come down from a service that started us by itself. */
    if (getenv("WATCHDOG_PID") && number_in("WATCHDOG_PID") != getpid())
        return 0;
    return usec / 1000;
}
