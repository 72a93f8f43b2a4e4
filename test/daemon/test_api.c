#include <criterion/criterion.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api_infer.h"
#include "daemon/api_tensor.h"

/* ---- helpers */

static int parse(struct infer_request *q, const char *json, struct diag *why)
{
    return infer_parse(q, (const uint8_t *)json, strlen(json), strlen(json), why);
}

/* JSON, then `len` bytes. */
static int parse_binary(struct infer_request *q, const char *json, const void *bytes, size_t len,
                        struct diag *why)
{
    const size_t json_len = strlen(json);
    uint8_t *body = malloc(json_len + len + 1);

    memcpy(body, json, json_len);
    memcpy(body + json_len, bytes, len);
    /* Exactly as long as it is, so that AddressSanitizer sees a step beyond. */
    uint8_t *exact = malloc(json_len + len);
    memcpy(exact, body, json_len + len);
    free(body);
    int rc = infer_parse(q, exact, json_len + len, json_len, why);
    if (rc == 0) {
        rc = infer_convert(q, why);
        if (rc < 0)
            infer_done(q);
    }
    for (int32_t i = 0; rc == 0 && i < q->ninputs; i++) {
        struct request_tensor *t = &q->input[i];
        if (!t->values || q->owned[i])
            continue;
        const size_t size = (size_t)shape_values(&t->shape) * sizeof *t->values;
        q->owned[i] = malloc(size); /* they are borrowed from the body */
        memcpy(q->owned[i], t->values, size);
        t->values = q->owned[i];
    }
    if (rc == 0 && q->picture) { /* it is borrowed from the body */
        uint8_t *own = malloc(q->picture_bytes);
        memcpy(own, q->picture, q->picture_bytes);
        q->picture = q->owned_picture = own;
    }
    free(exact);
    return rc;
}

static void refused(const char *json, const char *part)
{
    struct infer_request q;
    struct diag why = { "" };

    cr_assert_eq(parse(&q, json, &why), -EINVAL, "taken: %s", json);
    cr_expect_not_null(strstr(why.text, part), "%s: \"%s\" does not say \"%s\"", json, why.text,
                       part);
}

/* ---- requests in JSON */

Test(api, json_tensor_nested_or_flat)
{
    static const char *const data[] = { "[1,2.5,-3,4]", "[[1,2.5],[-3,4]]",
                                        "[[[1],[2.5]],-3,[4]]" };
    struct infer_request q;
    struct diag why;
    char json[256];

    for (size_t i = 0; i < 3; i++) {
        snprintf(json, sizeof json,
                 "{\"id\":\"7\",\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],\"datatype\":\"FP32\","
                 "\"data\":%s}]}",
                 data[i]);
        cr_assert_eq(parse(&q, json, &why), 0, "%s", why.text);
        cr_expect_str_eq(q.id, "7");
        cr_expect_eq(q.ninputs, 1);
        cr_expect_str_eq(q.input[0].name, "x");
        cr_expect_eq(q.input[0].shape.rank, 2);
        cr_expect_eq(q.input[0].shape.dim[1], 2);
        cr_expect_eq(q.input[0].values[1], 2.5f);
        cr_expect_eq(q.input[0].values[2], -3.0f);
        cr_expect_null(q.picture);
        infer_done(&q);
    }
}

Test(api, json_has_words_for_what_is_no_number)
{
    struct infer_request q;
    struct diag why;

    cr_assert_eq(parse(&q,
                       "{\"inputs\":[{\"name\":\"x\",\"shape\":[3],\"datatype\":\"FP64\","
                       "\"data\":[\"NaN\",\"Infinity\",\"-Infinity\"]}]}",
                       &why),
                 0, "%s", why.text);
    cr_expect(isnan(q.input[0].values[0]));
    cr_expect_eq(q.input[0].values[1], INFINITY);
    cr_expect_eq(q.input[0].values[2], -INFINITY);
    infer_done(&q);
}

#define X(rest) "{\"inputs\":[{\"name\":\"x\"," rest "}]}"
#define X4(rest) X("\"shape\":[4],\"datatype\":\"FP32\"," rest)

