/* libsplit/simd.h - the innermost loops, once per instruction set.
 *
 * Each instruction set is one file (libsplit/simd_avx512.c, ...) that says what a vector is
 * and includes the loops of libsplit/simd_body.h; the machine picks a table at run time.
 * Whatever calls these functions is written once, for any vector width.
 *
 * All sums run in the order of the weights, one fused multiply-add per step, so results do
 * not depend on how work is cut, and the tables whose `fused` is set agree bit for bit.
 *
 * All pointers may have any alignment; aligned weights are faster.  Strides are in floats. */
#ifndef LIBSPLIT_SIMD_H
#define LIBSPLIT_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIMD_MAX_VECTORS = 4, /* of a panel of weights */
    SIMD_MAX_PIXELS = 14, /* of a block */
    SIMD_MAX_WIDTH = 16,  /* floats of a vector */
};

/* v_two_to(x) of every instruction set is 2^x of a whole x in -126..127: x added to this
 * number, 1.5 * 2^23 + 127, leaves the exponent of the result in the last bits of the sum. */
#define SIMD_EXPONENT 12583039.0F

enum simd_act_kind {
    SIMD_NONE,
    SIMD_CLAMP, /* x > lo ? x : lo, then x < hi ? x : hi */
    SIMD_LEAKY, /* x < 0 ? lo * x : x */
};

struct simd_act {
    enum simd_act_kind kind;
    float lo, hi;
};

/* The micro-kernel: a block of pixels x vectors of a matrix product.
 *
 *   out[i * out_pixel + k] = act(bias[k] + sum over d of x[i][d] * w[d][k] + add[i * add_pixel +
 * k])
 *
 * x[i], the values behind pixel i, are `rows` x `runs` runs of `len` contiguous floats:
 * run (r, q) begins at in + i * in_pixel + r * row_stride + q * run_stride.  That covers 1x1
 * (one run of cin), k x k (k rows of one run of k * cin where pixels are contiguous, of k runs
 * of cin where they are not), strides, dilation, and the products of Winograd's algorithm.
 *
 * w is one panel: [rows * runs * len][vectors * width].  bias: [vectors * width]; NULL: 0. */
struct simd_block {
    int32_t rows, runs, len;
    ptrdiff_t row_stride, run_stride;
    ptrdiff_t in_pixel, out_pixel, add_pixel;
    int32_t last; /* channels of the last vector that exist, 1..width; no others are touched */
    struct simd_act act;
    /* Weights to fetch into the cache meanwhile, of this panel or the next: every step asks for
     * the vectors * width floats at `ahead`, then moves on by ahead_step.  Any address will do. */
    const float *ahead;
    ptrdiff_t ahead_step;
};

typedef void simd_block_fn(const struct simd_block *b, const float *in, const float *w, float *out,
                           const float *bias, const float *add);

/* Depthwise convolution, 3x3, of up to two rows of output pixels without padding.
 *
 * Output pixel i of row q, channels 0..channels-1, reads pixels i * stride ... i * stride + 2
 * of the three input rows row[q * stride] ... row[q * stride + 2].  Weights are [9][w_stride]. */
struct simd_depthwise {
    const float *row[5]; /* [(rows - 1) * stride + 3] */
    ptrdiff_t in_pixel;
    const float *w, *bias;
    ptrdiff_t w_stride;
    float *out;
    ptrdiff_t out_pixel, out_row;
    int32_t pixels, channels;
    struct simd_act act;
};
typedef void simd_depthwise_fn(const struct simd_depthwise *d);

/* One pixel of a depthwise convolution with any window: tap t reads x[t][0..channels) and
 * weights w[t][0..channels).  Sums run in the order of the taps. */
typedef void simd_taps_fn(const float *const *x, const float *const *w, int32_t taps,
                          const float *bias, float *out, int32_t channels,
                          const struct simd_act *act);

/* out[k] = largest of x[t][k], t in 0..taps-1, NaN left out; -inf if there are no taps.  out may
 * be one of x. */
typedef void simd_max_fn(const float *const *x, int32_t taps, float *out, int32_t channels);

/* out[k] = (x[0][k] + x[1][k] + ...) / divisor, added in that order; 0 if there are no taps.  out
 * may be one of x. */
typedef void simd_average_fn(const float *const *x, int32_t taps, float divisor, float *out,
                             int32_t channels);

/* out[k] = x[0][k] * weight[0] + x[1][k] * weight[1] + ..., added in that order. */
typedef void simd_blend_fn(const float *const *x, const float *weight, int32_t taps, float *out,
                           int32_t channels);

