/* libsplit/graph.h - a network ready to be planned and run: tensors, operators, weights.
 *
 * Made from an ONNX model for fixed input shapes; does not change afterwards.  Tensors are
 * NHWC f32.  Every operator yields one tensor; operators stand in an order in which they
 * can run.  Operator i and tensor i here are operator i and tensor i of the geometry. */
#ifndef LIBSPLIT_GRAPH_H
#define LIBSPLIT_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "libsplit/diag.h"
#include "libsplit/onnx.h"
#include "libsplit/shape.h"
#include "tiling/geometry.h"
#include "tiling/program.h"

enum op_type {
    /* Also Gemm and MatMul with a constant: a 1x1 or whole-map kernel.  A second input, of the
     * output's shape, is added before the activation. */
    OP_CONV,
    OP_CONV_TRANSPOSE,
    OP_MAX_POOL,
    OP_AVERAGE_POOL,
    OP_AFFINE,     /* x * scale[c] + bias[c]: BatchNormalization that could not be folded */
    OP_ACTIVATION, /* op.act alone */
    OP_BINARY,     /* two tensors, with broadcasting; either side may be constant */
    OP_CONCAT,
    OP_SLICE,
    OP_PAD,
    OP_DEPTH_TO_SPACE,
    OP_SOFTMAX,
    OP_PARTIAL, /* a node's share of a reduction over rows and columns */
    OP_COMBINE, /* the shares of all nodes, in node order */
    OP_RESHAPE, /* Reshape, Transpose, Gather, Expand, Tile: values by ONNX coordinates */
    OP_RESIZE,
    OP_CONSTANT, /* known at load; has no inputs */
    OP_REDUCE,   /* over any axes, each of which is read whole */
    OP_MATMUL,   /* rows x channels of the first input times those of the second */
    OP_WHERE,    /* input 0 is not 0 ? input 1 : input 2, with broadcasting */
    OP_LRN,      /* local response normalization across channels */
    OP_SPACE_TO_DEPTH,
    OP_TOP_K,  /* values or indices */
    OP_GATHER, /* values at places that the network computes */
    OP_NMS,    /* which boxes non-maximum suppression leaves */
    OP_MAX_UNPOOL,
    OP_GRID_SAMPLE, /* pixels between those of a map, at places that the network computes */
    OP_ROI_ALIGN,   /* means over the cells of boxes that the network computes */
    OP_TYPES
};
/* "Conv", "MaxPool"...: for messages and dumps. */
const char *op_type_name(enum op_type t);

enum act_kind {
    ACT_NONE,
    ACT_RELU,
    ACT_CLIP,
    ACT_LEAKY_RELU,
    ACT_PRELU,
    ACT_SIGMOID,
    ACT_HARD_SIGMOID,
    ACT_HARD_SWISH,
    ACT_TANH,
    ACT_SILU,
    /* Computed through act_function() (libsplit/functions.h), which says what they are. */
    ACT_ABS,
    ACT_NEG,
    ACT_SIGN,
    ACT_FLOOR,
    ACT_CEIL,
    ACT_ROUND,
    ACT_RECIPROCAL,
    ACT_SQRT,
    ACT_EXP,
    ACT_LOG,
    ACT_ERF,
    ACT_NOT,
    ACT_NOT_ZERO,
    ACT_TRUNCATE,
    ACT_ELU,
    ACT_CELU,
    ACT_SELU,
    ACT_SOFTPLUS,
    ACT_SOFTSIGN,
    ACT_MISH,
    ACT_GELU,
    ACT_GELU_TANH,
    ACT_THRESHOLDED_RELU,
    ACT_SHRINK,
    ACT_SIN,
    ACT_COS,
    ACT_TAN,
    ACT_ASIN,
    ACT_ACOS,
    ACT_ATAN,
    ACT_SINH,
    ACT_COSH,
    ACT_ASINH,
    ACT_ACOSH,
    ACT_ATANH,
    ACT_KINDS
};

