#include "cli/parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* strtol() and strtod() skip blanks; a number of ours starts at once. */
static bool starts_number(const char *text)
{
    return *text != '\0' && !isspace((unsigned char)*text);
}

/* Reads one number that ends before `stop` (or at the end of the text) and returns what follows it;
 * NULL if there is none. */
static const char *take_int(const char *text, char stop, int32_t lo, int32_t hi, int32_t *value)
{
    char *end;
    if (!starts_number(text))
        return NULL;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (end == text || errno != 0 || v < lo || v > hi)
        return NULL;
    if (*end != '\0' && (*end != stop || end[1] == '\0'))
        return NULL;
    *value = (int32_t)v;
    return *end == '\0' ? end : end + 1;
}

bool parse_int(const char *text, int32_t lo, int32_t hi, int32_t *value)
{
    return take_int(text, '\0', lo, hi, value) != NULL;
}

bool parse_float(const char *text, double lo, double hi, double *value)
{
    char *end;
    if (!starts_number(text))
        return false;
    errno = 0;
    const double v = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(v >= lo && v <= hi))
        return false;
    *value = v;
    return true;
}

static int32_t take_list(const char *text, char separator, int32_t lo, int32_t hi, int32_t *values,
                         int32_t cap)
{
    int32_t n = 0;
    do {
        if (n == cap)
            return 0;
        text = take_int(text, separator, lo, hi, &values[n++]);
    } while (text && *text != '\0');
    return text ? n : 0;
}

int32_t parse_list(const char *text, int32_t lo, int32_t hi, int32_t *values, int32_t cap)
{
    return take_list(text, ',', lo, hi, values, cap);
}

bool parse_shape(char *text, struct graph_input *shape)
{
    /* Names may hold a '='; extents never do. */
    char *equals = strrchr(text, '=');
    struct graph_input s = { 0 };

    s.rank = take_list(equals ? equals + 1 : text, 'x', 1, BOX_MAX_EXTENT, s.dim, SHAPE_MAX_RANK);
    if (s.rank == 0 || equals == text)
        return false;
    if (equals) {
        *equals = '\0';
        s.name = text;
    }
    *shape = s;
    return true;
}
