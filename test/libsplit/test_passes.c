#include "libsplit/passes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "onnx_writer.h"

/* A model and the graph that all passes made of it. */
struct built {
    struct model_writer w;
    struct onnx_model m;
    struct graph g;
};

static void begin(struct built *b)
{
    model_begin(&b->w, 13);
    model_input(&b->w, "x", 4, DIMS(1, 2, 6, 6));
}

static void end(struct built *b)
{
    struct diag why = { "" };
    model_output(&b->w, "y");
    cr_assert_eq(model_build(&b->w, &b->m, &b->g, &why), 0, "%s", why.text);
}

static void done(struct built *b)
{
    graph_done(&b->g);
    onnx_close(&b->m);
    model_free(&b->w);
}

/* A 1x1 convolution from `in` to `out` with four output channels. */
static void conv(struct built *b, const char *in, const char *out)
{
    char inputs[64], weights[32];
    snprintf(weights, sizeof weights, "%s_w", out);
    snprintf(inputs, sizeof inputs, "%s %s", in, weights);
    model_weights(&b->w, weights, 4, DIMS(4, 2, 1, 1));
    model_node(&b->w, "Conv", inputs, out);
}

static float weight(const struct op *op, int64_t co, int64_t ci, int64_t y, int64_t x)
{
    const struct weight_ref *w = &op->u.conv.weight;
    return onnx_float(w->t,
                      co * w->stride[0] + ci * w->stride[1] + y * w->stride[2] + x * w->stride[3]);
}

Test(passes, batch_normalization_folds_into_the_convolution)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_floats(&b.w, "s", 1, DIMS(4), (const float[]){ 1, 2, 3, 4 });
    model_floats(&b.w, "b", 1, DIMS(4), (const float[]){ 0, 1, 0, -1 });
    model_floats(&b.w, "m", 1, DIMS(4), (const float[]){ 0, 0.5f, 1, 0 });
    model_floats(&b.w, "v", 1, DIMS(4), (const float[]){ 1, 4, 0.25f, 9 });
    model_node(&b.w, "BatchNormalization", "a s b m v", "n");
    attr_float(&b.w, "epsilon", 0);
    model_node(&b.w, "Relu", "n", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 1);
    const struct op *op = &b.g.op[0];
    cr_assert_eq(op->type, OP_CONV);
    cr_assert_eq(op->act.kind, ACT_RELU);
    const float scale[] = { 1, 1, 6, 4.0f / 3 }, bias[] = { 0, 0.5f, -6, -1 };
    for (int c = 0; c < 4; c++) {
        cr_assert_float_eq(op->u.conv.scale[c], scale[c], 1e-6f);
        cr_assert_float_eq(op->u.conv.bias[c], bias[c], 1e-6f);
    }
    done(&b);
}

Test(passes, arithmetic_per_channel_folds_into_the_convolution)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_floats(&b.w, "k", 3, DIMS(4, 1, 1), (const float[]){ 1, 2, 3, 4 });
    model_floats(&b.w, "two", 0, NULL, (const float[]){ 2 });
    model_node(&b.w, "Mul", "a k", "c");
    model_node(&b.w, "Sub", "two c", "d");
    model_node(&b.w, "Div", "d two", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 1);
    for (int c = 0; c < 4; c++) {
        cr_assert_eq(b.g.op[0].u.conv.scale[c], -(float)(c + 1) / 2);
        cr_assert_eq(b.g.op[0].u.conv.bias[c], 1);
    }
    done(&b);
}

Test(passes, a_constant_per_pixel_stays)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_weights(&b.w, "k", 2, DIMS(6, 6));
    model_node(&b.w, "Mul", "a k", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 2);
    cr_assert_eq(b.g.op[1].type, OP_BINARY);
    done(&b);
}

Test(passes, a_constant_over_the_value_stays)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_floats(&b.w, "two", 0, NULL, (const float[]){ 2 });
    model_node(&b.w, "Div", "two a", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 2);
    done(&b);
}

Test(passes, nothing_folds_into_a_value_that_others_read)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_floats(&b.w, "two", 0, NULL, (const float[]){ 2 });
    model_node(&b.w, "Mul", "a two", "c");
    model_node(&b.w, "Relu", "a", "d");
    model_node(&b.w, "Add", "c d", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 4);
    cr_assert_eq(b.g.op[0].act.kind, ACT_NONE);
    cr_assert_null(b.g.op[0].u.conv.scale);
    done(&b);
}

