#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "libsplit/image_codec.h"

/* A chunk other than image data may not unpack to more (text, profiles: all skipped). */
enum { MAX_CHUNK_BYTES = 1 << 20 };

struct reader {
    const uint8_t *bytes;
    size_t left;
    png_structp png;
    png_infop info;
    struct image im;
    png_bytep *rows;
    char text[128]; /* the library's message */
};

static void on_error(png_structp png, png_const_charp text)
{
    struct reader *r = png_get_error_ptr(png);

    snprintf(r->text, sizeof r->text, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    struct reader *r = png_get_io_ptr(png);

    if (n > r->left)
        png_error(png, "the file is cut off");
    memcpy(to, r->bytes, n);
    r->bytes += n;
    r->left -= n;
}

/* Whatever the file holds becomes 8 bits, grey or RGB, alpha over black.  Gamma and colour
 * profiles are left alone: networks are trained on the bytes as they stand. */
static void choose_colours(png_structp png)
{
    static const png_color_16 black = { 0 };

    png_set_expand(png);
    png_set_scale_16(png);
    png_set_background(png, &black, PNG_BACKGROUND_GAMMA_SCREEN, 0, 1.0);
}

/* Everything between create and destroy.  Holds no local that changes after setjmp(). */
static int read_png(struct reader *r, const char *name, struct diag *why)
{
    if (setjmp(png_jmpbuf(r->png)) != 0)
        return diag(why, -EINVAL, "%s: damaged PNG: %s", name, r->text);

    png_set_read_fn(r->png, r, on_read);
    png_set_chunk_malloc_max(r->png, MAX_CHUNK_BYTES);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    /* The size is ours to refuse, with a better sentence than the library's. */
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(r->png, r->info);
    if (image_check_size(png_get_image_height(r->png, r->info),
                         png_get_image_width(r->png, r->info), name, why) < 0)
        return -EINVAL;

    choose_colours(r->png);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    if (image_init(&r->im, (int32_t)png_get_image_height(r->png, r->info),
                   (int32_t)png_get_image_width(r->png, r->info),
                   png_get_channels(r->png, r->info)) < 0)
        return diag(why, -ENOMEM, "%s: out of memory", name);
    const size_t row_bytes = (size_t)r->im.cols * (size_t)r->im.channels;
    if ((r->im.channels != 1 && r->im.channels != 3) ||
        row_bytes != png_get_rowbytes(r->png, r->info))
        return diag(why, -EINVAL, "%s: a PNG of %d channels; 1 and 3 are allowed", name,
                    r->im.channels);

    r->rows = calloc((size_t)r->im.rows, sizeof *r->rows);
    if (!r->rows)
        return diag(why, -ENOMEM, "%s: out of memory", name);
    for (int32_t i = 0; i < r->im.rows; i++)
        r->rows[i] = r->im.data + (size_t)i * row_bytes;
    png_read_image(r->png, r->rows);
    return 0;
}

int image_decode_png(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                     struct diag *why)
{
    struct reader r = { .bytes = bytes, .left = len };

    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    int rc = r.info ? read_png(&r, name, why) : diag(why, -ENOMEM, "%s: out of memory", name);

    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.rows);
    if (rc < 0)
        image_done(&r.im);
    else
        *im = r.im;
    return rc;
}

int image_encode_png(const struct image *im, uint8_t **bytes, size_t *len)
{
    png_image png = {
        .version = PNG_IMAGE_VERSION,
        .width = (png_uint_32)im->cols,
        .height = (png_uint_32)im->rows,
        .format = im->channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB,
    };
    png_alloc_size_t n = PNG_IMAGE_PNG_SIZE_MAX(png); /* never too small */
    uint8_t *buf = malloc(n);

    if (!buf)
        return -ENOMEM;
    if (!png_image_write_to_memory(&png, buf, &n, 0, im->data, 0, NULL)) {
        png_image_free(&png);
        free(buf);
        return -ENOMEM; /* the picture is valid and the room is enough */
    }
    uint8_t *fit = realloc(buf, n);
    *bytes = fit ? fit : buf;
    *len = n;
    return 0;
}
