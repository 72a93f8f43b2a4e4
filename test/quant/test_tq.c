#include "quant/tq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "quant/gamma.h"
#include "test/quant/levels.h"

enum { MOST = 2 * (1 << 20) };

/* What a message needs, in exactly that memory, so that a sanitizer sees every step beyond. */
static uint8_t *encode(const struct levels *l, bool with_sign, size_t *len)
{
    uint8_t *room = malloc(MOST);
    *len = tq_put(room, MOST, l, with_sign);
    cr_assert_neq(*len, SIZE_MAX);
    uint8_t *exact = malloc(*len + 1);
    memcpy(exact, room, *len);
    free(room);
    return exact;
}

Test(tq, decode_of_encode_is_the_same)
{
    for (unsigned seed = 0; seed < 400; seed++) {
        const bool with_sign = seed % 2;
        struct levels in = test_levels(seed, with_sign), out = test_levels_like(&in);
        size_t len;
        uint8_t *msg = encode(&in, with_sign, &len);
        cr_assert_eq(tq_get(&out, with_sign, msg, len), 0, "seed %u", seed);
        cr_assert(test_levels_equal(&in, &out), "seed %u", seed);
        free(msg);
        free(in.level);
        free(out.level);
    }
}

/* Nearly all zeros cost nearly nothing; the length is that of the codes and not a byte more. */
Test(tq, is_short_where_values_are_few)
{
    int16_t storage[64 * (1 + 5 * 16)] = { 0 };
    const struct levels l = { .channels = 64, .lines = 5, .cols = 15, .level = storage };
    uint8_t room[64];
    /* gamma(4801) has 25 bits. */
    cr_assert_eq(tq_put(room, sizeof room, &l, true), 4);
    storage[levels_plane(&l) + levels_line(&l, 0) + 3] = -2;
    /* gamma(79) has 13, gamma(2) 3, the sign 1 and gamma(4722) 25. */
    cr_assert_eq(tq_put(room, sizeof room, &l, true), 6);
}

/* Any change of a message is an error or gives levels in range; no cut of one is taken. */
Test(tq, survives_every_change)
{
    for (unsigned seed = 0; seed < 12; seed++) {
        struct levels in = test_levels(seed, true), out = test_levels_like(&in);
        size_t len;
        uint8_t *msg = encode(&in, true, &len);
        for (size_t bit = 0; bit < 8 * len && bit < 4000; bit++) {
            msg[bit / 8] ^= (uint8_t)(1U << bit % 8);
            if (tq_get(&out, true, msg, len) == 0)
                cr_assert(test_levels_in_range(&out), "bit %zu", bit);
            msg[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        for (size_t cut = 0; cut < len && cut < 400; cut++) {
            uint8_t *exact = malloc(cut + 1);
            memcpy(exact, msg, cut);
            cr_assert_eq(tq_get(&out, true, exact, cut), -EBADMSG);
            free(exact);
        }
        free(msg);
        free(in.level);
        free(out.level);
    }
}

/* Numbers of all lengths, one after the other, with single bits between. */
Test(gamma, round_trip)
{
    uint8_t bytes[2048];
    struct bit_writer w = bit_writer_of(bytes, sizeof bytes);
    for (unsigned k = 0; k <= GAMMA_MAX_LOG2; k++)
        for (uint32_t v = 0; v < 4; v++) {
            const uint32_t top = (uint32_t)1 << k;
            gamma_put(&w, v < top ? top + v : top);
            bits_put(&w, v & 1, 1);
        }
    cr_assert_not(w.full);
    const size_t len = (size_t)(bit_writer_end(&w) - bytes);
    uint8_t *exact = malloc(len);
    memcpy(exact, bytes, len);
    struct bit_reader r = bit_reader_of(exact, len);
    for (unsigned k = 0; k <= GAMMA_MAX_LOG2; k++)
        for (uint32_t v = 0; v < 4; v++) {
            const uint32_t top = (uint32_t)1 << k;
            cr_assert_eq(gamma_get(&r), v < top ? top + v : top);
            cr_assert_eq(bits_get(&r, 1), v & 1);
        }
    cr_assert(bit_reader_ended(&r));
    free(exact);
}

Test(gamma, a_full_writer_stays_inside)
{
    for (size_t cap = 0; cap < 40; cap++) {
        uint8_t *room = malloc(cap + 1);
        struct bit_writer w = bit_writer_of(room, cap);
        for (int i = 0; i < 20; i++)
            gamma_put(&w, 1000003);
        cr_assert(w.full);
        cr_assert(bit_writer_end(&w) <= room + cap);
        free(room);
    }
}
