#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static struct program compiled(const struct net *net, const struct plan *p, int32_t node)
{
    struct program pr;
    cr_assert_eq(program_compile(&pr, p, node), 0);
    cr_assert_eq(program_check(&pr, &net->g, NULL), 0);
    return pr;
}

static struct plan even_plan(const struct net *net)
{
    struct plan_options o = { .nodes = net->g.nodes, .policy = PLAN_EXCHANGE };
    struct plan p;
    for (int32_t n = 0; n < o.nodes; n++)
        o.weight[n] = 1;
    cr_assert_eq(plan_build(&p, &net->g, &o), 0);
    return p;
}

/* Changes a number, more often to one that is nearly right than to any. */
static void disturb(struct rng *r, int32_t *v)
{
    switch (rng_int(r, 0, 3)) {
    case 0:
        *v = (int32_t)rng_next(r);
        return;
    case 1:
        *v ^= (int32_t)(1u << rng_int(r, 0, 31));
        return;
    default:
        *v = (int32_t)((uint32_t)*v + (rng_chance(r, 50) ? 1u : UINT32_MAX));
    }
}

static void disturb_box(struct rng *r, struct box *b)
{
    disturb(r,
            rng_chance(r, 50) ? &b->lo[rng_int(r, 0, AXES - 1)] : &b->hi[rng_int(r, 0, AXES - 1)]);
}

static void disturb_step(struct rng *r, struct step *s)
{
    int32_t kind = (int32_t)s->kind;
    switch (rng_int(r, 0, 7)) {
    case 0:
        disturb(r, &kind);
        s->kind = (enum step_kind)kind;
        return;
    case 1:
        disturb(r, &s->what);
        return;
    case 2:
        disturb(r, &s->transfer);
        return;
    case 3:
        disturb(r, &s->peer);
        return;
    default:
        disturb_box(r, &s->box);
    }
}

/* Counts only fall: no decoder passes on more than it has read. */
static void cut_count(struct rng *r, int32_t *count)
{
    *count = *count <= 0 || rng_chance(r, 30) ? -1 : rng_int(r, 0, *count);
}

static void disturb_header(struct rng *r, struct program *pr)
{
    int32_t *const number[] = { &pr->node, &pr->nodes, &pr->ntransfers };
    switch (rng_int(r, 0, 2)) {
    case 0:
        disturb(r, number[rng_int(r, 0, 2)]);
        return;
    case 1:
        cut_count(r, &pr->nbuffers);
        return;
    default:
        cut_count(r, &pr->nsteps);
    }
}

/* Drops, doubles or moves a step. */
static void rearrange(struct rng *r, struct program *pr)
{
    struct step *a = &pr->step[rng_int(r, 0, pr->nsteps - 1)];
    struct step *b = &pr->step[rng_int(r, 0, pr->nsteps - 1)];
    const struct step kept = *a;
    switch (rng_int(r, 0, 2)) {
    case 0:
        memmove(a, a + 1, (size_t)(pr->step + pr->nsteps - a - 1) * sizeof(*a));
        pr->nsteps--;
        return;
    case 1:
        *a = *b;
        return;
    default:
        *a = *b;
        *b = kept;
    }
}

static void mutate(struct rng *r, struct program *pr)
{
    switch (rng_int(r, 0, 9)) {
    case 0:
        disturb_header(r, pr);
        return;
    case 1:
        if (pr->nbuffers > 0)
            disturb_box(r, &pr->buffer[rng_int(r, 0, pr->nbuffers - 1)].box);
        return;
    case 2:
        if (pr->nbuffers > 0)
            disturb(r, &pr->buffer[rng_int(r, 0, pr->nbuffers - 1)].tensor);
        return;
    case 3:
    case 4:
    case 5:
        if (pr->nsteps > 0)
            rearrange(r, pr);
        return;
    default:
        if (pr->nsteps > 0)
            disturb_step(r, &pr->step[rng_int(r, 0, pr->nsteps - 1)]);
    }
}

