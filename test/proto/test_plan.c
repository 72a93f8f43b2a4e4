#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/header.h"
#include "proto/plan.h"
#include "test/proto/hostile.h"

enum { SMALL = 1024 };

static const uint8_t sample_bytes[] = {
    0,    1,  2,  3,    4,    5,    6,    7,    8,    9,    10,   11, 12, 13,   14,   15,   16, 17,
    18,   19, 20, 21,   22,   23,   24,   25,   26,   27,   28,   29, 30, 31,   2,    0x2c, 1,  0,
    0,    1,  0,  0,    0,    0x3f, 0,    0,    0x80, 0x3f, 0,    0,  0,  0xc0, 1,    4,    1,  0,
    0,    0,  1,  0,    0,    0,    28,   0,    0,    0,    0x2c, 1,  0,  0,    1,    4,    1,  4,
    0,    0,  0,  5,    0,    0,    0,    1,    0,    0,    0,    0,  0,  0,    0x3f, 0,    0,  0,
    0x40, 0,  0,  0x80, 0x3e, 2,    1,    3,    0,    6,    0,    0,  0,  1,    0,    0,    0,  3,
    0,    0,  0,  3,    0,    0,    0,    2,    0,    0,    0,    7,  0,  0,    0,    13,   0,  0,
    0,    0,  0,  0,    0,    0,    0,    0,    0,    28,   0,    0,  0,  0x2c, 1,    0,    0,  1,
    0,    0,  0,  3,    2,    0,    1,    7,    0,    0,    0,    5,  0,  0,    0,    13,   0,  0,
    0,    0,  0,  0,    0,    0,    0,    0,    0,    28,   0,    0,  0,  0x2c, 1,    0,    0,  1,
    0,    0,  0,  1,    0,    0,    0,    0,    1,    0,    0,    0,  0,  0,    0,    14,   0,  0,
    0,    0,  0,  0,    0,    0,    0,    0,    0,    15,   0,    0,  0,  0x2c, 1,    0,    0,  4,
    0,    0,  0,  2,    0,    3,    0,    8,    0,    0,    0,    4,  0,  0,    0,    14,   0,  0,
    0,    0,  0,  0,    0,    0,    0,    0,    0,    15,   0,    0,  0,  0x2c, 1,    0,    0,  4,
    0,    0,  0,  0xd1, 0xd2, 0xd3, 0xe1, 0xe2,
};

/* Where the fields of the sample stand. */
enum {
    AT_DEPTH = 32,
    AT_LATE = 33,
    AT_CHANNELS = 37,
    AT_SCALE = 38,
    AT_STD = 46,
    AT_NINPUTS = 50,
    AT_RANK = 51,
    AT_DIMS = 52,
    AT_NANSWERS = 68,
    AT_ANSWER = 69,
    AT_NODES = 95,
    AT_NODE = 96,
    AT_NTRANSFERS = 99,
    AT_NBUFFERS = 103,
    AT_NSTEPS = 107,
    AT_RECIPES = 111,
    AT_WAYS = 115,
    AT_BUFFER = 119,
    AT_STEPS = AT_BUFFER + PLAN_BUFFER_BYTES,
    AT_RUN = AT_STEPS + PLAN_STEP_BYTES,
    STEP_PEER = 1,
    STEP_HALO = 2,
    STEP_MAY_MISS = 3,
    STEP_WHAT = 4,
    STEP_TRANSFER = 8,
    STEP_BOX = 12,
};

static struct buffer sample_buffer = { .tensor = 7, .box = { { 13, 0, 0 }, { 28, 300, 1 } } };
static struct step sample_steps[] = {
    { STEP_RECV, .what = 7, .transfer = 5, .peer = 2, .box = { { 13, 0, 0 }, { 28, 300, 1 } },
      .may_miss = true },
    /* A RUN has no peer, transfer or halo: what stands there must not reach the wire. */
    { STEP_RUN, .what = 256, .transfer = -1, .peer = -1, .box = { { 14, 0, 0 }, { 15, 300, 4 } },
      .halo = 9, .may_miss = true },
    { STEP_SEND, .what = 8, .transfer = 4, .peer = 0, .box = { { 14, 0, 0 }, { 15, 300, 4 } },
      .halo = HALO_Q4 },
};

