#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/client.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/parse.h"
#include "cli/progress.h"
#include "cli/result.h"
#include "libsplit/file.h"
#include "libsplit/npy.h"

enum { KEY_JSON = 300, KEY_TOP, KEY_RAW };
enum { MAX_FILE_BYTES = 256 << 20, LABEL_MAX = 255, MODEL_NAME_MAX = 255 };

struct options {
    struct client_options client;
    const char *model, *output;
    char **file;
    int nfiles;
    int32_t top;
    bool json, raw;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->client;
        return 0;
    case 'm':
        o->model = arg;
        return 0;
    case 'o':
        o->output = arg;
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
    case ARGP_KEY_ARGS:
        o->file = state->argv + state->next;
        o->nfiles = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a picture is missing");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "model", 'm', "NAME", 0, "The model to ask (default: the only one that the server has)", 0 },
    { "output", 'o', "OUT", 0,
      "Where pictures and tensors go: a folder, or the file for one picture", 0 },
    { "json", KEY_JSON, NULL, 0, "Print one line of JSON per picture", 0 },
    { "top", KEY_TOP, "K", 0, "Number of classes to print (default 5)", 0 },
    { "raw", KEY_RAW, NULL, 0, "Ask for plain tensors whatever the task", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "IMAGE...",
    .doc = "Sends pictures (JPEG or PNG) or tensors (.npy) to a cluster and prints what it "
           "answers.\vPrinted are the best classes, the boxes of what was detected (left,top "
           "right,bottom in pixels), or the largest segments with their shares of the picture.  "
           "With --output the picture is written with these drawn on it, of a segmentation into a "
           "folder also the class of every pixel; networks that give pictures need it.  Other "
           "outputs are summarised and, with --output, written as .npy.",
    .children = (const struct argp_child[]){ { &client_argp, 0, NULL, 0 }, { 0 } },
};

/* What the server says of the model, and how its answers are shown. */
struct session {
    const struct options *o;
    struct client *client;
    char model[MODEL_NAME_MAX + 1]; /* its name */
    cJSON *metadata;                /* of the model; names below point into it */
    const char *input;
    enum task task;
    int32_t nwant;
    struct client_want want[CLIENT_MAX_OUTPUTS];
    bool into_dir; /* OUT is a folder */
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The names of all models, for a sentence. */
static void list_models(const cJSON *models, char *text, size_t cap)
{
    const cJSON *m;
    size_t at = 0;

    text[0] = '\0';
    cJSON_ArrayForEach(m, models) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(m, "name"));
        if (name && at < cap)
            at += (size_t)snprintf(text + at, cap - at, "%s%s", at > 0 ? ", " : "", name);
    }
}

/* The model to ask: the one of --model, or the only one. */
static int choose_model(struct session *s, const cJSON *models, const cJSON **chosen,
                        struct diag *why)
{
    const cJSON *m;
    char names[256];

    *chosen = NULL;
    cJSON_ArrayForEach(m, models) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(m, "name"));
        if (name && strlen(name) <= MODEL_NAME_MAX &&
            (s->o->model ? strcmp(name, s->o->model) == 0 : cJSON_GetArraySize(models) == 1)) {
            *chosen = m;
            memcpy(s->model, name, strlen(name) + 1);
        }
    }
    if (*chosen)
        return 0;
    list_models(models, names, sizeof names);
    if (cJSON_GetArraySize(models) == 0)
        return diag(why, -EINVAL, "the server has no model");
    if (s->o->model)
        return diag(why, -EINVAL, "the server has no model '%s', it has: %s", s->o->model, names);
    return diag(why, -EINVAL, "the server has several models, choose one with --model: %s", names);
}

