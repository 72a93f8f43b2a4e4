#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/progress.h"
#include "libsplit/calibrate.h"
#include "libsplit/file.h"
#include "proto/header.h"

enum { KEY_IMAGES = 300, KEY_LABELS, KEY_BUDGET, KEY_HELD_OUT, KEY_GAMMA, KEY_VIDEO };
enum { MAX_LABELS_BYTES = 64 << 20, PATH_BYTES = 4096, BAR_STEPS = 1000 };

struct options {
    struct local_options local;
    const char *model, *images, *labels, *output;
    const char *budget_text;
    double budget;
    bool decibels;   /* the budget is in dB */
    double held_out; /* share, 0..1 */
    bool gamma, video;
};

static void set_budget(struct options *o, const char *arg, struct argp_state *state)
{
    char *end;
    o->budget = strtod(arg, &end);
    o->decibels = strcmp(end, "dB") == 0;
    if (end == arg || !(o->budget > 0 && o->budget <= 100) ||
        (!o->decibels && strcmp(end, "%") != 0) || strlen(arg) > HALO_BUDGET_MAX)
        argp_error(state, "--budget: '%s' is no loss such as 0.5%% or, for pictures, 0.1dB", arg);
    o->budget_text = arg;
}

static void set_held_out(struct options *o, const char *arg, struct argp_state *state)
{
    char *end;
    const double percent = strtod(arg, &end);
    if (end == arg || !(percent >= 0 && percent < 100) || (*end && strcmp(end, "%") != 0))
        argp_error(state, "--held-out: '%s' is no share from 0%% to below 100%%", arg);
    o->held_out = percent / 100;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->local;
        return 0;
    case 'o':
        o->output = arg;
        return 0;
    case KEY_IMAGES:
        o->images = arg;
        return 0;
    case KEY_LABELS:
        o->labels = arg;
        return 0;
    case KEY_BUDGET:
        set_budget(o, arg, state);
        return 0;
    case KEY_HELD_OUT:
        set_held_out(o, arg, state);
        return 0;
    case KEY_GAMMA:
        o->gamma = true;
        return 0;
    case KEY_VIDEO:
        o->video = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->model)
            argp_error(state, "more than one model");
        o->model = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->model || !o->images)
            argp_error(state, "a model and --images are needed");
        if (o->local.nodes < 2)
            argp_error(state, "--local: at least 2 nodes are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "images", KEY_IMAGES, "DIR", 0,
      "About 100 of your pictures (.jpg, .png) or tensors (.npy), all of one size for the network",
      0 },
    { "labels", KEY_LABELS, "FILE", 0,
      "Lines 'PICTURE<TAB>CLASS', the class a number; for networks that make pictures, the folder "
      "of the pictures that they should make, by the same names",
      0 },
    { "budget", KEY_BUDGET, "LOSS", 0,
      "What may be lost: points of accuracy such as 0.5% (the default); without labels, of answers "
      "that change; for other tasks, per cent of relative error.  For pictures dB such as 0.1dB "
      "(the default), judged beside the seams, without --labels of a picture that has 35 dB",
      0 },
    { "held-out", KEY_HELD_OUT, "SHARE", 0,
      "Share of the pictures to verify by, not to choose by (default 50%)", 0 },
    { "gamma", KEY_GAMMA, NULL, 0, "Codes without contexts: quicker and about a third longer", 0 },
    { "video", KEY_VIDEO, NULL, 0, "Prepares for --halo video, too: a still camera's pictures", 0 },
    { NULL, 'o', "FILE", 0, "Where to write (default: MODEL.halo.json beside the model)", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "MODEL.onnx --images DIR --local N",
    .doc = "Finds how coarsely N nodes may exchange halos, and writes it to a file beside the "
           "model, by which it is used from then on.",
    .children = (const struct argp_child[]){ { &local_argp, 0, NULL, 0 }, { 0 } },
};

/* ---- Inputs */

struct set {
    int32_t n;
    char **name; /* of the files, without the folder */
    struct frame *frame;
    struct calibrate_input *input;
    const float *(*values)[LOCAL_MAX_INPUTS]; /* of tensors */
    float **want;                             /* pictures that the network should make */
};

static bool ends_in(const char *name, const char *with)
{
    const size_t n = strlen(name), m = strlen(with);
    return n > m && strcasecmp(name + n - m, with) == 0;
}

