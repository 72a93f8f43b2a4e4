#include "cli/result.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cli/output.h"
#include "cli/parse.h"
#include "libsplit/npy.h"

enum { KEY_JSON = 400, KEY_TOP, KEY_RAW };
enum { DEFAULT_TOP = 5 };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct result_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        o->top = DEFAULT_TOP;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case KEY_RAW:
        o->raw = true;
        return 0;
    case KEY_TOP:
        if (!parse_int(arg, 1, RESULT_MAX_TOP, &o->top))
            argp_error(state, "--top: '%s' is not a number from 1 to %d", arg, RESULT_MAX_TOP);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "json", KEY_JSON, NULL, 0, "Print one line of JSON per input", 0 },
    { "top", KEY_TOP, "K", 0, "Number of classes to print (default 5)", 0 },
    { "raw", KEY_RAW, NULL, 0, "Treat outputs as plain tensors whatever the task", 0 },
    { 0 },
};

const struct argp result_argp = { .options = options, .parser = parse };

/* Scores between 0 and 1 as ".873", others as they are. */
static void print_score(float score, FILE *to)
{
    char text[32];
    const int n = snprintf(text, sizeof text, "%.3f", (double)score);
    const char *from = n > 1 && text[0] == '0' ? text + 1 : text;
    fprintf(to, "%6s", from);
}

static void print_classes(const struct result *r, FILE *to)
{
    for (int32_t i = 0; i < r->nclasses; i++) {
        const struct task_class *c = &r->classes[i];
        fprintf(to, "%s  ", r->file);
        print_score(c->score, to);
        fprintf(to, "  %s%s(%d)\n", c->label, c->label[0] != '\0' ? " " : "", c->index);
    }
}

/* Corners as "left,top right,bottom". */
static void print_boxes(const struct result *r, FILE *to)
{
    if (r->nboxes == 0)
        fprintf(to, "%s  nothing found\n", r->file);
    for (int32_t i = 0; i < r->nboxes; i++) {
        const struct detection *d = &r->box[i];
        fprintf(to, "%s  ", r->file);
        print_score(d->score, to);
        fprintf(to, "  %s%s(%d)  %.0f,%.0f %.0f,%.0f\n", d->label, d->label[0] != '\0' ? " " : "",
                d->index, (double)d->col, (double)d->row, (double)d->col_end, (double)d->row_end);
    }
}

struct summary {
    double min, max, mean;
};

/* NaN wherever the tensor has one or has no values. */
static struct summary summarise(const struct result_tensor *t)
{
    const int64_t n = shape_values(&t->shape);
    struct summary s = { INFINITY, -INFINITY, 0 };
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)t->values[i];
        if (v < s.min)
            s.min = v;
        if (v > s.max)
            s.max = v;
        s.mean += v;
    }
    s.mean /= (double)n;
    if (isnan(s.mean) || n == 0)
        s.min = s.max = s.mean = (double)NAN;
    return s;
}

static void print_tensors(const struct result *r, FILE *to)
{
    char shape[SHAPE_TEXT_BYTES];
    for (int32_t i = 0; i < r->ntensors; i++) {
        const struct result_tensor *t = &r->tensor[i];
        const struct summary s = summarise(t);
        fprintf(to, "%s  %s  %s  min %.6g  max %.6g  mean %.6g", r->file, t->name,
                shape_text(&t->shape, shape), s.min, s.max, s.mean);
        if (t->file)
            fprintf(to, "  -> %s", t->file);
        fputc('\n', to);
    }
}

static void print_text(const struct result *r, FILE *to)
{
    print_classes(r, to);
    if (r->has_boxes)
        print_boxes(r, to);
    print_tensors(r, to);
    if (r->class_map)
        fprintf(to, "%s  classes -> %s\n", r->file, r->class_map);
    if (r->picture)
        fprintf(to, "%s  -> %s\n", r->file, r->picture);
}

/* cJSON's functions accept the NULL that another one returned when memory was short, so that only
 * the last has to be looked at. */
static cJSON *classes_json(const struct result *r)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; list && i < r->nclasses; i++) {
        cJSON *c = cJSON_CreateObject();
        cJSON_AddNumberToObject(c, "index", r->classes[i].index);
        cJSON_AddNumberToObject(c, "score", (double)r->classes[i].score);
        cJSON_AddStringToObject(c, "label", r->classes[i].label);
        cJSON_AddItemToArray(list, c);
    }
    return list;
}

