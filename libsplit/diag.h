/* libsplit/diag.h - one sentence for a human about what went wrong. */
#ifndef LIBSPLIT_DIAG_H
#define LIBSPLIT_DIAG_H

#include <stdbool.h>

/* File, place, what was found, what is allowed.  Filled where the value is known,
 * passed up untouched, printed once by daemon or cli. */
struct diag {
    char text[512];
};

/* Writes the sentence (cut off if too long; `why` may be NULL) and gives `err`, so that a
 * failure is one line: return diag(why, -EINVAL, "%s: ...", file, ...).  A macro over an
 * inline function, so that compilers see that the failure returns a failure. */
#define diag(why, err, ...) diag_err(diag_write((why), __VA_ARGS__), (err))

/* Control characters, which a name out of a hostile file may hold, become '?'.  Returns
 * whether there was a place to write to. */
__attribute__((format(printf, 2, 3))) bool diag_write(struct diag *why, const char *fmt, ...);

static inline int diag_err(bool written, int err)
{
    (void)written;
    return err;
}

#endif