static int is_input(const struct dirent *d)
{
    static const char *const kinds[] = { ".jpg", ".jpeg", ".png", ".npy" };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (d->d_name[0] != '.' && ends_in(d->d_name, kinds[i]))
            return 1;
    return 0;
}

static int list_files(struct set *s, const char *dir, struct diag *why)
{
    struct dirent **list;
    const int n = scandir(dir, &list, is_input, alphasort);
    if (n < 0)
        return diag(why, -errno, "%s: %s", dir, strerror(errno));
    s->name = calloc((size_t)n + 1, sizeof *s->name);
    for (int i = 0; i < n; i++) {
        if (s->name)
            s->name[s->n++] = strdup(list[i]->d_name);
        free(list[i]);
    }
    free(list);
    s->frame = calloc((size_t)n + 1, sizeof *s->frame);
    s->input = calloc((size_t)n + 1, sizeof *s->input);
    s->values = calloc((size_t)n + 1, sizeof *s->values);
    s->want = calloc((size_t)n + 1, sizeof *s->want);
    bool holds = s->name && s->frame && s->input && s->values && s->want;
    for (int i = 0; i < s->n && holds; i++)
        holds = s->name[i] != NULL;
    return holds ? 0 : diag(why, -ENOMEM, "%s: out of memory for %d files", dir, n);
}

static void set_done(struct set *s)
{
    for (int32_t i = 0; i < s->n; i++) {
        free(s->name[i]);
        if (s->frame)
            frame_done(&s->frame[i]);
        if (s->want)
            free(s->want[i]);
    }
    free(s->name);
    free(s->frame);
    free(s->input);
    free(s->values);
    free(s->want);
}

static bool has_shape_of(const struct frame *a, const struct frame *b)
{
    for (int32_t i = 0; i < a->ninputs; i++)
        if (a->shape[i].rank != b->shape[i].rank ||
            memcmp(a->shape[i].dim, b->shape[i].dim, sizeof a->shape[i].dim) != 0)
            return false;
    return a->ninputs == b->ninputs && (a->pixels != NULL) == (b->pixels != NULL);
}

static int load_one(struct set *s, int32_t i, const struct local_model *m, const struct options *o,
                    struct diag *why)
{
    char path[PATH_BYTES];
    char *arg = path;
    struct frame *f = &s->frame[i];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", o->images, s->name[i]) >= sizeof path)
        return diag(why, -ENAMETOOLONG, "%s/%s: the name is too long", o->images, s->name[i]);
    const int rc = frame_load(f, m, &o->local, &arg, 1, why);
    if (rc < 0)
        return rc;
    f->file = s->name[i];
    image_done(&f->picture); /* the network's pixels are enough */
    if (!has_shape_of(f, &s->frame[0]))
        return diag(why, -EINVAL, "%s: has another size for the network than %s", path, s->name[0]);
    for (int32_t k = 0; k < f->ninputs; k++)
        s->values[i][k] = f->tensor[k].values;
    s->input[i] = (struct calibrate_input){
        .input = { .pixels = f->pixels, .values = s->values[i] },
        .truth = { .label = -1 },
        .held_out = floor((i + 1) * o->held_out) > floor(i * o->held_out),
    };
    return 0;
}

static int load_set(struct set *s, const struct local_model *m, const struct options *o,
                    struct diag *why)
{
    struct progress bar;
    int rc = list_files(s, o->images, why);
    progress_init(&bar, s->n);
    for (int32_t i = 0; i < s->n && rc == 0; i++) {
        rc = load_one(s, i, m, o, why);
        progress_step(&bar);
    }
    progress_hide(&bar);
    if (rc == 0 && s->n == 0)
        rc = diag(why, -ENOENT, "%s: no .jpg, .png or .npy is there", o->images);
    return rc;
}

/* ---- Labels */

static int32_t find_name(const struct set *s, const char *name)
{
    for (int32_t i = 0; i < s->n; i++)
        if (strcmp(s->name[i], name) == 0)
            return i;
    return -1;
}

