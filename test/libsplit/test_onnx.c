#include "libsplit/onnx.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "onnx_writer.h"

/* Input, convolution, two constants, an attribute of each kind. */
static void small_model(struct model_writer *m)
{
    model_begin(m, 13);
    model_input(m, "x", 4, DIMS(-1, 1, 4, 4));
    model_weights(m, "w", 4, DIMS(2, 1, 3, 3));
    model_ints(m, "shape", 2, DIMS(1, -1));
    model_node(m, "Conv", "x w", "y");
    attr_ints(m, "pads", 4, DIMS(1, 1, 1, 1));
    attr_text(m, "auto_pad", "NOTSET");
    attr_int(m, "group", 1);
    model_node(m, "LeakyRelu", "y", "z");
    attr_float(m, "alpha", 0.25f);
    model_node(m, "Reshape", "z shape", "out");
    model_output(m, "out");
    model_end(m);
}

Test(onnx, reads_what_was_written)
{
    struct model_writer w;
    struct onnx_model m;
    struct diag why;
    small_model(&w);
    cr_assert_eq(onnx_decode(&m, w.file, w.len, "small", &why), 0, "%s", why.text);
    cr_assert_eq(m.opset, 13);
    cr_assert_eq(m.ir_version, 8);
    cr_assert_eq(m.nnodes, 3);
    cr_assert_eq(m.ntensors, 2);
    cr_assert_eq(m.ninputs, 1);
    cr_assert_str_eq(m.input[0].name, "x");
    cr_assert_eq(m.input[0].dim[0], -1);
    cr_assert_str_eq(m.input[0].symbol[0], "n");
    cr_assert_eq(m.input[0].dim[3], 4);
    const struct onnx_node *conv = &m.node[0];
    cr_assert_str_eq(conv->op_type, "Conv");
    cr_assert_str_eq(conv->name, "y");
    cr_assert_eq(conv->ninputs, 2);
    cr_assert_str_eq(conv->input[1], "w");
    const struct onnx_attr *pads = onnx_attr(conv, "pads", ONNX_ATTR_INTS);
    cr_assert_eq(pads->n, 4);
    cr_assert_eq(pads->ints[3], 1);
    cr_assert_null(onnx_attr(conv, "pads", ONNX_ATTR_INT));
    cr_assert_str_eq(onnx_attr_string(conv, "auto_pad", "?"), "NOTSET");
    cr_assert_eq(onnx_attr_int(conv, "group", 7), 1);
    cr_assert_eq(onnx_attr_int(conv, "none", 7), 7);
    cr_assert_eq(onnx_attr_float(&m.node[1], "alpha", 0), 0.25f);
    /* Weights stay in the file. */
    const uint8_t *data = m.tensor[0].data;
    cr_assert(data > w.file && data < w.file + w.len);
    cr_assert_eq(m.tensor[0].count, 18);
    cr_assert_float_eq(onnx_float(&m.tensor[0], 17), 0.18f, 1e-7f);
    cr_assert_eq(onnx_int(&m.tensor[1], 1), -1);
    onnx_close(&m);
    model_free(&w);
}

Test(onnx, cut_off_anywhere_is_an_error)
{
    struct model_writer w;
    small_model(&w);
    for (size_t len = 0; len < w.len; len++) {
        struct onnx_model m;
        struct diag why = { "" };
        uint8_t *copy = malloc(len + 1); /* so that a sanitizer sees a read past the end */
        cr_assert_not_null(copy);
        memcpy(copy, w.file, len);
        copy = realloc(copy, len ? len : 1);
        cr_assert_lt(onnx_decode(&m, copy, len, "cut", &why), 0, "%zu of %zu bytes", len, w.len);
        cr_assert_eq(strncmp(why.text, "cut: ", 5), 0);
        free(copy);
    }
    model_free(&w);
}

/* Whatever decodes must also build or be refused, without a crash. */
static void try_build(const uint8_t *bytes, size_t len)
{
    struct onnx_model m;
    struct graph g;
    struct geometry geo;
    struct diag why = { "" };
    if (onnx_decode(&m, bytes, len, "mutant", &why) < 0) {
        cr_assert_neq(why.text[0], 0);
        return;
    }
    if (graph_build(&g, &m, NULL, 0, &why) == 0) {
        cr_assert_eq(graph_geometry(&g, 3, &geo), 0);
        cr_assert_eq(geometry_check(&geo), 0);
        geometry_done(&geo);
        graph_done(&g);
    } else {
        cr_assert_neq(why.text[0], 0);
    }
    onnx_close(&m);
}

