#include "proto/model.h"

#include "proto/text.h"

int model_offer_encode(const struct msg_model_offer *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    put_bytes(&w, m->sha, sizeof m->sha);
    put_u64(&w, m->size);
    return writer_length(&w);
}

int model_offer_decode(struct msg_model_offer *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);

    const uint8_t *sha = get_bytes(&r, sizeof m->sha);
    const uint64_t size = get_u64(&r);
    if (!reader_ended(&r))
        return -EBADMSG;
    if (size == 0 || size > MODEL_MAX_BYTES)
        return -EPROTO;
    memcpy(m->sha, sha, sizeof m->sha);
    m->size = size;
    return 0;
}

int model_state_encode(const struct msg_model_state *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    put_bytes(&w, m->sha, sizeof m->sha);
    put_u8(&w, (uint8_t)m->state);
    put_text(&w, m->detail, MODEL_DETAIL_MAX, TEXT_U16);
    return writer_length(&w);
}

int model_state_decode(struct msg_model_state *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_model_state d = { 0 };

    const uint8_t *sha = get_bytes(&r, sizeof d.sha);
    d.state = (enum model_state)get_u8(&r);
    const int err = get_text(&r, d.detail, MODEL_DETAIL_MAX, TEXT_U16);
    if (err != 0)
        return err;
    if (!reader_ended(&r))
        return -EBADMSG;
    if ((unsigned)d.state >= MODEL_STATES)
        return -EPROTO;
    memcpy(d.sha, sha, sizeof d.sha);
    *m = d;
    return 0;
}

int model_chunk_encode(const struct msg_model_chunk *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    put_bytes(&w, m->sha, sizeof m->sha);
    put_u64(&w, m->offset);
    put_bytes(&w, m->data, m->len);
    return writer_length(&w);
}

int model_chunk_decode(struct msg_model_chunk *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);

    const uint8_t *sha = get_bytes(&r, sizeof m->sha);
    const uint64_t offset = get_u64(&r);
    const size_t left = reader_left(&r);
    if (r.failed || left == 0 || left > MODEL_CHUNK_BYTES)
        return -EBADMSG;
    if (offset > MODEL_MAX_BYTES - left)
        return -EPROTO;
    memcpy(m->sha, sha, sizeof m->sha);
    m->offset = offset;
    m->data = r.at;
    m->len = left;
    return 0;
}
