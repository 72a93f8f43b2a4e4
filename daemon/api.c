#include "daemon/api.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/api_infer.h"
#include "daemon/metrics.h"
#include "daemon/token.h"

struct api {
    uv_loop_t *loop;
    struct coordinator *coordinator;
    const struct config *config;
    bool guarded; /* by the token */
    struct token token;
    bool stopping;
};

enum {
    OK = 200,
    BAD_REQUEST = 400,
    UNAUTHORIZED = 401,
    NOT_FOUND = 404,
    NOT_ALLOWED = 405,
    FAILED = 500,
    UNAVAILABLE = 503,
    TIMEOUT = 504
};

/* ---- answers */

/* Takes `json`; NULL: memory was short. */
static void reply_json(struct http_call *call, unsigned status, cJSON *json,
                       const struct http_field *fields, size_t nfields)
{
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;

    cJSON_Delete(json);
    http_reply(call, text ? status : FAILED, "application/json", fields, text ? nfields : 0,
               (uint8_t *)text, text ? strlen(text) : 0);
}

/* `field`: NULL for none. */
static void reply_error(struct http_call *call, unsigned status, const struct http_field *field,
                        const char *sentence)
{
    cJSON *json = cJSON_CreateObject();

    if (json && !cJSON_AddStringToObject(json, "error", sentence)) {
        cJSON_Delete(json);
        json = NULL;
    }
    reply_json(call, status, json, field, field != NULL);
}

static const struct http_field retry_after = { "Retry-After", "1" };

/* Whoever asks whether we are ready gets an answer; everybody else who gets none, a line in the
 * log. */
static void reply_not_ready(struct http_call *call, const char *sentence)
{
    reply_error(call, UNAVAILABLE, &retry_after, sentence);
}

static void refuse(struct http_call *call, unsigned status, const char *sentence)
{
    http_note_refusal(call, status, sentence);
    reply_error(call, status, status == UNAVAILABLE ? &retry_after : NULL, sentence);
}

/* ---- metadata.  cJSON's functions take NULL for what could not be made and do nothing: a page
 * for which memory is short lacks members, or is answered with 500. */

static void add_shape(cJSON *to, const int64_t *dim, int32_t rank)
{
    cJSON *list = cJSON_AddArrayToObject(to, "shape");
    for (int32_t a = 0; a < rank; a++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber((double)dim[a]));
}

static void get_server(struct api *a, struct http_call *call)
{
    static const char *const extensions[] = { "binary_tensor_data", "classification", "detections",
                                              "class_map", "picture" };
    cJSON *json = cJSON_CreateObject();
    (void)a;

    cJSON_AddStringToObject(json, "name", "splitd");
    cJSON_AddStringToObject(json, "version", SPLITD_VERSION);
    cJSON_AddItemToObject(json, "extensions", cJSON_CreateStringArray(extensions, 5));
    reply_json(call, OK, json, NULL, 0);
}

static void reply_flag(struct http_call *call, const char *key)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddTrueToObject(json, key);
    reply_json(call, OK, json, NULL, 0);
}

static void get_live(struct api *a, struct http_call *call)
{
    (void)a;
    reply_flag(call, "live");
}

static void get_ready(struct api *a, struct http_call *call)
{
    if (!a->stopping && coordinator_ready(a->coordinator))
        reply_flag(call, "ready");
    else
        reply_not_ready(call, "not ready: a model is still being loaded or planned");
}

/* -1 where the size is open; the graph knows the shapes that the file does not give. */
static void add_port(cJSON *list, const struct onnx_value *v, const struct port *p)
{
    int64_t dim[SHAPE_MAX_RANK];
    int32_t rank = v->rank;
    cJSON *json = cJSON_CreateObject();

    for (int32_t a = 0; a < rank && a < SHAPE_MAX_RANK; a++)
        dim[a] = v->dim[a];
    if (rank < 0 && p) {
        rank = p->shape.rank;
        for (int32_t a = 0; a < rank; a++)
            dim[a] = p->shape.dim[a];
    }
    if (p && p->found && rank > 0)
        dim[0] = -1;
    cJSON_AddStringToObject(json, "name", v->name);
    cJSON_AddStringToObject(json, "datatype", "FP32");
    add_shape(json, dim, rank < 0 ? 0 : rank < SHAPE_MAX_RANK ? rank : SHAPE_MAX_RANK);
    cJSON_AddItemToArray(list, json);
}

