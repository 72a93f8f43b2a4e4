#include "libsplit/diag.h"

#include <stdarg.h>
#include <stdio.h>

bool diag_write(struct diag *why, const char *fmt, ...)
{
    va_list ap;

    if (!why)
        return false;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
    for (char *c = why->text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return true;
}
