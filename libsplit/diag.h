/* libsplit/diag.h - one sentence for a human about what went wrong. */
#ifndef LIBSPLIT_DIAG_H
#define LIBSPLIT_DIAG_H

/* File, place, what was found, what is allowed.  Filled where the value is known,
 * passed up untouched, printed once by daemon or cli. */
struct diag {
    char text[512];
};

/* Writes the sentence (cut off if too long; `why` may be NULL) and returns `err`, so that
 * a failure is one line: return diag(why, -EINVAL, "%s: ...", file, ...). */
__attribute__((format(printf, 3, 4))) int diag(struct diag *why, int err, const char *fmt, ...);

#endif