/* An activation.  RELU: max(x, 0).  CLIP: min(max(x, a), b).  LEAKY_RELU: x < 0 ? a*x : x.
 * PRELU: the same with slope[c], one per channel.  HARD_SIGMOID: clamp(a*x + b, 0, 1).
 * HARD_SWISH: x * clamp(x/6 + 1/2, 0, 1).  SILU: x * sigmoid(x). */
struct act {
    enum act_kind kind;
    float a, b;
    const float *slope; /* owned by the graph */
};

/* Where the weight of (output channel, input channel of its group, kernel row, kernel
 * column) lies in a constant: element co*stride[0] + ci*stride[1] + y*stride[2] + x*stride[3].
 * OP_CONV counts co over all groups and ci within its group; OP_CONV_TRANSPOSE, whose ONNX
 * weights are (Cin, Cout / group, y, x), counts co within its group and ci over all groups. */
struct weight_ref {
    const struct onnx_tensor *t; /* borrowed from the model, or owned by the graph */
    int64_t stride[4];
};

struct window {
    int32_t kernel[2], stride[2], dilation[2]; /* [ROW], [COL] */
    int32_t pad[2], pad_end[2];                /* zeros before the first and after the last pixel */
};

/* From BINARY_POW on computed through binary_function() (libsplit/functions.h). */
enum binary_kind {
    BINARY_ADD,
    BINARY_SUB,
    BINARY_MUL,
    BINARY_DIV,
    BINARY_POW,
    BINARY_MIN,
    BINARY_MAX,
    BINARY_PRELU,
    BINARY_EQUAL,
    BINARY_GREATER,
    BINARY_GREATER_OR_EQUAL,
    BINARY_LESS,
    BINARY_LESS_OR_EQUAL,
    BINARY_AND,
    BINARY_OR,
    BINARY_XOR,
    BINARY_MOD,
    BINARY_FMOD,
    BINARY_KINDS
};
enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE };
/* OP_PARTIAL and OP_COMBINE know the first three, OP_REDUCE all. */
enum reduce_kind {
    REDUCE_SUM,
    REDUCE_MEAN,
    REDUCE_MAX,
    REDUCE_MIN,
    REDUCE_PROD,
    REDUCE_ARG_MAX,
    REDUCE_ARG_MIN
};
enum resize_mode { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC };
enum resize_coordinates {
    RESIZE_HALF_PIXEL,
    RESIZE_PYTORCH_HALF_PIXEL,
    RESIZE_ALIGN_CORNERS,
    RESIZE_ASYMMETRIC,
    RESIZE_TF_HALF_PIXEL,
    RESIZE_CROP /* tf_crop_and_resize: a part of the map */
};
enum resize_nearest {
    RESIZE_ROUND_PREFER_FLOOR,
    RESIZE_ROUND_PREFER_CEIL,
    RESIZE_FLOOR,
    RESIZE_CEIL
};

/* What lies beyond the map of an OP_GRID_SAMPLE. */
enum sample_beyond { SAMPLE_ZEROS, SAMPLE_BORDER, SAMPLE_REFLECTION };

enum { OP_MAX_INPUTS = GEO_MAX_INPUTS };

