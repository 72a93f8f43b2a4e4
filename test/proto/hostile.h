/* test/proto/hostile.h - feeds a decoder what a hostile peer might send.
 *
 * Bytes stand at the end of a heap block of exactly their size, so that the address sanitizer
 * sees any read past them. */
#ifndef TEST_PROTO_HOSTILE_H
#define TEST_PROTO_HOSTILE_H

#include <stddef.h>
#include <stdint.h>

/* Decodes and returns the decoder's answer.  It also checks what must hold: after 0 the value
 * encodes to the same bytes, after an error the output is untouched. */
typedef int (*decode_fn)(const uint8_t *buf, size_t len);

/* `good` decodes; any shorter start of it, and anything longer, is -EBADMSG. */
void hostile_lengths(decode_fn decode, const uint8_t *good, size_t len);
/* A few bytes of `good` are changed, cut off or appended, `rounds` times: 0, -EBADMSG, -EPROTO. */
void hostile_mutations(decode_fn decode, const uint8_t *good, size_t len, int rounds);
/* `rounds` strings of random bytes of up to `max` bytes: 0, -EBADMSG or -EPROTO. */
void hostile_noise(decode_fn decode, size_t max, int rounds);

/* A generator of random numbers (splitmix64): the same on every machine. */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *g);
uint32_t rng_below(struct rng *g, uint32_t n); /* 0..n-1 */
void rng_bytes(struct rng *g, void *to, size_t n);
/* A text of 0..max bytes in `to`: letters, and characters of two to four bytes. */
void rng_text(struct rng *g, char *to, size_t max);

#endif
