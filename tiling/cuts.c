#include "tiling/cuts.h"

#include <string.h>

/* Is tensor `t` a map that nodes compute bands of rows of? */
static bool is_cut(const struct placement *where, int32_t t)
{
    const struct geometry *g = where->geo;
    return !geometry_is_input(g, t) && !geometry_is_partial(g, t) && g->tensor[t].dim[ROW] > 1 &&
           where->along[t] == ROW;
}

static int64_t floor_div(int64_t a, int64_t b) /* b > 0 */ { return a / b - (a % b < 0); }

static int32_t clamp(int64_t row, int32_t rows)
{
    return row > rows ? rows : row < 0 ? 0 : (int32_t)row;
}

static int32_t rows_of(const struct placement *where, int32_t t)
{
    return where->geo->tensor[t].dim[ROW];
}

int32_t cuts_heights(const struct placement *where, int32_t height[CUTS_MAX_HEIGHTS])
{
    int32_t count = 0;
    for (int32_t t = 0; t < where->geo->ntensors; t++) {
        int32_t at = 0;
        const int32_t rows = rows_of(where, t);
        while (at < count && height[at] < rows)
            at++;
        if (!is_cut(where, t) || (at < count && height[at] == rows))
            continue;
        if (count == CUTS_MAX_HEIGHTS)
            return 0;
        memmove(height + at + 1, height + at, (size_t)(count - at) * sizeof(*height));
        height[at] = rows;
        count++;
    }
    return count;
}

void cuts_set(struct placement *where, int32_t height, const struct bands *bands)
{
    const struct geometry *g = where->geo;
    for (int32_t t = 0; t < g->ntensors; t++)
        if (rows_of(where, t) == height && !geometry_is_partial(g, t))
            where->rows[t] = *bands;
}

struct bands cuts_get(const struct placement *where, int32_t height)
{
    int32_t t = 0;
    while (!is_cut(where, t) || rows_of(where, t) != height)
        t++;
    return where->rows[t];
}

struct bands cuts_between_units(const struct placement *where, int32_t height)
{
    const struct geometry *g = where->geo;
    struct bands b = cuts_get(where, height);
    int32_t unit = 1;
    for (int32_t o = 0; o < g->nops; o++)
        if (rows_of(where, g->op[o].out) == height && is_cut(where, g->op[o].out))
            unit = geometry_row_unit(g, o) > unit ? geometry_row_unit(g, o) : unit;
    for (int32_t n = 1; n < where->options->nodes; n++)
        b.at[n] = clamp((b.at[n] + unit / 2) / unit * unit, height);
    return b;
}

/* The input row that an operator with reach `r` looks at around output row `out`. */
static int64_t centre(struct reach r, int64_t out)
{
    return floor_div(out * r.num + floor_div((int64_t)r.lo + r.hi, 2), r.den);
}

/* The first output row that looks at input row `in` or one behind it. */
static int64_t first_at(struct reach r, int64_t in)
{
    const int64_t middle = floor_div((int64_t)r.lo + r.hi, 2);
    return -floor_div(middle - in * r.den, r.num);
}

/* Cuts for tensor `of` that an operator with reach `r` leads to from those of tensor `from`, which
 * is the operator's input or, if `back`, its output. */
static struct bands follow(const struct placement *where, int32_t of, int32_t from, struct reach r,
                           bool back)
{
    const int32_t rows = rows_of(where, of), nodes = where->options->nodes;
    struct bands b = { { 0 } };
    for (int32_t n = 1; n < nodes; n++) {
        const int64_t cut = where->rows[from].at[n];
        const int64_t to = back ? centre(r, cut) : first_at(r, cut);
        b.at[n] = clamp(to, rows);
        if (b.at[n] < b.at[n - 1])
            b.at[n] = b.at[n - 1];
    }
    b.at[nodes] = rows;
    return b;
}

static bool is_new(const struct bands *b, const struct bands *list, int32_t count, int32_t nodes)
{
    for (int32_t i = 0; i < count; i++)
        if (memcmp(b->at, list[i].at, (size_t)(nodes + 1) * sizeof(b->at[0])) == 0)
            return false;
    return true;
}

/* Does operator `op` lead between a map of `height` rows and one of another height, `from` if that
 * is not 0, row by row? */
static bool leads(const struct placement *where, const struct geo_op *op, int32_t input,
                  int32_t height, int32_t from)
{
    const struct geo_input *in = &where->geo->input[op->first + input];
    const int32_t before = rows_of(where, in->tensor), after = rows_of(where, op->out);
    const int32_t other = before == height ? after : before;
    return before != after && (before == height || after == height) &&
           (from == 0 || other == from) && in->reach[ROW].num >= 1 && is_cut(where, in->tensor) &&
           is_cut(where, op->out);
}

int32_t cuts_candidates(const struct placement *where, int32_t height, int32_t from,
                        struct bands out[CUTS_MAX_CANDIDATES])
{
    const struct geometry *g = where->geo;
    int32_t count = 0;
    for (int32_t o = 0; o < g->nops; o++) {
        const struct geo_op *op = &g->op[o];
        for (int32_t i = 0; i < op->ninputs && op->kind == GEO_MAP; i++) {
            const struct geo_input *in = &g->input[op->first + i];
            const bool back = rows_of(where, in->tensor) == height;
            if (!leads(where, op, i, height, from))
                continue;
            const struct bands b = back ? follow(where, in->tensor, op->out, in->reach[ROW], true)
                                        : follow(where, op->out, in->tensor, in->reach[ROW], false);
            if (count < CUTS_MAX_CANDIDATES && is_new(&b, out, count, where->options->nodes))
                out[count++] = b;
        }
    }
    return count;
}
