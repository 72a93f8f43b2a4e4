/* daemon/api_tensor.h - the values of a tensor in the Open Inference Protocol <-> floats.
 *
 * Datatypes FP32, FP64, UINT8, INT32 and INT64 are taken in and become floats; answers are FP32
 * or BYTES.  JSON has no NaN and no infinity: they are the strings "NaN", "Infinity" and
 * "-Infinity", in both directions.  Pure functions, any thread. */
#ifndef DAEMON_API_TENSOR_H
#define DAEMON_API_TENSOR_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"
#include "libsplit/shape.h"

enum api_type { API_FP32, API_FP64, API_UINT8, API_INT32, API_INT64, API_BYTES, API_TYPES };

/* -EINVAL for a name that is not in the list above. */
int api_type_of(const char *name);
size_t api_type_bytes(enum api_type t); /* of one element, 0 for BYTES */

/* Reads "shape": at most SHAPE_MAX_RANK extents in 1..BOX_MAX_EXTENT whose product is at most
 * BOX_MAX_VALUES.  `name` is quoted in messages. */
int api_shape(const cJSON *json, const char *name, struct shape *s, struct diag *why);

/* Reads `n` values from JSON numbers in arrays of any nesting, row-major.  `*values` is
 * allocated.  Returns 0, -EINVAL (another number of values, one that is no number or that FP32
 * cannot hold) or -ENOMEM. */
int api_values_json(const cJSON *data, enum api_type t, const char *name, int64_t n, float **values,
                    struct diag *why);
/* Are `len` bytes `n` values?  Returns 0 or -EINVAL. */
int api_check_binary(size_t len, enum api_type t, const char *name, int64_t n, struct diag *why);
/* Little-endian values that are floats as they lie there; NULL: they have to be converted. */
const float *api_floats_in(const uint8_t *bytes, enum api_type t);
/* Converts `n` little-endian values; errors as for JSON. */
int api_values_binary(const uint8_t *bytes, enum api_type t, const char *name, int64_t n,
                      float **values, struct diag *why);
/* `n` floats as little-endian bytes. */
void api_put_floats(uint8_t *bytes, const float *values, size_t n);

/* "[1,2.5,\"NaN\"]": the shortest of 9 digits that reads back as the same float.  free() it; NULL
 * when memory is short. */
char *api_print_floats(const float *values, size_t n);

/* Base64 (RFC 4648 section 4, with padding).  Results are to be free()d.  Decoding returns
 * -EINVAL for anything else, white space included. */
int api_base64_decode(const char *text, uint8_t **bytes, size_t *len);
char *api_base64_encode(const uint8_t *bytes, size_t len);

#endif
