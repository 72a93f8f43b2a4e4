/* Values between the pixels of a map, where the network says: GridSample, RoiAlign. */
#include "libsplit/import.h"

#include <errno.h>
#include <string.h>

static int read_sampling(struct import *im, struct op *op)
{
    static const char *const mode[] = { [RESIZE_NEAREST] = "nearest",
                                        [RESIZE_LINEAR] = "bilinear",
                                        [RESIZE_CUBIC] = "bicubic",
                                        "linear",
                                        "cubic" };
    static const char *const beyond[] = {
        [SAMPLE_ZEROS] = "zeros", [SAMPLE_BORDER] = "border", [SAMPLE_REFLECTION] = "reflection"
    };
    int m, b;
    int rc = import_choice(im, "mode", mode[RESIZE_LINEAR], mode, 5, &m);
    if (rc == 0)
        rc = import_choice(im, "padding_mode", beyond[0], beyond, 3, &b);
    if (rc)
        return rc;
    op->u.grid_sample.mode = m < 3 ? (enum resize_mode)m : m == 3 ? RESIZE_LINEAR : RESIZE_CUBIC;
    op->u.grid_sample.beyond = (enum sample_beyond)b;
    op->u.grid_sample.corners = onnx_attr_int(im->node, "align_corners", 0) != 0;
    return 0;
}

int import_grid_sample(struct import *im)
{
    struct value x, grid, out;
    struct op op = { .type = OP_GRID_SAMPLE };
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_tensor(im, 1, &grid);
    if (rc == 0)
        rc = read_sampling(im, &op);
    if (rc)
        return rc;
    if (x.shape.rank != 4 || grid.shape.rank != 4 || grid.shape.dim[3] != 2 ||
        grid.shape.dim[0] != x.shape.dim[0])
        return refuse(im, -EINVAL,
                      "a map and a grid of columns and rows for each image are needed");
    const struct shape last = shape_make_last(4, grid.shape.dim);
    rc = import_lay_usual(im, &x);
    if (rc == 0)
        rc = import_lay(im, &grid, &last);
    if (rc)
        return rc;
    struct shape shape = x.shape;
    shape.dim[2] = grid.shape.dim[1];
    shape.dim[3] = grid.shape.dim[2];
    const int32_t input[2] = { x.tensor, grid.tensor };
    rc = import_emit(im, &op, input, 2, &shape, &out);
    return rc ? rc : import_define(im, 0, &out);
}

/* Until opset 15 the corner of a pixel was its place. */
static int read_alignment(struct import *im, struct op *op, int64_t cells[2])
{
    enum { MOST_POINTS = 64 };
    static const char *const coordinates[] = { "output_half_pixel", "half_pixel" };
    static const char *const mode[] = { "avg" };
    const bool old = im->model->opset < 16;
    int m, c;
    int rc = import_choice(im, "mode", mode[0], mode, 1, &m);
    if (rc == 0)
        rc = import_choice(im, "coordinate_transformation_mode", coordinates[!old], coordinates, 2,
                           &c);
    if (rc)
        return rc;
    const int64_t points = onnx_attr_int(im->node, "sampling_ratio", 0);
    cells[ROW] = onnx_attr_int(im->node, "output_height", 1);
    cells[COL] = onnx_attr_int(im->node, "output_width", 1);
    if (points < 0 || points > MOST_POINTS)
        return refuse(im, -ENOTSUP, "sampling_ratio %lld, at most %d", (long long)points,
                      MOST_POINTS);
    for (int a = ROW; a <= COL; a++)
        if (cells[a] < 1 || cells[a] > BOX_MAX_EXTENT)
            return refuse(im, -EINVAL, "an output of extent %lld", (long long)cells[a]);
    op->u.roi_align.points = (int32_t)points;
    op->u.roi_align.scale = onnx_attr_float(im->node, "spatial_scale", 1);
    op->u.roi_align.shift = c == 1 ? 0.5F : 0;
    return 0;
}

/* Of one picture: with that, the third input can only say that all boxes are of picture 0. */
int import_roi_align(struct import *im)
{
    struct value x, boxes, out;
    int64_t cells[2];
    struct op op = { .type = OP_ROI_ALIGN };
    int rc = import_tensor(im, 0, &x);
    if (rc == 0)
        rc = import_tensor(im, 1, &boxes);
    if (rc == 0)
        rc = read_alignment(im, &op, cells);
    if (rc)
        return rc;
    if (x.shape.rank != 4 || boxes.shape.rank != 2 || boxes.shape.dim[1] != 4)
        return refuse(im, -EINVAL, "a map and a list of boxes of 4 numbers are needed");
    if (x.shape.dim[0] != 1)
        return refuse(im, -ENOTSUP, "boxes of %d pictures, only one is supported", x.shape.dim[0]);
    rc = import_lay_usual(im, &x);
    if (rc == 0)
        rc = import_lay_usual(im, &boxes);
    if (rc)
        return rc;
    const int32_t dim[4] = { boxes.shape.dim[0], x.shape.dim[1], (int32_t)cells[ROW],
                             (int32_t)cells[COL] };
    const struct shape shape = shape_make(4, dim);
    const int32_t input[2] = { x.tensor, boxes.tensor };
    rc = import_emit(im, &op, input, 2, &shape, &out);
    return rc ? rc : import_define(im, 0, &out);
}
