#include "libsplit/diag.h"

#include <stdarg.h>
#include <stdio.h>

int diag(struct diag *why, int err, const char *fmt, ...)
{
    if (why) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(why->text, sizeof why->text, fmt, ap);
        va_end(ap);
    }
    return err;
}
