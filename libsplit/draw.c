#include "libsplit/draw.h"

#include <errno.h>
#include <string.h>

#include "libsplit/draw_font.h"

enum { RGB = 3, COLOUR_BITS = 8 };

/* As in the colour map of PASCAL VOC: the three lowest bits of the number become the highest bits
 * of the three colours, the next three the next ones. */
struct colour draw_colour(int32_t index)
{
    uint32_t rest = (uint32_t)index + 1, colour[RGB] = { 0 };

    for (int bit = COLOUR_BITS - 1; bit >= 0; bit--)
        for (int i = 0; i < RGB; i++, rest >>= 1)
            colour[i] |= (rest & 1) << bit;
    return (struct colour){ (uint8_t)colour[0], (uint8_t)colour[1], (uint8_t)colour[2] };
}

int draw_copy(struct image *to, const struct image *from)
{
    struct image made;

    const int rc = image_init(&made, from->rows, from->cols, RGB);
    if (rc < 0)
        return rc;
    const size_t n = (size_t)from->rows * (size_t)from->cols;
    if (from->channels == RGB)
        memcpy(made.data, from->data, n * RGB);
    else
        for (size_t i = 0; i < n; i++)
            memset(made.data + i * RGB, from->data[i], RGB);
    *to = made;
    return 0;
}

static int32_t clamp(int32_t x, int32_t end) { return x < 0 ? 0 : x > end ? end : x; }

void draw_fill(struct image *im, int32_t row, int32_t col, int32_t row_end, int32_t col_end,
               struct colour c)
{
    row_end = clamp(row_end, im->rows);
    col_end = clamp(col_end, im->cols);
    col = clamp(col, im->cols);
    for (int32_t r = clamp(row, im->rows); r < row_end; r++) {
        uint8_t *pixel = im->data + ((size_t)r * (size_t)im->cols + (size_t)col) * RGB;
        for (int32_t i = col; i < col_end; i++, pixel += RGB) {
            pixel[0] = c.red;
            pixel[1] = c.green;
            pixel[2] = c.blue;
        }
    }
}

void draw_frame(struct image *im, int32_t row, int32_t col, int32_t row_end, int32_t col_end,
                int32_t thick, struct colour c)
{
    draw_fill(im, row, col, row + thick, col_end, c);
    draw_fill(im, row_end - thick, col, row_end, col_end, c);
    draw_fill(im, row, col, row_end, col + thick, c);
    draw_fill(im, row, col_end - thick, row_end, col_end, c);
}

void draw_paste(struct image *im, int32_t row, int32_t col, const struct image *from)
{
    const uint8_t *pixel = from->data;

    for (int32_t y = 0; y < from->rows; y++)
        for (int32_t x = 0; x < from->cols; x++, pixel += RGB)
            draw_fill(im, row + y, col + x, row + y + 1, col + x + 1,
                      (struct colour){ pixel[0], pixel[1], pixel[2] });
}

static int32_t largest_difference(const uint8_t *a, const uint8_t *b)
{
    int32_t largest = 0;

    for (int i = 0; i < RGB; i++) {
        const int32_t d = a[i] < b[i] ? b[i] - a[i] : a[i] - b[i];
        largest = d > largest ? d : largest;
    }
    return largest;
}

/* Black, red, yellow, white: one colour after the other fills up. */
static struct colour glow(int32_t heat)
{
    return (struct colour){ (uint8_t)clamp(3 * heat, 255), (uint8_t)clamp(3 * heat - 255, 255),
                            (uint8_t)clamp(3 * heat - 510, 255) };
}

void draw_difference(struct image *im, int32_t row, int32_t col, const struct image *from,
                     const struct image *other, int32_t times)
{
    enum { DIM = 4 };
    const uint8_t *a = from->data, *b = other->data;

    for (int32_t y = 0; y < from->rows; y++)
        for (int32_t x = 0; x < from->cols; x++, a += RGB, b += RGB) {
            const int32_t heat = clamp(times * largest_difference(a, b), 255);
            const uint8_t grey = image_luma(a[0], a[1], a[2]) / DIM;
            const struct colour dim = { grey, grey, grey };
            draw_fill(im, row + y, col + x, row + y + 1, col + x + 1, heat ? glow(heat) : dim);
        }
}

/* Bytes that start a UTF-8 character. */
static int starts_character(char c) { return ((unsigned char)c & 0xC0) != 0x80; }

int32_t draw_text_length(const char *text)
{
    int32_t n = 0;

    for (; *text; text++)
        n += starts_character(*text);
    return n;
}

static void draw_character(struct image *im, int32_t row, int32_t col, int32_t scale, char c,
                           struct colour ink)
{
    const uint8_t *bits = draw_font[(c >= FONT_FIRST && c <= FONT_LAST ? c : '?') - FONT_FIRST];

    for (int32_t y = 0; y < DRAW_TEXT_ROWS; y++)
        for (int32_t x = 0; x < DRAW_TEXT_COLS; x++)
            if (bits[y] >> (DRAW_TEXT_COLS - 1 - x) & 1)
                draw_fill(im, row + y * scale, col + x * scale, row + (y + 1) * scale,
                          col + (x + 1) * scale, ink);
}

void draw_text(struct image *im, int32_t row, int32_t col, int32_t scale, const char *text,
               struct colour paper)
{
    static const struct colour black = { 0, 0, 0 }, white = { 255, 255, 255 };
    const int is_light = image_luma(paper.red, paper.green, paper.blue) > 127;
    const int32_t width = DRAW_TEXT_COLS * scale;

    draw_fill(im, row, col, row + DRAW_TEXT_ROWS * scale, col + width * draw_text_length(text),
              paper);
    for (; *text; text++)
        if (starts_character(*text)) {
            draw_character(im, row, col, scale, *text, is_light ? black : white);
            col += width;
        }
}
