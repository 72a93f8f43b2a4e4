#include "libsplit/store.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16384 };

struct store {
    struct store *next;
    size_t used, size;
    alignas(max_align_t) unsigned char bytes[];
};

static struct store *block_new(size_t size)
{
    struct store *b = calloc(1, sizeof *b + size);
    if (b)
        b->size = size;
    return b;
}

/* Large requests get a block of their own, behind the current one, so that the room left in
 * the current one is not lost. */
static void *own_block(struct store **s, size_t bytes)
{
    struct store *b = block_new(bytes);
    if (!b)
        return NULL;
    b->used = bytes;
    if (*s) {
        b->next = (*s)->next;
        (*s)->next = b;
    } else {
        *s = b;
    }
    return b->bytes;
}

void *store_array(struct store **s, size_t n, size_t size)
{
    const size_t align = alignof(max_align_t);
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = bytes ? (bytes + align - 1) / align * align : align;
    if (bytes > BLOCK_BYTES / 4)
        return own_block(s, bytes);
    if (!*s || (*s)->size - (*s)->used < bytes) {
        struct store *b = block_new(BLOCK_BYTES);
        if (!b)
            return NULL;
        b->next = *s;
        *s = b;
    }
    void *p = (*s)->bytes + (*s)->used;
    (*s)->used += bytes;
    return p;
}

char *store_text(struct store **s, const char *text, size_t len)
{
    char *copy = store_array(s, len + 1, 1);
    if (copy && len)
        memcpy(copy, text, len);
    return copy;
}

void store_free(struct store **s)
{
    while (*s) {
        struct store *next = (*s)->next;
        free(*s);
        *s = next;
    }
}