static int read_task(struct session *s, const cJSON *model, struct diag *why)
{
    const char *task = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "task"));

    s->task = TASK_RAW;
    if (s->o->raw || !task)
        return 0;
    for (; s->task <= TASK_SEGMENT; s->task++)
        if (strcmp(task, sidecar_task_name(s->task)) == 0)
            return 0;
    return diag(why, -ENOTSUP,
                "the server says the task of model '%s' is '%s', which this splitctl does not know",
                s->model, task);
}

/* Asks what models there are.  Returns 0, -EAGAIN while the one that is meant is still loading, or
 * another negative errno. */
static int find_model(struct session *s, struct diag *why)
{
    cJSON *status;
    const cJSON *model;

    int rc = client_get(s->client, "/splitd/status", &status, why);
    if (rc < 0)
        return rc;
    rc = choose_model(s, cJSON_GetObjectItemCaseSensitive(status, "models"), &model, why);
    if (rc == 0) {
        const char *problem =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "problem"));
        if (problem && problem[0] != '\0')
            rc = diag(why, -EINVAL, "the server cannot run model '%s': %s", s->model, problem);
        else if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(model, "task")))
            rc = diag(why, -EAGAIN, "the server is still loading model '%s'", s->model);
        else
            rc = read_task(s, model, why);
    }
    cJSON_Delete(status);
    return rc;
}

static int wait_for_model(struct session *s, struct diag *why)
{
    const struct timespec pause = { .tv_nsec = 50000000 };
    const double deadline = now_ms() + client_timeout_s(s->client) * 1e3;
    int rc;

    while ((rc = find_model(s, why)) == -EAGAIN && now_ms() < deadline)
        nanosleep(&pause, NULL);
    return rc;
}

static bool ends_with(const char *text, const char *ending)
{
    const size_t n = strlen(text), e = strlen(ending);
    return n >= e && strcasecmp(text + n - e, ending) == 0;
}

/* Asks for the plain tensors. */
static int want_tensors(struct session *s, const cJSON *outputs, struct diag *why)
{
    const cJSON *o;

    cJSON_ArrayForEach(o, outputs) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "name"));
        if (!name || s->nwant == CLIENT_MAX_OUTPUTS)
            return diag(why, -EREMOTEIO, "the outputs of model '%s' make no sense", s->model);
        s->want[s->nwant++].name = name;
    }
    return 0;
}

/* Asks for what the task makes of the first output. */
static void want_task(struct session *s, const char *name)
{
    const char *out = s->o->output;
    const bool is_jpeg = out && (ends_with(out, ".jpg") || ends_with(out, ".jpeg"));

    if (s->task == TASK_CLASSIFY || s->task == TASK_SEGMENT)
        s->want[s->nwant++] = (struct client_want){ .name = name, .classes = s->o->top };
    if (s->task == TASK_DETECT)
        s->want[s->nwant++] = (struct client_want){ .name = name, .detections = true };
    if (s->task == TASK_SEGMENT && s->into_dir)
        s->want[s->nwant++] = (struct client_want){ .name = name, .class_map = true };
    if (out)
        s->want[s->nwant++] =
            (struct client_want){ .name = name,
                                  .picture = is_jpeg && !s->into_dir ? "jpeg" : "png" };
}

static int read_ends(struct session *s, struct diag *why)
{
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(s->metadata, "inputs");
    const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(s->metadata, "outputs");
    const char *first = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(outputs, 0), "name"));

    s->input = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(inputs, 0), "name"));
    if (!s->input)
        return diag(why, -EREMOTEIO, "the server names no inputs of model '%s'", s->model);
    if (cJSON_GetArraySize(inputs) != 1)
        return diag(why, -ENOTSUP, "model '%s' has %d inputs, this command can send one", s->model,
                    cJSON_GetArraySize(inputs));
    if (!first)
        return diag(why, -EREMOTEIO, "the server names no outputs of model '%s'", s->model);
    if (s->task == TASK_RAW)
        return want_tensors(s, outputs, why);
    want_task(s, first);
    return 0;
}

