#include "libsplit/sidecar.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "libsplit/file.h"

enum { MAX_FILE_BYTES = 1 << 20, MAX_LABELS = 1 << 16, MAX_PLACE_BYTES = 96 };

/* ---- the grammar: a new setting is one field in struct sidecar and one row here */

enum kind {
    WORD,        /* one of `words`; the enum at `off` gets its index */
    WHOLE,       /* int32_t, min..max */
    NUMBER,      /* float, min..max */
    PER_CHANNEL, /* a NUMBER for all channels, or an array with one for each */
    LABELS,      /* array of strings, or the name of a file beside the sidecar */
    NAMES,       /* detect.output: array of texts */
    STRIDES,     /* detect.stride: array of float, min..max */
    ANCHORS,     /* detect.anchor: for every stride an array of column, row, column, row... */
    SECTION,     /* object with the rows of `keys` */
};

enum { MAX_WORDS = 6 };

struct key {
    const char *name;
    enum kind kind;
    size_t off; /* in struct sidecar */
    double min, max;
    const char *words[MAX_WORDS];
    const struct key *keys; /* ends with a row without a name */
};

#define AT(f) offsetof(struct sidecar, f)

static const struct key input_keys[] = {
    { "channels", WORD, AT(channels), .words = { "rgb", "bgr", "gray", "y" } },
    { "scale", NUMBER, AT(pixels.scale), .min = 1e-9, .max = 1e9 },
    { "mean", PER_CHANNEL, AT(pixels.mean), .min = -1e9, .max = 1e9 },
    { "std", PER_CHANNEL, AT(pixels.std), .min = 1e-9, .max = 1e9 },
    { "resize", WORD, AT(resize), .words = { "stretch", "crop", "letterbox", "none" } },
    { "short_side", WHOLE, AT(short_side), .min = 1, .max = IMAGE_MAX_SIDE },
    { "fill", WHOLE, AT(fill), .min = 0, .max = 255 },
    { "edge", WHOLE, AT(edge), .min = 0, .max = 1024 },
    { .name = NULL },
};

static const struct key output_keys[] = {
    { "scale", NUMBER, AT(output_scale), .min = 1e-9, .max = 1e9 },
    { "offset", NUMBER, AT(output_offset), .min = -1e9, .max = 1e9 },
    { .name = NULL },
};

static const struct key detect_keys[] = {
    { "decoder", WORD, AT(detect.decoder),
      .words = { "yolox", "yolov5", "yolov8", "nanodet", "ssd", "ultraface" } },
    { "outputs", NAMES, .off = AT(detect.output) },
    { "strides", STRIDES, AT(detect.stride), .min = 1, .max = 4096 },
    { "anchors", ANCHORS, AT(detect.anchor), .min = 1e-3, .max = 1e5 },
    { "center", NUMBER, AT(detect.center), .min = 0, .max = 1 },
    { "reg_max", WHOLE, AT(detect.reg_max), .min = 1, .max = 64 },
    { "center_variance", NUMBER, AT(detect.center_variance), .min = 1e-6, .max = 1e6 },
    { "size_variance", NUMBER, AT(detect.size_variance), .min = 1e-6, .max = 1e6 },
    { "activation", WORD, AT(detect.activation), .words = { "none", "sigmoid", "softmax" } },
    { "score", NUMBER, AT(detect.score), .min = 0, .max = 1 },
    { "iou", NUMBER, AT(detect.iou), .min = 0, .max = 1 },
    { "limit", WHOLE, AT(detect.limit), .min = 1, .max = 10000 },
    { .name = NULL },
};

static const struct key segment_keys[] = {
    { "threshold", NUMBER, AT(mask_threshold), .min = -1e9, .max = 1e9 },
    { "background", WHOLE, AT(background), .min = -1, .max = 254 },
    { .name = NULL },
};

/* In the order of enum task. */
#define TASK_WORDS                                                                                 \
    {                                                                                              \
        "raw", "classify", "image", "detect", "segment"                                            \
    }

