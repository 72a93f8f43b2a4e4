#include "daemon/api_tensor.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

static const struct {
    const char *name;
    size_t bytes;
    double min, max; /* of an integer type; both 0: any number */
} types[API_TYPES] = {
    [API_FP32] = { "FP32", 4, 0, 0 },
    [API_FP64] = { "FP64", 8, 0, 0 },
    [API_UINT8] = { "UINT8", 1, 0, 255 },
    [API_INT32] = { "INT32", 4, INT32_MIN, INT32_MAX },
    [API_INT64] = { "INT64", 8, -0x1p63, 0x1p63 },
    [API_BYTES] = { "BYTES", 0, 0, 0 },
};

/* Halfway from FLT_MAX to where the next float would be: what is below rounds to a float. */
static const double float_end = 0x1.ffffffp127;

int api_type_of(const char *name)
{
    for (int t = 0; t < API_TYPES; t++)
        if (strcmp(types[t].name, name) == 0)
            return t;
    return -EINVAL;
}

size_t api_type_bytes(enum api_type t) { return types[t].bytes; }

int api_shape(const cJSON *json, const char *name, struct shape *s, struct diag *why)
{
    int32_t dim[SHAPE_MAX_RANK] = { 0 }, rank = 0;
    int64_t values = 1;
    const cJSON *v;

    if (!cJSON_IsArray(json))
        return diag(why, -EINVAL, "input \"%.64s\": shape: expected a list of extents", name);
    cJSON_ArrayForEach(v, json) {
        const double x = cJSON_IsNumber(v) ? v->valuedouble : 0;
        if (rank == SHAPE_MAX_RANK)
            return diag(why, -EINVAL, "input \"%.64s\": shape: more than %d extents", name,
                        SHAPE_MAX_RANK);
        if (!(x >= 1 && x <= BOX_MAX_EXTENT) || x != (int32_t)x)
            return diag(why, -EINVAL,
                        "input \"%.64s\": shape: extent %d is not a whole number in 1..%d", name,
                        rank, BOX_MAX_EXTENT);
        dim[rank++] = (int32_t)x;
        values *= (int32_t)x; /* < 2^31 * 2^28 */
        if (values > BOX_MAX_VALUES)
            return diag(why, -EINVAL, "input \"%.64s\": shape: more than %lld values", name,
                        (long long)BOX_MAX_VALUES);
    }
    *s = shape_make(rank, dim);
    return 0;
}

/* ---- JSON */

static int64_t count_values(const cJSON *data)
{
    int64_t n = 0;
    const cJSON *v;

    cJSON_ArrayForEach(v, data)
        n += cJSON_IsArray(v) ? count_values(v) : 1;
    return n;
}

/* The number that `v` stands for; false if it is none that type `t` and a float can hold. */
static bool json_number(const cJSON *v, enum api_type t, float *to)
{
    const bool whole = types[t].min < types[t].max;

    if (cJSON_IsNumber(v)) {
        const double x = v->valuedouble;
        if (whole && (x < types[t].min || x > types[t].max || x != floor(x)))
            return false;
        if (fabs(x) >= float_end)
            return false;
        *to = (float)x;
        return true;
    }
    if (!cJSON_IsString(v) || whole)
        return false;
    if (strcmp(v->valuestring, "NaN") == 0)
        *to = NAN;
    else if (strcmp(v->valuestring, "Infinity") == 0)
        *to = INFINITY;
    else if (strcmp(v->valuestring, "-Infinity") == 0)
        *to = -INFINITY;
    else
        return false;
    return true;
}

/* Returns the first value that is not a number, NULL if all are. */
static const cJSON *flatten(const cJSON *data, enum api_type t, float **at)
{
    const cJSON *v;

    cJSON_ArrayForEach(v, data) {
        if (cJSON_IsArray(v)) {
            const cJSON *bad = flatten(v, t, at);
            if (bad)
                return bad;
        } else if (!json_number(v, t, (*at)++)) {
            return v;
        }
    }
    return NULL;
}

