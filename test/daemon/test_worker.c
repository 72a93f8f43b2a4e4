#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/daemon/cluster.h"

static struct cluster c;

static void expect_frame(uint32_t frame, uint32_t seed)
{
    float in[CLUSTER_IN], got[CLUSTER_OUT] = { 0 }, want[CLUSTER_OUT];

    cluster_input(seed, in);
    cluster_expect(in, want);
    cluster_start(&c, frame);
    cluster_feed(&c, frame, in);
    cr_assert_eq(cluster_collect(&c, frame, got), 0, "frame %u", frame);
    for (int i = 0; i < CLUSTER_OUT; i++)
        cr_assert_float_eq(got[i], want[i], 1e-5, "frame %u class %d: %g, want %g", frame, i,
                           (double)got[i], (double)want[i]);
}

static void open_planned(int32_t nodes, int32_t depth)
{
    cluster_open(&c, nodes);
    cr_assert_eq(cluster_share_model(&c), nodes);
    cluster_plan(&c, 1, 1, depth);
    cr_assert(cluster_acked(&c));
    for (int32_t i = 0; i < nodes; i++)
        cr_assert_eq(c.member[i].plan.status, 0, "%s", c.member[i].plan.detail);
}

struct ends {
    int32_t node;
    int frames;
};

static bool has_ended(void *ctx)
{
    const struct ends *e = ctx;
    return c.member[e->node].dones >= e->frames;
}

/* Until `node` has said of so many frames that they ended, however slow the machine is. */
static void await_ends(int32_t node, int frames)
{
    cr_assert(cluster_run_until(&c, has_ended, &(struct ends){ node, frames }, 10000));
    cr_assert_eq(c.member[node].dones, frames);
}

Test(worker, several_nodes_give_what_one_gives)
{
    for (int32_t nodes = 1; nodes <= 3; nodes++) {
        open_planned(nodes, 2);
        for (uint32_t frame = 1; frame <= 6; frame++)
            expect_frame(frame, frame);
        for (int32_t i = 0; i < nodes; i++) {
            const struct msg_frame_done *d = &c.member[i].done[0];
            cr_assert_gt(d->compute_ns, 0);
            cr_assert_gt(d->received_messages, 0);
            cr_assert_eq(d->halo_sent_bytes > 0, nodes > 1);
            cr_assert_gt(c.member[i].plan.arena_bytes, 0);
            cr_assert_gt(c.member[i].plan.weight_bytes, 0);
        }
        cluster_close(&c);
    }
}

Test(worker, frames_may_overlap)
{
    float in[4][CLUSTER_IN], got[CLUSTER_OUT], want[CLUSTER_OUT];
    open_planned(3, 4);
    for (uint32_t f = 0; f < 4; f++) {
        cluster_input(f, in[f]);
        cluster_start(&c, 100 + f);
    }
    for (uint32_t f = 0; f < 4; f++)
        cluster_feed(&c, 100 + f, in[f]);
    for (uint32_t f = 0; f < 4; f++) {
        cluster_expect(in[f], want);
        cr_assert_eq(cluster_collect(&c, 100 + f, got), 0);
        for (int i = 0; i < CLUSTER_OUT; i++)
            cr_assert_float_eq(got[i], want[i], 1e-5);
    }
    cluster_close(&c);
}

/* A frame of which a trace is wanted has one event for every RUN, two for every message and one for
 * the time in the queue; others have none. */
