#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>
#include <libexif/exif-data.h>

#include "libsplit/image_codec.h"

/* A progressive file may hold any number of scans, each of which costs a pass over all
 * coefficients: real encoders write about ten. */
enum { MAX_SCANS = 100 };

/* What the library's callbacks reach through cinfo->client_data. */
struct trouble {
    jmp_buf escape;
    char text[JMSG_LENGTH_MAX];
    int err;
};

static void give_up(j_common_ptr cinfo)
{
    struct trouble *t = cinfo->client_data;

    cinfo->err->format_message(cinfo, t->text);
    t->err = cinfo->err->msg_code == JERR_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
    longjmp(t->escape, 1);
}

/* The library decodes on after damage and paints the rest grey.  Half a picture must not be
 * classified, so warnings about the image data are errors; others are noise. */
static void on_message(j_common_ptr cinfo, int level)
{
    if (level >= 0)
        return;
    switch (cinfo->err->msg_code) {
    case JWRN_ARITH_BAD_CODE:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
        give_up(cinfo);
        break;
    default:
        break;
    }
}

static void silent(j_common_ptr cinfo) { (void)cinfo; }

static void on_progress(j_common_ptr cinfo)
{
    struct trouble *t = cinfo->client_data;

    if (((j_decompress_ptr)cinfo)->input_scan_number <= MAX_SCANS)
        return;
    snprintf(t->text, sizeof t->text, "more than %d scans", MAX_SCANS);
    t->err = -EINVAL;
    longjmp(t->escape, 1);
}

static struct jpeg_error_mgr *error_manager(struct jpeg_error_mgr *err)
{
    jpeg_std_error(err);
    err->error_exit = give_up;
    err->emit_message = on_message;
    err->output_message = silent;
    return err;
}

struct reader {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct trouble trouble;
    struct image im;
    uint8_t *cmyk; /* one row, if the file is CMYK */
    int orientation;
};

static uint8_t times(unsigned a, unsigned b) { return (uint8_t)((a * b + 127) / 255); }

/* Adobe writes ink inverted: 255 is none. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n, bool inverted)
{
    const uint8_t flip = inverted ? 0 : 255;

    for (size_t i = 0; i < n; i++, rgb += 3, cmyk += 4)
        for (int c = 0; c < 3; c++)
            rgb[c] = times(cmyk[c] ^ flip, cmyk[3] ^ flip);
}

static void choose_colours(struct jpeg_decompress_struct *cinfo)
{
    switch (cinfo->jpeg_color_space) {
    case JCS_GRAYSCALE:
        cinfo->out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        cinfo->out_color_space = JCS_CMYK;
        break;
    default:
        cinfo->out_color_space = JCS_RGB;
        break;
    }
}

static void read_rows(struct reader *r)
{
    struct jpeg_decompress_struct *cinfo = &r->cinfo;
    const size_t row_bytes = (size_t)r->im.cols * (size_t)r->im.channels;

    while (cinfo->output_scanline < cinfo->output_height) {
        uint8_t *row = r->im.data + cinfo->output_scanline * row_bytes;
        JSAMPROW into = r->cmyk ? r->cmyk : row;
        jpeg_read_scanlines(cinfo, &into, 1);
        if (r->cmyk)
            cmyk_to_rgb(row, r->cmyk, (size_t)r->im.cols, cinfo->saw_Adobe_marker);
    }
}

/* ---- how the camera was held */

enum { EXIF_MARKER = JPEG_APP0 + 1, MARKER_MAX = 0xffff };

static bool is_exif(jpeg_saved_marker_ptr m)
{
    static const uint8_t start[] = { 'E', 'x', 'i', 'f', 0, 0 };
    return m->marker == EXIF_MARKER && m->data_length > sizeof start &&
           memcmp(m->data, start, sizeof start) == 0;
}

/* EXIF's word for it, 1 to 8 if it makes sense; 1 if the file says nothing. */
static int orientation_of(const struct jpeg_decompress_struct *cinfo)
{
    jpeg_saved_marker_ptr m = cinfo->marker_list;
    int orientation = 1;

    while (m && !is_exif(m))
        m = m->next;
    ExifData *exif = m ? exif_data_new() : NULL;
    if (!exif)
        return orientation;
    exif_data_unset_option(exif, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION); /* it adds what lacks */
    exif_data_load_data(exif, m->data, m->data_length);
    const ExifEntry *e = exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    if (e && e->format == EXIF_FORMAT_SHORT && e->components == 1)
        orientation = exif_get_short(e->data, exif_data_get_byte_order(exif));
    exif_data_unref(exif);
    return orientation;
}

