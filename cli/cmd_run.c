#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/result.h"
#include "libsplit/clock.h"

struct options {
    struct local_options local;
    struct result_options result;
    const char *model, *output;
    char **input;
    int ninputs;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->local;
        state->child_inputs[1] = &o->result;
        return 0;
    case 'o':
        o->output = arg;
        return 0;
    case ARGP_KEY_ARGS:
        o->model = state->argv[state->next];
        o->input = state->argv + state->next + 1;
        o->ninputs = state->argc - state->next - 1;
        if (o->ninputs == 0)
            argp_error(state, "an input is missing");
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a model and an input are missing");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "output", 'o', "OUT", 0,
      "Where pictures and tensors go: a folder, or the file (.png, .jpg) for one picture", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "MODEL.onnx INPUT...",
    .doc = "Runs a model in this process, with threads in place of nodes.\vAn INPUT is a picture "
           "(JPEG or PNG), prepared as the model's sidecar says, or a tensor (.npy).  For a model "
           "with several inputs give each as NAME=FILE.npy; for one input, every file is a run "
           "of its own.\n\nWith --output the picture is written with boxes or segments drawn on "
           "it, of a segmentation into a folder also the class of every pixel.",
    .children = (const struct argp_child[]){ { &local_argp, 0, NULL, 0 },
                                             { &result_argp, 0, NULL, 0 },
                                             { 0 } },
};

/* Consecutive inputs of one shape share a session. */
struct runner {
    const struct options *o;
    struct local_model model;
    struct split_session *session;
    struct graph_input shape[LOCAL_MAX_INPUTS]; /* that the session was opened for */
    bool pixels;                                /* it takes pictures */
    bool into_dir;                              /* --output is a folder */
};

static bool session_fits(const struct runner *r, const struct frame *f)
{
    if (!r->session || r->pixels != (f->pixels != NULL))
        return false;
    for (int32_t i = 0; i < f->ninputs; i++)
        if (r->shape[i].rank != f->shape[i].rank ||
            memcmp(r->shape[i].dim, f->shape[i].dim, sizeof f->shape[i].dim) != 0)
            return false;
    return true;
}

static int open_session(struct runner *r, const struct frame *f, struct diag *why)
{
    if (session_fits(r, f))
        return 0;
    split_close(r->session);
    r->session = NULL;
    const int rc = local_open(&r->session, &r->model, &r->o->local, r->o->local.nodes, f, why);
    if (rc < 0)
        return rc;
    memcpy(r->shape, f->shape, sizeof r->shape);
    r->pixels = f->pixels != NULL;
    return 0;
}

/* A run's answer as its task sees it. */
struct finish {
    const struct runner *r;
    const struct frame *f;
    struct task_answer answer;
    struct result res;
    struct diag *why;
    char picture[OUTPUT_PATH_MAX], class_map[OUTPUT_PATH_MAX]; /* names of files */
};

/* Writes the picture that the task makes of the answer. */
static int write_picture(struct finish *x)
{
    const struct image *picture = x->f->picture.data ? &x->f->picture : NULL;
    const char *out = x->r->o->output;
    struct image im;
    int rc = 0;

    if (x->r->into_dir)
        rc = output_name(x->picture, out, x->f->file, NULL, ".png", x->why);
    else if (snprintf(x->picture, OUTPUT_PATH_MAX, "%s", out) >= OUTPUT_PATH_MAX)
        rc = diag(x->why, -ENAMETOOLONG, "%s: the name is too long", out);
    if (rc == 0)
        rc = task_draw(&x->answer, 0, picture, &im, x->why);
    if (rc < 0)
        return rc;
    rc = image_save(&im, x->picture, x->why);
    image_done(&im);
    x->res.picture = x->picture;
    return rc;
}

/* Prints the result and writes the picture, if there is a place for it. */
static int finish(struct finish *x)
{
    const int rc = x->r->o->output ? write_picture(x) : 0;
    return rc < 0 ? rc : result_print(&x->res, x->r->o->result.json, stdout, x->why);
}

static int give_classes(struct finish *x)
{
    const struct task_tensor *out = &x->answer.tensor[0];
    struct task_class top[RESULT_MAX_TOP];

    const int64_t n = shape_values(&out->shape);
    if (n > INT32_MAX)
        return diag(x->why, -EINVAL, "%s: output '%s' is too large for a list of classes",
                    x->r->o->model, out->name);
    x->res.nclasses =
        task_top(x->answer.sidecar, out->values, (int32_t)n, x->r->o->result.top, top);
    x->res.classes = top;
    return finish(x);
}

static int give_boxes(struct finish *x)
{
    struct detection *box;

    int rc = task_detect(&x->answer, &box, &x->res.nboxes, x->why);
    if (rc < 0)
        return rc;
    x->res.has_boxes = true;
    x->res.box = box;
    rc = finish(x);
    free(box);
    return rc;
}

static int give_segments(struct finish *x)
{
    struct task_class top[RESULT_MAX_TOP];
    struct image map;

    int rc = task_segment(&x->answer, 0, &map, x->why);
    if (rc < 0)
        return rc;
    x->res.nclasses = task_shares(x->answer.sidecar, &map, x->r->o->result.top, top);
    x->res.classes = top;
    if (x->r->into_dir) {
        rc = output_name(x->class_map, x->r->o->output, x->f->file, "classes", ".png", x->why);
        if (rc == 0)
            rc = image_save(&map, x->class_map, x->why);
        x->res.class_map = x->class_map;
    }
    image_done(&map);
    return rc < 0 ? rc : finish(x);
}

