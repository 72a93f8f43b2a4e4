#include "libsplit/onnx_tensor_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libsplit/file.h"
#include "onnx_writer.h"

/* Opens the first `len` bytes of `w` as a file. */
static int open_bytes(const struct writer *w, size_t len, struct onnx_tensor_file *f,
                      struct diag *why)
{
    char path[] = "/tmp/splitd-tensor-XXXXXX";
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(file_write(path, w->bytes, len, NULL), 0);
    const int rc = onnx_tensor_open(f, path, why);
    unlink(path);
    return rc;
}

Test(onnx_tensor_file, holds_a_tensor)
{
    const float values[6] = { 1, 2, 3, 4, 5, 6 };
    struct writer w = tensor_proto("t", ONNX_FLOAT, 2, DIMS(2, 3), values, sizeof values);
    struct onnx_tensor_file f;
    struct diag why = { "" };
    cr_assert_eq(open_bytes(&w, w.len, &f, &why), 0, "%s", why.text);
    cr_assert_str_eq(f.tensor.name, "t");
    cr_assert_eq(f.tensor.rank, 2);
    cr_assert_eq(f.tensor.dim[1], 3);
    for (int64_t i = 0; i < 6; i++)
        cr_assert_eq(onnx_float(&f.tensor, i), values[i]);
    onnx_tensor_close(&f);
    writer_done(&w);
}

/* Every beginning of the file is refused with a sentence that names it. */
Test(onnx_tensor_file, cut_off_anywhere)
{
    const float values[2] = { 1, 2 };
    struct writer w = tensor_proto("t", ONNX_FLOAT, 1, DIMS(2), values, sizeof values);
    for (size_t len = 0; len < w.len; len++) {
        struct onnx_tensor_file f;
        struct diag why = { "" };
        const int rc = open_bytes(&w, len, &f, &why);
        cr_assert(rc == -EBADMSG || rc == -EINVAL, "%zu bytes: %d", len, rc);
        cr_assert_not_null(strstr(why.text, "/tmp/splitd-tensor-"), "%s", why.text);
    }
    writer_done(&w);
}

Test(onnx_tensor_file, no_file)
{
    struct onnx_tensor_file f;
    struct diag why = { "" };
    cr_assert_eq(onnx_tensor_open(&f, "/nowhere/input_0.pb", &why), -ENOENT);
    cr_assert_not_null(strstr(why.text, "/nowhere/input_0.pb"));
}
