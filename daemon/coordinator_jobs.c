#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/coordinator_impl.h"
#include "daemon/log.h"
#include "libsplit/clock.h"

/* ---- lists */

static void link_into(struct job **list, struct job *j)
{
    j->next = *list;
    j->link = list;
    if (j->next)
        j->next->link = &j->next;
    *list = j;
}

static void unlink_from(struct job *j)
{
    *j->link = j->next;
    if (j->next)
        j->next->link = j->link;
}

void job_wait(struct job *j, bool front)
{
    struct network *n = j->network;

    j->state = JOB_WAITING;
    if (front) {
        j->next_waiting = n->waiting;
        n->waiting = j;
        if (!j->next_waiting)
            n->last_waiting = &j->next_waiting;
    } else {
        j->next_waiting = NULL;
        *n->last_waiting = j;
        n->last_waiting = &j->next_waiting;
    }
}

void job_unwait(struct job *j)
{
    struct network *n = j->network;
    struct job **at = &n->waiting;

    while (*at != j)
        at = &(*at)->next_waiting;
    *at = j->next_waiting;
    if (!*at)
        n->last_waiting = at;
}

/* ---- the end */

static void free_outputs(struct job *j)
{
    for (int32_t i = 0; j->output && i < j->network->graph.noutputs; i++)
        free(j->output[i]);
    for (int32_t i = 0; j->bytes && i < j->network->graph.noutputs; i++)
        free(j->bytes[i]);
    free(j->output);
    free(j->bytes);
    j->output = NULL;
    j->bytes = NULL;
}

static void job_free(struct job *j)
{
    free_outputs(j);
    free(j->answer);
    free(j->pixels);
    job_trace_free(j->trace);
    if (j->network)
        network_release(j->network);
    free(j);
}

void job_over(struct job *j)
{
    struct coordinator *c = j->c;

    if (j->state == JOB_ENDED)
        return;
    j->state = JOB_ENDED;
    unlink_from(j);
    link_into(&c->ended, j);
    uv_async_send(&c->wake);
}

void job_end(struct job *j, enum outcome outcome, const char *fmt, ...)
{
    va_list ap;

    if (j->over || j->state == JOB_ENDED)
        return;
    j->over = true;
    j->outcome = outcome;
    va_start(ap, fmt);
    vsnprintf(j->fate.text, sizeof j->fate.text, fmt, ap);
    va_end(ap);

    if (j->state == JOB_WORKING || (j->flight && j->flight->working))
        return; /* the work's after-function calls job_over() */
    if (j->state == JOB_WAITING)
        job_unwait(j);
    if (j->flight)
        (void)flight_give_up(j->flight);
    job_over(j);
}

/* Ends with the sentence that is in j->why already. */
static void job_fail(struct job *j, enum outcome outcome)
{
    job_end(j, outcome, "%s", j->why.text);
}

static void count(struct coordinator *c, enum outcome outcome, const struct request *r)
{
    switch (outcome) {
    case OUTCOME_OK:
        c->counts.answered++;
        c->counts.answered_ns += (uint64_t)r->elapsed_ns;
        c->counts.concealed += (uint64_t)r->concealed;
        break;
    case OUTCOME_TIMEOUT:
    case OUTCOME_FAILED:
        c->counts.failed++;
        break;
    default:
        c->counts.refused++;
    }
}

void jobs_report(struct coordinator *c)
{
    for (struct job *j; (j = c->ended) != NULL;) {
        struct request *r = j->r;
        c->ended = j->next;
        if (c->ended)
            c->ended->link = &c->ended;
        r->elapsed_ns = (int64_t)(uv_hrtime() - j->started_ns);
        count(c, j->outcome, r);
        r->priv = NULL;
        r->done(r, j->outcome, j->fate.text); /* may free `r` */
        job_free(j);
    }
    while (c->destitute) {
        struct request *r = c->destitute;
        c->destitute = r->priv;
        r->priv = NULL;
        c->counts.failed++;
        r->done(r, OUTCOME_FAILED, "out of memory");
    }
}