static const struct {
    const char *json, *part;
} bad[] = {
    { "", "not JSON" },
    { "{", "not JSON" },
    { "nul", "not JSON" },
    { "[]", "must be a JSON object" },
    { "{} x", "bytes follow" },
    { "{}", "inputs: expected" },
    { "{\"inputs\":{}}", "inputs: expected" },
    { "{\"inputs\":[]}", "inputs: expected" },
    { "{\"inputs\":[1]}", "name: expected" },
    { "{\"inputs\":[1,1,1,1,1,1,1,1,1]}", "1..8" },
    { "{\"inputs\":[{\"name\":7}]}", "name: expected" },
    { "{\"id\":7,\"inputs\":[]}", "id: expected" },
    { "{\"parameters\":{\"binary_data_output\":1},\"inputs\":[]}", "binary_data_output" },
    { X("\"shape\":[1]"), "datatype" },
    { X("\"shape\":[1],\"datatype\":\"FP16\""), "\"FP16\": expected FP32" },
    { X("\"datatype\":\"FP32\""), "shape: expected a list" },
    { X("\"shape\":7,\"datatype\":\"FP32\""), "shape: expected a list" },
    { X("\"shape\":[0],\"datatype\":\"FP32\""), "extent 0" },
    { X("\"shape\":[1,-1],\"datatype\":\"FP32\""), "extent 1" },
    { X("\"shape\":[1.5],\"datatype\":\"FP32\""), "extent 0" },
    { X("\"shape\":[1e18],\"datatype\":\"FP32\""), "extent 0" },
    { X("\"shape\":[\"4\"],\"datatype\":\"FP32\""), "extent 0" },
    { X("\"shape\":[65536,65536],\"datatype\":\"FP32\""), "more than 2147483648 values" },
    { X("\"shape\":[268435456,268435456,268435456,268435456],\"datatype\":\"FP32\""),
      "more than 2147483648 values" },
    { X("\"shape\":[1,1,1,1,1,1,1,1,1],\"datatype\":\"FP32\""), "more than 8 extents" },
    { X4("\"data\":[1,2,3]"), "data has 3 values, its shape 4" },
    { X4("\"data\":[1,2,3,4,5]"), "data has 5 values, its shape 4" },
    { X4("\"data\":7"), "data: expected a list" },
    { X4("\"no_data\":[]"), "data: expected a list" },
    { X4("\"data\":[1,2,null,4]"), "value 2 is not a number" },
    { X4("\"data\":[1,2,3,\"four\"]"), "value 3 is not a number" },
    { X4("\"data\":[1,2,3,1e39]"), "value 3 is not a number of type FP32" },
    { X("\"shape\":[1],\"datatype\":\"UINT8\",\"data\":[256]"), "value 0" },
    { X("\"shape\":[1],\"datatype\":\"UINT8\",\"data\":[-1]"), "value 0" },
    { X("\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1.5]"), "value 0" },
    { X("\"shape\":[1],\"datatype\":\"INT64\",\"data\":[\"NaN\"]"), "value 0" },
    { X4("\"parameters\":{\"binary_data_size\":16}"), "in 0..0" },
    { X("\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"AAAA\"]"), "content_type" },
    { X("\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"AAAA\",\"AAAA\"]"), "one picture" },
    { X("\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"A\"],"
        "\"parameters\":{\"content_type\":\"base64\"}"),
      "not base64" },
    { X("\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"\"],"
        "\"parameters\":{\"content_type\":\"base64\"}"),
      "no bytes" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]},"
      "{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
      "\"x\" is there twice" },
    { "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]},"
      "{\"name\":\"y\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"AAAA\"],"
      "\"parameters\":{\"content_type\":\"base64\"}}]}",
      "a picture stands alone" },
};

#define ONE "\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]"

static const struct {
    const char *outputs, *part;
} bad_outputs[] = {
    { "7", "outputs: expected a list" },
    { "[{}]", "outputs: name" },
    { "[{\"name\":\"y\"},{\"name\":\"y\"}]", "asked for twice" },
    { "[{\"name\":\"y\",\"parameters\":{\"binary_data\":1}}]", "binary_data" },
    { "[{\"name\":\"y\",\"parameters\":{\"classification\":0}}]", "classification" },
    { "[{\"name\":\"y\",\"parameters\":{\"classification\":1001}}]", "1..1000" },
    { "[{\"name\":\"y\",\"parameters\":{\"classification\":1.5}}]", "classification" },
    { "[{\"name\":\"y\",\"parameters\":{\"picture\":\"gif\"}}]", "\"png\" or \"jpeg\"" },
    { "[{\"name\":\"y\",\"parameters\":{\"picture\":\"png\",\"classification\":1}}]", "exclude" },
};

