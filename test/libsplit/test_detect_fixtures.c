/* The decoders of detectors against those of torchvision and of the papers in NumPy
 * (scripts/detect-fixtures made test/fixtures/detect). */
#include "libsplit/npy.h"
#include "libsplit/task.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TENSORS = 4, BOX_VALUES = 6 };

static void load(struct npy *a, const char *name, const char *part)
{
    char path[256];
    struct diag why = { "" };
    snprintf(path, sizeof path, "test/fixtures/detect/%s.%s.npy", name, part);
    cr_assert_eq(npy_load(a, path, &why), 0, "%s", why.text);
}

/* Left, top, right, bottom, score and class. */
static void expect(const struct detection *d, const float *box, const char *name, int32_t i)
{
    const float got[BOX_VALUES] = { d->col,     d->row,   d->col_end,
                                    d->row_end, d->score, (float)d->index };
    for (int k = 0; k < BOX_VALUES; k++)
        cr_assert(fabsf(got[k] - box[k]) <= (k < 4 ? 2e-3F : 1e-5F),
                  "%s: value %d of box %d is %g, %g is right", name, k, i, (double)got[k],
                  (double)box[k]);
}

static void check(const char *name, int32_t rows, int32_t cols, int32_t ntensors)
{
    struct npy values[MAX_TENSORS], boxes;
    struct task_tensor tensor[MAX_TENSORS];
    struct sidecar s;
    struct diag why = { "" };
    struct detection *d;
    int32_t n;
    char path[256], part[12];
    snprintf(path, sizeof path, "test/fixtures/detect/%s.json", name);
    cr_assert_eq(sidecar_load(&s, path, &why), 0, "%s", why.text);
    load(&boxes, name, "boxes");
    for (int32_t i = 0; i < ntensors; i++) {
        snprintf(part, sizeof part, "%d", i);
        load(&values[i], name, part);
        tensor[i] = (struct task_tensor){ part, shape_make(values[i].rank, values[i].dim),
                                          values[i].values };
    }
    const struct task_answer a = {
        .sidecar = &s, .ntensors = ntensors, .tensor = tensor, .rows = rows, .cols = cols
    };
    cr_assert_eq(task_detect(&a, &d, &n, &why), 0, "%s", why.text);
    cr_assert_eq(n, boxes.dim[0], "%s: %d boxes, %d are right", name, n, boxes.dim[0]);
    cr_assert_gt(n, 10);
    for (int32_t i = 0; i < n; i++)
        expect(&d[i], boxes.values + (ptrdiff_t)i * BOX_VALUES, name, i);
    free(d);
    for (int32_t i = 0; i < ntensors; i++)
        npy_done(&values[i]);
    npy_done(&boxes);
    sidecar_done(&s);
}

Test(detect_fixtures, yolox) { check("yolox", 48, 64, 1); }
Test(detect_fixtures, yolov5) { check("yolov5", 48, 64, 2); }
Test(detect_fixtures, yolov5_as_convolutions_give_it) { check("yolov5_convolutions", 48, 64, 2); }
Test(detect_fixtures, yolov8) { check("yolov8", 48, 64, 1); }
Test(detect_fixtures, nanodet) { check("nanodet", 48, 64, 4); }
Test(detect_fixtures, ssd_with_steps_that_do_not_divide) { check("ssd_steps", 60, 60, 2); }
Test(detect_fixtures, ssd_with_even_anchors) { check("ssd_even", 64, 64, 2); }
