/* Any bytes as a sidecar.  What is valid must prepare small pictures of any shape, and make a
 * picture, or a sentence, of any answer. */
#include <stdlib.h>
#include <string.h>

#include "libsplit/task.h"

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

enum { INPUT = 16, VALUES = 512 };

/* Answers of shapes that the decoders like, with values out of the fuzzer's own bytes. */
static void finish(const struct sidecar *s, const uint8_t *bytes, size_t len)
{
    static const struct shape_of {
        int32_t rank, dim[5];
    } shapes[] = {
        { 3, { 1, 6, 8 } },      { 3, { 1, 4, 32 } },      { 3, { 1, 21, 6 } },
        { 4, { 1, 3, 12, 12 } }, { 5, { 1, 2, 2, 2, 9 } }, { 4, { 1, 18, 2, 2 } },
    };
    float values[VALUES];
    struct task_tensor t[2 * SIDECAR_MAX_STRIDES];

    for (size_t i = 0; i < VALUES; i++)
        memcpy(&values[i], bytes + i * sizeof *values % (len - sizeof *values + 1), sizeof *values);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct task_answer a = { s, 2 * SIDECAR_MAX_STRIDES, t, INPUT, INPUT, 0, 0, NULL };
        struct image im, picture;
        struct diag why;
        for (int32_t k = 0; k < a.ntensors; k++)
            t[k] = (struct task_tensor){ "a", shape_make(shapes[i].rank, shapes[i].dim), values };
        if (task_draw(&a, 0, NULL, &im, &why) == 0)
            image_done(&im);
        if (image_init(&picture, 21, 9, 1) < 0)
            continue;
        if (task_draw(&a, 0, &picture, &im, &why) == 0)
            image_done(&im);
        image_done(&picture);
    }
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
    finish(&s, bytes, len);
    sidecar_done(&s);
    return 0;
}
