/* Mean and deviation of a picture, or a BatchNormalization, in front of a convolution:
 * w * (scale x + bias) = (w scale) x + (sum of w bias).  Where the convolution pads, zeros would
 * have to become bias; then only a line through 0 folds. */
#include <errno.h>
#include <stdlib.h>

#include "libsplit/pass_match.h"
#include "libsplit/passes.h"

/* Values that may be copied in all: weights shall stay in the file, and many convolutions may share
 * theirs. */
enum { MAX_COPIED = 1 << 22 };

static bool pads(const struct window *w)
{
    return w->pad[ROW] || w->pad[COL] || w->pad_end[ROW] || w->pad_end[COL];
}

static bool through_zero(const struct op *op, int32_t channels)
{
    for (int32_t c = 0; c < channels; c++)
        if (match_line_at(op, c).bias != 0)
            return false;
    return true;
}

/* Weights multiplied by their channel's scale, in order (cout, cin of the group, y, x), and what
 * the biases add to each output, in sum[cout]. */
static void fold(const struct op *conv, const struct op *line, int32_t cout, int32_t cin,
                 float *weights, float *sum)
{
    const struct weight_ref *w = &conv->u.conv.weight;
    const int32_t *kernel = conv->u.conv.win.kernel;
    const int32_t outputs = cout / conv->u.conv.group; /* of a group */
    for (int32_t co = 0; co < cout; co++) {
        double biases = 0;
        for (int32_t ci = 0; ci < cin; ci++) {
            const struct line l = match_line_at(line, co / outputs * cin + ci);
            for (int32_t y = 0; y < kernel[ROW]; y++)
                for (int32_t x = 0; x < kernel[COL]; x++) {
                    const float tap = onnx_float(w->t, co * w->stride[0] + ci * w->stride[1] +
                                                           y * w->stride[2] + x * w->stride[3]);
                    *weights++ = tap * l.scale;
                    biases += (double)tap * (double)l.bias;
                }
        }
        sum[co] = (float)biases;
    }
}

/* The weights of `conv` become `values`, laid out as fold() does. */
static int set_weights(struct graph *g, struct op *conv, float *values, int32_t cout, int32_t cin)
{
    const int32_t *kernel = conv->u.conv.win.kernel;
    const int64_t plane = (int64_t)kernel[ROW] * kernel[COL], n = plane * cin * cout;
    struct onnx_tensor *t = graph_array(g, 1, sizeof *t);
    if (!t)
        return -ENOMEM;
    *t = (struct onnx_tensor){ .name = conv->u.conv.weight.t->name,
                               .type = ONNX_FLOAT,
                               .rank = 4,
                               .dim = { cout, cin, kernel[ROW], kernel[COL] },
                               .data = values,
                               .count = n,
                               .bytes = (size_t)n * sizeof *values };
    conv->u.conv.weight = (struct weight_ref){ t, { plane * cin, plane, kernel[COL], 1 } };
    return 0;
}

static int64_t count_weights(const struct graph *g, const struct op *conv)
{
    const int32_t *kernel = conv->u.conv.win.kernel;
    return (int64_t)g->tensor[conv->output].dim[CHAN] *
           (g->tensor[conv->input[0]].dim[CHAN] / conv->u.conv.group) * kernel[ROW] * kernel[COL];
}

/* `line` disappears into `conv`, which reads it. */
static int absorb(struct graph *g, struct op *conv, struct op *line)
{
    const int32_t cout = g->tensor[conv->output].dim[CHAN];
    const int32_t cin = g->tensor[line->output].dim[CHAN] / conv->u.conv.group;
    float *weights = graph_floats(g, (size_t)count_weights(g, conv));
    float *sum = graph_floats(g, (size_t)cout);
    if (!weights || !sum)
        return -ENOMEM;
    fold(conv, line, cout, cin, weights, sum);
    const int rc = set_weights(g, conv, weights, cout, cin);
    if (rc < 0)
        return rc;
    for (int32_t c = 0; c < cout; c++) {
        sum[c] *= conv->u.conv.scale ? conv->u.conv.scale[c] : 1;
        sum[c] += conv->u.conv.bias ? conv->u.conv.bias[c] : 0;
    }
    conv->u.conv.bias = sum;
    conv->input[0] = line->input[0];
    op_kill(line);
    return 0;
}

/* The line that `conv` alone reads and can take in, else NULL. */
static struct op *line_before(const struct scene *s, const struct op *conv)
{
    if (op_is_dead(conv) || conv->type != OP_CONV || conv->ninputs != 1)
        return NULL;
    struct op *line = match_only(s, conv, 0);
    if (!line || !match_line(s->g, line) || line->act.kind != ACT_NONE)
        return NULL;
    const int32_t channels = s->g->tensor[line->output].dim[CHAN];
    return !pads(&conv->u.conv.win) || through_zero(line, channels) ? line : NULL;
}

int pass_fold_before(struct graph *g)
{
    int64_t left = MAX_COPIED;
    int rc = 0;
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    const struct scene s = { g, readers };
    for (int32_t i = 0; i < g->nops && rc == 0; i++) {
        struct op *conv = &g->op[i], *line = line_before(&s, conv);
        if (!line || count_weights(g, conv) > left)
            continue;
        left -= count_weights(g, conv);
        rc = absorb(g, conv, line);
    }
    free(readers);
    return rc;
}
