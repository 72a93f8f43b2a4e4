/* libsplit/store.h - memory that is freed all at once.
 *
 * A model and a graph are thousands of small arrays and names with one life.  A store keeps
 * them in a chain of blocks.  NULL is an empty store.  Not thread-safe. */
#ifndef LIBSPLIT_STORE_H
#define LIBSPLIT_STORE_H

#include <stddef.h>

struct store;

/* `n` elements of `size` bytes, zeroed and aligned for any type; never NULL for 0 elements.
 * NULL when memory is short or n * size overflows. */
void *store_array(struct store **s, size_t n, size_t size);
/* A NUL-terminated copy of `len` characters, NULL when memory is short. */
char *store_text(struct store **s, const char *text, size_t len);
void store_free(struct store **s);

#endif