/* Everything between create and destroy.  Holds no local that changes after setjmp(). */
static int read_jpeg(struct reader *r, const uint8_t *bytes, size_t len, const char *name,
                     struct diag *why)
{
    struct jpeg_decompress_struct *const cinfo = &r->cinfo;

    if (setjmp(r->trouble.escape) != 0)
        return diag(why, r->trouble.err, "%s: damaged JPEG: %s", name, r->trouble.text);

    jpeg_create_decompress(cinfo);
    cinfo->progress = &r->progress;
    jpeg_mem_src(cinfo, bytes, len);
    jpeg_save_markers(cinfo, EXIF_MARKER, MARKER_MAX); /* no more than the file itself */
    jpeg_read_header(cinfo, TRUE);
    r->orientation = orientation_of(cinfo);
    if (image_check_size(cinfo->image_height, cinfo->image_width, name, why) < 0)
        return -EINVAL;

    choose_colours(cinfo);
    if (image_init(&r->im, (int32_t)cinfo->image_height, (int32_t)cinfo->image_width,
                   cinfo->out_color_space == JCS_GRAYSCALE ? 1 : 3) < 0)
        return diag(why, -ENOMEM, "%s: out of memory", name);
    if (cinfo->out_color_space == JCS_CMYK) {
        r->cmyk = malloc((size_t)cinfo->image_width * 4);
        if (!r->cmyk)
            return diag(why, -ENOMEM, "%s: out of memory", name);
    }

    jpeg_start_decompress(cinfo);
    read_rows(r);
    jpeg_finish_decompress(cinfo);
    if (image_turn(&r->im, r->orientation) < 0)
        return diag(why, -ENOMEM, "%s: out of memory", name);
    return 0;
}

int image_decode_jpeg(struct image *im, const uint8_t *bytes, size_t len, const char *name,
                      struct diag *why)
{
    struct reader r = { .progress.progress_monitor = on_progress };

    r.cinfo.err = error_manager(&r.errors);
    r.cinfo.client_data = &r.trouble; /* jpeg_create_decompress() keeps these two */

    int rc = read_jpeg(&r, bytes, len, name, why);
    jpeg_destroy_decompress(&r.cinfo);
    free(r.cmyk);
    if (rc < 0)
        image_done(&r.im);
    else
        *im = r.im;
    return rc;
}

struct writer {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct trouble trouble;
    unsigned char *bytes;
    unsigned long len;
};

/* Everything between create and destroy.  Holds no local that changes after setjmp(). */
static int write_jpeg(struct writer *w, const struct image *im, int quality)
{
    struct jpeg_compress_struct *const cinfo = &w->cinfo;
    const size_t row_bytes = (size_t)im->cols * (size_t)im->channels;

    if (setjmp(w->trouble.escape) != 0)
        return w->trouble.err;

    jpeg_create_compress(cinfo);
    jpeg_mem_dest(cinfo, &w->bytes, &w->len);
    cinfo->image_height = (JDIMENSION)im->rows;
    cinfo->image_width = (JDIMENSION)im->cols;
    cinfo->input_components = im->channels;
    cinfo->in_color_space = im->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(cinfo);
    jpeg_set_quality(cinfo, quality, TRUE);

    jpeg_start_compress(cinfo, TRUE);
    while (cinfo->next_scanline < cinfo->image_height) {
        JSAMPROW row = im->data + cinfo->next_scanline * row_bytes;
        jpeg_write_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_compress(cinfo);
    return 0;
}

int image_encode_jpeg(const struct image *im, int quality, uint8_t **bytes, size_t *len)
{
    struct writer w = { 0 };

    w.cinfo.err = error_manager(&w.errors);
    w.cinfo.client_data = &w.trouble;

    int rc = write_jpeg(&w, im, quality);
    jpeg_destroy_compress(&w.cinfo);
    if (rc < 0) {
        free(w.bytes);
        return rc;
    }
    *bytes = w.bytes;
    *len = w.len;
    return 0;
}