void jobs_tick(struct coordinator *c)
{
    const uint64_t now = uv_now(c->loop);

    for (struct job *j = c->jobs, *next; j; j = next) {
        next = j->next;
        if (now >= j->deadline_ms)
            job_end(j, OUTCOME_TIMEOUT, "no answer within %d ms", c->config->request_timeout_ms);
    }
}

/* ---- inputs: a picture */

/* Rows and columns that the model fixes, 0 where it takes any.  -EINVAL if its input is no
 * picture. */
static int picture_size(const struct model *m, int32_t *rows, int32_t *cols)
{
    const int32_t channels = m->sidecar.pixels.channels;
    const struct onnx_value *v = &m->onnx.input[0];

    if (m->fixed) {
        const struct shape *s = &m->fixed->graph.input[0].shape;
        *rows = shape_len(s, ROW);
        *cols = shape_len(s, COL);
        return network_takes_pictures(m->fixed) ? 0 : -EINVAL;
    }
    if (m->onnx.ninputs != 1 || (v->rank != 4 && v->rank >= 0))
        return -EINVAL;
    if (v->rank == 4 && (v->dim[0] > 1 || (v->dim[1] >= 0 && v->dim[1] != channels)))
        return -EINVAL;
    *rows = v->rank == 4 && v->dim[2] > 0 ? (int32_t)v->dim[2] : 0;
    *cols = v->rank == 4 && v->dim[3] > 0 ? (int32_t)v->dim[3] : 0;
    return 0;
}

static int decode(struct job *j)
{
    const struct model *m = j->model;
    struct image im = { 0 };
    int32_t rows, cols;

    if (picture_size(m, &rows, &cols) < 0)
        return diag(&j->why, -EINVAL, "model \"%s\" does not take a picture of %d channels",
                    m->config->name, m->sidecar.pixels.channels);
    int rc = image_decode(&im, j->r->picture, j->r->picture_bytes, "the picture", &j->why);
    if (rc < 0)
        return rc;
    rc = sidecar_prepare(&m->sidecar, &im, &rows, &cols, &j->pixels, &j->why);
    j->picture_rows = im.rows;
    j->picture_cols = im.cols;
    image_done(&im);
    if (rc < 0)
        return rc;
    j->extents =
        m->fixed
            ? m->fixed->extents
            : (struct extents){ .n = 1,
                                .input = { { 4, { 1, m->sidecar.pixels.channels, rows, cols } } } };
    return 0;
}

/* ---- inputs: tensors */

/* "1x3x?x?" of what the model declares. */
static const char *declared_text(const struct onnx_value *v, char *text, size_t cap)
{
    size_t at = 0;

    snprintf(text, cap, "any shape");
    for (int32_t a = 0; a < v->rank && at < cap; a++) {
        const char *x = a > 0 ? "x" : "";
        const int n = v->dim[a] < 0
                          ? snprintf(text + at, cap - at, "%s?", x)
                          : snprintf(text + at, cap - at, "%s%lld", x, (long long)v->dim[a]);
        at += n > 0 ? (size_t)n : 0;
    }
    return text;
}

static bool fits(const struct onnx_value *v, const struct shape *s)
{
    if (v->rank < 0)
        return true;
    if (s->rank != v->rank)
        return false;
    for (int32_t a = 0; a < v->rank; a++)
        if (v->dim[a] >= 0 && v->dim[a] != s->dim[a])
            return false;
    return true;
}

static const struct request_tensor *find_input(const struct request *r, const char *name)
{
    for (int32_t i = 0; i < r->ninputs; i++)
        if (strcmp(r->input[i].name, name) == 0)
            return &r->input[i];
    return NULL;
}

