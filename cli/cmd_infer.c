#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/result.h"
#include "cli/target.h"
#include "libsplit/clock.h"
#include "libsplit/file.h"

enum { LABEL_MAX = 255 };

struct options {
    struct client_options client;
    struct result_options result;
    const char *model, *output;
    char **file;
    int nfiles;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->client;
        state->child_inputs[1] = &o->result;
        return 0;
    case 'm':
        o->model = arg;
        return 0;
    case 'o':
        o->output = arg;
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
    .children = (const struct argp_child[]){ { &client_argp, 0, NULL, 0 },
                                             { &result_argp, 0, NULL, 0 },
                                             { 0 } },
};

/* The model, and how its answers are shown. */
struct session {
    const struct options *o;
    struct target target; /* names below point into its metadata */
    int32_t nwant;
    struct client_want want[CLIENT_MAX_OUTPUTS];
    bool into_dir; /* OUT is a folder */
};

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
            return diag(why, -EREMOTEIO, "the outputs of model '%s' make no sense",
                        s->target.model);
        s->want[s->nwant++].name = name;
    }
    return 0;
}

/* Asks for what the task makes of the first output. */
static void want_task(struct session *s, const char *name)
{
    const char *out = s->o->output;
    const bool is_jpeg = out && (ends_with(out, ".jpg") || ends_with(out, ".jpeg"));

    if (s->target.task == TASK_CLASSIFY || s->target.task == TASK_SEGMENT)
        s->want[s->nwant++] = (struct client_want){ .name = name, .classes = s->o->result.top };
    if (s->target.task == TASK_DETECT)
        s->want[s->nwant++] = (struct client_want){ .name = name, .detections = true };
    if (s->target.task == TASK_SEGMENT && s->into_dir)
        s->want[s->nwant++] = (struct client_want){ .name = name, .class_map = true };
    if (out)
        s->want[s->nwant++] =
            (struct client_want){ .name = name,
                                  .picture = is_jpeg && !s->into_dir ? "jpeg" : "png" };
}

static int choose_outputs(struct session *s, struct diag *why)
{
    const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(s->target.metadata, "outputs");
    const char *first = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(outputs, 0), "name"));

    if (!first)
        return diag(why, -EREMOTEIO, "the server names no outputs of model '%s'", s->target.model);
    if (s->target.task == TASK_RAW)
        return want_tensors(s, outputs, why);
    want_task(s, first);
    return 0;
}

/* One picture goes to the file OUT, unless that is a folder; everything else goes into it. */
static int prepare_output(struct session *s, struct diag *why)
{
    const char *out = s->o->output;
    if (!out)
        return s->target.task == TASK_IMAGE
                   ? diag(why, -EINVAL,
                          "model '%s' answers with pictures: --output says where they go",
                          s->target.model)
                   : 0;
    s->into_dir =
        s->o->nfiles > 1 || s->target.task == TASK_RAW || ends_with(out, "/") || output_is_dir(out);
    if (!s->into_dir)
        return 0;
    const int rc = output_make_dir(out, why);
    return rc < 0 ? rc : output_check_names(s->o->file, s->o->nfiles, why);
}

static int open_session(struct session *s, struct diag *why)
{
    int rc = target_open(&s->target, &s->o->client, s->o->model, s->o->result.raw, why);
    if (rc == 0)
        rc = prepare_output(s, why);
    if (rc == 0)
        rc = choose_outputs(s, why);
    return rc;
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
    const int32_t top = s->o->result.top;
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

/* Completes a copy of `r` and prints it. */
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
        rc = result_print(&x.r, s->o->result.json, stdout, why);
    shown_done(&x);
    return rc;
}

static int give_tensors(const struct session *s, const struct client_answer *a, struct result r,
                        struct diag *why)
{
    struct result_tensor tensor[CLIENT_MAX_OUTPUTS];

    for (int32_t i = 0; i < a->n; i++) {
        const struct client_output *o = &a->output[i];
        if (!o->values)
            return diag(why, -EREMOTEIO, "the server sent output '%s' as BYTES", o->name);
        tensor[i] = (struct result_tensor){ o->name, o->shape, o->values, NULL };
    }
    return result_give_tensors(r, tensor, a->n, s->o->output, s->o->result.json, why);
}

static int give(const struct session *s, const struct client_answer *a, struct result r,
                struct diag *why)
{
    return s->target.task == TASK_RAW ? give_tensors(s, a, r, why) : give_task(s, a, r, why);
}

static int infer_one(const struct session *s, const char *file, const struct progress *p,
                     struct diag *why)
{
    struct target_file sent;
    struct client_answer a = { 0 };
    struct diag reason = { "" };

    int rc = target_load(&s->target, file, &sent, why);
    if (rc < 0)
        goto out;
    const int64_t start = clock_ns();
    const struct client_query q = { .in = &sent.in, .want = s->want, .nwant = s->nwant };
    rc = client_infer(s->target.client, s->target.model, &q, &a, &reason);
    if (rc < 0) {
        diag(why, rc, "%s: %s", file, reason.text);
        goto out;
    }
    const struct result r = { .file = file,
                              .ms = (double)(clock_ns() - start) / 1e6,
                              .from_cluster = true,
                              .answer_bytes = a.answer_bytes,
                              .concealed = a.concealed };
    progress_hide(p);
    rc = give(s, &a, r, why);
out:
    client_answer_done(&a);
    target_file_done(&sent);
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
    struct options o = { 0 };
    struct session s = { .o = &o };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    const int result = open_session(&s, &why) < 0 ? complain("%s", why.text) : infer_all(&s);
    target_close(&s.target);
    return result;
}
