#include "libsplit/npy.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file {
    uint8_t bytes[512];
    size_t len;
};

/* A .npy file of `version` with this header and `n` bytes of values. */
static struct file make(int version, const char *header, const void *values, size_t n)
{
    struct file f = { .len = version == 1 ? 10 : 12 };
    const size_t len = strlen(header);

    memcpy(f.bytes, "\x93NUMPY", 6);
    f.bytes[6] = (uint8_t)version;
    f.bytes[8] = (uint8_t)len;
    f.bytes[9] = (uint8_t)(len >> 8);
    memcpy(f.bytes + f.len, header, len);
    f.len += len;
    if (n > 0)
        memcpy(f.bytes + f.len, values, n);
    f.len += n;
    return f;
}

static struct npy parse(struct file f)
{
    struct npy a;
    struct diag why = { "" };

    cr_assert_eq(npy_parse(&a, f.bytes, f.len, "x.npy", &why), 0, "%s", why.text);
    return a;
}

static void check_refused(struct file f, const char *sentence)
{
    struct npy a = { 0 };
    struct diag why = { "" };

    cr_assert_eq(npy_parse(&a, f.bytes, f.len, "x.npy", &why), -EINVAL, "expected: %s", sentence);
    cr_assert_not_null(strstr(why.text, sentence), "\"%s\" lacks \"%s\"", why.text, sentence);
    cr_assert_eq(strncmp(why.text, "x.npy: ", 7), 0);
    cr_assert_null(a.values);
}

Test(npy, saves_what_it_loads)
{
    char file[] = "/tmp/splitd-npy-XXXXXX";
    const int32_t dim[SHAPE_MAX_RANK] = { 2, 1, 3, 1, 1, 1, 1, 2 };
    const float values[12] = { 0, -1.5f, 3e38f, 1e-40f, 4, 5, 6, 7, 8, 9, 10, 11 };
    const int fd = mkstemp(file);
    struct diag why;

    cr_assert_geq(fd, 0);
    close(fd);
    for (int32_t rank = 0; rank <= SHAPE_MAX_RANK; rank++) {
        struct npy a;
        cr_assert_eq(npy_save(file, rank, dim, values, &why), 0, "%s", why.text);
        cr_assert_eq(npy_load(&a, file, &why), 0, "%s", why.text);
        cr_assert_eq(a.rank, rank);
        cr_assert_arr_eq(a.dim, dim, (size_t)rank * sizeof *dim);
        cr_assert_arr_eq(a.values, values, (size_t)a.count * sizeof *values);
        npy_done(&a);
    }
    unlink(file);
}

/* What numpy.save() of version 1.24 writes for numpy.zeros((1, 28), numpy.float32), which
 * numpy itself then reads back. */
Test(npy, writes_the_bytes_that_numpy_writes)
{
    static const char expect[] =
        "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, "
        "'shape': (1, 28), }";
    char file[] = "/tmp/splitd-npy-XXXXXX";
    const float values[28] = { 0 };
    uint8_t bytes[512];
    const int fd = mkstemp(file);

    cr_assert_geq(fd, 0);
    cr_assert_eq(npy_save(file, 2, (int32_t[]){ 1, 28 }, values, NULL), 0);
    cr_assert_eq(read(fd, bytes, sizeof bytes), 128 + 28 * 4);
    cr_assert_arr_eq(bytes, expect, sizeof expect - 1);
    cr_assert_eq(bytes[126], ' ');
    cr_assert_eq(bytes[127], '\n');
    close(fd);
    unlink(file);
}

Test(npy, reads_every_type_as_float)
{
    static const struct {
        const char *header;
        union {
            float f4[2];
            double f8[2];
            uint8_t u1[2];
            int32_t i4[2];
            int64_t i8[2];
        } values;
        size_t bytes;
        float expect[2];
    } cases[] = {
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
          { .f4 = { 1.5f, -2 } },
          8,
          { 1.5f, -2 } },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }",
          { .f8 = { 0.1, -2 } },
          16,
          { 0.1f, -2 } },
        { "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }",
          { .u1 = { 255, 7 } },
          2,
          { 255, 7 } },
        { "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }",
          { .i4 = { -5, 70000 } },
          8,
          { -5, 70000 } },
        { "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }",
          { .i8 = { -5, 1 << 20 } },
          16,
          { -5, 1 << 20 } },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct npy a = parse(make(1, cases[i].header, &cases[i].values, cases[i].bytes));
        cr_assert_eq(a.rank, 1);
        cr_assert_eq(a.dim[0], 2);
        cr_assert_arr_eq(a.values, cases[i].expect, sizeof cases[i].expect, "case %zu", i);
        npy_done(&a);
    }
}

