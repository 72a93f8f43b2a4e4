#include "tiling/program.h"

#include <inttypes.h>

static void print_op(const struct program_names *names, int32_t op, FILE *to)
{
    if (names && names->op)
        fprintf(to, "%s", names->op(names->ctx, op));
    else
        fprintf(to, "%" PRId32, op);
}

static void print_tensor(const struct program_names *names, int32_t tensor, FILE *to)
{
    if (names && names->tensor)
        fprintf(to, "%s", names->tensor(names->ctx, tensor));
    else
        fprintf(to, "%" PRId32, tensor);
}

/* " rows 0..14 of 112", and the other axes where `b` does not hold all of them. */
static void print_box(struct box b, const int32_t dim[AXES], FILE *to)
{
    static const char *const axis[AXES] = { "rows", "cols", "chans" };
    for (int x = 0; x < AXES; x++)
        if (x == ROW || b.lo[x] != 0 || b.hi[x] != dim[x])
            fprintf(to, " %s %" PRId32 "..%" PRId32 " of %" PRId32, axis[x], b.lo[x], b.hi[x],
                    dim[x]);
}

static void print_run(const struct program *pr, const struct geometry *g,
                      const struct program_names *names, const struct step *s, FILE *to)
{
    const struct geo_op *op = &g->op[s->what];
    fputs("RUN ", to);
    print_op(names, s->what, to);
    print_box(program_output(pr, g, s), g->tensor[op->out].dim, to);
    if (op->kind == GEO_PARTIAL) {
        fputs(" over", to);
        if (box_empty(s->box))
            fputs(" nothing", to);
        else
            print_box(s->box, g->tensor[g->input[op->first].tensor].dim, to);
    }
}

static void print_message(const struct program *pr, const struct geometry *g,
                          const struct program_names *names, const struct step *s, FILE *to)
{
    const struct geo_tensor *t = &g->tensor[s->what];
    const bool sends = s->kind == STEP_SEND;
    fputs(sends ? "SEND " : "RECV ", to);
    print_tensor(names, s->what, to);
    print_box(s->box, t->dim, to);
    fputs(sends ? " to " : " from ", to);
    if (s->peer == pr->nodes)
        fputs("host", to);
    else
        fprintf(to, "node %" PRId32, s->peer);
    const enum halo halo = (enum halo)s->halo;
    const bool by_recipe = halo == HALO_TQ || halo == HALO_VIDEO;
    fprintf(to, " (%s%" PRId64 " bytes", by_recipe ? "at most " : "",
            halo_bytes(halo, box_values(s->box) * t->batch));
    if (halo != HALO_F32)
        fprintf(to, " of %s", halo_name(halo));
    fputc(')', to);
}

void program_dump_step(const struct program *pr, const struct geometry *g,
                       const struct program_names *names, int32_t step, FILE *to)
{
    const struct step *s = &pr->step[step];
    if (s->kind == STEP_RUN)
        print_run(pr, g, names, s, to);
    else
        print_message(pr, g, names, s, to);
}

void program_dump(const struct program *pr, const struct geometry *g,
                  const struct program_names *names, FILE *to)
{
    for (int32_t i = 0; i < pr->nsteps; i++) {
        program_dump_step(pr, g, names, i, to);
        fputc('\n', to);
    }
}
