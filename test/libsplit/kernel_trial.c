#include "kernel_trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

static const float SENTINEL = -12345.5F;

static void *must(void *p)
{
    cr_assert_not_null(p);
    return p;
}

void trial_init(struct trial *t, struct net *net)
{
    t->net = net;
    cr_assert_eq(graph_pack(&net->g, NULL, NULL), 0);
    cr_assert_eq(graph_geometry(&net->g, 1, &t->geo), 0);
    cr_assert_eq(geometry_check(&t->geo), 0);
    for (int32_t i = 0; i < net->g.ninputs; i++)
        t->input[i] = net_floats(net, net_values(net, net->in[i].tensor));
    net_reference(net, (const float *const *)t->input, t->want);
    const struct op *op = &net->op[net->g.nops - 1];
    const struct kernel *k = &kernels[op->type];
    const size_t bytes = k->scratch_bytes ? k->scratch_bytes(&net->g, op) : 0;
    t->scratch = must(aligned_alloc(64, (bytes + 64) & ~(size_t)63));
}

void trial_again(struct trial *t)
{
    net_reference_done(t->net, t->want);
    net_reference(t->net, (const float *const *)t->input, t->want);
}

void trial_done(struct trial *t)
{
    free(t->scratch);
    net_reference_done(t->net, t->want);
    geometry_done(&t->geo);
    graph_unpack(&t->net->g);
}

struct view trial_crop(const struct tensor *x, const float *values, struct box box)
{
    const ptrdiff_t pixel = box_len(box, CHAN), row = pixel * box_len(box, COL);
    const ptrdiff_t image = row * box_len(box, ROW);
    struct view v = { .box = box,
                      .row_stride = row,
                      .pixel_stride = pixel,
                      .image_stride = image,
                      .data = must(malloc((size_t)(image * x->batch) * sizeof(float) + 1)) };
    for (int32_t b = 0; b < x->batch; b++)
        for (int32_t r = box.lo[ROW]; r < box.hi[ROW]; r++)
            for (int32_t c = box.lo[COL]; c < box.hi[COL]; c++)
                memcpy(view_at(&v, r, c, box.lo[CHAN]) + b * image,
                       values +
                           (((ptrdiff_t)b * x->dim[ROW] + r) * x->dim[COL] + c) * x->dim[CHAN] +
                           box.lo[CHAN],
                       (size_t)pixel * sizeof(float));
    return v;
}

static const float *input_values(const struct trial *t, int32_t tensor)
{
    for (int32_t i = 0; i < t->net->g.ninputs; i++)
        if (t->net->in[i].tensor == tensor)
            return t->input[i];
    return NULL;
}

void trial_compute(const struct trial *t, struct box region, ptrdiff_t gap, float *out)
{
    struct net *n = t->net;
    const struct op *op = &n->op[n->g.nops - 1];
    const struct tensor *x = &n->tensor[op->output];
    struct view whole[OP_MAX_INPUTS], in[OP_MAX_INPUTS];
    for (int32_t i = 0; i < op->ninputs; i++)
        whole[i] = trial_crop(&n->tensor[op->input[i]], input_values(t, op->input[i]),
                              geometry_need(&t->geo, n->g.nops - 1, i, region));

    const ptrdiff_t pixel = box_len(region, CHAN) + gap;
    const ptrdiff_t pixels = (ptrdiff_t)box_len(region, ROW) * box_len(region, COL);
    float *store = must(malloc((size_t)(pixels * pixel) * sizeof(float)));
    struct kernel_call call = { .graph = &n->g,
                                .op = op,
                                .in = in,
                                .out = { .data = store,
                                         .box = region,
                                         .row_stride = pixel * box_len(region, COL),
                                         .pixel_stride = pixel },
                                .region = region,
                                .nodes = 1,
                                .scratch = t->scratch };
    for (call.image = 0; call.image < x->batch; call.image++) {
        for (ptrdiff_t i = 0; i < pixels * pixel; i++)
            store[i] = SENTINEL;
        for (int32_t i = 0; i < op->ninputs; i++) {
            in[i] = whole[i];
            if (op->type != OP_RESHAPE && n->tensor[op->input[i]].batch == x->batch)
                in[i].data += call.image * whole[i].image_stride;
        }
        kernels[op->type].run(&call);
        for (int32_t r = region.lo[ROW]; r < region.hi[ROW]; r++)
            for (int32_t c = region.lo[COL]; c < region.hi[COL]; c++) {
                const float *from = view_at(&call.out, r, c, region.lo[CHAN]);
                memcpy(out +
                           (((ptrdiff_t)call.image * x->dim[ROW] + r) * x->dim[COL] + c) *
                               x->dim[CHAN] +
                           region.lo[CHAN],
                       from, (size_t)box_len(region, CHAN) * sizeof(float));
                for (ptrdiff_t k = box_len(region, CHAN); k < pixel; k++)
                    cr_assert_eq(from[k], SENTINEL, "wrote between pixels");
            }
    }
    free(store);
    for (int32_t i = 0; i < op->ninputs; i++)
        free(whole[i].data);
}

