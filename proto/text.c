#include "proto/text.h"

/* Bytes of the character at `p`, of which `n` >= 1 bytes are there; 0 if it is none that a text
 * may hold.  Bounds of the second byte are those of RFC 3629 section 4, which leave out overlong
 * forms, surrogates and what lies past U+10FFFF; U+0080 to U+009F are control characters. */
static size_t character_bytes(const uint8_t *p, size_t n)
{
    const uint8_t lead = p[0];
    uint8_t lo = 0x80, hi = 0xbf;
    size_t len;

    if (lead < 0x80) {
        return lead >= 0x20 && lead != 0x7f ? 1 : 0;
    } else if (lead >= 0xc2 && lead <= 0xdf) {
        len = 2;
        if (lead == 0xc2)
            lo = 0xa0;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        len = 3;
        if (lead == 0xe0)
            lo = 0xa0;
        if (lead == 0xed)
            hi = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        len = 4;
        if (lead == 0xf0)
            lo = 0x90;
        if (lead == 0xf4)
            hi = 0x8f;
    } else {
        return 0;
    }
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return len;
}

void put_text(struct writer *w, const char *s, size_t max, enum text_length length)
{
    const uint8_t *p = (const uint8_t *)s;
    const size_t n = strnlen(s, max);

    put_le(w, n, length);
    for (size_t i = 0; i < n;) {
        const size_t len = character_bytes(p + i, n - i);
        if (len > 0)
            put_bytes(w, p + i, len);
        else
            put_u8(w, '?');
        i += len > 0 ? len : 1;
    }
}

int get_text(struct reader *r, char *to, size_t max, enum text_length length)
{
    const size_t n = (size_t)get_le(r, length);
    const uint8_t *p = get_bytes(r, n);

    if (r->failed)
        return -EBADMSG;
    if (n > max)
        return -EPROTO;
    for (size_t i = 0, len; i < n; i += len) {
        len = character_bytes(p + i, n - i);
        if (len == 0)
            return -EPROTO;
    }
    memcpy(to, p, n);
    to[n] = '\0';
    return 0;
}
