#include "libsplit/halo_file.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <nettle/base64.h>
#include <nettle/sha2.h>

#include "libsplit/file.h"

enum { MAX_FILE_BYTES = 64 << 20, HEX_BYTES = 2 * HALO_SHA_BYTES + 1, MAX_NAME_BYTES = 4096 };

_Static_assert(HALO_SHA_BYTES == SHA256_DIGEST_SIZE, "nettle's idea of it");

int halo_file_path(const char *onnx_file, char *path, size_t cap)
{
    const char *slash = strrchr(onnx_file, '/');
    const char *dot = strrchr(slash ? slash : onnx_file, '.');
    const size_t stem = dot ? (size_t)(dot - onnx_file) : strlen(onnx_file);

    if (stem + sizeof ".halo.json" > cap)
        return -ENAMETOOLONG;
    snprintf(path, cap, "%.*s.halo.json", (int)stem, onnx_file);
    return 0;
}

/* ---- Sums */

static void sha256(const uint8_t *bytes, size_t len, uint8_t sha[HALO_SHA_BYTES])
{
    struct sha256_ctx sum;
    sha256_init(&sum);
    sha256_update(&sum, len, bytes);
    sha256_digest(&sum, HALO_SHA_BYTES, sha);
}

void halo_file_model(const struct onnx_model *m, uint8_t sha[HALO_SHA_BYTES])
{
    sha256(m->map, m->map_bytes, sha);
}

static void hex_of(const uint8_t sha[HALO_SHA_BYTES], char hex[HEX_BYTES])
{
    for (size_t i = 0; i < HALO_SHA_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", sha[i]);
}

/* The sum over all recipes as bytes.  Returns 0 or -ENOMEM. */
static int sum_recipes(const struct halo_file *f, uint8_t sha[HALO_SHA_BYTES])
{
    struct sha256_ctx sum;
    sha256_init(&sum);
    for (int32_t i = 0; i < f->ntensors; i++) {
        const struct recipe *r = &f->tensor[i].recipe;
        const size_t len = recipe_bytes(r);
        uint8_t *bytes = malloc(len);
        if (!bytes)
            return -ENOMEM;
        recipe_write(bytes, r);
        sha256_update(&sum, len, bytes);
        free(bytes);
    }
    sha256_digest(&sum, HALO_SHA_BYTES, sha);
    return 0;
}

/* ---- Reading.  Every function returns 0 or a negative errno with a sentence. */

struct parse {
    const char *file;
    struct diag *why;
    char place[64]; /* "measured.", "tensors[3]." */
};

__attribute__((format(printf, 3, 4))) static int wrong(const struct parse *p, const char *key,
                                                       const char *fmt, ...)
{
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return diag(p->why, -EINVAL, "%s: %s%s %s", p->file, p->place, key, what);
}

static int get(const struct parse *p, const cJSON *object, const char *key, const cJSON **value)
{
    *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return *value ? 0 : wrong(p, key, "is missing");
}

static int get_number(const struct parse *p, const cJSON *object, const char *key, double min,
                      double max, double *to)
{
    const cJSON *v;
    const int err = get(p, object, key, &v);
    if (err)
        return err;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max))
        return wrong(p, key, "is no number from %g to %g", min, max);
    *to = v->valuedouble;
    return 0;
}

/* The same, or NAN for null. */
static int get_number_or_null(const struct parse *p, const cJSON *object, const char *key,
                              double min, double max, double *to)
{
    const cJSON *v;
    const int err = get(p, object, key, &v);
    if (err || !cJSON_IsNull(v))
        return err ? err : get_number(p, object, key, min, max, to);
    *to = NAN;
    return 0;
}

static int get_whole(const struct parse *p, const cJSON *object, const char *key, int32_t min,
                     int32_t max, int32_t *to)
{
    double value = 0;
    const int err = get_number(p, object, key, min, max, &value);
    if (err)
        return err;
    if (value != floor(value))
        return wrong(p, key, "is %g, expected a whole number", value);
    *to = (int32_t)value;
    return 0;
}

static int get_float(const struct parse *p, const cJSON *object, const char *key, float *to)
{
    double value = 0;
    const int err = get_number(p, object, key, 0, 3e38, &value);
    if (!err)
        *to = (float)value;
    return err;
}

