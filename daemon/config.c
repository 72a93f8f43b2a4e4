#include "daemon/config.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libsplit/file.h"
#include "libsplit/pool.h"
#include "proto/plan.h"

/* Where we are in the file, for messages: "cluster.json: nodes[2].weight". */
struct place {
    const char *file;
    char path[64]; /* of the object, "" at the top, else with its dot */
    struct diag *why;
};

/* One setting.  A new one is a field in a struct and a row in a table. */
struct key {
    const char *name;
    int (*set)(const struct place *p, const struct key *k, const cJSON *v, void *object);
    size_t off, size; /* the field; size is used by texts only */
    int32_t min, max; /* whole numbers only */
    bool required;
    const char *meaning; /* completes "expected ..." */
};

enum { MAX_KEYS = 24 };

__attribute__((format(printf, 3, 4))) static int fail(const struct place *p, const char *key,
                                                      const char *fmt, ...)
{
    char text[320];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return diag(p->why, -EINVAL, "%s: %s%s: %s", p->file, p->path, key, text);
}

/* "expected ..., not 7": whatever stands there, cut off. */
static int unexpected(const struct place *p, const struct key *k, const cJSON *v)
{
    char *found = cJSON_PrintUnformatted(v);
    const int rc = fail(p, k->name, "expected %s, not %.60s", k->meaning, found ? found : "this");
    cJSON_free(found);
    return rc;
}

static int set_text(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    if (!cJSON_IsString(v) || v->valuestring[0] == '\0')
        return unexpected(p, k, v);
    const size_t len = strlen(v->valuestring);
    if (len >= k->size)
        return fail(p, k->name, "longer than the %zu bytes that are allowed", k->size - 1);
    memcpy((char *)object + k->off, v->valuestring, len + 1);
    return 0;
}

static int set_int(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    if (!cJSON_IsNumber(v))
        return unexpected(p, k, v);
    const double x = v->valuedouble;
    if (!(x >= k->min && x <= k->max) || x != (int32_t)x)
        return fail(p, k->name, "%g is not a whole number in %d..%d (%s)", x, k->min, k->max,
                    k->meaning);
    const int32_t value = (int32_t)x;
    memcpy((char *)object + k->off, &value, sizeof value);
    return 0;
}

static int set_bool(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    if (!cJSON_IsBool(v))
        return unexpected(p, k, v);
    const bool value = cJSON_IsTrue(v);
    memcpy((char *)object + k->off, &value, sizeof value);
    return 0;
}

/* "700MB", "1.5GiB" -> bytes; 0 if it is no such text. */
static int64_t parse_size(const char *text)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = { { "KB", 1e3 },    { "MB", 1e6 },       { "GB", 1e9 },
                  { "KiB", 1024. }, { "MiB", 1048576. }, { "GiB", 1073741824. } };
    const char *end = text + strspn(text, "0123456789.");

    if (end == text || text[0] == '.')
        return 0;
    const double x = strtod(text, NULL);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0 && x * units[i].bytes < 1e15)
            return (int64_t)(x * units[i].bytes);
    return 0;
}

static int set_size(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    const int64_t bytes = cJSON_IsString(v) ? parse_size(v->valuestring) : 0;
    if (bytes < 1000000)
        return unexpected(p, k, v);
    memcpy((char *)object + k->off, &bytes, sizeof bytes);
    return 0;
}

static int set_halo(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    const char *text = cJSON_IsString(v) ? v->valuestring : "";
    const int mode = strcmp(text, halo_name(HALO_AUTO)) == 0 ? HALO_AUTO : halo_parse(text);
    if (mode < 0)
        return unexpected(p, k, v);
    const enum halo halo = (enum halo)mode;
    memcpy((char *)object + k->off, &halo, sizeof halo);
    return 0;
}

static int set_late_halo(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    const char *text = cJSON_IsString(v) ? v->valuestring : "";
    const bool conceal = strcmp(text, "conceal") == 0;
    if (!conceal && strcmp(text, "wait") != 0)
        return unexpected(p, k, v);
    memcpy((char *)object + k->off, &conceal, sizeof conceal);
    return 0;
}

