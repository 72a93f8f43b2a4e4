#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "libsplit/image_codec.h"

/* Where a pixel of the upright picture lies in the one that was stored. */
struct turn {
    bool swaps;      /* its row is the stored column, its column the stored row */
    bool rows, cols; /* then counted from the stored picture's end */
};

static const struct turn turns[] = {
    [2] = { false, false, true }, [3] = { false, true, true }, [4] = { false, true, false },
    [5] = { true, false, false }, [6] = { true, true, false }, [7] = { true, true, true },
    [8] = { true, false, true },
};

int image_turn(struct image *im, int orientation)
{
    struct image to;

    if (orientation < 2 || orientation > 8)
        return 0;
    const struct turn t = turns[orientation];
    const size_t channels = (size_t)im->channels;
    if (image_init(&to, t.swaps ? im->cols : im->rows, t.swaps ? im->rows : im->cols,
                   im->channels) < 0)
        return -ENOMEM;
    uint8_t *pixel = to.data;
    for (int32_t r = 0; r < to.rows; r++)
        for (int32_t c = 0; c < to.cols; c++, pixel += channels) {
            const int32_t row = t.swaps ? c : r, col = t.swaps ? r : c;
            const int32_t y = t.rows ? im->rows - 1 - row : row;
            const int32_t x = t.cols ? im->cols - 1 - col : col;
            memcpy(pixel, im->data + ((size_t)y * (size_t)im->cols + (size_t)x) * channels,
                   channels);
        }
    image_done(im);
    *im = to;
    return 0;
}
