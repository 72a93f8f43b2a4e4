#include "libsplit/graph.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model_check.h"

/* Ends the model with output "y" and expects shape `text`, `ops` operators. */
static void check_shape(struct model_writer *m, const char *text, int32_t ops)
{
    struct onnx_model o;
    struct graph g;
    struct geometry geo;
    struct diag why = { "" };
    char got[SHAPE_TEXT_BYTES];
    model_output(m, "y");
    cr_assert_eq(model_build(m, &o, &g, &why), 0, "%s", why.text);
    cr_assert_str_eq(shape_text(&g.output[0].shape, got), text);
    cr_assert_eq(g.nops, ops, "%d operators for %s", g.nops, text);
    for (int32_t nodes = 1; nodes <= 16; nodes++) {
        cr_assert_eq(graph_geometry(&g, nodes, &geo), 0);
        cr_assert_eq(geometry_check(&geo), 0);
        geometry_done(&geo);
    }
    graph_done(&g);
    onnx_close(&o);
    model_free(m);
}

/* ---- convolutions and pools */

struct conv_case {
    int64_t in, kernel, stride, dilation, pad, pad_end;
    const char *auto_pad;
    int64_t out; /* 0: refused */
};

Test(import, extents_of_convolutions)
{
    static const struct conv_case cases[] = {
        { 224, 3, 1, 1, 1, 1, NULL, 224 },     { 224, 3, 2, 1, 0, 1, NULL, 112 },
        { 7, 3, 2, 1, 0, 0, NULL, 3 },         { 9, 3, 1, 4, 0, 0, NULL, 1 },
        { 9, 3, 1, 5, 0, 0, NULL, 0 },         { 7, 3, 2, 1, 0, 0, "SAME_UPPER", 4 },
        { 8, 3, 2, 1, 0, 0, "SAME_LOWER", 4 }, { 8, 3, 2, 1, 0, 0, "VALID", 3 },
        { 5, 5, 1, 1, 0, 0, "VALID", 1 },      { 4, 5, 1, 1, 0, 0, "VALID", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct conv_case *c = &cases[i];
        char text[64];
        struct model_writer m = check_begin(13, 4, DIMS(1, 2, c->in, 40));
        model_weights(&m, "w", 4, DIMS(6, 2, c->kernel, 1));
        model_node(&m, "Conv", "x w", "y");
        attr_ints(&m, "strides", 2, DIMS(c->stride, 1));
        attr_ints(&m, "dilations", 2, DIMS(c->dilation, 1));
        if (c->auto_pad)
            attr_text(&m, "auto_pad", c->auto_pad);
        else
            attr_ints(&m, "pads", 4, DIMS(c->pad, 0, c->pad_end, 0));
        snprintf(text, sizeof text, "1x6x%dx40", (int)c->out);
        if (c->out)
            check_shape(&m, text, 1);
        else
            check_refused(&m, -EINVAL, "more than the padded input");
    }
}

static void pool_window(struct model_writer *m, int64_t kernel, int64_t stride, int64_t pad)
{
    model_node(m, "MaxPool", "x", "y");
    attr_ints(m, "kernel_shape", 2, DIMS(kernel, kernel));
    attr_ints(m, "strides", 2, DIMS(stride, stride));
    attr_ints(m, "pads", 4, DIMS(pad, pad, pad, pad));
}

Test(import, pools_that_round_up)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 3, 113, 113));
    pool_window(&m, 3, 2, 0);
    attr_int(&m, "ceil_mode", 1);
    check_shape(&m, "1x3x56x56", 1);
    m = check_begin(13, 4, DIMS(1, 3, 112, 112));
    pool_window(&m, 3, 2, 0);
    attr_int(&m, "ceil_mode", 1);
    check_shape(&m, "1x3x56x56", 1);
    /* The third window would start in the padding after the input. */
    m = check_begin(13, 4, DIMS(1, 3, 3, 3));
    pool_window(&m, 2, 2, 1);
    attr_int(&m, "ceil_mode", 1);
    check_shape(&m, "1x3x2x2", 1);
    m = check_begin(13, 4, DIMS(1, 3, 8, 8));
    pool_window(&m, 2, 2, 2);
    check_refused(&m, -EINVAL, "padding of 2 and 2 for a kernel that spans 2");
}