Test(worker, a_traced_frame_tells_what_it_did)
{
    float in[CLUSTER_IN], got[CLUSTER_OUT], want[CLUSTER_OUT];
    open_planned(3, 2);
    for (uint32_t frame = 1; frame <= 4; frame++) {
        cluster_input(frame, in);
        cluster_expect(in, want);
        if (frame % 2)
            cluster_start_traced(&c, frame);
        else
            cluster_start(&c, frame);
        cluster_feed(&c, frame, in);
        cr_assert_eq(cluster_collect(&c, frame, got), 0);
        for (int i = 0; i < CLUSTER_OUT; i++)
            cr_assert_float_eq(got[i], want[i], 1e-5);
    }
    for (int32_t i = 0; i < 3; i++) {
        struct member *m = &c.member[i];
        struct program pr;
        int32_t events = 1;
        cr_assert_eq(program_compile(&pr, &c.plan, i), 0);
        for (int32_t s = 0; s < pr.nsteps; s++)
            events += pr.step[s].kind == STEP_RUN ? 1 : 2;
        program_done(&pr);
        for (int d = 0; d < m->dones; d++)
            cr_assert_eq(m->done_events[d], m->done_header[d].frame % 2 ? events : 0);
        cr_assert_eq(m->first_event.kind, TRACE_QUEUE);
        cr_assert_leq(m->first_event.start_ns, m->first_event.end_ns);
    }
    cluster_close(&c);
}

Test(worker, inputs_may_come_before_the_frame)
{
    float in[CLUSTER_IN], got[CLUSTER_OUT], want[CLUSTER_OUT];
    open_planned(2, 1);
    for (uint32_t frame = 1; frame <= 3; frame++) {
        cluster_input(frame, in);
        cluster_expect(in, want);
        cluster_feed(&c, frame, in);
        cluster_pump(&c, 20);
        cluster_start(&c, frame);
        cr_assert_eq(cluster_collect(&c, frame, got), 0);
        for (int i = 0; i < CLUSTER_OUT; i++)
            cr_assert_float_eq(got[i], want[i], 1e-5);
    }
    cluster_close(&c);
}

Test(worker, a_model_is_sent_once)
{
    cluster_open(&c, 2);
    cr_assert_eq(cluster_share_model(&c), 2);
    cr_assert_eq(cluster_share_model(&c), 0);
    cluster_close(&c);
}

/* To an offer, and to its last chunk. */
static bool has_two_answers(void *ctx) { return ((struct member *)ctx)->models == 2; }

Test(worker, a_model_with_another_sum_is_refused)
{
    uint8_t body[MODEL_CHUNK_MAX_BYTES];
    struct msg_model_offer offer = { .sha = { 1, 2, 3 }, .size = 4 };
    struct msg_model_chunk chunk = { .sha = { 1, 2, 3 },
                                     .data = (const uint8_t *)"onnx",
                                     .len = 4 };
    cluster_open(&c, 2);
    int n = model_offer_encode(&offer, body, sizeof body);
    mesh_send(c.member[0].mesh, 1, &(struct header){ MSG_MODEL_OFFER, .length = (uint32_t)n },
              body);
    n = model_chunk_encode(&chunk, body, sizeof body);
    mesh_send(c.member[0].mesh, 1, &(struct header){ MSG_MODEL_CHUNK, .length = (uint32_t)n },
              body);
    cr_assert(cluster_run_until(&c, has_two_answers, &c.member[1], 10000));
    cr_assert_eq(c.member[1].model.state, MODEL_FAILED);
    cr_assert(strstr(c.member[1].model.detail, "SHA-256"), "%s", c.member[1].model.detail);
    cluster_close(&c);
}

Test(worker, a_plan_without_its_model_is_refused)
{
    cluster_open(&c, 2);
    cluster_plan(&c, 1, 1, 1);
    cr_assert(cluster_acked(&c));
    cr_assert_eq(c.member[1].plan.status, -ENOENT);
    cr_assert(strstr(c.member[1].plan.detail, "pi1"), "%s", c.member[1].plan.detail);
    cluster_close(&c);
}

Test(worker, a_plan_over_max_memory_is_refused_with_the_figures)
{
    c.config.node[1].max_memory = 10000;
    cluster_open(&c, 2);
    cluster_share_model(&c);
    cluster_plan(&c, 1, 1, 2);
    cr_assert(cluster_acked(&c));
    cr_assert_eq(c.member[0].plan.status, 0);
    cr_assert_eq(c.member[1].plan.status, -ENOMEM);
    cr_assert(strstr(c.member[1].plan.detail, "pi1: needs 1 MB, 1 MB allowed"), "%s",
              c.member[1].plan.detail);
    cluster_close(&c);
}

