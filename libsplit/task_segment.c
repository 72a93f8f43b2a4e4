#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/answer.h"
#include "libsplit/task.h"

/* The class of every pixel that the network answered with. */
struct classes {
    int32_t rows, cols;
    uint8_t *index; /* owned */
};

static int check_shape(const struct task_tensor *t, int32_t *classes, struct diag *why)
{
    const struct shape *s = &t->shape;
    char text[SHAPE_TEXT_BYTES];
    bool fits = s->rank >= 3;

    for (int32_t i = 0; fits && i < s->rank - 3; i++)
        fits = s->dim[i] == 1;
    if (!fits || shape_values(s) < 1)
        return diag(why, -EINVAL,
                    "output \"%.64s\" is %s; a segmentation is 1 x classes x rows x columns",
                    t->name, shape_text(s, text));
    *classes = s->dim[s->rank - 3];
    if (*classes > TASK_VOID)
        return diag(why, -EINVAL, "output \"%.64s\" has %d classes, up to %d are possible", t->name,
                    *classes, TASK_VOID);
    return 0;
}

static int classify_pixels(const struct task_answer *a, int32_t output, struct classes *c,
                           struct diag *why)
{
    const struct task_tensor *t = &a->tensor[output];
    const uint8_t *bytes = task_bytes(a, output);
    int32_t classes;

    int rc = check_shape(t, &classes, why);
    if (rc < 0)
        return rc;
    c->rows = t->shape.dim[t->shape.rank - 2];
    c->cols = t->shape.dim[t->shape.rank - 1];
    const size_t plane = (size_t)c->rows * (size_t)c->cols;
    c->index = malloc(plane);
    if (!c->index)
        return diag(why, -ENOMEM, "out of memory for %d x %d classes", c->cols, c->rows);
    if (bytes)
        memcpy(c->index, bytes, plane);
    else if (classes > 1)
        for (size_t i = 0; i < plane; i++)
            c->index[i] = answer_class(t->values + i, plane, classes);
    else
        for (size_t i = 0; i < plane; i++)
            c->index[i] = t->values[i] >= a->sidecar->mask_threshold;
    return 0;
}

/* The answer's row (or column) behind each of the picture's, -1 where the network saw nothing:
 * the centre of the picture's pixel, in the network's input, in the answer.  NULL if memory is
 * short. */
static int32_t *nearest(int32_t extent, int32_t resized, int32_t first, int32_t input,
                        int32_t answer)
{
    int32_t *at = malloc((size_t)extent * sizeof *at);

    for (int32_t i = 0; at && i < extent; i++) {
        const double x = ((double)i + 0.5) * resized / extent - first;
        const double y = floor(x * answer / input);
        at[i] = y >= 0 && y < answer ? (int32_t)y : -1;
    }
    return at;
}

static int spread(const struct task_answer *a, const struct classes *c, struct image *map,
                  struct diag *why)
{
    const bool shown = a->picture_rows > 0;
    const int32_t rows = shown ? a->picture_rows : c->rows;
    const int32_t cols = shown ? a->picture_cols : c->cols;
    struct sidecar_place p = { c->rows, c->cols, 0, 0 };
    int32_t in_rows = c->rows, in_cols = c->cols;
    struct image made = { 0 };

    if (shown) {
        if (sidecar_place(a->sidecar, rows, cols, a->rows, a->cols, &p) < 0)
            return diag(why, -EINVAL, "the picture has no place in an input of %d x %d pixels",
                        a->cols, a->rows);
        in_rows = a->rows;
        in_cols = a->cols;
    }
    int32_t *from_row = nearest(rows, p.rows, p.row, in_rows, c->rows);
    int32_t *from_col = nearest(cols, p.cols, p.col, in_cols, c->cols);
    int rc = from_row && from_col ? image_init(&made, rows, cols, 1) : -ENOMEM;
    if (rc < 0) {
        diag(why, rc, "out of memory for a picture of %d x %d pixels", cols, rows);
        goto out;
    }
    uint8_t *to = made.data;
    for (int32_t row = 0; row < rows; row++)
        for (int32_t col = 0; col < cols; col++)
            *to++ = from_row[row] < 0 || from_col[col] < 0
                        ? TASK_VOID
                        : c->index[(size_t)from_row[row] * (size_t)c->cols + (size_t)from_col[col]];
    *map = made;
out:
    free(from_row);
    free(from_col);
    return rc;
}

int task_segment(const struct task_answer *a, int32_t output, struct image *map, struct diag *why)
{
    struct classes c = { 0 };

    if (a->sidecar->task != TASK_SEGMENT)
        return diag(why, -EINVAL, "the model's task is not to segment");
    int rc = classify_pixels(a, output, &c, why);
    if (rc == 0)
        rc = spread(a, &c, map, why);
    free(c.index);
    return rc;
}

int32_t task_shares(const struct sidecar *s, const struct image *map, int32_t k,
                    struct task_class *top)
{
    const size_t n = (size_t)map->rows * (size_t)map->cols;
    int64_t count[TASK_VOID + 1] = { 0 };
    float share[TASK_VOID];

    for (size_t i = 0; i < n; i++)
        count[map->data[i]]++;
    for (int c = 0; c < TASK_VOID; c++)
        share[c] = (float)((double)count[c] / (double)n);
    int32_t found = task_top(s, share, TASK_VOID, k, top);
    while (found > 0 && top[found - 1].score <= 0)
        found--;
    return found;
}
