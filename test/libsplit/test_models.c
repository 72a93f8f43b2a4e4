/* Real networks against what ONNX Runtime answers, on one node and on three. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "libsplit/npy.h"
#include "libsplit/split.h"

enum { MAX_OUTPUTS = 16, MAX_MODELS = 64, NAME_BYTES = 128 };

static const char *const models_dir = "../shared/models";
static const char *const golden_dir = "../shared/golden";

/* Networks with operators that the importer does not know yet. */
static const char *const may_be_refused[] = { "ultraface_rfb320" };

/* Of an output's largest value.  YOLOX amplifies the rounding of its many layers: summing in
 * another order moves its answers by 3e-5 (matrix products) to 1e-4 (one sum after another). */
static double tolerance_of(const char *model)
{
    return strcmp(model, "yolox_nano") == 0 ? 3e-4 : 1e-4;
}

struct answers {
    float *port[MAX_OUTPUTS];
    int golden[MAX_OUTPUTS]; /* number of the file that holds the right answer */
    int32_t n;
};

/* The number of the golden file that holds output `name`, from names.json. */
static int golden_number(const char *model, const char *name)
{
    char file[512], text[4096];
    snprintf(file, sizeof(file), "%s/%s/names.json", golden_dir, model);
    FILE *f = fopen(file, "r");
    cr_assert_not_null(f, "%s", file);
    const size_t len = fread(text, 1, sizeof(text), f);
    fclose(f);
    cJSON *json = cJSON_ParseWithLength(text, len);
    const cJSON *it;
    int number = 0, found = -1;
    cJSON_ArrayForEach(it, cJSON_GetObjectItem(json, "outputs")) {
        if (strcmp(cJSON_GetStringValue(it), name) == 0)
            found = number;
        number++;
    }
    cJSON_Delete(json);
    cr_assert_geq(found, 0, "%s does not name \"%s\"", file, name);
    return found;
}

static bool refusal_is_known(const char *model)
{
    for (size_t i = 0; i < sizeof(may_be_refused) / sizeof(may_be_refused[0]); i++)
        if (strcmp(model, may_be_refused[i]) == 0)
            return true;
    return false;
}

/* Returns false if the network is refused and may be. */
static bool run_model(const char *model, const struct split_model *m, int32_t nodes,
                      const struct npy *input, struct answers *out)
{
    struct diag why = { "" };
    struct graph_input shape = { .rank = input->rank };
    memcpy(shape.dim, input->dim, sizeof(shape.dim));
    struct split_session *s = NULL;
    const struct split_options o = { .nodes = nodes, .inputs = &shape, .ninputs = 1 };
    const int err = split_open(&s, m, &o, &why);
    if (err == -ENOTSUP && refusal_is_known(model)) {
        fprintf(stderr, "refused: %s\n", why.text);
        return false;
    }
    cr_assert_eq(err, 0, "%s", why.text);
    const struct graph *g = split_graph(s);
    cr_assert_leq(g->noutputs, MAX_OUTPUTS);
    out->n = g->noutputs;
    for (int32_t i = 0; i < out->n; i++) {
        out->golden[i] = golden_number(model, g->output[i].name);
        out->port[i] = calloc((size_t)shape_values(&g->output[i].shape), sizeof(float));
    }
    cr_assert_eq(split_run(s, (const float *const[]){ input->values }, out->port, NULL, &why), 0,
                 "%s", why.text);
    split_close(s);
    return true;
}

static void expect_near(const char *model, int32_t output, const float *got, const float *want,
                        int64_t n, double tolerance, const char *than)
{
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        cr_assert(isfinite(got[i]), "%s output %d value %lld is not finite", model, output,
                  (long long)i);
    }
    cr_assert(worst <= tolerance * largest, "%s output %d: %g off from %s, largest value %g", model,
              output, worst, than, largest);
}

ParameterizedTestParameters(models, answer_like_onnx_runtime)
{
    static char names[MAX_MODELS][NAME_BYTES];
    size_t n = 0;
    DIR *d = opendir(golden_dir);
    if (!d)
        fprintf(stderr, "skipped: models, there is no %s\n", golden_dir);
    for (struct dirent *e; d && n < MAX_MODELS && (e = readdir(d));)
        if (e->d_name[0] != '.' && strlen(e->d_name) < NAME_BYTES)
            strcpy(names[n++], e->d_name);
    if (d)
        closedir(d);
    return cr_make_param_array(char[NAME_BYTES], names, n);
}

ParameterizedTest(char (*name)[NAME_BYTES], models, answer_like_onnx_runtime, .timeout = 300)
{
    char file[512];
    struct diag why = { "" };
    struct split_model *m = NULL;
    struct npy input = { 0 };
    struct answers one = { .n = 0 }, three = { .n = 0 };
    snprintf(file, sizeof(file), "%s/%s.onnx", models_dir, *name);
    cr_assert_eq(split_load(&m, file, &why), 0, "%s", why.text);
    snprintf(file, sizeof(file), "%s/%s/input.npy", golden_dir, *name);
    cr_assert_eq(npy_load(&input, file, &why), 0, "%s", why.text);
    if (run_model(*name, m, 1, &input, &one))
        run_model(*name, m, 3, &input, &three);
    for (int32_t i = 0; i < one.n; i++) {
        struct npy want = { 0 };
        snprintf(file, sizeof(file), "%s/%s/output_%d.npy", golden_dir, *name, one.golden[i]);
        cr_assert_eq(npy_load(&want, file, &why), 0, "%s", why.text);
        expect_near(*name, i, one.port[i], want.values, want.count, tolerance_of(*name),
                    "ONNX Runtime");
        expect_near(*name, i, three.port[i], one.port[i], want.count, 1e-5, "one node");
        npy_done(&want);
        free(one.port[i]);
        free(three.port[i]);
    }
    npy_done(&input);
    split_unload(m);
}
