#include "proto/links.h"

#include "proto/wire.h"

void links_encode(uint32_t nodes, uint8_t to[LINKS_BYTES])
{
    struct writer w = { .buf = to, .cap = LINKS_BYTES };

    put_u32(&w, nodes);
}

int links_decode(uint32_t *nodes, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    const uint32_t found = get_u32(&r);

    if (!reader_ended(&r))
        return -EBADMSG;
    *nodes = found;
    return 0;
}
