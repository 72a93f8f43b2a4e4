#include "proto/health.h"

#include <errno.h>

#include "proto/wire.h"

void health_encode(const struct msg_health *m, uint8_t to[HEALTH_BYTES])
{
    struct writer w = { .buf = to, .cap = HEALTH_BYTES };

    put_i32(&w, m->temperature_mc);
    put_u32(&w, m->throttled);
}

int health_decode(struct msg_health *m, const uint8_t *buf, size_t len)
{
    struct reader r = reader_of(buf, len);
    const int32_t temperature = get_i32(&r);
    const uint32_t throttled = get_u32(&r);

    if (!reader_ended(&r))
        return -EBADMSG;
    if (temperature != HEALTH_NO_TEMPERATURE && (temperature < -273150 || temperature > 1000000))
        return -EPROTO;
    if (throttled & ~(uint32_t)HEALTH_THROTTLED)
        return -EPROTO;
    *m = (struct msg_health){ .temperature_mc = temperature, .throttled = throttled };
    return 0;
}
