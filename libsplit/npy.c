/* The format: numpy/lib/format.py and NEP 1.  A magic word, a version, the length of a
 * header, the header, the values.  The header is a Python literal,
 *
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 8, 8), }
 *
 * padded with spaces and a newline. */
#include "libsplit/npy.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/file.h"

enum { MAX_FILE_BYTES = 1 << 30, MAX_HEADER_BYTES = 64 << 10, PREFIX_BYTES = 10, ALIGN = 64 };

static const char magic[6] = { '\x93', 'N', 'U', 'M', 'P', 'Y' };

/* ---- element types */

static float from_f4(const uint8_t *p)
{
    uint32_t bits;
    float x;

    memcpy(&bits, p, sizeof bits);
    bits = le32toh(bits);
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t bits;

    memcpy(&bits, p, sizeof bits);
    return le64toh(bits);
}

static float from_f8(const uint8_t *p)
{
    const uint64_t bits = load_u64(p);
    double x;

    memcpy(&x, &bits, sizeof x);
    return (float)x;
}

static float from_u1(const uint8_t *p) { return (float)*p; }

static float from_i4(const uint8_t *p)
{
    uint32_t bits;

    memcpy(&bits, p, sizeof bits);
    return (float)(int32_t)le32toh(bits);
}

static float from_i8(const uint8_t *p) { return (float)(int64_t)load_u64(p); }

struct type {
    const char *name;
    size_t bytes;
    float (*load)(const uint8_t *p);
};

static const struct type types[] = {
    { "<f4", 4, from_f4 }, { "<f8", 8, from_f8 }, { "|u1", 1, from_u1 },
    { "<i4", 4, from_i4 }, { "<i8", 8, from_i8 },
};

static const struct type *find_type(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (len == strlen(types[i].name) && memcmp(name, types[i].name, len) == 0)
            return &types[i];
    return NULL;
}

/* ---- header */

/* What is left of the header; every step stays before `end`. */
struct cursor {
    const char *at, *end;
};

struct header {
    const struct type *type;
    bool has_shape, has_order, fortran;
    int32_t rank;
    int32_t dim[SHAPE_MAX_RANK];
    int64_t count;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && isspace((unsigned char)*c->at))
        c->at++;
}

/* Takes `sign` if it comes next. */
static bool take(struct cursor *c, char sign)
{
    skip_space(c);
    if (c->at == c->end || *c->at != sign)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    const size_t n = strlen(word);

    skip_space(c);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0)
        return false;
    c->at += n;
    return true;
}

/* A string in either quotes, without escapes: no key and no type has one. */
static bool take_string(struct cursor *c, const char **text, size_t *len)
{
    char quote = '\'';

    if (!take(c, quote)) {
        quote = '"';
        if (!take(c, quote))
            return false;
    }
    const char *stop = memchr(c->at, quote, (size_t)(c->end - c->at));
    if (!stop)
        return false;
    *text = c->at;
    *len = (size_t)(stop - c->at);
    c->at = stop + 1;
    return true;
}

/* A whole number up to BOX_MAX_EXTENT; false for anything else. */
static bool take_extent(struct cursor *c, int32_t *n)
{
    int64_t x = 0;

    skip_space(c);
    if (c->at == c->end || !isdigit((unsigned char)*c->at))
        return false;
    for (; c->at < c->end && isdigit((unsigned char)*c->at); c->at++) {
        x = 10 * x + (*c->at - '0');
        if (x > BOX_MAX_EXTENT)
            return false;
    }
    *n = (int32_t)x;
    return true;
}

static int read_shape(struct header *h, struct cursor *c, const char *name, struct diag *why)
{
    bool comma = true;

    if (!take(c, '('))
        return diag(why, -EINVAL, "%s: header: shape: expected a tuple of extents", name);
    h->count = 1;
    h->rank = 0;
    while (!take(c, ')')) {
        if (!comma || h->rank == SHAPE_MAX_RANK || !take_extent(c, &h->dim[h->rank]))
            return diag(why, -EINVAL,
                        "%s: header: shape: expected up to %d extents of 0 to %d at dimension %d",
                        name, SHAPE_MAX_RANK, BOX_MAX_EXTENT, h->rank);
        h->count *= h->dim[h->rank++];
        if (h->count > BOX_MAX_VALUES)
            return diag(why, -EINVAL,
                        "%s: header: shape: more than the %lld values that are allowed", name,
                        (long long)BOX_MAX_VALUES);
        comma = take(c, ',');
    }
    h->has_shape = true;
    return 0;
}