Test(onnx, mutants_do_no_harm)
{
    struct model_writer w;
    unsigned seed = 3;
    small_model(&w);
    for (int round = 0; round < 20000; round++) {
        uint8_t *copy = malloc(w.len);
        cr_assert_not_null(copy);
        memcpy(copy, w.file, w.len);
        for (int n = 1 + rand_r(&seed) % 4; n > 0; n--) {
            uint8_t *at = &copy[(size_t)rand_r(&seed) % w.len];
            const int byte = rand_r(&seed) % 2 ? rand_r(&seed) : *at ^ 1 << rand_r(&seed) % 8;
            *at = (uint8_t)byte;
        }
        try_build(copy, w.len);
        free(copy);
    }
    model_free(&w);
}

/* The only initializer of a model with tensor message `t`. */
static int decode_tensor(struct writer *t, struct onnx_model *m, struct model_writer *w,
                         struct diag *why)
{
    model_begin(w, 13);
    put_message(&w->graph, 5, t);
    model_end(w);
    return onnx_decode(m, w->file, w->len, "t", why);
}

static void check_value(enum onnx_type type, const void *raw, size_t bytes, double expected)
{
    struct onnx_model m;
    struct model_writer w;
    struct diag why;
    struct writer t = tensor_proto("c", type, 0, NULL, raw, bytes);
    cr_assert_eq(decode_tensor(&t, &m, &w, &why), 0, "%s", why.text);
    const double d = onnx_double(&m.tensor[0], 0);
    cr_assert(d == expected || (isnan(d) && isnan(expected)), "type %d: %g", (int)type, d);
    if (!isnan(expected))
        cr_assert_eq(onnx_float(&m.tensor[0], 0), (float)expected);
    if (fabs(expected) < 1e9)
        cr_assert_eq(onnx_int(&m.tensor[0], 0), (int64_t)expected);
    onnx_close(&m);
    model_free(&w);
}

#define CHECK_VALUE(type, ctype, bits, expected)                                                   \
    do {                                                                                           \
        const ctype v = bits;                                                                      \
        check_value(type, &v, sizeof v, expected);                                                 \
    } while (0)

Test(onnx, element_types)
{
    CHECK_VALUE(ONNX_FLOAT, float, -1.5f, -1.5);
    CHECK_VALUE(ONNX_DOUBLE, double, 0.1, 0.1);
    CHECK_VALUE(ONNX_INT8, int8_t, -128, -128);
    CHECK_VALUE(ONNX_UINT8, uint8_t, 255, 255);
    CHECK_VALUE(ONNX_BOOL, uint8_t, 1, 1);
    CHECK_VALUE(ONNX_INT16, int16_t, -2, -2);
    CHECK_VALUE(ONNX_UINT16, uint16_t, 65535, 65535);
    CHECK_VALUE(ONNX_INT32, int32_t, -3, -3);
    CHECK_VALUE(ONNX_UINT32, uint32_t, 4000000000u, 4000000000.0);
    CHECK_VALUE(ONNX_INT64, int64_t, -5, -5);
    CHECK_VALUE(ONNX_UINT64, uint64_t, UINT64_MAX, 0x1p64);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0x3c00, 1);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0xc500, -5);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0x7bff, 65504);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0x0001, 0x1p-24);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0x83ff, -0x1.ff8p-15);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0x7c00, INFINITY);
    CHECK_VALUE(ONNX_FLOAT16, uint16_t, 0x7e00, NAN);
    CHECK_VALUE(ONNX_BFLOAT16, uint16_t, 0xbf80, -1);
}

/* Packed, one by one, and in two packed pieces. */
Test(onnx, typed_data_in_every_coding)
{
    for (int coding = 0; coding < 3; coding++) {
        struct onnx_model m;
        struct model_writer w;
        struct diag why;
        struct writer t = { .len = 0 };
        const float v[3] = { 1.5f, -2, 3 };
        put_number(&t, 1, 3);
        put_number(&t, 2, ONNX_FLOAT);
        put_text(&t, 8, "c");
        if (coding == 0)
            put_bytes(&t, 4, v, sizeof v);
        for (int i = 0; i < 3 && coding == 1; i++)
            put_float(&t, 4, v[i]);
        if (coding == 2) {
            put_bytes(&t, 4, v, sizeof v[0]);
            put_bytes(&t, 4, v + 1, 2 * sizeof v[0]);
        }
        cr_assert_eq(decode_tensor(&t, &m, &w, &why), 0, "%s", why.text);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(onnx_float(&m.tensor[0], i), v[i]);
        onnx_close(&m);
        model_free(&w);
    }
}

Test(onnx, packed_integers)
{
    struct onnx_model m;
    struct model_writer w;
    struct diag why;
    struct writer t = { .len = 0 };
    put_bytes(&t, 1, "\x02", 1); /* packed dims */
    put_number(&t, 2, ONNX_INT64);
    put_text(&t, 8, "c");
    put_bytes(&t, 7, "\xac\x02", 2);                                  /* 300 */
    put_bytes(&t, 7, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10); /* -1 */
    cr_assert_eq(decode_tensor(&t, &m, &w, &why), 0, "%s", why.text);
    cr_assert_eq(onnx_int(&m.tensor[0], 0), 300);
    cr_assert_eq(onnx_int(&m.tensor[0], 1), -1);
    onnx_close(&m);
    model_free(&w);
}

