#include "libsplit/halo_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "libsplit/file.h"
#include "net.h"
#include "onnx_writer.h"

static const uint8_t model[HALO_SHA_BYTES] = { 1, 2, 3, 250 };

static struct context *some_context(int32_t channels, bool with_before)
{
    struct context *x = calloc(1, sizeof *x);
    *x = (struct context){ .channels = channels,
                           .with_sign = with_before, /* of differences */
                           .with_before = with_before,
                           .rank = { 0, 0, -7 } };
    x->predictor = calloc((size_t)channels * CONTEXT_QUESTIONS, sizeof *x->predictor);
    for (int32_t c = 1; c < channels; c++)
        x->predictor[c * CONTEXT_QUESTIONS] =
            (struct predictor){ .bias = -30,
                                .near = { 5, -3 },
                                .nsources = 1,
                                .source = { { (uint16_t)(c - 1), 1, (int8_t)c } } };
    return x;
}

/* One tensor of each kind: plain, with everything, dropped. */
static struct halo_file sample(void)
{
    struct halo_file f = { .nodes = 4,
                           .budget = "0.5%",
                           .measured = { .inputs = 100,
                                         .bytes = 8211.25,
                                         .dense_bytes = 211902,
                                         .error = 0.0931234567,
                                         .agreement = 0.97,
                                         .drop = NAN,
                                         .drop_error = NAN },
                           .within = halo_bit(HALO_Q8),
                           .ntensors = 3 };
    memcpy(f.model, model, sizeof model);
    f.tensor = calloc(3, sizeof *f.tensor);
    for (int32_t i = 0; i < 3; i++)
        f.tensor[i] = (struct halo_tensor){
            .tensor = 4 + i,
            .bytes = 100.5,
            .error = 0.01,
            .recipe = { .channels = 3,
                        .quantizer = { .step = 0.1F, .threshold = 0.0637F, .gain = 1.1F } },
        };
    f.tensor[0].name = strdup("conv \"one\"\n\xc3\xbc");
    f.tensor[1].name = strdup("");
    f.tensor[2].name = strdup("c");
    struct recipe *r = &f.tensor[1].recipe;
    r->rest = calloc(3, sizeof *r->rest);
    r->rest[1] = -1.0F / 3;
    r->context = some_context(3, false);
    r->video = some_context(3, true);
    f.tensor[2].recipe.drop = f.tensor[2].recipe.quantizer.soft = true;
    return f;
}

static char *text_of(const struct halo_file *f, size_t *len)
{
    char file[] = "/tmp/halo-test-XXXXXX";
    struct diag why = { "" };
    uint8_t *bytes;
    const int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(halo_file_save(f, file, &why), 0, "%s", why.text);
    cr_assert_eq(file_read(file, 1 << 24, &bytes, len, &why), 0);
    unlink(file);
    return (char *)bytes;
}

static void expect_same(const struct halo_file *a, const struct halo_file *b)
{
    cr_assert_eq(a->nodes, b->nodes);
    cr_assert_str_eq(a->budget, b->budget);
    cr_assert_eq(memcmp(a->model, b->model, sizeof a->model), 0);
    cr_assert_eq(a->measured.bytes, b->measured.bytes);
    cr_assert_eq(a->measured.error, b->measured.error);
    cr_assert_eq(isnan(a->measured.drop), isnan(b->measured.drop));
    cr_assert_eq(a->within, b->within);
    cr_assert_eq(a->ntensors, b->ntensors);
    for (int32_t i = 0; i < a->ntensors; i++) {
        const struct halo_tensor *s = &a->tensor[i], *t = &b->tensor[i];
        cr_assert_eq(s->tensor, t->tensor);
        cr_assert_str_eq(s->name, t->name);
        const size_t len = recipe_bytes(&s->recipe);
        cr_assert_eq(recipe_bytes(&t->recipe), len);
        uint8_t *x = malloc(len), *y = malloc(len);
        recipe_write(x, &s->recipe);
        recipe_write(y, &t->recipe);
        cr_assert(memcmp(x, y, len) == 0);
        free(x);
        free(y);
    }
}