Test(import, transposed_convolutions)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 4, 5, 5));
    model_weights(&m, "w", 4, DIMS(4, 3, 4, 4));
    model_node(&m, "ConvTranspose", "x w", "y");
    attr_ints(&m, "strides", 2, DIMS(2, 2));
    attr_ints(&m, "pads", 4, DIMS(1, 1, 1, 1));
    check_shape(&m, "1x3x10x10", 1);
    m = check_begin(13, 4, DIMS(1, 4, 5, 5));
    model_weights(&m, "w", 4, DIMS(4, 3, 3, 3));
    model_node(&m, "ConvTranspose", "x w", "y");
    attr_int(&m, "group", 2);
    attr_ints(&m, "strides", 2, DIMS(2, 2));
    attr_ints(&m, "output_padding", 2, DIMS(1, 0));
    check_shape(&m, "1x6x12x11", 1);
    m = check_begin(13, 3, DIMS(1, 4, 5));
    model_weights(&m, "w", 3, DIMS(4, 3, 3));
    model_node(&m, "ConvTranspose", "x w", "y");
    attr_ints(&m, "strides", 1, DIMS(2));
    attr_text(&m, "auto_pad", "SAME_UPPER");
    check_shape(&m, "1x3x10", 1);
}

/* ---- names that are no operators */

Test(import, relabelling_emits_nothing)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 8, 1, 1));
    model_ints(&m, "axes", 2, DIMS(2, 3));
    model_ints(&m, "shape", 3, DIMS(0, 2, -1));
    model_node(&m, "Relu", "x", "a");
    model_node(&m, "Identity", "a", "b");
    model_node(&m, "Flatten", "b", "c");
    model_node(&m, "Unsqueeze", "c axes", "d");
    model_node(&m, "Squeeze", "d axes", "e");
    model_node(&m, "Dropout", "e", "y");
    check_shape(&m, "1x8", 1);
    m = check_begin(13, 4, DIMS(1, 6, 5, 4));
    model_node(&m, "Relu", "x", "a");
    model_node(&m, "Transpose", "a", "y");
    attr_ints(&m, "perm", 4, DIMS(0, 2, 3, 1));
    check_shape(&m, "1x5x4x6", 1);
    /* There and back again. */
    m = check_begin(13, 4, DIMS(1, 6, 5, 4));
    model_node(&m, "Transpose", "x", "a");
    attr_ints(&m, "perm", 4, DIMS(0, 2, 3, 1));
    model_node(&m, "Relu", "a", "b");
    model_node(&m, "Transpose", "b", "c");
    attr_ints(&m, "perm", 4, DIMS(0, 3, 1, 2));
    model_node(&m, "GlobalAveragePool", "c", "y");
    check_shape(&m, "1x6x1x1", 3);
    /* TensorFlow's input is read as it lies. */
    m = check_begin(13, 4, DIMS(1, 5, 4, 3));
    model_weights(&m, "w", 4, DIMS(2, 3, 1, 1));
    model_node(&m, "Transpose", "x", "a");
    attr_ints(&m, "perm", 4, DIMS(0, 3, 1, 2));
    model_node(&m, "Conv", "a w", "y");
    check_shape(&m, "1x2x5x4", 1);
}

Test(import, moves_where_values_must_move)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 4));
    model_node(&m, "Flatten", "x", "y");
    check_shape(&m, "1x120", 1);
    m = check_begin(13, 4, DIMS(1, 6, 5, 4));
    model_ints(&m, "five", 5, DIMS(1, 2, 3, 5, 4));
    model_ints(&m, "four", 4, DIMS(1, 6, 5, 4));
    model_node(&m, "Reshape", "x five", "a");
    model_node(&m, "Transpose", "a", "b");
    attr_ints(&m, "perm", 5, DIMS(0, 2, 1, 3, 4));
    model_node(&m, "Reshape", "b four", "y");
    check_shape(&m, "1x6x5x4", 1); /* a channel shuffle */
}

