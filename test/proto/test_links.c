#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/header.h"
#include "proto/links.h"
#include "test/proto/hostile.h"

static const uint8_t sample_bytes[LINKS_BYTES] = { 0x0d, 0, 0x01, 0x80 };

static int decode(const uint8_t *buf, size_t len)
{
    uint32_t nodes = 0xa5a5a5a5;
    uint8_t again[LINKS_BYTES];

    const int err = links_decode(&nodes, buf, len);
    if (err != 0) {
        cr_assert_eq(nodes, 0xa5a5a5a5);
        return err;
    }
    links_encode(nodes, again);
    cr_assert_eq(len, LINKS_BYTES);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(links, bytes_are_those_of_the_page)
{
    uint8_t bytes[LINKS_BYTES];
    uint32_t nodes;

    links_encode(0x8001000d, bytes);
    cr_assert_arr_eq(bytes, sample_bytes, LINKS_BYTES);
    cr_assert_eq(links_decode(&nodes, sample_bytes, LINKS_BYTES), 0);
    cr_assert_eq(nodes, 0x8001000d);
    cr_assert_eq(header_cap(MSG_LINKS), LINKS_BYTES);
}

Test(links, hostile_bytes)
{
    hostile_lengths(decode, sample_bytes, LINKS_BYTES);
    hostile_mutations(decode, sample_bytes, LINKS_BYTES, 20000);
    hostile_noise(decode, 16, 20000);
}
