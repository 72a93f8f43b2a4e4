#include "tiling/halo.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    int64_t bits; /* of a value, at most */
} modes[HALO_MODES + 1] = {
    [HALO_F32] = { "f32", 32 },  [HALO_F16] = { "f16", 16 },   [HALO_Q8] = { "q8", 8 },
    [HALO_Q4] = { "q4", 4 },     [HALO_TQ] = { "tq", 16 },     [HALO_VIDEO] = { "video", 16 },
    [HALO_DROP] = { "drop", 0 }, [HALO_AUTO] = { "auto", 32 },
};

const char *halo_name(enum halo h) { return modes[h].name; }

int halo_parse(const char *name)
{
    for (int h = 0; h < HALO_MODES; h++)
        if (strcmp(modes[h].name, name) == 0)
            return h;
    return -EINVAL;
}

int64_t halo_bytes(enum halo h, int64_t values) { return (modes[h].bits * values + 7) / 8; }
