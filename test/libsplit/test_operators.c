/* Operators of small models against answers worked out by hand, on one node and on three.  ONNX's
 * own test cases (make conformance) hold the rest: here is what they lack, above all constants
 * where they have tensors. */
#include "model_check.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct model_writer begin(int32_t rank, const int64_t *dim)
{
    return check_begin(13, rank, dim);
}

/* ---- constants among tensors */

/* Found by fuzzing: the constant was taken for a tensor. */
Test(operators, concatenation_with_a_constant)
{
    struct model_writer m = begin(4, DIMS(1, 1, 2, 2));
    model_floats(&m, "c", 4, DIMS(1, 1, 2, 2), VALUES(7, 8, 9, 10));
    model_node(&m, "Concat", "c x", "y");
    attr_int(&m, "axis", 1);
    check_values(&m, "1x2x2x2", VALUES(7, 8, 9, 10, 0, 1, 2, 3));
}

Test(operators, concatenation_along_the_batch)
{
    struct model_writer m = begin(4, DIMS(1, 1, 2, 2));
    model_node(&m, "Concat", "x x", "y");
    attr_int(&m, "axis", 0);
    check_values(&m, "2x1x2x2", VALUES(0, 1, 2, 3, 0, 1, 2, 3));
}

Test(operators, a_constant_is_an_output)
{
    struct model_writer m = begin(1, DIMS(2));
    model_floats(&m, "c", 2, DIMS(2, 2), VALUES(4, 3, 2, 1));
    model_node(&m, "Identity", "c", "y");
    check_values(&m, "2x2", VALUES(4, 3, 2, 1));
}

Test(operators, a_choice_between_constants)
{
    struct model_writer m = begin(2, DIMS(2, 2));
    model_floats(&m, "one", 0, NULL, VALUES(1));
    model_floats(&m, "row", 1, DIMS(2), VALUES(10, 20));
    model_floats(&m, "none", 0, NULL, VALUES(-1));
    model_node(&m, "Greater", "x one", "c");
    model_node(&m, "Where", "c row none", "y");
    check_values(&m, "2x2", VALUES(-1, -1, 10, 20));
}

/* Five axes, of which two are batch. */
Test(operators, a_constant_that_varies_along_the_batch)
{
    struct model_writer m = begin(5, DIMS(2, 2, 1, 1, 2));
    model_floats(&m, "c", 5, DIMS(2, 2, 1, 1, 1), VALUES(1, 10, 100, 1000));
    model_node(&m, "Mul", "x c", "y");
    check_values(&m, "2x2x1x1x2", VALUES(0, 1, 20, 30, 400, 500, 6000, 7000));
}

Test(operators, a_tensor_repeated_along_a_part_of_the_batch)
{
    struct model_writer m = begin(5, DIMS(2, 2, 1, 1, 2));
    model_node(&m, "ReduceMax", "x", "r");
    attr_ints(&m, "axes", 1, DIMS(0));
    model_node(&m, "Sub", "r x", "y");
    check_values(&m, "2x2x1x1x2", VALUES(4, 4, 4, 4, 0, 0, 0, 0));
}

/* ---- constants computed at load */

/* Weight normalization: a 1x1 convolution's weights are g * v / |v|. */
Test(operators, weights_that_are_computed)
{
    struct model_writer m = begin(4, DIMS(1, 2, 1, 2));
    model_floats(&m, "v", 4, DIMS(1, 2, 1, 1), VALUES(3, 4));
    model_floats(&m, "g", 0, NULL, VALUES(5));
    model_node(&m, "ReduceL2", "v", "norm");
    attr_ints(&m, "axes", 3, DIMS(1, 2, 3));
    model_node(&m, "Mul", "v g", "vg");
    model_node(&m, "Div", "vg norm", "w");
    model_node(&m, "Conv", "x w", "y");
    check_values(&m, "1x1x1x2", VALUES(8, 15));
}

Test(operators, weights_that_are_dequantized)
{
    struct model_writer m;
    const int8_t w[4] = { 10, -10, 100, 3 };
    const int8_t zero[2] = { 0, 50 };
    m = begin(4, DIMS(1, 2, 1, 1));
    struct writer t = tensor_proto("q", ONNX_INT8, 4, DIMS(2, 2, 1, 1), w, sizeof w);
    put_message(&m.graph, 5, &t);
    t = tensor_proto("zero", ONNX_INT8, 1, DIMS(2), zero, sizeof zero);
    put_message(&m.graph, 5, &t);
    model_floats(&m, "scale", 1, DIMS(2), VALUES(0.5F, 2));
    model_node(&m, "DequantizeLinear", "q scale zero", "w");
    attr_int(&m, "axis", 0);
    model_node(&m, "Conv", "x w", "y");
    check_values(&m, "1x2x1x1", VALUES(-5, -94));
}