static uint8_t sample_recipes[] = { 0xd1, 0xd2, 0xd3 }, sample_ways[] = { 0xe1, 0xe2 };

static struct msg_plan sample(void)
{
    struct msg_plan m = {
        .depth = 2,
        .late_ms = 300,
        .pixels = { .channels = 1, .scale = 0.5F, .mean = { 1 }, .std = { -2 } },
        .ninputs = 1,
        .input = { { .rank = 4, .dim = { 1, 1, 28, 300 } } },
        .nanswers = 1,
        .answer = { { .form = 4,
                      .activation = 1,
                      .object = 4,
                      .classes = 5,
                      .offset = 1,
                      .scale = 0.5F,
                      .shift = 2,
                      .least = 0.25F } },
        .member = { 3, 0 },
        .program = { .node = 1,
                     .nodes = 2,
                     .ntransfers = 6,
                     .nbuffers = 1,
                     .nsteps = 3,
                     .buffer = &sample_buffer,
                     .step = sample_steps },
        .recipes = sample_recipes,
        .recipe_bytes = sizeof sample_recipes,
        .ways = sample_ways,
        .nways = sizeof sample_ways,
    };
    for (uint8_t i = 0; i < SHA256_BYTES; i++)
        m.sha[i] = i;
    return m;
}

