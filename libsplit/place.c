#include "libsplit/place.h"

#include <errno.h>
#include <stdlib.h>

static struct place alone(const struct program *pr, int32_t b)
{
    const struct box box = pr->buffer[b].box;
    struct place p = { .root = b, .pixel_stride = box_len(box, CHAN) };
    p.row_stride = p.pixel_stride * box_len(box, COL);
    p.image_stride = p.row_stride * box_len(box, ROW);
    return p;
}

static bool spans(struct box outer, struct box inner, enum axis a)
{
    return inner.lo[a] >= outer.lo[a] && inner.hi[a] <= outer.hi[a];
}

/* Buffer `inner` becomes channels `first`... of buffer `outer`, whose own place is known. */
static void put_inside(const struct program *pr, struct place *place, int32_t inner, int32_t outer,
                       int32_t first)
{
    const struct box in = pr->buffer[inner].box, out = pr->buffer[outer].box;
    struct place p = place[outer];
    p.offset += (in.lo[ROW] - out.lo[ROW]) * p.row_stride +
                (in.lo[COL] - out.lo[COL]) * p.pixel_stride + first;
    place[inner] = p;
}

static int32_t buffer_index(const struct program *pr, int32_t tensor)
{
    const struct buffer *b = program_buffer(pr, tensor);
    return b ? (int32_t)(b - pr->buffer) : -1;
}

/* May the buffer of an input of `concat` lie in that of its output? */
static bool fits_inside(const struct geometry *geo, const struct program *pr, int32_t inner,
                        int32_t outer)
{
    const struct buffer *in = &pr->buffer[inner], *out = &pr->buffer[outer];
    const struct geo_tensor *ti = &geo->tensor[in->tensor], *to = &geo->tensor[out->tensor];
    return spans(out->box, in->box, ROW) && spans(out->box, in->box, COL) &&
           box_len(in->box, CHAN) == ti->dim[CHAN] && box_len(out->box, CHAN) == to->dim[CHAN] &&
           ti->batch == to->batch && !geometry_is_input(geo, in->tensor);
}

static void place_inputs(const struct graph *g, const struct geometry *geo,
                         const struct program *pr, const struct op *concat, const bool *travels,
                         struct place *place)
{
    const int32_t outer = buffer_index(pr, concat->output);
    int32_t first = 0;
    for (int32_t i = 0; i < concat->ninputs; i++) {
        const int32_t inner = buffer_index(pr, concat->input[i]);
        if (inner >= 0 && !travels[inner] && place[inner].root == inner &&
            fits_inside(geo, pr, inner, outer))
            put_inside(pr, place, inner, outer, first);
        first += g->tensor[concat->input[i]].dim[CHAN];
    }
}

int place_buffers(const struct graph *g, const struct geometry *geo, const struct program *pr,
                  struct place *place)
{
    bool *travels = calloc((size_t)pr->nbuffers + 1, sizeof(*travels));
    if (!travels)
        return -ENOMEM;
    for (int32_t b = 0; b < pr->nbuffers; b++)
        place[b] = alone(pr, b);
    for (int32_t s = 0; s < pr->nsteps; s++)
        if (pr->step[s].kind != STEP_RUN)
            travels[buffer_index(pr, pr->step[s].what)] = true;
    /* From last to first: a Concat of Concats finds its own place before its inputs do theirs. */
    for (int32_t s = pr->nsteps - 1; s >= 0; s--) {
        const struct op *op = &g->op[pr->step[s].what];
        if (pr->step[s].kind == STEP_RUN && op->type == OP_CONCAT && op->u.concat.axis == CHAN &&
            op->act.kind == ACT_NONE)
            place_inputs(g, geo, pr, op, travels, place);
    }
    free(travels);
    return 0;
}