Test(api, refuses_with_a_sentence)
{
    char json[512];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(bad[i].json, bad[i].part);
    for (size_t i = 0; i < sizeof bad_outputs / sizeof bad_outputs[0]; i++) {
        snprintf(json, sizeof json, "{" ONE ",\"outputs\":%s}", bad_outputs[i].outputs);
        refused(json, bad_outputs[i].part);
    }
}

Test(api, json_is_bounded_before_it_is_parsed)
{
    const size_t many = API_JSON_VALUES + 2;
    char *json = malloc(2 * many + 16);
    struct infer_request q;
    struct diag why;

    json[0] = '[';
    for (size_t i = 0; i < many; i++)
        memcpy(json + 1 + 2 * i, "1,", 2);
    json[1 + 2 * many] = '\0';
    cr_expect_eq(parse(&q, json, &why), -EINVAL);
    cr_expect_not_null(strstr(why.text, "in binary"), "%s", why.text);

    memset(json, '[', 100000);
    json[100000] = '\0';
    cr_expect_eq(parse(&q, json, &why), -EINVAL);
    cr_expect_not_null(strstr(why.text, "nested deeper than 16"), "%s", why.text);
    free(json);
}

Test(api, brackets_in_strings_do_not_count)
{
    struct infer_request q;
    struct diag why;

    cr_assert_eq(parse(&q, "{\"id\":\"[[[[[[[[[[[[[[[[[[[[\\\"{{{{{\"," ONE "}", &why), 0, "%s",
                 why.text);
    infer_done(&q);
}

/* ---- requests in binary */

#define BINARY(name, shape, type, size)                                                            \
    "{\"name\":\"" name "\",\"shape\":" shape ",\"datatype\":\"" type                              \
    "\",\"parameters\":{\"binary_data_size\":" size "}}"

Test(api, binary_types_become_floats)
{
    static const struct {
        const char *json;
        uint8_t bytes[16];
        size_t len;
        float want[2];
    } cases[] = {
        { BINARY("x", "[2]", "FP32", "8"),
          { 0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0 },
          8,
          { 1, -2.5f } },
        { BINARY("x", "[2]", "FP64", "16"),
          { 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 4, 0xc0 },
          16,
          { 1, -2.5f } },
        { BINARY("x", "[2]", "UINT8", "2"), { 7, 255 }, 2, { 7, 255 } },
        { BINARY("x", "[2]", "INT32", "8"), { 7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }, 8, { 7, -1 } },
        { BINARY("x", "[2]", "INT64", "16"),
          { 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
          16,
          { 4294967296.0f, -1 } },
    };
    struct infer_request q;
    struct diag why;
    char json[256];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(json, sizeof json, "{\"inputs\":[%s]}", cases[i].json);
        cr_assert_eq(parse_binary(&q, json, cases[i].bytes, cases[i].len, &why), 0, "%s: %s", json,
                     why.text);
        cr_expect_eq(q.input[0].values[0], cases[i].want[0], "%s", json);
        cr_expect_eq(q.input[0].values[1], cases[i].want[1], "%s", json);
        infer_done(&q);
    }
}

/* Where they are aligned they are not copied, wherever they lie they are the same. */
Test(api, binary_floats_are_read_where_they_are)
{
    static const char json[] = "{\"inputs\":[" BINARY("x", "[2]", "FP32", "8") "]}";
    static const float want[] = { 1.5f, -3e30f };
    enum { JSON = sizeof json - 1 };
    struct infer_request q;
    struct diag why;
    union {
        float aligned;
        uint8_t bytes[JSON + 16];
    } body;

    for (size_t at = 0; at < 8; at++) {
        uint8_t *start = body.bytes + (at + 4 - JSON % 4) % 4; /* the floats lie at % 4 */
        memcpy(start, json, JSON);
        memcpy(start + JSON, want, sizeof want);
        cr_assert_eq(infer_parse(&q, start, JSON + sizeof want, JSON, &why), 0, "%s", why.text);
        cr_expect_eq(q.nraw, at % 4 != 0);
        cr_expect_eq((const void *)q.input[0].values == start + JSON, at % 4 == 0);
        cr_assert_eq(infer_convert(&q, &why), 0);
        cr_expect_eq(q.nraw, 0);
        cr_expect_arr_eq(q.input[0].values, want, sizeof want);
        infer_done(&q);
    }
}

