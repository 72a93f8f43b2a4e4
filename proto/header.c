#include "proto/header.h"

#include "proto/beat.h"
#include "proto/frame.h"
#include "proto/health.h"
#include "proto/hello.h"
#include "proto/links.h"
#include "proto/model.h"
#include "proto/plan.h"
#include "proto/wire.h"

static const uint8_t magic[4] = { 'S', 'P', 'L', 'T' };

static const struct {
    bool known;
    uint32_t cap;
} types[MSG_TYPES] = {
    [MSG_HELLO] = { true, HELLO_MAX_BYTES },
    [MSG_HELLO_ACK] = { true, HELLO_MAX_BYTES },
    [MSG_HEARTBEAT] = { true, BEAT_BYTES },
    [MSG_BYE] = { true, 0 },
    [MSG_MODEL_OFFER] = { true, MODEL_OFFER_BYTES },
    [MSG_MODEL_STATE] = { true, MODEL_STATE_MAX_BYTES },
    [MSG_MODEL_CHUNK] = { true, MODEL_CHUNK_MAX_BYTES },
    [MSG_PLAN] = { true, PLAN_MAX_BYTES },
    [MSG_PLAN_ACK] = { true, PLAN_ACK_MAX_BYTES },
    [MSG_FRAME] = { true, 0 },
    [MSG_HALO] = { true, HALO_MAX_BYTES },
    [MSG_FRAME_DONE] = { true, FRAME_DONE_MAX_BYTES },
    [MSG_CANCEL] = { true, 0 },
    [MSG_LINKS] = { true, LINKS_BYTES },
    [MSG_HEALTH] = { true, HEALTH_BYTES },
};

static bool type_known(enum msg_type type)
{
    return (unsigned)type < MSG_TYPES && types[type].known;
}

uint32_t header_cap(enum msg_type type) { return type_known(type) ? types[type].cap : 0; }

void header_encode(const struct header *h, uint8_t to[HEADER_BYTES])
{
    struct writer w = { .buf = to, .cap = HEADER_BYTES };

    put_bytes(&w, magic, sizeof magic);
    put_u8(&w, PROTO_VERSION);
    put_u8(&w, (uint8_t)h->type);
    put_u16(&w, h->flags);
    put_u32(&w, h->epoch);
    put_u32(&w, h->plan);
    put_u32(&w, h->frame);
    put_u32(&w, h->transfer);
    put_u32(&w, h->length);
}

int header_decode(struct header *h, const uint8_t from[HEADER_BYTES])
{
    struct reader r = reader_of(from, HEADER_BYTES);
    struct header d = { 0 };

    const uint8_t *mark = get_bytes(&r, sizeof magic);
    const uint8_t version = get_u8(&r);
    d.type = (enum msg_type)get_u8(&r);
    d.flags = get_u16(&r);
    d.epoch = get_u32(&r);
    d.plan = get_u32(&r);
    d.frame = get_u32(&r);
    d.transfer = get_u32(&r);
    d.length = get_u32(&r);

    if (memcmp(mark, magic, sizeof magic) != 0)
        return -EPROTO;
    if (version != PROTO_VERSION) {
        *h = d;
        return -EPROTONOSUPPORT;
    }
    const unsigned flags = HEADER_TO_HOST | HEADER_TRACE | HEADER_BRIEF | HEADER_FRESH;
    if (!type_known(d.type) || (d.flags & ~flags) != 0)
        return -EPROTO;
    if (d.length > header_cap(d.type))
        return -EMSGSIZE;
    *h = d;
    return 0;
}
