/* libsplit/draw.h - boxes, text and colours on an RGB picture.
 *
 * Whatever lies outside the picture `im` is cut off. */
#ifndef LIBSPLIT_DRAW_H
#define LIBSPLIT_DRAW_H

#include "libsplit/image.h"

struct colour {
    uint8_t red, green, blue;
};

/* A colour for class `index`; neighbours in number look different. */
struct colour draw_colour(int32_t index);

/* A copy with three channels.  Returns 0 or -ENOMEM; `to` is initialised by the call. */
int draw_copy(struct image *to, const struct image *from);

/* Fills the pixels of rows [row, row_end), columns [col, col_end). */
void draw_fill(struct image *im, int32_t row, int32_t col, int32_t row_end, int32_t col_end,
               struct colour c);
/* The edge of that rectangle, `thick` pixels inwards. */
void draw_frame(struct image *im, int32_t row, int32_t col, int32_t row_end, int32_t col_end,
                int32_t thick, struct colour c);

enum { DRAW_TEXT_ROWS = 10, DRAW_TEXT_COLS = 6 }; /* of one character at scale 1 */

/* UTF-8 text in black or white, whichever is easier to read, on a strip of `paper` whose upper
 * left corner is (row, col).  Characters outside ASCII become '?'. */
void draw_text(struct image *im, int32_t row, int32_t col, int32_t scale, const char *text,
               struct colour paper);
/* Puts `from`, an RGB picture, with its upper left corner at (row, col). */
void draw_paste(struct image *im, int32_t row, int32_t col, const struct image *from);

/* A dim, grey `from`, its upper left corner at (row, col), on which glows where `other`, an RGB
 * picture of the same size as `from`, is different: a pixel by `times` its largest difference of
 * any colour, from dark red (1) over yellow to white (255 and more). */
void draw_difference(struct image *im, int32_t row, int32_t col, const struct image *from,
                     const struct image *other, int32_t times);

/* Characters in `text`. */
int32_t draw_text_length(const char *text);

#endif