Test(api, binary_inputs_follow_each_other_exactly)
{
    static const char json[] =
        "{\"inputs\":[" BINARY("a", "[2]", "UINT8", "2") "," BINARY("b", "[3]", "UINT8", "3") "]}";
    static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6 };
    struct infer_request q;
    struct diag why;

    cr_assert_eq(parse_binary(&q, json, bytes, 5, &why), 0, "%s", why.text);
    cr_expect_eq(q.input[1].values[0], 3.0f);
    infer_done(&q);
    cr_expect_eq(parse_binary(&q, json, bytes, 4, &why), -EINVAL);
    cr_expect_not_null(strstr(why.text, "0..2"), "%s", why.text);
    cr_expect_eq(parse_binary(&q, json, bytes, 6, &why), -EINVAL);
    cr_expect_not_null(strstr(why.text, "1 bytes follow"), "%s", why.text);
    cr_expect_eq(
        parse_binary(&q, "{\"inputs\":[" BINARY("a", "[2]", "FP32", "6") "]}", bytes, 6, &why),
        -EINVAL);
    cr_expect_not_null(strstr(why.text, "take 8"), "%s", why.text);
}

Test(api, double_beyond_float_is_refused)
{
    const double huge = 1e300;
    struct infer_request q;
    struct diag why;

    cr_expect_eq(
        parse_binary(&q, "{\"inputs\":[" BINARY("a", "[1]", "FP64", "8") "]}", &huge, 8, &why),
        -EINVAL);
    cr_expect_not_null(strstr(why.text, "beyond the range"), "%s", why.text);
}

Test(api, binary_picture_has_a_length)
{
    static const char json[] = "{\"inputs\":[" BINARY("x", "[1]", "BYTES", "7") "]}";
    struct infer_request q;
    struct diag why;

    cr_assert_eq(parse_binary(&q, json, "\3\0\0\0abc", 7, &why), 0, "%s", why.text);
    cr_expect_eq(q.picture_bytes, 3);
    cr_expect_eq(memcmp(q.picture, "abc", 3), 0);
    infer_done(&q);
    cr_expect_eq(parse_binary(&q, json, "\4\0\0\0abc", 7, &why), -EINVAL);
    cr_expect_eq(parse_binary(&q, json, "\377\377\377\377abc", 7, &why), -EINVAL);
    cr_expect_eq(
        parse_binary(&q, "{\"inputs\":[" BINARY("x", "[1]", "BYTES", "3") "]}", "abc", 3, &why),
        -EINVAL);
    cr_expect_eq(
        parse_binary(&q, "{\"inputs\":[" BINARY("x", "[1]", "BYTES", "4") "]}", "\0\0\0", 4, &why),
        -EINVAL, "a picture of no bytes");
}

Test(api, json_picture_is_base64)
{
    struct infer_request q;
    struct diag why;

    cr_assert_eq(parse(&q,
                       X("\"shape\":[1,1],\"datatype\":\"BYTES\",\"data\":[[\"YWJj\"]],"
                         "\"parameters\":{\"content_type\":\"base64\"}"),
                       &why),
                 0, "%s", why.text);
    cr_expect_eq(q.picture_bytes, 3);
    cr_expect_eq(memcmp(q.picture, "abc", 3), 0);
    infer_done(&q);
}

/* Every cut and many one-byte changes of a body are parsed or refused, and nothing else. */
Test(api, any_bytes_are_handled)
{
    static const char json[] =
        "{\"id\":\"a\",\"parameters\":{\"binary_data_output\":true},\"inputs\":["
        "{\"name\":\"a\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,\"NaN\"]}," //
        BINARY("b", "[3]", "UINT8", "3") "],\"outputs\":[{\"name\":\"y\",\"parameters\":"
                                         "{\"classification\":3,\"binary_data\":false}}]}";
    struct infer_request q;
    struct diag why;
    char copy[sizeof json];

    cr_assert_eq(parse_binary(&q, json, "abc", 3, &why), 0, "%s", why.text);
    infer_done(&q);
    for (size_t cut = 0; cut < sizeof json - 1; cut++) {
        memcpy(copy, json, cut);
        copy[cut] = '\0';
        cr_assert_eq(parse_binary(&q, copy, "abc", 3, &why), -EINVAL);
    }
    for (size_t at = 0; at < sizeof json - 1; at++)
        for (int b = 1; b < 256; b += 3) {
            memcpy(copy, json, sizeof json);
            copy[at] = (char)b;
            const int rc = parse_binary(&q, copy, "abc", 3, &why);
            cr_assert(rc == 0 || rc == -EINVAL);
            if (rc == 0)
                infer_done(&q);
        }
}