static int check_tensor(const struct model *m, const struct onnx_value *v,
                        const struct request_tensor *t, struct diag *why)
{
    char found[SHAPE_TEXT_BYTES], wanted[SHAPE_TEXT_BYTES];

    if (!fits(v, &t->shape))
        return diag(why, -EINVAL, "input \"%s\" has shape %s, model \"%s\" takes %s", v->name,
                    shape_text(&t->shape, found), m->config->name,
                    declared_text(v, wanted, sizeof wanted));
    if (t->shape.rank > PLAN_MAX_RANK || shape_values(&t->shape) < 1)
        return diag(why, -EINVAL, "input \"%s\" has shape %s, which holds no values", v->name,
                    shape_text(&t->shape, found));
    if (v->rank > 1 && v->dim[0] < 0 && t->shape.dim[0] > MAX_BATCH)
        return diag(why, -EINVAL, "input \"%s\" is a batch of %d, at most %d are allowed", v->name,
                    t->shape.dim[0], MAX_BATCH);
    return 0;
}

/* What the tensors of the request say about the size; -EINVAL with a sentence. */
static int measure(struct job *j)
{
    const struct request *r = j->r;
    const struct onnx_model *onnx = &j->model->onnx;
    struct extents e = { .n = onnx->ninputs };

    for (int32_t i = 0; i < onnx->ninputs; i++) {
        const struct onnx_value *v = &onnx->input[i];
        const struct request_tensor *t = find_input(r, v->name);
        if (!t)
            return diag(&j->why, -EINVAL, "input \"%s\" of model \"%s\" is missing", v->name,
                        j->model->config->name);
        const int rc = check_tensor(j->model, v, t, &j->why);
        if (rc < 0)
            return rc;
        e.input[i].rank = t->shape.rank;
        memcpy(e.input[i].dim, t->shape.dim, (size_t)t->shape.rank * sizeof t->shape.dim[0]);
    }
    if (r->ninputs != onnx->ninputs)
        return diag(&j->why, -EINVAL, "%d inputs, model \"%s\" takes %d", r->ninputs,
                    j->model->config->name, onnx->ninputs);
    j->extents = e;
    return 0;
}

/* ---- inputs: either */

static int take_inputs(struct job *j)
{
    const struct graph *g = &j->network->graph;

    j->input[0].pixels = j->pixels;
    for (int32_t i = 0; !j->pixels && i < g->ninputs && i < PLAN_MAX_INPUTS; i++) {
        const struct port *p = &g->input[i];
        const struct request_tensor *t = find_input(j->r, p->name);
        if (!t || shape_values(&t->shape) != shape_values(&p->shape))
            return diag(&j->why, -EINVAL, "input \"%s\" does not fit the network", p->name);
        j->input[i].values = t->values;
    }
    return 0;
}

/* ---- outputs */

/* Room for output `i` in one of two forms, perhaps after an earlier try in the other. */
static int make_room(struct job *j, int32_t i, size_t bytes)
{
    const struct port *p = &j->network->graph.output[i];

    if (bytes > 0) {
        free(j->output[i]);
        j->output[i] = NULL;
        if (!j->bytes[i])
            j->bytes[i] = malloc(bytes);
        return j->bytes[i] ? 0 : -ENOMEM;
    }
    free(j->bytes[i]);
    j->bytes[i] = NULL;
    if (!j->output[i])
        j->output[i] = malloc((size_t)shape_values(&p->shape) * sizeof(float));
    return j->output[i] ? 0 : -ENOMEM;
}

int job_outputs(struct job *j, const struct answer_rule *answer)
{
    const struct graph *g = &j->network->graph;
    int rc = 0;

    if (!j->output)
        j->output = calloc((size_t)g->noutputs + 1, sizeof *j->output);
    if (!j->bytes)
        j->bytes = calloc((size_t)g->noutputs + 1, sizeof *j->bytes);
    if (!j->output || !j->bytes)
        return -ENOMEM;
    for (int32_t i = 0; rc == 0 && i < g->noutputs; i++)
        rc = make_room(j, i,
                       answer ? answer_bytes(&answer[i], g->tensor[g->output[i].tensor].dim) : 0);
    return rc;
}

