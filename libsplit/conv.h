/* libsplit/conv.h - the ways to compute a convolution, and which one when.
 *
 * libsplit/conv.c chooses; each other libsplit/conv_*.c is one way.  A choice depends on the
 * whole layer and on the kind of machine, never on the part of the map that a node computes:
 * all nodes of one kind compute alike. */
#ifndef LIBSPLIT_CONV_H
#define LIBSPLIT_CONV_H

#include "libsplit/kernel.h"
#include "libsplit/simd.h"

/* How a convolution is computed, where there is a choice. */
enum conv_way {
    CONV_BY_COST,
    CONV_DIRECT,
    CONV_WINOGRAD12,
    CONV_WINOGRAD2,
    CONV_WINOGRAD24,
    CONV_WINOGRAD4,
    CONV_WAYS
};

/* A convolution as its kernels see it. */
struct conv {
    const struct graph *graph;
    const struct op *op;
    struct window win;
    int32_t group, cin, cout; /* channels of one group */
    int32_t in[2], out[2];    /* rows and columns of the whole maps */
    /* The weights at hand: those behind channels `outs` of each of `groups`. */
    struct span groups, outs;
    enum conv_way way;
    /* Winograd: transformed kernels are kept, 4 or 16 / 9 times the plain ones; else they are made
     * anew from those in every frame.  Equal bits, so every node decides for itself. */
    bool keep;
};

/* `op` with all its weights at hand. */
struct conv conv_of(const struct graph *g, const struct op *op);

/* Keeps of the weights of `c` those behind output channels `channels`: where there are several
 * groups, whole ones. */
void conv_hold(struct conv *c, struct span channels);

static inline int32_t span_len(struct span s) { return s.hi - s.lo; }

/* Values behind one output value. */
static inline int64_t conv_depth(const struct conv *c)
{
    return (int64_t)c->win.kernel[ROW] * c->win.kernel[COL] * c->cin;
}

/* Does any window of output region `r` hang over the map? */
bool conv_is_padded(const struct conv *c, const struct box *r);

/* One way to compute convolutions.  Members as in struct kernel; `simd` is the instruction
 * set to use, and `packed` what prepare() yielded for it and for the same weights at hand. */
struct conv_method {
    const char *name;
    int32_t cut_rows; /* regions may begin and end at multiples of so many rows: equal bits */
    /* Can this way compute `c` at all? */
    bool (*fits)(const struct conv *c);
    size_t (*packed_bytes)(const struct conv *c, const struct simd *simd);
    size_t (*scratch_bytes)(const struct conv *c, const struct simd *simd);
    int (*prepare)(const struct conv *c, const struct simd *simd, void **packed);
    void (*release)(void *packed);
    void (*run)(const struct conv *c, const struct simd *simd, const void *packed,
                const struct kernel_call *call);
    int32_t (*pieces)(const struct box *region); /* NULL: none, but rows */
    int32_t (*cut_channel)(const struct conv *c, const struct simd *simd, int32_t at);
};

extern const struct conv_method conv_direct;     /* micro-kernels on the map itself */
extern const struct conv_method conv_winograd12; /* F(1x2, 3x3): 1.5 times fewer products */
extern const struct conv_method conv_winograd2;  /* F(2x2, 3x3): 2.25 times fewer products */
extern const struct conv_method conv_winograd24; /* F(2x4, 3x3): 3 times fewer */
extern const struct conv_method conv_winograd4;  /* F(4x4, 3x3): 4 times fewer */
extern const struct conv_method conv_depthwise;  /* a kernel per channel */
extern const struct conv_method conv_gemm;       /* im2col and OpenBLAS */

/* Tiles of F(rows x cols, 3x3) for which Winograd's algorithm reads, or transforms, its kernels
 * once. */
int32_t conv_winograd_tiles(const struct conv *c, const struct simd *simd, int32_t rows,
                            int32_t cols);

/* The way to compute `c` on this kind of machine: c->way, or the one that costs least by arithmetic
 * and weights to read.  Where the environment says SPLITD_EXACT=1, only ways whose results are bit
 * for bit the same however a map is cut: Winograd's are only where cuts fall on its tiles. */