static const struct port *find_port(const struct port *port, int32_t n, const char *name)
{
    for (int32_t i = 0; i < n; i++)
        if (strcmp(port[i].name, name) == 0)
            return &port[i];
    return NULL;
}

static void reply_not_loaded(struct http_call *call, const struct model_info *m)
{
    char text[640];

    snprintf(text, sizeof text, "model \"%s\" is not ready: %s", m->name,
             m->problem[0] ? m->problem : "it is still being loaded or planned");
    reply_not_ready(call, text);
}

static void get_model(struct api *a, struct http_call *call, const struct model_info *m)
{
    static const char *const versions[] = { "1" };
    const struct onnx_model *onnx = m->onnx;
    (void)a;

    if (!onnx) {
        reply_not_loaded(call, m);
        return;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", m->name);
    cJSON_AddItemToObject(json, "versions", cJSON_CreateStringArray(versions, 1));
    cJSON_AddStringToObject(json, "platform", "onnx");
    cJSON *inputs = cJSON_AddArrayToObject(json, "inputs");
    for (int32_t i = 0; i < onnx->ninputs; i++)
        add_port(inputs, &onnx->input[i],
                 m->graph ? find_port(m->graph->input, m->graph->ninputs, onnx->input[i].name)
                          : NULL);
    cJSON *outputs = cJSON_AddArrayToObject(json, "outputs");
    for (int32_t i = 0; i < onnx->noutputs; i++)
        add_port(outputs, &onnx->output[i],
                 m->graph ? find_port(m->graph->output, m->graph->noutputs, onnx->output[i].name)
                          : NULL);
    cJSON *parameters = cJSON_AddObjectToObject(json, "parameters");
    cJSON_AddStringToObject(parameters, "task", sidecar_task_name(m->sidecar->task));
    reply_json(call, OK, json, NULL, 0);
}

static void get_model_ready(struct api *a, struct http_call *call, const struct model_info *m)
{
    (void)a;
    if (!m->ready) {
        reply_not_loaded(call, m);
        return;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", m->name);
    cJSON_AddTrueToObject(json, "ready");
    reply_json(call, OK, json, NULL, 0);
}

/* ---- status */

static double ms(uint64_t ns) { return round((double)ns / 1e3) / 1e3; }

static void add_figures(cJSON *list, const char *model, const struct node_info *n)
{
    const int rows[] = { n->row_lo, n->row_hi, n->rows };
    const struct {
        const char *name;
        double value;
    } figures[] = {
        { "compute_ms", ms(n->last.compute_ns) },
        { "wait_ms", ms(n->last.wait_ns) },
        { "pack_ms", ms(n->last.pack_ns) },
        { "send_ms", ms(n->last.send_ns) },
        { "sent_bytes", (double)n->last.sent_bytes },
        { "received_bytes", (double)n->last.received_bytes },
        { "halo_bytes", (double)n->last.halo_sent_bytes },
        { "sent_messages", n->last.sent_messages },
        { "received_messages", n->last.received_messages },
        { "concealed", n->last.concealed },
        { "arena_bytes", (double)n->arena_bytes },
        { "weight_bytes", (double)n->weight_bytes },
    };
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "model", model);
    cJSON_AddItemToObject(json, "rows", cJSON_CreateIntArray(rows, 3));
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        cJSON_AddNumberToObject(json, figures[i].name, figures[i].value);
    cJSON_AddItemToArray(list, json);
}

static void add_node(const struct api *a, cJSON *list, int32_t node)
{
    struct node_info info;
    struct model_info model;
    cJSON *json = cJSON_CreateObject();

    coordinator_node(a->coordinator, node, -1, &info);
    cJSON_AddStringToObject(json, "name", info.name);
    cJSON_AddStringToObject(json, "address", info.address);
    cJSON_AddBoolToObject(json, "up", info.up);
    cJSON_AddBoolToObject(json, "member", info.member);
    cJSON_AddNumberToObject(json, "speed", round(info.speed * 100) / 100);
    cJSON_AddStringToObject(json, "version", info.version);
    if (info.health.temperature_mc == HEALTH_NO_TEMPERATURE)
        cJSON_AddNullToObject(json, "temperature_c");
    else
        cJSON_AddNumberToObject(json, "temperature_c", info.health.temperature_mc / 1e3);
    cJSON_AddNumberToObject(json, "throttled", info.health.throttled);
    cJSON *models = cJSON_AddArrayToObject(json, "models");
    for (int32_t i = 0; i < coordinator_models(a->coordinator); i++) {
        coordinator_model(a->coordinator, i, &model);
        coordinator_node(a->coordinator, node, i, &info);
        add_figures(models, model.name, &info);
    }
    cJSON_AddItemToArray(list, json);
}

/* What each way to send halos took, as far as it is known. */
static void add_trial(cJSON *json, const struct trial *t)
{
    cJSON *times = cJSON_AddObjectToObject(json, "halo_ms");

    for (int32_t i = 0; t && i < t->n; i++)
        if (trial_ns(t, i) > 0)
            cJSON_AddNumberToObject(times, halo_name(t->way[i].halo), ms((uint64_t)trial_ns(t, i)));
}

static void add_model(const struct api *a, cJSON *list, int32_t i)
{
    struct model_info m;
    cJSON *json = cJSON_CreateObject();

    coordinator_model(a->coordinator, i, &m);
    cJSON_AddStringToObject(json, "name", m.name);
    cJSON_AddBoolToObject(json, "ready", m.ready);
    cJSON_AddStringToObject(json, "problem", m.problem);
    if (m.sidecar)
        cJSON_AddStringToObject(json, "task", sidecar_task_name(m.sidecar->task));
    else
        cJSON_AddNullToObject(json, "task");
    if (m.halo)
        cJSON_AddStringToObject(json, "halo", m.halo);
    else
        cJSON_AddNullToObject(json, "halo");
    add_trial(json, m.trial);
    cJSON_AddItemToArray(list, json);
}

static void get_status(struct api *a, struct http_call *call)
{
    struct coordinator_counts n;
    cJSON *json = cJSON_CreateObject();

    coordinator_counts(a->coordinator, &n);
    cJSON_AddStringToObject(json, "cluster", a->config->cluster);
    cJSON_AddStringToObject(json, "coordinator", a->config->node[a->config->coordinator].name);
    cJSON_AddStringToObject(json, "version", SPLITD_VERSION);
    cJSON_AddNumberToObject(json, "epoch", coordinator_epoch(a->coordinator));
    cJSON *nodes = cJSON_AddArrayToObject(json, "nodes");
    for (int32_t i = 0; i < a->config->nnodes; i++)
        add_node(a, nodes, i);
    cJSON *models = cJSON_AddArrayToObject(json, "models");
    for (int32_t i = 0; i < coordinator_models(a->coordinator); i++)
        add_model(a, models, i);
    cJSON *queue = cJSON_AddObjectToObject(json, "queue");
    cJSON_AddNumberToObject(queue, "waiting", n.waiting);
    cJSON_AddNumberToObject(queue, "running", n.running);
    cJSON_AddNumberToObject(queue, "limit", a->config->queue);
    cJSON *counters = cJSON_AddObjectToObject(json, "counters");
    cJSON_AddNumberToObject(counters, "answered", (double)n.answered);
    cJSON_AddNumberToObject(counters, "answered_ms", ms(n.answered_ns));
    cJSON_AddNumberToObject(counters, "refused", (double)n.refused);
    cJSON_AddNumberToObject(counters, "failed", (double)n.failed);
    cJSON_AddNumberToObject(counters, "frames", (double)n.frames);
    cJSON_AddNumberToObject(counters, "repeated", (double)n.repeated);
    cJSON_AddNumberToObject(counters, "concealed", (double)n.concealed);
    reply_json(call, OK, json, NULL, 0);
}

static void get_metrics(struct api *a, struct http_call *call)
{
    size_t len;
    char *text = metrics_text(a->coordinator, a->config, &len);

    if (text)
        http_reply(call, OK, METRICS_CONTENT_TYPE, NULL, 0, (uint8_t *)text, len);
    else
        refuse(call, FAILED, "out of memory");
}

/* ---- infer: parsed, run by the coordinator, formatted, answered; on the pool what takes long */

/* A byte of JSON is read in the time in which so many are copied. */
enum { JSON_COPIES = 64 };

struct infer {
    struct api *api;
    struct http_call *call;
    char model[CONFIG_NAME_MAX + 1];
    const uint8_t *body;
    size_t len, json_len;
    int64_t arrived_ns;
    bool parsed;
    struct infer_request q;
    struct request r;
    struct infer_response response;
    int status;
    struct diag why;
    uv_work_t work;
};

static void infer_end(struct infer *in, unsigned status, const char *sentence)
{
    if (sentence)
        refuse(in->call, status, sentence);
    free(in->response.body);
    infer_done(&in->q);
    free(in);
}

static void infer_answer(struct infer *in)
{
    const struct infer_response r = in->response;
    const bool binary = r.json_len > 0;
    char length[24];

    snprintf(length, sizeof length, "%zu", r.json_len);
    const struct http_field field = { API_HEADER_LENGTH, length };
    in->response.body = NULL;
    http_reply(in->call, OK, binary ? "application/octet-stream" : "application/json", &field,
               binary, r.body, r.len);
    infer_end(in, OK, NULL);
}

static void on_render(struct request *r)
{
    struct infer *in = r->ctx;
    in->status = infer_format(&in->q, r, in->model, &in->response, &in->why);
}

static void on_done(struct request *r, enum outcome outcome, const char *why)
{
    static const unsigned status[] = {
        [OUTCOME_OK] = OK,
        [OUTCOME_BAD_REQUEST] = BAD_REQUEST,
        [OUTCOME_NOT_FOUND] = NOT_FOUND,
        [OUTCOME_BUSY] = UNAVAILABLE,
        [OUTCOME_UNAVAILABLE] = UNAVAILABLE,
        [OUTCOME_TIMEOUT] = TIMEOUT,
        [OUTCOME_FAILED] = FAILED,
    };
    struct infer *in = r->ctx;

    if (outcome != OUTCOME_OK)
        infer_end(in, status[outcome], why);
    else if (in->status < 0)
        infer_end(in, in->status == -EINVAL ? BAD_REQUEST : FAILED, in->why.text);
    else
        infer_answer(in);
}

static bool find_model(const struct api *a, const char *name, struct model_info *m)
{
    for (int32_t i = 0; i < coordinator_models(a->coordinator); i++) {
        coordinator_model(a->coordinator, i, m);
        if (strcmp(m->name, name) == 0)
            return true;
    }
    return false;
}

static bool has_value(const struct onnx_value *v, int32_t n, const char *name)
{
    for (int32_t i = 0; i < n; i++)
        if (strcmp(v[i].name, name) == 0)
            return true;
    return false;
}

/* Names are checked before anything is computed. */
static int check_names(const struct infer_request *q, const struct model_info *m, struct diag *why)
{
    for (int32_t i = 0; i < q->ninputs; i++)
        if (!has_value(m->onnx->input, m->onnx->ninputs, q->name[i]))
            return diag(why, -EINVAL, "model \"%s\" has no input \"%.128s\"", m->name, q->name[i]);
    for (int32_t i = 0; i < q->noutputs; i++)
        if (!has_value(m->onnx->output, m->onnx->noutputs, q->output[i].name))
            return diag(why, -EINVAL, "model \"%s\" has no output \"%.128s\"", m->name,
                        q->output[i].name);
    return 0;
}

static void parse(struct infer *in)
{
    in->parsed = true;
    in->status = infer_parse(&in->q, in->body, in->len, in->json_len, &in->why);
}

static void submit(struct infer *in)
{
    struct api *a = in->api;
    struct model_info m;

    if (a->stopping) {
        infer_end(in, UNAVAILABLE, "the daemon is stopping");
        return;
    }
    const bool known = in->status == 0 && find_model(a, in->model, &m) && m.onnx;
    if (known)
        in->status = check_names(&in->q, &m, &in->why);
    if (in->status < 0) {
        infer_end(in, in->status == -EINVAL ? BAD_REQUEST : FAILED, in->why.text);
        return;
    }
    in->r = (struct request){ .model = in->model,
                              .picture = in->q.picture,
                              .picture_bytes = in->q.picture_bytes,
                              .input = in->q.input,
                              .ninputs = in->q.picture ? 0 : in->q.ninputs,
                              .trace = in->q.trace,
                              .brief = known && m.sidecar && infer_is_brief(&in->q, m.sidecar),
                              .arrived_ns = in->arrived_ns,
                              .ctx = in,
                              .render = on_render,
                              .render_copies = infer_copies(&in->q),
                              .done = on_done };
    coordinator_submit(a->coordinator, &in->r);
}

static void on_read(uv_work_t *work)
{
    struct infer *in = work->data;

    if (!in->parsed)
        parse(in);
    if (in->status == 0)
        in->status = infer_convert(&in->q, &in->why);
}

static void after_read(uv_work_t *work, int status)
{
    struct infer *in = work->data;

    if (status < 0)
        in->status = diag(&in->why, status, "%s", uv_strerror(status));
    submit(in);
}

/* At once, where that takes no longer than to have it done. */
static void read_request(struct infer *in, bool is_picture)
{
    if (is_picture)
        infer_picture(&in->q, in->body, in->len);
    else if (in->json_len <= LOOP_BYTES / JSON_COPIES)
        parse(in);
    if (is_picture || (in->parsed && (in->status < 0 || in->q.nraw == 0))) {
        submit(in);
        return;
    }
    in->work.data = in;
    const int rc = uv_queue_work(in->api->loop, &in->work, on_read, after_read);
    if (rc < 0)
        infer_end(in, FAILED, uv_strerror(rc));
}

/* How much of the body is JSON.  -EINVAL if the header makes no sense. */
static int read_json_len(const struct http_call *call, size_t len, size_t *json_len)
{
    const char *text = http_header(call, API_HEADER_LENGTH);
    char *end;

    *json_len = len;
    if (!text)
        return 0;
    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || n > len)
        return -EINVAL;
    *json_len = (size_t)n;
    return 0;
}