/* From our order to ONNX's. */
static int reorder(float **values, const struct shape *s)
{
    if (shape_in_order(s))
        return 0;
    float *onnx = malloc((size_t)shape_values(s) * sizeof *onnx);
    if (!onnx)
        return -ENOMEM;
    shape_to_onnx(s, onnx, *values);
    free(*values);
    *values = onnx;
    return 0;
}

static int arrange(struct job *j)
{
    const struct graph *g = &j->network->graph;

    j->answer = calloc((size_t)g->noutputs + 1, sizeof *j->answer);
    if (!j->answer)
        return -ENOMEM;
    for (int32_t i = 0; i < g->noutputs; i++) {
        const struct port *p = &g->output[i];
        j->answer[i] = (struct request_tensor){ p->name, p->shape, NULL };
        if (j->bytes[i])
            continue;
        if (reorder(&j->output[i], &p->shape) < 0)
            return -ENOMEM;
        j->answer[i].shape = port_shape(p, j->output[i]);
        j->answer[i].values = j->output[i];
    }
    return 0;
}

static int render(struct job *j)
{
    struct request *r = j->r;
    const int64_t start_ns = clock_ns();

    if (arrange(j) < 0)
        return diag(&j->why, -ENOMEM, "out of memory for the answer");
    job_trace_note(j->trace, "arrange", start_ns, clock_ns());
    r->noutputs = j->network->graph.noutputs;
    r->output = j->answer;
    r->bytes = (const uint8_t *const *)j->bytes;
    r->rows = shape_len(&j->network->graph.input[0].shape, ROW);
    r->cols = shape_len(&j->network->graph.input[0].shape, COL);
    r->picture_rows = j->picture_rows;
    r->picture_cols = j->picture_cols;
    r->sidecar = &j->model->sidecar;
    r->traced = job_trace_text(j->trace);
    r->elapsed_ns = (int64_t)(uv_hrtime() - j->started_ns);
    if (r->render)
        r->render(r);
    return 0;
}

/* ---- work on the pool */

static void on_decode(uv_work_t *work)
{
    struct job *j = work->data;
    const int64_t start_ns = clock_ns();
    j->status = decode(j);
    job_trace_note(j->trace, "decode", start_ns, clock_ns());
}

static void on_render(uv_work_t *work)
{
    struct job *j = work->data;
    j->status = render(j);
}

/* True when the job goes on. */
static bool came_back(struct job *j, int status)
{
    struct coordinator *c = j->c;

    c->works--;
    j->state = JOB_NEW;
    if (status < 0)
        j->status = diag(&j->why, status, "%s", uv_strerror(status));
    if (j->over)
        job_over(j);
    else if (j->status < 0)
        job_fail(j, j->status == -EINVAL ? OUTCOME_BAD_REQUEST : OUTCOME_FAILED);
    return j->state != JOB_ENDED;
}

static void after_decode(uv_work_t *work, int status)
{
    struct job *j = work->data;

    if (came_back(j, status))
        job_advance(j);
}

static void after_render(uv_work_t *work, int status)
{
    struct job *j = work->data;

    if (came_back(j, status))
        job_end(j, OUTCOME_OK, "%s", "");
}

static void work_on(struct job *j, size_t bytes, uv_work_cb work, uv_after_work_cb after)
{
    j->state = JOB_WORKING;
    j->status = 0;
    j->work.data = j;
    coordinator_work(j->c, bytes, &j->work, work, after);
}

/* Bytes that are moved to order the outputs and to render them. */
static size_t render_bytes(const struct job *j)
{
    const struct graph *g = &j->network->graph;
    const size_t copies = 1 + (size_t)j->r->render_copies;
    size_t bytes = 0;

    if (j->trace || (j->r->render && j->r->render_copies == 0))
        return WORK_UNKNOWN;
    for (int32_t i = 0; i < g->noutputs; i++)
        bytes += (size_t)shape_values(&g->output[i].shape) * sizeof(float);
    return bytes > WORK_UNKNOWN / copies ? WORK_UNKNOWN : bytes * copies;
}