static void check_tensor_refused(struct writer t, int err, const char *sentence)
{
    struct onnx_model m;
    struct model_writer w;
    struct diag why = { "" };
    cr_assert_eq(decode_tensor(&t, &m, &w, &why), err, "%s", why.text);
    cr_assert_not_null(strstr(why.text, sentence), "\"%s\" lacks \"%s\"", why.text, sentence);
    model_free(&w);
}

Test(onnx, impossible_constants)
{
    const float f[4] = { 0 };
    check_tensor_refused(tensor_proto("c", ONNX_FLOAT, 1, DIMS(5), f, sizeof f), -EINVAL,
                         "holds 16 bytes of data, but its shape takes 20");
    check_tensor_refused(tensor_proto("c", ONNX_FLOAT, 1, DIMS(3), f, sizeof f), -EINVAL,
                         "holds 16 bytes of data, but its shape takes 12");
    check_tensor_refused(tensor_proto("c", ONNX_FLOAT, 1, DIMS(-4), f, sizeof f), -EINVAL,
                         "extent -4 on axis 0");
    check_tensor_refused(tensor_proto("c", ONNX_FLOAT, 1, DIMS((int64_t)1 << 31), f, sizeof f),
                         -EINVAL, "extent 2147483648 on axis 0");
    check_tensor_refused(
        tensor_proto("c", ONNX_FLOAT, 3, DIMS(1 << 30, 1 << 30, 1 << 30), f, sizeof f), -EINVAL,
        "more than 2147483647 values");
    check_tensor_refused(tensor_proto("c", ONNX_FLOAT, 3, DIMS(0, 1 << 30, 1 << 30), f, 0), -EINVAL,
                         "more than 2147483647 values");
    check_tensor_refused(tensor_proto("c", ONNX_FLOAT, 9, DIMS(1, 1, 1, 1, 1, 1, 1, 1, 1), f, 4),
                         -EINVAL, "more than 8 axes");
    check_tensor_refused(tensor_proto("c", ONNX_STRING, 1, DIMS(1), f, 4), -EINVAL, "data type 8");
    struct writer external = tensor_proto("c", ONNX_FLOAT, 1, DIMS(4), f, 0);
    put_number(&external, 14, 1);
    check_tensor_refused(external, -EINVAL, "lies in another file");
    /* A number where a string of bytes belongs must not become a pointer. */
    struct writer wire = { .len = 0 };
    put_number(&wire, 9, 42);
    check_tensor_refused(wire, -EBADMSG, "wrong wire type");
}

static void check_bytes_refused(const void *bytes, size_t len, int err)
{
    struct onnx_model m;
    struct diag why = { "" };
    cr_assert_eq(onnx_decode(&m, bytes, len, "f", &why), err);
    cr_assert_eq(strncmp(why.text, "f: ", 3), 0);
}

Test(onnx, other_files)
{
    static const uint8_t zeros[1000];
    check_bytes_refused("", 0, -EBADMSG);
    check_bytes_refused("\xff\xd8\xff\xe0 a picture", 14, -EBADMSG);
    check_bytes_refused("hello, this is no model", 23, -EBADMSG);
    check_bytes_refused(zeros, sizeof zeros, -EBADMSG);
}

Test(onnx, files_that_are_not_there)
{
    struct onnx_model m;
    struct diag why;
    char empty[] = "/tmp/splitd-onnx-XXXXXX";
    const int fd = mkstemp(empty);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(onnx_open(&m, "/does/not/exist.onnx", &why), -ENOENT);
    cr_assert_str_eq(why.text, "/does/not/exist.onnx: No such file or directory");
    cr_assert_eq(onnx_open(&m, empty, &why), -EBADMSG);
    cr_assert_not_null(strstr(why.text, "empty"));
    cr_assert_eq(onnx_open(&m, "/tmp", &why), -EBADMSG);
    unlink(empty);
}

Test(onnx, weights_come_back_after_being_forgotten)
{
    glob_t files;
    if (glob("../shared/models/squeezenet*.onnx", 0, NULL, &files) != 0)
        cr_skip_test("../shared is not there");
    struct onnx_model m;
    struct diag why;
    cr_assert_eq(onnx_open(&m, files.gl_pathv[0], &why), 0, "%s", why.text);
    for (int32_t i = 0; i < m.ntensors; i++) {
        const struct onnx_tensor *t = &m.tensor[i];
        double before = 0, after = 0;
        for (int64_t k = 0; k < t->count; k++)
            before += onnx_double(t, k);
        onnx_forget(&m, t);
        for (int64_t k = 0; k < t->count; k++)
            after += onnx_double(t, k);
        cr_assert_eq(before, after);
    }
    onnx_close(&m);
    globfree(&files);
}