static bool box_same(const struct box *a, const struct box *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void assert_same(const struct msg_plan *a, const struct msg_plan *b)
{
    cr_assert_arr_eq(a->sha, b->sha, SHA256_BYTES);
    cr_assert_eq(a->depth, b->depth);
    cr_assert_eq(a->late_ms, b->late_ms);
    cr_assert_eq(a->pixels.channels, b->pixels.channels);
    cr_assert_eq(a->pixels.scale, b->pixels.scale);
    for (int c = 0; c < a->pixels.channels; c++) {
        cr_assert_eq(a->pixels.mean[c], b->pixels.mean[c]);
        cr_assert_eq(a->pixels.std[c], b->pixels.std[c]);
    }
    cr_assert_eq(a->ninputs, b->ninputs);
    for (int32_t i = 0; i < a->ninputs; i++) {
        cr_assert_eq(a->input[i].rank, b->input[i].rank);
        for (int32_t d = 0; d < a->input[i].rank; d++)
            cr_assert_eq(a->input[i].dim[d], b->input[i].dim[d]);
    }
    cr_assert_eq(a->nanswers, b->nanswers);
    for (int32_t i = 0; i < a->nanswers; i++) {
        const struct plan_answer *x = &a->answer[i], *y = &b->answer[i];
        cr_assert(x->form == y->form && x->activation == y->activation && x->object == y->object &&
                  x->classes == y->classes && x->offset == y->offset && x->scale == y->scale &&
                  x->shift == y->shift && x->least == y->least);
    }
    cr_assert_eq(a->program.nodes, b->program.nodes);
    cr_assert_eq(a->program.node, b->program.node);
    cr_assert_arr_eq(a->member, b->member, (size_t)a->program.nodes);
    cr_assert_eq(a->program.ntransfers, b->program.ntransfers);
    cr_assert_eq(a->program.nbuffers, b->program.nbuffers);
    cr_assert_eq(a->program.nsteps, b->program.nsteps);
    for (int32_t i = 0; i < a->program.nbuffers; i++) {
        cr_assert_eq(a->program.buffer[i].tensor, b->program.buffer[i].tensor);
        cr_assert(box_same(&a->program.buffer[i].box, &b->program.buffer[i].box));
    }
    for (int32_t i = 0; i < a->program.nsteps; i++) {
        const struct step *s = &a->program.step[i], *t = &b->program.step[i];
        cr_assert_eq(s->kind, t->kind);
        cr_assert_eq(s->what, t->what);
        cr_assert(box_same(&s->box, &t->box));
        if (s->kind != STEP_RUN) {
            cr_assert_eq(s->peer, t->peer);
            cr_assert_eq(s->halo, t->halo);
            cr_assert_eq(s->may_miss, t->may_miss);
            cr_assert_eq(s->transfer, t->transfer);
        }
    }
    cr_assert_eq(a->recipe_bytes, b->recipe_bytes);
    cr_assert_eq(memcmp(a->recipes, b->recipes, a->recipe_bytes), 0);
    cr_assert_eq(a->nways, b->nways);
    cr_assert_eq(memcmp(a->ways, b->ways, a->nways), 0);
}

static int decode_plan(const uint8_t *buf, size_t len)
{
    struct msg_plan m, before;

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = plan_msg_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    uint8_t *again = malloc(len);
    cr_assert_not_null(again);
    cr_assert_eq(plan_msg_bytes(&m), len);
    cr_assert_eq(plan_msg_encode(&m, again, len), (int)len);
    cr_assert_arr_eq(again, buf, len);
    free(again);
    plan_msg_done(&m);
    return 0;
}

Test(plan, bytes_are_those_of_the_page)
{
    const struct msg_plan m = sample();
    struct msg_plan out;
    uint8_t bytes[SMALL];

    cr_assert_eq(plan_msg_bytes(&m), sizeof sample_bytes);
    cr_assert_eq(plan_msg_encode(&m, bytes, sizeof bytes), (int)sizeof sample_bytes);
    cr_assert_arr_eq(bytes, sample_bytes, sizeof sample_bytes);
    cr_assert_eq(plan_msg_decode(&out, sample_bytes, sizeof sample_bytes), 0);
    assert_same(&m, &out);
    plan_msg_done(&out);
}

static struct box random_box(struct rng *g)
{
    struct box b;

    for (int a = 0; a < AXES; a++) {
        b.lo[a] = (int32_t)rng_below(g, BOX_MAX_EXTENT - 1000);
        b.hi[a] = b.lo[a] + (int32_t)rng_below(g, 1000);
    }
    return b;
}

static void random_inputs(struct rng *g, struct msg_plan *m)
{
    m->ninputs = (int32_t)rng_below(g, PLAN_MAX_INPUTS + 1);
    for (int32_t i = 0; i < m->ninputs; i++) {
        m->input[i].rank = (int32_t)rng_below(g, PLAN_MAX_RANK + 1);
        for (int32_t d = 0; d < m->input[i].rank; d++)
            m->input[i].dim[d] = 1 + (int32_t)rng_below(g, 14); /* 14 to the 8th is in range */
    }
}

static void random_answers(struct rng *g, struct msg_plan *m)
{
    m->nanswers = (int32_t)rng_below(g, 6);
    for (int32_t i = 0; i < m->nanswers; i++)
        m->answer[i] = (struct plan_answer){ .form = (uint8_t)rng_below(g, 256),
                                             .activation = (uint8_t)rng_below(g, 256),
                                             .object = (int32_t)rng_below(g, UINT32_MAX),
                                             .classes = (int32_t)rng_below(g, UINT32_MAX),
                                             .offset = (int32_t)rng_below(g, UINT32_MAX),
                                             .scale = (float)rng_below(g, 1000) / 7,
                                             .shift = (float)rng_below(g, 1000) / -7,
                                             .least = (float)rng_below(g, 1000) / 3 };
}

static void random_program(struct rng *g, struct program *pr)
{
    pr->nodes = 1 + (int32_t)rng_below(g, PLAN_MAX_NODES);
    pr->node = (int32_t)rng_below(g, (uint32_t)pr->nodes);
    pr->ntransfers = 1 + (int32_t)rng_below(g, PLAN_MAX_TRANSFERS);
    pr->nbuffers = (int32_t)rng_below(g, 10);
    pr->nsteps = (int32_t)rng_below(g, 20);
    for (int32_t i = 0; i < pr->nbuffers; i++)
        pr->buffer[i] = (struct buffer){ (int32_t)rng_below(g, GEO_MAX_TENSORS), random_box(g) };
    for (int32_t i = 0; i < pr->nsteps; i++)
        pr->step[i] = (struct step){
            .kind = (enum step_kind)(1 + rng_below(g, 3)),
            .what = (int32_t)rng_below(g, GEO_MAX_TENSORS),
            .transfer = (int32_t)rng_below(g, (uint32_t)pr->ntransfers),
            /* Any node but this one, or the host. */
            .peer = (pr->node + 1 + (int32_t)rng_below(g, (uint32_t)pr->nodes)) % (pr->nodes + 1),
            .box = random_box(g),
            .halo = (uint8_t)rng_below(g, HALO_MODES),
            .may_miss = rng_below(g, 2) > 0,
        };
}

Test(plan, decode_of_encode_is_the_same)
{
    struct rng g = { 7 };
    struct buffer buffers[10];
    struct step steps[20];
    uint8_t bytes[2 * SMALL], recipes[40], ways[20];

    for (int round = 0; round < 20000; round++) {
        struct msg_plan in = { .program = { .buffer = buffers, .step = steps } }, out;
        rng_bytes(&g, in.sha, sizeof in.sha);
        in.depth = (uint8_t)(1 + rng_below(&g, PLAN_MAX_DEPTH));
        in.late_ms = rng_below(&g, PLAN_MAX_LATE_MS + 1);
        in.pixels.channels = (uint8_t)rng_below(&g, 5);
        if (in.pixels.channels > 0)
            in.pixels.scale = (float)rng_below(&g, 1000) / 7;
        for (int c = 0; c < in.pixels.channels; c++) {
            in.pixels.mean[c] = (float)rng_below(&g, 1000) / -3;
            in.pixels.std[c] = (float)(1 + rng_below(&g, 1000)) / 11;
        }
        random_inputs(&g, &in);
        random_answers(&g, &in);
        rng_bytes(&g, in.member, sizeof in.member);
        random_program(&g, &in.program);
        in.recipes = recipes;
        in.recipe_bytes = 1 + rng_below(&g, sizeof recipes);
        rng_bytes(&g, recipes, in.recipe_bytes);
        in.ways = ways;
        in.nways = 1 + rng_below(&g, sizeof ways);
        rng_bytes(&g, ways, in.nways);

        const size_t len = plan_msg_bytes(&in);
        cr_assert_eq(plan_msg_encode(&in, bytes, len), (int)len);
        cr_assert_eq(plan_msg_encode(&in, bytes, len - 1), -ENOSPC);
        cr_assert_eq(plan_msg_encode(&in, bytes, len), (int)len);
        cr_assert_eq(plan_msg_decode(&out, bytes, len), 0);
        assert_same(&in, &out);
        plan_msg_done(&out);
    }
}

Test(plan, every_other_length_is_an_error)
{
    hostile_lengths(decode_plan, sample_bytes, sizeof sample_bytes);
}

Test(plan, mutations_and_noise_are_errors_or_valid)
{
    hostile_mutations(decode_plan, sample_bytes, sizeof sample_bytes, 200000);
    hostile_noise(decode_plan, SMALL, 20000);
}

/* Decodes the sample with `n` bytes at `at` replaced. */
static int decode_with(size_t at, const void *bytes, size_t n)
{
    uint8_t changed[sizeof sample_bytes];

    memcpy(changed, sample_bytes, sizeof changed);
    memcpy(changed + at, bytes, n);
    return decode_plan(changed, sizeof changed);
}

static int decode_with_u8(size_t at, uint8_t v) { return decode_with(at, &v, 1); }

static int decode_with_u32(size_t at, uint32_t v)
{
    const uint8_t bytes[] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
                              (uint8_t)(v >> 24) };
    return decode_with(at, bytes, sizeof bytes);
}

