/* A plan from elsewhere, for the demo's small classifier, as a node loads it: what session_load()
 * takes must be safe to run, whatever its messages hold.  Run from the project's root. */
#include <stdlib.h>
#include <string.h>

#include "daemon/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 32 << 20, MOST_STEPS = 4096 };

static const char model_file[] = "conf/demo/fashion.onnx";

/* Messages are made up where they are asked for, and lost where they are sent. */
struct fake {
    struct exchange exchange; /* first: calls come with it */
    const struct program *pr;
    const struct geometry *geo;
    const uint8_t *noise; /* [len] what messages are made of, after their mode */
    size_t len;
    uint8_t *buffer; /* [MOST_BYTES] */
};

static uint8_t *reserve(struct exchange *x, int32_t peer, int32_t transfer, size_t cap)
{
    (void)peer, (void)transfer;
    return cap <= MOST_BYTES ? ((struct fake *)x)->buffer : NULL;
}

static int discard(struct exchange *x, int32_t peer, int32_t transfer, size_t len)
{
    (void)x, (void)peer, (void)transfer, (void)len;
    return 0;
}

static const struct step *receiver(const struct program *pr, int32_t transfer)
{
    for (int32_t i = 0; i < pr->nsteps; i++)
        if (pr->step[i].kind == STEP_RECV && pr->step[i].transfer == transfer)
            return &pr->step[i];
    abort(); /* nobody else asks */
}

/* Floats of the right number, or, every fourth time, anything. */
static int invent(struct exchange *x, int32_t transfer, const uint8_t **msg, size_t *len)
{
    struct fake *f = (struct fake *)x;
    const struct step *s = receiver(f->pr, transfer);
    const size_t values = (size_t)(box_values(s->box) * f->geo->tensor[s->what].batch);

    *msg = f->buffer;
    *len = codec_bound(values);
    if (*len > MOST_BYTES)
        return -ECANCELED;
    memset(f->buffer, 0, *len);
    for (size_t i = 1; f->len > 0 && i < *len && i < 4096; i++)
        f->buffer[i] = f->noise[(i + (size_t)transfer) % f->len];
    if (f->len > 0 && f->noise[(size_t)transfer % f->len] % 4 == 0) {
        f->buffer[0] = f->noise[(size_t)transfer % f->len] / 4;
        *len = 1 + f->noise[(size_t)transfer % f->len] % *len;
    }
    return 0;
}

static void release(struct exchange *x, int32_t transfer) { (void)x, (void)transfer; }

/* Two frames on the first lane: what one leaves behind meets the other. */
static void run(struct session *s, const uint8_t *noise, size_t len)
{
    struct fake f = { .exchange = { reserve, discard, invent, release },
                      .pr = &s->plan.program,
                      .geo = &s->geo,
                      .noise = noise,
                      .len = len,
                      .buffer = malloc(MOST_BYTES) };

    if (f.buffer) {
        (void)exec_run(s->lane[0].exec, &f.exchange, NULL, NULL, NULL);
        (void)exec_run(s->lane[0].exec, &f.exchange, s->answer, NULL, NULL);
    }
    free(f.buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct session_limits limits = { .node = "fuzz", .max_memory = MOST_BYTES };
    struct diag why = { "" };
    struct msg_plan m;

    /* What stands behind the program is what its messages are made of. */
    size_t len = size;
    if (size > 2 && data[size - 1] < 64)
        len = size - 1 - data[size - 1] % (size - 1);
    if (plan_msg_decode(&m, data, len) != 0)
        return 0;
    struct session *s = m.program.nsteps <= MOST_STEPS ? session_new(&m, 1, 1, 0, NULL) : NULL;
    if (s && session_load(s, model_file, &limits, &why) == 0)
        run(s, data + len, size - len);
    session_free(s);
    plan_msg_done(&m);
    return 0;
}
