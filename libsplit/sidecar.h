/* libsplit/sidecar.h - what the ONNX file does not say: task, labels, preprocessing.
 *
 * model.json beside model.onnx:
 *
 *   { "task": "classify",                     raw | classify | image | detect | segment
 *     "labels": ["cat", ...]                  or "labels.txt", one a line, beside the sidecar
 *     "class_offset": 1,                      class = index - 1 (default 0)
 *     "input": {
 *       "channels": "rgb",                    rgb | bgr | gray | y (gray, but the image task
 *                                             gives the answer its colours back)
 *       "scale": 0.0078431,                   value = (pixel * scale - mean[c]) / std[c],
 *       "mean": [1, 1, 1], "std": [1, 1, 1],  c in the order of "channels"; or one number
 *       "resize": "crop",                     stretch | crop (the middle) | letterbox | none
 *       "short_side": 256,                    crop: first resize the shorter side to this
 *       "fill": 114,                          letterbox: value of the rest (bottom, right)
 *       "edge": 7 },                          repeat the border so often (unpadded networks)
 *     "output": { "scale": 255, "offset": 0 },  image: pixel = value * scale + offset
 *     "detect": {
 *       "decoder": "yolox",                   yolox | yolov5 | yolov8 | nanodet | ssd | ultraface
 *       "outputs": ["scores", "boxes"],       in the decoder's order (default: the model's)
 *       "strides": [8, 16, 32],               pixels from cell to cell, map by map; may be
 *                                             fractions (320 / 3)
 *       "anchors": [[10, 13, 16, 30], ...],   yolov5, ssd: columns and rows of each anchor in
 *                                             pixels, a list for every stride
 *       "center": 0.5,                        nanodet, ssd: where in its cell a point lies
 *       "reg_max": 7,                         nanodet: largest distance, in cells
 *       "center_variance": 0.1,               ssd: what centres and sizes were divided by
 *       "size_variance": 0.2,
 *       "activation": "none",                 none | sigmoid | softmax: still to do with scores
 *       "score": 0.3, "iou": 0.5,             least score; overlap that makes two boxes one
 *       "limit": 100 },                       most boxes
 *     "segment": { "threshold": 0.5,          least value of the foreground, of a single mask
 *                  "background": 0 } }        the class that is not painted, -1 for none
 *
 * libsplit/task_detect.h says what each decoder reads.  The classes of a detector start after
 * class_offset too: what lies below 0 is background.
 *
 * All keys but "task" and "decoder" have defaults: those above, and rgb, scale 1/255, mean 0,
 * std 1, stretch.  Unknown and
 * repeated keys, wrong types, impossible values and settings that mean nothing beside the
 * others (labels of task raw, short_side of stretch) are errors that name file, place, value
 * and what is allowed.  A sidecar and a file of labels are at most 1 MiB each.  Without a
 * sidecar the task is raw. */
#ifndef LIBSPLIT_SIDECAR_H
#define LIBSPLIT_SIDECAR_H

#include "libsplit/diag.h"
#include "libsplit/image.h"
#include "quant/codec.h"

enum task { TASK_RAW, TASK_CLASSIFY, TASK_IMAGE, TASK_DETECT, TASK_SEGMENT };
enum sidecar_channels { CHANNELS_RGB, CHANNELS_BGR, CHANNELS_GRAY, CHANNELS_Y };
enum sidecar_resize { RESIZE_TO_STRETCH, RESIZE_TO_CROP, RESIZE_TO_LETTERBOX, RESIZE_TO_NONE };

enum decoder {
    DECODER_YOLOX,
    DECODER_YOLOV5,
    DECODER_YOLOV8,
    DECODER_NANODET,
    DECODER_SSD,
    DECODER_ULTRAFACE
};
enum score_activation { SCORE_NONE, SCORE_SIGMOID, SCORE_SOFTMAX };
enum {
    SIDECAR_MAX_STRIDES = 8,
    SIDECAR_MAX_ANCHORS = 16,
    SIDECAR_MAX_OUTPUTS = 16,
    SIDECAR_NAME_MAX = 255 /* bytes of an output's name */
};

struct sidecar_detect {
    enum decoder decoder;
    int32_t noutputs;
    /* Names; noutputs == 0: the model's own order. */
    char output[SIDECAR_MAX_OUTPUTS][SIDECAR_NAME_MAX + 1];
    int32_t nstrides;
    float stride[SIDECAR_MAX_STRIDES];
    int32_t nanchors[SIDECAR_MAX_STRIDES]; /* all 0, or at least 1 for each stride */
    float anchor[SIDECAR_MAX_STRIDES][SIDECAR_MAX_ANCHORS][2]; /* columns, rows; pixels */
    int32_t reg_max;
    float center, center_variance, size_variance;
    enum score_activation activation;
    float score, iou;
    int32_t limit;
};

struct sidecar {
    enum task task;
    int32_t nlabels;
    char **labels; /* owned */
    int32_t class_offset;
    enum sidecar_channels channels;
    enum sidecar_resize resize;
    int32_t short_side; /* 0: no first resize */
    int32_t fill, edge;
    struct codec_pixels pixels;
    float output_scale, output_offset;
    struct sidecar_detect detect;
    float mask_threshold;
    int32_t background;
};

void sidecar_default(struct sidecar *s); /* raw, RGB / 255 */
/* Reads `file`.  Returns 0, an error of open(2), -EINVAL or -ENOMEM; sidecar_done() frees. */
int sidecar_load(struct sidecar *s, const char *file, struct diag *why);
int sidecar_parse(struct sidecar *s, const char *json, size_t len, const char *file,
                  struct diag *why);
void sidecar_done(struct sidecar *s);
/* "dir/resnet.onnx" -> "dir/resnet.json"; -ENAMETOOLONG if `cap` bytes are too few. */
int sidecar_path(const char *onnx_file, char *path, size_t cap);

/* "raw", "classify"...: as sidecars write it. */
const char *sidecar_task_name(enum task t);

/* Where a picture lies before the network: resized to `rows` x `cols`, its pixel (row, col)
 * is the first one of the network's input.  Below 0: an edge comes first. */
struct sidecar_place {
    int32_t rows, cols, row, col;
};

/* The place of a picture of `im_rows` x `im_cols` in an input of `rows` x `cols`, all at least
 * 1.  Returns 0 or -EINVAL (no room: an edge fills the input, or the picture is too long and
 * thin). */
int sidecar_place(const struct sidecar *s, int32_t im_rows, int32_t im_cols, int32_t rows,
                  int32_t cols, struct sidecar_place *place);

/* The part of the picture that the network looks at, at the network's scale: resized, cut
 * or letterboxed to `rows` x `cols`, no edge, colours as they are.  0 rows or columns: the
 * picture's own.  `seen` is initialised by the call.  A crop window larger than the picture
 * makes the picture grow to cover it.  Returns 0, -EINVAL (resize "none" and another size;
 * sentence) or -ENOMEM. */
int sidecar_view(const struct sidecar *s, const struct image *im, int32_t rows, int32_t cols,
                 struct image *seen, struct diag *why);

/* Turns a decoded picture into the network's input pixels, `rows` x `cols` x
 * s->pixels.channels, NHWC, in the network's channel order.  rows == 0: the network takes any
 * size; the picture's own (plus edges) is used and returned.  free() the result.  Returns 0,
 * -EINVAL (resize "none" and another size; sentence) or -ENOMEM. */
int sidecar_prepare(const struct sidecar *s, const struct image *im, int32_t *rows, int32_t *cols,
                    uint8_t **pixels, struct diag *why);

#endif
