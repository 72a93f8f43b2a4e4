/* libsplit/onnx.h - an ONNX file as it stands: nodes, attributes, weights.
 *
 * The file is mapped, never copied: weights and strings of `struct onnx_model` point into
 * the map and live as long as the model.  Nothing here knows what an operator means;
 * libsplit/import.h does.  Source: onnx.proto of ONNX IR versions 3 to 10. */
#ifndef LIBSPLIT_ONNX_H
#define LIBSPLIT_ONNX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"

enum { ONNX_MAX_RANK = 8, ONNX_MAX_NAME = 1024, ONNX_MAX_NODES = 1 << 16, ONNX_MAX_NODE_IO = 1024 };

/* TensorProto.DataType, the ones that CNN files use. */
enum onnx_type {
    ONNX_NONE = 0,
    ONNX_FLOAT = 1,
    ONNX_UINT8 = 2,
    ONNX_INT8 = 3,
    ONNX_UINT16 = 4,
    ONNX_INT16 = 5,
    ONNX_INT32 = 6,
    ONNX_INT64 = 7,
    ONNX_STRING = 8,
    ONNX_BOOL = 9,
    ONNX_FLOAT16 = 10,
    ONNX_DOUBLE = 11,
    ONNX_UINT32 = 12,
    ONNX_UINT64 = 13,
    ONNX_BFLOAT16 = 16,
};

/* A constant: an initializer or the value of a Constant node. */
struct onnx_tensor {
    const char *name; /* "" for an attribute */
    enum onnx_type type;
    int32_t rank;
    int64_t dim[ONNX_MAX_RANK]; /* each >= 0; their product fits the data */
    int64_t count;              /* product of dim; 1 for a scalar */
    const void *data; /* little-endian, maybe unaligned: read with onnx_float(), onnx_int() */
    size_t bytes;
};

enum onnx_attr_type {
    ONNX_ATTR_FLOAT = 1,
    ONNX_ATTR_INT = 2,
    ONNX_ATTR_STRING = 3,
    ONNX_ATTR_TENSOR = 4,
    ONNX_ATTR_FLOATS = 6,
    ONNX_ATTR_INTS = 7,
    ONNX_ATTR_OTHER = 0
};

struct onnx_attr {
    const char *name;
    enum onnx_attr_type type;
    float f;
    int64_t i;
    const char *s;
    const float *floats;
    const int64_t *ints;
    int32_t n; /* of floats or ints */
    struct onnx_tensor *t;
};

struct onnx_node {
    const char *name; /* never NULL; "" replaced by "<op_type>_<index>" */
    const char *op_type, *domain;
    int32_t ninputs, noutputs, nattrs;
    const char **input, **output; /* "" where an optional one is left out */
    struct onnx_attr *attr;
};

/* A declared input or output of the graph. */
struct onnx_value {
    const char *name;
    enum onnx_type type;
    int32_t rank;                      /* -1: no shape given */
    int64_t dim[ONNX_MAX_RANK];        /* -1 where symbolic */
    const char *symbol[ONNX_MAX_RANK]; /* its name, "" if it has none */
};

struct onnx_model {
    const char *file; /* for messages */
    int64_t opset;    /* of the default domain */
    int64_t ir_version;
    int32_t nnodes, ntensors, ninputs, noutputs;
    struct onnx_node *node;     /* in file order, which ONNX says is topological */
    struct onnx_tensor *tensor; /* initializers */
    struct onnx_value *input;   /* without those that are initializers */
    struct onnx_value *output;

    const uint8_t *map; /* private */
    size_t map_bytes;
    void *store; /* private: everything that is not in the map */
};

/* Maps and decodes `path`.  Allocates at most a small multiple of the number of nodes and
 * names; weights stay in the file.  Returns 0 or a negative errno with `*why` filled:
 * -ENOENT and other errors of open(2); -EBADMSG (not ONNX, cut off, empty); -EINVAL (a
 * cap exceeded, a weight shorter than its shape, external data, an unknown field type). */
int onnx_open(struct onnx_model *m, const char *path, struct diag *why);
/* The same from memory that the caller keeps until onnx_close(). */
int onnx_decode(struct onnx_model *m, const void *bytes, size_t len, const char *name,
                struct diag *why);
void onnx_close(struct onnx_model *m);

/* Tells the kernel that the pages of `t` are not needed in memory for now (they come back
 * from the file by themselves): keeps the peak of loading near the size of the file. */
void onnx_forget(const struct onnx_model *m, const struct onnx_tensor *t);

/* Element `i` of a constant, converted: floats of every width, integers, booleans.  A model
 * holds no other types. */
float onnx_float(const struct onnx_tensor *t, int64_t i);
int64_t onnx_int(const struct onnx_tensor *t, int64_t i);
double onnx_double(const struct onnx_tensor *t, int64_t i);
/* Bytes of one element; 0 for a type that no tensor of a model can have here (string). */
size_t onnx_type_bytes(enum onnx_type t);
bool onnx_type_is_float(enum onnx_type t);

/* NULL when the node has no such attribute of that type. */
const struct onnx_attr *onnx_attr(const struct onnx_node *n, const char *name,
                                  enum onnx_attr_type type);
/* Shorthands with a default. */
int64_t onnx_attr_int(const struct onnx_node *n, const char *name, int64_t otherwise);
float onnx_attr_float(const struct onnx_node *n, const char *name, float otherwise);
const char *onnx_attr_string(const struct onnx_node *n, const char *name, const char *otherwise);

#endif