static int decode_with_f32(size_t at, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return decode_with_u32(at, bits);
}

Test(plan, head_fields_out_of_range_are_refused)
{
    cr_assert_eq(decode_with_u8(AT_DEPTH, PLAN_MAX_DEPTH), 0);
    cr_assert_eq(decode_with_u8(AT_DEPTH, 0), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_DEPTH, PLAN_MAX_DEPTH + 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_LATE, 0), 0);
    cr_assert_eq(decode_with_u32(AT_LATE, PLAN_MAX_LATE_MS), 0);
    cr_assert_eq(decode_with_u32(AT_LATE, PLAN_MAX_LATE_MS + 1), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_CHANNELS, 5), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_NINPUTS, PLAN_MAX_INPUTS + 1), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_RANK, PLAN_MAX_RANK + 1), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_NANSWERS, PLAN_MAX_ANSWERS + 1), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_NODES, 1), -EPROTO); /* node 1 of 1 */
    cr_assert_eq(decode_with_u8(AT_NODE, 2), -EPROTO);  /* the host has no PLAN message */
}

Test(plan, floats_are_finite_and_std_is_not_zero)
{
    cr_assert_eq(decode_with_f32(AT_SCALE, NAN), -EPROTO);
    cr_assert_eq(decode_with_f32(AT_SCALE, INFINITY), -EPROTO);
    cr_assert_eq(decode_with_f32(AT_SCALE + 4, -INFINITY), -EPROTO);
    cr_assert_eq(decode_with_f32(AT_STD, 0.0F), -EPROTO);
    cr_assert_eq(decode_with_f32(AT_STD, -0.0F), -EPROTO);
    cr_assert_eq(decode_with_f32(AT_STD, NAN), -EPROTO);
    cr_assert_eq(decode_with_f32(AT_STD, 3.5F), 0);
    for (size_t at = AT_ANSWER + 14; at < AT_ANSWER + PLAN_ANSWER_BYTES; at += 4) {
        cr_assert_eq(decode_with_f32(at, NAN), -EPROTO);
        cr_assert_eq(decode_with_f32(at, -INFINITY), -EPROTO);
        cr_assert_eq(decode_with_f32(at, -7), 0);
    }
}

