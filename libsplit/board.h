/* libsplit/board.h - what the machine's sensors say: /sys of Linux, with what Raspberry Pis add.
 *
 * Files are looked for below `root`, "" for those of this machine. */
#ifndef LIBSPLIT_BOARD_H
#define LIBSPLIT_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As in Raspberry Pi's firmware ("vcgencmd get_throttled"); shifted left by BOARD_SINCE_BOOT: it
 * was so at some time. */
enum {
    BOARD_UNDER_VOLTAGE = 1 << 0,
    BOARD_CAPPED = 1 << 1,    /* the frequency is limited... */
    BOARD_THROTTLED = 1 << 2, /* ...and lowered */
    BOARD_HOT = 1 << 3,       /* the soft limit of temperature is in force */
    BOARD_SINCE_BOOT = 16,
    BOARD_BITS = 0xf000f,
};

/* The processor's temperature in thousandths of a degree Celsius.  False if there is no sensor. */
bool board_temperature(const char *root, int32_t *temperature_mc);

/* Which of the bits above are set.  False if the board does not say. */
bool board_throttled(const char *root, uint32_t *bits);

/* The first line of the file at `root` and `path`, without its end, cut off to `cap`.  False if it
 * cannot be read. */
bool board_read(const char *root, const char *path, char *text, size_t cap);

#endif
