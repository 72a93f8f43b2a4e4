#include "cli/client.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client_http.h"
#include "cli/parse.h"
#include "libsplit/file.h"

enum { KEY_SERVER = 400, KEY_TIMEOUT, KEY_CA, KEY_TOKEN, TOKEN_MAX_BYTES = 1024 };

/* BYTES elements and their lengths stay below what a u32 holds. */
static const size_t max_element_bytes = (size_t)1 << 30;

static const struct argp_option options[] = {
    { "server", KEY_SERVER, "URL", 0,
      "The coordinator (default: $SPLITD_SERVER, or http://127.0.0.1:8080)", 0 },
    { "timeout", KEY_TIMEOUT, "S", 0,
      "Seconds to wait for a server that is busy or not there yet, and for each answer (default "
      "30)",
      0 },
    { "ca", KEY_CA, "FILE", 0,
      "The certificate authority of an https:// server (default: $SPLITD_CA, or the system's)", 0 },
    { "token", KEY_TOKEN, "FILE", 0,
      "A file that holds the token of the server (default: $SPLITD_TOKEN, or none)", 0 },
    { 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct client_options *o = state->input;
    switch (key) {
    case KEY_SERVER:
        o->server = arg;
        return 0;
    case KEY_CA:
        o->ca = arg;
        return 0;
    case KEY_TOKEN:
        o->token = arg;
        return 0;
    case KEY_TIMEOUT:
        if (!parse_float(arg, 0.001, 86400, &o->timeout_s))
            argp_error(state, "--timeout: '%s' is not a number of seconds from 0.001 to 86400",
                       arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp client_argp = { .options = options, .parser = parse };

struct client {
    struct http *http;
    double timeout_s;
};

/* What was given, what the environment says, or `otherwise`. */
static const char *setting(const char *given, const char *set, const char *otherwise)
{
    return given ? given : set && set[0] != '\0' ? set : otherwise;
}

/* The first line of `file`, without its end; free() it. */
static int read_token(const char *file, char **token, struct diag *why)
{
    uint8_t *bytes;
    size_t len;

    const int rc = file_read(file, TOKEN_MAX_BYTES, &bytes, &len, why);
    if (rc < 0)
        return rc;
    char *line = (char *)bytes;
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] != '\0') {
        *token = line;
        return 0;
    }
    free(line);
    return diag(why, -EINVAL, "%s: holds no token", file);
}

int client_new(struct client **out, const struct client_options *o, struct diag *why)
{
    const char *token_file = setting(o->token, getenv("SPLITD_TOKEN"), NULL);
    char *token = NULL;
    struct client *c = calloc(1, sizeof *c);

    if (!c)
        return diag(why, -ENOMEM, "memory is short");
    c->timeout_s = o->timeout_s > 0 ? o->timeout_s : 30;
    int rc = token_file ? read_token(token_file, &token, why) : 0;
    if (rc == 0) {
        const struct http_target to = { .base = setting(o->server, getenv("SPLITD_SERVER"),
                                                        "http://127.0.0.1:8080"),
                                        .ca = setting(o->ca, getenv("SPLITD_CA"), NULL),
                                        .token = token };
        rc = http_new(&c->http, &to, c->timeout_s, why);
    }
    free(token);
    if (rc < 0) {
        free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    http_free(c->http);
    free(c);
}

double client_timeout_s(const struct client *c) { return c->timeout_s; }

/* Turns a reply that is no success into its sentence. */
static int refuse(const struct client *c, const struct http_reply *r, struct diag *why)
{
    cJSON *json = cJSON_ParseWithLength((const char *)r->body, r->len);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "error"));
    const int rc = r->status == 503                      ? -EBUSY
                   : r->status >= 400 && r->status < 500 ? -EINVAL
                                                         : -EREMOTEIO;

    if (text)
        diag(why, rc, "%s: %s", http_base(c->http), text);
    else
        diag(why, rc, "%s: answers with HTTP status %ld", http_base(c->http), r->status);
    cJSON_Delete(json);
    return rc;
}

/* Asks and parses the JSON part of the answer. */
static int ask(struct client *c, const char *path, const uint8_t *body, size_t len, size_t json_len,
               struct http_reply *r, cJSON **json, struct diag *why)
{
    int rc = http_ask(c->http, path, body, len, json_len, r, why);
    if (rc < 0)
        return rc;
    if (r->status != 200) {
        rc = refuse(c, r, why);
        http_reply_done(r);
        return rc;
    }
    *json = cJSON_ParseWithLength((const char *)r->body, r->json_len);
    if (!cJSON_IsObject(*json)) {
        cJSON_Delete(*json);
        http_reply_done(r);
        return diag(why, -EREMOTEIO, "%s%s: its answer is no JSON object", http_base(c->http),
                    path);
    }
    return 0;
}

int client_get(struct client *c, const char *path, cJSON **json, struct diag *why)
{
    struct http_reply r;
    const int rc = ask(c, path, NULL, 0, 0, &r, json, why);
    if (rc == 0)
        http_reply_done(&r);
    return rc;
}

/* "/v2/models/<name><rest>", NULL if memory is short. */
static char *model_path(const char *name, const char *rest)
{
    char *escaped = http_escape(name), *path = NULL;
    if (escaped && asprintf(&path, "/v2/models/%s%s", escaped, rest) < 0)
        path = NULL;
    free(escaped);
    return path;
}

int client_model(struct client *c, const char *name, cJSON **json, struct diag *why)
{
    char *path = model_path(name, "");
    if (!path)
        return diag(why, -ENOMEM, "memory is short");
    const int rc = client_get(c, path, json, why);
    free(path);
    return rc;
}

static size_t data_bytes(const struct client_input *in)
{
    return in->values ? (size_t)shape_values(&in->shape) * sizeof(float) : 4 + in->len;
}

static cJSON *input_json(const struct client_input *in)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", in->name);
    cJSON_AddItemToObject(o, "shape", cJSON_CreateIntArray(in->shape.dim, in->shape.rank));
    cJSON_AddStringToObject(o, "datatype", in->values ? "FP32" : "BYTES");
    cJSON *p = cJSON_AddObjectToObject(o, "parameters");
    cJSON_AddNumberToObject(p, "binary_data_size", (double)data_bytes(in));
    return o;
}