/* ---- numbers and base64 */

/* As printf() does, wherever the point is and whatever comes behind the ninth digit. */
Test(api, floats_are_printed_as_printf_does)
{
    uint32_t bits = 1;
    float value;
    char want[32];

    for (int round = 0; round < 300000; round++) {
        bits = bits * 1664525 + 1013904223;
        memcpy(&value, &bits, sizeof value);
        if (round % 3 == 1)
            value = (float)(int32_t)bits / (float)(1 << (round % 31)); /* many end in zeros */
        if (round % 3 == 2)
            value = (float)strtod(
                (snprintf(want, sizeof want, "%de%d", round % 1000, round % 70 - 40), want), NULL);
        if (!isfinite(value))
            continue;
        char *text = api_print_floats(&value, 1);
        snprintf(want, sizeof want, "[%.9g]", (double)value);
        cr_assert_str_eq(text, want);
        free(text);
    }
}

Test(api, printed_floats_read_back)
{
    const float values[] = { 0.0f,    -0.0f, 1.0f / 3, FLT_MAX,  -FLT_MAX,  FLT_MIN, FLT_TRUE_MIN,
                             -1e-38f, 1e10f, NAN,      INFINITY, -INFINITY, 0.1f,    16777217.0f };
    enum { N = sizeof values / sizeof values[0] };
    struct diag why;
    float *back;
    char *text = api_print_floats(values, N);
    cJSON *json = cJSON_Parse(text);

    cr_assert_not_null(json, "%s", text);
    cr_assert_eq(api_values_json(json, API_FP32, "x", N, &back, &why), 0, "%s", why.text);
    for (size_t i = 0; i < N; i++)
        cr_expect((isnan(values[i]) && isnan(back[i])) ||
                      memcmp(&values[i], &back[i], sizeof back[i]) == 0,
                  "%zu: %g came back as %g", i, (double)values[i], (double)back[i]);
    free(back);
    cJSON_Delete(json);
    free(text);
    text = api_print_floats(values, 0);
    cr_expect_str_eq(text, "[]");
    free(text);
}

Test(api, base64_is_its_own_inverse)
{
    uint8_t bytes[100], *back;
    size_t len;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        char *text = api_base64_encode(bytes, n);
        cr_assert_eq(api_base64_decode(text, &back, &len), 0, "%s", text);
        cr_assert_eq(len, n);
        cr_assert_eq(memcmp(back, bytes, n), 0);
        free(back);
        free(text);
    }
}

/* RFC 4648 section 10. */
Test(api, base64_vectors)
{
    char *text = api_base64_encode((const uint8_t *)"foobar", 5);
    cr_expect_str_eq(text, "Zm9vYmE=");
    free(text);
    text = api_base64_encode((const uint8_t *)"foobar", 4);
    cr_expect_str_eq(text, "Zm9vYg==");
    free(text);

    static const char *const wrong[] = { "Z",    "Zm9",  "Zm9v=", "====", "Z===",
                                         "Zm=v", "Zm 9", "Zm-_",  "=m9v", "Zm9vZm9\n" };
    uint8_t *bytes;
    size_t len;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_eq(api_base64_decode(wrong[i], &bytes, &len), -EINVAL, "%s", wrong[i]);
}

/* ---- answers */

static float scores[] = { 0.1f, 0.7f, 0.2f, 0.5f, 0.25f, 0.25f };
static const int32_t score_dims[] = { 2, 3 };
static float pixels[] = { 0, 0.5f, 1, 2 };
static const int32_t pixel_dims[] = { 1, 1, 2, 2 };

static char *labels[] = { (char *)"cat", (char *)"dog", (char *)"owl" };

/* The answer that a request with these outputs gets. */
static int format(const char *outputs, enum task task, struct infer_response *response,
                  struct diag *why)
{
    struct sidecar sidecar;
    struct request_tensor out[] = { { "prob", shape_make(2, score_dims), scores },
                                    { "picture", shape_make(4, pixel_dims), pixels } };
    struct request r = { .noutputs = 2, .output = out, .sidecar = &sidecar, .nodes = 3 };
    struct infer_request q;
    char json[512];

