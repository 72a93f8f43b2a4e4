#include "daemon/api_infer.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api_output.h"
#include "daemon/api_tensor.h"
#include "proto/wire.h"

enum { LENGTH_BYTES = 4 }; /* before an element in binary */

/* ---- in */

/* cJSON takes some 60 bytes for every value and recurses: what is too much is refused before
 * it sees it. */
static int check_bounds(const char *json, size_t len, struct diag *why)
{
    int32_t depth = 0;
    int64_t values = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        const char c = json[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            values++;
            if (++depth > API_JSON_DEPTH)
                return diag(why, -EINVAL, "the JSON is nested deeper than %d levels",
                            API_JSON_DEPTH);
        } else if (c == ']' || c == '}') {
            depth--;
        } else if (c == ',' && ++values > API_JSON_VALUES) {
            return diag(why, -EINVAL,
                        "the JSON has more than %d values; send large tensors in binary "
                        "(Inference-Header-Content-Length)",
                        API_JSON_VALUES);
        }
    }
    return 0;
}

static int parse_json(const char *json, size_t len, cJSON **root, struct diag *why)
{
    const char *end = json;

    int rc = check_bounds(json, len, why);
    if (rc < 0)
        return rc;
    cJSON *made = cJSON_ParseWithLengthOpts(json, len, &end, false);
    if (!made)
        return diag(why, -EINVAL, "the body is not JSON, byte %td is wrong", end - json);
    for (; end < json + len; end++)
        if (*end == '\0' || !strchr(" \t\r\n", *end)) {
            cJSON_Delete(made);
            return diag(why, -EINVAL, "the JSON ends at byte %td, %zu bytes follow", end - json,
                        (size_t)(json + len - end));
        }
    if (!cJSON_IsObject(made)) {
        cJSON_Delete(made);
        return diag(why, -EINVAL, "the body must be a JSON object");
    }
    *root = made;
    return 0;
}

static const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const cJSON *parameter(const cJSON *object, const char *key)
{
    return get(get(object, "parameters"), key);
}

static int read_name(const cJSON *object, const char *what, char name[API_NAME_MAX + 1],
                     struct diag *why)
{
    const cJSON *v = get(object, "name");

    if (!cJSON_IsString(v) || v->valuestring[0] == '\0')
        return diag(why, -EINVAL, "%s: name: expected a text", what);
    if (strlen(v->valuestring) > API_NAME_MAX)
        return diag(why, -EINVAL, "%s: name: longer than %d bytes", what, API_NAME_MAX);
    memcpy(name, v->valuestring, strlen(v->valuestring) + 1);
    return 0;
}

/* The binary tensors that follow the JSON. */
struct tail {
    const uint8_t *at;
    size_t left;
};

/* The bytes of an input with "binary_data_size"; NULL and 0 for one without. */
static int take_binary(const cJSON *input, const char *name, struct tail *tail,
                       const uint8_t **bytes, size_t *len, struct diag *why)
{
    const cJSON *size = parameter(input, "binary_data_size");

    *bytes = NULL;
    *len = 0;
    if (!size)
        return 0;
    const double x = cJSON_IsNumber(size) ? size->valuedouble : -1;
    if (!(x >= 0 && x <= (double)tail->left) || x != (double)(size_t)x)
        return diag(why, -EINVAL,
                    "input \"%.64s\": binary_data_size is not a whole number in 0..%zu, the bytes "
                    "that are left",
                    name, tail->left);
    if (get(input, "data"))
        return diag(why, -EINVAL, "input \"%.64s\": data and binary_data_size exclude each other",
                    name);
    *bytes = tail->at;
    *len = (size_t)x;
    tail->at += *len;
    tail->left -= *len;
    return 0;
}

static int set_picture(struct infer_request *q, const char *name, const uint8_t *bytes, size_t len,
                       struct diag *why)
{
    if (q->picture)
        return diag(why, -EINVAL, "input \"%.64s\": a second picture", name);
    if (len == 0)
        return diag(why, -EINVAL, "input \"%.64s\": the picture has no bytes", name);
    q->picture = bytes;
    q->picture_bytes = len;
    return 0;
}

static int binary_picture(struct infer_request *q, const char *name, const uint8_t *bytes,
                          size_t len, struct diag *why)
{
    struct reader r = { .at = bytes, .end = bytes + len };
    const uint32_t size = get_u32(&r);

    if (r.failed || size != len - LENGTH_BYTES)
        return diag(why, -EINVAL,
                    "input \"%.64s\": expected one BYTES element: 4 bytes of length, then so many "
                    "bytes",
                    name);
    return set_picture(q, name, r.at, size, why);
}