/* Whatever a program says: either it is refused, or it does no harm. */
Test(program, what_check_accepts_reads_only_what_it_has, .timeout = 120)
{
    int refused = 0, accepted = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct rng r = { seed };
        const int32_t nodes = rng_int(&r, 1, 6);
        struct net net;
        uint64_t cut_seed;
        struct plan p;
        net_random(&net, &r, nodes);
        const struct plan_options o = net_options(&r, nodes, &cut_seed);
        cr_assert_eq(plan_build(&p, &net.g, &o), 0);

        for (int round = 0; round < 20; round++) {
            struct program pr = compiled(&net, &p, rng_int(&r, 0, nodes));
            for (int32_t changes = rng_int(&r, 1, 3); changes > 0; changes--)
                mutate(&r, &pr);
            int32_t step = -2;
            if (program_check(&pr, &net.g, &step)) {
                refused++;
                cr_assert(step == -1 || (step >= 0 && step < pr.nsteps));
            } else {
                accepted++;
                const char *wrong = sim_alone(&net, &pr);
                cr_assert_null(wrong, "seed %d, round %d: %s", (int)seed, round, wrong);
            }
            program_done(&pr);
        }
        plan_done(&p);
        net_done(&net);
    }
    cr_assert_gt(refused, 20000);
    cr_assert_gt(accepted, 2000);
}

/* Two convolutions on two nodes.  Node 0:
 *   0 RECV 0 host   1 RUN 0 border   2 SEND 1   3 RUN 0 rest   4 RECV 1   5 RUN 1   6 SEND 2 */
static struct net two_convolutions(void)
{
    struct net net;
    net_init(&net, 2);
    net_conv(&net, net_conv(&net, net_input(&net, 8, 4, 2), 3, 1, 1, 16), 3, 1, 1, 16);
    net_finish(&net);
    return net;
}

