#include "daemon/skew.h"

void skew_add(struct skew *s, int64_t t0, int64_t t1, int64_t t2, int64_t t3)
{
    const int64_t travelled = (t3 - t0) - (t2 - t1);
    if (t3 < t0 || t2 < t1 || travelled < 0)
        return;
    s->sample[s->n++ % SKEW_SAMPLES] = (struct skew_sample){
        .offset_ns = ((t1 - t0) + (t2 - t3)) / 2,
        .error_ns = travelled / 2 + 1, /* of the division */
        .at_ns = t3,
    };
}

static int64_t error_at(const struct skew_sample *e, int64_t now_ns)
{
    return e->error_ns + (now_ns - e->at_ns) / (1000000 / SKEW_DRIFT_PPM);
}

bool skew_best(const struct skew *s, int64_t now_ns, int64_t *offset_ns, int64_t *error_ns)
{
    const struct skew_sample *best = &s->sample[0];
    for (uint32_t i = 1; i < s->n && i < SKEW_SAMPLES; i++)
        if (error_at(&s->sample[i], now_ns) < error_at(best, now_ns))
            best = &s->sample[i];
    if (s->n == 0)
        return false;
    *offset_ns = best->offset_ns;
    *error_ns = error_at(best, now_ns);
    return true;
}
