/* libsplit/image_codec.h - what image.c and its two file formats share; nobody else's. */
#ifndef LIBSPLIT_IMAGE_CODEC_H
#define LIBSPLIT_IMAGE_CODEC_H

#include "libsplit/image.h"

/* As image_decode(), for bytes that start like this format. */
int image_decode_jpeg(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                      struct diag *why);
int image_decode_png(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                     struct diag *why);

/* Says 0, or -EINVAL with the sentence, for the extents that a file's header claims. */
int image_check_size(uint32_t rows, uint32_t cols, const char *name, struct diag *why);

/* Turns a picture upright that a camera stored by EXIF's `orientation` (1..8; 1 and any other
 * number: as it is).  Returns 0 or -ENOMEM. */
int image_turn(struct image *im, int orientation);

#endif