static int set_policy(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    const int found = cJSON_IsString(v) ? plan_policy_parse(v->valuestring) : -EINVAL;
    if (found < 0)
        return unexpected(p, k, v);
    const enum plan_policy policy = (enum plan_policy)found;
    memcpy((char *)object + k->off, &policy, sizeof policy);
    return 0;
}

static int unknown(const struct place *p, const struct key *keys, int nkeys, const char *name)
{
    char known[256] = "";
    size_t len = 0;

    for (int i = 0; i < nkeys && len < sizeof known; i++)
        len +=
            (size_t)snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "", keys[i].name);
    return fail(p, name, "unknown setting; expected one of %s", known);
}

/* Fills `object` from `json` by the rows of `keys`. */
static int fill(const struct place *p, const struct key *keys, int nkeys, const cJSON *json,
                void *object)
{
    bool seen[MAX_KEYS] = { false };
    const cJSON *v;

    if (!cJSON_IsObject(json))
        return fail(p, "", "expected an object { ... }");
    cJSON_ArrayForEach(v, json) {
        int i = 0;
        while (i < nkeys && strcmp(keys[i].name, v->string) != 0)
            i++;
        if (i == nkeys)
            return unknown(p, keys, nkeys, v->string);
        if (seen[i])
            return fail(p, v->string, "set twice");
        seen[i] = true;
        int rc = keys[i].set(p, &keys[i], v, object);
        if (rc < 0)
            return rc;
    }
    for (int i = 0; i < nkeys; i++)
        if (keys[i].required && !seen[i])
            return fail(p, keys[i].name, "missing (expected %s)", keys[i].meaning);
    return 0;
}

/* ---- the grammar */

#define FIELD(s, f) offsetof(struct s, f), sizeof((struct s *)0)->f

static const struct key node_keys[] = {
    { "name", set_text, FIELD(config_node, name), 0, 0, true, "a name such as \"pi1\"" },
    { "address", set_text, FIELD(config_node, address), 0, 0, true,
      "an address such as \"tcp://10.0.0.11:7070\" or \"ipc:///run/splitd/pi1\"" },
    { "weight", set_int, FIELD(config_node, weight), 1, 1000, false, "relative speed" },
    { "threads", set_int, FIELD(config_node, threads), 1, POOL_MAX_THREADS, false,
      "threads that compute" },
    { "max_memory", set_size, FIELD(config_node, max_memory), 0, 0, false,
      "a size of at least 1MB such as \"700MB\"" },
};

static const struct key model_keys[] = {
    { "name", set_text, FIELD(config_model, name), 0, 0, true, "a name such as \"resnet18\"" },
    { "file", set_text, FIELD(config_model, file), 0, 0, true, "the path of an ONNX file" },
    { "sidecar", set_text, FIELD(config_model, sidecar), 0, 0, false,
      "the path of the model's .json" },
};

struct http {
    char listen[80], token[CONFIG_PATH_MAX + 1];
};
static const struct key http_keys[] = {
    { "listen", set_text, FIELD(http, listen), 0, 0, false,
      "host and port such as \"127.0.0.1:8080\"" },
    { "token", set_text, FIELD(http, token), 0, 0, false,
      "the path of a file that holds a text that clients have to know" },
};

static const struct key tls_keys[] = {
    { "ca", set_text, FIELD(config_tls, ca), 0, 0, true,
      "the path of the cluster's certificate authority" },
    { "certificate", set_text, FIELD(config_tls, certificate), 0, 0, true,
      "the path of the node's certificate" },
    { "key", set_text, FIELD(config_tls, key), 0, 0, true, "the path of the node's key" },
};

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

static struct place inside(const struct place *p, const char *name, int32_t i)
{
    struct place in = *p;
    if (i < 0)
        snprintf(in.path, sizeof in.path, "%s.", name);
    else
        snprintf(in.path, sizeof in.path, "%s[%d].", name, i);
    return in;
}

static bool all_of(const char *text, const char *set) { return text[strspn(text, set)] == '\0'; }

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"

/* A port in 1..65535, or -1. */
static int32_t parse_port(const char *text)
{
    if (text[0] == '\0' || strlen(text) > 5 || !all_of(text, DIGIT))
        return -1;
    const long port = strtol(text, NULL, 10);
    return port >= 1 && port <= 65535 ? (int32_t)port : -1;
}

