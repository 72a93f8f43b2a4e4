#include "libsplit/onnx_wire.h"

#include <errno.h>
#include <pb_decode.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx.pb.h"

enum { MAX_ATTRS = 256, MAX_TENSORS = 1 << 16, MAX_VALUES = 1 << 12 };

/* A stretch of the file: one message, string or packed array. */
struct bytes {
    const uint8_t *at;
    size_t len;
};

struct decoder {
    struct onnx_model *m;
    struct store **store;
    struct diag *why;
};

struct field {
    uint32_t tag;
    pb_wire_type_t wire;
    uint64_t number;    /* PB_WT_VARINT, and the bits of PB_WT_32BIT and PB_WT_64BIT */
    struct bytes bytes; /* PB_WT_STRING: strings, messages, packed arrays */
};

static int malformed(struct decoder *d, const char *what)
{
    return diag(d->why, -EBADMSG, "%s: not an ONNX model, or cut off: %s", d->m->file, what);
}

static int out_of_memory(struct decoder *d)
{
    return diag(d->why, -ENOMEM, "%s: out of memory", d->m->file);
}

static pb_istream_t stream_of(struct bytes b) { return pb_istream_from_buffer(b.at, b.len); }

/* Reads the next field of a message.  Returns 1, 0 at the end, or -EBADMSG. */
static int next_field(struct decoder *d, pb_istream_t *s, struct field *f)
{
    bool end;
    *f = (struct field){ .tag = 0 };
    if (!pb_decode_tag(s, &f->wire, &f->tag, &end))
        return end ? 0 : malformed(d, PB_GET_ERROR(s));
    if (f->tag == 0)
        return malformed(d, "a field with number 0");
    bool ok = true;
    uint32_t bits = 0;
    pb_istream_t sub;
    switch (f->wire) {
    case PB_WT_VARINT:
        ok = pb_decode_varint(s, &f->number);
        break;
    case PB_WT_64BIT:
        ok = pb_decode_fixed64(s, &f->number);
        break;
    case PB_WT_32BIT:
        ok = pb_decode_fixed32(s, &bits);
        f->number = bits;
        break;
    case PB_WT_STRING:
        ok = pb_make_string_substream(s, &sub);
        if (ok) {
            f->bytes = (struct bytes){ sub.state, sub.bytes_left };
            ok = pb_close_string_substream(s, &sub);
        }
        break;
    default:
        return malformed(d, "unknown wire type");
    }
    return ok ? 1 : malformed(d, PB_GET_ERROR(s));
}

static int want_wire(struct decoder *d, const struct field *f, pb_wire_type_t wire)
{
    return f->wire == wire ? 0 : malformed(d, "a field has the wrong wire type");
}

/* How many fields `tag` the message has; -EINVAL above `max`. */
static int32_t count_fields(struct decoder *d, struct bytes message, uint32_t tag, int32_t max,
                            const char *what)
{
    pb_istream_t s = stream_of(message);
    struct field f;
    int32_t n = 0;
    int rc;
    while ((rc = next_field(d, &s, &f)) > 0)
        if (f.tag == tag && ++n > max)
            return diag(d->why, -EINVAL, "%s: more than %d %s", d->m->file, max, what);
    return rc < 0 ? rc : n;
}

/* Counts fields `tag` and makes room for that many elements of `size` bytes. */
static int make_array(struct decoder *d, struct bytes message, uint32_t tag, int32_t max,
                      const char *what, size_t size, void *array, int32_t *n)
{
    *n = count_fields(d, message, tag, max, what);
    if (*n < 0)
        return *n;
    void *p = store_array(d->store, (size_t)*n, size);
    if (!p)
        return out_of_memory(d);
    memcpy(array, &p, sizeof p);
    return 0;
}

static int read_text(struct decoder *d, const struct field *f, const char **text)
{
    const int rc = want_wire(d, f, PB_WT_STRING);
    if (rc < 0)
        return rc;
    if (f->bytes.len >= ONNX_MAX_NAME)
        return diag(d->why, -EINVAL, "%s: a name of %zu bytes, at most %d are allowed", d->m->file,
                    f->bytes.len, ONNX_MAX_NAME - 1);
    if (f->bytes.len && memchr(f->bytes.at, 0, f->bytes.len))
        return malformed(d, "a zero byte in a name");
    *text = store_text(d->store, (const char *)f->bytes.at, f->bytes.len);
    return *text ? 0 : out_of_memory(d);
}