static int get_bool(const struct parse *p, const cJSON *object, const char *key, bool *to)
{
    const cJSON *v;
    const int err = get(p, object, key, &v);
    if (err)
        return err;
    if (!cJSON_IsBool(v))
        return wrong(p, key, "is neither true nor false");
    *to = cJSON_IsTrue(v);
    return 0;
}

static int get_text(const struct parse *p, const cJSON *object, const char *key, size_t max,
                    const char **to)
{
    const cJSON *v;
    const int err = get(p, object, key, &v);
    if (err)
        return err;
    if (!cJSON_IsString(v) || strlen(v->valuestring) > max)
        return wrong(p, key, "is no text of at most %zu bytes", max);
    *to = v->valuestring;
    return 0;
}

static int get_sum(const struct parse *p, const cJSON *object, const char *key,
                   uint8_t sha[HALO_SHA_BYTES])
{
    const char *text = "";
    const int err = get_text(p, object, key, HEX_BYTES - 1, &text);
    if (err)
        return err;
    if (strlen(text) != HEX_BYTES - 1 || strspn(text, "0123456789abcdef") != HEX_BYTES - 1)
        return wrong(p, key, "is no SHA-256 of %d hex digits", HEX_BYTES - 1);
    for (size_t i = 0; i < HALO_SHA_BYTES; i++) {
        const char digits[3] = { text[2 * i], text[2 * i + 1] };
        sha[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return 0;
}

/* Refuses what `keys` does not name. */
static int check_keys(const struct parse *p, const cJSON *object, const char *const *keys)
{
    const cJSON *v;
    if (!cJSON_IsObject(object))
        return diag(p->why, -EINVAL, "%s: %s is no object", p->file,
                    p->place[0] ? p->place : "the file");
    cJSON_ArrayForEach(v, object) {
        int known = 0;
        for (int i = 0; keys[i]; i++)
            known += strcmp(keys[i], v->string) == 0;
        if (!known || cJSON_GetObjectItemCaseSensitive(object, v->string) != v)
            return wrong(p, v->string, known ? "is there twice" : "is unknown");
    }
    return 0;
}

static int get_rest(const struct parse *p, const cJSON *object, struct recipe *r)
{
    const cJSON *list, *v;
    const int err = get(p, object, "rest", &list);
    if (err || cJSON_IsNull(list))
        return err;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != r->channels)
        return wrong(p, "rest", "is no list with a number for each of %d channels", r->channels);
    r->rest = malloc((size_t)r->channels * sizeof *r->rest);
    if (!r->rest)
        return diag(p->why, -ENOMEM, "%s: out of memory", p->file);
    int32_t c = 0;
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsNumber(v) || !(fabs(v->valuedouble) < 3e38))
            return wrong(p, "rest", "has an entry that is no number");
        r->rest[c++] = (float)v->valuedouble;
    }
    return 0;
}

/* Decodes base64 that is exactly one context. */
static int decode_context(struct context *x, const struct recipe *r, const char *text)
{
    struct base64_decode_ctx base64;
    const size_t len = strlen(text);
    size_t bytes = BASE64_DECODE_LENGTH(len), used = 0;
    uint8_t *to = malloc(bytes + 1);
    if (!to)
        return -ENOMEM;
    base64_decode_init(&base64);
    int err = base64_decode_update(&base64, &bytes, to, len, text) && base64_decode_final(&base64)
                  ? context_read(x, r->channels, r->quantizer.with_sign, to, bytes, &used)
                  : -EBADMSG;
    if (!err && used != bytes) {
        context_done(x);
        err = -EBADMSG;
    }
    free(to);
    return err;
}

static int get_context(const struct parse *p, const cJSON *object, const char *key,
                       bool with_before, const struct recipe *r, struct context **to)
{
    const cJSON *v;
    const char *text = "";
    int err = get(p, object, key, &v);
    if (err || cJSON_IsNull(v))
        return err;
    err = get_text(p, object, key, MAX_FILE_BYTES, &text);
    if (err)
        return err;
    struct context *x = calloc(1, sizeof *x);
    if (!x)
        return diag(p->why, -ENOMEM, "%s: out of memory", p->file);
    err = decode_context(x, r, text);
    if (!err && x->with_before != with_before) {
        context_done(x);
        err = -EBADMSG;
    }
    if (!err) {
        *to = x;
        return 0;
    }
    free(x);
    return diag(p->why, err, "%s: %s%s is damaged", p->file, p->place, key);
}