Test(passes, nothing_folds_behind_an_activation)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_floats(&b.w, "two", 0, NULL, (const float[]){ 2 });
    model_node(&b.w, "Relu", "a", "c");
    model_node(&b.w, "Mul", "c two", "d");
    model_node(&b.w, "Tanh", "d", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 2);
    cr_assert_eq(b.g.op[0].act.kind, ACT_RELU);
    cr_assert_eq(b.g.op[1].act.kind, ACT_TANH);
    done(&b);
}

Test(passes, an_output_in_the_middle_keeps_its_value)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_node(&b.w, "Relu", "a", "y");
    model_output(&b.w, "a");
    end(&b);
    cr_assert_eq(b.g.nops, 2);
    cr_assert_eq(b.g.op[0].act.kind, ACT_NONE);
    done(&b);
}

Test(passes, shares_of_a_reduction_are_not_activated)
{
    struct built b;
    begin(&b);
    model_node(&b.w, "GlobalAveragePool", "x", "a");
    model_node(&b.w, "HardSigmoid", "a", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 2);
    cr_assert_eq(b.g.op[0].type, OP_PARTIAL);
    cr_assert_eq(b.g.op[0].act.kind, ACT_NONE);
    cr_assert_eq(b.g.op[1].type, OP_COMBINE);
    cr_assert_eq(b.g.op[1].act.kind, ACT_HARD_SIGMOID);
    done(&b);
}

Test(passes, silu)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_node(&b.w, "Sigmoid", "a", "s");
    model_node(&b.w, "Mul", "a s", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 1);
    cr_assert_eq(b.g.op[0].act.kind, ACT_SILU);
    done(&b);
}

Test(passes, hard_swish_needs_its_own_slope)
{
    for (int own = 0; own < 2; own++) {
        struct built b;
        begin(&b);
        conv(&b, "x", "a");
        model_node(&b.w, "HardSigmoid", "a", "s");
        if (own)
            attr_float(&b.w, "alpha", 1.0f / 6);
        model_node(&b.w, "Mul", "s a", "y");
        end(&b);
        cr_assert_eq(b.g.nops, own ? 1 : 3);
        cr_assert_eq(b.g.op[b.g.nops - 1].act.kind, own ? ACT_HARD_SWISH : ACT_NONE);
        done(&b);
    }
}

/* A gate on another value is no SiLU. */
Test(passes, squeeze_and_excite_is_no_silu)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    conv(&b, "x", "c");
    model_node(&b.w, "Sigmoid", "c", "s");
    model_node(&b.w, "Mul", "a s", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 3);
    cr_assert_eq(b.g.op[1].act.kind, ACT_SIGMOID);
    done(&b);
}

Test(passes, flatten_and_gemm_become_one_convolution)
{
    for (int trans = 0; trans < 2; trans++) {
        struct built b;
        begin(&b);
        if (trans)
            model_weights(&b.w, "w", 2, DIMS(3, 72));
        else
            model_weights(&b.w, "w", 2, DIMS(72, 3));
        model_node(&b.w, "Flatten", "x", "f");
        model_node(&b.w, "Gemm", "f w", "y");
        attr_int(&b.w, "transB", trans);
        end(&b);
        cr_assert_eq(b.g.nops, 1);
        const struct op *op = &b.g.op[0];
        cr_assert_eq(op->input[0], b.g.input[0].tensor);
        cr_assert_eq(op->u.conv.win.kernel[ROW], 6);
        cr_assert_eq(op->u.conv.win.kernel[COL], 6);
        for (int co = 0; co < 3; co++)
            for (int ci = 0; ci < 2; ci++)
                for (int y = 0; y < 6; y++)
                    for (int x = 0; x < 6; x++) {
                        const int k = (ci * 6 + y) * 6 + x;
                        const int at = trans ? co * 72 + k : k * 3 + co;
                        cr_assert_eq(weight(op, co, ci, y, x), 0.01f * (float)(at + 1));
                    }
        done(&b);
    }
}

/* A pixel shuffle of (1, 12, 6, 6) by 2, its six axes in this order, moved by `perm`. */
static void shuffle(struct built *b, const int64_t *six, const int64_t *perm)
{
    model_begin(&b->w, 13);
    model_input(&b->w, "x", 4, DIMS(1, 12, 6, 5));
    model_ints(&b->w, "six", 6, six);
    model_ints(&b->w, "four", 4, DIMS(1, 3, 12, 10));
    model_node(&b->w, "Reshape", "x six", "a");
    model_node(&b->w, "Transpose", "a", "c");
    attr_ints(&b->w, "perm", 6, perm);
    model_node(&b->w, "Reshape", "c four", "y");
    end(b);
}

