#include "libsplit/lab.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/halo_file.h"
#include "libsplit/kernel.h"
#include "libsplit/session.h"

/* Messages of one tensor that are kept. */
struct shelf {
    struct lab_sample *sample;
    int32_t count, cap;
    double share; /* of the messages of every transfer, 0..1 */
};

struct lab {
    struct graph graph;
    bool has_graph;
    struct plan_options options;
    uint8_t *tensor_halo; /* [ntensors] */
    struct recipes recipes;
    struct recipe *blank; /* [ntensors]: what a plan needs before anything was chosen */
    struct split_session *session;
    int32_t head_bytes;
    int32_t ntensors;
    struct lab_tensor *tensor;
    int32_t *number; /* [graph tensors]: in `tensor`, -1: not exchanged */
    float **output;

    pthread_mutex_t lock; /* guards what follows while a frame runs: messages come on all threads */
    int64_t bytes;
    bool keeps, full;
    int32_t frames;      /* since lab_keep() */
    struct shelf *shelf; /* [ntensors] */
};

/* ---- Messages */

/* Which frames of a transfer are kept hangs on nothing that differs from run to run; transfers
 * begin at different ones. */
static bool is_kept(const struct lab *l, const struct shelf *s, int32_t transfer)
{
    static const double golden = 0.6180339887498949;
    const double at = s->share * l->frames + golden * transfer;
    return floor(at + s->share) > floor(at);
}

/* Room for a sample where it belongs: by frame, then by transfer, whichever thread came first. */
static struct lab_sample *place_sample(struct shelf *s, int32_t frame, int32_t transfer)
{
    int32_t at = s->count++;
    for (; at > 0 && s->sample[at - 1].frame == frame && s->sample[at - 1].source > transfer; at--)
        s->sample[at] = s->sample[at - 1];
    return &s->sample[at];
}

static bool keep(struct lab *l, int32_t transfer, const struct plan_transfer *m, const uint8_t *msg,
                 size_t len)
{
    struct shelf *s = &l->shelf[l->number[m->tensor]];
    if (!is_kept(l, s, transfer))
        return true;
    if (s->count == s->cap) {
        const int32_t cap = s->cap > 0 ? 2 * s->cap : 16;
        struct lab_sample *more = realloc(s->sample, (size_t)cap * sizeof *more);
        if (!more)
            return false;
        s->sample = more;
        s->cap = cap;
    }
    const size_t rows = (size_t)box_len(m->box, ROW), cols = (size_t)box_len(m->box, COL);
    const size_t channels = (size_t)box_len(m->box, CHAN);
    const size_t images = (size_t)l->graph.tensor[m->tensor].batch;
    const size_t n = images * rows * cols * channels;
    float *values = malloc(n * sizeof *values);
    if (!values || codec_get(values, n, msg, len, NULL)) {
        free(values);
        return false;
    }
    *place_sample(s, l->frames, transfer) =
        (struct lab_sample){ .grid = { images, rows, cols, channels, rows * cols * channels,
                                       cols * channels, channels },
                             .first = (size_t)m->box.lo[CHAN],
                             .source = transfer,
                             .frame = l->frames,
                             .values = values };
    return true;
}

static void see(void *ctx, int32_t from, int32_t transfer, const uint8_t *msg, size_t len)
{
    struct lab *l = ctx;
    const struct plan *p = split_plan(l->session);
    const struct plan_transfer *m = &p->transfer[transfer];
    (void)from;
    if (m->to == p->nodes)
        return;
    pthread_mutex_lock(&l->lock);
    l->bytes += (int64_t)len + l->head_bytes;
    if (l->keeps && !l->full && l->number[m->tensor] >= 0)
        l->full = !keep(l, transfer, m, msg, len);
    pthread_mutex_unlock(&l->lock);
}

/* ---- Samples */

static void clear_shelf(struct shelf *s)
{
    for (int32_t i = 0; i < s->count; i++)
        free(s->sample[i].values);
    free(s->sample);
    *s = (struct shelf){ 0 };
}

void lab_keep(struct lab *l, int64_t places, int32_t frames)
{
    for (int32_t i = 0; i < l->ntensors; i++) {
        clear_shelf(&l->shelf[i]);
        const double all = (double)l->tensor[i].places * frames;
        l->shelf[i].share = all > (double)places ? (double)places / all : 1;
    }
    l->keeps = true;
    l->frames = 0;
    l->full = false;
}

void lab_stop(struct lab *l) { l->keeps = false; }

const struct lab_sample *lab_samples(const struct lab *l, int32_t i, int32_t *count)
{
    *count = l->shelf[i].count;
    return l->shelf[i].sample;
}

bool lab_is_full(const struct lab *l) { return l->full; }

/* ---- Tensors */

int32_t lab_tensors(const struct lab *l) { return l->ntensors; }
const struct lab_tensor *lab_tensor(const struct lab *l, int32_t i) { return &l->tensor[i]; }
const struct graph *lab_graph(const struct lab *l) { return &l->graph; }

void lab_use(struct lab *l, int32_t i, const struct recipe *r)
{
    l->recipes.of[l->tensor[i].tensor] = r;
}

