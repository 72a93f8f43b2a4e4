#include "daemon/api_output.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api_tensor.h"
#include "libsplit/task.h"
#include "proto/wire.h"

enum { LENGTH_BYTES = 4, JPEG_QUALITY = 95 };

void api_made_done(struct api_made *m)
{
    free(m->json);
    free(m->bytes);
}

static int make_values(struct api_made *m, const struct infer_output *o,
                       const struct request_tensor *t)
{
    const size_t n = (size_t)shape_values(&t->shape);

    m->datatype = "FP32";
    m->rank = t->shape.rank;
    memcpy(m->dim, t->shape.dim, sizeof m->dim);
    if (!o->binary) {
        m->json = api_print_floats(t->values, n);
        return m->json ? 0 : -ENOMEM;
    }
    m->values = t->values;
    m->len = n * sizeof *t->values;
    return 0;
}

/* ---- BYTES */

/* Puts `n` elements into `m`, as JSON strings or each after 4 bytes of its length. */
static int make_bytes(struct api_made *m, const struct infer_output *o, const char *const *element,
                      const size_t *len, size_t n)
{
    m->datatype = "BYTES";
    if (o->binary) {
        for (size_t i = 0; i < n; i++)
            m->len += LENGTH_BYTES + len[i];
        m->bytes = malloc(m->len + 1);
        if (!m->bytes)
            return -ENOMEM;
        struct writer w = { .buf = m->bytes, .cap = m->len };
        for (size_t i = 0; i < n; i++) {
            put_u32(&w, (uint32_t)len[i]);
            put_bytes(&w, element[i], len[i]);
        }
        return 0;
    }
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = cJSON_AddItemToArray(list, cJSON_CreateString(element[i]));
    m->json = ok ? cJSON_PrintUnformatted(list) : NULL;
    cJSON_Delete(list);
    return m->json ? 0 : -ENOMEM;
}

static int make_text(struct api_made *m, const struct infer_output *o, const char *text)
{
    const size_t len = strlen(text);

    m->rank = 1;
    m->dim[0] = 1;
    return make_bytes(m, o, &text, &len, 1);
}

/* One element that is a file; JSON holds it as base64. */
static int make_file(struct api_made *m, const struct infer_output *o, const uint8_t *file,
                     size_t len)
{
    const char *bytes = (const char *)file;
    int rc;

    m->rank = 1;
    m->dim[0] = 1;
    if (o->binary)
        return make_bytes(m, o, &bytes, &len, 1);
    char *text = api_base64_encode(file, len);
    rc = text ? make_text(m, o, text) : -ENOMEM;
    m->base64 = true;
    free(text);
    return rc;
}

/* ---- what the tasks make of an answer */

/* The request as libsplit/task.h sees it, with room for its outputs. */
struct answer {
    struct task_answer a;
    struct task_tensor *tensor; /* owned */
    int32_t output;             /* the one that is wanted */
};

static int answer_init(struct answer *x, const struct request *r, const struct request_tensor *t)
{
    x->tensor = calloc((size_t)r->noutputs, sizeof *x->tensor);
    if (!x->tensor)
        return -ENOMEM;
    for (int32_t i = 0; i < r->noutputs; i++)
        x->tensor[i] =
            (struct task_tensor){ r->output[i].name, r->output[i].shape, r->output[i].values };
    x->output = (int32_t)(t - r->output);
    x->a = (struct task_answer){ .sidecar = r->sidecar,
                                 .ntensors = r->noutputs,
                                 .tensor = x->tensor,
                                 .bytes = r->bytes,
                                 .rows = r->rows,
                                 .cols = r->cols,
                                 .picture_rows = r->picture_rows,
                                 .picture_cols = r->picture_cols };
    return 0;
}

/* "score:index:label" of `n` classes. */
static int name_classes(const struct task_class *top, int32_t n, char **text)
{
    for (int32_t i = 0; i < n; i++) {
        const char *label = top[i].label ? top[i].label : "";
        if (asprintf(&text[i], "%.9g:%d%s%s", (double)top[i].score, top[i].index,
                     label[0] ? ":" : "", label) < 0) {
            text[i] = NULL;
            return -ENOMEM;
        }
    }
    return 0;
}

/* The list of `n` classes, `top` and `text` having room for so many. */
static int list_classes(struct api_made *m, const struct infer_output *o,
                        const struct task_class *top, size_t n)
{
    char **text = calloc(n + 1, sizeof *text);
    size_t *len = calloc(n + 1, sizeof *len);
    int rc = text && len ? name_classes(top, (int32_t)n, text) : -ENOMEM;

    for (size_t i = 0; rc == 0 && i < n; i++)
        len[i] = strlen(text[i]);
    if (rc == 0)
        rc = make_bytes(m, o, (const char *const *)text, len, n);
    for (size_t i = 0; text && i < n; i++)
        free(text[i]);
    free(text);
    free(len);
    return rc;
}

/* The top classes of each image of a batch. */
static int make_classes(struct api_made *m, const struct infer_output *o, const struct request *r,
                        const struct request_tensor *t, struct diag *why)
{
    const int32_t images = t->shape.rank > 1 ? t->shape.dim[0] : 1;
    const int64_t scores = shape_values(&t->shape) / (images > 0 ? images : 1);
    if (scores < 1 || scores > INT32_MAX || images < 1)
        return diag(why, -EINVAL, "output \"%.64s\" has no scores", o->name);
    const int32_t k = o->classes < scores ? o->classes : (int32_t)scores;
    const int64_t n = (int64_t)images * k; /* no more than there are values */
    struct task_class *top = calloc((size_t)n, sizeof *top);
    if (!top)
        return -ENOMEM;
    for (int32_t i = 0; i < images; i++)
        task_top(r->sidecar, t->values + i * scores, (int32_t)scores, k, top + (int64_t)i * k);
    m->rank = t->shape.rank > 1 ? 2 : 1;
    m->dim[0] = t->shape.rank > 1 ? images : k;
    m->dim[1] = k;
    const int rc = list_classes(m, o, top, (size_t)n);
    free(top);
    return rc;
}

