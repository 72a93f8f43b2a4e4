#include "daemon/notify.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* In place of systemd: listens at `name`, '@' for one in no folder. */
static int listen_at(const char *name)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const size_t len = strlen(name);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    memcpy(a.sun_path, name, len);
    if (name[0] == '@')
        a.sun_path[0] = '\0';
    cr_assert_eq(
        bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *next(int fd)
{
    static char text[4096];
    const ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

Test(notify, one_datagram_to_a_path)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/splitd-notify-%d", (int)getpid());
    const int fd = listen_at(name);

    notify("READY=1\nSTATUS=%s", "epoch 4");
    cr_expect_str_eq(next(fd), "READY=1\nSTATUS=epoch 4");
    notify_reloading();
    cr_expect_eq(strncmp(next(fd), "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
    close(fd);
    unlink(name);
    notify("READY=1"); /* nobody listens: nothing happens */
}

Test(notify, one_datagram_to_a_name_in_no_folder)
{
    char name[64];
    snprintf(name, sizeof name, "@splitd-notify-%d", (int)getpid());
    const int fd = listen_at(name);

    notify("WATCHDOG=1");
    cr_expect_str_eq(next(fd), "WATCHDOG=1");
    cr_expect_str_eq(next(fd), "", "and no second one");
    close(fd);
}

Test(notify, nothing_without_systemd)
{
    char path[300];
    memset(path, '/', sizeof path - 1);
    path[sizeof path - 1] = '\0';

    unsetenv("NOTIFY_SOCKET");
    notify("READY=1");
    setenv("NOTIFY_SOCKET", "relative", 1);
    notify("READY=1");
    setenv("NOTIFY_SOCKET", path, 1);
    notify("READY=1");
}

Test(notify, watchdog)
{
    char pid[24];
    snprintf(pid, sizeof pid, "%d", (int)getpid());

    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    cr_expect_eq(notify_watchdog_ms(), 0);
    setenv("WATCHDOG_USEC", "20000000", 1);
    cr_expect_eq(notify_watchdog_ms(), 20000);
    setenv("WATCHDOG_PID", pid, 1);
    cr_expect_eq(notify_watchdog_ms(), 20000);
    setenv("WATCHDOG_PID", "1", 1);
    cr_expect_eq(notify_watchdog_ms(), 0, "it is meant for another process");
    unsetenv("WATCHDOG_PID");
    setenv("WATCHDOG_USEC", "soon", 1);
    cr_expect_eq(notify_watchdog_ms(), 0);
    setenv("WATCHDOG_USEC", "99999999999999999999", 1);
    cr_expect_eq(notify_watchdog_ms(), 0);
}