/* One picture goes to the file OUT, unless that is a folder; everything else goes into it. */
static int prepare_output(struct session *s, struct diag *why)
{
    const char *out = s->o->output;
    if (!out)
        return s->task == TASK_IMAGE
                   ? diag(why, -EINVAL,
                          "model '%s' answers with pictures: --output says where they go", s->model)
                   : 0;
    s->into_dir =
        s->o->nfiles > 1 || s->task == TASK_RAW || ends_with(out, "/") || output_is_dir(out);
    if (!s->into_dir)
        return 0;
    const int rc = output_make_dir(out, why);
    return rc < 0 ? rc : output_check_names(s->o->file, s->o->nfiles, why);
}

static int open_session(struct session *s, struct diag *why)
{
    int rc = client_new(&s->client, &s->o->client, why);
    if (rc == 0)
        rc = wait_for_model(s, why);
    if (rc == 0)
        rc = client_model(s->client, s->model, &s->metadata, why);
    if (rc == 0)
        rc = prepare_output(s, why);
    if (rc == 0)
        rc = read_ends(s, why);
    return rc;
}

static void close_session(struct session *s)
{
    cJSON_Delete(s->metadata);
    client_free(s->client);
}

/* "score:index:label"; the label may hold colons. */
static bool read_class(const uint8_t *text, size_t len, struct task_class *c,
                       char label[LABEL_MAX + 1])
{
    char copy[LABEL_MAX + 64];
    if (len >= sizeof copy)
        len = sizeof copy - 1;
    memcpy(copy, text, len);
    copy[len] = '\0';

    char *end, *score_end;
    c->score = strtof(copy, &score_end);
    if (score_end == copy || *score_end != ':')
        return false;
    c->index = (int32_t)strtol(score_end + 1, &end, 10);
    if (end == score_end + 1 || (*end != ':' && *end != '\0'))
        return false;
    snprintf(label, LABEL_MAX + 1, "%s", *end == ':' ? end + 1 : "");
    c->label = label;
    return true;
}

/* What a result points to. */
struct shown {
    struct result r;
    struct task_class *top;
    char (*label)[LABEL_MAX + 1]; /* of the classes */
    cJSON *boxes;                 /* their labels point into it */
    struct detection *box;
    char picture[OUTPUT_PATH_MAX], class_map[OUTPUT_PATH_MAX];
};

static void shown_done(struct shown *x)
{
    free(x->top);
    free(x->label);
    cJSON_Delete(x->boxes);
    free(x->box);
}

static int show_classes(struct shown *x, const struct session *s, const struct client_output *o,
                        struct diag *why)
{
    const int32_t top = s->o->top;
    size_t at = 0, len;
    const uint8_t *text;
    int32_t n = 0;

    x->top = calloc((size_t)top, sizeof *x->top);
    x->label = calloc((size_t)top, sizeof *x->label);
    if (!x->top || !x->label)
        return diag(why, -ENOMEM, "memory is short for %d classes", top);
    while (n < top && (text = client_element(o, &at, &len)) != NULL) {
        if (!read_class(text, len, &x->top[n], x->label[n]))
            return diag(why, -EREMOTEIO, "the server's list of classes makes no sense");
        n++;
    }
    if (n == 0 || (n < top && at != o->len))
        return diag(why, -EREMOTEIO, "the server's list of classes makes no sense");
    x->r.nclasses = n;
    x->r.classes = x->top;
    return 0;
}

static bool read_box(const cJSON *json, struct detection *d)
{
    const char *label = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "label"));
    const cJSON *index = cJSON_GetObjectItemCaseSensitive(json, "index");
    const cJSON *score = cJSON_GetObjectItemCaseSensitive(json, "score");
    const cJSON *box = cJSON_GetObjectItemCaseSensitive(json, "box");
    float corner[4];

    if (!label || !cJSON_IsNumber(index) || !cJSON_IsNumber(score) || cJSON_GetArraySize(box) != 4)
        return false;
    for (int i = 0; i < 4; i++) {
        if (!cJSON_IsNumber(cJSON_GetArrayItem(box, i)))
            return false;
        corner[i] = (float)cJSON_GetArrayItem(box, i)->valuedouble;
    }
    *d = (struct detection){ .row = corner[1],
                             .col = corner[0],
                             .row_end = corner[3],
                             .col_end = corner[2],
                             .score = (float)score->valuedouble,
                             .index = index->valueint,
                             .label = label };
    return true;
}

