#include "cli/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "libsplit/file.h"

enum { MAX_FILE_BYTES = 256 << 20 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The names of all models, for a sentence. */
static void list_models(const cJSON *models, char *text, size_t cap)
{
    const cJSON *m;
    size_t at = 0;

    text[0] = '\0';
    cJSON_ArrayForEach(m, models) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(m, "name"));
        if (name && at < cap)
            at += (size_t)snprintf(text + at, cap - at, "%s%s", at > 0 ? ", " : "", name);
    }
}

/* The model to ask: the one of --model, or the only one. */
static int choose_model(struct target *t, const cJSON *models, const cJSON **chosen,
                        struct diag *why)
{
    const cJSON *m;
    char names[256];

    *chosen = NULL;
    cJSON_ArrayForEach(m, models) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(m, "name"));
        if (name && strlen(name) <= TARGET_NAME_MAX &&
            (t->wanted ? strcmp(name, t->wanted) == 0 : cJSON_GetArraySize(models) == 1)) {
            *chosen = m;
            memcpy(t->model, name, strlen(name) + 1);
        }
    }
    if (*chosen)
        return 0;
    list_models(models, names, sizeof names);
    if (cJSON_GetArraySize(models) == 0)
        return diag(why, -EINVAL, "the server has no model");
    if (t->wanted)
        return diag(why, -EINVAL, "the server has no model '%s', it has: %s", t->wanted, names);
    return diag(why, -EINVAL, "the server has several models, choose one with --model: %s", names);
}

static int read_task(struct target *t, const cJSON *model, struct diag *why)
{
    const char *task = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "task"));

    t->task = TASK_RAW;
    if (t->raw || !task)
        return 0;
    for (; t->task <= TASK_SEGMENT; t->task++)
        if (strcmp(task, sidecar_task_name(t->task)) == 0)
            return 0;
    return diag(why, -ENOTSUP,
                "the server says the task of model '%s' is '%s', which this splitctl does not know",
                t->model, task);
}

/* Asks what models there are.  Returns 0, -EAGAIN while the one that is meant is still loading, or
 * another negative errno. */
static int find_model(struct target *t, struct diag *why)
{
    cJSON *status;
    const cJSON *model;

    int rc = client_get(t->client, "/splitd/status", &status, why);
    if (rc < 0)
        return rc;
    rc = choose_model(t, cJSON_GetObjectItemCaseSensitive(status, "models"), &model, why);
    if (rc == 0) {
        const char *problem =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "problem"));
        if (problem && problem[0] != '\0')
            rc = diag(why, -EINVAL, "the server cannot run model '%s': %s", t->model, problem);
        else if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(model, "task")))
            rc = diag(why, -EAGAIN, "the server is still loading model '%s'", t->model);
        else
            rc = read_task(t, model, why);
    }
    cJSON_Delete(status);
    return rc;
}

static int wait_for_model(struct target *t, struct diag *why)
{
    const struct timespec pause = { .tv_nsec = 50000000 };
    const double deadline = now_ms() + client_timeout_s(t->client) * 1e3;
    int rc;

    while ((rc = find_model(t, why)) == -EAGAIN && now_ms() < deadline)
        nanosleep(&pause, NULL);
    return rc;
}

static int read_input_name(struct target *t, struct diag *why)
{
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(t->metadata, "inputs");

    t->input = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(inputs, 0), "name"));
    if (!t->input)
        return diag(why, -EREMOTEIO, "the server names no inputs of model '%s'", t->model);
    if (cJSON_GetArraySize(inputs) != 1)
        return diag(why, -ENOTSUP, "model '%s' has %d inputs, this command can send one", t->model,
                    cJSON_GetArraySize(inputs));
    return 0;
}

int target_open(struct target *t, const struct client_options *o, const char *wanted, bool raw,
                struct diag *why)
{
    *t = (struct target){ .wanted = wanted, .raw = raw };
    int rc = client_new(&t->client, o, why);
    if (rc == 0)
        rc = wait_for_model(t, why);
    if (rc == 0)
        rc = client_model(t->client, t->model, &t->metadata, why);
    return rc == 0 ? read_input_name(t, why) : rc;
}

void target_close(struct target *t)
{
    cJSON_Delete(t->metadata);
    client_free(t->client);
    *t = (struct target){ 0 };
}

static bool is_npy(const char *file)
{
    const size_t n = strlen(file);
    return n >= 4 && strcasecmp(file + n - 4, ".npy") == 0;
}

int target_load(const struct target *t, const char *file, struct target_file *f, struct diag *why)
{
    *f = (struct target_file){ .in = { .name = t->input } };
    if (is_npy(file)) {
        const int rc = npy_load(&f->tensor, file, why);
        if (rc < 0)
            return rc;
        f->in.shape = shape_make(f->tensor.rank, f->tensor.dim);
        f->in.values = f->tensor.values;
        return 0;
    }
    const int rc = file_read(file, MAX_FILE_BYTES, &f->bytes, &f->in.len, why);
    if (rc < 0)
        return rc;
    if (f->in.len == 0)
        return diag(why, -EINVAL, "%s: is empty", file);
    f->in.shape = shape_make(1, (const int32_t[]){ 1 });
    f->in.bytes = f->bytes;
    return 0;
}

void target_file_done(struct target_file *f)
{
    npy_done(&f->tensor);
    free(f->bytes);
    *f = (struct target_file){ 0 };
}