Test(plan, dimensions_stay_within_a_tensor)
{
    cr_assert_eq(decode_with_u32(AT_DIMS, 0), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_DIMS, UINT32_MAX), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_DIMS, (uint32_t)BOX_MAX_EXTENT + 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_DIMS, (uint32_t)(BOX_MAX_VALUES / 8400)), 0);
    cr_assert_eq(decode_with_u32(AT_DIMS, (uint32_t)(BOX_MAX_VALUES / 8400 + 1)), -EPROTO);
}

/* Counts that the bytes do not bear out: a decoder that trusted them would allocate gigabytes. */
Test(plan, counts_are_checked_against_the_length)
{
    cr_assert_eq(decode_with_u32(AT_NBUFFERS, 2), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_NBUFFERS, 0), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_NBUFFERS, GEO_MAX_TENSORS), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_NBUFFERS, GEO_MAX_TENSORS + 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_NBUFFERS, UINT32_MAX), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_NSTEPS, 2), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_NSTEPS, 4), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_NSTEPS, PROGRAM_MAX_STEPS), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_NSTEPS, PROGRAM_MAX_STEPS + 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_NSTEPS, UINT32_MAX), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_RECIPES, 2), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_RECIPES, PLAN_MAX_RECIPE_BYTES), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_RECIPES, PLAN_MAX_RECIPE_BYTES + 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_RECIPES, UINT32_MAX), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_WAYS, 1), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_WAYS, GEO_MAX_TENSORS), -EBADMSG);
    cr_assert_eq(decode_with_u32(AT_WAYS, GEO_MAX_TENSORS + 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_NTRANSFERS, PLAN_MAX_TRANSFERS), 0);
    cr_assert_eq(decode_with_u32(AT_NTRANSFERS, PLAN_MAX_TRANSFERS + 1), -EPROTO);
}

Test(plan, steps_and_buffers_name_things_that_can_exist)
{
    cr_assert_eq(decode_with_u32(AT_BUFFER, GEO_MAX_TENSORS - 1), 0);
    cr_assert_eq(decode_with_u32(AT_BUFFER, GEO_MAX_TENSORS), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_BUFFER, UINT32_MAX), -EPROTO);

    cr_assert_eq(decode_with_u8(AT_STEPS, 0), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_STEPS, 4), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_STEPS + STEP_PEER, 1), -EPROTO, "itself");
    cr_assert_eq(decode_with_u8(AT_STEPS + STEP_PEER, 3), -EPROTO, "past the host");
    cr_assert_eq(decode_with_u8(AT_STEPS + STEP_HALO, HALO_MODES - 1), 0);
    cr_assert_eq(decode_with_u8(AT_STEPS + STEP_HALO, HALO_MODES), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_STEPS + STEP_MAY_MISS, 0), 0);
    cr_assert_eq(decode_with_u8(AT_STEPS + STEP_MAY_MISS, 2), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_STEPS + STEP_WHAT, GEO_MAX_TENSORS), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_STEPS + STEP_TRANSFER, 6), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_NTRANSFERS, 5), -EPROTO, "transfer 5 of 5");

    cr_assert_eq(decode_with_u32(AT_RUN + STEP_WHAT, GEO_MAX_TENSORS), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_RUN + STEP_PEER, 1), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_RUN + STEP_HALO, 1), -EPROTO);
    cr_assert_eq(decode_with_u8(AT_RUN + STEP_MAY_MISS, 1), -EPROTO);
    cr_assert_eq(decode_with_u32(AT_RUN + STEP_TRANSFER, 1), -EPROTO);
}