static int json_picture(struct infer_request *q, const char *name, const cJSON *input,
                        struct diag *why)
{
    const cJSON *data = get(input, "data"), *type = parameter(input, "content_type");
    size_t len;

    while (cJSON_IsArray(data) && cJSON_GetArraySize(data) == 1)
        data = data->child;
    if (!cJSON_IsString(data) || !cJSON_IsString(type) || strcmp(type->valuestring, "base64") != 0)
        return diag(why, -EINVAL,
                    "input \"%.64s\": BYTES in JSON: expected data with one base64 string and "
                    "parameters { \"content_type\": \"base64\" }",
                    name);
    if (q->owned_picture)
        return diag(why, -EINVAL, "input \"%.64s\": a second picture", name);
    const int rc = api_base64_decode(data->valuestring, &q->owned_picture, &len);
    if (rc < 0)
        return diag(why, rc, "input \"%.64s\": %s", name,
                    rc == -EINVAL ? "the string is not base64" : "out of memory");
    return set_picture(q, name, q->owned_picture, len, why);
}

static int read_values(struct infer_request *q, const cJSON *input, enum api_type type,
                       const uint8_t *bytes, size_t len, struct diag *why)
{
    struct request_tensor *t = &q->input[q->ninputs];
    const int64_t n = shape_values(&t->shape);

    if (type == API_BYTES) {
        if (n != 1)
            return diag(why, -EINVAL, "input \"%.64s\": BYTES: expected one picture, found %lld",
                        t->name, (long long)n);
        return bytes ? binary_picture(q, t->name, bytes, len, why)
                     : json_picture(q, t->name, input, why);
    }
    float **owned = &q->owned[q->ninputs];
    int rc;
    if (bytes) {
        rc = api_check_binary(len, type, t->name, n, why);
        t->values = rc == 0 ? api_floats_in(bytes, type) : NULL;
        if (rc == 0 && !t->values) {
            q->raw[q->ninputs] = (struct infer_raw){ bytes, type };
            q->nraw++;
        }
        return rc;
    }
    rc = api_values_json(get(input, "data"), type, t->name, n, owned, why);
    t->values = *owned;
    return rc;
}

static int read_input(struct infer_request *q, const cJSON *input, struct tail *tail,
                      struct diag *why)
{
    struct request_tensor *t = &q->input[q->ninputs];
    char *name = q->name[q->ninputs];
    const cJSON *type_name = get(input, "datatype");
    const uint8_t *bytes;
    size_t len;

    int rc = read_name(input, "inputs", name, why);
    if (rc < 0)
        return rc;
    t->name = name;
    for (int32_t i = 0; i < q->ninputs; i++)
        if (strcmp(q->name[i], name) == 0)
            return diag(why, -EINVAL, "input \"%.64s\" is there twice", name);
    const int type = cJSON_IsString(type_name) ? api_type_of(type_name->valuestring) : -EINVAL;
    if (type < 0)
        return diag(why, -EINVAL,
                    "input \"%.64s\": datatype \"%.16s\": expected FP32, FP64, UINT8, INT32, INT64 "
                    "or BYTES",
                    name, cJSON_IsString(type_name) ? type_name->valuestring : "");
    rc = api_shape(get(input, "shape"), name, &t->shape, why);
    if (rc == 0)
        rc = take_binary(input, name, tail, &bytes, &len, why);
    if (rc == 0)
        rc = read_values(q, input, (enum api_type)type, bytes, len, why);
    if (rc == 0)
        q->ninputs++;
    return rc;
}

static int read_inputs(struct infer_request *q, const cJSON *root, struct tail *tail,
                       struct diag *why)
{
    const cJSON *inputs = get(root, "inputs"), *input;

    if (!cJSON_IsArray(inputs) || cJSON_GetArraySize(inputs) < 1 ||
        cJSON_GetArraySize(inputs) > API_MAX_INPUTS)
        return diag(why, -EINVAL, "inputs: expected a list of 1..%d tensors", API_MAX_INPUTS);
    cJSON_ArrayForEach(input, inputs) {
        int rc = read_input(q, input, tail, why);
        if (rc < 0)
            return rc;
    }
    if (q->picture && q->ninputs > 1)
        return diag(why, -EINVAL, "inputs: a picture stands alone, found %d inputs", q->ninputs);
    if (tail->left > 0)
        return diag(why, -EINVAL, "%zu bytes follow the last input", tail->left);
    return 0;
}