/* Splits "host:port" or "[v6]:port"; brackets are taken off. */
static int split_host_port(const char *text, char *host, size_t cap, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return -EINVAL;
    const bool v6 = text[0] == '[' && colon[-1] == ']';
    const char *from = v6 ? text + 1 : text, *to = v6 ? colon - 1 : colon;
    const size_t len = (size_t)(to - from);
    const int32_t n = parse_port(colon + 1);
    if (n < 0 || len == 0 || len >= cap)
        return -EINVAL;

    char name[CONFIG_ADDRESS_MAX + 1];
    struct in6_addr v6_addr;
    if (len >= sizeof name)
        return -EINVAL;
    memcpy(name, from, len);
    name[len] = '\0';
    if (v6 ? inet_pton(AF_INET6, name, &v6_addr) != 1 : !all_of(name, LOWER UPPER DIGIT ".-"))
        return -EINVAL;
    memcpy(host, name, len + 1);
    *port = (uint16_t)n;
    return 0;
}

bool config_host_port(const char *address, char host[CONFIG_ADDRESS_MAX + 1], uint16_t *port)
{
    static const char scheme[] = "tcp://";
    const size_t len = sizeof scheme - 1;

    return strncmp(address, scheme, len) == 0 &&
           split_host_port(address + len, host, CONFIG_ADDRESS_MAX + 1, port) == 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

enum { IPC_PATH_BYTES = 100 }; /* sun_path has 108, NNG wants some */

static int check_address(const struct place *p, const char *address, bool allow_all)
{
    char host[CONFIG_ADDRESS_MAX + 1];
    uint16_t port;

    if (strncmp(address, "ipc://", 6) == 0) {
        if (address[6] != '/' || address[7] == '\0')
            return fail(p, "address", "\"%s\": after ipc:// an absolute path is expected", address);
        if (strlen(address + 6) >= IPC_PATH_BYTES)
            return fail(p, "address", "\"%s\": the path must be shorter than %d bytes", address,
                        IPC_PATH_BYTES);
        return 0;
    }
    if (strncmp(address, "tcp://", 6) != 0)
        return fail(p, "address", "\"%s\": expected tcp://host:port or ipc:///path", address);
    if (split_host_port(address + 6, host, sizeof host, &port) < 0)
        return fail(p, "address", "\"%s\": after tcp:// expected host:port with a port in 1..65535",
                    address);
    if (!allow_all && !is_loopback(host))
        return fail(p, "address",
                    "\"%s\": not loopback: set \"tls\" (splitctl pki makes the files), or "
                    "\"insecure\": true to allow plain TCP",
                    address);
    return 0;
}

static int set_nodes(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    struct config *c = object;
    const cJSON *item;

    if (!cJSON_IsArray(v))
        return unexpected(p, k, v);
    const int n = cJSON_GetArraySize(v);
    if (n < 1 || n > CONFIG_MAX_NODES)
        return fail(p, k->name, "%d nodes, expected 1..%d", n, CONFIG_MAX_NODES);
    cJSON_ArrayForEach(item, v) {
        const struct place in = inside(p, k->name, c->nnodes);
        struct config_node *node = &c->node[c->nnodes];
        node->weight = 1;
        int rc = fill(&in, node_keys, COUNT(node_keys), item, node);
        if (rc < 0)
            return rc;
        if (!all_of(node->name, LOWER UPPER DIGIT "._-"))
            return fail(&in, "name", "\"%s\": expected letters, digits, '.', '_' and '-'",
                        node->name);
        c->nnodes++;
    }
    return 0;
}

static int set_models(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    struct config *c = object;
    const cJSON *item;

    if (!cJSON_IsArray(v))
        return unexpected(p, k, v);
    if (cJSON_GetArraySize(v) > CONFIG_MAX_MODELS)
        return fail(p, k->name, "%d models, expected 0..%d", cJSON_GetArraySize(v),
                    CONFIG_MAX_MODELS);
    cJSON_ArrayForEach(item, v) {
        const struct place in = inside(p, k->name, c->nmodels);
        struct config_model *model = &c->model[c->nmodels];
        int rc = fill(&in, model_keys, COUNT(model_keys), item, model);
        if (rc < 0)
            return rc;
        /* The name is a segment of a URL, where "." and ".." mean something else. */
        if (!all_of(model->name, LOWER DIGIT "._-") || model->name[0] == '.')
            return fail(&in, "name",
                        "\"%s\": expected a-z, 0-9, '.', '_' and '-', not beginning with '.'",
                        model->name);
        c->nmodels++;
    }
    return 0;
}

static int set_http(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    struct config *c = object;
    struct http http = { "", "" };
    const struct place in = inside(p, k->name, -1);

    int rc = fill(&in, http_keys, COUNT(http_keys), v, &http);
    if (rc < 0)
        return rc;
    if (http.listen[0] != '\0' &&
        split_host_port(http.listen, c->http_host, sizeof c->http_host, &c->http_port) < 0)
        return fail(&in, "listen", "\"%s\": expected host:port with a port in 1..65535",
                    http.listen);
    memcpy(c->http_token, http.token, sizeof c->http_token);
    return 0;
}

static int set_tls(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    struct config *c = object;
    const struct place in = inside(p, k->name, -1);

    c->secure = true;
    return fill(&in, tls_keys, COUNT(tls_keys), v, &c->tls);
}

enum { MAX_COST = 1000000 };

static const struct key cost_keys[] = {
    { "macs_per_us", set_int, FIELD(plan_costs, macs_per_us), 1, MAX_COST, false,
      "multiply-adds a microsecond" },
    { "weight_bytes_per_us", set_int, FIELD(plan_costs, weight_bytes_per_us), 1, MAX_COST, false,
      "bytes a microsecond" },
    { "link_bytes_per_us", set_int, FIELD(plan_costs, link_bytes_per_us), 1, MAX_COST, false,
      "bytes a microsecond" },
    { "message_us", set_int, FIELD(plan_costs, message_us), 1, MAX_COST, false, "microseconds" },
};

static int set_costs(const struct place *p, const struct key *k, const cJSON *v, void *object)
{
    const struct place in = inside(p, k->name, -1);
    return fill(&in, cost_keys, COUNT(cost_keys), v, (char *)object + k->off);
}

/* struct config has the coordinator's index; its name is resolved once all nodes are known. */
struct top {
    struct config c; /* first: rows address it by its own offsets */
    char coordinator[CONFIG_NAME_MAX + 1];
};

static const struct key top_keys[] = {
    { "cluster", set_text, FIELD(config, cluster), 0, 0, true, "the cluster's name" },
    { "coordinator", set_text, FIELD(top, coordinator), 0, 0, true, "the name of a node" },
    { "nodes", set_nodes, 0, 0, 0, 0, true, "a list of nodes [ { \"name\": ... }, ... ]" },
    { "models", set_models, 0, 0, 0, 0, false, "a list of models [ { \"name\": ... }, ... ]" },
    { "model_folder", set_text, FIELD(config, model_folder), 0, 0, false,
      "the path of the only folder from which models are read" },
    { "http", set_http, 0, 0, 0, 0, false, "{ \"listen\": \"host:port\" }" },
    { "tls", set_tls, 0, 0, 0, 0, false, "{ \"ca\": ..., \"certificate\": ..., \"key\": ... }" },
    { "insecure", set_bool, FIELD(config, insecure), 0, 0, false, "true or false" },
    { "heartbeat_ms", set_int, FIELD(config, heartbeat_ms), 10, 10000, false, "milliseconds" },
    { "lost_ms", set_int, FIELD(config, lost_ms), 10, 10000, false, "milliseconds" },
    { "request_timeout_ms", set_int, FIELD(config, request_timeout_ms), 100, 600000, false,
      "milliseconds" },
    { "halo", set_halo, FIELD(config, halo), 0, 0, false,
      "\"f32\", \"f16\", \"q8\", \"q4\", \"tq\", \"video\", \"drop\" or \"auto\"" },
    { "late_halo", set_late_halo, FIELD(config, conceal), 0, 0, false, "\"wait\" or \"conceal\"" },
    { "late_halo_ms", set_int, FIELD(config, late_ms), 1, PLAN_MAX_LATE_MS, false, "milliseconds" },
    { "policy", set_policy, FIELD(config, policy), 0, 0, false,
      "\"auto\", \"exchange\" or \"recompute\"" },
    { "costs", set_costs, FIELD(config, costs), 0, 0, false, "{ \"macs_per_us\": ... }" },
    { "queue", set_int, FIELD(config, queue), 1, 4096, false, "requests that may wait" },
};
_Static_assert(sizeof top_keys / sizeof top_keys[0] <= MAX_KEYS, "a key has no place in seen[]");

/* ---- rules that tie settings together */

static int check_nodes(const struct place *p, const struct config *c)
{
    for (int32_t i = 0; i < c->nnodes; i++) {
        const struct place in = inside(p, "nodes", i);
        int rc = check_address(&in, c->node[i].address, c->secure || c->insecure);
        if (rc < 0)
            return rc;
        for (int32_t j = 0; j < i; j++) {
            if (strcmp(c->node[i].name, c->node[j].name) == 0)
                return fail(&in, "name", "\"%s\" is nodes[%d] already", c->node[i].name, j);
            if (strcmp(c->node[i].address, c->node[j].address) == 0)
                return fail(&in, "address", "\"%s\" is the address of \"%s\" already",
                            c->node[i].address, c->node[j].name);
        }
    }
    return 0;
}

static int check_http(const struct place *p, const struct config *c)
{
    if (c->secure || c->insecure || is_loopback(c->http_host))
        return 0;
    return fail(p, "http.listen",
                "\"%s\": not loopback: set \"tls\" (splitctl pki makes the files), or "
                "\"insecure\": true to allow plain HTTP",
                c->http_host);
}

static int check_models(const struct place *p, const struct config *c)
{
    for (int32_t i = 0; i < c->nmodels; i++)
        for (int32_t j = 0; j < i; j++)
            if (strcmp(c->model[i].name, c->model[j].name) == 0) {
                const struct place in = inside(p, "models", i);
                return fail(&in, "name", "\"%s\" is models[%d] already", c->model[i].name, j);
            }
    return 0;
}

/* "pi1, pi2, pi3" */
static const char *node_names(const struct config *c, char *text, size_t cap)
{
    size_t at = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < c->nnodes && at < cap; i++) {
        const int n = snprintf(text + at, cap - at, "%s%s", i ? ", " : "", c->node[i].name);
        at += n > 0 ? (size_t)n : 0;
    }
    return text;
}