const struct conv_method *conv_choose(const struct conv *c, const struct simd *simd);

/* Is there a choice for `c` here?  Then conv_cost() says what way `way` is expected to cost. */
bool conv_is_free(const struct conv *c, const struct simd *simd);
double conv_cost(const struct conv *c, const struct simd *simd, enum conv_way way);

/* What computing `op`, an OP_CONV, takes, for plans: the way it is computed and those that low
 * bands are computed in where they take less (graph_ways_of_plan()).  Returns how many, 0 where
 * there is no choice. */
int32_t conv_geo_ways(const struct graph *g, const struct op *op, struct geo_way way[GEO_MAX_WAYS]);

/* Bytes that transformed kernels of one network may take on this machine beyond the plain ones. */
int64_t conv_budget(void);

/* Sets the way of every convolution of `g` to that in ways[operator], or by what it costs where
 * that is CONV_BY_COST or `ways` NULL; and which keep transformed kernels: those that gain most for
 * each byte, as long as all together take at most `budget` bytes more.  Ways are those of a large
 * budget whatever `budget` is: the same for equal networks on machines of one kind, little memory
 * or much.  Before graph_geometry() and graph_pack().  Returns 0 or -ENOMEM. */
int conv_choose_all(struct graph *g, const uint8_t *ways, int64_t budget);

/* Has none of them kept: slower, in less memory, the same bits.  Before graph_pack().  Returns
 * whether there was one. */
bool conv_keep_none(struct graph *g);

/* ---- What the ways share ---- */

/* The part of an activation that a micro-kernel applies; `*rest` is what act_apply() must
 * still do, ACT_NONE if nothing. */
struct simd_act conv_activation(const struct act *act, struct act *rest);

/* Applies that rest to the region that `call` wrote. */
void conv_finish(const struct kernel_call *call, const struct act *rest);

/* The weights of one group (those at hand) as a matrix (depth, cout), cut into panels of a few
 * vectors of output channels.  A panel is (depth, vectors * width), zeros where channels end. */
struct conv_panels {
    int32_t width; /* floats of a vector */
    int32_t depth;
    int32_t vectors; /* ceil(cout / width) */
    int32_t panels;  /* of about equal width */
};

struct conv_panels conv_panels(int32_t cout, int64_t depth, const struct simd *simd);

/* First vector of panel `p`, 0 <= p <= panels. */
static inline int32_t conv_panel_at(const struct conv_panels *l, int32_t p)
{
    return (int32_t)((int64_t)l->vectors * p / l->panels);
}

/* Floats of all panels. */
static inline int64_t conv_panels_size(const struct conv_panels *l)
{
    return (int64_t)l->depth * l->vectors * l->width;
}

/* Where channels may be cut so that no panel is computed twice: see struct kernel. */
int32_t conv_cut_panels(const struct conv *c, const struct simd *simd, int32_t at);

/* Weights pass by once, faster than hardware fetches them from memory: a block asks for those of
 * so many steps later, which is longer than memory takes. */
enum { CONV_STEPS_AHEAD = 48 };

/* A run of pixels to multiply: pixel i is `block.in_pixel` after pixel i - 1, and so on. */
struct conv_run {
    const struct simd *simd;
    struct simd_block block; /* act included; `last` is set from the panel */
    const float *in;         /* pixel 0 */
    float *out;              /* pixel 0, output channel `lo` */
    const float *add;        /* the same; NULL: none */
    int32_t lo, hi;          /* output channels of the group to write */
    int32_t cout;            /* output channels of the group */
};

/* Multiplies pixels [first, first + n) with panel `p`: n is at most
 * simd->pixels[vectors of the panel].  bias: of channel 0 of the group, or NULL. */
void conv_block(const struct conv_run *run, const struct conv_panels *l, int32_t p,
                const float *weights, const float *bias, int32_t first, int32_t n);

/* Cuts `n` pixels into blocks of at most `most`, of about equal size: the first of block
 * `i` of `count`. */
static inline int32_t conv_block_at(int32_t n, int32_t count, int32_t i)
{
    return (int32_t)((int64_t)n * i / count);
}

#endif