/* A shape that only ReduceProd knows. */
Test(operators, integers_stay_integers)
{
    struct model_writer m = begin(4, DIMS(1, 2, 1, 2));
    model_node(&m, "Shape", "x", "s");
    model_node(&m, "ReduceProd", "s", "n");
    model_node(&m, "Reshape", "x n", "y");
    check_values(&m, "4", VALUES(0, 1, 2, 3));
}

Test(operators, integers_that_floats_cannot_hold)
{
    struct model_writer m = begin(1, DIMS(2));
    model_ints(&m, "i", 2, DIMS(1, 2));
    model_node(&m, "ReduceMean", "i", "s");
    model_node(&m, "Reshape", "x s", "y");
    check_refused(&m, -ENOTSUP, "(ReduceMean): of integers");
    m = begin(1, DIMS(2));
    model_ints(&m, "i", 1, DIMS((1 << 24) + 1));
    model_node(&m, "Neg", "i", "s");
    model_node(&m, "Reshape", "x s", "y");
    check_refused(&m, -ENOTSUP, "an integer of 16777217 in a tensor");
}

Test(operators, work_out_of_proportion)
{
    struct model_writer m = begin(1, DIMS(2));
    model_ints(&m, "large", 2, DIMS(1200, 1200));
    model_node(&m, "ConstantOfShape", "large", "c");
    model_node(&m, "MatMul", "c c", "y");
    check_refused(&m, -EINVAL, "(MatMul): too much to compute at load");
}

Test(operators, a_dropout_that_drops_is_refused)
{
    struct model_writer m = begin(1, DIMS(2));
    const uint8_t yes = 1;
    struct writer t = tensor_proto("training", ONNX_BOOL, 0, NULL, &yes, 1);
    put_message(&m.graph, 5, &t);
    model_floats(&m, "ratio", 0, NULL, VALUES(0.5F));
    model_node(&m, "Dropout", "x ratio training", "y");
    check_refused(&m, -ENOTSUP, "training mode");
}

/* ---- picks */

Test(operators, gather_and_its_shapes)
{
    struct model_writer m = begin(3, DIMS(1, 3, 2));
    model_ints(&m, "i", 2, DIMS(-1, 0));
    model_node(&m, "Gather", "x i", "y");
    attr_int(&m, "axis", 1);
    check_values(&m, "1x2x2", VALUES(4, 5, 0, 1));
    m = begin(3, DIMS(1, 3, 2));
    struct writer t = tensor_proto("i", ONNX_INT64, 0, NULL, DIMS(1), sizeof(int64_t));
    put_message(&m.graph, 5, &t);
    model_node(&m, "Gather", "x i", "y");
    attr_int(&m, "axis", 1);
    check_values(&m, "1x2", VALUES(2, 3));
    m = begin(3, DIMS(1, 3, 2));
    model_ints(&m, "i", 1, DIMS(3));
    model_node(&m, "Gather", "x i", "y");
    attr_int(&m, "axis", 1);
    check_refused(&m, -EINVAL, "index 3 of 3");
}

Test(operators, expand_and_tile)
{
    struct model_writer m = begin(2, DIMS(2, 1));
    model_ints(&m, "s", 3, DIMS(2, 1, 2));
    model_node(&m, "Expand", "x s", "y");
    check_values(&m, "2x2x2", VALUES(0, 0, 1, 1, 0, 0, 1, 1));
    m = begin(2, DIMS(1, 2));
    model_ints(&m, "s", 2, DIMS(2, 2));
    model_node(&m, "Tile", "x s", "y");
    check_values(&m, "2x4", VALUES(0, 1, 0, 1, 0, 1, 0, 1));
    m = begin(2, DIMS(2, 2));
    model_ints(&m, "s", 1, DIMS(3));
    model_node(&m, "Expand", "x s", "y");
    check_refused(&m, -EINVAL, "extent 2 cannot become 3");
}

/* ---- products */