static const struct key top_keys[] = {
    { "task", WORD, AT(task), .words = TASK_WORDS },
    { "labels", LABELS, .off = AT(labels) },
    { "class_offset", WHOLE, AT(class_offset), .min = -100000, .max = 100000 },
    { "input", SECTION, .keys = input_keys },
    { "output", SECTION, .keys = output_keys },
    { "detect", SECTION, .keys = detect_keys },
    { "segment", SECTION, .keys = segment_keys },
    { .name = NULL },
};

/* ---- one value into its field */

struct parse {
    struct sidecar *s;
    const char *file;
    struct diag *why;
};

/* Where in the file: "input.mean[2]". */
struct place {
    char text[MAX_PLACE_BYTES];
};

static struct place place_of(const char *section, const char *key)
{
    struct place p;

    snprintf(p.text, sizeof p.text, "%s%s%.60s", section, section[0] ? "." : "", key);
    return p;
}

static void *field(const struct parse *p, const struct key *k) { return (char *)p->s + k->off; }

static int set_word(const struct parse *p, const struct key *k, const cJSON *v, const char *place)
{
    char allowed[80] = "";
    size_t n = 0;

    for (unsigned i = 0; i < MAX_WORDS && k->words[i]; i++) {
        if (cJSON_IsString(v) && strcmp(v->valuestring, k->words[i]) == 0) {
            memcpy(field(p, k), &i, sizeof i);
            return 0;
        }
        n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s\"%s\"", i > 0 ? ", " : "",
                              k->words[i]);
    }
    if (cJSON_IsString(v))
        return diag(p->why, -EINVAL, "%s: %s: \"%.40s\" is none of %s", p->file, place,
                    v->valuestring, allowed);
    return diag(p->why, -EINVAL, "%s: %s: expected one of %s", p->file, place, allowed);
}

static int check_number(const struct parse *p, const struct key *k, const cJSON *v,
                        const char *place)
{
    if (!cJSON_IsNumber(v))
        return diag(p->why, -EINVAL, "%s: %s: expected a number of %g to %g", p->file, place,
                    k->min, k->max);
    if (!(v->valuedouble >= k->min && v->valuedouble <= k->max))
        return diag(p->why, -EINVAL, "%s: %s: %g is not in %g to %g", p->file, place,
                    v->valuedouble, k->min, k->max);
    return 0;
}

static int set_whole(const struct parse *p, const struct key *k, const cJSON *v, const char *place)
{
    int rc = check_number(p, k, v, place);
    if (rc < 0)
        return rc;
    const int32_t n = (int32_t)v->valuedouble;
    if (v->valuedouble != n)
        return diag(p->why, -EINVAL, "%s: %s: %g is not a whole number", p->file, place,
                    v->valuedouble);
    memcpy(field(p, k), &n, sizeof n);
    return 0;
}

static int set_number(const struct parse *p, const struct key *k, const cJSON *v, const char *place)
{
    int rc = check_number(p, k, v, place);
    if (rc < 0)
        return rc;
    const float x = (float)v->valuedouble;
    memcpy(field(p, k), &x, sizeof x);
    return 0;
}

static int set_per_channel(const struct parse *p, const struct key *k, const cJSON *v,
                           const char *place)
{
    const int32_t channels = p->s->pixels.channels;
    const bool one_each = cJSON_IsArray(v);
    const cJSON *item = one_each ? v->child : v;
    float *to = field(p, k);

    if (one_each && cJSON_GetArraySize(v) != channels)
        return diag(p->why, -EINVAL,
                    "%s: %s: %d numbers; expected one, or one for each of %d channels", p->file,
                    place, cJSON_GetArraySize(v), channels);
    for (int32_t c = 0; c < channels; c++) {
        struct place at = place_of("", place);
        if (one_each)
            snprintf(at.text, sizeof at.text, "%.80s[%d]", place, c);
        int rc = check_number(p, k, item, at.text);
        if (rc < 0)
            return rc;
        to[c] = (float)item->valuedouble;
        item = one_each ? item->next : v;
    }
    return 0;
}

/* ---- labels */

