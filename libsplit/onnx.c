#include "libsplit/onnx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libsplit/onnx_wire.h"
#include "libsplit/store.h"

int onnx_decode(struct onnx_model *m, const void *bytes, size_t len, const char *name,
                struct diag *why)
{
    struct store *store = NULL;
    struct onnx_model made = { .ninputs = 0 };
    made.file = store_text(&store, name, strlen(name));
    int rc = made.file ? onnx_wire_model(&made, &store, bytes, len, why)
                       : diag(why, -ENOMEM, "%s: out of memory", name);
    if (rc < 0) {
        store_free(&store);
        return rc;
    }
    made.store = store;
    *m = made;
    return 0;
}

int onnx_open(struct onnx_model *m, const char *path, struct diag *why)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return diag(why, -errno, "%s: %s", path, strerror(errno));
    struct stat st;
    uint8_t *map = MAP_FAILED;
    int rc;
    if (fstat(fd, &st) < 0) {
        rc = diag(why, -errno, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        rc = diag(why, -EBADMSG, "%s: not a regular file", path);
    } else if (st.st_size == 0) {
        rc = diag(why, -EBADMSG, "%s: the file is empty, not an ONNX model", path);
    } else {
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        rc = map == MAP_FAILED ? diag(why, -errno, "%s: cannot map: %s", path, strerror(errno))
                               : onnx_decode(m, map, (size_t)st.st_size, path, why);
    }
    close(fd);
    if (rc < 0) {
        if (map != MAP_FAILED)
            munmap(map, (size_t)st.st_size);
        return rc;
    }
    m->map = map;
    m->map_bytes = (size_t)st.st_size;
    return 0;
}

void onnx_close(struct onnx_model *m)
{
    struct store *store = m->store;
    store_free(&store);
    if (m->map)
        munmap((uint8_t *)m->map, m->map_bytes);
    *m = (struct onnx_model){ .ninputs = 0 };
}

void onnx_forget(const struct onnx_model *m, const struct onnx_tensor *t)
{
    const uint8_t *data = t->data;
    if (!m->map || data < m->map || data >= m->map + m->map_bytes)
        return;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE); /* the map begins on a page */
    const size_t at = (size_t)(data - m->map);
    const size_t first = (at + page - 1) / page * page, end = (at + t->bytes) / page * page;
    if (first < end)
        madvise((uint8_t *)m->map + first, end - first, MADV_DONTNEED);
}

size_t onnx_type_bytes(enum onnx_type t)
{
    switch (t) {
    case ONNX_UINT8:
    case ONNX_INT8:
    case ONNX_BOOL:
        return 1;
    case ONNX_UINT16:
    case ONNX_INT16:
    case ONNX_FLOAT16:
    case ONNX_BFLOAT16:
        return 2;
    case ONNX_FLOAT:
    case ONNX_INT32:
    case ONNX_UINT32:
        return 4;
    case ONNX_INT64:
    case ONNX_UINT64:
    case ONNX_DOUBLE:
        return 8;
    case ONNX_NONE:
    case ONNX_STRING:
        break;
    }
    return 0;
}

bool onnx_type_is_float(enum onnx_type t)
{
    return t == ONNX_FLOAT || t == ONNX_DOUBLE || t == ONNX_FLOAT16 || t == ONNX_BFLOAT16;
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754 binary16. */
static float half(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in binary32 */
        const float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000u | fraction << 13);
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* The little-endian unsigned integer of `size` bytes at `p`, which may be unaligned. */
static uint64_t load(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t element(const struct onnx_tensor *t, int64_t i)
{
    const size_t size = onnx_type_bytes(t->type);
    return load((const uint8_t *)t->data + (size_t)i * size, size);
}

double onnx_double(const struct onnx_tensor *t, int64_t i)
{
    const uint64_t v = element(t, i);
    double d;
    switch (t->type) {
    case ONNX_FLOAT:
        return (double)float_of_bits((uint32_t)v);
    case ONNX_FLOAT16:
        return (double)half((uint16_t)v);
    case ONNX_BFLOAT16:
        return (double)float_of_bits((uint32_t)v << 16);
    case ONNX_DOUBLE:
        memcpy(&d, &v, sizeof d);
        return d;
    case ONNX_UINT64:
        return (double)v;
    default:
        return (double)onnx_int(t, i);
    }
}

float onnx_float(const struct onnx_tensor *t, int64_t i)
{
    if (t->type == ONNX_FLOAT) {
        float f;
        memcpy(&f, (const uint8_t *)t->data + (size_t)i * sizeof f, sizeof f);
        return f;
    }
    return (float)onnx_double(t, i);
}

/* Truncates towards zero; what does not fit becomes the nearest int64_t, NaN becomes 0. */
static int64_t int_of_double(double d)
{
    if (d != d)
        return 0;
    if (d >= 0x1p63)
        return INT64_MAX;
    return d <= -0x1p63 ? INT64_MIN : (int64_t)d;
}

int64_t onnx_int(const struct onnx_tensor *t, int64_t i)
{
    if (onnx_type_is_float(t->type))
        return int_of_double(onnx_double(t, i));
    const uint64_t v = element(t, i);
    switch (t->type) {
    case ONNX_INT8:
        return (int8_t)v;
    case ONNX_INT16:
        return (int16_t)v;
    case ONNX_INT32:
        return (int32_t)v;
    case ONNX_BOOL:
        return v != 0;
    case ONNX_UINT64:
        return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    default:
        return (int64_t)v;
    }
}

const struct onnx_attr *onnx_attr(const struct onnx_node *n, const char *name,
                                  enum onnx_attr_type type)
{
    for (int32_t i = 0; i < n->nattrs; i++)
        if (n->attr[i].type == type && strcmp(n->attr[i].name, name) == 0)
            return &n->attr[i];
    return NULL;
}

int64_t onnx_attr_int(const struct onnx_node *n, const char *name, int64_t otherwise)
{
    const struct onnx_attr *a = onnx_attr(n, name, ONNX_ATTR_INT);
    return a ? a->i : otherwise;
}

float onnx_attr_float(const struct onnx_node *n, const char *name, float otherwise)
{
    const struct onnx_attr *a = onnx_attr(n, name, ONNX_ATTR_FLOAT);
    return a ? a->f : otherwise;
}

const char *onnx_attr_string(const struct onnx_node *n, const char *name, const char *otherwise)
{
    const struct onnx_attr *a = onnx_attr(n, name, ONNX_ATTR_STRING);
    return a ? a->s : otherwise;
}