Test(import, shapes_computed_by_the_network)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 4));
    model_ints(&m, "first", 1, DIMS(0));
    model_ints(&m, "one", 1, DIMS(1));
    model_ints(&m, "rest", 1, DIMS(-1));
    model_ints(&m, "two", 1, DIMS(2));
    model_node(&m, "Shape", "x", "s");
    model_node(&m, "Gather", "s first", "n");
    model_node(&m, "Slice", "s one two", "c");
    model_node(&m, "Mul", "c two", "d");
    model_node(&m, "Concat", "n d rest", "t");
    attr_int(&m, "axis", 0);
    model_node(&m, "Reshape", "x t", "y");
    check_shape(&m, "1x12x10", 1);
}

/* ---- everything else that has a shape */

Test(import, slices)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "starts", 2, DIMS(-1, 1));
    model_ints(&m, "ends", 2, DIMS(INT64_MIN, INT64_MAX));
    model_ints(&m, "axes", 2, DIMS(3, 1));
    model_ints(&m, "steps", 2, DIMS(-7, 2));
    model_node(&m, "Slice", "x starts ends axes steps", "y");
    check_shape(&m, "1x3x5x2", 1);
    m = check_begin(9, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Slice", "x", "y");
    attr_ints(&m, "starts", 1, DIMS(2));
    attr_ints(&m, "ends", 1, DIMS(-1));
    attr_ints(&m, "axes", 1, DIMS(2));
    check_shape(&m, "1x6x2x8", 1);
    m = check_begin(9, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Slice", "x", "y");
    attr_ints(&m, "starts", 1, DIMS(4));
    attr_ints(&m, "ends", 1, DIMS(4));
    attr_ints(&m, "axes", 1, DIMS(2));
    check_refused(&m, -EINVAL, "nothing is left on axis 2");
}

Test(import, splits_and_concatenations)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "parts", 2, DIMS(2, 4));
    model_node(&m, "Split", "x parts", "a b");
    attr_int(&m, "axis", 1);
    model_node(&m, "Concat", "b a b", "y");
    attr_int(&m, "axis", 1);
    check_shape(&m, "1x10x5x8", 3);
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "parts", 2, DIMS(2, 3));
    model_node(&m, "Split", "x parts", "y b");
    attr_int(&m, "axis", 1);
    check_refused(&m, -EINVAL, "the parts have 5 values, axis 1 has 6");
}

/* A geometry allows 64 inputs of an operator. */
Test(import, concatenation_of_many)
{
    char names[400] = "x";
    struct model_writer m = check_begin(13, 4, DIMS(1, 2, 3, 3));
    for (int i = 1; i < 150; i++)
        strcat(names, " x");
    model_node(&m, "Concat", names, "y");
    attr_int(&m, "axis", 1);
    check_shape(&m, "1x300x3x3", 3);
}

Test(import, broadcasting)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_weights(&m, "c", 3, DIMS(6, 1, 8));
    model_node(&m, "Add", "c x", "y");
    check_shape(&m, "1x6x5x8", 1);
    m = check_begin(13, 2, DIMS(1, 1));
    model_weights(&m, "c", 2, DIMS(1, 7));
    model_node(&m, "Mul", "x c", "y");
    check_shape(&m, "1x7", 1);
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_weights(&m, "c", 1, DIMS(7));
    model_node(&m, "Add", "x c", "y");
    check_refused(&m, -EINVAL, "shapes 1x6x5x8 and 1x1x1x7 do not fit");
}

Test(import, softmax_before_and_since_opset_13)
{
    for (int64_t opset = 11; opset <= 13; opset += 2) {
        struct model_writer m = check_begin(opset, 4, DIMS(1, 6, 5, 8));
        struct onnx_model o;
        struct graph g;
        struct diag why;
        model_node(&m, "Softmax", "x", "y");
        attr_int(&m, "axis", 1);
        model_output(&m, "y");
        cr_assert_eq(model_build(&m, &o, &g, &why), 0, "%s", why.text);
        const bool *over = g.op[0].u.softmax.over;
        cr_assert(over[CHAN]);
        cr_assert_eq(over[ROW], opset < 13);
        cr_assert_eq(over[COL], opset < 13);
        graph_done(&g);
        onnx_close(&o);
        model_free(&m);
    }
}