Test(plan, boxes_stay_within_a_tensor)
{
    enum { HI = 12 };
    const size_t boxes[] = { AT_BUFFER + 4, AT_STEPS + STEP_BOX, AT_RUN + STEP_BOX };

    for (size_t i = 0; i < sizeof boxes / sizeof *boxes; i++) {
        const size_t at = boxes[i];
        cr_assert_eq(decode_with_u32(at + 4, 300), 0, "an empty axis");
        cr_assert_eq(decode_with_u32(at + 4, 301), -EPROTO, "ends before it begins");
        cr_assert_eq(decode_with_u32(at, UINT32_MAX), -EPROTO, "begins below zero");
        cr_assert_eq(decode_with_u32(at + HI + 8, (uint32_t)BOX_MAX_EXTENT + 1), -EPROTO);
        cr_assert_eq(decode_with_u32(at + HI + 8, (uint32_t)BOX_MAX_EXTENT), -EPROTO,
                     "too many values");
        cr_assert_eq(decode_with_u32(at + HI, INT32_MAX), -EPROTO);
    }
}

Test(plan, a_program_too_long_for_a_message_is_told_when_encoding)
{
    struct msg_plan m = sample();
    uint8_t bytes[SMALL];

    m.program.nsteps = PROGRAM_MAX_STEPS + 1;
    cr_assert_eq(plan_msg_encode(&m, bytes, sizeof bytes), -EMSGSIZE);
    m = sample();
    m.program.nbuffers = GEO_MAX_TENSORS + 1;
    cr_assert_eq(plan_msg_encode(&m, bytes, sizeof bytes), -EMSGSIZE);
    m = sample();
    m.program.ntransfers = PLAN_MAX_TRANSFERS + 1;
    cr_assert_eq(plan_msg_encode(&m, bytes, sizeof bytes), -EMSGSIZE);
    m = sample();
    m.recipe_bytes = PLAN_MAX_RECIPE_BYTES + 1;
    cr_assert_eq(plan_msg_encode(&m, bytes, sizeof bytes), -EMSGSIZE);
    m = sample();
    m.nways = GEO_MAX_TENSORS + 1;
    cr_assert_eq(plan_msg_encode(&m, bytes, sizeof bytes), -EMSGSIZE);
}

Test(plan, largest_message_is_the_cap_of_its_header)
{
    struct msg_plan m = sample();

    m.pixels.channels = 4;
    m.ninputs = PLAN_MAX_INPUTS;
    for (int32_t i = 0; i < PLAN_MAX_INPUTS; i++)
        m.input[i].rank = PLAN_MAX_RANK;
    m.nanswers = PLAN_MAX_ANSWERS;
    m.program.nodes = PLAN_MAX_NODES;
    m.program.nbuffers = GEO_MAX_TENSORS;
    m.program.nsteps = PROGRAM_MAX_STEPS;
    m.program.buffer = calloc(GEO_MAX_TENSORS, sizeof *m.program.buffer);
    m.program.step = calloc(PROGRAM_MAX_STEPS, sizeof *m.program.step);
    m.recipes = calloc(PLAN_MAX_RECIPE_BYTES, 1);
    m.recipe_bytes = PLAN_MAX_RECIPE_BYTES;
    m.ways = calloc(GEO_MAX_TENSORS, 1);
    m.nways = GEO_MAX_TENSORS;
    cr_assert(m.program.buffer && m.program.step && m.recipes && m.ways);
    cr_assert_eq(plan_msg_bytes(&m), PLAN_MAX_BYTES);
    cr_assert_eq(header_cap(MSG_PLAN), PLAN_MAX_BYTES);
    free(m.program.buffer);
    free(m.program.step);
    free(m.recipes);
    free(m.ways);
}

