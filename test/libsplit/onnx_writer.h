/* test/libsplit/onnx_writer.h - ONNX files made byte by byte.
 *
 * A writer is a growing protobuf message.  Messages nest by writing one into another.  Shares
 * no code with the decoder.  Aborts when memory is short. */
#ifndef TEST_LIBSPLIT_ONNX_WRITER_H
#define TEST_LIBSPLIT_ONNX_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/graph.h"

struct writer {
    uint8_t *bytes;
    size_t len, cap;
};
void writer_done(struct writer *w);

void put_number(struct writer *w, uint32_t field, uint64_t v); /* varint */
void put_float(struct writer *w, uint32_t field, float v);
void put_bytes(struct writer *w, uint32_t field, const void *bytes, size_t len);
void put_text(struct writer *w, uint32_t field, const char *text);
/* Writes `inner` as a field and frees it. */
void put_message(struct writer *w, uint32_t field, struct writer *inner);

/* TensorProto with raw data; `rank` extents. */
struct writer tensor_proto(const char *name, enum onnx_type type, int32_t rank, const int64_t *dim,
                           const void *data, size_t bytes);

/* ---- a whole model: ports first, then nodes, each with its attributes at once */
struct model_writer {
    struct writer graph, node;
    bool open; /* a node is being written */
    int64_t opset;
    uint8_t *file;
    size_t len;
};
void model_begin(struct model_writer *m, int64_t opset);
/* Extents; -1 is symbolic ("n"), rank -1: no shape. */
void model_input(struct model_writer *m, const char *name, int32_t rank, const int64_t *dim);
void model_output(struct model_writer *m, const char *name);
void model_floats(struct model_writer *m, const char *name, int32_t rank, const int64_t *dim,
                  const float *data);
/* Values 0.01, 0.02, ... */
void model_weights(struct model_writer *m, const char *name, int32_t rank, const int64_t *dim);
void model_ints(struct model_writer *m, const char *name, int32_t n, const int64_t *data);
/* Names parted by blanks; "-" is an input that is left out.  The node is called after its
 * first output. */
void model_node(struct model_writer *m, const char *op, const char *inputs, const char *outputs);
void attr_int(struct model_writer *m, const char *name, int64_t v);
void attr_float(struct model_writer *m, const char *name, float v);
void attr_text(struct model_writer *m, const char *name, const char *v);
void attr_ints(struct model_writer *m, const char *name, int32_t n, const int64_t *v);
/* The bytes are m->file, m->len; model_free() frees them. */
void model_end(struct model_writer *m);
void model_free(struct model_writer *m);

/* Ends the model and builds a graph of it; returns what graph_build() or onnx_decode() does.
 * `o` must outlive the graph. */
int model_build(struct model_writer *m, struct onnx_model *o, struct graph *g, struct diag *why);

#define DIMS(...)                                                                                  \
    (const int64_t[]) { __VA_ARGS__ }

#endif
