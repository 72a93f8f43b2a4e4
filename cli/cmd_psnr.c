#include <argp.h>
#include <errno.h>
#include <stdbool.h>

#include "cli/command.h"
#include "cli/parse.h"
#include "libsplit/image.h"

enum { KEY_BICUBIC = 300, KEY_BORDER };

struct options {
    const char *file[2]; /* the picture and its reference */
    int32_t border;
    bool bicubic;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case KEY_BICUBIC:
        o->bicubic = true;
        return 0;
    case KEY_BORDER:
        if (!parse_int(arg, 0, IMAGE_MAX_SIDE, &o->border))
            argp_error(state, "--border: '%s' is not a number of pixels", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num >= 2)
            argp_error(state, "two pictures only, '%s' is too much", arg);
        else
            o->file[state->arg_num] = arg;
        return 0;
    case ARGP_KEY_END:
        if (state->arg_num < 2)
            argp_error(state, "a picture and a reference are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "bicubic", KEY_BICUBIC, NULL, 0, "First resize PICTURE to the size of REFERENCE", 0 },
    { "border", KEY_BORDER, "N", 0, "Leave out N pixels on each side (default 4)", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "PICTURE REFERENCE",
    .doc = "Prints how much two pictures differ: the peak signal-to-noise ratio in dB over all "
           "channels, and the largest difference of any byte of the whole pictures.",
};

static bool same_size(const struct image *a, const struct image *b)
{
    return a->rows == b->rows && a->cols == b->cols && a->channels == b->channels;
}

static int resize_to(struct image *im, const struct image *reference, struct diag *why)
{
    struct image resized;
    const int rc = image_resize(&resized, im, reference->rows, reference->cols, IMAGE_BICUBIC);
    if (rc < 0)
        return diag(why, rc, "memory is short for a picture of %d x %d", reference->rows,
                    reference->cols);
    image_done(im);
    *im = resized;
    return 0;
}

static int compare(const struct options *o, struct diag *why)
{
    struct image im = { 0 }, reference = { 0 };

    int rc = image_load(&im, o->file[0], why);
    if (rc == 0)
        rc = image_load(&reference, o->file[1], why);
    if (rc == 0 && o->bicubic)
        rc = resize_to(&im, &reference, why);
    if (rc < 0)
        goto out;
    if (!same_size(&im, &reference)) {
        rc = diag(why, -EINVAL, "%s is %d x %d x %d, %s is %d x %d x %d", o->file[0], im.rows,
                  im.cols, im.channels, o->file[1], reference.rows, reference.cols,
                  reference.channels);
        goto out;
    }
    if (2 * o->border >= im.rows || 2 * o->border >= im.cols) {
        rc = diag(why, -EINVAL, "%s: a border of %d pixels leaves nothing of %d x %d", o->file[0],
                  o->border, im.rows, im.cols);
        goto out;
    }
    printf("PSNR %.2f dB, largest difference %d\n", image_psnr(&im, &reference, o->border),
           image_largest_difference(&im, &reference));
out:
    image_done(&reference);
    image_done(&im);
    return rc;
}

int cmd_psnr(int argc, char **argv)
{
    struct options o = { .border = 4 };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    return compare(&o, &why) < 0 ? complain("%s", why.text) : RESULT_OK;
}
