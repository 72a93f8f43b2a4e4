#include "libsplit/board.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_line(const char *path, char *text, size_t cap)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const ssize_t n = read(fd, text, cap - 1);
    close(fd);
    if (n < 0)
        return false;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return true;
}

bool board_read(const char *root, const char *path, char *text, size_t cap)
{
    char whole[PATH_MAX];
    const int n = snprintf(whole, sizeof whole, "%s%s", root, path);

    return n > 0 && (size_t)n < sizeof whole && read_line(whole, text, cap);
}

/* All of `text` is one number. */
static bool number_of(const char *text, int base, int64_t lo, int64_t hi, int64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoll(text, &end, base);
    return errno == 0 && end != text && *end == '\0' && *number >= lo && *number <= hi;
}

/* Calls `use` with the first line of every file that the pattern names, until it returns true. */
static bool any_line(const char *root, const char *pattern,
                     bool (*use)(const char *path, const char *text, void *ctx), void *ctx)
{
    char whole[PATH_MAX], text[128];
    const int n = snprintf(whole, sizeof whole, "%s%s", root, pattern);
    glob_t found;
    bool done = false;

    if (n < 0 || (size_t)n >= sizeof whole || glob(whole, 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !done; i++)
        done = read_line(found.gl_pathv[i], text, sizeof text) && use(found.gl_pathv[i], text, ctx);
    globfree(&found);
    return done;
}

/* ---- temperature */

static bool read_temperature(const char *root, const char *path, int32_t *temperature_mc)
{
    char text[32];
    int64_t t;

    if (!board_read(root, path, text, sizeof text) || !number_of(text, 10, -273150, 1000000, &t))
        return false;
    *temperature_mc = (int32_t)t;
    return true;
}

/* `path` is a zone's "type": that of the processor has "temp" beside it. */
static bool use_zone(const char *path, const char *text, void *ctx)
{
    char beside[PATH_MAX];
    const size_t folder = (size_t)(strrchr(path, '/') - path);

    if (strncmp(text, "cpu", 3) != 0 && strcmp(text, "x86_pkg_temp") != 0)
        return false;
    snprintf(beside, sizeof beside, "%.*s/temp", (int)folder, path);
    return read_temperature("", beside, ctx);
}

bool board_temperature(const char *root, int32_t *temperature_mc)
{
    return any_line(root, "/sys/class/thermal/thermal_zone*/type", use_zone, temperature_mc) ||
           read_temperature(root, "/sys/class/thermal/thermal_zone0/temp", temperature_mc);
}

/* ---- power and frequency */

static bool use_throttled(const char *path, const char *text, void *ctx)
{
    int64_t bits;
    (void)path;

    if (!number_of(text, 16, 0, UINT32_MAX, &bits))
        return false;
    *(uint32_t *)ctx = (uint32_t)bits & BOARD_BITS;
    return true;
}

/* `path` is a sensor's "name": that of the supply's voltage has an alarm beside it. */
static bool use_voltage(const char *path, const char *text, void *ctx)
{
    char beside[PATH_MAX], alarm[16];
    const size_t folder = (size_t)(strrchr(path, '/') - path);
    int64_t on;

    if (strcmp(text, "rpi_volt") != 0)
        return false;
    snprintf(beside, sizeof beside, "%.*s/in0_lcrit_alarm", (int)folder, path);
    if (!board_read("", beside, alarm, sizeof alarm) || !number_of(alarm, 10, 0, 1, &on))
        return false;
    *(uint32_t *)ctx = on ? BOARD_UNDER_VOLTAGE : 0;
    return true;
}

bool board_throttled(const char *root, uint32_t *bits)
{
    return any_line(root, "/sys/devices/platform/soc*/soc*:firmware/get_throttled", use_throttled,
                    bits) ||
           any_line(root, "/sys/class/hwmon/hwmon*/name", use_voltage, bits);
}