/* Dilated windows may miss a small map altogether: the largest of nothing is -inf, and some
 * activations make NaN of that. */
static void expect_near(const float *got, const double *want, int64_t n, const char *what)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        cr_assert(fabs((double)got[i] - want[i]) <= 1e-5 * (1 + largest) ||
                      (double)got[i] == want[i] || (isnan(got[i]) && isnan(want[i])),
                  "%s: value %lld is %g, want %g", what, (long long)i, (double)got[i], want[i]);
}

void trial_check(const struct trial *t, const char *what)
{
    struct net *n = t->net;
    const struct op *op = &n->op[n->g.nops - 1];
    const int32_t *dim = n->tensor[op->output].dim;
    const int64_t values = net_values(n, op->output);
    float *whole = must(malloc((size_t)values * sizeof(float)));
    float *pieces = must(malloc((size_t)values * sizeof(float)));
    trial_compute(t, box_whole(dim), 0, whole);
    expect_near(whole, t->want[op->output], values, what);

    for (int32_t r = 0; r < dim[ROW];) {
        struct box band = box_whole(dim);
        band.lo[ROW] = r;
        r = band.hi[ROW] = net_between(n, r + 1, dim[ROW]);
        trial_compute(t, band, net_between(n, 0, 3), pieces);
    }
    cr_assert(memcmp(whole, pieces, (size_t)values * sizeof(float)) == 0,
              "%s: bands of rows differ from the whole", what);

    memcpy(pieces, whole, (size_t)values * sizeof(float));
    struct box box;
    for (int a = 0; a < AXES; a++) {
        box.lo[a] = net_between(n, 0, dim[a] - 1);
        box.hi[a] = net_between(n, box.lo[a] + 1, dim[a]);
    }
    trial_compute(t, box, net_between(n, 0, 3), pieces);
    expect_near(pieces, t->want[op->output], values, what);
    free(pieces);
    free(whole);
}

void trial_run(struct net *n, const char *what)
{
    struct trial t;
    trial_init(&t, n);
    trial_check(&t, what);
    trial_done(&t);
    net_done(n);
}

void trial_many(const struct trial_kind *kind)
{
    for (uint64_t seed = 0; seed < kind->seeds; seed++) {
        struct net n;
        struct trial t;
        net_init(&n, seed);
        kind->make(&n, seed);
        trial_init(&t, &n);
        if (kind->feed) {
            kind->feed(&n, t.input);
            trial_again(&t);
        }
        trial_check(&t, kind->what);
        trial_done(&t);
        net_done(&n);
    }
}

void trial_dims(struct net *n, int32_t space, int32_t channels, int32_t dim[AXES])
{
    dim[ROW] = net_between(n, 1, space);
    dim[COL] = net_between(n, 1, space);
    dim[CHAN] = net_between(n, 1, channels);
}

int32_t trial_input(struct net *n, const int32_t dim[AXES], int32_t most_images)
{
    return net_input(n, dim[ROW], dim[COL], dim[CHAN], net_between(n, 1, most_images));
}

struct op *trial_op(struct net *n, enum op_type type, int32_t in, const int32_t dim[AXES])
{
    return net_op(n, type, 1, &in, dim[ROW], dim[COL], dim[CHAN]);
}

int32_t trial_one_or(struct net *n, int32_t len) { return net_random(n, 3) ? len : 1; }

void trial_coarse(const struct net *n, float *const *input)
{
    for (int64_t i = 0; i < net_values(n, n->in[0].tensor); i++)
        input[0][i] = (float)(int)(input[0][i] * 3);
}
