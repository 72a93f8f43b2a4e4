/* proto/wire.h - bounded cursors over little-endian bytes.
 *
 * A reader that runs out sticks: later reads yield 0 and `failed` stays set.  A decoder
 * therefore reads all its fields in order and asks once at the end.  A writer that runs out
 * writes nothing more, counts on, and `at` tells how much room was needed. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
    const uint8_t *at, *end;
    bool failed;
};

/* `buf` may be NULL when `len` is 0: the reader then stands on a byte of its own, as arithmetic on
 * a null pointer is undefined. */
static inline struct reader reader_of(const uint8_t *buf, size_t len)
{
    static const uint8_t nothing[1] = { 0 };
    const uint8_t *at = len > 0 ? buf : nothing;
    return (struct reader){ .at = at, .end = at + len };
}

static inline size_t reader_left(const struct reader *r) { return (size_t)(r->end - r->at); }

/* True when the fields took every byte there was, and no more. */
static inline bool reader_ended(const struct reader *r) { return !r->failed && r->at == r->end; }

static inline uint64_t get_le(struct reader *r, unsigned bytes)
{
    uint64_t v = 0;
    if (reader_left(r) < bytes) {
        r->failed = true;
        r->at = r->end;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)*r->at++ << (8 * i);
    return v;
}

static inline uint8_t get_u8(struct reader *r) { return (uint8_t)get_le(r, 1); }
static inline uint16_t get_u16(struct reader *r) { return (uint16_t)get_le(r, 2); }
static inline uint32_t get_u32(struct reader *r) { return (uint32_t)get_le(r, 4); }
static inline uint64_t get_u64(struct reader *r) { return get_le(r, 8); }
static inline int32_t get_i32(struct reader *r) { return (int32_t)get_u32(r); }

static inline float get_f32(struct reader *r)
{
    const uint32_t bits = get_u32(r);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* `n` bytes in place; NULL when fewer are left. */
static inline const uint8_t *get_bytes(struct reader *r, size_t n)
{
    const uint8_t *p = r->at;
    if (reader_left(r) < n) {
        r->failed = true;
        r->at = r->end;
        return NULL;
    }
    r->at += n;
    return p;
}

struct writer {
    uint8_t *buf;
    size_t cap, at; /* at > cap: it did not fit */
};

static inline void put_le(struct writer *w, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++, w->at++)
        if (w->at < w->cap)
            w->buf[w->at] = (uint8_t)(v >> (8 * i));
}

/* What an encoder returns: the length, or -ENOSPC.  Messages stay far below INT_MAX. */
static inline int writer_length(const struct writer *w)
{
    return w->at <= w->cap ? (int)w->at : -ENOSPC;
}

static inline void put_u8(struct writer *w, uint8_t v) { put_le(w, v, 1); }
static inline void put_u16(struct writer *w, uint16_t v) { put_le(w, v, 2); }
static inline void put_u32(struct writer *w, uint32_t v) { put_le(w, v, 4); }
static inline void put_u64(struct writer *w, uint64_t v) { put_le(w, v, 8); }
static inline void put_i32(struct writer *w, int32_t v) { put_le(w, (uint32_t)v, 4); }

static inline void put_f32(struct writer *w, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_u32(w, bits);
}

static inline void put_bytes(struct writer *w, const void *p, size_t n)
{
    if (n > 0 && w->at <= w->cap && n <= w->cap - w->at)
        memcpy(w->buf + w->at, p, n);
    w->at += n;
}

#endif
