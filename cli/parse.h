/* cli/parse.h - numbers and lists of the command line. */
#ifndef CLI_PARSE_H
#define CLI_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "libsplit/graph.h"

/* All of `text` must be a decimal number in lo..hi.  `*value` is written only on success. */
bool parse_int(const char *text, int32_t lo, int32_t hi, int32_t *value);
bool parse_float(const char *text, double lo, double hi, double *value);

/* "5,3,1": returns how many numbers in lo..hi were read, 0 if the text is anything else or has
 * more than `cap`. */
int32_t parse_list(const char *text, int32_t lo, int32_t hi, int32_t *values, int32_t cap);

/* "1x3x224x224" or "NAME=1x3x224x224" (the name keeps pointing into `text`, whose '=' becomes a
 * NUL).  Extents are 1..BOX_MAX_EXTENT. */
bool parse_shape(char *text, struct graph_input *shape);

#endif
