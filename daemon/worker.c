#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/worker_impl.h"
#include "proto/links.h"

void worker_answer(struct worker *w, const struct header *h, const void *body)
{
    if (w->mesh)
        (void)mesh_send(w->mesh, w->config->coordinator, h, body);
}

/* Tells the coordinator with whom this node can talk. */
static void report_links(struct worker *w)
{
    uint32_t nodes = 0;
    uint8_t body[LINKS_BYTES];

    for (int32_t i = 0; w->mesh && i < w->config->nnodes; i++)
        nodes |= mesh_is_up(w->mesh, i) ? UINT32_C(1) << i : 0;
    links_encode(nodes, body);
    worker_answer(w, &(struct header){ .type = MSG_LINKS, .length = LINKS_BYTES }, body);
}

/* ---- events on the loop */

void worker_message(struct worker *w, int32_t node, const struct header *h, const uint8_t *body)
{
    if (w->closing)
        return;
    if (node != w->config->coordinator) {
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not the coordinator\"",
                  worker_name_of(w, node), (int)h->type);
        return;
    }
    switch (h->type) {
    case MSG_MODEL_OFFER:
        worker_take_offer(w, h, body);
        return;
    case MSG_MODEL_CHUNK:
        worker_take_chunk(w, h, body);
        return;
    case MSG_PLAN:
        worker_take_plan(w, h, body);
        return;
    case MSG_FRAME:
        worker_start_frame(w, h);
        return;
    case MSG_CANCEL:
        if (h->frame == 0)
            worker_forget_plan(w, h);
        else
            worker_cancel_frame(w, h);
        return;
    default:
        log_event(LOG_WARN, "message-dropped", "node=%s type=%d reason=\"not for a worker\"",
                  worker_name_of(w, node), (int)h->type);
    }
}

void worker_up(struct worker *w) { report_links(w); }

void worker_down(struct worker *w, int32_t node)
{
    report_links(w);
    if (node != w->config->coordinator)
        return;
    pthread_mutex_lock(&w->lock);
    for (struct session *s = w->sessions; s; s = s->next)
        worker_cancel_all_locked(s);
    pthread_mutex_unlock(&w->lock);
}

static void on_async(uv_async_t *async)
{
    struct worker *w = async->data;

    pthread_mutex_lock(&w->lock);
    const bool ended = w->ended;
    w->ended = false;
    pthread_mutex_unlock(&w->lock);
    if (ended)
        worker_finish_ended(w);
    worker_reap(w);
}

/* ---- life */

int worker_new(struct worker **out, uv_loop_t *loop, const struct config *config, int32_t self,
               struct store *store, struct diag *why)
{
    struct worker *w = calloc(1, sizeof *w);

    if (!w)
        return diag(why, -ENOMEM, "the worker: out of memory");
    w->loop = loop;
    w->config = config;
    w->self = self;
    w->store = store;
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    int err = uv_async_init(loop, &w->async, on_async);
    if (err < 0) {
        diag(why, err, "the worker: %s", uv_strerror(err));
        goto fail;
    }
    w->async.data = w;
    err = pool_new(&w->pool, config_threads(config, self), POOL_PART_WORK, why);
    if (err < 0)
        goto fail_async;
    err = -pthread_create(&w->thread, NULL, worker_compute, w);
    if (err < 0) {
        diag(why, err, "the worker: cannot start its thread: %s", strerror(-err));
        goto fail_async;
    }
    uv_timer_init(loop, &w->reaper);
    w->reaper.data = w;
    w->handles = 2;
    *out = w;
    return 0;

fail_async:
    /* The handle is the loop's until it has closed: it frees the worker then. */
    w->handles = 1;
    w->joined = true;
    worker_close_step(w);
    return err;
fail:
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return err;
}

void worker_attach(struct worker *w, struct mesh *mesh)
{
    pthread_mutex_lock(&w->lock);
    w->mesh = mesh;
    pthread_mutex_unlock(&w->lock);
    report_links(w);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct worker *w = handle->data;
    void (*closed)(void *ctx) = w->closed;
    void *ctx = w->closed_ctx;

    if (--w->handles > 0)
        return;
    pool_free(w->pool);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
    if (closed)
        closed(ctx);
}

void worker_close_step(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const bool done = w->thread_done;
    pthread_mutex_unlock(&w->lock);
    if (done && !w->joined) {
        pthread_join(w->thread, NULL);
        w->joined = true;
    }
    if (!w->joined || w->sessions || w->keeping > 0 || uv_is_closing((uv_handle_t *)&w->async))
        return;
    uv_close((uv_handle_t *)&w->async, on_handle_closed);
    if (w->handles == 2)
        uv_close((uv_handle_t *)&w->reaper, on_handle_closed);
}

void worker_close(struct worker *w, void (*closed)(void *ctx), void *ctx)
{
    w->closing = true;
    w->closed = closed;
    w->closed_ctx = ctx;
    for (struct session *s = w->sessions; s; s = s->next)
        worker_close_session(w, s);
    if (w->loading)
        (void)uv_cancel((uv_req_t *)&w->load); /* if it runs already, it comes to its end */
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    const bool receives = w->receives;
    pthread_mutex_unlock(&w->lock);
    worker_wake(w, receives);
    worker_reap(w);
}