Test(operators, products_with_vectors)
{
    struct model_writer m = begin(1, DIMS(2));
    model_floats(&m, "c", 2, DIMS(2, 2), VALUES(1, 2, 3, 4));
    model_node(&m, "MatMul", "c x", "y");
    check_values(&m, "2", VALUES(2, 4));
    m = begin(1, DIMS(2));
    model_floats(&m, "c", 2, DIMS(2, 2), VALUES(1, 2, 3, 4));
    model_node(&m, "MatMul", "x c", "y");
    check_values(&m, "2", VALUES(3, 4));
    m = begin(1, DIMS(3));
    model_node(&m, "MatMul", "x x", "y");
    check_values(&m, "scalar", VALUES(5));
}

/* One matrix times a stack of two. */
Test(operators, a_product_repeated_along_the_stack)
{
    struct model_writer m = begin(2, DIMS(2, 2));
    model_floats(&m, "c", 3, DIMS(2, 2, 1), VALUES(1, 0, 0, 1));
    model_node(&m, "MatMul", "x c", "y");
    check_values(&m, "2x2x1", VALUES(0, 2, 1, 3));
    m = begin(2, DIMS(2, 2));
    model_floats(&m, "c", 2, DIMS(3, 1), VALUES(1, 1, 1));
    model_node(&m, "MatMul", "x c", "y");
    check_refused(&m, -EINVAL, "2 columns times 3 rows");
}

Test(operators, gemm_of_tensors)
{
    struct model_writer m = begin(2, DIMS(2, 2));
    model_floats(&m, "c", 2, DIMS(2, 2), VALUES(1, 1, 2, 2));
    model_node(&m, "Gemm", "x x c", "y");
    attr_float(&m, "alpha", 2);
    attr_float(&m, "beta", 10);
    attr_int(&m, "transB", 1);
    check_values(&m, "2x2", VALUES(12, 16, 26, 46));
}

/* ---- reductions and normalizations */

/* e^1000 is infinite; the logarithm of the sum is not. */
Test(operators, log_sum_exp_of_large_values)
{
    struct model_writer m = begin(2, DIMS(1, 2));
    model_floats(&m, "k", 0, NULL, VALUES(1000));
    model_node(&m, "Mul", "x k", "a");
    model_node(&m, "ReduceLogSumExp", "a", "y");
    attr_ints(&m, "axes", 1, DIMS(1));
    attr_int(&m, "keepdims", 0);
    check_values(&m, "1", VALUES(1000));
}

Test(operators, reductions_along_each_axis)
{
    struct model_writer m = begin(4, DIMS(2, 2, 1, 2));
    model_node(&m, "ReduceSum", "x", "y");
    attr_int(&m, "keepdims", 0);
    check_values(&m, "scalar", VALUES(28));
    m = begin(4, DIMS(2, 2, 1, 2));
    model_node(&m, "ReduceMin", "x", "y");
    attr_ints(&m, "axes", 2, DIMS(0, 3));
    check_values(&m, "1x2x1x1", VALUES(0, 2));
    m = begin(4, DIMS(2, 2, 1, 2));
    model_node(&m, "ArgMax", "x", "y");
    attr_int(&m, "axis", 0);
    check_values(&m, "1x2x1x2", VALUES(1, 1, 1, 1));
}

Test(operators, layer_normalization)
{
    struct model_writer m = begin(2, DIMS(2, 2));
    model_floats(&m, "scale", 1, DIMS(2), VALUES(1, 2));
    model_floats(&m, "bias", 1, DIMS(2), VALUES(10, 20));
    model_node(&m, "LayerNormalization", "x scale bias", "y");
    attr_float(&m, "epsilon", 0);
    check_values(&m, "2x2", VALUES(9, 22, 9, 22));
}

Test(operators, top_k_of_rows)
{
    struct model_writer m = begin(2, DIMS(2, 3));
    model_ints(&m, "k", 1, DIMS(2));
    model_node(&m, "TopK", "x k", "v y");
    check_values(&m, "2x2", VALUES(2, 1, 2, 1));
    m = begin(2, DIMS(2, 3));
    model_ints(&m, "k", 1, DIMS(4));
    model_node(&m, "TopK", "x k", "y i");
    check_refused(&m, -EINVAL, "4 of 3 values");
}

/* ---- assignments to a part of a tensor */