Test(import, reductions)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "ReduceMean", "x", "y");
    attr_ints(&m, "axes", 2, DIMS(2, 3));
    attr_int(&m, "keepdims", 0);
    check_shape(&m, "1x6", 2);
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "GlobalMaxPool", "x", "y");
    check_shape(&m, "1x6x1x1", 2);
    m = check_begin(13, 4, DIMS(2, 6, 5, 8));
    model_node(&m, "ReduceMean", "x", "y"); /* space in shares, channels, the batch after a move */
    check_shape(&m, "1x1x1x1", 5);
}

Test(import, resizes)
{
    const float scales[] = { 1, 1, 2.5f, 0.5f };
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_floats(&m, "scales", 1, DIMS(4), scales);
    model_node(&m, "Resize", "x - scales", "y");
    attr_text(&m, "mode", "linear");
    check_shape(&m, "1x6x12x4", 1);
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "sizes", 4, DIMS(1, 6, 9, 9));
    model_floats(&m, "none", 1, DIMS(0), scales);
    model_node(&m, "Resize", "x none none sizes", "y");
    check_shape(&m, "1x6x9x9", 1);
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "sizes", 4, DIMS(1, 7, 9, 9));
    model_node(&m, "Resize", "x - - sizes", "y");
    check_refused(&m, -ENOTSUP, "a scale on axis 1");
}

Test(import, pads)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "pads", 8, DIMS(0, 1, 2, -3, 0, 0, 1, 4));
    model_node(&m, "Pad", "x pads", "y");
    check_shape(&m, "1x7x8x9", 1);
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "pads", 8, DIMS(0, 0, 5, 0, 0, 0, 0, 0));
    model_node(&m, "Pad", "x pads", "y");
    attr_text(&m, "mode", "reflect");
    check_refused(&m, -EINVAL, "reflecting 5 and 0 values of an axis of 5");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_ints(&m, "pads", 8, DIMS(0, 0, 1, 0, 0, 0, 0, 0));
    model_node(&m, "Pad", "x pads", "y");
    attr_text(&m, "mode", "wrap");
    check_refused(&m, -ENOTSUP, "node \"y\" (Pad): mode \"wrap\"");
}

/* ---- refusals: one sentence that names file, node, operator, reason */

Test(import, unknown_operators_and_attributes)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Einsum", "x", "y");
    check_refused(&m, -ENOTSUP, "net.onnx: node \"y\" (Einsum): operator Einsum is not supported");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "x", "y");
    attr_int(&m, "slope", 1);
    check_refused(&m, -ENOTSUP, "attribute \"slope\" is unknown or of the wrong type");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Softmax", "x", "y");
    attr_float(&m, "axis", 1);
    check_refused(&m, -ENOTSUP, "attribute \"axis\" is unknown or of the wrong type");
    m = check_begin(22, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "x", "y");
    check_refused(&m, -ENOTSUP, "operator set 22");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "x", "y");
    put_text(&m.node, 7, "com.example");
    check_refused(&m, -ENOTSUP, "operator com.example.Relu is not supported");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "AveragePool", "x", "y");
    attr_ints(&m, "kernel_shape", 2, DIMS(2, 2));
    put_text(&m.node, 2, "more");
    check_refused(&m, -ENOTSUP, "output 1 (\"more\") is not supported");
}

Test(import, broken_graphs)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "nowhere", "y");
    check_refused(&m, -EINVAL, "reads \"nowhere\", which nothing before it yields");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8)); /* a cycle */
    model_node(&m, "Add", "x y", "a");
    model_node(&m, "Relu", "a", "y");
    check_refused(&m, -EINVAL, "reads \"y\", which nothing before it yields");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "x", "z");
    check_refused(&m, -EINVAL, "nothing yields output \"y\"");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "x", "y");
    model_node(&m, "Relu", "x", "y");
    check_refused(&m, -EINVAL, "two values are called \"y\"");
    m = check_begin(13, 4, DIMS(1, 6, 5, 8));
    model_node(&m, "Relu", "-", "y");
    check_refused(&m, -EINVAL, "input 0 is missing");
}

