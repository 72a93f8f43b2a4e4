/* libsplit/file.h - a whole small file in memory: pictures, tensors, sidecars, label lists. */
#ifndef LIBSPLIT_FILE_H
#define LIBSPLIT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"

/* Reads `file` to its end (a pipe is fine).  `*bytes` has one 0 byte after `*len`, so that
 * text may be read as a string; free() it.  Returns 0, an error of open(2) or read(2),
 * -EFBIG (more than `cap` bytes) or -ENOMEM, with `*why`. */
int file_read(const char *file, size_t cap, uint8_t **bytes, size_t *len, struct diag *why);

/* Creates or replaces `file`.  Returns 0 or an error of open(2) or write(2), with `*why`. */
int file_write(const char *file, const void *bytes, size_t len, struct diag *why);

#endif
