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

/* Returns 0 or -ENOMEM; zeroed pixels.  image_done() of a zeroed or done image is fine. */
int image_init(struct image *im, int32_t rows, int32_t cols, int32_t channels);
void image_done(struct image *im);

/* Decodes a whole JPEG or PNG file (told apart by its first bytes; grey, palette, alpha,
 * 16 bits and CMYK become RGB or grey, alpha over black).  `name` is quoted in messages.
 * Returns 0, -EINVAL (no picture, damaged, too large) or -ENOMEM, with `*why`. */
int image_decode(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                 struct diag *why);
int image_load(struct image *im, const char *file, struct diag *why);

/* Encodes; free() the result.  Returns 0 or -ENOMEM. */
int image_encode_png(const struct image *im, uint8_t **bytes, size_t *len);
int image_encode_jpeg(const struct image *im, int quality, uint8_t **bytes, size_t *len);
/* By the file name's ending (.png, .jpg, .jpeg). */
int image_save(const struct image *im, const char *file, struct diag *why);

enum image_filter { IMAGE_BILINEAR, IMAGE_BICUBIC };

/* Resizes with a filter widened by the scale when shrinking (antialiased, like PIL's
 * BILINEAR and BICUBIC).  `to` is initialised by the call. */
int image_resize(struct image *to, const struct image *from, int32_t rows, int32_t cols,
                 enum image_filter filter);

/* Peak signal-to-noise ratio in dB over all channels, `border` pixels left out on each side;
 * infinity when equal.  Both must have the same size. */
double image_psnr(const struct image *a, const struct image *b, int32_t border);

#endif