Test(import, impossible_sizes)
{
    struct model_writer m = check_begin(13, 4, DIMS(1, 3, 1 << 16, 1 << 16));
    model_node(&m, "Relu", "x", "y");
    check_refused(&m, -EINVAL, "\"x\" has shape 1x3x65536x65536");
    /* A few bytes of a file must not become gigabytes. */
    m = check_begin(13, 4, DIMS(1, 3, 4, 4));
    model_ints(&m, "huge", 2, DIMS(1 << 14, 1 << 14));
    model_node(&m, "ConstantOfShape", "huge", "c");
    model_node(&m, "Add", "x c", "y");
    check_refused(&m, -EINVAL, "take too much memory");
    m = check_begin(13, 4, DIMS(1, 3, 4, 4));
    model_ints(&m, "shape", 2, DIMS(7, -1));
    model_node(&m, "Reshape", "x shape", "y");
    check_refused(&m, -EINVAL, "48 values do not fit the new shape");
}

/* ---- open extents */

static int build_with(struct model_writer *m, const struct graph_input *inputs, int32_t n,
                      char text[SHAPE_TEXT_BYTES], struct diag *why)
{
    struct onnx_model o;
    struct graph g;
    model_node(m, "Relu", "x", "y");
    model_output(m, "y");
    model_end(m);
    cr_assert_eq(onnx_decode(&o, m->file, m->len, "net.onnx", why), 0);
    const int rc = graph_build(&g, &o, inputs, n, why);
    if (rc == 0) {
        shape_text(&g.output[0].shape, text);
        graph_done(&g);
    }
    onnx_close(&o);
    model_free(m);
    return rc;
}

Test(import, open_extents)
{
    char text[SHAPE_TEXT_BYTES];
    struct diag why;
    struct model_writer m = check_begin(13, 4, DIMS(-1, 3, 8, 8));
    cr_assert_eq(build_with(&m, NULL, 0, text, &why), 0);
    cr_assert_str_eq(text, "1x3x8x8");
    m = check_begin(13, 4, DIMS(-1, 3, -1, 8));
    cr_assert_eq(build_with(&m, NULL, 0, text, &why), -EINVAL);
    cr_assert_str_eq(why.text, "net.onnx: input \"x\": the model leaves axis 2 (\"n\") open; "
                               "give the input's shape");
    struct graph_input in = { .name = NULL, .rank = 4, .dim = { 1, 3, 10, 8 } };
    m = check_begin(13, 4, DIMS(-1, 3, -1, 8));
    cr_assert_eq(build_with(&m, &in, 1, text, &why), 0);
    cr_assert_str_eq(text, "1x3x10x8");
    m = check_begin(13, 4, DIMS(-1, 4, -1, 8));
    cr_assert_eq(build_with(&m, &in, 1, text, &why), -EINVAL);
    cr_assert_not_null(strstr(why.text, "axis 1 is 4 in the model, 3 was given"));
    m = check_begin(13, -1, NULL);
    cr_assert_eq(build_with(&m, &in, 1, text, &why), 0);
    m = check_begin(13, -1, NULL);
    cr_assert_eq(build_with(&m, NULL, 0, text, &why), -EINVAL);
    in.name = "z";
    m = check_begin(13, 4, DIMS(-1, 3, -1, 8));
    cr_assert_eq(build_with(&m, &in, 1, text, &why), -EINVAL);
    cr_assert_not_null(strstr(why.text, "\"z\", which is no input"));
}

/* ---- reaches are never too narrow */

/* A graph of one operator between two tensors, enough for graph_geometry(). */
struct single {
    struct graph g;
    struct tensor tensor[2];
    struct op op;
    int32_t input;
};

static void single_init(struct single *s, const struct op *op, const struct shape *from,
                        const struct shape *to)
{
    *s = (struct single){ .op = *op };
    const struct shape *shape[] = { from, to };
    for (int t = 0; t < 2; t++) {
        s->tensor[t] = (struct tensor){ .batch = shape_batch(shape[t]), .op = t - 1 };
        for (int a = 0; a < AXES; a++)
            s->tensor[t].dim[a] = shape_len(shape[t], (enum axis)a);
    }
    s->op.ninputs = 1;
    s->op.input = &s->input;
    s->op.output = 1;
    s->g = (struct graph){ .ntensors = 2, .nops = 1, .tensor = s->tensor, .op = &s->op };
}