void job_collected(struct job *j) { work_on(j, render_bytes(j), on_render, after_render); }

/* ---- the way of a request */

static int choose_network(struct job *j)
{
    if (!j->r->picture) {
        const int rc = measure(j);
        if (rc < 0)
            return rc;
    }
    j->network = network_get(j->model, &j->extents);
    if (!j->network)
        return diag(&j->why, -ENOMEM, "out of memory for model \"%s\"", j->model->config->name);
    j->network->users++;
    return 0;
}

void job_advance(struct job *j)
{
    if (j->r->picture && !j->pixels) {
        work_on(j, WORK_UNKNOWN, on_decode, after_decode);
        return;
    }
    if (!j->network && choose_network(j) < 0) {
        job_fail(j, j->network ? OUTCOME_FAILED : OUTCOME_BAD_REQUEST);
        return;
    }
    struct network *n = j->network;
    if (n->state == NETWORK_FAILED) {
        job_end(j, OUTCOME_BAD_REQUEST, "%s", n->why.text);
    } else if (n->state == NETWORK_BUILDING) {
        j->state = JOB_BUILDING;
    } else if (take_inputs(j) < 0) {
        job_fail(j, OUTCOME_BAD_REQUEST);
    } else {
        job_wait(j, false);
        network_deploy(n);
        (void)flights_dispatch(n);
    }
}

void jobs_network(struct network *n)
{
    for (struct job *j = n->model->c->jobs, *next; j; j = next) {
        next = j->next;
        if (j->network == n && j->state == JOB_BUILDING)
            job_advance(j);
    }
}

/* What keeps a request from being taken in. */
static void admit(struct job *j)
{
    struct coordinator *c = j->c;
    struct coordinator_counts now;

    coordinator_counts(c, &now);
    j->model = models_find(c, j->r->model);
    if (c->closing)
        job_end(j, OUTCOME_UNAVAILABLE, "the coordinator is stopping");
    else if (!j->model)
        job_end(j, OUTCOME_NOT_FOUND, "no model is called \"%s\"", j->r->model);
    else if (j->model->problem.text[0] != '\0')
        job_end(j, OUTCOME_UNAVAILABLE, "%s", j->model->problem.text);
    else if (j->model->state != MODEL_LOADED)
        job_end(j, OUTCOME_UNAVAILABLE, "model \"%s\" is still loading", j->r->model);
    else if (now.waiting > c->config->queue) /* this one is counted */
        job_end(j, OUTCOME_BUSY, "%d requests wait already", c->config->queue);
    else
        job_advance(j);
}

void coordinator_submit(struct coordinator *c, struct request *r)
{
    struct job *j = calloc(1, sizeof *j);

    r->noutputs = 0;
    r->output = NULL;
    r->rows = r->cols = 0;
    r->picture_rows = r->picture_cols = 0;
    r->sidecar = NULL;
    r->frame = r->epoch = 0;
    r->nodes = 0;
    r->elapsed_ns = 0;
    r->traced = NULL;
    if (!j) {
        r->priv = c->destitute;
        c->destitute = r;
        uv_async_send(&c->wake);
        return;
    }
    j->c = c;
    j->r = r;
    j->started_ns = uv_hrtime();
    if (r->trace) {
        j->trace = job_trace_new();
        job_trace_note(j->trace, "read", r->arrived_ns, (int64_t)j->started_ns);
    }
    j->deadline_ms = uv_now(c->loop) + (uint64_t)c->config->request_timeout_ms;
    r->priv = j;
    link_into(&c->jobs, j);
    coordinator_tick_on(c);
    admit(j);
}

void coordinator_cancel(struct coordinator *c, struct request *r)
{
    for (struct job *j = c->jobs; j; j = j->next)
        if (j->r == r) {
            job_end(j, OUTCOME_FAILED, "the client left");
            return;
        }
}
