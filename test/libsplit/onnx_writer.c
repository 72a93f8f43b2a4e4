#include "onnx_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append(struct writer *w, const void *bytes, size_t len)
{
    if (w->len + len > w->cap) {
        w->cap = 2 * (w->len + len) + 64;
        w->bytes = realloc(w->bytes, w->cap);
        if (!w->bytes)
            abort();
    }
    if (len)
        memcpy(w->bytes + w->len, bytes, len);
    w->len += len;
}

static void append_varint(struct writer *w, uint64_t v)
{
    do {
        const uint8_t b = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        append(w, &b, 1);
        v >>= 7;
    } while (v);
}

void writer_done(struct writer *w)
{
    free(w->bytes);
    *w = (struct writer){ .len = 0 };
}

void put_number(struct writer *w, uint32_t field, uint64_t v)
{
    append_varint(w, (uint64_t)field << 3);
    append_varint(w, v);
}

void put_float(struct writer *w, uint32_t field, float v)
{
    append_varint(w, (uint64_t)field << 3 | 5);
    append(w, &v, sizeof v);
}

void put_bytes(struct writer *w, uint32_t field, const void *bytes, size_t len)
{
    append_varint(w, (uint64_t)field << 3 | 2);
    append_varint(w, len);
    append(w, bytes, len);
}

void put_text(struct writer *w, uint32_t field, const char *text)
{
    put_bytes(w, field, text, strlen(text));
}

void put_message(struct writer *w, uint32_t field, struct writer *inner)
{
    put_bytes(w, field, inner->bytes, inner->len);
    writer_done(inner);
}

struct writer tensor_proto(const char *name, enum onnx_type type, int32_t rank, const int64_t *dim,
                           const void *data, size_t bytes)
{
    struct writer t = { .len = 0 };
    for (int32_t i = 0; i < rank; i++)
        put_number(&t, 1, (uint64_t)dim[i]);
    put_number(&t, 2, (uint64_t)type);
    put_text(&t, 8, name);
    put_bytes(&t, 9, data, bytes);
    return t;
}

void model_begin(struct model_writer *m, int64_t opset)
{
    *m = (struct model_writer){ .opset = opset };
}

static void put_value(struct model_writer *m, uint32_t field, const char *name, int32_t rank,
                      const int64_t *dim)
{
    struct writer value = { .len = 0 }, type = { .len = 0 }, tensor = { .len = 0 };
    put_text(&value, 1, name);
    put_number(&tensor, 1, ONNX_FLOAT);
    if (rank >= 0) {
        struct writer shape = { .len = 0 };
        for (int32_t i = 0; i < rank; i++) {
            struct writer extent = { .len = 0 };
            if (dim[i] < 0)
                put_text(&extent, 2, "n");
            else
                put_number(&extent, 1, (uint64_t)dim[i]);
            put_message(&shape, 1, &extent);
        }
        put_message(&tensor, 2, &shape);
    }
    put_message(&type, 1, &tensor);
    put_message(&value, 2, &type);
    put_message(&m->graph, field, &value);
}

void model_input(struct model_writer *m, const char *name, int32_t rank, const int64_t *dim)
{
    put_value(m, 11, name, rank, dim);
}

void model_output(struct model_writer *m, const char *name) { put_value(m, 12, name, -1, NULL); }

static int64_t product(int32_t rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int32_t i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

void model_floats(struct model_writer *m, const char *name, int32_t rank, const int64_t *dim,
                  const float *data)
{
    const size_t bytes = (size_t)product(rank, dim) * sizeof *data;
    struct writer t = tensor_proto(name, ONNX_FLOAT, rank, dim, data, bytes);
    put_message(&m->graph, 5, &t);
}

void model_weights(struct model_writer *m, const char *name, int32_t rank, const int64_t *dim)
{
    const int64_t n = product(rank, dim);
    float *data = calloc((size_t)n + 1, sizeof *data);
    if (!data)
        abort();
    for (int64_t i = 0; i < n; i++)
        data[i] = 0.01f * (float)(i + 1);
    model_floats(m, name, rank, dim, data);
    free(data);
}

void model_ints(struct model_writer *m, const char *name, int32_t n, const int64_t *data)
{
    const int64_t dim = n;
    struct writer t = tensor_proto(name, ONNX_INT64, 1, &dim, data, (size_t)n * sizeof *data);
    put_message(&m->graph, 5, &t);
}

static void end_node(struct model_writer *m)
{
    if (m->open)
        put_message(&m->graph, 1, &m->node);
    m->open = false;
}

/* Each word of `names` as a field; "-" as an empty one.  Returns the first word's length. */
static size_t put_words(struct writer *w, uint32_t field, const char *names)
{
    const size_t first = strcspn(names, " ");
    while (*names) {
        const size_t len = strcspn(names, " ");
        const bool none = len == 1 && names[0] == '-';
        put_bytes(w, field, names, none ? 0 : len);
        names += len + (names[len] == ' ');
    }
    return first;
}

void model_node(struct model_writer *m, const char *op, const char *inputs, const char *outputs)
{
    end_node(m);
    m->open = true;
    put_words(&m->node, 1, inputs);
    const size_t first = put_words(&m->node, 2, outputs);
    put_bytes(&m->node, 3, outputs, first);
    put_text(&m->node, 4, op);
}

static struct writer attr_begin(const char *name, uint64_t type)
{
    struct writer a = { .len = 0 };
    put_text(&a, 1, name);
    put_number(&a, 20, type);
    return a;
}

void attr_int(struct model_writer *m, const char *name, int64_t v)
{
    struct writer a = attr_begin(name, ONNX_ATTR_INT);
    put_number(&a, 3, (uint64_t)v);
    put_message(&m->node, 5, &a);
}

void attr_float(struct model_writer *m, const char *name, float v)
{
    struct writer a = attr_begin(name, ONNX_ATTR_FLOAT);
    put_float(&a, 2, v);
    put_message(&m->node, 5, &a);
}

void attr_text(struct model_writer *m, const char *name, const char *v)
{
    struct writer a = attr_begin(name, ONNX_ATTR_STRING);
    put_text(&a, 4, v);
    put_message(&m->node, 5, &a);
}

void attr_ints(struct model_writer *m, const char *name, int32_t n, const int64_t *v)
{
    struct writer a = attr_begin(name, ONNX_ATTR_INTS);
    for (int32_t i = 0; i < n; i++)
        put_number(&a, 8, (uint64_t)v[i]);
    put_message(&m->node, 5, &a);
}

void model_end(struct model_writer *m)
{
    struct writer file = { .len = 0 }, opset = { .len = 0 };
    end_node(m);
    put_number(&file, 1, 8);
    put_message(&file, 7, &m->graph);
    put_text(&opset, 1, "");
    put_number(&opset, 2, (uint64_t)m->opset);
    put_message(&file, 8, &opset); /* last: a file that is cut off anywhere lacks it */
    m->file = file.bytes;
    m->len = file.len;
}

void model_free(struct model_writer *m)
{
    free(m->file);
    m->file = NULL;
}

int model_build(struct model_writer *m, struct onnx_model *o, struct graph *g, struct diag *why)
{
    model_end(m);
    int rc = onnx_decode(o, m->file, m->len, "net.onnx", why);
    if (rc == 0 && (rc = graph_build(g, o, NULL, 0, why)) < 0)
        onnx_close(o);
    return rc;
}