static int set_classes(struct infer_output *o, const cJSON *v, struct diag *why)
{
    const double k = cJSON_IsNumber(v) ? v->valuedouble : 0;

    if (!(k >= 1 && k <= API_MAX_TOP) || k != (int32_t)k)
        return diag(why, -EINVAL,
                    "output \"%.64s\": classification: expected a whole number in 1..%d", o->name,
                    API_MAX_TOP);
    o->form = FORM_CLASSES;
    o->classes = (int32_t)k;
    return 0;
}

static int set_picture_form(struct infer_output *o, const cJSON *v, struct diag *why)
{
    if (cJSON_IsString(v) && strcmp(v->valuestring, "png") == 0)
        o->form = FORM_PNG;
    else if (cJSON_IsString(v) && strcmp(v->valuestring, "jpeg") == 0)
        o->form = FORM_JPEG;
    else
        return diag(why, -EINVAL, "output \"%.64s\": picture: expected \"png\" or \"jpeg\"",
                    o->name);
    return 0;
}

static int set_flag(struct infer_output *o, const cJSON *v, enum infer_form form, struct diag *why)
{
    if (!cJSON_IsBool(v))
        return diag(why, -EINVAL, "output \"%.64s\": %s: expected true or false", o->name,
                    v->string);
    if (cJSON_IsTrue(v))
        o->form = form;
    return 0;
}

/* The form that the parameters of an output ask for. */
static int read_form(struct infer_output *o, const cJSON *output, struct diag *why)
{
    static const char *const keys[] = { "classification", "detections", "class_map", "picture" };
    const cJSON *v = NULL;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *another = parameter(output, keys[i]);
        if (v && another)
            return diag(why, -EINVAL, "output \"%.64s\": %s and %s exclude each other", o->name,
                        v->string, another->string);
        v = v ? v : another;
    }
    if (!v)
        return 0;
    if (strcmp(v->string, "classification") == 0)
        return set_classes(o, v, why);
    if (strcmp(v->string, "picture") == 0)
        return set_picture_form(o, v, why);
    return set_flag(o, v, strcmp(v->string, "detections") == 0 ? FORM_DETECTIONS : FORM_CLASS_MAP,
                    why);
}

static int read_output(struct infer_request *q, const cJSON *output, struct diag *why)
{
    struct infer_output *o = &q->output[q->noutputs];

    int rc = read_name(output, "outputs", o->name, why);
    if (rc < 0)
        return rc;
    const cJSON *binary = parameter(output, "binary_data");
    if (binary && !cJSON_IsBool(binary))
        return diag(why, -EINVAL, "output \"%.64s\": binary_data: expected true or false", o->name);
    o->binary = binary ? cJSON_IsTrue(binary) : q->binary_output;
    rc = read_form(o, output, why);
    if (rc < 0)
        return rc;
    for (int32_t i = 0; i < q->noutputs; i++)
        if (strcmp(q->output[i].name, o->name) == 0 && q->output[i].form == o->form)
            return diag(why, -EINVAL, "output \"%.64s\" is asked for twice", o->name);
    q->noutputs++;
    return 0;
}