static int show_boxes(struct shown *x, const struct client_output *o, struct diag *why)
{
    size_t at = 0, len;
    const cJSON *one;

    const uint8_t *text = client_element(o, &at, &len);
    x->boxes = text ? cJSON_ParseWithLength((const char *)text, len) : NULL;
    if (!cJSON_IsArray(x->boxes))
        return diag(why, -EREMOTEIO, "the server's list of boxes makes no sense");
    x->box = calloc((size_t)cJSON_GetArraySize(x->boxes) + 1, sizeof *x->box);
    if (!x->box)
        return diag(why, -ENOMEM, "memory is short for %d boxes", cJSON_GetArraySize(x->boxes));
    cJSON_ArrayForEach(one, x->boxes)
        if (!read_box(one, &x->box[x->r.nboxes++]))
            return diag(why, -EREMOTEIO, "the server's list of boxes makes no sense");
    x->r.has_boxes = true;
    x->r.box = x->box;
    return 0;
}

/* Writes the file that an output holds, to OUT or as <input>[.<part>].png into it. */
static int save_file(char path[OUTPUT_PATH_MAX], const struct session *s, const char *file,
                     const char *part, const struct client_output *o, struct diag *why)
{
    size_t at = 0, len;
    int rc = 0;

    const uint8_t *bytes = client_element(o, &at, &len);
    if (!bytes)
        return diag(why, -EREMOTEIO, "the server sent no picture");
    if (s->into_dir)
        rc = output_name(path, s->o->output, file, part, ".png", why);
    else if (snprintf(path, OUTPUT_PATH_MAX, "%s", s->o->output) >= OUTPUT_PATH_MAX)
        rc = diag(why, -ENAMETOOLONG, "%s: the name is too long", s->o->output);
    return rc < 0 ? rc : file_write(path, bytes, len, why);
}

static int show_output(struct shown *x, const struct session *s, const struct client_want *w,
                       const struct client_output *o, struct diag *why)
{
    int rc;

    if (!o->bytes)
        return diag(why, -EREMOTEIO, "the server's answer is not what was asked for");
    if (w->classes > 0)
        return show_classes(x, s, o, why);
    if (w->detections)
        return show_boxes(x, o, why);
    if (w->class_map) {
        rc = save_file(x->class_map, s, x->r.file, "classes", o, why);
        x->r.class_map = x->class_map;
        return rc;
    }
    rc = save_file(x->picture, s, x->r.file, NULL, o, why);
    x->r.picture = x->picture;
    return rc;
}

/* The functions below complete a copy of `r` and print it. */
static int give_task(const struct session *s, const struct client_answer *a, struct result r,
                     struct diag *why)
{
    struct shown x = { .r = r };
    int rc = 0;

    if (a->n != s->nwant)
        return diag(why, -EREMOTEIO, "the server's answer is not what was asked for");
    for (int32_t i = 0; rc == 0 && i < a->n; i++)
        rc = show_output(&x, s, &s->want[i], &a->output[i], why);
    if (rc == 0)
        rc = result_print(&x.r, s->o->json, stdout, why);
    shown_done(&x);
    return rc;
}

static int give_tensors(const struct session *s, const struct client_answer *a, struct result r,
                        struct diag *why)
{
    struct result_tensor tensor[CLIENT_MAX_OUTPUTS];
    char(*path)[OUTPUT_PATH_MAX] = calloc((size_t)a->n + 1, sizeof *path);
    int rc = path ? 0 : diag(why, -ENOMEM, "memory is short");

