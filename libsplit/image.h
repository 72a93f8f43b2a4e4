/* libsplit/image.h - pictures: JPEG and PNG in and out, resizing, quality figures. */
#ifndef LIBSPLIT_IMAGE_H
#define LIBSPLIT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"

/* Largest picture that is decoded; a larger one is refused from its header, before any
 * memory is taken. */
enum { IMAGE_MAX_SIDE = 16384, IMAGE_MAX_PIXELS = 64 << 20 };

/* 8-bit, rows top to bottom, pixels left to right, channels R G B (3) or grey (1). */
struct image {
    int32_t rows, cols, channels;
    uint8_t *data; /* rows * cols * channels, owned */
};

/* Returns 0 or -ENOMEM (also when the pixels would take 2 GB or more); zeroed pixels.
 * image_done() of a zeroed or done image is fine. */
int image_init(struct image *im, int32_t rows, int32_t cols, int32_t channels);
void image_done(struct image *im);

/* Decodes a whole JPEG or PNG file (told apart by its first bytes; grey, palette, alpha,
 * 16 bits and CMYK become RGB or grey, alpha over black; a JPEG that a camera stored turned, as
 * its EXIF data say, is turned upright).  `name` is quoted in messages.
 * A cut-off or damaged file is an error, never half a picture.  Returns 0, -EINVAL (no
 * picture, damaged, too large) or -ENOMEM, with `*why`. */
int image_decode(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                 struct diag *why);
/* The same from a file; also an error of open(2) or read(2). */
int image_load(struct image *im, const char *file, struct diag *why);

/* Encodes; free() the result.  `quality` is 1..100.  Returns 0, -EINVAL (a side that the
 * format cannot hold) or -ENOMEM. */
int image_encode_png(const struct image *im, uint8_t **bytes, size_t *len);
int image_encode_jpeg(const struct image *im, int quality, uint8_t **bytes, size_t *len);
/* By the file name's ending (.png, .jpg, .jpeg). */
int image_save(const struct image *im, const char *file, struct diag *why);

enum image_filter { IMAGE_BILINEAR, IMAGE_BICUBIC };

/* Resizes with a filter widened by the scale when shrinking (antialiased, like PIL's
 * BILINEAR and BICUBIC, to the bit).  `to` is initialised by the call.  Extents are at
 * least 1.  Returns 0 or -ENOMEM. */
int image_resize(struct image *to, const struct image *from, int32_t rows, int32_t cols,
                 enum image_filter filter);

/* A rectangle of pixels inside a picture. */
struct image_part {
    int32_t row, col, rows, cols;
};

/* The same pixels as `part` of what image_resize() makes, without making the rest: a long
 * thin picture whose short side grows costs no more than its middle. */
int image_resize_part(struct image *to, const struct image *from, int32_t rows, int32_t cols,
                      struct image_part part, enum image_filter filter);

/* Brightness after ITU-R BT.601, rounded as PIL's mode "L" does. */
static inline uint8_t image_luma(uint8_t red, uint8_t green, uint8_t blue)
{
    return (uint8_t)((19595u * red + 38470u * green + 7471u * blue + 32768u) >> 16);
}

/* Peak signal-to-noise ratio in dB over all channels, `border` pixels left out on each side;
 * infinity when equal, NaN when the sizes differ or the border leaves nothing. */
double image_psnr(const struct image *a, const struct image *b, int32_t border);

/* The largest difference of any byte of two pictures of one size; -1 when the sizes differ. */
int32_t image_largest_difference(const struct image *a, const struct image *b);

#endif