Test(halo_file, what_is_written_is_read)
{
    struct halo_file f = sample(), again;
    struct diag why = { "" };
    size_t len;
    char *text = text_of(&f, &len);
    cr_assert_eq(halo_file_parse(&again, text, len, "x.halo.json", model, &why), 0, "%s", why.text);
    expect_same(&f, &again);
    halo_file_done(&again);
    halo_file_done(&f);
    free(text);
}

/* Of a version that did not look which plain modes keep to the budget. */
Test(halo_file, an_older_file_vouches_for_no_plain_mode)
{
    struct halo_file f = sample(), again;
    struct diag why = { "" };
    size_t len;
    char *text = text_of(&f, &len), *key = strstr(text, "\"within\"");
    cr_assert_not_null(key);
    char *rest = strstr(key, "],") + 2;
    memmove(key, rest, strlen(rest) + 1);
    cr_assert_eq(halo_file_parse(&again, text, strlen(text), "x", model, &why), 0, "%s", why.text);
    cr_expect_eq(again.within, 0);
    halo_file_done(&again);
    halo_file_done(&f);
    free(text);
}

Test(halo_file, lies_beside_the_model)
{
    char path[32];
    cr_assert_eq(halo_file_path("a.b/net.onnx", path, sizeof path), 0);
    cr_assert_str_eq(path, "a.b/net.halo.json");
    cr_assert_eq(halo_file_path("a.b/net", path, sizeof path), 0);
    cr_assert_str_eq(path, "a.b/net.halo.json");
    cr_assert_eq(halo_file_path("a.b/a-rather-long-name.onnx", path, 20), -ENAMETOOLONG);
}

