/* A program from elsewhere, for the demo's small classifier: what program_check() takes must be
 * safe to load and to run, whatever its messages hold.  Run from the project's root. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/exec.h"
#include "libsplit/graph.h"
#include "libsplit/onnx.h"
#include "proto/plan.h"

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

static void run(const struct graph *g, const struct geometry *geo, const struct msg_plan *m,
                const uint8_t *noise, size_t len)
{
    struct diag why = { "" };
    struct codec_pixels pixels = { .channels = m->pixels.channels, .scale = m->pixels.scale };
    struct fake f = { .exchange = { reserve, discard, invent, release },
                      .pr = &m->program,
                      .geo = geo,
                      .noise = noise,
                      .len = len,
                      .buffer = malloc(MOST_BYTES) };

    memcpy(pixels.mean, m->pixels.mean, sizeof pixels.mean);
    memcpy(pixels.std, m->pixels.std, sizeof pixels.std);
    struct exec *e = f.buffer ? exec_new(g, geo, &m->program, NULL,
                                         pixels.channels > 0 ? &pixels : NULL, NULL, &why)
                              : NULL;
    if (e)
        (void)exec_run(e, &f.exchange, NULL, NULL, NULL);
    exec_free(e);
    free(f.buffer);
}

/* As session_load() of daemon/session.c does. */
static void load(const struct onnx_model *onnx, const struct msg_plan *m, const uint8_t *noise,
                 size_t len)
{
    const struct program *pr = &m->program;
    const struct graph_input input = { .rank = 4, .dim = { 1, 1, 28, 28 } };
    struct diag why = { "" };
    struct geometry geo;
    struct graph g;

    if (pr->nsteps > MOST_STEPS || pr->nodes < 1 || graph_build(&g, onnx, &input, 1, &why) < 0)
        return;
    if (graph_geometry(&g, pr->nodes, &geo) == 0) {
        if (program_check(pr, &geo, NULL) == 0) {
            const int64_t arena = exec_arena_bytes(&g, &geo, pr, 1);
            if (arena >= 0 && arena <= MOST_BYTES && graph_pack(&g, pr, &why) == 0)
                run(&g, &geo, m, noise, len);
        }
        geometry_done(&geo);
    }
    graph_done(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct onnx_model onnx;
    static bool opened;
    struct diag why = { "" };
    struct msg_plan m;

    if (!opened && onnx_open(&onnx, model_file, &why) < 0)
        abort();
    opened = true;
    /* What stands behind the program is what its messages are made of. */
    size_t len = size;
    if (size > 2 && data[size - 1] < 64)
        len = size - 1 - data[size - 1] % (size - 1);
    if (plan_msg_decode(&m, data, len) != 0)
        return 0;
    load(&onnx, &m, data + len, size - len);
    plan_msg_done(&m);
    return 0;
}
