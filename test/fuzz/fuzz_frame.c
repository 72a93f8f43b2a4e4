/* FRAME_DONE and HEARTBEAT: whatever decodes must encode to the same bytes, and no event may be
 * outside of what its program has. */
#include <stdlib.h>
#include <string.h>

#include "proto/beat.h"
#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frame_again(const struct msg_frame_done *m, int32_t n, const uint8_t *data, size_t size)
{
    struct step step[3] = { { .kind = STEP_RECV }, { .kind = STEP_RUN }, { .kind = STEP_SEND } };
    const struct program pr = { .nsteps = 3, .step = step };
    struct trace *t = malloc(sizeof *t + (size_t)n * sizeof t->event[0]);
    uint8_t *again = malloc(size);

    if (!t || !again)
        abort();
    t->n = n;
    for (int32_t i = 0; i < n; i++) {
        t->event[i] = frame_done_event(data, i);
        if (trace_event_fits(&t->event[i], &pr) && (uint32_t)t->event[i].step > 2)
            abort();
    }
    if (frame_done_bytes(n) != size)
        abort();
    frame_done_encode(m, t, again);
    if (memcmp(again, data, size) != 0)
        abort();
    free(again);
    free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_frame_done m;
    struct msg_beat b;
    uint8_t again[BEAT_BYTES];
    int32_t n;

    if (frame_done_decode(&m, &n, data, size) == 0)
        frame_again(&m, n, data, size);
    if (beat_decode(&b, data, size) == 0) {
        beat_encode(&b, again);
        if (memcmp(again, data, size) != 0)
            abort();
    }
    return 0;
}