Test(passes, pixel_shuffle)
{
    struct built b;
    shuffle(&b, DIMS(1, 3, 2, 2, 6, 5), DIMS(0, 1, 4, 2, 5, 3));
    cr_assert_eq(b.g.nops, 1);
    cr_assert_eq(b.g.op[0].type, OP_DEPTH_TO_SPACE);
    cr_assert_eq(b.g.op[0].u.depth_to_space.block, 2);
    cr_assert(b.g.op[0].u.depth_to_space.crd);
    done(&b);
    shuffle(&b, DIMS(1, 2, 2, 3, 6, 5), DIMS(0, 3, 4, 1, 5, 2));
    cr_assert_eq(b.g.nops, 1);
    cr_assert_not(b.g.op[0].u.depth_to_space.crd);
    done(&b);
    /* Rows and columns of the block exchanged: no DepthToSpace. */
    shuffle(&b, DIMS(1, 3, 2, 2, 6, 5), DIMS(0, 1, 4, 3, 5, 2));
    cr_assert_eq(b.g.nops, 2);
    cr_assert_eq(b.g.op[1].type, OP_RESHAPE);
    done(&b);
}

/* (1, 12, 6, 5) by way of (1, groups, 12 / groups, 6, 5). */
Test(passes, channel_shuffle)
{
    struct built b;
    model_begin(&b.w, 13);
    model_input(&b.w, "x", 4, DIMS(1, 12, 6, 5));
    model_ints(&b.w, "five", 5, DIMS(1, 3, 4, 6, 5));
    model_ints(&b.w, "four", 4, DIMS(1, 12, 6, 5));
    model_node(&b.w, "Reshape", "x five", "a");
    model_node(&b.w, "Transpose", "a", "c");
    attr_ints(&b.w, "perm", 5, DIMS(0, 2, 1, 3, 4));
    model_node(&b.w, "Reshape", "c four", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 1);
    const struct op *op = &b.g.op[0];
    cr_assert_eq(op->type, OP_RESHAPE);
    cr_assert_not_null(op->u.reshape.pick[1]);
    for (int32_t i = 0; i < 12; i++)
        cr_assert_eq(op->u.reshape.pick[1][i], i % 3 * 4 + i / 3, "channel %d", i);
    cr_assert_eq(op->u.reshape.picked[1], 12);
    done(&b);
}

/* Rows change place, too: two operators remain. */
Test(passes, a_shuffle_of_rows_stays)
{
    struct built b;
    model_begin(&b.w, 13);
    model_input(&b.w, "x", 4, DIMS(1, 6, 6, 5));
    model_ints(&b.w, "five", 5, DIMS(1, 6, 2, 3, 5));
    model_ints(&b.w, "four", 4, DIMS(1, 6, 6, 5));
    model_node(&b.w, "Reshape", "x five", "a");
    model_node(&b.w, "Transpose", "a", "c");
    attr_ints(&b.w, "perm", 5, DIMS(0, 1, 3, 2, 4));
    model_node(&b.w, "Reshape", "c four", "y");
    end(&b);
    for (int32_t i = 0; i < b.g.nops; i++)
        cr_assert_null(b.g.op[i].u.reshape.pick[1]);
    cr_assert_geq(b.g.nops, 2);
    done(&b);
}

Test(passes, a_division_by_zero_stays)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_floats(&b.w, "zero", 0, NULL, (const float[]){ 0 });
    model_node(&b.w, "Div", "a zero", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 2);
    done(&b);
}

Test(passes, dead_code_goes)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    conv(&b, "x", "unused");
    model_node(&b.w, "Relu", "unused", "unused2");
    model_node(&b.w, "Tanh", "a", "y");
    end(&b);
    cr_assert_eq(b.g.nops, 1);
    cr_assert_eq(b.g.ntensors, 2);
    cr_assert_eq(b.g.tensor[b.g.op[0].output].op, 0);
    cr_assert_eq(b.g.output[0].tensor, b.g.op[0].output);
    done(&b);
}

/* Running all passes again changes nothing. */
Test(passes, are_idempotent)
{
    struct built b;
    begin(&b);
    conv(&b, "x", "a");
    model_node(&b.w, "Sigmoid", "a", "s");
    model_node(&b.w, "Mul", "a s", "c");
    model_node(&b.w, "GlobalAveragePool", "c", "y");
    end(&b);
    const int32_t ops = b.g.nops, tensors = b.g.ntensors;
    cr_assert_eq(passes_run(&b.g), 0);
    cr_assert_eq(b.g.nops, ops);
    cr_assert_eq(b.g.ntensors, tensors);
    done(&b);
}