static void send_plan(uint32_t number, const uint8_t *body, size_t len)
{
    const struct header h = {
        .type = MSG_PLAN, .epoch = 1, .plan = number, .length = (uint32_t)len
    };
    c.member[1].plans = 0;
    cr_assert_eq(mesh_send(c.member[0].mesh, 1, &h, body), 0);
}

static bool has_ack(void *ctx) { return ((struct member *)ctx)->plans > 0; }

/* Whatever bytes come as a plan: an answer, and the worker goes on. */
Test(worker, damaged_plans_are_refused)
{
    size_t len;
    int refused = 0;
    c.config.node[1].max_memory = 50000000; /* a damaged size may want any amount */
    open_planned(2, 1);
    uint8_t *body = cluster_plan_body(&c, 1, 1, &len);
    for (uint32_t round = 0; round < 60; round++) {
        uint8_t *bad = malloc(len);
        memcpy(bad, body, len);
        /* The first rounds hit the head, the others anything. */
        const size_t at = round < 20 ? 32 + round : (round * 2654435761u) % len;
        bad[at] ^= (uint8_t)(1u << round % 8);
        send_plan(100 + round, bad, round % 10 == 9 ? len / 2 : len);
        cr_assert(cluster_run_until(&c, has_ack, &c.member[1], 5000), "round %u", round);
        refused += c.member[1].plan.status < 0;
        free(bad);
    }
    cr_assert_gt(refused, 30);
    send_plan(1000, body, len);
    cr_assert(cluster_run_until(&c, has_ack, &c.member[1], 5000));
    cr_assert_eq(c.member[1].plan.status, 0, "%s", c.member[1].plan.detail);
    /* A plan for another node. */
    free(body);
    body = cluster_plan_body(&c, 0, 1, &len);
    send_plan(1001, body, len);
    cr_assert(cluster_run_until(&c, has_ack, &c.member[1], 5000));
    cr_assert_eq(c.member[1].plan.status, -EPROTO);
    free(body);
    cluster_close(&c);
}

Test(worker, a_cancelled_frame_ends_and_the_next_one_runs)
{
    float got[CLUSTER_OUT];
    open_planned(3, 1);
    cluster_start(&c, 1);
    cluster_pump(&c, 50);
    cr_assert_eq(c.member[1].dones, 0, "a frame without inputs has ended");
    for (int32_t i = 0; i < 3; i++)
        cluster_send(&c, i, MSG_CANCEL, 1);
    cr_assert_eq(cluster_collect(&c, 1, got), -ECANCELED);
    for (int32_t i = 0; i < 3; i++)
        cr_assert_eq(c.member[i].dones, 1);
    expect_frame(2, 7);
    /* A frame that is over, or never was, is nobody's business. */
    for (int32_t i = 0; i < 3; i++)
        cluster_send(&c, i, MSG_CANCEL, 2);
    cluster_send(&c, 1, MSG_CANCEL, 77);
    expect_frame(3, 8);
    for (int32_t i = 0; i < 3; i++)
        cr_assert_eq(c.member[i].dones, 3);
    cluster_close(&c);
}

Test(worker, a_plan_that_is_withdrawn_is_forgotten)
{
    open_planned(2, 1);
    expect_frame(1, 7);
    for (int32_t i = 0; i < 2; i++)
        cluster_send(&c, i, MSG_CANCEL, 0);
    for (int32_t i = 0; i < 2; i++)
        cluster_send(&c, i, MSG_CANCEL, 0); /* of a plan that nobody knows */
    cluster_start(&c, 2);
    await_ends(0, 2);
    await_ends(1, 2);
    for (int32_t i = 0; i < 2; i++)
        cr_expect_eq(c.member[i].done[1].status, -ESTALE);
    cluster_close(&c);
}