/* The sample with its first `from` replaced by `to`. */
static int parse_changed(const char *from, const char *to, struct diag *why)
{
    struct halo_file f = sample(), again;
    size_t len;
    char *text = text_of(&f, &len), *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    char *changed = malloc(len + strlen(to) + 1);
    sprintf(changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    const int err = halo_file_parse(&again, changed, strlen(changed), "x.halo.json", model, why);
    if (!err)
        halo_file_done(&again);
    halo_file_done(&f);
    free(changed);
    free(text);
    return err;
}

Test(halo_file, damage_is_told)
{
    static const struct {
        const char *from, *to;
        int err;
        const char *says;
    } cases[] = {
        { "\"nodes\":\t4", "\"nodes\":\t5", 0, "" }, /* said, not relied on */
        { "\"nodes\":\t4", "\"nodes\":\t0", -EINVAL, "nodes is no number from 1 to 16" },
        { "\"nodes\":\t4", "\"nodes\":\t4.5", -EINVAL, "nodes is 4.5, expected a whole number" },
        { "\"nodes\":\t4", "\"knots\":\t4", -EINVAL, "knots is unknown" },
        { "\"nodes\":\t4", "\"budget\":\t\"\"", -EINVAL, "budget is there twice" },
        { "\"nodes\":\t4,", "", -EINVAL, "nodes is missing" },
        { "\"step\":", "\"step\":\t7, \"x\":", -EINVAL, "tensors[0].x is unknown" },
        { "0.06369", "0.06368", -EBADMSG, "is damaged" },
        { "\"gain\":\t1", "\"gain\":\t-1", -EINVAL, "tensors[0].gain is no number" },
        { "\"step\":\t0", "\"step\":\t100", -EINVAL, "no values result" },
        { "\"soft\":\tfalse", "\"soft\":\t1", -EINVAL, "soft is neither" },
        { "\"channels\":\t3", "\"channels\":\t4", -EBADMSG, "is damaged" },
        { "\"rest\":\t[0, ", "\"rest\":\t[", -EINVAL, "rest is no list" },
        { "\"rest\":\t[0, ", "\"rest\":\t[1, ", -EBADMSG, "is damaged" },
        { "\"contexts\":\t\"", "\"contexts\":\t\"A", -EBADMSG, "tensors[1].contexts is damaged" },
        { "\"video\":\t\"", "\"video\":\t\"!", -EBADMSG, "tensors[1].video is damaged" },
        { "\"model\":\t\"0102", "\"model\":\t\"0103", -ESTALE, "another model" },
        { "\"model\":\t\"0102", "\"model\":\t\"x", -EINVAL, "model is no SHA-256" },
        { "\"recipes\":\t\"", "\"recipes\":\t\"0", -EINVAL, "recipes is no text" },
        { "\"drop\":\tnull", "\"drop\":\tfalse", -EINVAL, "measured.drop is no number" },
        { "[\"q8\"]", "[\"q8\", \"q4\"]", 0, "" },
        { "[\"q8\"]", "[]", 0, "" },
        { "[\"q8\"]", "[\"q5\"]", -EINVAL, "within has an entry that is neither" },
        { "[\"q8\"]", "[\"f32\"]", -EINVAL, "within has an entry that is neither" },
        { "[\"q8\"]", "[8]", -EINVAL, "within has an entry that is neither" },
        { "[\"q8\"]", "\"q8\"", -EINVAL, "within is no list" },
        { "{", "[", -EINVAL, "is no JSON" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct diag why = { "" };
        const int err = parse_changed(cases[i].from, cases[i].to, &why);
        cr_expect_eq(err, cases[i].err, "%s: %d, %s", cases[i].to, err, why.text);
        cr_expect(strstr(why.text, cases[i].says), "%s: %s", cases[i].to, why.text);
    }
}

/* Every cut of the file, and every changed byte of its numbers, is an error. */
Test(halo_file, no_half_a_file_is_taken)
{
    struct halo_file f = sample(), again;
    struct diag why = { "" };
    size_t len;
    char *text = text_of(&f, &len);
    for (size_t cut = 0; cut + 1 < len; cut++)
        cr_assert_lt(halo_file_parse(&again, text, cut, "x", model, &why), 0, "%zu of %zu", cut,
                     len);
    halo_file_done(&f);
    free(text);
}

/* ---- Choosing */

static void small_net(struct net *n)
{
    const struct window w = { { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 } };
    net_init(n, 1);
    const int32_t in = net_input(n, 8, 8, 3, 1);
    const int32_t first = net_conv(n, in, 3, 1, w);
    n->op[n->g.nops - 1].name = "first";
    net_output(n, net_reduce(n, net_conv(n, first, 4, 1, w), REDUCE_MEAN));
}

Test(halo_file, decides_how_tensors_travel)
{
    struct net n;
    small_net(&n);
    struct halo_file f = sample();
    struct halo_choice c = { 0 };
    struct diag why = { "" };
    f.ntensors = 1; /* the rest is freed by hand */
    free(f.tensor[0].name);
    f.tensor[0].name = strdup("first");
    f.tensor[0].tensor = n.op[0].output;
    const int32_t first = n.op[0].output, second = n.op[1].output, mean = n.op[2].output;

    cr_assert_eq(halo_choose(&c, &f, &n.g, HALO_AUTO, &why), 0, "%s", why.text);
    cr_expect_eq(c.mode, HALO_TQ);
    cr_expect_eq(c.tensor_halo[first], HALO_TQ);
    cr_expect_eq(c.recipes.of[first], &f.tensor[0].recipe);
    cr_expect_eq(c.tensor_halo[second], HALO_F16, "a halo without a recipe");
    cr_expect_eq(c.tensor_halo[mean], HALO_F16, "a sum without a recipe");
    cr_expect_eq(c.tensor_halo[n.in[0].tensor], HALO_F32, "an input");
    halo_choice_done(&c);

    cr_assert_eq(halo_choose(&c, NULL, &n.g, HALO_AUTO, &why), 0);
    cr_expect_eq(c.mode, HALO_F32);
    halo_choice_done(&c);

    cr_assert_eq(halo_choose(&c, &f, &n.g, HALO_VIDEO, &why), 0);
    cr_expect_eq(c.tensor_halo[first], HALO_TQ, "it has no contexts for video");
    halo_choice_done(&c);

    cr_assert_eq(halo_choose(&c, &f, &n.g, HALO_Q8, &why), 0);
    cr_expect_eq(c.tensor_halo[first], HALO_Q8, "what is asked for by name");
    cr_expect_eq(c.tensor_halo[mean], HALO_F32);
    halo_choice_done(&c);

    cr_assert_eq(halo_choose(&c, NULL, &n.g, HALO_TQ, &why), -EINVAL);
    cr_expect(strstr(why.text, "splitctl calibrate"), "%s", why.text);

    f.tensor[0].recipe.channels = 2;
    cr_assert_eq(halo_choose(&c, &f, &n.g, HALO_TQ, &why), -ESTALE);
    cr_expect(strstr(why.text, "another version"), "%s", why.text);
    f.ntensors = 3;
    halo_file_done(&f);
    net_done(&n);
}

/* What a node yields, if it became several operators the last one's. */
static int32_t tensor_of(const struct graph *g, const char *name)
{
    for (int32_t t = g->ntensors - 1; t >= 0; t--)
        if (strcmp(g->tensor[t].name, name) == 0)
            return t;
    cr_assert_fail("no tensor is called %s", name);
    return -1;
}

/* Which channel is the largest, where one is above a half, and what is computed from both. */
static struct model_writer places_and_truths(void)
{
    struct model_writer m;
    model_begin(&m, 13);
    model_input(&m, "x", 4, (const int64_t[]){ 1, 3, 8, 8 });
    model_floats(&m, "half", 0, NULL, (const float[]){ 0.5F });
    model_floats(&m, "nothing", 0, NULL, (const float[]){ 0 });
    model_node(&m, "Sin", "x", "wave");
    model_node(&m, "ArgMax", "wave", "place");
    attr_int(&m, "axis", 1);
    model_node(&m, "Greater", "wave half", "mask");
    model_node(&m, "Not", "mask", "flat");
    model_node(&m, "Where", "flat wave nothing", "kept");
    model_node(&m, "Cast", "wave", "whole");
    attr_int(&m, "to", ONNX_INT64);
    model_node(&m, "Neg", "whole", "less");
    model_node(&m, "Cast", "place", "number");
    attr_int(&m, "to", ONNX_FLOAT);
    model_node(&m, "Cast", "less", "float");
    attr_int(&m, "to", ONNX_FLOAT);
    model_node(&m, "Add", "number kept", "sum");
    model_node(&m, "Add", "sum float", "y");
    model_output(&m, "y");
    return m;
}

Test(halo_file, places_and_truths_are_exact_whatever_is_asked_for)
{
    static const char *const exact[] = { "x", "place", "flat", "whole", "less", "sum" };
    static const char *const others[] = { "wave", "kept" };
    struct model_writer m = places_and_truths();
    struct onnx_model o;
    struct graph g;
    struct diag why = { "" };
    uint8_t halo[64];
    cr_assert_eq(model_build(&m, &o, &g, &why), 0, "%s", why.text);
    cr_assert_leq(g.ntensors, 64);
    for (int mode = HALO_F16; mode < HALO_MODES; mode++) {
        cr_assert_eq(halo_plain(&g, (enum halo)mode, halo), 0);
        for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++)
            cr_expect_eq(halo[tensor_of(&g, exact[i])], HALO_F32, "%s by %s", exact[i],
                         halo_name((enum halo)mode));
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            cr_expect_neq(halo[tensor_of(&g, others[i])], HALO_F32, "%s by %s", others[i],
                          halo_name((enum halo)mode));
    }

    const int32_t flat = tensor_of(&g, "flat");
    struct halo_tensor t = { .tensor = flat,
                             .name = strdup(g.op[g.tensor[flat].op].name),
                             .recipe = { .channels = g.tensor[flat].dim[CHAN] } };
    const struct halo_file f = { .ntensors = 1, .tensor = &t };
    struct halo_choice c;
    cr_assert_eq(halo_choose(&c, &f, &g, HALO_TQ, &why), -ESTALE);
    cr_expect(strstr(why.text, "must be exact"), "%s", why.text);
    free(t.name);
    graph_done(&g);
    onnx_close(&o);
    model_free(&m);
}