static bool is_picture(const struct http_call *call)
{
    const char *type = http_header(call, "Content-Type");
    return type &&
           (strncasecmp(type, "image/jpeg", 10) == 0 || strncasecmp(type, "image/png", 9) == 0);
}

static void post_infer(struct api *a, struct http_call *call, const struct model_info *m,
                       const uint8_t *body, size_t len)
{
    struct infer *in;
    size_t json_len;

    if (a->stopping) {
        refuse(call, UNAVAILABLE, "the daemon is stopping");
        return;
    }
    if (len == 0) {
        refuse(call, BAD_REQUEST, "the request has no body");
        return;
    }
    if (read_json_len(call, len, &json_len) < 0) {
        refuse(call, BAD_REQUEST,
               "Inference-Header-Content-Length is not a number up to the body's length");
        return;
    }
    in = calloc(1, sizeof *in);
    if (!in) {
        refuse(call, FAILED, "out of memory");
        return;
    }
    in->api = a;
    in->call = call;
    in->arrived_ns = (int64_t)uv_hrtime();
    in->body = body;
    in->len = len;
    in->json_len = json_len;
    snprintf(in->model, sizeof in->model, "%s", m->name);
    read_request(in, is_picture(call));
}

/* ---- routes */

/* A method other than `allowed` is answered here. */
static bool method_is(struct http_call *call, const char *method, const char *allowed)
{
    const struct http_field allow = { "Allow", allowed };
    char text[64];

    if (strcmp(method, allowed) == 0 || (strcmp(allowed, "GET") == 0 && !strcmp(method, "HEAD")))
        return true;
    snprintf(text, sizeof text, "only %s is possible here", allowed);
    http_note_refusal(call, NOT_ALLOWED, text);
    reply_error(call, NOT_ALLOWED, &allow, text);
    return false;
}