static int add_label(const struct parse *p, const char *text, size_t len, const char *place)
{
    struct sidecar *s = p->s;

    if (s->nlabels == MAX_LABELS)
        return diag(p->why, -EINVAL, "%s: %s: more than %d labels", p->file, place, MAX_LABELS);
    /* They are printed on terminals as they are. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return diag(p->why, -EINVAL, "%s: %s: label %d has a control character (%d)", p->file,
                        place, s->nlabels, text[i]);

    /* Room grows at powers of two: 0 -> 1 -> 2 -> 4 ... */
    if ((s->nlabels & (s->nlabels - 1)) == 0) {
        const size_t room = s->nlabels > 0 ? 2 * (size_t)s->nlabels : 1;
        char **more = realloc(s->labels, room * sizeof *more);
        if (!more)
            return diag(p->why, -ENOMEM, "%s: %s: out of memory", p->file, place);
        s->labels = more;
    }
    char *label = strndup(text, len);
    if (!label)
        return diag(p->why, -ENOMEM, "%s: %s: out of memory", p->file, place);
    s->labels[s->nlabels++] = label;
    return 0;
}

/* One label a line; the last line may lack its end; CR LF is fine. */
static int split_lines(const struct parse *p, const char *text, size_t len)
{
    const char *const end = text + len;

    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        const char *next = stop ? stop + 1 : end;
        size_t n = (size_t)((stop ? stop : end) - text);
        if (n > 0 && text[n - 1] == '\r')
            n--;
        int rc = add_label(p, text, n, "labels");
        if (rc < 0)
            return rc;
        text = next;
    }
    return 0;
}

static int read_labels(const struct parse *p, const char *name)
{
    char path[PATH_MAX];
    const char *slash = strrchr(p->file, '/');
    const int dir_len = slash ? (int)(slash - p->file) + 1 : 0;
    uint8_t *text;
    size_t len;

    if (name[0] == '\0' || strchr(name, '/'))
        return diag(p->why, -EINVAL,
                    "%s: labels: \"%.40s\" is not the name of a file beside the sidecar", p->file,
                    name);
    if (snprintf(path, sizeof path, "%.*s%s", dir_len, p->file, name) >= (int)sizeof path)
        return diag(p->why, -ENAMETOOLONG, "%s: labels: the name is too long", p->file);

    int rc = file_read(path, MAX_FILE_BYTES, &text, &len, p->why);
    if (rc < 0)
        return rc;
    const struct parse inner = { p->s, path, p->why };
    rc = split_lines(&inner, (const char *)text, len);
    free(text);
    return rc;
}

static int set_labels(const struct parse *p, const cJSON *v)
{
    const cJSON *item;

    if (cJSON_IsString(v))
        return read_labels(p, v->valuestring);
    if (!cJSON_IsArray(v))
        return diag(p->why, -EINVAL, "%s: labels: expected an array of strings or a file's name",
                    p->file);
    cJSON_ArrayForEach(item, v) {
        if (!cJSON_IsString(item))
            return diag(p->why, -EINVAL, "%s: labels[%d]: expected a string", p->file,
                        p->s->nlabels);
        int rc = add_label(p, item->valuestring, strlen(item->valuestring), "labels");
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- lists of a detector */

/* Checks an array of `least` to `most` members. */
static int check_list(const struct parse *p, const cJSON *v, int least, int most, const char *place,
                      const char *members)
{
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) < least || cJSON_GetArraySize(v) > most)
        return diag(p->why, -EINVAL, "%s: %s: expected a list of %d to %d %s", p->file, place,
                    least, most, members);
    return 0;
}

static int set_names(const struct parse *p, const cJSON *v, const char *place)
{
    struct sidecar_detect *d = &p->s->detect;
    const cJSON *item;

    int rc = check_list(p, v, 1, SIDECAR_MAX_OUTPUTS, place, "names");
    if (rc < 0)
        return rc;
    cJSON_ArrayForEach(item, v) {
        if (!cJSON_IsString(item) || strlen(item->valuestring) > SIDECAR_NAME_MAX)
            return diag(p->why, -EINVAL, "%s: %s[%d]: expected a string of up to %d bytes", p->file,
                        place, d->noutputs, SIDECAR_NAME_MAX);
        memcpy(d->output[d->noutputs], item->valuestring, strlen(item->valuestring) + 1);
        d->noutputs++;
    }
    return 0;
}

