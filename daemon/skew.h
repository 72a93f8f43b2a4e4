/* daemon/skew.h - how far a peer's clock is from ours.
 *
 * A request that leaves here at t0 and gets there at t1, and an answer that leaves there at t2 and
 * gets here at t3, say that the peer's clock is ((t1 - t0) + (t2 - t3)) / 2 ahead, wrong by at most
 * half of the time that was spent on the way, (t3 - t0) - (t2 - t1): RFC 5905, 8.  Of the last
 * exchanges the one that was shortest on its way counts; its error grows with age, for the two
 * clocks run at different speeds. */
#ifndef DAEMON_SKEW_H
#define DAEMON_SKEW_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SKEW_SAMPLES = 16,
    SKEW_DRIFT_PPM = 100, /* two quartzes, 50 each */
};

struct skew_sample {
    int64_t offset_ns; /* the peer's time minus ours */
    int64_t error_ns;  /* at most, when it was taken */
    int64_t at_ns;     /* of our clock */
};

struct skew {
    struct skew_sample sample[SKEW_SAMPLES];
    uint32_t n; /* so far; the last SKEW_SAMPLES are kept */
};

/* The four times, each 0..2^61 ns; t0 and t3 are ours.  An exchange that took less than no time is
 * no exchange and left out. */
void skew_add(struct skew *s, int64_t t0, int64_t t1, int64_t t2, int64_t t3);
/* The best that is known at `now_ns` of our clock.  False before the first exchange. */
bool skew_best(const struct skew *s, int64_t now_ns, int64_t *offset_ns, int64_t *error_ns);

#endif
