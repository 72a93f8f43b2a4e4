/* Any bytes as a sidecar.  What is valid must prepare small pictures of any shape. */
#include <stdlib.h>

#include "libsplit/sidecar.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void prepare(const struct sidecar *s, int32_t rows, int32_t cols, int32_t channels)
{
    struct image im;
    struct diag why;
    uint8_t *pixels;
    int32_t to_rows = 9, to_cols = 6;

    if (image_init(&im, rows, cols, channels) < 0)
        return;
    if (sidecar_prepare(s, &im, &to_rows, &to_cols, &pixels, &why) == 0)
        free(pixels);
    image_done(&im);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct sidecar s;
    struct diag why;

    if (sidecar_parse(&s, (const char *)bytes, len, "fuzz", &why) < 0)
        return 0;
    prepare(&s, 1, 1, 1);
    prepare(&s, 1, 40, 3);
    prepare(&s, 9, 6, 3);
    sidecar_done(&s);
    return 0;
}
