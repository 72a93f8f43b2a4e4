#include "proto/hello.h"

#include "proto/text.h"

const char *hello_status_text(enum hello_status s)
{
    static const char *const text[HELLO_STATUSES] = {
        [HELLO_OK] = "is welcome",
        [HELLO_OTHER_CLUSTER] = "belongs to another cluster",
        [HELLO_UNKNOWN_NODE] = "is not named in cluster.json",
        [HELLO_DUPLICATE] = "has the name of a node that is connected already",
        [HELLO_OTHER_VERSION] = "speaks another version of the protocol",
    };
    return (unsigned)s < HELLO_STATUSES ? text[s] : "is refused for an unknown reason";
}

static void put_hello(struct writer *w, const struct msg_hello *m)
{
    put_text(w, m->cluster, HELLO_TEXT_MAX, TEXT_U8);
    put_text(w, m->node, HELLO_TEXT_MAX, TEXT_U8);
    put_u64(w, m->boot);
    put_bytes(w, m->config, sizeof m->config);
    put_u16(w, m->threads);
    put_u64(w, m->clock_ms);
    put_text(w, m->version, HELLO_VERSION_MAX, TEXT_U8);
}

static int get_hello(struct reader *r, struct msg_hello *m)
{
    int err = get_text(r, m->cluster, HELLO_TEXT_MAX, TEXT_U8);
    if (err == 0)
        err = get_text(r, m->node, HELLO_TEXT_MAX, TEXT_U8);
    if (err != 0)
        return err;

    m->boot = get_u64(r);
    const uint8_t *config = get_bytes(r, sizeof m->config);
    m->threads = get_u16(r);
    m->clock_ms = get_u64(r);
    err = get_text(r, m->version, HELLO_VERSION_MAX, TEXT_U8);
    if (err != 0)
        return err;
    if (!reader_ended(r))
        return -EBADMSG;
    memcpy(m->config, config, sizeof m->config);
    return 0;
}

int hello_encode(const struct msg_hello *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    put_hello(&w, m);
    return writer_length(&w);
}

int hello_ack_encode(const struct msg_hello *m, uint8_t *to, size_t cap)
{
    struct writer w = { .buf = to, .cap = cap };

    put_u8(&w, (uint8_t)m->status);
    put_hello(&w, m);
    return writer_length(&w);
}

int hello_decode(struct msg_hello *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_hello d = { .status = HELLO_OK };

    const int err = get_hello(&r, &d);
    if (err == 0)
        *m = d;
    return err;
}

int hello_ack_decode(struct msg_hello *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    struct msg_hello d = { .status = (enum hello_status)get_u8(&r) };

    const int err = get_hello(&r, &d);
    if (err != 0)
        return err;
    if ((unsigned)d.status >= HELLO_STATUSES)
        return -EPROTO;
    *m = d;
    return 0;
}