static int find_node(const struct config *c, const char *name)
{
    for (int32_t i = 0; i < c->nnodes; i++)
        if (strcmp(c->node[i].name, name) == 0)
            return i;
    return -ENOENT;
}

static int check(const struct place *p, struct top *t)
{
    struct config *c = &t->c;
    char names[240];

    int rc = check_nodes(p, c);
    if (rc < 0)
        return rc;
    rc = check_models(p, c);
    if (rc == 0)
        rc = check_http(p, c);
    if (rc < 0)
        return rc;
    c->coordinator = find_node(c, t->coordinator);
    if (c->coordinator < 0)
        return fail(p, "coordinator", "\"%s\" is not one of the nodes: %s", t->coordinator,
                    node_names(c, names, sizeof names));
    if (c->lost_ms < 2 * c->heartbeat_ms)
        return fail(p, "lost_ms", "%d must be at least twice heartbeat_ms (%d)", c->lost_ms,
                    c->heartbeat_ms);
    return 0;
}

static int line_of(const char *json, const char *at)
{
    int line = 1;
    for (; json < at; json++)
        line += *json == '\n';
    return line;
}

static void sha256(const char *bytes, size_t len, uint8_t sha[32])
{
    struct sha256_ctx sum;

    sha256_init(&sum);
    sha256_update(&sum, len, (const uint8_t *)bytes);
    sha256_digest(&sum, 32, sha);
}