/* Winograd's transforms of one tile, F(m x m, 3 x 3) with m = 2 or 4; n = m + 2.
 *
 * Input: x[n * n] points at the tile's pixels (zeros where it hangs over the map); V gets
 * value (position p, channel first + k) at v[p * v_position + k].
 * Output: reads position p of channel k at v[p * v_position + k] and writes `rows` x `cols`
 * (1..m each) pixels.
 *
 * Positions are those of n rows and n columns.  A tile need not have all: m - 1 output rows take
 * those of rows 0..n - 2, and what stands elsewhere reaches no pixel that is written.  Tiles of
 * m = 4 that are short, at most 2 output rows, have rows 0, 1, 2 and, for 2 of them, 5 only; the
 * same for columns.  Kernels are those of any other tile. */
struct simd_tile {
    const float *const *x;
    float *v;
    ptrdiff_t v_position;
    int32_t channels;
    /* input only */
    int32_t first;
    ptrdiff_t ahead; /* from a pixel to that of the next tile, which is asked for meanwhile */
    /* output only */
    float *out;
    ptrdiff_t out_row, out_pixel;
    const float *add; /* NULL: none */
    ptrdiff_t add_row, add_pixel;
    const float *bias;
    int32_t rows, cols;
    struct simd_act act;
};
typedef void simd_tile_fn(const struct simd_tile *t);

/* Winograd's transform of 3x3 kernels: tap t of input channel d and output channel k, at
 * g[(d * 9 + t) * width + k], becomes position p at u[p * u_position + d * u_step + k], for one
 * vector of output channels. */
typedef void simd_kernel_fn(const float *g, int32_t depth, float *u, ptrdiff_t u_step,
                            ptrdiff_t u_position);

/* out[i] = act(a[i] + b[i]) and act(a[i]), i < n.  out may be a or b. */
typedef void simd_add_fn(const float *a, const float *b, float *out, ptrdiff_t n,
                         const struct simd_act *act);
typedef void simd_activate_fn(const float *a, float *out, ptrdiff_t n, const struct simd_act *act);

/* What else an activation may be; SIMD_HARD_SIGMOID: clamp(a x + b, 0, 1). */
enum simd_function {
    SIMD_SIGMOID,
    SIMD_SILU,
    SIMD_TANH,
    SIMD_ERF,
    SIMD_GELU,
    SIMD_MISH,
    SIMD_HARD_SIGMOID,
    SIMD_HARD_SWISH,
    SIMD_FUNCTIONS
};
/* x[i] = function(x[i]), i < n. */
typedef void simd_apply_fn(enum simd_function function, float *x, ptrdiff_t n, float a, float b);

/* One pixel: out[k] = act(x[k] * scale[k] + bias[k]). */
typedef void simd_affine_fn(const float *x, const float *scale, const float *bias, float *out,
                            int32_t channels, const struct simd_act *act);

/* sum[k] += x[k] of `pixels` pixels, one after the other, each `pixel` floats behind the last. */
typedef void simd_sum_fn(const float *x, ptrdiff_t pixel, int32_t pixels, double *sum,
                         int32_t channels);

struct simd {
    const char *name;
    int32_t width;   /* floats of a vector */
    bool fused;      /* multiply-adds round once */
    int32_t vectors; /* of the best panel where there are channels enough */
    /* block[v][p]: v vectors, p pixels; NULL beyond pixels[v]. */
    int32_t pixels[SIMD_MAX_VECTORS + 1];
    simd_block_fn *block[SIMD_MAX_VECTORS + 1][SIMD_MAX_PIXELS + 1];
    simd_depthwise_fn *depthwise[3][3]; /* [stride 1..2][rows 1..2] */
    simd_taps_fn *taps;
    simd_max_fn *max;
    simd_average_fn *average;
    simd_blend_fn *blend;
    simd_tile_fn *winograd_in[5][2][2], *winograd_out[5][2][2]; /* [m][short rows][short columns] */
    simd_kernel_fn *winograd_kernel[5];
    simd_add_fn *add;
    simd_activate_fn *activate;
    simd_apply_fn *apply;
    simd_affine_fn *affine;
    simd_sum_fn *sum;
};

/* The tables that this program holds and this machine can run, best first; ends with NULL.
 * The last one is always the portable one. */
const struct simd *const *simd_usable(void);

/* The best of them, or the one that the environment variable SPLITD_SIMD names. */
const struct simd *simd_best(void);

extern const struct simd simd_avx512, simd_avx2, simd_neon, simd_portable;

#endif