static cJSON *want_json(const struct client_want *w)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", w->name);
    cJSON *p = cJSON_AddObjectToObject(o, "parameters");
    cJSON_AddTrueToObject(p, "binary_data");
    if (w->classes > 0)
        cJSON_AddNumberToObject(p, "classification", w->classes);
    if (w->detections)
        cJSON_AddTrueToObject(p, "detections");
    if (w->class_map)
        cJSON_AddTrueToObject(p, "class_map");
    if (w->picture)
        cJSON_AddStringToObject(p, "picture", w->picture);
    return o;
}

/* The JSON header of a request; cJSON_free() it. */
static char *request_json(const struct client_query *q)
{
    cJSON *root = cJSON_CreateObject();
    if (q->trace)
        cJSON_AddTrueToObject(cJSON_AddObjectToObject(root, "parameters"), "trace");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(root, "inputs"), input_json(q->in));
    cJSON *outputs = cJSON_AddArrayToObject(root, "outputs");
    for (int32_t i = 0; i < q->nwant; i++)
        cJSON_AddItemToArray(outputs, want_json(&q->want[i]));
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

static void put_element(uint8_t *to, const uint8_t *bytes, size_t len)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(len >> (8 * i));
    memcpy(to + 4, bytes, len);
}

/* JSON header and tensor in one piece; free() it.  NULL if memory is short. */
static uint8_t *request_body(const struct client_query *q, size_t *json_len, size_t *len)
{
    const struct client_input *in = q->in;
    char *json = request_json(q);
    if (!json)
        return NULL;
    *json_len = strlen(json);
    *len = *json_len + data_bytes(in);
    uint8_t *body = malloc(*len);
    if (body) {
        memcpy(body, json, *json_len);
        if (in->values)
            memcpy(body + *json_len, in->values, data_bytes(in));
        else
            put_element(body + *json_len, in->bytes, in->len);
    }
    cJSON_free(json);
    return body;
}

static bool read_shape(struct shape *s, const cJSON *list)
{
    int32_t dim[SHAPE_MAX_RANK], rank = 0;
    int64_t values = 1;
    const cJSON *d;

    if (!cJSON_IsArray(list))
        return false;
    cJSON_ArrayForEach(d, list) {
        if (rank == SHAPE_MAX_RANK || !cJSON_IsNumber(d))
            return false;
        const double x = d->valuedouble;
        if (!(x >= 0 && x <= BOX_MAX_EXTENT) || floor(x) < x) /* 0: nothing was found */
            return false;
        dim[rank] = (int32_t)x;
        values *= dim[rank++];
        if (values > BOX_MAX_VALUES)
            return false;
    }
    *s = shape_make(rank, dim);
    return true;
}

