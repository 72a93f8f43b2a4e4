/* GELU came late to ONNX: until then it is x / 2 * (1 + erf(x / sqrt 2)), factors in any order. */
#include <errno.h>
#include <stdlib.h>

#include "libsplit/pass_match.h"
#include "libsplit/passes.h"

/* 1 + erf(x * factor) */
struct bell {
    struct op *add, *erf, *scale;
};

/* True if input `side` of `op` is such a sum with the factor of GELU, made for `op` alone. */
static bool find_bell(const struct scene *s, const struct op *op, int side, struct bell *b)
{
    float one;
    b->add = match_only(s, op, side);
    if (!b->add || !match_number(s->g, b->add, &one) || one != 1 ||
        b->add->u.binary.kind != BINARY_ADD)
        return false;
    b->erf = match_act(s, b->add, 0, ACT_ERF);
    if (!b->erf)
        return false;
    b->scale = match_only(s, b->erf, 0);
    return b->scale && match_about(match_factor(s->g, b->scale), 0.70710678F);
}

static void replace(struct op *op, const struct bell *b, struct op *half)
{
    match_replace(op, (struct act){ .kind = ACT_GELU }, b->scale->input[0]);
    op_kill(b->add);
    op_kill(b->erf);
    op_kill(b->scale);
    op_kill(half);
}

/* (x * bell) / 2 */
static void halved_after(const struct scene *s, struct op *op)
{
    struct bell b;
    if (match_factor(s->g, op) != 0.5F)
        return;
    struct op *mul = match_only(s, op, 0);
    if (!mul || !match_product(mul))
        return;
    for (int side = 0; side < 2; side++)
        if (find_bell(s, mul, side, &b) && b.scale->input[0] == mul->input[1 - side]) {
            replace(op, &b, mul);
            return;
        }
}

/* (x / 2) * bell */
static void halved_before(const struct scene *s, struct op *op)
{
    struct bell b;
    if (!match_product(op))
        return;
    for (int side = 0; side < 2; side++) {
        struct op *half = match_only(s, op, 1 - side);
        if (half && match_factor(s->g, half) == 0.5F && find_bell(s, op, side, &b) &&
            b.scale->input[0] == half->input[0]) {
            replace(op, &b, half);
            return;
        }
    }
}

int pass_gelu(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    const struct scene s = { g, readers };
    for (int32_t i = 0; i < g->nops; i++) {
        halved_after(&s, &g->op[i]);
        halved_before(&s, &g->op[i]);
    }
    free(readers);
    return 0;
}