static int get_recipe(const struct parse *p, const cJSON *o, struct recipe *r)
{
    struct quantizer *q = &r->quantizer;
    int err = get_whole(p, o, "channels", 1, RECIPE_MAX_CHANNELS, &r->channels);
    if (!err)
        err = get_float(p, o, "t", &q->threshold);
    if (!err)
        err = get_float(p, o, "step", &q->step);
    if (!err)
        err = get_float(p, o, "gain", &q->gain);
    if (!err)
        err = get_bool(p, o, "signed", &q->with_sign);
    if (!err)
        err = get_bool(p, o, "soft", &q->soft);
    if (!err)
        err = get_bool(p, o, "drop", &r->drop);
    if (!err && !quantizer_is_sound(q))
        err = wrong(p, "step", "is %g beside a t of %g and a gain of %g: no values result",
                    (double)q->step, (double)q->threshold, (double)q->gain);
    if (!err)
        err = get_rest(p, o, r);
    if (!err)
        err = get_context(p, o, "contexts", false, r, &r->context);
    if (!err)
        err = get_context(p, o, "video", true, r, &r->video);
    if (!err && r->video && !r->context)
        err = wrong(p, "video", "needs contexts");
    return err;
}

static int get_tensor(const struct parse *p, const cJSON *o, struct halo_tensor *t)
{
    static const char *const keys[] = { "tensor", "operator", "channels", "t",     "step",
                                        "gain",   "signed",   "soft",     "drop",  "bytes",
                                        "error",  "rest",     "contexts", "video", NULL };
    const char *name = "";
    int err = check_keys(p, o, keys);
    if (!err)
        err = get_whole(p, o, "tensor", 0, GEO_MAX_TENSORS - 1, &t->tensor);
    if (!err)
        err = get_text(p, o, "operator", MAX_NAME_BYTES, &name);
    if (!err && !(t->name = strdup(name)))
        err = diag(p->why, -ENOMEM, "%s: out of memory", p->file);
    if (!err)
        err = get_number(p, o, "bytes", 0, 1e15, &t->bytes);
    if (!err)
        err = get_number(p, o, "error", 0, 1e9, &t->error);
    return err ? err : get_recipe(p, o, &t->recipe);
}

static int get_tensors(struct parse *p, const cJSON *root, struct halo_file *f)
{
    const cJSON *list, *v;
    int err = get(p, root, "tensors", &list);
    if (err)
        return err;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > GEO_MAX_TENSORS)
        return wrong(p, "tensors", "is no list of at most %d", GEO_MAX_TENSORS);
    f->tensor = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *f->tensor);
    if (!f->tensor)
        return diag(p->why, -ENOMEM, "%s: out of memory", p->file);
    cJSON_ArrayForEach(v, list) {
        snprintf(p->place, sizeof p->place, "tensors[%d].", f->ntensors);
        err = get_tensor(p, v, &f->tensor[f->ntensors++]);
        if (err)
            return err;
    }
    p->place[0] = '\0';
    return 0;
}

static int get_measured(struct parse *p, const cJSON *root, struct halo_measure *m)
{
    static const char *const keys[] = { "inputs",    "bytes", "dense_bytes", "error",
                                        "agreement", "drop",  "drop_error",  NULL };
    const cJSON *o;
    int err = get(p, root, "measured", &o);
    if (err)
        return err;
    snprintf(p->place, sizeof p->place, "measured.");
    err = check_keys(p, o, keys);
    if (!err)
        err = get_whole(p, o, "inputs", 0, INT32_MAX, &m->inputs);
    if (!err)
        err = get_number(p, o, "bytes", 0, 1e15, &m->bytes);
    if (!err)
        err = get_number(p, o, "dense_bytes", 0, 1e15, &m->dense_bytes);
    if (!err)
        err = get_number(p, o, "error", 0, 1e9, &m->error);
    if (!err)
        err = get_number_or_null(p, o, "agreement", 0, 1, &m->agreement);
    if (!err)
        err = get_number_or_null(p, o, "drop", -1e9, 1e9, &m->drop);
    if (!err)
        err = get_number_or_null(p, o, "drop_error", 0, 1e9, &m->drop_error);
    p->place[0] = '\0';
    return err;
}