static int read_order(struct header *h, struct cursor *c, const char *name, struct diag *why)
{
    h->fortran = take_word(c, "True");
    if (!h->fortran && !take_word(c, "False"))
        return diag(why, -EINVAL, "%s: header: fortran_order: expected True or False", name);
    h->has_order = true;
    return 0;
}

static int read_type(struct header *h, struct cursor *c, const char *name, struct diag *why)
{
    const char *text = "";
    size_t len = 0;

    if (take_string(c, &text, &len))
        h->type = find_type(text, len);
    if (!h->type)
        return diag(why, -EINVAL,
                    "%s: header: values of type \"%.*s\"; <f4, <f8, |u1, <i4 and <i8 are allowed",
                    name, (int)(len < 16 ? len : 16), text);
    return 0;
}

static const struct field {
    const char *name;
    int (*read)(struct header *h, struct cursor *c, const char *name, struct diag *why);
} fields[] = {
    { "descr", read_type },
    { "fortran_order", read_order },
    { "shape", read_shape },
};
enum { NFIELDS = sizeof fields / sizeof fields[0] };

static const struct field *take_field(struct cursor *c)
{
    const char *key;
    size_t len;

    if (!take_string(c, &key, &len) || !take(c, ':'))
        return NULL;
    for (int i = 0; i < NFIELDS; i++)
        if (len == strlen(fields[i].name) && memcmp(key, fields[i].name, len) == 0)
            return &fields[i];
    return NULL;
}

static int read_header(struct header *h, struct cursor c, const char *name, struct diag *why)
{
    bool seen[NFIELDS] = { false };
    bool comma = true;

    *h = (struct header){ 0 };
    if (!take(&c, '{'))
        return diag(why, -EINVAL, "%s: header: expected a dictionary", name);
    while (!take(&c, '}')) {
        const struct field *f = comma ? take_field(&c) : NULL;
        if (!f || seen[f - fields])
            return diag(why, -EINVAL,
                        "%s: header: expected 'descr', 'fortran_order' and 'shape', once each",
                        name);
        seen[f - fields] = true;
        int rc = f->read(h, &c, name, why);
        if (rc < 0)
            return rc;
        comma = take(&c, ',');
    }
    skip_space(&c);
    if (c.at != c.end)
        return diag(why, -EINVAL, "%s: header: more text after the dictionary", name);
    if (!h->type || !h->has_order || !h->has_shape)
        return diag(why, -EINVAL, "%s: header: 'descr', 'fortran_order' or 'shape' is missing",
                    name);
    if (h->fortran && h->rank > 1)
        return diag(why, -EINVAL, "%s: values in Fortran order; save numpy.ascontiguousarray(a)",
                    name);
    return 0;
}

/* Finds the header: c->at..c->end, the values begin at c->end. */
static int find_header(struct cursor *c, const uint8_t *bytes, size_t len, const char *name,
                       struct diag *why)
{
    if (len < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)
        return diag(why, -EINVAL, "%s: not a .npy file", name);
    if (len < PREFIX_BYTES + 2)
        return diag(why, -EINVAL, "%s: cut off after %zu bytes", name, len);

    const int version = bytes[6];
    if (version < 1 || version > 3)
        return diag(why, -EINVAL, "%s: .npy version %d; 1 to 3 are allowed", name, version);

    /* Version 1 has two bytes for the length of the header, the later ones four. */
    size_t n = bytes[8] | (size_t)bytes[9] << 8, start = PREFIX_BYTES;
    if (version > 1) {
        n |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
        start += 2;
    }
    if (n > MAX_HEADER_BYTES)
        return diag(why, -EINVAL, "%s: a header of %zu bytes; up to %d are allowed", name, n,
                    MAX_HEADER_BYTES);
    if (n > len - start)
        return diag(why, -EINVAL, "%s: cut off inside the header", name);
    c->at = (const char *)bytes + start;
    c->end = c->at + n;
    return 0;
}

