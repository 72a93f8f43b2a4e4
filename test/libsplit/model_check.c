#include "model_check.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "libsplit/session.h"

struct model_writer check_begin(int64_t opset, int32_t rank, const int64_t *dim)
{
    struct model_writer m;
    model_begin(&m, opset);
    model_input(&m, "x", rank, dim);
    return m;
}

static void expect(const struct port *y, const float *got, const struct check_frame *f,
                   int32_t nodes)
{
    char text[SHAPE_TEXT_BYTES];
    const struct shape s = port_shape(y, got);
    cr_assert_str_eq(shape_text(&s, text), f->shape);
    for (int64_t i = 0; i < shape_values(&s); i++)
        cr_assert(fabsf(got[i] - f->want[i]) <= 1e-5F * (1 + fabsf(f->want[i])),
                  "%d nodes: value %d is %g, want %g", nodes, (int)i, (double)got[i],
                  (double)f->want[i]);
}

static void run(struct graph *g, int32_t nodes, int n, const struct check_frame *frame)
{
    struct split_session *s;
    struct diag why = { "" };
    struct plan_options o = { .nodes = nodes };
    float counted[CHECK_MAX_VALUES], out[CHECK_MAX_VALUES], *const to = out;
    for (int i = 0; i < CHECK_MAX_VALUES; i++)
        counted[i] = (float)i;
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    cr_assert_leq(shape_values(&g->output[0].shape), CHECK_MAX_VALUES);
    cr_assert_eq(session_open_graph(&s, g, &o, NULL, &why), 0, "%s", why.text);
    for (int i = 0; i < n; i++) {
        const float *in = frame[i].in ? frame[i].in : counted;
        cr_assert_eq(split_run(s, &in, &to, NULL, &why), 0, "%s", why.text);
        expect(&g->output[0], out, &frame[i], nodes);
    }
    split_close(s);
}

void check_frames(struct model_writer *m, int n, const struct check_frame *frame)
{
    struct onnx_model o;
    struct graph g;
    struct diag why = { "" };
    model_output(m, "y");
    cr_assert_eq(model_build(m, &o, &g, &why), 0, "%s", why.text);
    for (int32_t nodes = 1; nodes <= 3; nodes += 2)
        run(&g, nodes, n, frame);
    graph_done(&g);
    onnx_close(&o);
    model_free(m);
}

void check_values(struct model_writer *m, const char *shape, const float *want)
{
    check_frames(m, 1, &(struct check_frame){ NULL, shape, want });
}

void check_refused(struct model_writer *m, int err, const char *sentence)
{
    struct onnx_model o;
    struct graph g;
    struct diag why = { "" };
    model_output(m, "y");
    cr_assert_eq(model_build(m, &o, &g, &why), err, "expected: %s, got: %s", sentence, why.text);
    cr_assert_not_null(strstr(why.text, sentence), "\"%s\" lacks \"%s\"", why.text, sentence);
    cr_assert_eq(strncmp(why.text, "net.onnx: ", 10), 0);
    model_free(m);
}