/* Half of the inputs of a cancelled frame, then the next frame: nothing of the old one is used. */
Test(worker, the_inputs_of_a_cancelled_frame_are_forgotten)
{
    float in[CLUSTER_IN], got[CLUSTER_OUT];
    open_planned(2, 1);
    cluster_input(1, in);
    cluster_send(&c, 1, MSG_FRAME, 1);
    cluster_pump(&c, 20);
    cluster_send(&c, 1, MSG_CANCEL, 1);
    cluster_feed(&c, 1, in); /* member 0 has not heard of frame 1 otherwise */
    await_ends(1, 1);
    cr_assert_eq(c.member[1].done[0].status, -ECANCELED);
    expect_frame(2, 9);
    (void)got;
    cluster_close(&c);
}

Test(worker, a_frame_has_a_deadline)
{
    float got[CLUSTER_OUT];
    c.config.request_timeout_ms = 1000; /* enough for the frame that has its inputs */
    open_planned(2, 1);
    cluster_start(&c, 1);
    cr_assert_eq(cluster_collect(&c, 1, got), -ETIMEDOUT);
    expect_frame(2, 1);
    cluster_close(&c);
}

Test(worker, a_lane_takes_one_frame_at_a_time)
{
    open_planned(2, 2);
    cluster_send(&c, 1, MSG_FRAME, 1);
    cluster_send(&c, 1, MSG_FRAME, 3);
    await_ends(1, 1);
    cr_assert_eq(c.member[1].done_header[0].frame, 3);
    cr_assert_eq(c.member[1].done[0].status, -EBUSY);
    cluster_close(&c); /* while frame 1 waits for its inputs */
}

Test(worker, a_new_epoch_ends_the_old_one)
{
    open_planned(2, 1);
    cluster_start(&c, 1);
    cluster_pump(&c, 20);
    cluster_plan(&c, 2, 2, 1);
    cr_assert(cluster_acked(&c));
    for (int32_t i = 0; i < 2; i++) {
        cr_assert_eq(c.member[i].plan.status, 0, "%s", c.member[i].plan.detail);
        await_ends(i, 1);
        cr_assert_eq(c.member[i].done[0].status, -ECANCELED);
        cr_assert_eq(c.member[i].done_header[0].epoch, 1);
    }
    c.epoch = 1;
    c.number = 1;
    cluster_send(&c, 1, MSG_FRAME, 2);
    await_ends(1, 2);
    cr_assert_eq(c.member[1].done[1].status, -ESTALE);
    c.epoch = c.number = 2;
    expect_frame(5, 3);
    cluster_close(&c);
}

/* ---- Messages that are late */

static void open_impatient(int32_t late_ms)
{
    c.config.conceal = true;
    c.config.late_ms = late_ms;
    open_planned(2, 1);
}

static void run_frame(uint32_t frame, int status)
{
    float in[CLUSTER_IN], got[CLUSTER_OUT];
    cluster_input(frame, in);
    cluster_start(&c, frame);
    cluster_feed(&c, frame, in);
    cr_assert_eq(cluster_collect(&c, frame, got), status, "frame %u", frame);
}

/* That node 0 waits for and may miss; `*last`: the last of these transfers. */
static int32_t halos_of_node_1(int32_t *last)
{
    int32_t n = 0;
    for (int32_t t = 0; t < c.plan.ntransfers; t++)
        if (c.plan.transfer[t].to == 0 && plan_may_miss(&c.plan, &c.plan.transfer[t])) {
            *last = t;
            n++;
        }
    return n;
}

Test(worker, lost_halos_are_concealed)
{
    enum { LATE_MS = 200 };
    int32_t last;
    open_impatient(LATE_MS);
    const int32_t halos = halos_of_node_1(&last);
    cr_assert_gt(halos, 0);
    for (uint32_t frame = 1; frame <= 4; frame++) {
        c.loses = frame % 2 == 0;
        if (!c.loses) {
            expect_frame(frame, frame);
            continue;
        }
        const uint64_t start_ns = uv_hrtime();
        run_frame(frame, 0);
        cr_assert_gt(uv_hrtime() - start_ns, (uint64_t)halos * LATE_MS * 1000000);
        cr_assert_eq(c.member[0].done[frame - 1].concealed, (uint32_t)halos);
    }
    cluster_close(&c);
}

