/* x to the power of 2 and of 1/2, as exporters write variances and deviations, are a product and a
 * square root. */
#include <errno.h>

#include "libsplit/pass_match.h"
#include "libsplit/passes.h"

static int square(struct graph *g, struct op *op)
{
    int32_t *twice = graph_integers(g, 2);
    if (!twice)
        return -ENOMEM;
    twice[0] = twice[1] = op->input[0];
    op->u.binary.kind = BINARY_MUL;
    op->u.binary.constant = NULL;
    op->input = twice;
    op->ninputs = 2;
    return 0;
}

int pass_power(struct graph *g)
{
    int rc = 0;
    for (int32_t i = 0; i < g->nops && rc == 0; i++) {
        struct op *op = &g->op[i];
        float exponent;
        if (!match_number(g, op, &exponent) || op->u.binary.kind != BINARY_POW ||
            op->u.binary.constant_first)
            continue;
        if (exponent == 2)
            rc = square(g, op);
        else if (exponent == 0.5F)
            match_replace(op, (struct act){ .kind = ACT_SQRT }, op->input[0]);
    }
    return rc;
}
