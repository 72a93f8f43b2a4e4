/* Exporters without HardSigmoid and HardSwish write them with Add, Clip, Mul and Div:
 * clip(x + 3, 0, 6) / 6 is a HardSigmoid, x * clip(x + 3, 0, 6) / 6 a HardSwish. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "libsplit/pass_match.h"
#include "libsplit/passes.h"

/* clip(x + shift, 0, top) */
struct ramp {
    struct op *clip, *add;
    float shift, top;
};

/* True if input `side` of `op` is such a ramp, made for `op` alone. */
static bool find_ramp(const struct scene *s, const struct op *op, int side, struct ramp *r)
{
    r->clip = match_act(s, op, side, ACT_CLIP);
    if (!r->clip || r->clip->act.a != 0 || !isfinite(r->clip->act.b) || r->clip->act.b <= 0)
        return false;
    r->top = r->clip->act.b;
    r->add = match_only(s, r->clip, 0);
    return r->add && match_number(s->g, r->add, &r->shift) && r->add->u.binary.kind == BINARY_ADD;
}

/* `op` becomes `act` of what the ramp is made of. */
static void replace(struct op *op, const struct ramp *r, struct act act)
{
    match_replace(op, act, r->add->input[0]);
    op_kill(r->clip);
    op_kill(r->add);
}

/* clip(x + shift, 0, top) / top */
static void make_hard_sigmoid(const struct scene *s, struct op *op)
{
    struct ramp r;
    const float factor = match_factor(s->g, op);
    if (factor != 0 && find_ramp(s, op, 0, &r) && match_about(factor * r.top, 1))
        replace(op, &r,
                (struct act){ .kind = ACT_HARD_SIGMOID, .a = 1 / r.top, .b = r.shift / r.top });
}

/* x * clip(x + 3, 0, 6) / 6 */
static void make_hard_swish(const struct scene *s, struct op *op)
{
    struct ramp r;
    if (!match_about(match_factor(s->g, op), 1.0F / 6))
        return;
    struct op *mul = match_only(s, op, 0);
    if (!mul || !match_product(mul))
        return;
    for (int side = 0; side < 2; side++)
        if (find_ramp(s, mul, side, &r) && r.shift == 3 && r.top == 6 &&
            r.add->input[0] == mul->input[1 - side]) {
            replace(op, &r, (struct act){ .kind = ACT_HARD_SWISH });
            op_kill(mul);
            return;
        }
}

int pass_hard_swish(struct graph *g)
{
    int32_t *readers = pass_count_readers(g);
    if (!readers)
        return -ENOMEM;
    const struct scene s = { g, readers };
    for (int32_t i = 0; i < g->nops; i++) {
        make_hard_sigmoid(&s, &g->op[i]);
        make_hard_swish(&s, &g->op[i]);
    }
    free(readers);
    return 0;
}