struct op {
    enum op_type type;
    const char *name; /* of the ONNX node, owned by the graph */
    int32_t ninputs;
    int32_t *input; /* tensors; owned by the graph */
    int32_t output; /* tensor */
    struct act act; /* applied to every output value */
    union {
        struct {
            struct window win;
            int32_t group;
            struct weight_ref weight;
            float *scale; /* (cout), multiplies the weights when they are packed; NULL: 1 */
            float *bias;  /* (cout); NULL: 0 */
            uint8_t way;  /* OP_CONV: enum conv_way (libsplit/conv.h), how it is computed */
            bool keep;    /* OP_CONV: and whether it may keep more than its plain weights */
        } conv;           /* OP_CONV, OP_CONV_TRANSPOSE */
        struct {
            struct window win;
            bool count_include_pad; /* OP_AVERAGE_POOL */
            /* OP_MAX_POOL yields values, or their places in ONNX's order of the whole input (as if
             * rows ran fastest, where `rows_first`). */
            bool places, rows_first;
        } pool;
        struct {
            float *scale, *bias; /* (channels) */
        } affine;
        struct {
            enum binary_kind kind;
            /* The constant side, NULL if both are tensors.  Element of (image, row, column,
             * channel) at image*stride[3] + row*stride[ROW] + col*stride[COL] + c*stride[CHAN]. */
            float *constant;
            int64_t stride[AXES + 1];
            bool constant_first; /* constant - x, constant / x */
        } binary;
        struct {
            enum axis axis;
        } concat; /* along rows, columns or channels */
        struct {
            int32_t start[AXES], step[AXES]; /* output i reads start + i*step; step may be < 0 */
        } slice;
        struct {
            enum pad_mode mode;
            float value;
            int32_t before[AXES]; /* may be negative: crops */
        } pad;
        struct {
            int32_t block;
            bool crd; /* ONNX mode CRD; else DCR */
        } depth_to_space;
        struct {
            bool over[AXES]; /* axes that one softmax runs over */
            bool log;
        } softmax;
        struct {
            enum reduce_kind kind;
            int64_t count;   /* values behind one result */
            bool over[AXES]; /* OP_REDUCE; the index of ARG_MAX and ARG_MIN counts along one */
            bool last;       /* ARG_MAX, ARG_MIN: of equal values take the last, else the first */
        } reduce;            /* OP_PARTIAL, OP_COMBINE, OP_REDUCE */
        struct {
            /* Output value at ONNX coordinates o of `to` is input value at row-major index
             * of o permuted by `perm` within `from`: a Transpose (perm) then a Reshape.  Where
             * pick[i] is not NULL, coordinate o[i] stands for pick[i][o[i]] of an axis of
             * picked[i] values: then a Gather with constant indices. */
            struct shape from, to;
            int8_t perm[SHAPE_MAX_RANK];
            int32_t *pick[SHAPE_MAX_RANK], picked[SHAPE_MAX_RANK];
        } reshape;
        struct {
            float *values; /* NHWC, all images */
        } constant;
        struct {
            int32_t size; /* channels in the window around each */
            float alpha, beta, bias;
        } lrn;
        struct {
            int32_t block;
        } space_to_depth;
        struct {
            enum axis axis;
            bool smallest; /* first, else the largest first; of equal values the lower index */
            bool indices;  /* yields places, else values */
        } top_k;
        struct {
            /* Output (r, j, k) is input 0 at (r, place, k).  An index of `n` numbers stands for
             * place sum(number[i] * step[i]), each in -len[i]..len[i]-1 and below 0 counted from
             * the end; an index that is none yields NaN.  Input 1 holds the index of (r, j) in
             * its channels, of (0, j) where it has one row; or, `each`, one number for every
             * value of the output. */
            bool each;
            int32_t n, len[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK];
        } gather;
        struct {
            /* Inputs: boxes (images, boxes, 4 channels) and scores (images, classes, boxes). Yields
             * one row of columns of 3 channels: image, class and box of each that is left, image
             * by image, class by class, best first; after them NaN. */
            bool centre;       /* a box is x, y, width, height, else y, x and y, x of two corners */
            int32_t per_class; /* most boxes of a class of an image */
            float iou, score;  /* a larger overlap drops a box; its score must be larger */
        } nms;
        struct {
            enum resize_mode mode;
            enum resize_coordinates coordinates;
            enum resize_nearest nearest;
            float scale[2]; /* output / input, rows and columns */
            float cubic_a;
            bool exclude_outside; /* cubic: pixels beyond the map weigh nothing, else as its edge */
            float crop[2][2];     /* RESIZE_CROP: where the part starts and ends, 0 to 1 */
            float outside;        /* RESIZE_CROP: the value beyond the map */
        } resize;
        struct {
            /* Input 1 holds the place of each value of input 0 in ONNX's order of the whole map,
             * had it these rows and columns; where no value goes the output is 0. */
            int32_t plane[2];
        } max_unpool;
        struct {
            /* Input 1 holds column and row of each output pixel, -1 to 1 over the map: from the
             * centres of its outer pixels or, unless `corners`, from their outer edges. */
            enum resize_mode mode;
            enum sample_beyond beyond;
            bool corners;
        } grid_sample;
        struct {
            /* Image i of the output is box i: column, row, column and row of two corners, in the
             * channels of input 1, times `scale`.  A cell is the mean of points of the map,
             * `points` a side or, if that is 0, about one for every pixel. */
            float scale, shift; /* shift: the centre of pixel 0 */
            int32_t points;
        } roi_align;
    } u;
    void *packed; /* what the kernel prepared; owned by the graph, see graph_pack() */
    struct span packed_channels; /* the output channels that it serves */
};

