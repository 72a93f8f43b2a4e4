#include "libsplit/board.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A /sys of our own. */
static char root[] = "/tmp/splitd-board-XXXXXX";

static void make_root(void)
{
    strcpy(root + sizeof root - 7, "XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s;
    (void)type;
    (void)at;
    return remove(path);
}

static void drop_root(void) { nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

static void put(const char *path, const char *text)
{
    char whole[256];

    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *slash = strchr(whole + sizeof root, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0755);
        *slash = '/';
    }
    FILE *f = fopen(whole, "w");
    cr_assert_not_null(f, "%s", whole);
    fputs(text, f);
    fclose(f);
}

TestSuite(board, .init = make_root, .fini = drop_root);

#define FIRMWARE "/sys/devices/platform/soc/soc:firmware/get_throttled"

Test(board, a_machine_without_sensors)
{
    int32_t t = 1;
    uint32_t bits = 1;

    cr_expect_not(board_temperature(root, &t));
    cr_expect_not(board_throttled(root, &bits));
    cr_expect_eq(t, 1);
    cr_expect_eq(bits, 1);
}

Test(board, the_temperature_is_the_processors)
{
    int32_t t;

    put("/sys/class/thermal/thermal_zone0/temp", "30000\n");
    cr_expect(board_temperature(root, &t) && t == 30000, "the only one there is");
    put("/sys/class/thermal/thermal_zone0/type", "acpitz\n");
    put("/sys/class/thermal/thermal_zone3/type", "cpu-thermal\n");
    put("/sys/class/thermal/thermal_zone3/temp", "61322\n");
    cr_expect(board_temperature(root, &t) && t == 61322);
    put("/sys/class/thermal/thermal_zone3/temp", "hot\n");
    cr_expect(board_temperature(root, &t) && t == 30000, "a sensor that is broken is none");
}

Test(board, throttling_as_the_firmware_says)
{
    uint32_t bits;

    put(FIRMWARE, "0\n");
    cr_expect(board_throttled(root, &bits) && bits == 0);
    put(FIRMWARE, "50005\n");
    cr_expect(board_throttled(root, &bits));
    cr_expect_eq(bits, (uint32_t)(BOARD_UNDER_VOLTAGE | BOARD_THROTTLED) * 0x10001);
    put(FIRMWARE, "fff5000f\n");
    cr_expect(board_throttled(root, &bits) && bits == 0x5000f, "only bits that are known");
    put(FIRMWARE, "");
    cr_expect_not(board_throttled(root, &bits));
}

Test(board, the_voltage_where_the_firmware_says_nothing)
{
    uint32_t bits;

    put("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
    put("/sys/class/hwmon/hwmon1/name", "rpi_volt\n");
    cr_expect_not(board_throttled(root, &bits), "there is no alarm");
    put("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
    cr_expect(board_throttled(root, &bits) && bits == BOARD_UNDER_VOLTAGE);
    put("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
    cr_expect(board_throttled(root, &bits) && bits == 0);
}

Test(board, a_line_is_cut_to_fit)
{
    char text[4];

    put("/file", "abcdef\nghi\n");
    cr_expect(board_read(root, "/file", text, sizeof text));
    cr_expect_str_eq(text, "abc");
    cr_expect_not(board_read(root, "/none", text, sizeof text));
}
