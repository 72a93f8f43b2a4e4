/* libsplit/onnx_wire.h - the protobuf bytes of an ONNX model, decoded (internal to onnx.c).
 *
 * Reads fields with nanopb's primitives and the field numbers that its generator takes from
 * onnx.proto.  Nothing is decoded into generated structs: those would either copy weights or,
 * where they hold a union of callbacks, let a hostile file overwrite a function pointer. */
#ifndef LIBSPLIT_ONNX_WIRE_H
#define LIBSPLIT_ONNX_WIRE_H

#include "libsplit/onnx.h"
#include "libsplit/store.h"

/* Fills everything but file, map and store.  What `m` points to afterwards lies in `bytes`
 * (weights) or in `store` (the rest).  Returns 0, -EBADMSG, -EINVAL or -ENOMEM as
 * onnx_open() says; the store may then hold leftovers. */
int onnx_wire_model(struct onnx_model *m, struct store **store, const void *bytes, size_t len,
                    struct diag *why);
/* The same for the bytes of one TensorProto; `file` is quoted in messages. */
int onnx_wire_tensor(struct onnx_tensor *t, struct store **store, const void *bytes, size_t len,
                     const char *file, struct diag *why);

#endif
