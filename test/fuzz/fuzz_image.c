/* Any bytes as a picture.  What decodes must survive resizing. */
#include "libsplit/image.h"

/* A tiny file may claim 64 million pixels, which is allowed but slow: the fuzzer looks for
 * faults, so larger claims than this are skipped by their headers. */
enum { MAX_FUZZED_PIXELS = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static int32_t big_endian(const uint8_t *p) { return p[0] << 8 | p[1]; }

/* The largest extents that any frame header of the file could mean. */
static int claims_too_much(const uint8_t *bytes, size_t len)
{
    if (len > 24 && bytes[0] == 0x89)
        return (int64_t)(big_endian(bytes + 18) + 1) * (big_endian(bytes + 22) + 1) >
               MAX_FUZZED_PIXELS;
    for (size_t i = 0; i + 9 < len; i++)
        if (bytes[i] == 0xff && (bytes[i + 1] & 0xf0) == 0xc0 &&
            (int64_t)big_endian(bytes + i + 5) * big_endian(bytes + i + 7) > MAX_FUZZED_PIXELS)
            return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct image im, small;
    struct diag why;

    if (claims_too_much(bytes, len) || image_decode(&im, bytes, len, "fuzz", &why) < 0)
        return 0;
    if (image_resize(&small, &im, 5, 7, IMAGE_BICUBIC) == 0)
        image_done(&small);
    image_done(&im);
    return 0;
}