    sidecar_default(&sidecar);
    sidecar.task = task;
    sidecar.nlabels = 3;
    sidecar.labels = labels;
    sidecar.output_scale = 255;
    snprintf(json, sizeof json, "{\"id\":\"q\\\"1\"," ONE "%s}", outputs);
    cr_assert_eq(parse(&q, json, why), 0, "%s", why->text);
    const int rc = infer_format(&q, &r, "net", response, why);
    infer_done(&q);
    return rc;
}

static cJSON *tree(const struct infer_response *r)
{
    return cJSON_ParseWithLength((const char *)r->body, r->json_len ? r->json_len : r->len);
}

static const cJSON *output(const cJSON *root, int i)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(root, "outputs"), i);
}

static const char *text_of(const cJSON *o, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
}

Test(api, all_outputs_in_json)
{
    struct infer_response r;
    struct diag why;

    cr_assert_eq(format("", TASK_RAW, &r, &why), 0, "%s", why.text);
    cr_expect_eq(r.json_len, 0);
    cJSON *json = tree(&r);
    cr_assert_not_null(json);
    cr_expect_str_eq(text_of(json, "model_name"), "net");
    cr_expect_str_eq(text_of(json, "id"), "q\"1");
    cr_expect_str_eq(text_of(output(json, 0), "name"), "prob");
    cr_expect_str_eq(text_of(output(json, 0), "datatype"), "FP32");
    const cJSON *data = cJSON_GetObjectItem(output(json, 0), "data");
    cr_assert_eq(cJSON_GetArraySize(data), 6);
    for (int i = 0; i < 6; i++)
        cr_expect_eq((float)cJSON_GetArrayItem(data, i)->valuedouble, scores[i]);
    cr_expect_str_eq(text_of(output(json, 1), "name"), "picture");
    cJSON_Delete(json);
    free(r.body);
}

Test(api, binary_and_json_outputs_mix)
{
    struct infer_response r;
    struct diag why;

    cr_assert_eq(format(",\"parameters\":{\"binary_data_output\":true},\"outputs\":["
                        "{\"name\":\"picture\"},"
                        "{\"name\":\"prob\",\"parameters\":{\"binary_data\":false}}]",
                        TASK_RAW, &r, &why),
                 0, "%s", why.text);
    cr_assert_eq(r.len, r.json_len + sizeof pixels);
    cr_expect_eq(memcmp(r.body + r.json_len, pixels, sizeof pixels), 0); /* little-endian here */
    cJSON *json = tree(&r);
    cr_assert_not_null(json);
    const cJSON *size =
        cJSON_GetObjectItem(cJSON_GetObjectItem(output(json, 0), "parameters"), "binary_data_size");
    cr_expect_eq(size->valuedouble, (double)sizeof pixels);
    cr_expect_null(cJSON_GetObjectItem(output(json, 0), "data"));
    cr_expect_not_null(cJSON_GetObjectItem(output(json, 1), "data"));
    cJSON_Delete(json);
    free(r.body);
}

Test(api, classification_ranks_each_image)
{
    struct infer_response r;
    struct diag why;

    cr_assert_eq(format(",\"outputs\":[{\"name\":\"prob\",\"parameters\":{\"classification\":2}}]",
                        TASK_CLASSIFY, &r, &why),
                 0, "%s", why.text);
    cJSON *json = tree(&r);
    const cJSON *o = output(json, 0), *data = cJSON_GetObjectItem(o, "data");
    const cJSON *shape = cJSON_GetObjectItem(o, "shape");
    cr_expect_str_eq(text_of(o, "datatype"), "BYTES");
    cr_assert_eq(cJSON_GetArraySize(shape), 2);
    cr_expect_eq(cJSON_GetArrayItem(shape, 0)->valueint, 2);
    cr_expect_eq(cJSON_GetArrayItem(shape, 1)->valueint, 2);
    cr_assert_eq(cJSON_GetArraySize(data), 4);
    cr_expect_str_eq(cJSON_GetArrayItem(data, 0)->valuestring, "0.699999988:1:dog");
    cr_expect_str_eq(cJSON_GetArrayItem(data, 1)->valuestring, "0.200000003:2:owl");
    cr_expect_str_eq(cJSON_GetArrayItem(data, 2)->valuestring, "0.5:0:cat");
    cr_expect_str_eq(cJSON_GetArrayItem(data, 3)->valuestring, "0.25:1:dog");
    cJSON_Delete(json);
    free(r.body);
}