/* Row, column and channel of row-major place `at`. */
static void locate(const struct shape *s, int64_t at, int32_t coord[AXES])
{
    int32_t onnx[SHAPE_MAX_RANK];
    for (int32_t i = s->rank; i-- > 0;) {
        onnx[i] = (int32_t)(at % s->dim[i]);
        at /= s->dim[i];
    }
    for (int a = 0; a < AXES; a++)
        coord[a] = s->axis[a] < 0 ? 0 : onnx[s->axis[a]];
}

static void check_covers(const struct geometry *geo, const int32_t out[AXES],
                         const int32_t in[AXES])
{
    struct box want, region;
    for (int a = 0; a < AXES; a++) {
        want.lo[a] = in[a];
        want.hi[a] = in[a] + 1;
        region.lo[a] = out[a];
        region.hi[a] = out[a] + 1;
    }
    cr_assert(box_inside(want, geometry_need(geo, 0, 0, region)));
}

/* Reshapes between random factorings of the same number, with random axes. */
Test(import, reach_of_reshape)
{
    unsigned seed = 5;
    static const int32_t factor[] = { 1, 2, 3, 2, 5, 2 };
    for (int round = 0; round < 3000; round++) {
        struct shape s[2];
        for (int k = 0; k < 2; k++) {
            int32_t dim[SHAPE_MAX_RANK] = { 1, 1, 1, 1, 1, 1, 1, 1 };
            const int32_t rank = 1 + rand_r(&seed) % 5;
            for (int i = 0; i < 6; i++)
                dim[rand_r(&seed) % rank] *= factor[i];
            s[k] = rand_r(&seed) % 2 ? shape_make(rank, dim) : shape_make_last(rank, dim);
        }
        struct op op = { .type = OP_RESHAPE };
        struct single one;
        struct geometry geo;
        op.u.reshape.from = s[0];
        op.u.reshape.to = s[1];
        for (int8_t i = 0; i < SHAPE_MAX_RANK; i++)
            op.u.reshape.perm[i] = i;
        single_init(&one, &op, &s[0], &s[1]);
        cr_assert_eq(graph_geometry(&one.g, 1, &geo), 0);
        for (int64_t at = 0; at < 120; at++) {
            int32_t in[AXES], out[AXES];
            locate(&s[0], at, in);
            locate(&s[1], at, out);
            check_covers(&geo, out, in);
        }
        geometry_done(&geo);
    }
}

/* A shuffle of channels must not make nodes exchange rows. */
Test(import, reach_of_channel_shuffle_is_local)
{
    const struct shape from = shape_make(4, (int32_t[]){ 1, 116, 40, 40 });
    const struct shape to = shape_make(5, (int32_t[]){ 1, 2, 58, 40, 40 });
    struct op op = { .type = OP_RESHAPE };
    struct single one;
    struct geometry geo;
    op.u.reshape.from = from;
    op.u.reshape.to = to;
    for (int8_t i = 0; i < SHAPE_MAX_RANK; i++)
        op.u.reshape.perm[i] = i;
    single_init(&one, &op, &from, &to);
    cr_assert_eq(graph_geometry(&one.g, 1, &geo), 0);
    const struct box need = geometry_need(&geo, 0, 0, (struct box){ { 3, 5, 0 }, { 7, 6, 58 } });
    cr_assert(box_equal(need, (struct box){ { 3, 5, 0 }, { 7, 6, 116 } }));
    geometry_done(&geo);
}

/* The pixel that edge and reflect padding repeat is read even by a part that is all padding. */
Test(import, reach_of_pad)
{
    for (int mode = PAD_REFLECT; mode <= PAD_EDGE; mode++)
        for (int before = 0; before < 5; before++)
            for (int after = 0; after < 5; after++) {
                const struct shape from = shape_make(4, (int32_t[]){ 1, 1, 5, 1 });
                const struct shape to = shape_make(4, (int32_t[]){ 1, 1, 5 + before + after, 1 });
                struct op op = { .type = OP_PAD };
                struct single one;
                struct geometry geo;
                op.u.pad.mode = (enum pad_mode)mode;
                op.u.pad.before[ROW] = before;
                single_init(&one, &op, &from, &to);
                cr_assert_eq(graph_geometry(&one.g, 1, &geo), 0);
                for (int32_t r = 0; r < 5 + before + after; r++) {
                    int32_t at = r - before;
                    if (at < 0)
                        at = mode == PAD_EDGE ? 0 : -at;
                    if (at > 4)
                        at = mode == PAD_EDGE ? 4 : 8 - at;
                    check_covers(&geo, (int32_t[]){ r, 0, 0 }, (int32_t[]){ at, 0, 0 });
                }
                geometry_done(&geo);
            }
}