static int give_tensors(const struct runner *r, const struct answer *a, struct result res,
                        struct diag *why)
{
    const struct graph *g = split_graph(r->session);
    struct result_tensor tensor[RESULT_MAX_TENSORS];

    if (g->noutputs > RESULT_MAX_TENSORS)
        return diag(why, -ENOTSUP, "%s: %d outputs, at most %d are supported here", r->o->model,
                    g->noutputs, RESULT_MAX_TENSORS);
    for (int32_t i = 0; i < g->noutputs; i++)
        tensor[i] =
            (struct result_tensor){ g->output[i].name, port_shape(&g->output[i], a->values[i]),
                                    a->values[i], NULL };
    return result_give_tensors(res, tensor, g->noutputs, r->o->output, r->o->result.json, why);
}

static int give(const struct runner *r, const struct frame *f, const struct answer *a,
                struct result res, struct diag *why)
{
    const enum task task = r->o->result.raw ? TASK_RAW : r->model.sidecar.task;
    const struct graph *g = split_graph(r->session);
    struct task_tensor tensor[RESULT_MAX_TENSORS] = { 0 };

    if (task == TASK_RAW || (task == TASK_IMAGE && !r->o->output) || g->noutputs < 1 ||
        g->noutputs > RESULT_MAX_TENSORS)
        return give_tensors(r, a, res, why);
    for (int32_t i = 0; i < g->noutputs; i++)
        tensor[i] = (struct task_tensor){ g->output[i].name,
                                          port_shape(&g->output[i], a->values[i]), a->values[i] };
    struct finish x = { .r = r,
                        .f = f,
                        .answer = { .sidecar = &r->model.sidecar,
                                    .ntensors = g->noutputs,
                                    .tensor = tensor,
                                    .rows = shape_len(&g->input[0].shape, ROW),
                                    .cols = shape_len(&g->input[0].shape, COL),
                                    .picture_rows = f->picture.rows,
                                    .picture_cols = f->picture.cols },
                        .res = res,
                        .why = why };
    switch (task) {
    case TASK_CLASSIFY:
        return give_classes(&x);
    case TASK_DETECT:
        return give_boxes(&x);
    case TASK_SEGMENT:
        return give_segments(&x);
    case TASK_IMAGE:
    case TASK_RAW:
        break;
    }
    return finish(&x);
}

static int run_one(struct runner *r, char *const *arg, int nargs, const struct progress *p,
                   struct diag *why)
{
    struct exec_stats stats[PLAN_MAX_NODES];
    struct frame f = { 0 };
    struct answer a = { 0 };

    int rc = frame_load(&f, &r->model, &r->o->local, arg, nargs, why);
    if (rc == 0)
        rc = open_session(r, &f, why);
    if (rc < 0)
        goto out;
    const int64_t start = clock_ns();
    rc = frame_run(&a, &f, r->session, stats, why);
    if (rc < 0)
        goto out;
    const struct result res = { .file = f.file,
                                .ms = (double)(clock_ns() - start) / 1e6,
                                .nnodes = split_plan(r->session)->nodes,
                                .node = stats };
    progress_hide(p);
    rc = give(r, &f, &a, res, why);
out:
    answer_done(&a);
    frame_done(&f);
    return rc;
}

static int run_all(struct runner *r)
{
    const struct options *o = r->o;
    /* NAME=FILE arguments belong to one run, plain files are a run each. */
    const int per_run = local_is_named(&r->model, o->input[0]) ? o->ninputs : 1;
    int result = RESULT_OK;
    struct progress p;

    progress_init(&p, o->ninputs / per_run);
    for (int i = 0; i < o->ninputs; i += per_run) {
        struct diag why = { "" };
        if (run_one(r, o->input + i, per_run, &p, &why) < 0) {
            progress_hide(&p);
            result = complain("%s", why.text);
        }
        progress_step(&p);
    }
    return result;
}

/* One picture goes to the file OUT, everything else into a folder. */
static int prepare_output(struct runner *r, struct diag *why)
{
    const struct options *o = r->o;
    const bool tensors = o->result.raw || r->model.sidecar.task == TASK_RAW;

    if (!o->output)
        return 0;
    r->into_dir = !output_is_picture(o->output);
    if (!r->into_dir && tensors)
        return diag(why, -EINVAL, "%s: names a picture, but %s: name a folder", o->output,
                    o->result.raw ? "--raw gives tensors"
                                  : "without a sidecar that states a task a model gives tensors");
    if (!r->into_dir)
        return o->ninputs == 1 ? 0
                               : diag(why, -EINVAL, "%s: one file for %d inputs: name a folder",
                                      o->output, o->ninputs);
    const int rc = output_make_dir(o->output, why);
    return rc < 0 ? rc : output_check_names(o->input, o->ninputs, why);
}

int cmd_run(int argc, char **argv)
{
    struct options o = { 0 };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    struct runner r = { .o = &o };
    if (local_load(&r.model, o.model, &o.local, &why) < 0)
        return complain("%s", why.text);
    const int result = prepare_output(&r, &why) < 0 ? complain("%s", why.text) : run_all(&r);
    split_close(r.session);
    local_done(&r.model);
    return result;
}
