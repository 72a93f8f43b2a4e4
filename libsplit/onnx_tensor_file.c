#include "libsplit/onnx_tensor_file.h"

#include <stdlib.h>

#include "libsplit/file.h"
#include "libsplit/onnx_wire.h"

#define MAX_BYTES ((size_t)1 << 31)

int onnx_tensor_open(struct onnx_tensor_file *f, const char *path, struct diag *why)
{
    struct onnx_tensor_file made = { .bytes = NULL };
    struct store *store = NULL;
    size_t len;
    int rc = file_read(path, MAX_BYTES, &made.bytes, &len, why);
    if (rc < 0)
        return rc;
    rc = onnx_wire_tensor(&made.tensor, &store, made.bytes, len, path, why);
    made.store = store;
    if (rc < 0)
        onnx_tensor_close(&made);
    else
        *f = made;
    return rc;
}

void onnx_tensor_close(struct onnx_tensor_file *f)
{
    struct store *store = f->store;
    store_free(&store);
    free(f->bytes);
    *f = (struct onnx_tensor_file){ .bytes = NULL };
}
