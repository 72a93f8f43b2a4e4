#include "tiling/reach.h"

static int64_t clamp64(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

/* Saturates.  No axis is longer than BOX_MAX_EXTENT, so an offset at the limit of int32_t
 * points outside of every tensor, just like the true one. */
static int32_t to_offset(int64_t v) { return (int32_t)clamp64(v, INT32_MIN, INT32_MAX); }

static int64_t floor_div(int64_t a, int64_t b) /* b > 0 */ { return a / b - (a % b < 0); }

struct reach reach_same(void) { return (struct reach){ .num = 1, .den = 1 }; }

struct reach reach_all(int32_t len) { return (struct reach){ .den = 1, .hi = len - 1 }; }

struct reach reach_window(int32_t kernel, int32_t stride, int32_t dilation, int32_t pad)
{
    const int64_t last_tap = ((int64_t)kernel - 1) * dilation;
    return (struct reach){
        .num = stride, .den = 1, .lo = to_offset(-(int64_t)pad), .hi = to_offset(last_tap - pad)
    };
}

/* Input i with stride*i = y + pad - k*dilation, so i lies between the quotients for the last
 * tap, rounded up, and for tap 0, rounded down. */
struct reach reach_transposed(int32_t kernel, int32_t stride, int32_t dilation, int32_t pad)
{
    const int64_t last_tap = ((int64_t)kernel - 1) * dilation;
    return (struct reach){
        .num = 1, .den = stride, .lo = to_offset(pad - last_tap + stride - 1), .hi = pad
    };
}

struct reach reach_shift(int32_t offset, int32_t step)
{
    return (struct reach){ .num = step, .den = 1, .lo = offset, .hi = offset };
}

struct reach reach_up(int32_t factor) { return (struct reach){ .num = 1, .den = factor }; }

struct reach reach_down(int32_t factor)
{
    return (struct reach){ .num = factor, .den = 1, .hi = factor - 1 };
}

struct span reach_span(struct reach r, struct span out, int32_t len)
{
    const int64_t first = r.num < 0 ? out.hi - 1 : out.lo;
    const int64_t last = r.num < 0 ? out.lo : out.hi - 1;
    const int64_t lo = floor_div(first * r.num + r.lo, r.den);
    const int64_t hi = floor_div(last * r.num + r.hi, r.den) + 1;
    return (struct span){ (int32_t)clamp64(lo, 0, len), (int32_t)clamp64(hi, 0, len) };
}

struct box reach_box(const struct reach r[AXES], struct box out, const int32_t dim[AXES])
{
    if (box_empty(out))
        return box_none();
    struct box in;
    for (int x = 0; x < AXES; x++) {
        const struct span s = reach_span(r[x], (struct span){ out.lo[x], out.hi[x] }, dim[x]);
        in.lo[x] = s.lo;
        in.hi[x] = s.hi;
    }
    return box_empty(in) ? box_none() : in;
}
