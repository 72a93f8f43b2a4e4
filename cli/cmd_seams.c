#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/parse.h"
#include "cli/table.h"
#include "libsplit/draw.h"
#include "libsplit/task.h"

enum { KEY_TIMES = 300 };
enum { MAX_PANELS = HALO_MODES, MAX_TIMES = 255, MAX_OUTPUTS = 64 };

struct options {
    struct local_options local;
    char *model, *picture;
    const char *output;
    int32_t npanels;
    enum halo mode[MAX_PANELS];
    int32_t times; /* that differences are enlarged */
};

static void add_argument(struct options *o, char *arg, struct argp_state *state)
{
    const int mode = state->arg_num < 2 ? 0 : halo_parse(arg);
    if (state->arg_num == 0)
        o->model = arg;
    else if (state->arg_num == 1)
        o->picture = arg;
    else if (mode < 0)
        argp_error(state, "'%s' is not f32, f16, q8, q4, tq, video or drop", arg);
    else if (o->npanels == MAX_PANELS)
        argp_error(state, "more than %d modes", MAX_PANELS);
    else
        o->mode[o->npanels++] = (enum halo)mode;
}

static void check(const struct options *o, struct argp_state *state)
{
    if (!o->picture)
        argp_error(state, "a model and a picture are missing");
    else if (!o->output)
        argp_error(state, "--output is missing");
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
    case KEY_TIMES:
        if (!parse_int(arg, 1, MAX_TIMES, &o->times))
            argp_error(state, "--times: '%s' is not a number from 1 to %d", arg, MAX_TIMES);
        return 0;
    case ARGP_KEY_ARG:
        add_argument(o, arg, state);
        return 0;
    case ARGP_KEY_END:
        check(o, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "output", 'o', "FILE", 0, "The picture to write (.png or .jpg)", 0 },
    { "times", KEY_TIMES, "N", 0, "Enlarge differences so many times, 1 to 255 (default 16)", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "MODEL.onnx PICTURE [MODE...]",
    .doc = "Shows the seams between nodes: what each MODE of halos (default: f32 tq drop, or q4 in "
           "place of tq where the model has no halo file) does to the picture that a model "
           "answers with.\vFor every mode the output shows the answer of "
           "--local nodes (here 4 by default) and below it, over a dim copy, where it differs from "
           "that of one node.  "
           "Marks at the sides say where one node's rows end.  Only for models whose task is "
           "image.",
    .children = (const struct argp_child[]){ { &local_argp, 0, NULL, 0 }, { 0 } },
};

/* The answer in one mode. */
struct panel {
    enum halo mode;
    struct image im;
    int64_t halo_bytes; /* that nodes sent each other */
    double psnr;        /* against one node; infinite if they agree */
};

struct seams {
    struct options *o;
    struct local_model model;
    struct frame frame;
    struct image one; /* the answer of one node */
    struct panel panel[MAX_PANELS];
    int32_t ncuts, cut[PLAN_MAX_NODES]; /* rows of the answer at which another node's begin */
};

static void seams_done(struct seams *s)
{
    for (int32_t i = 0; i < MAX_PANELS; i++)
        image_done(&s->panel[i].im);
    image_done(&s->one);
    frame_done(&s->frame);
    local_done(&s->model);
}

/* ---- The answers */

static int draw_answer(const struct seams *s, const struct graph *g, const struct answer *a,
                       struct image *im, struct diag *why)
{
    struct task_tensor tensor[MAX_OUTPUTS];
    struct image drawn;

    if (g->noutputs > MAX_OUTPUTS)
        return diag(why, -ENOTSUP, "%s: %d outputs, at most %d are supported here", s->o->model,
                    g->noutputs, MAX_OUTPUTS);
    for (int32_t i = 0; i < g->noutputs; i++)
        tensor[i] = (struct task_tensor){ g->output[i].name, g->output[i].shape, a->values[i] };
    const struct task_answer answer = { .sidecar = &s->model.sidecar,
                                        .ntensors = g->noutputs,
                                        .tensor = tensor,
                                        .rows = shape_len(&g->input[0].shape, ROW),
                                        .cols = shape_len(&g->input[0].shape, COL) };
    int rc = task_draw(&answer, 0, s->frame.picture.data ? &s->frame.picture : NULL, &drawn, why);
    if (rc < 0)
        return rc;
    rc = draw_copy(im, &drawn);
    image_done(&drawn);
    return rc < 0 ? diag(why, rc, "memory is short for the picture") : 0;
}

/* Where the nodes' rows of the answer begin. */
static void note_cuts(struct seams *s, const struct split_session *session, int32_t rows)
{
    const struct plan *p = split_plan(session);
    const int32_t tensor = split_graph(session)->output[0].tensor;
    const int32_t height = p->geo->tensor[tensor].dim[ROW];

    s->ncuts = 0;
    for (int32_t n = 0; n < p->nodes; n++) {
        const struct box b = plan_share(p, tensor, n)->part;
        if (!box_empty(b) && b.lo[ROW] > 0)
            s->cut[s->ncuts++] = (int32_t)((int64_t)b.lo[ROW] * rows / height);
    }
}

/* The answer of `nodes` nodes with halos of `mode`. */
static int answer_with(struct seams *s, int32_t nodes, enum halo mode, struct image *im,
                       int64_t *halo_bytes, struct diag *why)
{
    struct local_options lo = s->o->local;
    struct exec_stats stats[PLAN_MAX_NODES] = { { 0 } };
    struct split_session *session;
    struct answer a = { 0 };

    lo.nodes = nodes;
    lo.nweights = nodes == s->o->local.nodes ? lo.nweights : 0;
    lo.halo = mode;
    int rc = local_open(&session, &s->model, &lo, nodes, &s->frame, why);
    if (rc < 0)
        return rc;
    rc = frame_run(&a, &s->frame, session, stats, why);
    if (rc == 0)
        rc = draw_answer(s, split_graph(session), &a, im, why);
    if (rc == 0)
        note_cuts(s, session, im->rows);
    *halo_bytes = 0;
    for (int32_t n = 0; n < nodes; n++)
        *halo_bytes += stats[n].halo_sent_bytes;
    answer_done(&a);
    split_close(session);
    return rc;
}

static int answer_all(struct seams *s, struct diag *why)
{
    int64_t none;
    int rc = answer_with(s, 1, HALO_F32, &s->one, &none, why);

    for (int32_t i = 0; i < s->o->npanels && rc == 0; i++) {
        struct panel *p = &s->panel[i];
        p->mode = s->o->mode[i];
        rc = answer_with(s, s->o->local.nodes, p->mode, &p->im, &p->halo_bytes, why);
        if (rc == 0)
            p->psnr = image_psnr(&p->im, &s->one, 0);
    }
    return rc;
}

/* ---- The picture: panels side by side, each with two lines of text, the answer, and below it the
 * difference */

static const struct colour paper = { 16, 18, 24 }, mark = { 90, 200, 250 };
enum { TEXT_BYTES = 64, LINES = 2, PIXELS_PER_SCALE = 180 };

struct layout {
    int32_t scale, gap;           /* of text; between things */
    int32_t line;                 /* rows of a line of text */
    int32_t answers, differences; /* the first rows of both */
    int32_t width;                /* of a panel and the gap before it */
};

static struct layout lay_out(const struct image *one)
{
    const int32_t scale = one->cols > PIXELS_PER_SCALE ? one->cols / PIXELS_PER_SCALE : 1;
    const int32_t line = (DRAW_TEXT_ROWS + 2) * scale, gap = 4 * scale;
    const int32_t answers = gap + line + gap + LINES * line + gap;
    return (struct layout){ .scale = scale,
                            .gap = gap,
                            .line = line,
                            .answers = answers,
                            .differences = answers + one->rows + gap,
                            .width = gap + one->cols };
}

static void describe(const struct panel *p, const struct panel *first, char text[][TEXT_BYTES])
{
    const double kb = (double)p->halo_bytes / 1000;
    const double smaller = (double)first->halo_bytes / (double)p->halo_bytes;

    if (p->halo_bytes == 0)
        snprintf(text[0], TEXT_BYTES, "%s: nothing sent", halo_name(p->mode));
    else if (smaller >= 1.5)
        snprintf(text[0], TEXT_BYTES, "%s: %.1f kB, %.0fx less", halo_name(p->mode), kb, smaller);
    else
        snprintf(text[0], TEXT_BYTES, "%s: %.1f kB", halo_name(p->mode), kb);
    if (isfinite(p->psnr))
        snprintf(text[1], TEXT_BYTES, "PSNR %.1f dB", p->psnr);
    else
        snprintf(text[1], TEXT_BYTES, "no difference");
}

static void draw_marks(const struct seams *s, const struct layout *l, struct image *sheet,
                       int32_t row, int32_t col)
{
    const int32_t long_side = 3 * l->scale;
    for (int32_t i = 0; i < s->ncuts; i++) {
        const int32_t at = row + s->cut[i];
        draw_fill(sheet, at - l->scale / 2, col - long_side, at + (l->scale + 1) / 2, col, mark);
    }
}

static void draw_panel(const struct seams *s, const struct layout *l, struct image *sheet,
                       int32_t i)
{
    const struct panel *p = &s->panel[i];
    const int32_t col = l->gap + i * l->width;
    char text[LINES][TEXT_BYTES];

    describe(p, &s->panel[0], text);
    for (int32_t k = 0; k < LINES; k++)
        draw_text(sheet, 2 * l->gap + (k + 1) * l->line, col, l->scale, text[k], paper);
    draw_paste(sheet, l->answers, col, &p->im);
    draw_difference(sheet, l->differences, col, &s->one, &p->im, s->o->times);
    draw_marks(s, l, sheet, l->differences, col);
}

static int draw_sheet(const struct seams *s, struct diag *why)
{
    const struct layout l = lay_out(&s->one);
    const struct options *o = s->o;
    struct image sheet;
    char title[2 * TEXT_BYTES];

    int rc =
        image_init(&sheet, l.differences + s->one.rows + l.gap, l.gap + o->npanels * l.width, 3);
    if (rc < 0)
        return diag(why, rc, "memory is short for the picture");
    draw_fill(&sheet, 0, 0, sheet.rows, sheet.cols, paper);
    snprintf(title, sizeof title, "%d nodes, and below where they differ from one, x %d",
             o->local.nodes, o->times);
    draw_text(&sheet, l.gap, l.gap, l.scale, title, paper);
    for (int32_t i = 0; i < o->npanels; i++)
        draw_panel(s, &l, &sheet, i);
    rc = image_save(&sheet, o->output, why);
    image_done(&sheet);
    return rc;
}

/* ---- The table */

static int print_panels(const struct seams *s, struct diag *why)
{
    struct table t;

    table_init(&t, "lrrr");
    table_add(&t, "halo");
    table_add(&t, "bytes");
    table_add(&t, "PSNR dB");
    table_add(&t, "largest difference");
    for (int32_t i = 0; i < s->o->npanels; i++) {
        const struct panel *p = &s->panel[i];
        table_add(&t, "%s", halo_name(p->mode));
        table_add(&t, "%" PRId64, p->halo_bytes);
        table_add(&t, "%.2f", p->psnr);
        table_add(&t, "%d", image_largest_difference(&p->im, &s->one));
    }
    const int rc = table_print(&t, stdout);
    table_done(&t);
    return rc < 0 ? diag(why, rc, "memory is short for the table") : 0;
}

/* What is shown where nothing is asked for. */
static void choose_modes(struct options *o, const struct local_model *m)
{
    const enum halo usual[] = { HALO_F32, m->has_halo ? HALO_TQ : HALO_Q4, HALO_DROP };

    if (o->npanels > 0)
        return;
    o->npanels = sizeof usual / sizeof usual[0];
    memcpy(o->mode, usual, sizeof usual);
}

static int show(struct seams *s, struct diag *why)
{
    struct options *o = s->o;
    char *picture = o->picture;

    int rc = local_load(&s->model, o->model, &o->local, why);
    if (rc == 0 && s->model.sidecar.task != TASK_IMAGE)
        rc =
            diag(why, -EINVAL, "%s: its task is not image, so there are no seams to see", o->model);
    choose_modes(o, &s->model);
    if (rc == 0)
        rc = frame_load(&s->frame, &s->model, &o->local, &picture, 1, why);
    if (rc == 0)
        rc = answer_all(s, why);
    if (rc == 0)
        rc = draw_sheet(s, why);
    return rc < 0 ? rc : print_panels(s, why);
}

int cmd_seams(int argc, char **argv)
{
    struct options o = { .local.nodes = 4, .times = 16 };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    struct seams s = { .o = &o };
    const int rc = show(&s, &why);
    seams_done(&s);
    return rc < 0 ? complain("%s", why.text) : RESULT_OK;
}
