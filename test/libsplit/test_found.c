/* NonMaxSuppression, and what may follow it: as many rows as a frame has boxes. */
#include "model_check.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>

enum { BOXES = 4, OUTPUTS = 6 };

/* Rows of "x": y, x, y, x of two corners, and the scores of two classes. */
static struct model_writer detector(int64_t most, float iou, float score)
{
    struct model_writer m = check_begin(13, 3, DIMS(1, BOXES, OUTPUTS));
    model_ints(&m, "parts", 2, DIMS(4, 2));
    model_ints(&m, "most", 1, DIMS(most));
    model_floats(&m, "iou", 0, NULL, VALUES(iou));
    model_floats(&m, "score", 0, NULL, VALUES(score));
    model_node(&m, "Split", "x parts", "boxes scores_last");
    attr_int(&m, "axis", 2);
    model_node(&m, "Transpose", "scores_last", "scores");
    attr_ints(&m, "perm", 3, DIMS(0, 2, 1));
    return m;
}

static void suppress(struct model_writer *m, const char *out)
{
    model_node(m, "NonMaxSuppression", "boxes scores most iou score", out);
}

/* Boxes 0 and 1 overlap by half, 2 and 3 lie apart. */
static const float some[] = {
    0, 0, 2, 2, 0.9F, 0.1F, /**/ 0, 1, 2, 3, 0.8F, 0.7F,
    5, 5, 6, 6, 0.2F, 0.6F, /**/ 9, 9, 8, 8, 0.4F, 0.95F,
};
static const float none[BOXES * OUTPUTS] = { 0 };

Test(found, as_many_boxes_as_there_are)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    suppress(&m, "y");
    const struct check_frame frame[] = {
        { some, "5x3", VALUES(0, 0, 0, 0, 0, 3, 0, 1, 3, 0, 1, 1, 0, 1, 2) },
        { none, "0x3", NULL },
        { some, "5x3", VALUES(0, 0, 0, 0, 0, 3, 0, 1, 3, 0, 1, 1, 0, 1, 2) },
    };
    check_frames(&m, 3, frame);
}

Test(found, no_more_of_a_class_than_allowed)
{
    struct model_writer m = detector(1, 0.3F, 0.3F);
    suppress(&m, "y");
    check_frames(&m, 1, &(struct check_frame){ some, "2x3", VALUES(0, 0, 0, 0, 1, 3) });
}

/* What exporters of YOLOv7 append: image, box, class and score of each that is left. */
Test(found, a_tail_of_gathers_and_arithmetic)
{
    struct model_writer m = detector(4, 0.3F, 0.3F);
    suppress(&m, "found");
    model_ints(&m, "zero", 1, DIMS(0));
    model_ints(&m, "one", 1, DIMS(1));
    model_ints(&m, "two", 1, DIMS(2));
    model_floats(&m, "scale", 2, DIMS(1, 4), VALUES(10, 10, 10, 10));
    model_node(&m, "Gather", "found zero", "image_column");
    attr_int(&m, "axis", 1);
    model_node(&m, "Gather", "found one", "class_column");
    attr_int(&m, "axis", 1);
    model_node(&m, "Gather", "found two", "box_column");
    attr_int(&m, "axis", 1);
    model_node(&m, "Concat", "image_column box_column", "box_index");
    attr_int(&m, "axis", 1);
    model_node(&m, "GatherND", "boxes box_index", "corners");
    model_node(&m, "Mul", "corners scale", "pixels");
    model_node(&m, "GatherND", "scores found", "score_row");
    model_node(&m, "Unsqueeze", "score_row one", "score_column");
    model_node(&m, "Cast", "class_column", "class_number");
    attr_int(&m, "to", ONNX_FLOAT);
    model_node(&m, "Concat", "image_column pixels class_number score_column", "y");
    attr_int(&m, "axis", 1);
    const struct check_frame frame[] = {
        { none, "0x7", NULL },
        { some, "5x7",
          VALUES(0, 0, 0, 20, 20, 0, 0.9F, 0, 90, 90, 80, 80, 0, 0.4F, 0, 90, 90, 80, 80, 1, 0.95F,
                 0, 0, 10, 20, 30, 1, 0.7F, 0, 50, 50, 60, 60, 1, 0.6F) },
    };
    check_frames(&m, 2, frame);
}