/* The largest classes of a segmentation. */
static int make_shares(struct api_made *m, const struct infer_output *o, const struct answer *x,
                       struct diag *why)
{
    struct task_class top[TASK_VOID];
    struct image map;

    const int rc = task_segment(&x->a, x->output, &map, why);
    if (rc < 0)
        return rc;
    const int32_t k = o->classes < TASK_VOID ? o->classes : TASK_VOID;
    const int32_t n = task_shares(x->a.sidecar, &map, k, top);
    image_done(&map);
    m->rank = 1;
    m->dim[0] = n;
    return list_classes(m, o, top, (size_t)n);
}

static double rounded(float x, double places) { return round((double)x * places) / places; }

/* cJSON's functions take the NULL of one that failed and fail. */
static bool add_detection(cJSON *list, const struct detection *d)
{
    const float corners[] = { d->col, d->row, d->col_end, d->row_end };
    cJSON *o = cJSON_CreateObject();
    bool ok = cJSON_AddStringToObject(o, "label", d->label) &&
              cJSON_AddNumberToObject(o, "index", d->index) &&
              cJSON_AddNumberToObject(o, "score", rounded(d->score, 1e6));
    cJSON *box = cJSON_AddArrayToObject(o, "box");

    for (int i = 0; ok && i < 4; i++)
        ok = cJSON_AddItemToArray(box, cJSON_CreateNumber(rounded(corners[i], 100)));
    if (ok && cJSON_AddItemToArray(list, o))
        return true;
    cJSON_Delete(o);
    return false;
}

static int make_detections(struct api_made *m, const struct infer_output *o, const struct answer *x,
                           struct diag *why)
{
    struct detection *found;
    int32_t n;

    int rc = task_detect(&x->a, &found, &n, why);
    if (rc < 0)
        return rc;
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (int32_t i = 0; ok && i < n; i++)
        ok = add_detection(list, &found[i]);
    char *text = ok ? cJSON_PrintUnformatted(list) : NULL;
    rc = text ? make_text(m, o, text) : -ENOMEM;
    cJSON_free(text);
    cJSON_Delete(list);
    free(found);
    return rc;
}

static int make_encoded(struct api_made *m, const struct infer_output *o, const struct image *im,
                        struct diag *why)
{
    uint8_t *file = NULL;
    size_t len = 0;

    int rc = o->form == FORM_JPEG ? image_encode_jpeg(im, JPEG_QUALITY, &file, &len)
                                  : image_encode_png(im, &file, &len);
    if (rc < 0)
        return diag(why, rc, "output \"%.64s\": the picture cannot be encoded", o->name);
    rc = make_file(m, o, file, len);
    free(file);
    return rc;
}

static int make_class_map(struct api_made *m, const struct infer_output *o, const struct answer *x,
                          struct diag *why)
{
    struct image map;

    int rc = task_segment(&x->a, x->output, &map, why);
    if (rc < 0)
        return rc;
    rc = make_encoded(m, o, &map, why);
    image_done(&map);
    return rc;
}

/* The picture is decoded once more: few requests want it, and it may be large. */
static int make_picture(struct api_made *m, const struct infer_output *o, const struct request *r,
                        const struct answer *x, struct diag *why)
{
    struct image picture = { 0 }, im;
    int rc = 0;

    if (r->picture)
        rc = image_decode(&picture, r->picture, r->picture_bytes, "the picture", why);
    if (rc == 0)
        rc = task_draw(&x->a, x->output, picture.data ? &picture : NULL, &im, why);
    image_done(&picture);
    if (rc < 0)
        return rc;
    rc = make_encoded(m, o, &im, why);
    image_done(&im);
    return rc;
}

static int make_task(struct api_made *m, const struct infer_output *o, const struct request *r,
                     const struct request_tensor *t, struct diag *why)
{
    struct answer x;

    int rc = answer_init(&x, r, t);
    if (rc < 0)
        return rc;
    if (o->form == FORM_CLASSES)
        rc = make_shares(m, o, &x, why);
    else if (o->form == FORM_DETECTIONS)
        rc = make_detections(m, o, &x, why);
    else if (o->form == FORM_CLASS_MAP)
        rc = make_class_map(m, o, &x, why);
    else
        rc = make_picture(m, o, r, &x, why);
    free(x.tensor);
    return rc;
}

int api_make(struct api_made *m, const struct infer_output *o, const struct request *r,
             struct diag *why)
{
    const struct request_tensor *t = NULL;

    for (int32_t i = 0; i < r->noutputs; i++)
        if (strcmp(r->output[i].name, o->name) == 0)
            t = &r->output[i];
    if (!t)
        return diag(why, -EINVAL, "the model has no output \"%.64s\"", o->name);
    if (o->form == FORM_VALUES)
        return make_values(m, o, t);
    if (o->form == FORM_CLASSES && r->sidecar->task != TASK_SEGMENT)
        return make_classes(m, o, r, t, why);
    return make_task(m, o, r, t, why);
}