/* A first line without a number names the columns. */
static int read_label(struct set *s, const struct local_model *m, const char *file, char *line,
                      int number, struct diag *why)
{
    char *tab = strchr(line, '\t'), *end;
    if (!tab)
        return diag(why, -EINVAL, "%s:%d: is no 'PICTURE<TAB>CLASS'", file, number);
    *tab = '\0';
    const long class = strtol(tab + 1, &end, 10);
    if (end == tab + 1 || (*end != '\0' && *end != '\t' && *end != '\r'))
        return number == 1 ? 0 : diag(why, -EINVAL, "%s:%d: the class is no number", file, number);
    const int32_t i = find_name(s, line);
    if (class < 0 || class > 1000000)
        return diag(why, -EINVAL, "%s:%d: class %ld is not in 0..1000000", file, number, class);
    if (i >= 0)
        s->input[i].truth.label = (int32_t) class + m->sidecar.class_offset;
    return 0;
}

static int read_labels(struct set *s, const struct local_model *m, const char *file,
                       struct diag *why)
{
    uint8_t *text;
    size_t len;
    int number = 0, rc = file_read(file, MAX_LABELS_BYTES, &text, &len, why);
    if (rc < 0)
        return rc;
    char *rest = (char *)text;
    for (char *line; rc == 0 && (line = strsep(&rest, "\n")) != NULL;) {
        number++;
        if (line[0] != '\0')
            rc = read_label(s, m, file, line, number, why);
    }
    free(text);
    for (int32_t i = 0; i < s->n && rc == 0; i++)
        if (s->input[i].truth.label < 0)
            rc = diag(why, -EINVAL, "%s: has no class for %s", file, s->name[i]);
    return rc;
}

/* The values that would be this picture. */
static int want_picture(struct set *s, int32_t i, const struct local_model *m, const char *dir,
                        const struct shape *out, struct diag *why)
{
    const struct sidecar *sc = &m->sidecar;
    struct image im = { 0 };
    char path[PATH_BYTES];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, s->name[i]) >= sizeof path)
        return diag(why, -ENAMETOOLONG, "%s/%s: the name is too long", dir, s->name[i]);
    int rc = image_load(&im, path, why);
    if (rc < 0)
        return rc;
    const int64_t rows = im.rows, cols = im.cols, channels = im.channels;
    if (out->rank != 4 || out->dim[1] != channels || out->dim[2] != rows || out->dim[3] != cols)
        rc = diag(why, -EINVAL, "%s: is %lldx%lld with %lld channels, not as the network's answer",
                  path, (long long)rows, (long long)cols, (long long)channels);
    if (rc == 0 && !(s->want[i] = malloc((size_t)(rows * cols * channels) * sizeof(float))))
        rc = diag(why, -ENOMEM, "%s: out of memory", path);
    for (int64_t p = 0; p < rows * cols && rc == 0; p++)
        for (int64_t c = 0; c < channels; c++)
            s->want[i][c * rows * cols + p] =
                ((float)im.data[p * channels + c] - sc->output_offset) / sc->output_scale;
    s->input[i].truth.want = s->want[i];
    image_done(&im);
    return rc;
}

/* One more session tells what the answer looks like. */
static int want_pictures(struct set *s, const struct local_model *m, const struct options *o,
                         struct diag *why)
{
    struct split_session *session;
    int rc = local_open(&session, m, &o->local, 1, &s->frame[0], why);
    if (rc < 0)
        return rc;
    const struct shape out = split_graph(session)->output[0].shape;
    for (int32_t i = 0; i < s->n && rc == 0; i++)
        rc = want_picture(s, i, m, o->labels, &out, why);
    split_close(session);
    return rc;
}

/* ---- Running */

struct bar {
    struct progress shown;
    bool started;
};

static void show(void *ctx, double done)
{
    struct bar *b = ctx;
    if (!b->started)
        progress_init(&b->shown, BAR_STEPS);
    b->started = true;
    while (b->shown.done < (int)(done * BAR_STEPS) && b->shown.done < BAR_STEPS - 1)
        progress_step(&b->shown);
}

static void print_result(const struct options *o, const struct halo_file *f, const char *file)
{
    const struct halo_measure *m = &f->measured;
    printf(
        "%s: %.0f bytes a frame between %d nodes in place of %.0f (%.1fx less), heads included\n",
        file, m->bytes, f->nodes, m->dense_bytes, m->dense_bytes / fmax(1, m->bytes));
    printf("on %d %s: ", m->inputs, o->held_out > 0 ? "held out" : "inputs, none held out");
    if (isfinite(m->agreement))
        printf("%.1f %% of the answers stay the same, ", 100 * m->agreement);
    if (isfinite(m->drop))
        printf("%+.3f +- %.3f %s lost, ", m->drop, m->drop_error, o->decibels ? "dB" : "points");
    printf("relative error %.4f\n", m->error);
    printf("q8 %s the budget there, q4 %s it\n",
           f->within & halo_bit(HALO_Q8) ? "keeps to" : "exceeds",
           f->within & halo_bit(HALO_Q4) ? "keeps to" : "exceeds");
}