static int get_within(const struct parse *p, const cJSON *root, uint32_t *within)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "within"), *v;
    *within = 0;
    if (!list) /* of a version that did not look */
        return 0;
    if (!cJSON_IsArray(list))
        return wrong(p, "within", "is no list");
    cJSON_ArrayForEach(v, list) {
        const int mode = cJSON_IsString(v) ? halo_parse(v->valuestring) : -EINVAL;
        if (mode != HALO_Q8 && mode != HALO_Q4)
            return wrong(p, "within", "has an entry that is neither \"q8\" nor \"q4\"");
        *within |= halo_bit((enum halo)mode);
    }
    return 0;
}

static int check_sums(const struct parse *p, const cJSON *root, struct halo_file *f,
                      const uint8_t sha[HALO_SHA_BYTES])
{
    uint8_t said[HALO_SHA_BYTES], found[HALO_SHA_BYTES];
    int err = get_sum(p, root, "model", f->model);
    if (!err)
        err = get_sum(p, root, "recipes", said);
    if (err)
        return err;
    if (memcmp(f->model, sha, HALO_SHA_BYTES) != 0)
        return diag(p->why, -ESTALE,
                    "%s: was made for another model file: run splitctl calibrate again, or say "
                    "--halo f32",
                    p->file);
    if (sum_recipes(f, found))
        return diag(p->why, -ENOMEM, "%s: out of memory", p->file);
    if (memcmp(said, found, HALO_SHA_BYTES) != 0)
        return diag(p->why, -EBADMSG,
                    "%s: is damaged: its recipes have another SHA-256 than it says", p->file);
    return 0;
}

static int parse_root(struct parse *p, const cJSON *root, struct halo_file *f,
                      const uint8_t sha[HALO_SHA_BYTES])
{
    static const char *const keys[] = { "model",    "recipes", "nodes",   "budget",
                                        "measured", "within",  "tensors", NULL };
    const char *budget = "";
    int err = check_keys(p, root, keys);
    if (!err)
        err = get_whole(p, root, "nodes", 1, PLAN_MAX_NODES, &f->nodes);
    if (!err)
        err = get_text(p, root, "budget", HALO_BUDGET_MAX, &budget);
    snprintf(f->budget, sizeof f->budget, "%s", budget);
    if (!err)
        err = get_measured(p, root, &f->measured);
    if (!err)
        err = get_within(p, root, &f->within);
    if (!err)
        err = get_tensors(p, root, f);
    return err ? err : check_sums(p, root, f, sha);
}

int halo_file_parse(struct halo_file *to, const char *json, size_t len, const char *file,
                    const uint8_t sha[HALO_SHA_BYTES], struct diag *why)
{
    struct parse p = { .file = file, .why = why };
    struct halo_file f = { .ntensors = 0 };
    cJSON *root = cJSON_ParseWithLength(json, len);
    if (!root)
        return diag(why, -EINVAL, "%s: is no JSON, or cut off", file);
    const int err = parse_root(&p, root, &f, sha);
    cJSON_Delete(root);
    if (err)
        halo_file_done(&f);
    else
        *to = f;
    return err;
}

int halo_file_load(struct halo_file *f, const char *file, const uint8_t sha[HALO_SHA_BYTES],
                   struct diag *why)
{
    uint8_t *bytes;
    size_t len;
    int err = file_read(file, MAX_FILE_BYTES, &bytes, &len, why);
    if (err)
        return err;
    err = halo_file_parse(f, (const char *)bytes, len, file, sha, why);
    free(bytes);
    return err;
}

void halo_file_done(struct halo_file *f)
{
    for (int32_t i = 0; i < f->ntensors; i++) {
        free(f->tensor[i].name);
        recipe_done(&f->tensor[i].recipe);
    }
    free(f->tensor);
    *f = (struct halo_file){ .ntensors = 0 };
}

/* ---- Writing.  cJSON checks for NULL itself, so only the last call needs looking at. */

static void add_number(cJSON *o, const char *key, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(o, key, value);
    else
        cJSON_AddNullToObject(o, key);
}