Test(worker, lost_halos_are_waited_for_unless_it_is_said)
{
    c.config.request_timeout_ms = 1000; /* enough for the frame that loses none */
    open_planned(2, 1);
    c.loses = true;
    run_frame(1, -ETIMEDOUT);
    c.loses = false;
    expect_frame(2, 2);
    cluster_close(&c);
}

/* A message of which only the beginning comes holds up neither its frame nor the next ones. */
Test(worker, a_late_message_holds_up_nothing)
{
    int32_t last;
    open_impatient(200);
    const int32_t halos = halos_of_node_1(&last);
    struct header h = { .type = MSG_HALO,
                        .epoch = 1,
                        .plan = 1,
                        .frame = 1,
                        .transfer = (uint32_t)last,
                        .length = (uint32_t)(1 + 4 * box_values(c.plan.transfer[last].box)) };
    uint8_t *to = worker_claim(c.member[0].worker, 1, &h);
    cr_assert(to);
    c.loses = true;
    run_frame(1, 0);
    run_frame(2, 0);
    cr_assert_eq(c.member[0].done[1].concealed, (uint32_t)halos);
    memset(to, 0xa5, h.length);
    worker_arrived(c.member[0].worker, 1, &h);
    c.loses = false;
    expect_frame(3, 3);

    /* A plan stays as long as one of its messages is on the way. */
    h.frame = 4;
    cr_assert(worker_claim(c.member[0].worker, 1, &h));
    c.loses = true;
    run_frame(4, 0);
    cluster_plan(&c, 2, 2, 1);
    cluster_pump(&c, 200);
    cr_assert_eq(c.member[0].plans, 0);
    worker_failed(c.member[0].worker, 1, &h);
    cr_assert(cluster_acked(&c));
    c.loses = false;
    expect_frame(5, 5);
    cluster_close(&c);
}

/* Every message of a plan that `node` receives; returns how many claims succeeded. */
static int claims_by(int32_t sender, int32_t node, uint32_t frame)
{
    int n = 0;
    for (int32_t t = 0; t < c.plan.ntransfers; t++) {
        const struct header h = { .type = MSG_HALO,
                                  .epoch = c.epoch,
                                  .plan = c.number,
                                  .frame = frame,
                                  .transfer = (uint32_t)t,
                                  .length = 1 };
        if (worker_claim(c.member[node].worker, sender, &h)) {
            worker_failed(c.member[node].worker, sender, &h);
            n++;
        }
    }
    return n;
}

Test(worker, only_the_sender_of_a_transfer_may_bring_it)
{
    open_planned(3, 1);
    int from[3] = { 0 };
    for (int32_t t = 0; t < c.plan.ntransfers; t++)
        if (c.plan.transfer[t].to == 1)
            from[c.plan.transfer[t].from == 3 ? 0 : c.plan.transfer[t].from]++;
    cr_assert_eq(claims_by(0, 1, 1), from[0]);
    cr_assert_eq(claims_by(1, 1, 1), 0);
    cr_assert_eq(claims_by(2, 1, 1), from[2]);
    cr_assert_gt(from[0], 0);
    cr_assert_gt(from[2], 0);
    /* Other plans, other epochs, transfers that are none, frames that are over. */
    c.number = 9;
    cr_assert_eq(claims_by(0, 1, 1), 0);
    c.number = 1;
    c.epoch = 9;
    cr_assert_eq(claims_by(0, 1, 1), 0);
    c.epoch = 1;
    const struct header far = {
        .type = MSG_HALO, .epoch = 1, .plan = 1, .frame = 1, .transfer = UINT32_MAX, .length = 1
    };
    cr_assert_null(worker_claim(c.member[1].worker, 0, &far));
    expect_frame(5, 1);
    cr_assert_eq(claims_by(0, 1, 5), 0);
    cr_assert_eq(claims_by(0, 1, 4), 0);
    cr_assert_eq(claims_by(0, 1, 6), from[0]);
    cluster_close(&c);
}

