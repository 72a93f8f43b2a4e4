#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/worker_impl.h"
#include "proto/model.h"

static void answer_model(struct worker *w, const uint8_t sha[SHA256_BYTES], enum model_state state,
                         const char *detail)
{
    struct msg_model_state m = { .state = state };
    uint8_t body[MODEL_STATE_MAX_BYTES];

    memcpy(m.sha, sha, sizeof m.sha);
    snprintf(m.detail, sizeof m.detail, "%s", detail);
    const int n = model_state_encode(&m, body, sizeof body);
    if (n < 0)
        return;
    worker_answer(w, &(struct header){ .type = MSG_MODEL_STATE, .length = (uint32_t)n }, body);
}

void worker_take_offer(struct worker *w, const struct header *h, const uint8_t *body)
{
    struct msg_model_offer m;
    struct diag why = { "" };
    char path[PATH_MAX];

    if (model_offer_decode(&m, body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "type=MODEL_OFFER reason=\"does not decode\"");
        return;
    }
    if (store_find(w->store, m.sha, path, sizeof path) == 0)
        answer_model(w, m.sha, MODEL_HAVE, "");
    else if (store_begin(w->store, m.sha, m.size, &why) == 0)
        answer_model(w, m.sha, MODEL_NEED, "");
    else
        answer_model(w, m.sha, MODEL_FAILED, why.text);
}

/* A complete file on its way to the disk. */
struct keeping {
    uv_work_t work;
    struct worker *worker;
    struct receipt *receipt;
    uint8_t sha[SHA256_BYTES];
    int status;
    struct diag why;
};

static void keep_work(uv_work_t *work)
{
    struct keeping *k = work->data;
    k->status = store_keep(k->receipt, &k->why);
}

static void model_failed(struct worker *w, const uint8_t sha[SHA256_BYTES], const char *why)
{
    log_event(LOG_WARN, "model-failed", "reason=\"%s\"", why);
    answer_model(w, sha, MODEL_FAILED, why);
}

static void keep_done(uv_work_t *work, int status)
{
    struct keeping *k = work->data;
    struct worker *w = k->worker;

    (void)status; /* never cancelled */
    if (k->status < 0)
        model_failed(w, k->sha, k->why.text);
    else
        answer_model(w, k->sha, MODEL_HAVE, "");
    free(k);
    w->keeping--;
    if (w->closing)
        worker_close_step(w);
}

static void keep_model(struct worker *w, const uint8_t sha[SHA256_BYTES])
{
    struct keeping *k = calloc(1, sizeof *k);

    if (!k) {
        model_failed(w, sha, "out of memory"); /* the store forgets it at the next offer */
        return;
    }
    k->worker = w;
    k->work.data = k;
    memcpy(k->sha, sha, sizeof k->sha);
    k->receipt = store_take(w->store, sha);
    w->keeping++;
    const int err = uv_queue_work(w->loop, &k->work, keep_work, keep_done);
    if (err < 0) {
        keep_work(&k->work);
        keep_done(&k->work, 0);
    }
}

void worker_take_chunk(struct worker *w, const struct header *h, const uint8_t *body)
{
    struct msg_model_chunk m;
    struct diag why = { "" };

    if (model_chunk_decode(&m, body, h->length) < 0) {
        log_event(LOG_WARN, "message-dropped", "type=MODEL_CHUNK reason=\"does not decode\"");
        return;
    }
    const int state = store_append(w->store, &m, &why);
    if (state == 1)
        keep_model(w, m.sha);
    else if (state < 0)
        model_failed(w, m.sha, why.text);
}