static int read_outputs(struct infer_request *q, const cJSON *root, struct diag *why)
{
    const cJSON *outputs = get(root, "outputs"), *output;

    if (!outputs)
        return 0;
    if (!cJSON_IsArray(outputs) || cJSON_GetArraySize(outputs) > API_MAX_OUTPUTS)
        return diag(why, -EINVAL, "outputs: expected a list of at most %d tensors",
                    API_MAX_OUTPUTS);
    cJSON_ArrayForEach(output, outputs) {
        int rc = read_output(q, output, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_top(struct infer_request *q, const cJSON *root, struct diag *why)
{
    const cJSON *id = get(root, "id"), *binary = parameter(root, "binary_data_output");
    const cJSON *trace = parameter(root, "trace");

    if (id && (!cJSON_IsString(id) || strlen(id->valuestring) > API_NAME_MAX))
        return diag(why, -EINVAL, "id: expected a text of at most %d bytes", API_NAME_MAX);
    if (id)
        memcpy(q->id, id->valuestring, strlen(id->valuestring) + 1);
    if (binary && !cJSON_IsBool(binary))
        return diag(why, -EINVAL, "binary_data_output: expected true or false");
    if (trace && !cJSON_IsBool(trace))
        return diag(why, -EINVAL, "trace: expected true or false");
    q->binary_output = cJSON_IsTrue(binary);
    q->trace = cJSON_IsTrue(trace);
    return 0;
}

int infer_parse(struct infer_request *q, const uint8_t *body, size_t len, size_t json_len,
                struct diag *why)
{
    struct tail tail = { .at = body + json_len, .left = len - json_len };
    cJSON *root;

    *q = (struct infer_request){ 0 };
    int rc = parse_json((const char *)body, json_len, &root, why);
    if (rc < 0)
        return rc;
    rc = read_top(q, root, why);
    if (rc == 0)
        rc = read_inputs(q, root, &tail, why);
    if (rc == 0)
        rc = read_outputs(q, root, why);
    cJSON_Delete(root);
    if (rc < 0)
        infer_done(q);
    return rc;
}

int infer_convert(struct infer_request *q, struct diag *why)
{
    for (int32_t i = 0; i < q->ninputs && q->nraw > 0; i++) {
        struct request_tensor *t = &q->input[i];
        if (!q->raw[i].bytes)
            continue;
        const int rc = api_values_binary(q->raw[i].bytes, q->raw[i].type, t->name,
                                         shape_values(&t->shape), &q->owned[i], why);
        if (rc < 0)
            return rc;
        t->values = q->owned[i];
        q->raw[i].bytes = NULL;
        q->nraw--;
    }
    return 0;
}

void infer_picture(struct infer_request *q, const uint8_t *body, size_t len)
{
    *q = (struct infer_request){ .picture = body, .picture_bytes = len };
}

void infer_done(struct infer_request *q)
{
    for (int32_t i = 0; i < API_MAX_INPUTS; i++) {
        free(q->owned[i]);
        q->owned[i] = NULL;
        q->input[i].values = NULL;
    }
    free(q->owned_picture);
    q->owned_picture = NULL;
    q->picture = NULL;
}

/* What the task of `s` makes of an output in this form. */
static bool is_of_task(enum infer_form form, const struct sidecar *s)
{
    switch (form) {
    case FORM_PNG:
    case FORM_JPEG:
        return s->task == TASK_IMAGE || s->task == TASK_SEGMENT || s->task == TASK_DETECT;
    case FORM_CLASSES:
    case FORM_CLASS_MAP:
        return s->task == TASK_SEGMENT;
    case FORM_DETECTIONS:
        return s->task == TASK_DETECT;
    case FORM_VALUES:
        break;
    }
    return false;
}

bool infer_is_brief(const struct infer_request *q, const struct sidecar *s)
{
    for (int32_t i = 0; i < q->noutputs; i++)
        if (!is_of_task(q->output[i].form, s))
            return false;
    return q->noutputs > 0;
}

/* A number is printed, or looked at for a class, in the time in which so many are copied. */
enum { MOVED = 2, PRINTED = 64, FEW_CLASSES = 10 };

int32_t infer_copies(const struct infer_request *q)
{
    int32_t most = q->noutputs == 0 && !q->binary_output ? PRINTED : MOVED;

    for (int32_t i = 0; i < q->noutputs; i++) {
        const struct infer_output *o = &q->output[i];
        if (o->form != FORM_VALUES && (o->form != FORM_CLASSES || o->classes > FEW_CLASSES))
            return 0;
        if (o->form == FORM_CLASSES || !o->binary)
            most = PRINTED;
    }
    return most;
}

/* ---- out */

/* `json` becomes a member that only borrows it. */
static bool add_borrowed(cJSON *object, const char *key, const char *json)
{
    cJSON *item = cJSON_CreateStringReference(json);

    if (!item)
        return false;
    item->type = cJSON_Raw | cJSON_IsReference;
    if (cJSON_AddItemToObject(object, key, item))
        return true;
    cJSON_Delete(item);
    return false;
}

/* The tree borrows what `m` holds.  Returns false when memory is short. */
static bool add_output(cJSON *outputs, const char *name, const struct api_made *m)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = o && cJSON_AddStringToObject(o, "name", name) &&
              cJSON_AddStringToObject(o, "datatype", m->datatype);
    cJSON *shape = ok ? cJSON_CreateIntArray(m->dim, m->rank) : NULL;

    if (!cJSON_AddItemToObject(o, "shape", shape)) {
        cJSON_Delete(shape);
        ok = false;
    }
    const bool binary = m->bytes || m->values;
    if (ok && (binary || m->base64)) {
        cJSON *p = cJSON_AddObjectToObject(o, "parameters");
        ok = p && (binary ? cJSON_AddNumberToObject(p, "binary_data_size", (double)m->len)
                          : cJSON_AddStringToObject(p, "content_type", "base64"));
    }
    if (ok && m->json)
        ok = add_borrowed(o, "data", m->json);
    if (ok && cJSON_AddItemToArray(outputs, o))
        return true;
    cJSON_Delete(o);
    return false;
}

static bool add_head(cJSON *root, const struct infer_request *q, const struct request *r,
                     const char *model)
{
    cJSON *p;

    return cJSON_AddStringToObject(root, "model_name", model) &&
           cJSON_AddStringToObject(root, "model_version", "1") &&
           (q->id[0] == '\0' || cJSON_AddStringToObject(root, "id", q->id)) &&
           (p = cJSON_AddObjectToObject(root, "parameters")) != NULL &&
           cJSON_AddNumberToObject(p, "splitd_ms", round((double)r->elapsed_ns / 1e3) / 1e3) &&
           cJSON_AddNumberToObject(p, "splitd_nodes", r->nodes) &&
           cJSON_AddNumberToObject(p, "splitd_epoch", r->epoch) &&
           cJSON_AddNumberToObject(p, "splitd_frame", r->frame) &&
           cJSON_AddNumberToObject(p, "splitd_input_bytes", (double)r->input_bytes) &&
           cJSON_AddNumberToObject(p, "splitd_answer_bytes", (double)r->answer_bytes) &&
           cJSON_AddNumberToObject(p, "splitd_concealed", r->concealed) &&
           (!r->traced || add_borrowed(root, "splitd_trace", r->traced));
}

/* Of the JSON without what add_borrowed() brings; where it is more, cJSON moves the text once. */
enum { HEAD_BYTES = 512, OUTPUT_BYTES = 256 };

/* The JSON and then the binary tensors, in their order. */
static int join(const cJSON *root, const struct request *r, const struct api_made *made, int32_t n,
                struct infer_response *response)
{
    size_t binary = 0, room = HEAD_BYTES + (r->traced ? strlen(r->traced) : 0);

    for (int32_t i = 0; i < n; i++) {
        binary += made[i].len;
        room += OUTPUT_BYTES + (made[i].json ? strlen(made[i].json) : 0);
    }
    char *json = room < INT_MAX ? cJSON_PrintBuffered(root, (int)room, false) : NULL;
    if (!json)
        return -ENOMEM;
    const size_t json_len = strlen(json);
    uint8_t *body = binary > 0 ? realloc(json, json_len + binary) : (uint8_t *)json;
    if (!body) {
        free(json);
        return -ENOMEM;
    }
    size_t at = json_len;
    for (int32_t i = 0; i < n; i++) {
        if (made[i].values)
            api_put_floats(body + at, made[i].values, made[i].len / sizeof(float));
        else if (made[i].len > 0)
            memcpy(body + at, made[i].bytes, made[i].len);
        at += made[i].len;
    }
    *response = (struct infer_response){ body, at, binary > 0 ? json_len : 0 };
    return 0;
}

/* All outputs, where the request names none. */
static int32_t wanted_outputs(const struct infer_request *q, const struct request *r,
                              struct infer_output *all)
{
    for (int32_t i = 0; q->noutputs == 0 && i < r->noutputs; i++) {
        snprintf(all[i].name, sizeof all[i].name, "%s", r->output[i].name);
        all[i].binary = q->binary_output;
    }
    return q->noutputs > 0 ? q->noutputs : r->noutputs;
}

int infer_format(const struct infer_request *q, const struct request *r, const char *model,
                 struct infer_response *response, struct diag *why)
{
    struct infer_output *all = calloc((size_t)r->noutputs + 1, sizeof *all);
    const int32_t n = all ? wanted_outputs(q, r, all) : 0;
    const struct infer_output *o = q->noutputs > 0 ? q->output : all;
    struct api_made *made = calloc((size_t)n + 1, sizeof *made);
    cJSON *root = cJSON_CreateObject();
    cJSON *outputs = NULL;
    int rc = 0;

    if (!all || !made || !root || !add_head(root, q, r, model) ||
        !(outputs = cJSON_AddArrayToObject(root, "outputs")))
        rc = -ENOMEM;
    for (int32_t i = 0; rc == 0 && i < n; i++) {
        rc = api_make(&made[i], &o[i], r, why);
        if (rc == 0 && !add_output(outputs, o[i].name, &made[i]))
            rc = -ENOMEM;
    }
    if (rc == 0)
        rc = join(root, r, made, n, response);
    if (rc == -ENOMEM)
        diag(why, rc, "out of memory for the answer");
    for (int32_t i = 0; made && i < n; i++)
        api_made_done(&made[i]);
    cJSON_Delete(root);
    free(made);
    free(all);
    return rc;
}