/* Takes one output from the JSON and `*at`, the place in the binary part.  Returns 0, -EPROTO or
 * -ENOMEM. */
static int read_output(struct client_output *o, const cJSON *json, const uint8_t **at,
                       const uint8_t *end)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "name"));
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "datatype"));
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(json, "parameters");
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(p, "binary_data_size");

    if (!name || !type || !cJSON_IsNumber(size) ||
        !read_shape(&o->shape, cJSON_GetObjectItemCaseSensitive(json, "shape")))
        return -EPROTO;
    if (!(size->valuedouble >= 0 && size->valuedouble <= (double)(end - *at)))
        return -EPROTO;
    const size_t len = (size_t)size->valuedouble;
    const bool is_float = strcmp(type, "FP32") == 0;
    if (!is_float && strcmp(type, "BYTES") != 0)
        return -EPROTO;
    if (is_float && len != (size_t)shape_values(&o->shape) * sizeof(float))
        return -EPROTO;

    /* The bytes may start at any address in the reply: floats need a copy of their own. */
    void *copy = malloc(len > 0 ? len : 1);
    o->name = strdup(name);
    if (!copy || !o->name) {
        free(copy);
        free(o->name);
        return -ENOMEM;
    }
    memcpy(copy, *at, len);
    *at += len;
    o->len = len;
    if (is_float)
        o->values = copy;
    else
        o->bytes = copy;
    return 0;
}

/* A parameter of the answer, 0 where there is none. */
static double number_of(const cJSON *json, const char *name)
{
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(json, "parameters");
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(p, name);
    return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static int read_answer(const struct client *c, struct client_answer *a, cJSON *json,
                       const struct http_reply *r, struct diag *why)
{
    const uint8_t *at = r->body + r->json_len, *end = r->body + r->len;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "outputs"), *o;
    int rc = cJSON_IsArray(list) ? 0 : -EPROTO;

    *a = (struct client_answer){
        .trace = cJSON_DetachItemFromObjectCaseSensitive(json, "splitd_trace"),
        .answer_bytes = number_of(json, "splitd_answer_bytes"),
        .concealed = number_of(json, "splitd_concealed"),
    };
    cJSON_ArrayForEach(o, list) {
        if (rc == 0)
            rc = a->n < CLIENT_MAX_OUTPUTS ? read_output(&a->output[a->n], o, &at, end) : -EPROTO;
        if (rc < 0)
            break;
        a->n++;
    }
    if (rc == 0 && at == end)
        return 0;
    client_answer_done(a);
    if (rc == -ENOMEM)
        return diag(why, rc, "memory is short for the answer");
    return diag(why, -EREMOTEIO, "%s: its answer does not follow the protocol", http_base(c->http));
}

int client_infer(struct client *c, const char *model, const struct client_query *q,
                 struct client_answer *a, struct diag *why)
{
    size_t json_len, len;
    struct http_reply r;
    cJSON *json;

    if (!q->in->values && q->in->len > max_element_bytes)
        return diag(why, -EINVAL, "%zu bytes are too many for one request", q->in->len);
    char *path = model_path(model, "/infer");
    uint8_t *body = request_body(q, &json_len, &len);
    int rc = path && body ? ask(c, path, body, len, json_len, &r, &json, why)
                          : diag(why, -ENOMEM, "memory is short for the request");
    if (rc == 0) {
        rc = read_answer(c, a, json, &r, why);
        cJSON_Delete(json);
        http_reply_done(&r);
    }
    free(body);
    free(path);
    return rc;
}

void client_answer_done(struct client_answer *a)
{
    for (int32_t i = 0; i < a->n; i++) {
        free(a->output[i].name);
        free(a->output[i].values);
        free(a->output[i].bytes);
    }
    cJSON_Delete(a->trace);
    *a = (struct client_answer){ 0 };
}

const uint8_t *client_element(const struct client_output *o, size_t *at, size_t *len)
{
    if (!o->bytes || o->len - *at < 4)
        return NULL;
    const uint8_t *p = o->bytes + *at;
    const size_t n = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (n > o->len - *at - 4)
        return NULL;
    *at += 4 + n;
    *len = n;
    return p + 4;
}