/* Node 0's program, changed by `change`, fails at `step`. */
#define REFUSED(change, at)                                                                        \
    do {                                                                                           \
        struct net net = two_convolutions();                                                       \
        struct plan p = even_plan(&net);                                                           \
        struct program pr = compiled(&net, &p, 0);                                                 \
        const int32_t nsteps = pr.nsteps;                                                          \
        int32_t step = -2;                                                                         \
        change;                                                                                    \
        cr_assert_eq(program_check(&pr, &net.g, &step), -EPROTO, #change);                         \
        cr_assert_eq(step, at, #change ": step %d", step);                                         \
        pr.nsteps = nsteps;                                                                        \
        program_done(&pr);                                                                         \
        plan_done(&p);                                                                             \
        net_done(&net);                                                                            \
    } while (0)

Test(program, check_names_the_first_bad_step)
{
    REFUSED(pr.nodes = 3, -1);
    REFUSED(pr.node = 3, -1);
    REFUSED(pr.node = -1, -1);
    REFUSED(pr.ntransfers = -1, -1);
    REFUSED(pr.ntransfers = PROGRAM_MAX_TRANSFERS + 1, -1);
    REFUSED(pr.nsteps = PROGRAM_MAX_STEPS + 1, -1);
    REFUSED(pr.nbuffers = 4, -1);
    REFUSED(pr.buffer[1].tensor = 0, -1);
    REFUSED(pr.buffer[2].tensor = 3, -1);
    REFUSED(pr.buffer[0].box.hi[ROW] = 9, -1);
    REFUSED(pr.buffer[0].box.lo[COL] = -1, -1);
    REFUSED(pr.buffer[0].box = box_none(), -1);

    REFUSED(pr.ntransfers = 0, 0);
    REFUSED(pr.node = 1, 2); /* sends to itself */
    REFUSED(pr.node = 2, 0); /* the host has its inputs and computes nothing */
    REFUSED((pr.node = 2, pr.step[0] = pr.step[1]), 0);
    REFUSED((pr.nodes = PLAN_MAX_NODES + 1, net.g.nodes = pr.nodes), -1);
    REFUSED(pr.step[0].kind = 0, 0);
    REFUSED(pr.step[0].box.hi[ROW] = 4, 1);          /* a row too few */
    REFUSED(pr.step[1].what = 1, 1);                 /* its input is not there yet */
    REFUSED(pr.step[1].what = 2, 1);                 /* no such operator */
    REFUSED(pr.step[1].box.hi[ROW] = INT32_MAX, 1);  /* outside of the tensor */
    REFUSED(pr.step[1].box.lo[CHAN] = INT32_MIN, 1); /* outside of the tensor */
    REFUSED(pr.step[1].box = box_none(), 1);
    REFUSED(pr.step[1].box.lo[ROW] = 0, 3);   /* computes rows twice */
    REFUSED(pr.buffer[1].box.lo[ROW] = 1, 3); /* buffer too small */
    REFUSED(pr.buffer[2].tensor = 1, -1);
    REFUSED(pr.nbuffers = 2, 5);            /* no buffer */
    REFUSED(pr.step[2].box.lo[ROW] = 2, 2); /* sends what it will compute later */
    REFUSED(pr.step[2].peer = -1, 2);
    REFUSED(pr.step[2].peer = 3, 2);
    REFUSED(pr.step[4].transfer = pr.step[0].transfer, 4);
    REFUSED(pr.step[4].what = 3, 4);
    REFUSED(pr.step[4].kind = STEP_SEND, 4);
    REFUSED(pr.step[6].transfer = INT32_MAX, 6);
    REFUSED(pr.step[0].halo = HALO_F16, 0); /* the host sends exact values */
    REFUSED(pr.step[2].halo = HALO_MODES, 2);
    REFUSED(pr.step[6].halo = HALO_Q4, 6); /* and takes no others */
}

/* Two convolutions, sums over their rows, and layers on what is left: one row. */
static struct net with_sums(void)
{
    struct net net;
    net_init(&net, 3);
    const int32_t map = net_conv(&net, net_input(&net, 9, 4, 2), 3, 1, 1, 16);
    const int32_t sums = net_reduce(&net, net_conv(&net, map, 3, 1, 1, 16));
    net_dense(&net, net_dense(&net, sums, 16), 16);
    net_finish(&net);
    return net;
}

/* Only borders of maps travel coarsely: neither sums, nor tensors of one row, nor what the host
 * sends or takes. */
Test(program, only_halos_are_coarse)
{
    struct net net = with_sums();
    struct plan p = even_plan(&net);
    int32_t coarse = 0, exact = 0;
    p.halo = HALO_Q8;
    for (int32_t n = 0; n <= 3; n++) {
        struct program pr = compiled(&net, &p, n);
        for (int32_t i = 0; i < pr.nsteps; i++) {
            const struct step *s = &pr.step[i];
            if (s->kind == STEP_RUN)
                continue;
            const bool with_host = n == 3 || s->peer == 3;
            const bool small =
                geometry_is_partial(&net.g, s->what) || net.g.tensor[s->what].dim[ROW] == 1;
            cr_assert_eq(s->halo, with_host || small ? HALO_F32 : HALO_Q8);
            coarse += s->halo == HALO_Q8;
            exact += s->halo == HALO_F32 && !with_host;
        }
        program_done(&pr);
    }
    cr_assert_gt(coarse, 0);
    cr_assert_gt(exact, 0);
    plan_done(&p);
    net_done(&net);
}

Test(program, border_rows_are_sent_before_the_rest_is_computed)
{
    struct net net = two_convolutions();
    struct plan p = even_plan(&net);
    struct program pr = compiled(&net, &p, 1);
    const enum step_kind want[] = { STEP_RECV, STEP_RUN, STEP_SEND, STEP_RUN,
                                    STEP_RECV, STEP_RUN, STEP_SEND };
    cr_assert_eq(pr.nsteps, 7);
    for (int32_t i = 0; i < 7; i++)
        cr_assert_eq(pr.step[i].kind, want[i], "step %d", i);
    cr_assert(pr.step[1].box.lo[ROW] == 4 && pr.step[1].box.hi[ROW] == 5);
    cr_assert(pr.step[3].box.lo[ROW] == 5 && pr.step[3].box.hi[ROW] == 8);
    program_done(&pr);
    plan_done(&p);
    net_done(&net);
}

/* The host waits for the end of the frame: its message must not hold up the neighbours'. */
Test(program, the_host_gets_a_map_after_the_neighbours)
{
    struct net net = two_convolutions();
    net.g.tensor[1].output = true;
    struct plan p = even_plan(&net);
    struct program pr = compiled(&net, &p, 0);
    const enum step_kind want[] = { STEP_RECV, STEP_RUN,  STEP_SEND, STEP_RUN,
                                    STEP_SEND, STEP_RECV, STEP_RUN,  STEP_SEND };
    cr_assert_eq(pr.nsteps, 8);
    for (int32_t i = 0; i < 8; i++)
        cr_assert_eq(pr.step[i].kind, want[i], "step %d", i);
    cr_assert_eq(pr.step[2].peer, 1);
    cr_assert_eq(pr.step[4].peer, p.nodes);
    program_done(&pr);
    plan_done(&p);
    net_done(&net);
}

/* Weights larger than the output would be streamed twice for nothing. */
Test(program, layers_with_large_weights_run_in_one_piece)
{
    struct net net;
    net_init(&net, 2);
    const int32_t in = net_input(&net, 8, 4, 2), bytes_of_band = 4 * 4 * 2 * 4;
    net_conv(&net, net_conv(&net, in, 3, 1, 1, bytes_of_band + 1), 3, 1, 1, 0);
    net_finish(&net);
    struct plan p = even_plan(&net);
    struct program pr = compiled(&net, &p, 0);
    const enum step_kind want[] = {
        STEP_RECV, STEP_RUN, STEP_SEND, STEP_RECV, STEP_RUN, STEP_SEND
    };
    cr_assert_eq(pr.nsteps, 6);
    for (int32_t i = 0; i < 6; i++)
        cr_assert_eq(pr.step[i].kind, want[i], "step %d", i);
    program_done(&pr);
    plan_done(&p);
    net_done(&net);
}

/* A node's buffer of a map may hold received rows; its share of a sum must not. */
Test(program, a_share_of_a_reduction_leaves_received_rows_out)
{
    struct net net;
    net_init(&net, 2);
    const int32_t map = net_conv(&net, net_input(&net, 8, 4, 2), 1, 1, 0, 0);
    net_conv(&net, map, 3, 1, 1, 0);
    net_reduce(&net, map);
    net_finish(&net);
    struct plan p = even_plan(&net);
    struct program pr = compiled(&net, &p, 0);

    int32_t partials = 0;
    for (int32_t i = 0; i < pr.nsteps; i++) {
        const struct step *s = &pr.step[i];
        if (s->kind != STEP_RUN || net.g.op[s->what].kind != GEO_PARTIAL)
            continue;
        partials++;
        cr_assert(box_equal(s->box, plan_share(&p, map, 0)->own));
        cr_assert_eq(program_buffer(&pr, map)->box.hi[ROW], 5);
        const struct box row = { { 0, 0, 0 }, { 1, 1, 2 } };
        cr_assert(box_equal(program_output(&pr, &net.g, s), row));
    }
    cr_assert_eq(partials, 1);
    cr_assert_null(sim_cluster(&net, &p));
    program_done(&pr);
    plan_done(&p);
    net_done(&net);
}

/* More nodes than rows: the idle ones still say that their share is nothing. */
Test(program, a_node_without_rows_shares_nothing)
{
    struct net net;
    net_init(&net, 4);
    net_reduce(&net, net_input(&net, 2, 4, 2));
    net_finish(&net);
    struct plan p = even_plan(&net);
    struct program pr = compiled(&net, &p, 2);
    cr_assert_eq(pr.step[0].kind, STEP_RUN);
    cr_assert(box_empty(pr.step[0].box));
    cr_assert_null(program_buffer(&pr, 0));
    cr_assert_not_null(program_buffer(&pr, 1));
    cr_assert_null(sim_cluster(&net, &p));
    program_done(&pr);
    plan_done(&p);
    net_done(&net);
}

/* A tensor in very many pieces would make the check slow. */
Test(program, check_bounds_the_pieces_of_a_tensor)
{
    enum { ROWS = 300, MOST = 256 };
    struct net net;
    net_init(&net, 1);
    net_input(&net, ROWS, 1, 1);
    net_finish(&net);
    struct step step[ROWS];
    struct buffer buffer = { 0, geometry_whole(&net.g, 0) };
    for (int32_t i = 0; i < ROWS; i++)
        step[i] =
            (struct step){ STEP_RECV, 0, i, 1, box_rows(buffer.box, i, i + 1), HALO_F32, false };
    struct program pr = { .nodes = 1,
                          .ntransfers = ROWS,
                          .nbuffers = 1,
                          .nsteps = MOST,
                          .buffer = &buffer,
                          .step = step };
    cr_assert_eq(program_check(&pr, &net.g, NULL), 0);
    pr.nsteps = ROWS;
    int32_t bad = -1;
    cr_assert_eq(program_check(&pr, &net.g, &bad), -EPROTO);
    cr_assert_eq(bad, MOST);
    net_done(&net);
}

static const char *op_name(const void *ctx, int32_t op)
{
    (void)ctx;
    static const char *const name[] = { "conv1", "mean/partial", "mean", "crop" };
    return name[op];
}

static const char *tensor_name(const void *ctx, int32_t tensor)
{
    (void)ctx;
    static const char *const name[] = { "picture", "conv1", "shares", "mean", "corner" };
    return name[tensor];
}

static void assert_dump(const struct program *pr, const struct geometry *g,
                        const struct program_names *names, const char *want)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    cr_assert_not_null(f);
    program_dump(pr, g, names, f);
    fclose(f);
    cr_assert_str_eq(text, want);
    free(text);
}

Test(program, dump)
{
    struct net net;
    net_init(&net, 2);
    const int32_t map = net_conv(&net, net_input(&net, 8, 4, 2), 3, 1, 1, 0);
    net_reduce(&net, map);
    net_finish(&net);
    struct plan p = even_plan(&net);
    struct program pr = compiled(&net, &p, 0);
    const struct program_names names = { .op = op_name, .tensor = tensor_name };

    assert_dump(&pr, &net.g, &names,
                "RECV picture rows 0..5 of 8 from host (160 bytes)\n"
                "RUN conv1 rows 0..4 of 8\n"
                "RUN mean/partial rows 0..1 of 2 over rows 0..4 of 8\n"
                "RECV shares rows 1..2 of 2 from node 1 (8 bytes)\n"
                "RUN mean rows 0..1 of 1\n"
                "SEND mean rows 0..1 of 1 to host (8 bytes)\n");

    pr.step[1].box.hi[COL] = 3;
    pr.step[2].box = box_none();
    pr.nsteps = 3;
    assert_dump(&pr, &net.g, NULL,
                "RECV 0 rows 0..5 of 8 from host (160 bytes)\n"
                "RUN 0 rows 0..4 of 8 cols 0..3 of 4\n"
                "RUN 1 rows 0..1 of 2 over nothing\n");
    program_done(&pr);
    plan_done(&p);
    net_done(&net);
}