    for (int32_t i = 0; rc == 0 && i < a->n; i++) {
        const struct client_output *o = &a->output[i];
        if (!o->values) {
            rc = diag(why, -EREMOTEIO, "the server sent output '%s' as BYTES", o->name);
            break;
        }
        tensor[i] = (struct result_tensor){ o->name, o->shape, o->values, NULL };
        if (!s->o->output)
            continue;
        rc = output_name(path[i], s->o->output, r.file, o->name, ".npy", why);
        if (rc == 0)
            rc = npy_save(path[i], o->shape.rank, o->shape.dim, o->values, why);
        tensor[i].file = path[i];
    }
    r.ntensors = a->n;
    r.tensor = tensor;
    if (rc == 0)
        rc = result_print(&r, s->o->json, stdout, why);
    free(path);
    return rc;
}

static int give(const struct session *s, const struct client_answer *a, struct result r,
                struct diag *why)
{
    return s->task == TASK_RAW ? give_tensors(s, a, r, why) : give_task(s, a, r, why);
}

/* Fills `in` from a file; `*bytes` and `*a` own what it points to. */
static int load_input(const struct session *s, const char *file, struct client_input *in,
                      uint8_t **bytes, struct npy *a, struct diag *why)
{
    in->name = s->input;
    if (ends_with(file, ".npy")) {
        const int rc = npy_load(a, file, why);
        if (rc < 0)
            return rc;
        in->shape = shape_make(a->rank, a->dim);
        in->values = a->values;
        return 0;
    }
    const int rc = file_read(file, MAX_FILE_BYTES, bytes, &in->len, why);
    if (rc < 0)
        return rc;
    if (in->len == 0)
        return diag(why, -EINVAL, "%s: is empty", file);
    in->shape = shape_make(1, (const int32_t[]){ 1 });
    in->bytes = *bytes;
    return 0;
}

static int infer_one(const struct session *s, const char *file, const struct progress *p,
                     struct diag *why)
{
    struct client_input in = { 0 };
    struct client_answer a = { 0 };
    struct npy tensor = { 0 };
    uint8_t *bytes = NULL;
    struct diag reason = { "" };

    int rc = load_input(s, file, &in, &bytes, &tensor, why);
    if (rc < 0)
        goto out;
    const double start = now_ms();
    rc = client_infer(s->client, s->model, &in, s->want, s->nwant, &a, &reason);
    if (rc < 0) {
        diag(why, rc, "%s: %s", file, reason.text);
        goto out;
    }
    const struct result r = { .file = file, .ms = now_ms() - start };
    progress_hide(p);
    rc = give(s, &a, r, why);
out:
    client_answer_done(&a);
    npy_done(&tensor);
    free(bytes);
    return rc;
}

/* A file or picture that is refused concerns only itself; without a server nothing goes on. */
static bool is_fatal(int rc)
{
    return rc == -ECONNREFUSED || rc == -EHOSTUNREACH || rc == -ETIMEDOUT || rc == -EBUSY;
}

static int infer_all(const struct session *s)
{
    int result = RESULT_OK;
    struct progress p;

    progress_init(&p, s->o->nfiles);
    for (int i = 0; i < s->o->nfiles; i++) {
        struct diag why = { "" };
        const int rc = infer_one(s, s->o->file[i], &p, &why);
        if (rc < 0) {
            progress_hide(&p);
            result = complain("%s", why.text);
        }
        if (is_fatal(rc))
            return result;
        progress_step(&p);
    }
    return result;
}

int cmd_infer(int argc, char **argv)
{
    struct options o = { .top = 5 };
    struct session s = { .o = &o };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    const int result = open_session(&s, &why) < 0 ? complain("%s", why.text) : infer_all(&s);
    close_session(&s);
    return result;
}