/* ---- the real ones */

/* Extents from the header of a .npy file: "'shape': (1, 10), }". */
static void npy_shape_text(const char *file, char text[SHAPE_TEXT_BYTES])
{
    char header[256] = "";
    FILE *f = fopen(file, "rb");
    cr_assert_not_null(f, "%s", file);
    cr_assert_gt(fread(header, 1, sizeof header - 1, f), 20);
    fclose(f);
    for (char *p = header; p < header + 11; p++)
        if (!*p)
            *p = '?';
    const char *p = strstr(header, "'shape': (");
    cr_assert_not_null(p);
    size_t n = 0;
    for (p += 10; *p != ')'; p++)
        if (*p == ',' && p[1] != ')')
            text[n++] = 'x';
        else if (*p >= '0' && *p <= '9')
            text[n++] = *p;
    text[n] = 0;
}

/* Number of an output in the golden folder: its place in "outputs": ["792", "795", ...]. */
static int golden_index(const char *folder, const char *output)
{
    char file[256], json[2048] = "", quoted[256];
    snprintf(file, sizeof file, "%s/names.json", folder);
    FILE *f = fopen(file, "r");
    cr_assert_not_null(f, "%s", file);
    cr_assert_gt(fread(json, 1, sizeof json - 1, f), 0);
    fclose(f);
    snprintf(quoted, sizeof quoted, "\"%s\"", output);
    const char *list = strstr(json, "\"outputs\""), *at = list ? strstr(list, quoted) : NULL;
    cr_assert_not_null(at, "%s has no %s", file, quoted);
    int commas = 0;
    for (const char *p = list; p < at; p++)
        commas += *p == ',';
    return commas;
}

static void check_golden(const char *model)
{
    char file[256], folder[200], want[SHAPE_TEXT_BYTES], got[SHAPE_TEXT_BYTES];
    struct onnx_model m;
    struct graph g;
    struct geometry geo;
    struct diag why = { "" };
    snprintf(file, sizeof file, "../shared/models/%s.onnx", model);
    snprintf(folder, sizeof folder, "../shared/golden/%s", model);
    cr_assert_eq(onnx_open(&m, file, &why), 0, "%s", why.text);
    cr_assert_eq(graph_build(&g, &m, NULL, 0, &why), 0, "%s", why.text);
    for (int32_t i = 0; i < g.noutputs; i++) {
        snprintf(file, sizeof file, "%s/output_%d.npy", folder,
                 golden_index(folder, g.output[i].name));
        npy_shape_text(file, want);
        cr_assert_str_eq(shape_text(&g.output[i].shape, got), want);
    }
    for (int32_t nodes = 1; nodes <= 16; nodes++) {
        cr_assert_eq(graph_geometry(&g, nodes, &geo), 0);
        cr_assert_eq(geometry_check(&geo), 0, "%s on %d nodes", model, nodes);
        geometry_done(&geo);
    }
    graph_done(&g);
    onnx_close(&m);
}

Test(import, real_networks)
{
    static const char *const models[] = {
        "deeplabv3_mnv2_dm05_voc_513",
        "espcn_x3_y224",
        "lenet5_mnist",
        "mlperf_resnet8_cifar10",
        "mlperf_vww_mobilenetv1_96",
        "mobilenetv1_0.25_128",
        "mobilenetv2_1.0_224",
        "nanodet_m_320",
        "resnet20_cifar10",
        "selfie_seg_256",
        "squeezenet1.1",
        "waifu2x_upconv7_photo_x2",
        "yolox_nano",
    };
    if (access("../shared/models", R_OK) != 0)
        cr_skip_test("../shared is not there");
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        check_golden(models[i]);
}