static cJSON *measured_json(const struct halo_measure *m)
{
    cJSON *o = cJSON_CreateObject();
    add_number(o, "inputs", m->inputs);
    add_number(o, "bytes", m->bytes);
    add_number(o, "dense_bytes", m->dense_bytes);
    add_number(o, "error", m->error);
    add_number(o, "agreement", m->agreement);
    add_number(o, "drop", m->drop);
    add_number(o, "drop_error", m->drop_error);
    return o;
}

static cJSON *within_json(uint32_t within)
{
    cJSON *list = cJSON_CreateArray();
    for (int h = 0; h < HALO_MODES; h++)
        if (within & halo_bit((enum halo)h))
            cJSON_AddItemToArray(list, cJSON_CreateString(halo_name((enum halo)h)));
    return list;
}

static cJSON *rest_json(const struct recipe *r)
{
    cJSON *list = r->rest ? cJSON_CreateArray() : cJSON_CreateNull();
    for (int32_t c = 0; r->rest && c < r->channels; c++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber((double)r->rest[c]));
    return list;
}

static cJSON *context_json(const struct context *x)
{
    if (!x)
        return cJSON_CreateNull();
    const size_t len = context_bytes(x);
    uint8_t *bytes = malloc(len);
    char *text = malloc(BASE64_ENCODE_RAW_LENGTH(len) + 1);
    cJSON *made = NULL;
    if (bytes && text) {
        context_write(bytes, x);
        base64_encode_raw(text, len, bytes);
        text[BASE64_ENCODE_RAW_LENGTH(len)] = '\0';
        made = cJSON_CreateString(text);
    }
    free(bytes);
    free(text);
    return made;
}

/* Returns false when memory is short. */
static bool add_item(cJSON *o, const char *key, cJSON *item)
{
    const bool added = item && cJSON_AddItemToObject(o, key, item);
    if (!added)
        cJSON_Delete(item);
    return added;
}

static cJSON *tensor_json(const struct halo_tensor *t)
{
    const struct recipe *r = &t->recipe;
    cJSON *o = cJSON_CreateObject();
    add_number(o, "tensor", t->tensor);
    cJSON_AddStringToObject(o, "operator", t->name);
    add_number(o, "channels", r->channels);
    add_number(o, "t", (double)r->quantizer.threshold);
    add_number(o, "step", (double)r->quantizer.step);
    add_number(o, "gain", (double)r->quantizer.gain);
    cJSON_AddBoolToObject(o, "signed", r->quantizer.with_sign);
    cJSON_AddBoolToObject(o, "soft", r->quantizer.soft);
    cJSON_AddBoolToObject(o, "drop", r->drop);
    add_number(o, "bytes", t->bytes);
    add_number(o, "error", t->error);
    if (add_item(o, "rest", rest_json(r)) && add_item(o, "contexts", context_json(r->context)) &&
        add_item(o, "video", context_json(r->video)))
        return o;
    cJSON_Delete(o);
    return NULL;
}

static bool add_sums(cJSON *root, const struct halo_file *f)
{
    uint8_t sha[HALO_SHA_BYTES];
    char hex[HEX_BYTES];
    if (sum_recipes(f, sha))
        return false;
    hex_of(f->model, hex);
    cJSON_AddStringToObject(root, "model", hex);
    hex_of(sha, hex);
    return cJSON_AddStringToObject(root, "recipes", hex) != NULL;
}

static cJSON *file_json(const struct halo_file *f)
{
    cJSON *root = cJSON_CreateObject(), *list = cJSON_CreateArray();
    bool holds = add_sums(root, f);
    add_number(root, "nodes", f->nodes);
    cJSON_AddStringToObject(root, "budget", f->budget);
    holds = add_item(root, "measured", measured_json(&f->measured)) && holds;
    holds = add_item(root, "within", within_json(f->within)) && holds;
    for (int32_t i = 0; i < f->ntensors; i++) {
        cJSON *o = tensor_json(&f->tensor[i]);
        holds = o && cJSON_AddItemToArray(list, o) && holds;
    }
    holds = add_item(root, "tensors", list) && holds;
    if (holds)
        return root;
    cJSON_Delete(root);
    return NULL;
}

