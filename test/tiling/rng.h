/* test/tiling/rng.h - splitmix64: the same numbers on every machine for a seed. */
#ifndef TEST_TILING_RNG_H
#define TEST_TILING_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *r) { return rng_mix(r->state += 0x9e3779b97f4a7c15u); }

/* Uniform in lo..hi, both included. */
static inline int32_t rng_int(struct rng *r, int32_t lo, int32_t hi)
{
    return lo + (int32_t)(rng_next(r) % (uint64_t)((int64_t)hi - lo + 1));
}

static inline bool rng_chance(struct rng *r, int32_t percent)
{
    return rng_int(r, 1, 100) <= percent;
}

#endif
