/* libsplit/onnx_tensor_file.h - a file that holds one ONNX TensorProto (input_0.pb of a test). */
#ifndef LIBSPLIT_ONNX_TENSOR_FILE_H
#define LIBSPLIT_ONNX_TENSOR_FILE_H

#include "libsplit/onnx.h"

struct onnx_tensor_file {
    struct onnx_tensor tensor; /* points into `bytes` and `store` */
    uint8_t *bytes;            /* private */
    void *store;               /* private */
};

/* Reads and decodes `path`.  Returns 0, an error of open(2) or read(2), -EFBIG, -EBADMSG (not a
 * tensor, cut off), -EINVAL (a type that is no number, data shorter than the shape) or
 * -ENOMEM, with `*why`. */
int onnx_tensor_open(struct onnx_tensor_file *f, const char *path, struct diag *why);
void onnx_tensor_close(struct onnx_tensor_file *f);

#endif
