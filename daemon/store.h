/* daemon/store.h - model files by SHA-256: a node's cache on disk.
 *
 * <state>/models/<64 hex digits>.onnx; a file under that name is complete and was checked.
 * Loop thread only, but for what says otherwise. */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"
#include "proto/model.h"

struct store;

/* Makes the folder if needed.  Returns 0 or a negative errno with a sentence. */
int store_open(struct store **s, const char *state_dir, struct diag *why);
void store_close(struct store *s);

/* Writes the path of the cached file into `path`.  Returns 0 or -ENOENT. */
int store_find(const struct store *s, const uint8_t sha[SHA256_BYTES], char *path, size_t cap);

/* Receiving a file, one at a time per SHA: begin, append in order; the last append checks the
 * SHA-256.  Append returns 1 when the file is complete, 0 when more is wanted, or a negative errno
 * with a sentence (-EBADMSG: out of order or another SHA; -ENOSPC...), after which the receipt is
 * forgotten. */
int store_begin(struct store *s, const uint8_t sha[SHA256_BYTES], uint64_t size, struct diag *why);
int store_append(struct store *s, const struct msg_model_chunk *c, struct diag *why);

/* Takes the complete file out of the store, to be kept; NULL if it is not complete. */
struct receipt;
struct receipt *store_take(struct store *s, const uint8_t sha[SHA256_BYTES]);
/* Waits for the disk and moves the file to its name.  Any thread; seconds on an SD card, so not
 * the loop's: heartbeats would stop.  Frees `r`.  Returns 0 or a negative errno with a sentence. */
int store_keep(struct receipt *r, struct diag *why);

/* SHA-256 of a file, read in pieces.  Any thread.  Returns 0 or a negative errno. */
int store_sha256(const char *file, uint8_t sha[SHA256_BYTES], uint64_t *size, struct diag *why);

#endif