Test(api, more_classes_than_there_are)
{
    struct infer_response r;
    struct diag why;

    cr_assert_eq(format(",\"outputs\":[{\"name\":\"prob\",\"parameters\":"
                        "{\"classification\":1000,\"binary_data\":true}}]",
                        TASK_CLASSIFY, &r, &why),
                 0, "%s", why.text);
    cr_assert_gt(r.json_len, 0);
    /* Six elements, each behind its length. */
    size_t at = r.json_len;
    for (int i = 0; i < 6; i++)
        at += 4 + r.body[at];
    cr_expect_eq(at, r.len);
    free(r.body);
}

Test(api, picture_as_base64_and_in_binary_is_the_same_file)
{
    struct infer_response text, binary;
    struct diag why;
    uint8_t *file;
    size_t len;

    cr_assert_eq(
        format(",\"outputs\":[{\"name\":\"picture\",\"parameters\":{\"picture\":\"png\"}}]",
               TASK_IMAGE, &text, &why),
        0, "%s", why.text);
    cr_assert_eq(format(",\"outputs\":[{\"name\":\"picture\",\"parameters\":"
                        "{\"picture\":\"png\",\"binary_data\":true}}]",
                        TASK_IMAGE, &binary, &why),
                 0, "%s", why.text);
    cJSON *json = tree(&text);
    const cJSON *o = output(json, 0);
    cr_expect_str_eq(text_of(cJSON_GetObjectItem(o, "parameters"), "content_type"), "base64");
    cr_assert_eq(
        api_base64_decode(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "data"), 0)->valuestring, &file,
                          &len),
        0);
    cr_expect_eq(memcmp(file, "\x89PNG", 4), 0);
    cr_assert_eq(binary.len - binary.json_len, len + 4);
    cr_expect_eq(memcmp(binary.body + binary.json_len + 4, file, len), 0);

    struct image im;
    cr_assert_eq(image_decode(&im, file, len, "answer", &why), 0, "%s", why.text);
    cr_expect_eq(im.rows, 2);
    cr_expect_eq(im.data[0], 0);
    cr_expect_eq(im.data[(size_t)im.channels], 128);
    cr_expect_eq(im.data[2 * (size_t)im.channels], 255);
    cr_expect_eq(im.data[3 * (size_t)im.channels], 255, "2.0 is clamped");
    image_done(&im);
    free(file);
    cJSON_Delete(json);
    free(text.body);
    free(binary.body);
}

Test(api, impossible_answers_are_refused)
{
    struct infer_response r = { 0 };
    struct diag why = { "" };

    cr_expect_eq(format(",\"outputs\":[{\"name\":\"none\"}]", TASK_RAW, &r, &why), -EINVAL);
    cr_expect_not_null(strstr(why.text, "no output \"none\""), "%s", why.text);
    static const char *const forms[] = { "\"picture\":\"png\"", "\"detections\":true",
                                         "\"class_map\":true" };
    for (int i = 0; i < 3; i++) {
        char json[128];
        snprintf(json, sizeof json, ",\"outputs\":[{\"name\":\"prob\",\"parameters\":{%s}}]",
                 forms[i]);
        cr_expect_eq(format(json, TASK_RAW, &r, &why), -EINVAL);
        cr_expect_not_null(strstr(why.text, "task"), "%s", why.text);
    }
    cr_expect_eq(format(",\"outputs\":[{\"name\":\"prob\",\"parameters\":{\"picture\":\"png\"}}]",
                        TASK_IMAGE, &r, &why),
                 -EINVAL);
    cr_expect_null(r.body);
}

/* ---- detections and segments */

/* What an answer of one output and a sidecar becomes; the picture is 4 x 4 pixels. */
static int format_task(const char *sidecar_json, struct request_tensor *out, const char *outputs,
                       struct infer_response *response, struct diag *why)
{
    struct sidecar sidecar;
    struct infer_request q;
    char json[512];

    cr_assert_eq(sidecar_parse(&sidecar, sidecar_json, strlen(sidecar_json), "net.json", why), 0,
                 "%s", why->text);
    struct request r = {
        .noutputs = 1, .output = out, .sidecar = &sidecar, .nodes = 1, .rows = 4, .cols = 4
    };
    snprintf(json, sizeof json, "{" ONE "%s}", outputs);
    cr_assert_eq(parse(&q, json, why), 0, "%s", why->text);
    const int rc = infer_format(&q, &r, "net", response, why);
    infer_done(&q);
    sidecar_done(&sidecar);
    return rc;
}

