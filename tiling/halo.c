#include "tiling/halo.h"

#include <errno.h>
#include <string.h>

/* What a value takes is measured: nanoseconds to code it (test/bench/bench_codec.c) times the
 * multiply-adds of a convolution in one (test/bench/bench_layers.c), 125.  But tq and video, which
 * take 1100 and more, count as f16: so travels what a halo file does not name, and the plan with
 * the file has to be the one that was calibrated. */
static const struct {
    const char *name;
    int32_t bits; /* of a value, at most */
    int32_t work; /* multiply-adds in whose time one is encoded or decoded */
} modes[HALO_MODES + 1] = {
    [HALO_F32] = { "f32", 32, 6 },  [HALO_F16] = { "f16", 16, 200 },
    [HALO_Q8] = { "q8", 8, 40 },    [HALO_Q4] = { "q4", 4, 45 },
    [HALO_TQ] = { "tq", 16, 200 },  [HALO_VIDEO] = { "video", 16, 200 },
    [HALO_DROP] = { "drop", 0, 0 }, [HALO_AUTO] = { "auto", 32, 6 },
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

int64_t halo_work(enum halo h, int64_t values) { return modes[h].work * values; }