/* Elements of a repeated number field: 1, or those of its packed form. */
static int count_elements(struct decoder *d, const struct field *f, pb_wire_type_t wire, int64_t *n)
{
    if (f->wire == wire) {
        *n += 1;
        return 0;
    }
    if (f->wire != PB_WT_STRING)
        return malformed(d, "a field has the wrong wire type");
    if (wire == PB_WT_VARINT) {
        for (size_t i = 0; i < f->bytes.len; i++)
            *n += f->bytes.at[i] < 0x80; /* the last byte of each varint */
        return 0;
    }
    const size_t size = wire == PB_WT_32BIT ? 4 : 8;
    if (f->bytes.len % size)
        return malformed(d, "a packed array has a part of an element");
    *n += (int64_t)(f->bytes.len / size);
    return 0;
}

/* Stores the low `size` bytes of a number. */
static uint8_t *put(uint8_t *to, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *to++ = (uint8_t)(number >> (8 * i));
    return to;
}

/* Appends the elements of `f`, that count_elements() counted, each as `size` bytes. */
static int copy_elements(struct decoder *d, const struct field *f, size_t size, uint8_t **to)
{
    if (f->wire != PB_WT_STRING) {
        *to = put(*to, f->number, size);
        return 0;
    }
    pb_istream_t s = stream_of(f->bytes);
    while (s.bytes_left) {
        uint64_t number;
        if (!pb_decode_varint(&s, &number))
            return malformed(d, PB_GET_ERROR(&s));
        *to = put(*to, number, size);
    }
    return 0;
}

static int copy_fixed(const struct field *f, size_t size, uint8_t **to)
{
    if (f->wire != PB_WT_STRING) {
        *to = put(*to, f->number, size);
    } else if (f->bytes.len) {
        memcpy(*to, f->bytes.at, f->bytes.len);
        *to += f->bytes.len;
    }
    return 0;
}

/* The repeated field that holds the elements of a tensor of `type`, and how they are coded. */
static uint32_t data_field(enum onnx_type type, pb_wire_type_t *wire)
{
    *wire = PB_WT_VARINT;
    switch (type) {
    case ONNX_FLOAT:
        *wire = PB_WT_32BIT;
        return onnx_TensorProto_float_data_tag;
    case ONNX_DOUBLE:
        *wire = PB_WT_64BIT;
        return onnx_TensorProto_double_data_tag;
    case ONNX_INT64:
        return onnx_TensorProto_int64_data_tag;
    case ONNX_UINT32:
    case ONNX_UINT64:
        return onnx_TensorProto_uint64_data_tag;
    default:
        return onnx_TensorProto_int32_data_tag;
    }
}

/* Collects the elements of the repeated field `tag` of a message into t->data.  A packed array
 * of floats or doubles in one piece stays in the file. */