static const struct {
    const char *path;
    void (*get)(struct api *a, struct http_call *call);
} pages[] = {
    { "/v2", get_server },
    { "/v2/health/live", get_live },
    { "/v2/health/ready", get_ready },
    { "/splitd/status", get_status },
    { "/metrics", get_metrics },
};

/* What follows "/v2/models/": the name and the rest, version 1 left out. */
static const char *split_model_path(const char *path, char name[CONFIG_NAME_MAX + 1])
{
    const size_t len = strcspn(path, "/");
    static const char version[] = "/versions/1";

    if (len == 0 || len > CONFIG_NAME_MAX)
        return NULL;
    memcpy(name, path, len);
    name[len] = '\0';
    path += len;
    if (strncmp(path, version, sizeof version - 1) == 0 &&
        (path[sizeof version - 1] == '/' || path[sizeof version - 1] == '\0'))
        path += sizeof version - 1;
    return path;
}

static void handle_model(struct api *a, struct http_call *call, const char *method,
                         const char *path, const uint8_t *body, size_t len)
{
    char name[CONFIG_NAME_MAX + 1], text[128];
    struct model_info m;
    const char *rest = split_model_path(path, name);

    if (!rest ||
        (strcmp(rest, "") != 0 && strcmp(rest, "/ready") != 0 && strcmp(rest, "/infer") != 0)) {
        refuse(call, NOT_FOUND, "no such page");
        return;
    }
    if (!find_model(a, name, &m)) {
        snprintf(text, sizeof text, "no model is called \"%s\"", name);
        refuse(call, NOT_FOUND, text);
        return;
    }
    if (!method_is(call, method, strcmp(rest, "/infer") == 0 ? "POST" : "GET"))
        return;
    if (strcmp(rest, "/infer") == 0)
        post_infer(a, call, &m, body, len);
    else if (strcmp(rest, "/ready") == 0)
        get_model_ready(a, call, &m);
    else
        get_model(a, call, &m);
}

