#include "libsplit/image.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libsplit/file.h"
#include "libsplit/image_codec.h"

/* No picture within IMAGE_MAX_PIXELS needs more, whatever its format. */
enum { MAX_FILE_BYTES = 512 << 20, JPEG_QUALITY = 92 };

int image_init(struct image *im, int32_t rows, int32_t cols, int32_t channels)
{
    const int64_t pixels = (int64_t)rows * cols;

    if (pixels > INT32_MAX / channels)
        return -ENOMEM;
    uint8_t *data = calloc((size_t)pixels, (size_t)channels);
    if (!data)
        return -ENOMEM;
    *im = (struct image){ rows, cols, channels, data };
    return 0;
}

void image_done(struct image *im)
{
    free(im->data);
    *im = (struct image){ 0 };
}

int image_check_size(uint32_t rows, uint32_t cols, const char *name, struct diag *why)
{
    if (rows < 1 || cols < 1)
        return diag(why, -EINVAL, "%s: the picture has no pixels (%u x %u)", name, cols, rows);
    if (rows > IMAGE_MAX_SIDE || cols > IMAGE_MAX_SIDE || (uint64_t)rows * cols > IMAGE_MAX_PIXELS)
        return diag(why, -EINVAL,
                    "%s: the picture is %u x %u pixels; up to %d a side and %d million in all "
                    "are allowed",
                    name, cols, rows, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS / 1000000);
    return 0;
}

int image_decode(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                 struct diag *why)
{
    static const uint8_t jpeg[] = { 0xff, 0xd8, 0xff };
    static const uint8_t png[] = { 0x89, 'P', 'N', 'G' };

    if (len == 0)
        return diag(why, -EINVAL, "%s: empty; expected a JPEG or PNG picture", name);
    if (len >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        return image_decode_jpeg(im, bytes, len, name, why);
    if (len >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return image_decode_png(im, bytes, len, name, why);
    return diag(why, -EINVAL, "%s: not a picture; JPEG and PNG are allowed", name);
}

int image_load(struct image *im, const char *file, struct diag *why)
{
    uint8_t *bytes;
    size_t len;

    int rc = file_read(file, MAX_FILE_BYTES, &bytes, &len, why);
    if (rc < 0)
        return rc;
    rc = image_decode(im, bytes, len, file, why);
    free(bytes);
    return rc;
}

int image_save(const struct image *im, const char *file, struct diag *why)
{
    const char *ending = strrchr(file, '.');
    uint8_t *bytes = NULL;
    size_t len = 0;
    int rc;

    if (ending && strcasecmp(ending, ".png") == 0)
        rc = image_encode_png(im, &bytes, &len);
    else if (ending && (strcasecmp(ending, ".jpg") == 0 || strcasecmp(ending, ".jpeg") == 0))
        rc = image_encode_jpeg(im, JPEG_QUALITY, &bytes, &len);
    else
        return diag(why, -EINVAL, "%s: the name must end in .png, .jpg or .jpeg", file);
    if (rc < 0)
        return diag(why, rc, "%s: %d x %d pixels cannot be encoded: %s", file, im->cols, im->rows,
                    strerror(-rc));

    rc = file_write(file, bytes, len, why);
    free(bytes);
    return rc;
}

static bool same_size(const struct image *a, const struct image *b)
{
    return a->rows == b->rows && a->cols == b->cols && a->channels == b->channels;
}

int32_t image_largest_difference(const struct image *a, const struct image *b)
{
    int32_t largest = 0;

    if (!same_size(a, b))
        return -1;
    const size_t n = (size_t)a->rows * (size_t)a->cols * (size_t)a->channels;
    for (size_t i = 0; i < n; i++) {
        const int32_t d = abs(a->data[i] - b->data[i]);
        largest = d > largest ? d : largest;
    }
    return largest;
}

double image_psnr(const struct image *a, const struct image *b, int32_t border)
{
    if (!same_size(a, b) || border < 0 || a->rows <= 2 * (int64_t)border ||
        a->cols <= 2 * (int64_t)border)
        return (double)NAN;

    const int32_t rows = a->rows - 2 * border;
    const size_t row_bytes = (size_t)(a->cols - 2 * border) * (size_t)a->channels;
    uint64_t sum = 0;

    for (int32_t r = border; r < border + rows; r++) {
        const size_t at = ((size_t)r * (size_t)a->cols + (size_t)border) * (size_t)a->channels;
        for (size_t i = at; i < at + row_bytes; i++) {
            const int d = a->data[i] - b->data[i];
            sum += (uint64_t)(d * d);
        }
    }
    if (sum == 0)
        return (double)INFINITY;
    return 10 * log10(255.0 * 255.0 * (double)rows * (double)row_bytes / (double)sum);
}