static int set_strides(const struct parse *p, const struct key *k, const cJSON *v,
                       const char *place)
{
    struct sidecar_detect *d = &p->s->detect;
    const cJSON *item;

    int rc = check_list(p, v, 1, SIDECAR_MAX_STRIDES, place, "strides");
    if (rc < 0)
        return rc;
    d->nstrides = 0;
    cJSON_ArrayForEach(item, v) {
        struct key one = *k;
        one.off += sizeof d->stride[0] * (size_t)d->nstrides;
        rc = set_number(p, &one, item, place);
        if (rc < 0)
            return rc;
        d->nstrides++;
    }
    return 0;
}

/* The anchors of one stride: columns, rows, columns, rows... */
static int set_anchors_of(const struct parse *p, const struct key *k, const cJSON *v, int32_t level,
                          const char *place)
{
    struct sidecar_detect *d = &p->s->detect;
    const cJSON *item;
    int n = 0;

    int rc = check_list(p, v, 2, 2 * SIDECAR_MAX_ANCHORS, place, "numbers");
    if (rc < 0)
        return rc;
    if (cJSON_GetArraySize(v) % 2 != 0)
        return diag(p->why, -EINVAL, "%s: %s: %d numbers; expected pairs of columns and rows",
                    p->file, place, cJSON_GetArraySize(v));
    cJSON_ArrayForEach(item, v) {
        rc = check_number(p, k, item, place);
        if (rc < 0)
            return rc;
        d->anchor[level][n / 2][n % 2] = (float)item->valuedouble;
        n++;
    }
    d->nanchors[level] = n / 2;
    return 0;
}

static int set_anchors(const struct parse *p, const struct key *k, const cJSON *v,
                       const char *place)
{
    const int32_t strides = p->s->detect.nstrides;
    const cJSON *item;
    int32_t level = 0;

    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != strides)
        return diag(p->why, -EINVAL, "%s: %s: expected %d lists, one for every stride", p->file,
                    place, strides);
    cJSON_ArrayForEach(item, v) {
        struct place at;
        snprintf(at.text, sizeof at.text, "%.80s[%d]", place, level);
        int rc = set_anchors_of(p, k, item, level, at.text);
        if (rc < 0)
            return rc;
        level++;
    }
    return 0;
}

/* ---- objects */

static int set_section(const struct parse *p, const struct key *keys, const cJSON *object,
                       const char *name);

static int set_key(const struct parse *p, const struct key *k, const cJSON *v, const char *section)
{
    const struct place place = place_of(section, k->name);

    switch (k->kind) {
    case WORD:
        return set_word(p, k, v, place.text);
    case WHOLE:
        return set_whole(p, k, v, place.text);
    case NUMBER:
        return set_number(p, k, v, place.text);
    case PER_CHANNEL:
        return set_per_channel(p, k, v, place.text);
    case LABELS:
        return set_labels(p, v);
    case NAMES:
        return set_names(p, v, place.text);
    case STRIDES:
        return set_strides(p, k, v, place.text);
    case ANCHORS:
        return set_anchors(p, k, v, place.text);
    case SECTION:
        return set_section(p, k->keys, v, place.text);
    }
    return -EINVAL;
}

/* Every key known and there once. */
static int check_keys(const struct parse *p, const struct key *keys, const cJSON *object,
                      const char *section)
{
    const cJSON *v;

    cJSON_ArrayForEach(v, object) {
        const struct place place = place_of(section, v->string);
        const struct key *k = keys;
        while (k->name && strcmp(k->name, v->string) != 0)
            k++;
        if (!k->name) {
            char allowed[160] = "";
            size_t n = 0;
            for (k = keys; k->name; k++)
                n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s%s", n > 0 ? ", " : "",
                                      k->name);
            return diag(p->why, -EINVAL, "%s: %s: unknown key; allowed are %s", p->file, place.text,
                        allowed);
        }
        if (cJSON_GetObjectItemCaseSensitive(object, v->string) != v)
            return diag(p->why, -EINVAL, "%s: %s: given twice", p->file, place.text);
    }
    return 0;
}