/* How the daemon is may be asked by everybody: by what watches over it. */
static bool is_open(const char *path)
{
    return strcmp(path, "/v2/health/live") == 0 || strcmp(path, "/v2/health/ready") == 0;
}

static void refuse_stranger(struct http_call *call)
{
    static const struct http_field scheme = { "WWW-Authenticate", "Bearer" };
    static const char sentence[] = "this needs the token: Authorization: Bearer ...";

    http_note_refusal(call, UNAUTHORIZED, sentence);
    reply_error(call, UNAUTHORIZED, &scheme, sentence);
}

void api_handle(void *ctx, struct http_call *call, const char *method, const char *path,
                const uint8_t *body, size_t len)
{
    static const char models[] = "/v2/models/";
    struct api *a = ctx;

    if (a->guarded && !is_open(path) &&
        !token_is_shown(&a->token, http_header(call, "Authorization"))) {
        refuse_stranger(call);
        return;
    }
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        if (strcmp(path, pages[i].path) == 0) {
            if (method_is(call, method, "GET"))
                pages[i].get(a, call);
            return;
        }
    if (strncmp(path, models, sizeof models - 1) == 0)
        handle_model(a, call, method, path + sizeof models - 1, body, len);
    else
        refuse(call, NOT_FOUND, "no such page");
}

/* ---- life */

int api_new(struct api **out, uv_loop_t *loop, struct coordinator *c, const struct config *config,
            struct diag *why)
{
    struct api *a = calloc(1, sizeof *a);
    if (!a)
        return diag(why, -ENOMEM, "the API: out of memory");
    *a = (struct api){ .loop = loop, .coordinator = c, .config = config };
    a->guarded = config->http_token[0] != '\0';
    const int rc = a->guarded ? token_read(&a->token, config->http_token,
                                           config->node[config->coordinator].name, why)
                              : 0;
    if (rc < 0) {
        free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void api_stop(struct api *a) { a->stopping = true; }

void api_free(struct api *a) { free(a); }