/* What PyTorch writes for y = x; y[:, 1] = 10 * x[:, 0]. */
Test(operators, scatter_at_constant_places)
{
    struct model_writer m = begin(3, DIMS(1, 2, 3));
    model_ints(&m, "zero", 1, DIMS(0));
    model_ints(&m, "place_list", 2, DIMS(0, 1));
    model_ints(&m, "one_by_two", 3, DIMS(1, 1, 2));
    model_floats(&m, "ten", 0, NULL, VALUES(10));
    model_node(&m, "Reshape", "place_list one_by_two", "places");
    model_node(&m, "Gather", "x zero", "first");
    attr_int(&m, "axis", 1);
    model_node(&m, "Mul", "first ten", "updates");
    model_node(&m, "ScatterND", "x places updates", "y");
    check_values(&m, "1x2x3", VALUES(0, 1, 2, 0, 10, 20));
}

Test(operators, scatter_at_the_same_place_twice)
{
    struct model_writer m = begin(1, DIMS(4));
    model_ints(&m, "places", 2, DIMS(1, -3));
    model_floats(&m, "updates", 1, DIMS(2), VALUES(7, 8));
    model_node(&m, "ScatterElements", "x places updates", "y");
    check_values(&m, "4", VALUES(0, 8, 2, 3));
}

Test(operators, scatter_that_is_refused)
{
    struct model_writer m = begin(1, DIMS(4));
    model_ints(&m, "places", 2, DIMS(1, 4));
    model_floats(&m, "updates", 1, DIMS(2), VALUES(7, 8));
    model_node(&m, "ScatterElements", "x places updates", "y");
    check_refused(&m, -EINVAL, "index 4 of 4");
    m = begin(1, DIMS(4));
    model_ints(&m, "places", 2, DIMS(1, 2));
    model_node(&m, "ScatterElements", "x places x", "y");
    check_refused(&m, -EINVAL, "do not fit each other");
    m = begin(1, DIMS(4));
    model_ints(&m, "places", 2, DIMS(1, 2));
    model_floats(&m, "updates", 1, DIMS(2), VALUES(7, 8));
    model_node(&m, "ScatterElements", "x places updates", "y");
    attr_text(&m, "reduction", "add");
    check_refused(&m, -ENOTSUP, "reduction \"add\"");
}

/* ---- the indices of a MaxPool */

/* A network that pools and unpools: each value comes back to where it was. */
Test(operators, max_unpool_undoes_max_pool)
{
    struct model_writer m = begin(4, DIMS(1, 1, 4, 4));
    model_node(&m, "MaxPool", "x", "values places");
    attr_ints(&m, "kernel_shape", 2, DIMS(2, 2));
    attr_ints(&m, "strides", 2, DIMS(2, 2));
    model_node(&m, "MaxUnpool", "values places", "y");
    attr_ints(&m, "kernel_shape", 2, DIMS(2, 2));
    attr_ints(&m, "strides", 2, DIMS(2, 2));
    check_values(&m, "1x1x4x4", VALUES(0, 0, 0, 0, 0, 5, 0, 7, 0, 0, 0, 0, 0, 13, 0, 15));
}

Test(operators, too_many_places_for_floats)
{
    struct model_writer m = begin(4, DIMS(1, 2, 4096, 4096));
    model_node(&m, "MaxPool", "x", "values y");
    attr_ints(&m, "kernel_shape", 2, DIMS(2, 2));
    check_refused(&m, -ENOTSUP, "indices of 33554432 values");
}

/* ---- boxes */

Test(operators, boxes_of_several_pictures_are_refused)
{
    struct model_writer m = begin(4, DIMS(2, 1, 4, 4));
    model_floats(&m, "boxes", 2, DIMS(1, 4), VALUES(0, 0, 2, 2));
    model_ints(&m, "pictures", 1, DIMS(1));
    model_node(&m, "RoiAlign", "x boxes pictures", "y");
    check_refused(&m, -ENOTSUP, "boxes of 2 pictures, only one is supported");
}

Test(operators, boxes_without_a_mode_of_their_own)
{
    struct model_writer m = begin(4, DIMS(1, 1, 4, 4));
    model_floats(&m, "boxes", 2, DIMS(1, 4), VALUES(0, 0, 2, 2));
    model_ints(&m, "pictures", 1, DIMS(0));
    model_node(&m, "RoiAlign", "x boxes pictures", "y");
    attr_text(&m, "mode", "max");
    check_refused(&m, -ENOTSUP, "mode \"max\"");
}