struct tensor {
    const char *name; /* ONNX name, owned by the graph */
    int32_t
        dim[AXES]; /* rows, columns, channels; rows of an OP_PARTIAL output: one per node, 0 here */
    int32_t batch;
    int32_t op; /* producer, GEO_NO_OP for an input */
    bool whole; /* ONNX calls its numbers integers or bools */
};

/* A named end of the network. */
struct port {
    const char *name; /* ONNX name */
    int32_t tensor;
    struct shape shape; /* as ONNX sees it */
    bool found;         /* of an output: the first extent is room for what is found, see below */
};

/* The shape of an answer, given its values in ONNX's order.  How many boxes NonMaxSuppression finds
 * differs from frame to frame: its output, and what follows row by row, has rows for the most that
 * there can be, and those that were not found come last and hold NaN only. */
struct shape port_shape(const struct port *p, const float *values);

struct graph {
    const struct onnx_model *model; /* borrowed: weights point into it */
    int32_t ntensors, nops, ninputs, noutputs;
    struct tensor *tensor;
    struct op *op;
    struct port *input, *output;
    void *store; /* private: everything owned by the graph */
};

/* Extents to use for an input whose shape the model leaves open.  A symbolic batch needs
 * none: it is 1. */
struct graph_input {
    const char *name; /* NULL: the only input */
    int32_t rank;
    int32_t dim[SHAPE_MAX_RANK];
};

/* Imports, infers shapes, runs all passes (libsplit/passes.h).  Returns 0 or -EINVAL (a
 * missing input, impossible shape, symbolic extent that nothing fixes), -ENOTSUP (an
 * operator or attribute outside the list; the sentence names node, operator, file),
 * -ENOMEM.  On success graph_done() frees; `m` must outlive the graph. */
int graph_build(struct graph *g, const struct onnx_model *m, const struct graph_input *inputs,
                int32_t ninputs, struct diag *why);
void graph_done(struct graph *g);

/* True if there is an importer for the node's operator.  It may still refuse this one's attributes,
 * types or shapes. */
bool graph_knows(const struct onnx_node *n);

/* The geometry of `g` on `nodes` nodes; geometry_done() frees. Returns 0 or -ENOMEM. */
int graph_geometry(const struct graph *g, int32_t nodes, struct geometry *geo);

/* Fills `exact`, [g->ntensors]: true of tensors whose values are worth nothing unless they are
 * exact: integers, bools, places, and what is computed from places. */
void graph_exact(const struct graph *g, bool *exact);
/* Fills plan_options.may_miss with the others. */
void graph_may_miss(const struct graph *g, bool *may_miss);

/* Lets the kernels lay out the weights of every operator that `pr` runs (NULL: all), for the
 * output channels that it computes.  May be called again with another program; what is packed
 * stays, or is packed anew to serve both.  Not thread-safe; must be done before graph and program
 * reach an executor.  Returns 0 or -ENOMEM. */
int graph_pack(struct graph *g, const struct program *pr, struct diag *why);
/* The same for `count` programs at once, which packs nothing twice. */
int graph_pack_all(struct graph *g, const struct program *pr, int32_t count, struct diag *why);

/* Names for program_dump(). */
struct program_names graph_names(const struct graph *g);

#endif