int config_parse(struct config *c, const char *json, size_t len, const char *file, struct diag *why)
{
    const struct place p = { .file = file, .why = why };
    const char *at = json;

    if (len > CONFIG_MAX_FILE_BYTES)
        return diag(why, -EINVAL, "%s: %zu bytes, expected at most %d", file, len,
                    CONFIG_MAX_FILE_BYTES);
    if (memchr(json, 0, len))
        return diag(why, -EINVAL, "%s: not JSON: it contains a zero byte", file);
    cJSON *root = cJSON_ParseWithLengthOpts(json, len, &at, false);
    if (!root)
        return diag(why, -EINVAL, "%s:%d: not JSON", file, line_of(json, at));

    struct top *t = calloc(1, sizeof *t);
    int rc;
    if (!t) {
        rc = diag(why, -ENOMEM, "%s: out of memory", file);
        goto out;
    }
    for (const char *rest = at; rest < json + len; rest++)
        if (!strchr(" \t\r\n", *rest)) {
            rc = diag(why, -EINVAL, "%s:%d: text after the end of the JSON object", file,
                      line_of(json, rest));
            goto out;
        }

    snprintf(t->c.http_host, sizeof t->c.http_host, "127.0.0.1");
    t->c.http_port = 8080;
    t->c.heartbeat_ms = 100;
    t->c.lost_ms = 300;
    t->c.halo = HALO_AUTO;
    t->c.late_ms = 50;
    t->c.request_timeout_ms = 30000;
    t->c.queue = 64;
    rc = fill(&p, top_keys, COUNT(top_keys), root, t);
    if (rc == 0)
        rc = check(&p, t);
    sha256(json, len, t->c.sha);
    if (rc == 0)
        *c = t->c;
out:
    free(t);
    cJSON_Delete(root);
    return rc;
}