/* Hundredths of a pixel are more than a box means. */
static double rounded(float x) { return round((double)x * 100) / 100; }

static cJSON *boxes_json(const struct result *r)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; list && i < r->nboxes; i++) {
        const struct detection *d = &r->box[i];
        const double corners[] = { rounded(d->col), rounded(d->row), rounded(d->col_end),
                                   rounded(d->row_end) };
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "label", d->label);
        cJSON_AddNumberToObject(o, "index", d->index);
        cJSON_AddNumberToObject(o, "score", (double)d->score);
        cJSON_AddItemToObject(o, "box", cJSON_CreateDoubleArray(corners, 4));
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static cJSON *tensors_json(const struct result *r)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; list && i < r->ntensors; i++) {
        const struct result_tensor *t = &r->tensor[i];
        const struct summary s = summarise(t);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", t->name);
        cJSON_AddItemToObject(o, "shape", cJSON_CreateIntArray(t->shape.dim, t->shape.rank));
        /* JSON has no NaN and no infinity: cJSON writes null for them. */
        cJSON_AddNumberToObject(o, "min", s.min);
        cJSON_AddNumberToObject(o, "max", s.max);
        cJSON_AddNumberToObject(o, "mean", s.mean);
        if (t->file)
            cJSON_AddStringToObject(o, "file", t->file);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static cJSON *nodes_json(const struct result *r)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; list && i < r->nnodes; i++) {
        const struct exec_stats *s = &r->node[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "compute_ms", (double)s->compute_ns / 1e6);
        cJSON_AddNumberToObject(o, "wait_ms", (double)s->wait_ns / 1e6);
        cJSON_AddNumberToObject(o, "sent_bytes", (double)s->sent_bytes);
        cJSON_AddNumberToObject(o, "received_bytes", (double)s->received_bytes);
        cJSON_AddNumberToObject(o, "halo_sent_bytes", (double)s->halo_sent_bytes);
        cJSON_AddNumberToObject(o, "halo_sent_messages", s->halo_sent_messages);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static int print_json(const struct result *r, FILE *to, struct diag *why)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "file", r->file);
    if (r->nclasses > 0)
        cJSON_AddItemToObject(o, "classes", classes_json(r));
    if (r->has_boxes)
        cJSON_AddItemToObject(o, "detections", boxes_json(r));
    if (r->ntensors > 0)
        cJSON_AddItemToObject(o, "outputs", tensors_json(r));
    if (r->class_map)
        cJSON_AddStringToObject(o, "class_map", r->class_map);
    if (r->picture)
        cJSON_AddStringToObject(o, "picture", r->picture);
    cJSON_AddNumberToObject(o, "ms", r->ms);
    if (r->from_cluster) {
        cJSON_AddNumberToObject(o, "answer_bytes", r->answer_bytes);
        cJSON_AddNumberToObject(o, "concealed", r->concealed);
    }
    if (r->nnodes > 0)
        cJSON_AddItemToObject(o, "nodes", nodes_json(r));

    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    if (!text)
        return diag(why, -ENOMEM, "%s: memory is short for the result", r->file);
    fprintf(to, "%s\n", text);
    cJSON_free(text);
    return 0;
}

int result_print(const struct result *r, bool json, FILE *to, struct diag *why)
{
    if (json)
        return print_json(r, to, why);
    print_text(r, to);
    return 0;
}

int result_give_tensors(struct result r, struct result_tensor *tensor, int32_t n, const char *dir,
                        bool json, struct diag *why)
{
    char(*path)[OUTPUT_PATH_MAX] = calloc((size_t)n + 1, sizeof *path);
    int rc = path ? 0 : diag(why, -ENOMEM, "%s: memory is short for the result", r.file);

    for (int32_t i = 0; rc == 0 && dir && i < n; i++) {
        struct result_tensor *t = &tensor[i];
        rc = output_name(path[i], dir, r.file, t->name, ".npy", why);
        if (rc == 0)
            rc = npy_save(path[i], t->shape.rank, t->shape.dim, t->values, why);
        t->file = path[i];
    }
    r.ntensors = n;
    r.tensor = tensor;
    if (rc == 0)
        rc = result_print(&r, json, stdout, why);
    free(path);
    return rc;
}