static enum judge_goal goal_of(const struct sidecar *s)
{
    return s->task == TASK_CLASSIFY ? GOAL_CLASSES
           : s->task == TASK_IMAGE  ? GOAL_PICTURE
                                    : GOAL_ERROR;
}

static int run(const struct options *o, const struct local_model *m, const struct set *s,
               struct diag *why)
{
    const struct frame *f = &s->frame[0];
    char file[PATH_BYTES];
    struct bar bar = { .started = false };
    struct graph_input shape[LOCAL_MAX_INPUTS];
    int32_t nshapes = 0;
    int64_t pixels = 1;
    for (int32_t i = 0; i < f->ninputs; i++)
        if (local_is_open(m, i))
            shape[nshapes++] = f->shape[i];
    for (int32_t i = 0; f->pixels && i < f->shape[0].rank; i++)
        pixels *= f->shape[0].dim[i];
    const struct calibrate_options co = {
        .lab = { .onnx = m->onnx,
                 .inputs = shape,
                 .ninputs = nshapes,
                 .pixels = f->pixels ? &m->sidecar.pixels : NULL,
                 .nodes = o->local.nodes,
                 .policy = o->local.policy,
                 .costs = o->local.costs,
                 .head_bytes = HEADER_BYTES },
        .goal = goal_of(&m->sidecar),
        .peak = 255 / (double)m->sidecar.output_scale,
        .budget = o->budget,
        .budget_text = o->budget_text,
        .gamma = o->gamma,
        .video = o->video,
        .pixels_len = pixels,
        .progress = show,
        .ctx = &bar,
    };
    struct halo_file result;
    int rc = o->output ? 0 : halo_file_path(o->model, file, sizeof file);
    if (rc < 0)
        return diag(why, rc, "%s: the name is too long", o->model);
    rc = calibrate(&result, &co, s->input, s->n, why);
    if (bar.started)
        progress_hide(&bar.shown);
    if (rc < 0)
        return rc;
    rc = halo_file_save(&result, o->output ? o->output : file, why);
    if (rc == 0)
        print_result(o, &result, o->output ? o->output : file);
    halo_file_done(&result);
    return rc;
}

/* What the task asks for, where the command line says nothing. */
static int complete(struct options *o, const struct local_model *m, struct diag *why)
{
    const bool picture = m->sidecar.task == TASK_IMAGE;
    if (!o->budget_text) {
        o->budget = picture ? 0.1 : 0.5;
        o->budget_text = picture ? "0.1dB" : "0.5%";
        o->decibels = picture;
    }
    if (o->decibels != picture)
        return diag(why, -EINVAL, "--budget: %s is for %s, and %s is of task %s", o->budget_text,
                    o->decibels ? "pictures" : "other answers", o->model,
                    sidecar_task_name(m->sidecar.task));
    if (o->labels && !picture && m->sidecar.task != TASK_CLASSIFY)
        return diag(why, -EINVAL, "--labels: means nothing for task %s",
                    sidecar_task_name(m->sidecar.task));
    return 0;
}

static int calibrate_model(struct options *o, struct diag *why)
{
    struct local_model m;
    struct set s = { 0 };
    o->local.halo = HALO_F32; /* whatever is there is about to be replaced */
    int rc = local_load(&m, o->model, &o->local, why);
    if (rc < 0)
        return rc;
    rc = complete(o, &m, why);
    if (rc == 0)
        rc = load_set(&s, &m, o, why);
    if (rc == 0 && o->video && !s.frame[0].pixels)
        rc = diag(why, -EINVAL, "--video: the inputs are no pictures");
    if (rc == 0 && o->labels)
        rc = m.sidecar.task == TASK_IMAGE ? want_pictures(&s, &m, o, why)
                                          : read_labels(&s, &m, o->labels, why);
    if (rc == 0)
        rc = run(o, &m, &s, why);
    set_done(&s);
    local_done(&m);
    return rc;
}

int cmd_calibrate(int argc, char **argv)
{
    struct options o = { .held_out = 0.5 };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    return calibrate_model(&o, &why) < 0 ? complain("%s", why.text) : RESULT_OK;
}
