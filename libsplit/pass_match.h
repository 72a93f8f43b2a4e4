/* libsplit/pass_match.h - recognising chains of operators that exporters write (internal to
 * passes). */
#ifndef LIBSPLIT_PASS_MATCH_H
#define LIBSPLIT_PASS_MATCH_H

#include "libsplit/graph.h"

/* What patterns are looked for in; `readers` is that of pass_count_readers(). */
struct scene {
    const struct graph *g;
    const int32_t *readers;
};

/* The operator behind input `side` of `op` if nobody else reads what it yields, else NULL. */
struct op *match_only(const struct scene *s, const struct op *op, int side);
/* The same if it is the activation `kind`, of any parameters. */
struct op *match_act(const struct scene *s, const struct op *op, int side, enum act_kind kind);

/* True if `op` is x + *number, x * *number...: alone, with one finite number for the whole tensor,
 * which keeps its shape. */
bool match_number(const struct graph *g, const struct op *op, float *number);
/* The factor of x * factor or x / number; 0 if `op` is neither. */
float match_factor(const struct graph *g, const struct op *op);
/* True if `op` is the product of two tensors and nothing more. */
bool match_product(const struct op *op);

/* y = scale * x + bias on one channel. */
struct line {
    float scale, bias;
};
/* True if `op` is y = scale[c] * x + bias[c] with finite constants, one of each per channel, and
 * then perhaps an activation. */
bool match_line(const struct graph *g, const struct op *op);
struct line match_line_at(const struct op *op, int32_t c);

/* Equal but for what exporters lose by rounding. */
bool match_about(float a, float b);

/* `op` becomes the activation `act` of tensor `x`. */
void match_replace(struct op *op, struct act act, int32_t x);

#endif