Test(worker, only_the_coordinator_commands)
{
    size_t len;
    open_planned(3, 1);
    uint8_t *body = cluster_plan_body(&c, 1, 1, &len);
    const struct header plan = { .type = MSG_PLAN, .epoch = 7, .plan = 7, .length = (uint32_t)len };
    const struct header frame = { .type = MSG_FRAME, .epoch = 1, .plan = 1, .frame = 1 };
    c.member[1].plans = 0;
    cr_assert_eq(mesh_send(c.member[2].mesh, 1, &plan, body), 0);
    cr_assert_eq(mesh_send(c.member[2].mesh, 1, &frame, NULL), 0);
    cluster_pump(&c, 200);
    cr_assert_eq(c.member[1].plans, 0);
    cr_assert_eq(c.member[1].dones, 0);
    expect_frame(1, 1);
    free(body);
    cluster_close(&c);
}

/* A link may be slow to fill what it has claimed: the memory must stay until it is done, and the
 * frame is not reported as ended before. */
Test(worker, an_open_claim_keeps_its_memory)
{
    struct header h = { .type = MSG_HALO, .epoch = 1, .plan = 1, .frame = 1 };
    open_planned(2, 1);
    for (int32_t t = 0; t < c.plan.ntransfers; t++)
        if (c.plan.transfer[t].to == 1 && c.plan.transfer[t].from == 2)
            h.transfer = (uint32_t)t;
    const struct box box = c.plan.transfer[h.transfer].box;
    h.length = (uint32_t)(1 + 4 * box_values(box));

    cluster_send(&c, 1, MSG_FRAME, 1);
    cluster_pump(&c, 20);
    uint8_t *to = worker_claim(c.member[1].worker, 0, &h);
    cr_assert(to);
    cluster_send(&c, 1, MSG_CANCEL, 1);
    cluster_pump(&c, 50);
    cr_assert_eq(c.member[1].dones, 0);
    cluster_plan(&c, 2, 2, 1);
    cluster_pump(&c, 200);
    cr_assert_eq(c.member[0].plans, 1);
    cr_assert_eq(c.member[1].plans, 0, "the old plan is gone while a claim is open");
    memset(to, 0xa5, h.length);
    worker_arrived(c.member[1].worker, 0, &h);
    cr_assert(cluster_acked(&c));
    cr_assert_eq(c.member[1].plan.status, 0);
    cr_assert_eq(c.member[1].dones, 1);
    cr_assert_eq(c.member[1].done[0].status, -ECANCELED);
    expect_frame(2, 2);
    cluster_close(&c);
}

/* The same for a frame that this node was never told to run. */
Test(worker, an_open_claim_without_a_frame_keeps_its_memory)
{
    struct header h = { .type = MSG_HALO, .epoch = 1, .plan = 1, .frame = 1, .length = 1 };
    uint8_t *to = NULL;
    open_planned(2, 1);
    for (h.transfer = 0; !to; h.transfer++)
        to = worker_claim(c.member[1].worker, 0, &h);
    h.transfer--;
    cluster_plan(&c, 2, 2, 1);
    cluster_pump(&c, 200);
    cr_assert_eq(c.member[1].plans, 0, "the old plan is gone while a claim is open");
    *to = 0xa5;
    worker_failed(c.member[1].worker, 0, &h);
    cr_assert(cluster_acked(&c));
    expect_frame(2, 2);
    cluster_close(&c);
}

Test(worker, the_plan_that_was_idle_longest_makes_room)
{
    open_planned(1, 1);
    for (uint32_t n = 2; n <= 17; n++) {
        cluster_plan(&c, 1, n, 1);
        cr_assert(cluster_acked(&c));
        cr_assert_eq(c.member[0].plan.status, 0, "%s", c.member[0].plan.detail);
    }
    expect_frame(1, 1);
    c.number = 1;
    cluster_send(&c, 0, MSG_FRAME, 2);
    cluster_pump(&c, 50);
    cr_assert_eq(c.member[0].done[1].status, -ESTALE);
    cluster_close(&c);
}