/* Lists what nodes send each other by recipes. */
static int list_tensors(struct lab *l)
{
    const struct plan *p = split_plan(l->session);
    const struct graph *g = &l->graph;
    l->tensor = calloc((size_t)g->ntensors + 1, sizeof *l->tensor);
    l->number = malloc(((size_t)g->ntensors + 1) * sizeof *l->number);
    l->shelf = calloc((size_t)g->ntensors + 1, sizeof *l->shelf);
    if (!l->tensor || !l->number || !l->shelf)
        return -ENOMEM;
    for (int32_t t = 0; t < g->ntensors; t++)
        l->number[t] = -1;
    for (int32_t i = 0; i < p->ntransfers; i++) {
        const struct plan_transfer *m = &p->transfer[i];
        const struct tensor *t = &g->tensor[m->tensor];
        if (m->from == p->nodes || m->to == p->nodes || !l->recipes.of[m->tensor])
            continue;
        if (l->number[m->tensor] < 0) {
            l->number[m->tensor] = l->ntensors;
            l->tensor[l->ntensors++] =
                (struct lab_tensor){ .tensor = m->tensor,
                                     .name = g->op[t->op].name,
                                     .channels = t->dim[CHAN],
                                     .is_halo =
                                         t->dim[ROW] > 1 && g->op[t->op].type != OP_PARTIAL };
        }
        struct lab_tensor *to = &l->tensor[l->number[m->tensor]];
        to->messages++;
        to->places += (int64_t)box_len(m->box, ROW) * box_len(m->box, COL) * t->batch;
    }
    return 0;
}

/* ---- Frames */

int lab_run(struct lab *l, const struct lab_input *in, struct diag *why)
{
    l->bytes = 0;
    const int err = in->pixels ? split_run_pixels(l->session, in->pixels, l->output, NULL, why)
                               : split_run(l->session, in->values, l->output, NULL, why);
    l->frames++;
    return err;
}

const float *lab_output(const struct lab *l, int32_t i, int64_t *count)
{
    *count = shape_values(&l->graph.output[i].shape);
    return l->output[i];
}

int64_t lab_bytes(const struct lab *l) { return l->bytes; }
void lab_forget(struct lab *l) { split_forget(l->session); }

/* ---- Life */

/* Every tensor that a recipe may be for gets one that nobody uses. */
static int give_blanks(struct lab *l, bool video, enum halo plain)
{
    const struct graph *g = &l->graph;
    const bool by_recipes = plain == HALO_F32;
    l->tensor_halo = calloc((size_t)g->ntensors + 1, 1);
    l->blank = calloc((size_t)g->ntensors + 1, sizeof *l->blank);
    if (!l->tensor_halo || !l->blank || recipes_init(&l->recipes, g->ntensors) ||
        halo_plain(g, by_recipes ? HALO_TQ : plain, l->tensor_halo))
        return -ENOMEM;
    for (int32_t t = 0; t < g->ntensors && by_recipes; t++) {
        if (l->tensor_halo[t] == HALO_F32 || g->tensor[t].dim[CHAN] > RECIPE_MAX_CHANNELS)
            continue;
        l->tensor_halo[t] = video ? HALO_VIDEO : HALO_TQ;
        l->blank[t].channels = g->tensor[t].dim[CHAN];
        l->recipes.of[t] = &l->blank[t];
    }
    return 0;
}

static int give_outputs(struct lab *l)
{
    l->output = calloc((size_t)l->graph.noutputs + 1, sizeof *l->output);
    if (!l->output)
        return -ENOMEM;
    for (int32_t i = 0; i < l->graph.noutputs; i++) {
        l->output[i] = malloc((size_t)shape_values(&l->graph.output[i].shape) * sizeof(float) + 1);
        if (!l->output[i])
            return -ENOMEM;
    }
    return 0;
}

static int open_all(struct lab *l, const struct lab_options *o, struct diag *why)
{
    const struct local_options local = {
        .pixels = o->pixels, .recipes = &l->recipes, .tap = see, .tap_ctx = l
    };
    int err = graph_build(&l->graph, o->onnx, o->inputs, o->ninputs, why);
    if (err)
        return err;
    l->has_graph = true;
    if (give_blanks(l, o->video, o->plain))
        return diag(why, -ENOMEM, "out of memory for a calibration");
    l->options = (struct plan_options){ .placement = PLAN_MIXED,
                                        .nodes = o->nodes,
                                        .policy = o->policy,
                                        .costs = o->costs,
                                        .pixels = o->pixels != NULL,
                                        .tensor_halo = l->tensor_halo };
    for (int32_t n = 0; n < o->nodes && n < PLAN_MAX_NODES; n++)
        l->options.weight[n] = 1;
    err = session_open_graph(&l->session, &l->graph, &l->options, &local, why);
    if (err)
        return err;
    if (list_tensors(l) || give_outputs(l))
        return diag(why, -ENOMEM, "out of memory for a calibration");
    for (int32_t t = 0; t < l->graph.ntensors; t++)
        l->recipes.of[t] = NULL;
    return 0;
}

int lab_open(struct lab **to, const struct lab_options *o, struct diag *why)
{
    struct lab *l = calloc(1, sizeof *l);
    if (!l)
        return diag(why, -ENOMEM, "out of memory for a calibration");
    pthread_mutex_init(&l->lock, NULL);
    l->head_bytes = o->head_bytes;
    const int err = open_all(l, o, why);
    if (err)
        lab_close(l);
    else
        *to = l;
    return err;
}

void lab_close(struct lab *l)
{
    if (!l)
        return;
    split_close(l->session);
    for (int32_t i = 0; l->shelf && i < l->ntensors; i++)
        clear_shelf(&l->shelf[i]);
    for (int32_t i = 0; l->output && i < l->graph.noutputs; i++)
        free(l->output[i]);
    free(l->shelf);
    free(l->output);
    free(l->tensor);
    free(l->number);
    free(l->blank);
    free(l->tensor_halo);
    recipes_done(&l->recipes);
    if (l->has_graph) {
        graph_unpack(&l->graph);
        graph_done(&l->graph);
    }
    pthread_mutex_destroy(&l->lock);
    free(l);
}
