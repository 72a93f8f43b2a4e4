#include "test/proto/hostile.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t rng_next(struct rng *g)
{
    uint64_t z = g->state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint32_t rng_below(struct rng *g, uint32_t n) { return (uint32_t)(rng_next(g) >> 32) % n; }

void rng_bytes(struct rng *g, void *to, size_t n)
{
    uint8_t *p = to;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rng_next(g);
}

void rng_text(struct rng *g, char *to, size_t max)
{
    static const char *const alphabet[] = { "a", "Z", "-", " ", "7", "é", "Я", "界", "�", "😀" };
    const size_t goal = rng_below(g, (uint32_t)max + 1);

    to[0] = '\0';
    for (size_t at = 0; at < goal;) {
        const char *c = alphabet[rng_below(g, sizeof alphabet / sizeof *alphabet)];
        if (at + strlen(c) > max)
            return;
        strcpy(to + at, c);
        at += strlen(c);
    }
}

/* Decodes a copy of `len` bytes that ends where its heap block ends. */
static int decode_copy(decode_fn decode, const uint8_t *bytes, size_t len)
{
    uint8_t *block = malloc(len > 0 ? len : 1);
    cr_assert_not_null(block);
    memcpy(block, bytes, len);
    const int err = decode(block + (len > 0 ? 0 : 1), len);
    free(block);
    return err;
}

void hostile_lengths(decode_fn decode, const uint8_t *good, size_t len)
{
    uint8_t *longer = calloc(1, len + 4);
    cr_assert_not_null(longer);
    memcpy(longer, good, len);

    cr_assert_eq(decode_copy(decode, good, len), 0);
    for (size_t n = 0; n < len; n++)
        cr_assert_eq(decode_copy(decode, good, n), -EBADMSG, "%zu of %zu bytes", n, len);
    for (size_t n = len + 1; n <= len + 4; n++)
        cr_assert_eq(decode_copy(decode, longer, n), -EBADMSG, "%zu for %zu bytes", n, len);
    cr_assert_eq(decode(NULL, 0), -EBADMSG);
    free(longer);
}

static void assert_allowed(int err)
{
    cr_assert(err == 0 || err == -EBADMSG || err == -EPROTO, "error %d", err);
}

void hostile_mutations(decode_fn decode, const uint8_t *good, size_t len, int rounds)
{
    static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xff };
    struct rng g = { 1 };
    uint8_t *bytes = malloc(len + 8);
    cr_assert_not_null(bytes);

    for (int round = 0; round < rounds; round++) {
        size_t n = len;
        memcpy(bytes, good, len);
        rng_bytes(&g, bytes + len, 8);
        if (rng_below(&g, 4) == 0)
            n = rng_below(&g, (uint32_t)len + 8);
        for (uint32_t hits = rng_below(&g, 4) + 1; n > 0 && hits > 0; hits--) {
            uint8_t *p = &bytes[rng_below(&g, (uint32_t)n)];
            switch (rng_below(&g, 3)) {
            case 0:
                *p = (uint8_t)rng_next(&g);
                break;
            case 1:
                *p ^= (uint8_t)(1U << rng_below(&g, 8));
                break;
            default:
                *p = edges[rng_below(&g, sizeof edges)];
                break;
            }
        }
        assert_allowed(decode_copy(decode, bytes, n));
    }
    free(bytes);
}

void hostile_noise(decode_fn decode, size_t max, int rounds)
{
    struct rng g = { 2 };
    uint8_t *bytes = malloc(max);
    cr_assert_not_null(bytes);

    for (int round = 0; round < rounds; round++) {
        const size_t n = rng_below(&g, (uint32_t)max + 1);
        rng_bytes(&g, bytes, n);
        assert_allowed(decode_copy(decode, bytes, n));
    }
    free(bytes);
}
