/* libsplit/draw_font.h - ASCII characters from space to '~', one byte a row, bit 5 the leftmost
 * of six columns.
 *
 * The X Window System's font "6x10" (misc-fixed): "Public domain font.  Share and enjoy." */
#ifndef LIBSPLIT_DRAW_FONT_H
#define LIBSPLIT_DRAW_FONT_H

#include <stdint.h>

#include "libsplit/draw.h"

enum { FONT_FIRST = ' ', FONT_LAST = '~' };

extern const uint8_t draw_font[FONT_LAST - FONT_FIRST + 1][DRAW_TEXT_ROWS];

#endif
