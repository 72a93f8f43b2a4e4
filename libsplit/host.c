#include "libsplit/host.h"

#include <string.h>

#include "libsplit/runs.h"

/* Values of the box of step `s`, all images. */
static size_t message_values(const struct graph *g, const struct step *s)
{
    return (size_t)box_values(s->box) * (size_t)g->tensor[s->what].batch;
}

/* Which of the network's inputs the tensor is. */
static int32_t input_of(const struct graph *g, int32_t tensor)
{
    int32_t i = 0;
    while (i < g->ninputs - 1 && g->input[i].tensor != tensor)
        i++;
    return i;
}

static void pack_onnx(uint8_t *to, const struct port *p, struct box part, const float *values)
{
    const int64_t n = box_values(part);
    for (int32_t image = 0; image < shape_batch(&p->shape); image++)
        shape_part_from_onnx(&p->shape, image, part, codec_f32_at(to, (size_t)(image * n)), values);
}

/* What lies in memory as it will in the message, but for the rest of the tensor. */
static void pack_runs(uint8_t *to, const struct tensor *t, struct box part,
                      const struct host_input *in)
{
    struct runs r;
    for (bool more = runs_begin(&r, box_whole(t->dim), part, t->batch); more;
         more = runs_next(&r)) {
        if (in->pixels)
            codec_set_u8(to, r.first, in->pixels + r.offset, r.len);
        else
            codec_set_f32(to, r.first, in->values + r.offset, r.len);
    }
}

size_t host_pack(const struct graph *g, const struct step *s, const struct host_input *input,
                 uint8_t *to)
{
    const int32_t i = input_of(g, s->what);
    const struct port *p = &g->input[i];
    const enum codec_mode mode = input[i].pixels ? CODEC_U8 : CODEC_F32;
    codec_set_mode(to, mode);
    if (input[i].pixels || shape_in_order(&p->shape))
        pack_runs(to, &g->tensor[s->what], s->box, &input[i]);
    else
        pack_onnx(to, p, s->box, input[i].values);
    return codec_len(mode, message_values(g, s));
}

static int unpack_values(const struct graph *g, const struct step *s, const uint8_t *msg,
                         size_t len, float *to)
{
    const struct tensor *t = &g->tensor[s->what];
    const int err = codec_check(msg, len, message_values(g, s), NULL);
    struct runs r;
    if (err)
        return err;
    for (bool more = runs_begin(&r, box_whole(t->dim), s->box, t->batch); more;
         more = runs_next(&r))
        codec_get_run(to + r.offset, r.first, r.len, msg, NULL);
    return 0;
}

/* Candidates may also come as all their values, where that is shorter. */
static bool is_brief(const struct answer_rule *a, const uint8_t *msg, size_t len)
{
    return a->form != ANSWER_VALUES &&
           (a->form != ANSWER_CANDIDATES || len == 0 || msg[0] >= ANSWER_MODE);
}

int host_unpack(const struct graph *g, const struct step *s, const uint8_t *msg, size_t len,
                const struct host_brief *brief, float *const *output)
{
    int err = 0;
    for (int32_t i = 0; i < g->noutputs && !err; i++) {
        if (g->output[i].tensor != s->what)
            continue;
        if (brief && is_brief(&brief->answer[i], msg, len))
            err = answer_decode(&brief->answer[i], msg, len, g->tensor[s->what].dim, s->box,
                                output[i], brief->bytes[i]);
        else
            err = unpack_values(g, s, msg, len, output[i]);
    }
    return err;
}

void host_pass(const struct graph *g, const struct host_input *input,
               const struct codec_pixels *pixels, float *const *output)
{
    for (int32_t i = 0; i < g->noutputs; i++) {
        const struct tensor *t = &g->tensor[g->output[i].tensor];
        if (t->op != GEO_NO_OP)
            continue;
        const int32_t from = input_of(g, g->output[i].tensor);
        const struct host_input *in = &input[from];
        const size_t n = (size_t)box_values(box_whole(t->dim)) * (size_t)t->batch;
        if (in->values)
            shape_from_onnx(&g->input[from].shape, output[i], in->values);
        else
            codec_pixel_values(output[i], in->pixels, 0, n, pixels);
    }
}