static int gather_elements(struct decoder *d, struct bytes message, uint32_t tag,
                           pb_wire_type_t wire, size_t size, struct onnx_tensor *t)
{
    pb_istream_t s = stream_of(message);
    struct field f, last = { .tag = 0 };
    int64_t n = 0;
    int pieces = 0, rc;
    while ((rc = next_field(d, &s, &f)) > 0) {
        if (f.tag != tag)
            continue;
        if ((rc = count_elements(d, &f, wire, &n)) < 0)
            return rc;
        last = f;
        pieces++;
    }
    if (rc < 0)
        return rc;
    t->bytes = (size_t)n * size;
    if (pieces == 1 && last.wire == PB_WT_STRING && wire != PB_WT_VARINT) {
        t->data = last.bytes.at;
        return 0;
    }
    uint8_t *to = store_array(d->store, (size_t)n, size);
    if (!to)
        return out_of_memory(d);
    t->data = to;
    for (s = stream_of(message); (rc = next_field(d, &s, &f)) > 0;) {
        if (f.tag != tag)
            continue;
        rc = wire == PB_WT_VARINT ? copy_elements(d, &f, size, &to) : copy_fixed(&f, size, &to);
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* Adds the extents of one `dims` field (packed or not) to the tensor. */
static int read_dims(struct decoder *d, const struct field *f, struct onnx_tensor *t)
{
    pb_istream_t s = stream_of(f->bytes);
    if (f->wire != PB_WT_STRING && f->wire != PB_WT_VARINT)
        return malformed(d, "a field has the wrong wire type");
    do {
        uint64_t dim = f->number;
        if (f->wire == PB_WT_STRING) {
            if (!s.bytes_left)
                return 0;
            if (!pb_decode_varint(&s, &dim))
                return malformed(d, PB_GET_ERROR(&s));
        }
        if (t->rank == ONNX_MAX_RANK)
            return diag(d->why, -EINVAL, "%s: constant \"%s\" has more than %d axes", d->m->file,
                        t->name, ONNX_MAX_RANK);
        t->dim[t->rank++] = (int64_t)dim;
    } while (s.bytes_left);
    return 0;
}

static int check_dims(struct decoder *d, struct onnx_tensor *t)
{
    int64_t most = 1; /* as if no extent were 0, so that no part of the product overflows */
    t->count = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        if (t->dim[i] < 0 || t->dim[i] > INT32_MAX)
            return diag(d->why, -EINVAL, "%s: constant \"%s\" has extent %lld on axis %d",
                        d->m->file, t->name, (long long)t->dim[i], i);
        t->count *= t->dim[i];
        most *= t->dim[i] ? t->dim[i] : 1;
        if (most > INT32_MAX)
            return diag(d->why, -EINVAL, "%s: constant \"%s\" has more than %d values", d->m->file,
                        t->name, INT32_MAX);
    }
    return 0;
}

static int check_data(struct decoder *d, const struct onnx_tensor *t)
{
    const size_t want = (size_t)t->count * onnx_type_bytes(t->type);
    if (t->bytes == want)
        return 0;
    return diag(d->why, -EINVAL,
                "%s: constant \"%s\" holds %zu bytes of data, but its shape takes %zu", d->m->file,
                t->name, t->bytes, want);
}

static int decode_tensor(struct decoder *d, struct bytes message, struct onnx_tensor *t)
{
    pb_istream_t s = stream_of(message);
    struct field f;
    bool raw = false, external = false;
    uint64_t type = 0;
    int rc;
    *t = (struct onnx_tensor){ .name = "" };
    while ((rc = next_field(d, &s, &f)) > 0) {
        rc = 0;
        switch (f.tag) {
        case onnx_TensorProto_name_tag:
            rc = read_text(d, &f, &t->name);
            break;
        case onnx_TensorProto_dims_tag:
            rc = read_dims(d, &f, t);
            break;
        case onnx_TensorProto_data_type_tag:
            type = f.number;
            break;
        case onnx_TensorProto_data_location_tag:
            external |= f.number != 0;
            break;
        case onnx_TensorProto_external_data_tag:
            external = true;
            break;
        case onnx_TensorProto_raw_data_tag:
            rc = want_wire(d, &f, PB_WT_STRING);
            raw = true;
            t->data = f.bytes.at;
            t->bytes = f.bytes.len;
            break;
        default:
            break;
        }
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return rc;
    if (external)
        return diag(d->why, -EINVAL,
                    "%s: constant \"%s\" lies in another file (external data); save the model "
                    "as one file",
                    d->m->file, t->name);
    t->type = type <= ONNX_BFLOAT16 ? (enum onnx_type)type : ONNX_NONE;
    if (!onnx_type_bytes(t->type))
        return diag(d->why, -EINVAL,
                    "%s: constant \"%s\" has data type %llu; numbers and booleans are allowed",
                    d->m->file, t->name, (unsigned long long)type);
    if ((rc = check_dims(d, t)) < 0)
        return rc;
    if (!raw) {
        pb_wire_type_t wire;
        const uint32_t tag = data_field(t->type, &wire);
        rc = gather_elements(d, message, tag, wire, onnx_type_bytes(t->type), t);
        if (rc < 0)
            return rc;
    }
    if (!t->data)
        t->data = "";
    return check_data(d, t);
}

/* Files older than IR version 2 do not say the type of an attribute: the field that is there
 * does. */
static enum onnx_attr_type type_of_field(uint32_t tag)
{
    switch (tag) {
    case onnx_AttributeProto_f_tag:
        return ONNX_ATTR_FLOAT;
    case onnx_AttributeProto_i_tag:
        return ONNX_ATTR_INT;
    case onnx_AttributeProto_s_tag:
        return ONNX_ATTR_STRING;
    case onnx_AttributeProto_t_tag:
        return ONNX_ATTR_TENSOR;
    case onnx_AttributeProto_floats_tag:
        return ONNX_ATTR_FLOATS;
    case onnx_AttributeProto_ints_tag:
        return ONNX_ATTR_INTS;
    default:
        return ONNX_ATTR_OTHER;
    }
}

static enum onnx_attr_type type_of_number(uint64_t number)
{
    switch (number) {
    case onnx_AttributeProto_AttributeType_FLOAT:
        return ONNX_ATTR_FLOAT;
    case onnx_AttributeProto_AttributeType_INT:
        return ONNX_ATTR_INT;
    case onnx_AttributeProto_AttributeType_STRING:
        return ONNX_ATTR_STRING;
    case onnx_AttributeProto_AttributeType_TENSOR:
        return ONNX_ATTR_TENSOR;
    case onnx_AttributeProto_AttributeType_FLOATS:
        return ONNX_ATTR_FLOATS;
    case onnx_AttributeProto_AttributeType_INTS:
        return ONNX_ATTR_INTS;
    default:
        return ONNX_ATTR_OTHER;
    }
}

static int read_tensor_attr(struct decoder *d, const struct field *f, struct onnx_attr *a)
{
    const int rc = want_wire(d, f, PB_WT_STRING);
    if (rc < 0)
        return rc;
    a->t = store_array(d->store, 1, sizeof *a->t);
    return a->t ? decode_tensor(d, f->bytes, a->t) : out_of_memory(d);
}

static int read_float_attr(struct decoder *d, const struct field *f, struct onnx_attr *a)
{
    const uint32_t bits = (uint32_t)f->number;
    memcpy(&a->f, &bits, sizeof a->f);
    return want_wire(d, f, PB_WT_32BIT);
}

/* The array of a FLOATS or INTS attribute, copied because the file aligns nothing. */
static int read_array_attr(struct decoder *d, struct bytes message, struct onnx_attr *a)
{
    const bool ints = a->type == ONNX_ATTR_INTS;
    const size_t size = ints ? sizeof *a->ints : sizeof *a->floats;
    struct onnx_tensor t = { .data = NULL };
    int rc = gather_elements(d, message,
                             ints ? onnx_AttributeProto_ints_tag : onnx_AttributeProto_floats_tag,
                             ints ? PB_WT_VARINT : PB_WT_32BIT, size, &t);
    if (rc < 0)
        return rc;
    if (t.bytes / size > INT32_MAX)
        return malformed(d, "an attribute of more than 2^31 elements");
    void *copy = store_array(d->store, t.bytes, 1);
    if (!copy)
        return out_of_memory(d);
    if (t.bytes)
        memcpy(copy, t.data, t.bytes);
    a->n = (int32_t)(t.bytes / size);
    if (ints)
        a->ints = copy;
    else
        a->floats = copy;
    return 0;
}

static int decode_attr(struct decoder *d, struct bytes message, struct onnx_attr *a)
{
    pb_istream_t s = stream_of(message);
    struct field f;
    enum onnx_attr_type declared = ONNX_ATTR_OTHER, found = ONNX_ATTR_OTHER;
    bool typed = false;
    int rc;
    *a = (struct onnx_attr){ .name = "", .s = "" };
    while ((rc = next_field(d, &s, &f)) > 0) {
        rc = 0;
        if (type_of_field(f.tag) != ONNX_ATTR_OTHER)
            found = type_of_field(f.tag);
        switch (f.tag) {
        case onnx_AttributeProto_name_tag:
            rc = read_text(d, &f, &a->name);
            break;
        case onnx_AttributeProto_f_tag:
            rc = read_float_attr(d, &f, a);
            break;
        case onnx_AttributeProto_i_tag:
            rc = want_wire(d, &f, PB_WT_VARINT);
            a->i = (int64_t)f.number;
            break;
        case onnx_AttributeProto_s_tag:
            rc = read_text(d, &f, &a->s);
            break;
        case onnx_AttributeProto_t_tag:
            rc = read_tensor_attr(d, &f, a);
            break;
        case onnx_AttributeProto_type_tag:
            declared = type_of_number(f.number);
            typed = true;
            break;
        default:
            break;
        }
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return rc;
    a->type = typed ? declared : found;
    if (a->type == ONNX_ATTR_TENSOR && !a->t)
        return malformed(d, "an attribute without its tensor");
    if (a->type == ONNX_ATTR_INTS || a->type == ONNX_ATTR_FLOATS)
        return read_array_attr(d, message, a);
    return 0;
}

/* A node without a name is called after its operator and place. */
static int name_node(struct decoder *d, struct onnx_node *n, int32_t index)
{
    if (n->name[0])
        return 0;
    const size_t cap = strlen(n->op_type) + 16;
    char *name = store_array(d->store, cap, 1);
    if (!name)
        return out_of_memory(d);
    snprintf(name, cap, "%s_%d", n->op_type, index);
    n->name = name;
    return 0;
}

static int decode_node(struct decoder *d, struct bytes message, int32_t index, struct onnx_node *n)
{
    int32_t in = 0, out = 0, attrs = 0;
    int rc = make_array(d, message, onnx_NodeProto_input_tag, ONNX_MAX_NODE_IO, "inputs of a node",
                        sizeof *n->input, &n->input, &n->ninputs);
    if (rc == 0)
        rc = make_array(d, message, onnx_NodeProto_output_tag, ONNX_MAX_NODE_IO,
                        "outputs of a node", sizeof *n->output, &n->output, &n->noutputs);
    if (rc == 0)
        rc = make_array(d, message, onnx_NodeProto_attribute_tag, MAX_ATTRS, "attributes of a node",
                        sizeof *n->attr, &n->attr, &n->nattrs);
    if (rc < 0)
        return rc;
    n->name = n->op_type = n->domain = "";
    pb_istream_t s = stream_of(message);
    struct field f;
    while ((rc = next_field(d, &s, &f)) > 0) {
        rc = 0;
        switch (f.tag) {
        case onnx_NodeProto_input_tag:
            rc = read_text(d, &f, &n->input[in++]);
            break;
        case onnx_NodeProto_output_tag:
            rc = read_text(d, &f, &n->output[out++]);
            break;
        case onnx_NodeProto_name_tag:
            rc = read_text(d, &f, &n->name);
            break;
        case onnx_NodeProto_op_type_tag:
            rc = read_text(d, &f, &n->op_type);
            break;
        case onnx_NodeProto_domain_tag:
            rc = read_text(d, &f, &n->domain);
            break;
        case onnx_NodeProto_attribute_tag:
            rc = want_wire(d, &f, PB_WT_STRING);
            if (rc == 0)
                rc = decode_attr(d, f.bytes, &n->attr[attrs++]);
            break;
        default:
            break;
        }
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? rc : name_node(d, n, index);
}

/* One extent of a declared shape; the last of the oneof's fields counts. */
static int decode_dim(struct decoder *d, struct bytes message, struct onnx_value *v)
{
    pb_istream_t s = stream_of(message);
    struct field f;
    int rc;
    if (v->rank == ONNX_MAX_RANK)
        return diag(d->why, -EINVAL, "%s: \"%s\" has more than %d axes", d->m->file, v->name,
                    ONNX_MAX_RANK);
    int64_t dim = -1;
    const char *symbol = "";
    while ((rc = next_field(d, &s, &f)) > 0) {
        if (f.tag == onnx_TensorShapeProto_Dimension_dim_value_tag)
            dim = (int64_t)f.number;
        if (f.tag == onnx_TensorShapeProto_Dimension_dim_param_tag &&
            (rc = read_text(d, &f, &symbol)) < 0)
            return rc;
    }
    if (rc < 0)
        return rc;
    if (dim > INT32_MAX)
        return diag(d->why, -EINVAL, "%s: \"%s\" has extent %lld on axis %d", d->m->file, v->name,
                    (long long)dim, v->rank);
    /* Some exporters write 0 or -1 for an extent that they leave open. */
    v->dim[v->rank] = dim <= 0 ? -1 : dim;
    v->symbol[v->rank++] = symbol;
    return 0;
}

/* Reads one field of a message into a value. */
typedef int (*take_field)(struct decoder *d, const struct field *f, struct onnx_value *v);

static int take_fields(struct decoder *d, struct bytes message, take_field take,
                       struct onnx_value *v)
{
    pb_istream_t s = stream_of(message);
    struct field f;
    int rc;
    while ((rc = next_field(d, &s, &f)) > 0)
        if ((rc = take(d, &f, v)) < 0)
            return rc;
    return rc;
}

/* The fields of the message that `f` is. */
static int take_inner(struct decoder *d, const struct field *f, take_field take,
                      struct onnx_value *v)
{
    const int rc = want_wire(d, f, PB_WT_STRING);
    return rc < 0 ? rc : take_fields(d, f->bytes, take, v);
}

static int take_shape(struct decoder *d, const struct field *f, struct onnx_value *v)
{
    if (f->tag != onnx_TensorShapeProto_dim_tag)
        return 0;
    const int rc = want_wire(d, f, PB_WT_STRING);
    return rc < 0 ? rc : decode_dim(d, f->bytes, v);
}

static int take_tensor_type(struct decoder *d, const struct field *f, struct onnx_value *v)
{
    if (f->tag == onnx_TypeProto_Tensor_elem_type_tag)
        v->type = f->number <= ONNX_BFLOAT16 ? (enum onnx_type)f->number : ONNX_NONE;
    if (f->tag != onnx_TypeProto_Tensor_shape_tag)
        return 0;
    v->rank = 0;
    return take_inner(d, f, take_shape, v);
}

/* A type that is no tensor (sequence, map...) leaves ONNX_NONE. */
static int take_type(struct decoder *d, const struct field *f, struct onnx_value *v)
{
    return f->tag == onnx_TypeProto_tensor_type_tag ? take_inner(d, f, take_tensor_type, v) : 0;
}

static int take_value(struct decoder *d, const struct field *f, struct onnx_value *v)
{
    if (f->tag == onnx_ValueInfoProto_name_tag)
        return read_text(d, f, &v->name);
    return f->tag == onnx_ValueInfoProto_type_tag ? take_inner(d, f, take_type, v) : 0;
}

static int decode_value(struct decoder *d, struct bytes message, struct onnx_value *v)
{
    *v = (struct onnx_value){ .name = "", .rank = -1 };
    return take_fields(d, message, take_value, v);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Until IR version 4 every initializer was listed as an input too. */
static int drop_initialized_inputs(struct decoder *d, struct onnx_model *m)
{
    const char **name = store_array(d->store, (size_t)m->ntensors, sizeof *name);
    if (!name)
        return out_of_memory(d);
    for (int32_t i = 0; i < m->ntensors; i++)
        name[i] = m->tensor[i].name;
    qsort(name, (size_t)m->ntensors, sizeof *name, by_name);
    int32_t kept = 0;
    for (int32_t i = 0; i < m->ninputs; i++)
        if (!bsearch(&m->input[i].name, name, (size_t)m->ntensors, sizeof *name, by_name))
            m->input[kept++] = m->input[i];
    m->ninputs = kept;
    return 0;
}

static int make_graph_arrays(struct decoder *d, struct bytes message, struct onnx_model *m)
{
    int rc = make_array(d, message, onnx_GraphProto_node_tag, ONNX_MAX_NODES, "nodes",
                        sizeof *m->node, &m->node, &m->nnodes);
    if (rc == 0)
        rc = make_array(d, message, onnx_GraphProto_initializer_tag, MAX_TENSORS, "initializers",
                        sizeof *m->tensor, &m->tensor, &m->ntensors);
    if (rc == 0)
        rc = make_array(d, message, onnx_GraphProto_input_tag, MAX_TENSORS, "inputs",
                        sizeof *m->input, &m->input, &m->ninputs);
    if (rc == 0)
        rc = make_array(d, message, onnx_GraphProto_output_tag, MAX_VALUES, "outputs",
                        sizeof *m->output, &m->output, &m->noutputs);
    return rc;
}

static int decode_graph(struct decoder *d, struct bytes message)
{
    struct onnx_model *m = d->m;
    int rc = make_graph_arrays(d, message, m);
    if (rc < 0)
        return rc;
    int32_t node = 0, tensor = 0, input = 0, output = 0;
    pb_istream_t s = stream_of(message);
    struct field f;
    while ((rc = next_field(d, &s, &f)) > 0) {
        switch (f.tag) {
        case onnx_GraphProto_node_tag:
        case onnx_GraphProto_initializer_tag:
        case onnx_GraphProto_input_tag:
        case onnx_GraphProto_output_tag:
            rc = want_wire(d, &f, PB_WT_STRING);
            break;
        case onnx_GraphProto_sparse_initializer_tag:
            return diag(d->why, -EINVAL, "%s: sparse weights are not supported", m->file);
        default:
            continue;
        }
        if (rc < 0)
            return rc;
        if (f.tag == onnx_GraphProto_node_tag) {
            rc = decode_node(d, f.bytes, node, &m->node[node]);
            node++;
        } else if (f.tag == onnx_GraphProto_initializer_tag) {
            rc = decode_tensor(d, f.bytes, &m->tensor[tensor++]);
        } else if (f.tag == onnx_GraphProto_input_tag) {
            rc = decode_value(d, f.bytes, &m->input[input++]);
        } else {
            rc = decode_value(d, f.bytes, &m->output[output++]);
        }
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? rc : drop_initialized_inputs(d, m);
}

static int decode_opset(struct decoder *d, struct bytes message)
{
    pb_istream_t s = stream_of(message);
    struct field f;
    const char *domain = "";
    int64_t version = 0;
    int rc;
    while ((rc = next_field(d, &s, &f)) > 0) {
        if (f.tag == onnx_OperatorSetIdProto_version_tag)
            version = (int64_t)f.number;
        if (f.tag == onnx_OperatorSetIdProto_domain_tag && (rc = read_text(d, &f, &domain)) < 0)
            return rc;
    }
    if (rc == 0 && (strcmp(domain, "") == 0 || strcmp(domain, "ai.onnx") == 0))
        d->m->opset = version;
    return rc;
}

int onnx_wire_model(struct onnx_model *m, struct store **store, const void *bytes, size_t len,
                    struct diag *why)
{
    struct decoder d = { m, store, why };
    struct bytes graph = { NULL, 0 };
    pb_istream_t s = stream_of((struct bytes){ bytes, len });
    struct field f;
    int rc;
    if (len == 0)
        return diag(why, -EBADMSG, "%s: the file is empty, not an ONNX model", m->file);
    while ((rc = next_field(&d, &s, &f)) > 0) {
        rc = 0;
        switch (f.tag) {
        case onnx_ModelProto_ir_version_tag:
            m->ir_version = (int64_t)f.number;
            break;
        case onnx_ModelProto_graph_tag:
            rc = want_wire(&d, &f, PB_WT_STRING);
            graph = f.bytes;
            break;
        case onnx_ModelProto_opset_import_tag:
            rc = want_wire(&d, &f, PB_WT_STRING);
            if (rc == 0)
                rc = decode_opset(&d, f.bytes);
            break;
        default:
            break;
        }
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return rc;
    if (!graph.at)
        return malformed(&d, "it holds no graph");
    if (!m->opset)
        return malformed(&d, "it does not say which operator set it uses");
    return decode_graph(&d, graph);
}

int onnx_wire_tensor(struct onnx_tensor *t, struct store **store, const void *bytes, size_t len,
                     const char *file, struct diag *why)
{
    struct onnx_model m = { .file = file };
    struct decoder d = { &m, store, why };
    return decode_tensor(&d, (struct bytes){ bytes, len }, t);
}