int config_load(struct config *c, const char *file, struct diag *why)
{
    uint8_t *bytes;
    size_t len;

    int rc = file_read(file, CONFIG_MAX_FILE_BYTES, &bytes, &len, why);
    if (rc < 0)
        return rc;
    rc = config_parse(c, (const char *)bytes, len, file, why);
    free(bytes);
    return rc;
}

/* Whether `host`, an address in numbers, is one of this machine's: only those can be bound. */
static bool is_own_address(const char *host)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    const bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;

    if (!is_v4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
        return false;
    const int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    const int rc = is_v4 ? bind(fd, (struct sockaddr *)&v4, sizeof v4)
                         : bind(fd, (struct sockaddr *)&v6, sizeof v6);
    close(fd);
    return rc == 0;
}

/* The only node whose address is one of this machine's; -ENOENT if there are none or several. */
static int find_own_address(const struct config *c)
{
    char host[CONFIG_ADDRESS_MAX + 1];
    uint16_t port;
    int found = -ENOENT;

    for (int32_t i = 0; i < c->nnodes; i++) {
        if (!config_host_port(c->node[i].address, host, &port) || !is_own_address(host))
            continue;
        if (found >= 0)
            return -ENOENT;
        found = i;
    }
    return found;
}

int config_self(const struct config *c, const char *name, struct diag *why)
{
    char host[256] = "", names[240];
    int i;

    if (name) {
        i = find_node(c, name);
        if (i < 0)
            return diag(why, -ENOENT, "node \"%s\" is not one of the nodes of cluster \"%s\": %s",
                        name, c->cluster, node_names(c, names, sizeof names));
        return i;
    }
    if (gethostname(host, sizeof host - 1) < 0)
        return diag(why, -errno, "the host has no name: say --node NAME");
    i = find_node(c, host);
    if (i < 0)
        i = find_own_address(c);
    if (i < 0)
        return diag(why, -ENOENT,
                    "no node of cluster \"%s\" is called like this host (%s), and not exactly one "
                    "has an address of it: %s; say --node NAME",
                    c->cluster, host, node_names(c, names, sizeof names));
    return i;
}

/* The host of an address that was checked; "localhost" for all that reach no other machine. */
static void host_of(const char *address, char host[CONFIG_ADDRESS_MAX + 1])
{
    uint16_t port;
    if (!config_host_port(address, host, &port) || is_loopback(host))
        snprintf(host, CONFIG_ADDRESS_MAX + 1, "localhost");
}

int32_t config_threads(const struct config *c, int32_t self)
{
    char host[CONFIG_ADDRESS_MAX + 1], other[CONFIG_ADDRESS_MAX + 1];
    cpu_set_t set;
    int32_t sharers = 1; /* of this machine's processors: this node... */

    if (c->node[self].threads > 0)
        return c->node[self].threads;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    host_of(c->node[self].address, host);
    for (int32_t i = 0; i < c->nnodes; i++) {
        host_of(c->node[i].address, other);
        sharers += i != self && strcmp(host, other) == 0; /* ...and others on the same host */
    }
    const int32_t threads = CPU_COUNT(&set) / sharers;
    return threads < 1 ? 1 : threads > POOL_MAX_THREADS ? POOL_MAX_THREADS : threads;
}