int halo_file_save(const struct halo_file *f, const char *file, struct diag *why)
{
    cJSON *root = file_json(f);
    char *text = root ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        return diag(why, -ENOMEM, "%s: out of memory", file);
    const int err = file_write(file, text, strlen(text), why);
    cJSON_free(text);
    return err;
}

/* ---- Choosing */

static int choose_tensor(struct halo_choice *c, const struct halo_tensor *t, const struct graph *g,
                         enum halo mode, const bool *exact, struct diag *why)
{
    const struct tensor *found = t->tensor < g->ntensors ? &g->tensor[t->tensor] : NULL;
    if (!found || found->op == GEO_NO_OP || strcmp(g->op[found->op].name, t->name) != 0 ||
        found->dim[CHAN] != t->recipe.channels)
        return diag(why, -ESTALE,
                    "the halo file was made by another version of splitd: tensor %d is not the "
                    "%d channels of \"%s\"; run splitctl calibrate again, or say --halo f32",
                    t->tensor, t->recipe.channels, t->name);
    if (exact[t->tensor])
        return diag(
            why, -ESTALE,
            "the halo file was made by another version of splitd: the values of \"%s\" must "
            "be exact; run splitctl calibrate again, or say --halo f32",
            t->name);
    c->recipes.of[t->tensor] = &t->recipe;
    if (mode != HALO_DROP)
        c->tensor_halo[t->tensor] =
            (uint8_t)(mode == HALO_VIDEO && !t->recipe.video ? HALO_TQ : mode);
    return 0;
}

static enum halo plain(const struct graph *g, const struct tensor *t, enum halo mode)
{
    if (mode == HALO_TQ || mode == HALO_VIDEO)
        return HALO_F16;
    /* Errors of sums add up, and a tensor of one row is no border but all there is. */
    return t->dim[ROW] > 1 && g->op[t->op].type != OP_PARTIAL ? mode : HALO_F32;
}

static void plain_all(const struct graph *g, enum halo mode, const bool *exact, uint8_t *to)
{
    for (int32_t i = 0; i < g->ntensors; i++) {
        const struct tensor *t = &g->tensor[i];
        to[i] = (uint8_t)(t->op == GEO_NO_OP || exact[i] ? HALO_F32 : plain(g, t, mode));
    }
}

/* graph_exact() of `g`; free() it. */
static bool *exact_of(const struct graph *g)
{
    bool *exact = malloc(((size_t)g->ntensors + 1) * sizeof *exact);
    if (exact)
        graph_exact(g, exact);
    return exact;
}

int halo_plain(const struct graph *g, enum halo mode, uint8_t *tensor_halo)
{
    bool *exact = exact_of(g);
    if (!exact)
        return -ENOMEM;
    plain_all(g, mode, exact, tensor_halo);
    free(exact);
    return 0;
}

int halo_choose(struct halo_choice *to, const struct halo_file *f, const struct graph *g,
                enum halo wanted, struct diag *why)
{
    const enum halo mode = wanted != HALO_AUTO ? wanted : f ? HALO_TQ : HALO_F32;
    const bool by_file = mode == HALO_TQ || mode == HALO_VIDEO;
    if (by_file && !f)
        return diag(why, -EINVAL,
                    "halos of mode %s need a calibrated model: run splitctl calibrate first",
                    halo_name(mode));
    struct halo_choice c = { .mode = mode, .tensor_halo = calloc((size_t)g->ntensors + 1, 1) };
    bool *exact = exact_of(g);
    int err = 0;
    if (!exact || !c.tensor_halo || recipes_init(&c.recipes, g->ntensors))
        err = diag(why, -ENOMEM, "out of memory for the halos' modes");
    else
        plain_all(g, mode, exact, c.tensor_halo);
    for (int32_t i = 0; f && (by_file || mode == HALO_DROP) && i < f->ntensors && !err; i++)
        err = choose_tensor(&c, &f->tensor[i], g, mode, exact, why);
    free(exact);
    if (err)
        halo_choice_done(&c);
    else
        *to = c;
    return err;
}

void halo_choice_done(struct halo_choice *c)
{
    recipes_done(&c->recipes);
    free(c->tensor_halo);
    *c = (struct halo_choice){ .tensor_halo = NULL };
}