static const char *element(const cJSON *o, int i)
{
    return cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "data"), i));
}

Test(api, detections_and_their_picture)
{
    static float values[] = { 2, 1, 2, 2, 0.5f, 0.5f };
    struct request_tensor out = { "boxes", shape_make(3, (int32_t[]){ 1, 1, 6 }), values };
    struct infer_response r;
    struct diag why;

    cr_assert_eq(format_task("{\"task\":\"detect\",\"labels\":[\"a \\\"cat\\\"\"],"
                             "\"detect\":{\"decoder\":\"yolov5\",\"score\":0.2}}",
                             &out,
                             ",\"outputs\":[{\"name\":\"boxes\",\"parameters\":"
                             "{\"detections\":true}},{\"name\":\"boxes\",\"parameters\":"
                             "{\"picture\":\"png\"}}]",
                             &r, &why),
                 0, "%s", why.text);
    cJSON *json = tree(&r);
    cr_expect_str_eq(text_of(output(json, 0), "datatype"), "BYTES");
    cr_expect_str_eq(element(output(json, 0), 0),
                     "[{\"label\":\"a \\\"cat\\\"\",\"index\":0,\"score\":0.25,"
                     "\"box\":[1,0,3,2]}]");
    cr_expect_null(cJSON_GetObjectItem(output(json, 0), "parameters"));
    cr_expect_eq(strncmp(element(output(json, 1), 0), "iVBORw0KGgo", 11), 0, "a PNG in base64");
    cJSON_Delete(json);
    free(r.body);
}

Test(api, segments_and_their_class_map)
{
    /* Class 1 in the upper row, class 0 below. */
    static float values[] = { 0, 0, 1, 1, /**/ 1, 1, 0, 0 };
    struct request_tensor out = { "seg", shape_make(4, (int32_t[]){ 1, 2, 2, 2 }), values };
    struct infer_response r;
    struct diag why;
    struct image map;
    uint8_t *file;
    size_t len;

    cr_assert_eq(format_task("{\"task\":\"segment\",\"labels\":[\"ground\",\"sky\"]}", &out,
                             ",\"outputs\":[{\"name\":\"seg\",\"parameters\":{\"class_map\":true}},"
                             "{\"name\":\"seg\",\"parameters\":{\"classification\":5}}]",
                             &r, &why),
                 0, "%s", why.text);
    cJSON *json = tree(&r);
    cr_assert_eq(api_base64_decode(element(output(json, 0), 0), &file, &len), 0);
    cr_assert_eq(image_decode(&map, file, len, "map", &why), 0, "%s", why.text);
    cr_assert_eq(map.rows * map.cols, 4);
    cr_expect_eq(map.data[0], 1);
    cr_expect_eq(map.data[3 * map.channels], 0);
    cr_expect_str_eq(element(output(json, 1), 0), "0.5:0:ground");
    cr_expect_str_eq(element(output(json, 1), 1), "0.5:1:sky");
    cr_expect_null(element(output(json, 1), 2));
    image_done(&map);
    free(file);
    cJSON_Delete(json);
    free(r.body);
}

Test(api, one_output_in_one_form_is_asked_for_once)
{
    static const struct {
        const char *outputs, *sentence;
    } cases[] = {
        { "{\"name\":\"a\"},{\"name\":\"a\"}", "asked for twice" },
        { "{\"name\":\"a\",\"parameters\":{\"picture\":\"png\"}},"
          "{\"name\":\"a\",\"parameters\":{\"picture\":\"png\"}}",
          "asked for twice" },
        { "{\"name\":\"a\",\"parameters\":{\"picture\":\"png\",\"detections\":true}}",
          "detections and picture exclude each other" },
        { "{\"name\":\"a\",\"parameters\":{\"detections\":1}}",
          "detections: expected true or false" },
        { "{\"name\":\"a\",\"parameters\":{\"class_map\":\"png\"}}",
          "class_map: expected true or false" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct infer_request q;
        struct diag why = { "" };
        char json[512];
        snprintf(json, sizeof json, "{" ONE ",\"outputs\":[%s]}", cases[i].outputs);
        cr_expect_eq(parse(&q, json, &why), -EINVAL);
        cr_expect_not_null(strstr(why.text, cases[i].sentence), "%s", why.text);
    }
}