/* In the table's order, not the file's: "mean" needs to know "channels". */
static int set_section(const struct parse *p, const struct key *keys, const cJSON *object,
                       const char *name)
{
    if (!cJSON_IsObject(object))
        return diag(p->why, -EINVAL, "%s: %s: expected an object", p->file,
                    name[0] ? name : "the top level");

    int rc = check_keys(p, keys, object, name);
    for (const struct key *k = keys; rc == 0 && k->name; k++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, k->name);
        if (v)
            rc = set_key(p, k, v, name);
        if (rc == 0 && k->kind == WORD && k->off == AT(channels))
            p->s->pixels.channels =
                p->s->channels == CHANNELS_RGB || p->s->channels == CHANNELS_BGR ? 3 : 1;
    }
    return rc;
}

/* Which decoders a setting of detect[] means something to. */
enum {
    YOLOX = 1 << DECODER_YOLOX,
    YOLOV5 = 1 << DECODER_YOLOV5,
    NANODET = 1 << DECODER_NANODET,
    SSD = 1 << DECODER_SSD,
    NO_OBJECTNESS = NANODET | SSD | 1 << DECODER_YOLOV8 | 1 << DECODER_ULTRAFACE,
};
static const struct {
    const char *key, *place, *needs;
    unsigned decoders;
} detect_rules[] = {
    { "strides", "detect.strides", "a decoder that has cells", YOLOX | YOLOV5 | NANODET | SSD },
    { "anchors", "detect.anchors", "decoder \"yolov5\" or \"ssd\"", YOLOV5 | SSD },
    { "center", "detect.center", "decoder \"nanodet\" or \"ssd\"", NANODET | SSD },
    { "reg_max", "detect.reg_max", "decoder \"nanodet\"", NANODET },
    { "center_variance", "detect.center_variance", "decoder \"ssd\"", SSD },
    { "size_variance", "detect.size_variance", "decoder \"ssd\"", SSD },
    { "activation", "detect.activation", "a decoder without objectness", NO_OBJECTNESS },
};

static int check_detect(const struct parse *p, const cJSON *detect)
{
    const struct sidecar_detect *d = &p->s->detect;

    if (!cJSON_GetObjectItemCaseSensitive(detect, "decoder"))
        return diag(p->why, -EINVAL, "%s: detect.decoder: missing; it says what the outputs mean",
                    p->file);
    for (size_t i = 0; i < sizeof detect_rules / sizeof detect_rules[0]; i++)
        if (!(detect_rules[i].decoders & 1u << d->decoder) &&
            cJSON_GetObjectItemCaseSensitive(detect, detect_rules[i].key))
            return diag(p->why, -EINVAL, "%s: %s: allowed with %s only", p->file,
                        detect_rules[i].place, detect_rules[i].needs);
    if (d->decoder == DECODER_SSD && d->nanchors[0] == 0)
        return diag(p->why, -EINVAL, "%s: detect.anchors: missing; decoder \"ssd\" needs them",
                    p->file);
    return 0;
}