int npy_parse(struct npy *a, const uint8_t *bytes, size_t len, const char *name, struct diag *why)
{
    struct cursor c = { NULL, NULL };
    struct header h = { .type = NULL };

    int rc = find_header(&c, bytes, len, name, why);
    if (rc < 0)
        return rc;
    rc = read_header(&h, c, name, why);
    if (rc < 0)
        return rc;

    const uint8_t *p = (const uint8_t *)c.end;
    const size_t have = len - (size_t)(p - bytes), count = (size_t)h.count;
    if (have != count * h.type->bytes)
        return diag(why, -EINVAL, "%s: %zu bytes of values, but the shape needs %zu", name, have,
                    count * h.type->bytes);

    float *values = malloc(count > 0 ? count * sizeof *values : 1);
    if (!values)
        return diag(why, -ENOMEM, "%s: out of memory for %zu values", name, count);
    for (size_t i = 0; i < count; i++)
        values[i] = h.type->load(p + i * h.type->bytes);

    *a = (struct npy){ .rank = h.rank, .count = h.count, .values = values };
    memcpy(a->dim, h.dim, sizeof a->dim);
    return 0;
}

int npy_load(struct npy *a, const char *file, struct diag *why)
{
    uint8_t *bytes;
    size_t len;

    int rc = file_read(file, MAX_FILE_BYTES, &bytes, &len, why);
    if (rc < 0)
        return rc;
    rc = npy_parse(a, bytes, len, file, why);
    free(bytes);
    return rc;
}

void npy_done(struct npy *a)
{
    free(a->values);
    *a = (struct npy){ 0 };
}

/* ---- writing */

/* The prefix and header for `dim`, padded so that the values are aligned.  Returns its
 * length. */
static size_t make_header(char *to, size_t room, int32_t rank, const int32_t *dim)
{
    int n = snprintf(to, room, "%.6s%c%c__{'descr': '<f4', 'fortran_order': False, 'shape': (",
                     magic, 1, 0);

    for (int32_t i = 0; i < rank; i++)
        n += snprintf(to + n, room - (size_t)n, i > 0 ? ", %d" : "%d", dim[i]);
    n += snprintf(to + n, room - (size_t)n, rank == 1 ? ",), }" : "), }");

    const size_t len = ((size_t)n + ALIGN) / ALIGN * ALIGN; /* with the newline */
    memset(to + n, ' ', len - (size_t)n);
    to[len - 1] = '\n';
    to[8] = (char)((len - PREFIX_BYTES) & 0xff);
    to[9] = (char)((len - PREFIX_BYTES) >> 8);
    return len;
}

static int64_t count_values(int32_t rank, const int32_t *dim)
{
    int64_t count = 1;

    if (rank < 0 || rank > SHAPE_MAX_RANK)
        return -1;
    for (int32_t i = 0; i < rank; i++) {
        if (dim[i] < 0 || dim[i] > BOX_MAX_EXTENT)
            return -1;
        count *= dim[i];
        if (count > BOX_MAX_VALUES)
            return -1;
    }
    return count;
}

static bool write_values(FILE *out, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits = htole32(bits);
        if (fwrite(&bits, sizeof bits, 1, out) != 1)
            return false;
    }
    return true;
}

int npy_save(const char *file, int32_t rank, const int32_t *dim, const float *values,
             struct diag *why)
{
    char header[2 * ALIGN + SHAPE_MAX_RANK * 16];
    const int64_t count = count_values(rank, dim);
    int err = 0;

    if (count < 0)
        return diag(why, -EINVAL, "%s: a shape that .npy files here cannot have (rank %d)", file,
                    rank);
    const size_t len = make_header(header, sizeof header, rank, dim);

    FILE *out = fopen(file, "wbe");
    if (!out) {
        err = errno > 0 ? -errno : -EIO;
        return diag(why, err, "%s: cannot be created: %s", file, strerror(-err));
    }
    if (fwrite(header, 1, len, out) != len || !write_values(out, values, (size_t)count))
        err = errno > 0 ? -errno : -EIO;
    if (fclose(out) != 0 && err == 0)
        err = errno > 0 ? -errno : -EIO;
    if (err != 0)
        return diag(why, err, "%s: cannot be written: %s", file, strerror(-err));
    return 0;
}