int api_values_json(const cJSON *data, enum api_type t, const char *name, int64_t n, float **values,
                    struct diag *why)
{
    if (!cJSON_IsArray(data))
        return diag(why, -EINVAL, "input \"%.64s\": data: expected a list of numbers", name);
    const int64_t found = count_values(data);
    if (found != n)
        return diag(why, -EINVAL, "input \"%.64s\": data has %lld values, its shape %lld", name,
                    (long long)found, (long long)n);
    float *made = malloc(((size_t)n + 1) * sizeof *made), *at = made; /* n may be 0 */
    if (!made)
        return diag(why, -ENOMEM, "input \"%.64s\": out of memory", name);
    const cJSON *bad = flatten(data, t, &at);
    if (bad) {
        const long long place = at - made - 1;
        free(made);
        return diag(why, -EINVAL, "input \"%.64s\": data: value %lld is not a number of type %s",
                    name, place, types[t].name);
    }
    *values = made;
    return 0;
}

/* ---- binary */

static double get_f64(struct reader *r)
{
    const uint64_t bits = get_u64(r);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static bool binary_number(struct reader *r, enum api_type t, float *to)
{
    double x;

    switch (t) {
    case API_FP32:
        *to = get_f32(r);
        return true;
    case API_UINT8:
        *to = (float)get_u8(r);
        return true;
    case API_INT32:
        *to = (float)get_i32(r);
        return true;
    case API_INT64:
        *to = (float)(int64_t)get_u64(r);
        return true;
    case API_FP64:
        x = get_f64(r);
        if (isfinite(x) && fabs(x) >= float_end)
            return false;
        *to = (float)x;
        return true;
    default:
        return false;
    }
}

int api_check_binary(size_t len, enum api_type t, const char *name, int64_t n, struct diag *why)
{
    if ((uint64_t)len != (uint64_t)n * types[t].bytes)
        return diag(why, -EINVAL,
                    "input \"%.64s\": binary_data_size is %zu, its shape and type %s take %llu",
                    name, len, types[t].name, (unsigned long long)n * types[t].bytes);
    return 0;
}

static const bool little_endian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

const float *api_floats_in(const uint8_t *bytes, enum api_type t)
{
    const bool fits = t == API_FP32 && little_endian && (uintptr_t)bytes % _Alignof(float) == 0;
    return fits ? (const void *)bytes : NULL;
}

void api_put_floats(uint8_t *bytes, const float *values, size_t n)
{
    struct writer w = { .buf = bytes, .cap = n * sizeof *values };

    if (little_endian && n > 0)
        memcpy(bytes, values, n * sizeof *values);
    for (size_t i = 0; !little_endian && i < n; i++)
        put_f32(&w, values[i]);
}

int api_values_binary(const uint8_t *bytes, enum api_type t, const char *name, int64_t n,
                      float **values, struct diag *why)
{
    struct reader r = { .at = bytes, .end = bytes + (size_t)n * types[t].bytes };
    float *made = malloc((size_t)n * sizeof *made);
    if (!made)
        return diag(why, -ENOMEM, "input \"%.64s\": out of memory", name);
    const bool copies = t == API_FP32 && little_endian;
    if (copies)
        memcpy(made, bytes, (size_t)n * sizeof *made);
    for (int64_t i = 0; !copies && i < n; i++)
        if (!binary_number(&r, t, &made[i])) {
            free(made);
            return diag(why, -EINVAL, "input \"%.64s\": value %lld is beyond the range of FP32",
                        name, (long long)i);
        }
    *values = made;
    return 0;
}

/* ---- out */

enum { FLOAT_TEXT = 16, DIGITS = 9 }; /* "-1.17549435e-38," */

/* 10^n, the nearest doubles. */
static const double power[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                                1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
                                1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32,
                                1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43,
                                1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54 };

/* x * 10^n; NAN beyond the powers of floats. */
static double shift_point(double x, int32_t n)
{
    const int32_t most = sizeof power / sizeof power[0];

    if (n <= -most || n >= most)
        return NAN;
    return n < 0 ? x / power[-n] : x * power[n];
}

/* `x`, more than 0, as digits * 10^(e - 8).  Two roundings make an error of some 1e-7 of the last
 * digit: where what follows it is as near to a half, returns false. */
static bool nine_digits(double x, uint32_t *digits, int32_t *e)
{
    int32_t two, ten;
    (void)frexp(x, &two);
    ten = (two * 1233) >> 12; /* log10(2) = 0.30103: right, or one too large */
    double scaled = shift_point(x, 8 - ten);
    if (scaled < 1e8)
        scaled = shift_point(x, 8 - --ten);
    const double whole = floor(scaled), rest = scaled - whole;
    if (!(fabs(rest - 0.5) >= 1e-6))
        return false;
    *digits = (uint32_t)whole + (rest > 0.5);
    *e = ten;
    if (*digits == 1000000000) {
        *digits /= 10;
        ++*e;
    }
    return true;
}

/* As "%.9g," does. */
static size_t print_digits(char *to, uint32_t digits, int32_t e)
{
    char text[DIGITS];
    char *at = to;
    int32_t n = DIGITS;

    for (int32_t i = DIGITS; i-- > 0; digits /= 10)
        text[i] = (char)('0' + digits % 10);
    while (n > 1 && text[n - 1] == '0')
        n--;
    const bool fixed = e >= -4 && e < DIGITS;
    const int32_t before = !fixed ? 1 : e >= 0 ? e + 1 : 0; /* digits before the point */
    for (int32_t i = 0; i < before; i++)
        *at++ = i < n ? text[i] : '0';
    if (before == 0)
        *at++ = '0';
    if (n > before)
        *at++ = '.';
    for (int32_t i = e + 1; before == 0 && i < 0; i++)
        *at++ = '0';
    for (int32_t i = before; i < n; i++)
        *at++ = text[i];
    if (!fixed) {
        const int32_t size = e < 0 ? -e : e;
        *at++ = 'e';
        *at++ = e < 0 ? '-' : '+';
        *at++ = (char)('0' + size / 10);
        *at++ = (char)('0' + size % 10);
    }
    *at++ = ',';
    return (size_t)(at - to);
}

/* Four times as fast as sprintf(), which is asked where it is close. */
static size_t print_float(char *to, float x)
{
    uint32_t digits;
    int32_t e;

    if (isnan(x))
        return (size_t)sprintf(to, "\"NaN\",");
    if (isinf(x))
        return (size_t)sprintf(to, x > 0 ? "\"Infinity\"," : "\"-Infinity\",");
    if (x == 0 || !nine_digits(fabs((double)x), &digits, &e))
        return (size_t)sprintf(to, "%.9g,", (double)x);
    *to = '-';
    return (x < 0) + print_digits(to + (x < 0), digits, e);
}

char *api_print_floats(const float *values, size_t n)
{
    if (n > (SIZE_MAX - 3) / FLOAT_TEXT)
        return NULL;
    char *text = malloc(n * FLOAT_TEXT + 3), *at = text;
    if (!text)
        return NULL;
    *at++ = '[';
    for (size_t i = 0; i < n; i++)
        at += print_float(at, values[i]);
    if (n > 0)
        at--; /* the last comma */
    *at++ = ']';
    *at++ = '\0';
    char *fit = realloc(text, (size_t)(at - text));
    return fit ? fit : text;
}

/* ---- base64 */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int api_base64_decode(const char *text, uint8_t **bytes, size_t *len)
{
    const size_t n = strlen(text);
    size_t pad = 0, at = 0;

    if (n % 4 != 0)
        return -EINVAL;
    if (n > 0)
        pad = (size_t)(text[n - 1] == '=') + (size_t)(text[n - 1] == '=' && text[n - 2] == '=');
    uint8_t *made = malloc(n / 4 * 3 + 1);
    if (!made)
        return -ENOMEM;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            const int v = i + k >= n - pad ? 0 : sextet(text[i + k]);
            if (v < 0) {
                free(made);
                return -EINVAL;
            }
            group = group << 6 | (uint32_t)v;
        }
        made[at++] = (uint8_t)(group >> 16);
        made[at++] = (uint8_t)(group >> 8);
        made[at++] = (uint8_t)group;
    }
    *bytes = made;
    *len = at - pad;
    return 0;
}

char *api_base64_encode(const uint8_t *bytes, size_t len)
{
    if (len > SIZE_MAX / 2)
        return NULL;
    char *text = malloc((len + 2) / 3 * 4 + 1), *at = text;
    if (!text)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        const size_t left = len - i;
        const uint32_t group = (uint32_t)bytes[i] << 16 |
                               (uint32_t)(left > 1 ? bytes[i + 1] : 0) << 8 |
                               (uint32_t)(left > 2 ? bytes[i + 2] : 0);
        *at++ = alphabet[group >> 18];
        *at++ = alphabet[group >> 12 & 63];
        *at++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *at++ = left > 2 ? alphabet[group & 63] : '=';
    }
    *at = '\0';
    return text;
}