/* Settings that mean nothing beside the others are mistakes. */
static int check_sense(const struct parse *p, const cJSON *root)
{
    const cJSON *in = cJSON_GetObjectItemCaseSensitive(root, "input");
    const enum task task = p->s->task;
    const struct {
        const cJSON *object;
        const char *key, *place, *needs;
        bool met;
    } rules[] = {
        { root, "labels", "labels", "task \"classify\", \"detect\" or \"segment\"",
          task == TASK_CLASSIFY || task == TASK_DETECT || task == TASK_SEGMENT },
        { root, "class_offset", "class_offset", "task \"classify\" or \"detect\"",
          task == TASK_CLASSIFY || task == TASK_DETECT },
        { root, "output", "output", "task \"image\"", task == TASK_IMAGE },
        { root, "detect", "detect", "task \"detect\"", task == TASK_DETECT },
        { root, "segment", "segment", "task \"segment\"", task == TASK_SEGMENT },
        { in, "short_side", "input.short_side", "resize \"crop\"", p->s->resize == RESIZE_TO_CROP },
        { in, "fill", "input.fill", "resize \"letterbox\"", p->s->resize == RESIZE_TO_LETTERBOX },
    };

    if (!cJSON_GetObjectItemCaseSensitive(root, "task"))
        return diag(p->why, -EINVAL,
                    "%s: task: missing; \"raw\", \"classify\", \"image\", \"detect\" or "
                    "\"segment\"",
                    p->file);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (!rules[i].met && cJSON_GetObjectItemCaseSensitive(rules[i].object, rules[i].key))
            return diag(p->why, -EINVAL, "%s: %s: allowed with %s only", p->file, rules[i].place,
                        rules[i].needs);
    return task == TASK_DETECT ? check_detect(p, cJSON_GetObjectItemCaseSensitive(root, "detect"))
                               : 0;
}

static int line_of(const char *json, const char *at)
{
    int line = 1;

    for (; json < at; json++)
        line += *json == '\n';
    return line;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

int sidecar_parse(struct sidecar *s, const char *json, size_t len, const char *file,
                  struct diag *why)
{
    const char *at = json;
    struct sidecar made;
    const struct parse p = { &made, file, why };

    if (len > MAX_FILE_BYTES)
        return diag(why, -EINVAL, "%s: %zu bytes; up to %d are allowed", file, len, MAX_FILE_BYTES);
    cJSON *root = cJSON_ParseWithLengthOpts(json, len, &at, false);
    if (root)
        at = skip_space(at, json + len);
    if (!root || at != json + len) {
        cJSON_Delete(root);
        return diag(why, -EINVAL, "%s:%d: not JSON", file, line_of(json, at));
    }

    sidecar_default(&made);
    int rc = set_section(&p, top_keys, root, "");
    if (rc == 0)
        rc = check_sense(&p, root);
    cJSON_Delete(root);
    if (rc < 0)
        sidecar_done(&made);
    else
        *s = made;
    return rc;
}

int sidecar_load(struct sidecar *s, const char *file, struct diag *why)
{
    uint8_t *text;
    size_t len;

    int rc = file_read(file, MAX_FILE_BYTES, &text, &len, why);
    if (rc < 0)
        return rc;
    rc = sidecar_parse(s, (const char *)text, len, file, why);
    free(text);
    return rc;
}

void sidecar_default(struct sidecar *s)
{
    *s = (struct sidecar){
        .task = TASK_RAW,
        .channels = CHANNELS_RGB,
        .resize = RESIZE_TO_STRETCH,
        .pixels = { .channels = 3, .scale = 1.0f / 255 },
        .output_scale = 255,
        .detect = { .nstrides = 3,
                    .stride = { 8, 16, 32 },
                    .reg_max = 7,
                    .center = 0.5f,
                    .center_variance = 0.1f,
                    .size_variance = 0.2f,
                    .score = 0.3f,
                    .iou = 0.5f,
                    .limit = 100 },
        .mask_threshold = 0.5f,
    };
    for (int c = 0; c < CODEC_MAX_PIXEL_CHANNELS; c++)
        s->pixels.std[c] = 1;
}

void sidecar_done(struct sidecar *s)
{
    for (int32_t i = 0; i < s->nlabels; i++)
        free(s->labels[i]);
    free(s->labels);
    sidecar_default(s);
}

const char *sidecar_task_name(enum task t)
{
    static const char *const names[] = TASK_WORDS;
    return names[t];
}

int sidecar_path(const char *onnx_file, char *path, size_t cap)
{
    const char *slash = strrchr(onnx_file, '/');
    const char *dot = strrchr(slash ? slash : onnx_file, '.');
    const size_t stem = dot ? (size_t)(dot - onnx_file) : strlen(onnx_file);

    if (stem + sizeof ".json" > cap)
        return -ENAMETOOLONG;
    snprintf(path, cap, "%.*s.json", (int)stem, onnx_file);
    return 0;
}