/* The flat places of older exporters: image * boxes + box, rows of a reshaped tensor. */
Test(found, a_tail_of_flat_places)
{
    struct model_writer m = detector(4, 0.3F, 0.5F);
    suppress(&m, "found");
    model_ints(&m, "two", 1, DIMS(2));
    model_ints(&m, "first", 1, DIMS(0));
    model_ints(&m, "last", 1, DIMS(3));
    model_ints(&m, "axis", 1, DIMS(1));
    model_ints(&m, "rows", 2, DIMS(-1, 4));
    model_ints(&m, "flat", 1, DIMS(-1));
    model_node(&m, "Slice", "found two last axis", "box_column");
    model_node(&m, "Slice", "found first axis axis", "image_column");
    model_ints(&m, "boxes_each", 1, DIMS(BOXES));
    model_node(&m, "Mul", "image_column boxes_each", "offset");
    model_node(&m, "Add", "offset box_column", "place_column");
    model_node(&m, "Reshape", "place_column flat", "place");
    model_node(&m, "Reshape", "boxes rows", "table");
    model_node(&m, "Gather", "table place", "y");
    attr_int(&m, "axis", 0);
    check_frames(&m, 1,
                 &(struct check_frame){ some, "4x4",
                                        VALUES(0, 0, 2, 2, 9, 9, 8, 8, 0, 1, 2, 3, 5, 5, 6, 6) });
}

/* ---- what may not follow */

static void check_tail_refused(const char *op, const char *attr, int64_t value)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    suppress(&m, "found");
    model_node(&m, op, "found", "y");
    if (attr)
        attr_int(&m, attr, value);
    check_refused(&m, -ENOTSUP, "how many boxes NonMaxSuppression \"found\" finds");
}

Test(found, operators_that_mix_rows_are_refused)
{
    check_tail_refused("Shape", NULL, 0);
    check_tail_refused("Relu", NULL, 0); /* of NaN it makes 0 */
    check_tail_refused("ReduceSum", NULL, 0);
    check_tail_refused("Cast", "to", ONNX_BOOL);
    check_tail_refused("Flatten", "axis", 0);
    check_tail_refused("Transpose", NULL, 0);
}

/* 3 rows and 3 columns: extents alone do not tell. */
Test(found, a_transpose_of_a_square_is_refused)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    model_node(&m, "ReduceMax", "scores", "best");
    attr_ints(&m, "axes", 1, DIMS(1));
    model_node(&m, "NonMaxSuppression", "boxes best most iou score", "found");
    model_node(&m, "Transpose", "found", "y");
    check_refused(&m, -ENOTSUP, "how many boxes");
}

Test(found, boxes_of_two_suppressions_do_not_mix)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    suppress(&m, "a");
    suppress(&m, "b");
    model_node(&m, "Concat", "a b", "y");
    attr_int(&m, "axis", 1);
    check_refused(&m, -ENOTSUP, "boxes of two NonMaxSuppression");
}

Test(found, rows_after_rows_are_refused)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    suppress(&m, "a");
    model_node(&m, "Concat", "a a", "y");
    attr_int(&m, "axis", 0);
    check_refused(&m, -ENOTSUP, "how many boxes");
}

/* ---- the limits */

Test(found, no_limit_means_no_boxes)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    model_node(&m, "NonMaxSuppression", "boxes scores", "y");
    check_refused(&m, -EINVAL, "max_output_boxes_per_class is 0 or left out");
}

Test(found, without_thresholds_all_that_do_not_meet_stay)
{
    struct model_writer m = detector(9, 0, 0);
    model_node(&m, "NonMaxSuppression", "boxes scores most", "y");
    const float want[] = { 0, 0, 0, 0, 0, 3, 0, 0, 2, 0, 1, 3, 0, 1, 1, 0, 1, 2 };
    check_frames(&m, 1, &(struct check_frame){ some, "6x3", want });
}

Test(found, thresholds_that_are_computed_are_refused)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    model_node(&m, "ReduceMean", "scores", "mean");
    attr_int(&m, "keepdims", 0);
    model_node(&m, "NonMaxSuppression", "boxes scores most iou mean", "y");
    check_refused(&m, -ENOTSUP, "input 4, \"mean\", is computed; only a constant is supported");
}

Test(found, boxes_and_scores_must_fit)
{
    struct model_writer m = detector(3, 0.3F, 0.3F);
    model_node(&m, "NonMaxSuppression", "boxes scores_last most iou score", "y");
    check_refused(&m, -EINVAL, "boxes of shape 1x4x4 and scores of shape 1x4x2");
}

/* ---- integers that the network computes */

Test(found, places_divide_as_integers)
{
    struct model_writer m = check_begin(13, 2, DIMS(3, 5));
    model_ints(&m, "two", 1, DIMS(2));
    model_node(&m, "ArgMin", "x", "least");
    attr_int(&m, "axis", 1);
    model_node(&m, "Add", "least three", "place");
    model_node(&m, "Div", "place two", "half");
    model_node(&m, "Mod", "place two", "odd");
    model_node(&m, "Concat", "half odd", "y");
    attr_int(&m, "axis", 1);
    model_ints(&m, "three", 1, DIMS(3));
    check_values(&m, "3x2", VALUES(1, 1, 1, 1, 1, 1));
}

Test(found, of_floats_a_quotient_stays_one)
{
    struct model_writer m = check_begin(13, 1, DIMS(3));
    model_floats(&m, "two", 0, NULL, VALUES(2));
    model_node(&m, "Div", "x two", "y");
    check_values(&m, "3", VALUES(0, 0.5F, 1));
}