static const uint8_t ack_bytes[] = {
    0xf4, 0xff, 0xff, 0xff, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x18,
    0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 4,    0,    'f',  'u',  'l',  'l',
};
static const struct msg_plan_ack ack = {
    .status = -12,
    .arena_bytes = 0x0102030405060708,
    .weight_bytes = 0x1112131415161718,
    .detail = "full",
};

static int decode_ack(const uint8_t *buf, size_t len)
{
    struct msg_plan_ack m, before;
    uint8_t again[PLAN_ACK_MAX_BYTES];

    memset(&m, 0xa5, sizeof m);
    before = m;
    const int err = plan_ack_decode(&m, buf, len);
    if (err != 0) {
        cr_assert_eq(memcmp(&m, &before, sizeof m), 0);
        return err;
    }
    cr_assert_eq(plan_ack_encode(&m, again, sizeof again), (int)len);
    cr_assert_arr_eq(again, buf, len);
    return 0;
}

Test(plan_ack, bytes_are_those_of_the_page)
{
    struct msg_plan_ack out;
    uint8_t bytes[PLAN_ACK_MAX_BYTES];

    cr_assert_eq(plan_ack_encode(&ack, bytes, sizeof bytes), (int)sizeof ack_bytes);
    cr_assert_arr_eq(bytes, ack_bytes, sizeof ack_bytes);
    cr_assert_eq(plan_ack_decode(&out, ack_bytes, sizeof ack_bytes), 0);
    cr_assert_eq(out.status, ack.status);
    cr_assert_eq(out.arena_bytes, ack.arena_bytes);
    cr_assert_eq(out.weight_bytes, ack.weight_bytes);
    cr_assert_str_eq(out.detail, ack.detail);
    cr_assert_eq(plan_ack_encode(&ack, bytes, sizeof ack_bytes - 1), -ENOSPC);
}

Test(plan_ack, decode_of_encode_is_the_same)
{
    struct rng g = { 8 };

    for (int round = 0; round < 20000; round++) {
        struct msg_plan_ack in = {
            .status = -(int32_t)rng_below(&g, 4096),
            .arena_bytes = rng_next(&g),
            .weight_bytes = rng_next(&g),
        }, out;
        uint8_t bytes[PLAN_ACK_MAX_BYTES];
        rng_text(&g, in.detail, PLAN_DETAIL_MAX);
        const int len = plan_ack_encode(&in, bytes, sizeof bytes);
        cr_assert_gt(len, 0);
        cr_assert_eq(plan_ack_decode(&out, bytes, (size_t)len), 0);
        cr_assert_eq(out.status, in.status);
        cr_assert_eq(out.arena_bytes, in.arena_bytes);
        cr_assert_eq(out.weight_bytes, in.weight_bytes);
        cr_assert_str_eq(out.detail, in.detail);
    }
}

Test(plan_ack, other_lengths_mutations_and_noise)
{
    hostile_lengths(decode_ack, ack_bytes, sizeof ack_bytes);
    hostile_mutations(decode_ack, ack_bytes, sizeof ack_bytes, 100000);
    hostile_noise(decode_ack, PLAN_ACK_MAX_BYTES, 20000);
}

Test(plan_ack, status_is_zero_or_a_negative_errno)
{
    uint8_t bytes[sizeof ack_bytes] = { 0 };
    memcpy(bytes + 4, ack_bytes + 4, sizeof ack_bytes - 4);

    cr_assert_eq(decode_ack(bytes, sizeof bytes), 0);
    bytes[0] = 1;
    cr_assert_eq(decode_ack(bytes, sizeof bytes), -EPROTO);
    bytes[0] = 0;
    bytes[3] = 0x80; /* INT32_MIN, which has no positive twin */
    cr_assert_eq(decode_ack(bytes, sizeof bytes), -EPROTO);
}