Test(npy, reads_versions_1_to_3_and_keys_in_any_order)
{
    const float one = 1;

    for (int version = 1; version <= 3; version++) {
        struct npy a = parse(
            make(version, "{\"shape\":(1,1),'fortran_order':False ,'descr':'<f4'}  \n", &one, 4));
        cr_assert_eq(a.rank, 2);
        cr_assert_eq(a.values[0], 1);
        npy_done(&a);
    }
    check_refused(make(4, "{}", NULL, 0), "version 4");
}

Test(npy, reads_no_values_at_all)
{
    struct npy a =
        parse(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0), }", NULL, 0));

    cr_assert_eq(a.count, 0);
    cr_assert_not_null(a.values);
    npy_done(&a);
}

Test(npy, refuses_what_is_no_tensor_of_numbers)
{
    const uint8_t v[64] = { 0 };

    check_refused((struct file){ .len = 0 }, "not a .npy");
    check_refused((struct file){ .bytes = "PK\3\4 a zip file", .len = 15 }, "not a .npy");
    check_refused(make(1, "", NULL, 0), "cut off");
    check_refused(make(1, "[]", NULL, 0), "expected a dictionary");
    check_refused(make(1, "{}", NULL, 0), "missing");
    check_refused(make(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", v, 4),
                  "\">f4\"");
    check_refused(make(1, "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", v, 8),
                  "\"<c8\"");
    check_refused(make(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", v, 4),
                  "type");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1)}", v, 4),
                  "Fortran order");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': 0, 'shape': (1, 1)}", v, 4),
                  "True or False");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': 1}", v, 4), "tuple");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", v, 4),
                  "dimension 0");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", v, 4),
                  "dimension 1");
    check_refused(
        make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", v, 4),
        "dimension 8");
    check_refused(
        make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", v, 4),
        "dimension 0");
    check_refused(
        make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999,99999999)}", v, 4),
        "more than");
    check_refused(make(1, "{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", v, 4), "once each");
    check_refused(make(1, "{'descr': '<f4', 'colour': 1, 'shape': (1,)}", v, 4), "once each");
    check_refused(make(1, "{'descr': '<f4' 'shape': (1,)}", v, 4), "once each");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", v, 4),
                  "more text");
}

Test(npy, refuses_too_few_and_too_many_bytes)
{
    const float v[4] = { 0 };

    check_refused(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", v, 8),
                  "8 bytes of values, but the shape needs 12");
    check_refused(make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", v, 16),
                  "16 bytes");
    /* A claim of 8 GB must not be believed. */
    check_refused(
        make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (65536, 32768)}", v, 8),
        "needs 8589934592");
}

Test(npy, every_cut_is_refused)
{
    const float v[4] = { 0 };
    struct file f =
        make(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }", v, sizeof v);

    while (f.len > 0) {
        f.len--;
        check_refused(f, "");
    }
}

/* Each file is copied to the heap at its exact length, so that a sanitizer sees one byte
 * too far. */
Test(npy, mutations_are_read_or_refused)
{
    static const uint8_t bytes[] = { 0,   1,   9,   ' ', '\'', '"',  '(',
                                     ')', ',', '{', '}', ':',  0x7f, 0xff };
    const float v[4] = { 0 };
    const struct file f =
        make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }", v, sizeof v);
    uint8_t *copy = malloc(f.len);

    cr_assert_not_null(copy);
    for (size_t at = 0; at < f.len; at++)
        for (size_t i = 0; i < sizeof bytes; i++) {
            struct npy a;
            struct diag why = { "" };
            memcpy(copy, f.bytes, f.len);
            copy[at] = bytes[i];
            if (npy_parse(&a, copy, f.len, "x.npy", &why) == 0)
                npy_done(&a);
            else
                cr_assert_eq(strncmp(why.text, "x.npy: ", 7), 0);
        }
    free(copy);
}

Test(npy, refuses_to_save_an_impossible_shape)
{
    const float v = 0;

    cr_assert_eq(npy_save("/dev/null", 9, (int32_t[9]){ 0 }, &v, NULL), -EINVAL);
    cr_assert_eq(npy_save("/dev/null", 1, (int32_t[]){ -1 }, &v, NULL), -EINVAL);
    cr_assert_eq(npy_save("/dev/full", 1, (int32_t[]){ 1 }, &v, NULL), -ENOSPC);
}
