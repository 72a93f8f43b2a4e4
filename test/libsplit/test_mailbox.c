#include "libsplit/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "quant/codec.h"

enum { TRANSFERS = 8, VALUES = 4 };

/* A program that receives transfers 1, 3, 5 and 7, VALUES values each, two images. */
struct fixture {
    struct geometry geo;
    struct step step[TRANSFERS / 2];
    struct program program;
};

static struct mailbox *make(struct fixture *f)
{
    cr_assert_eq(geometry_init(&f->geo, 1, 1, 0, 0), 0);
    f->geo.tensor[0] = (struct geo_tensor){ .dim = { 1, 1, VALUES }, .batch = 2, .op = GEO_NO_OP };
    for (int32_t i = 0; i < TRANSFERS / 2; i++)
        f->step[i] = (struct step){ .kind = STEP_RECV,
                                    .transfer = 2 * i + 1,
                                    .box = box_whole(f->geo.tensor[0].dim) };
    f->program = (struct program){
        .nodes = 1, .ntransfers = TRANSFERS, .nsteps = TRANSFERS / 2, .step = f->step
    };
    struct mailbox *m = mailbox_new(&f->program, &f->geo);
    cr_assert_not_null(m);
    return m;
}

static void end(struct fixture *f, struct mailbox *m)
{
    mailbox_free(m);
    geometry_done(&f->geo);
}

static int64_t in_ms(int64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + ms * 1000000;
}

static const size_t cap = 1 + 4 * VALUES * 2;

Test(mailbox, claims_only_what_is_waited_for)
{
    struct fixture f;
    struct mailbox *m = make(&f);
    cr_assert_eq(mailbox_bytes(m), cap * TRANSFERS / 2);
    for (int32_t t = -2; t < TRANSFERS + 2; t++) {
        const bool waited = t > 0 && t < TRANSFERS && t % 2 == 1;
        cr_assert_null(mailbox_claim(m, t, cap + 1), "transfer %d takes too much", t);
        uint8_t *to = mailbox_claim(m, t, cap);
        cr_assert_eq(to != NULL, waited, "transfer %d", t);
        cr_assert_null(mailbox_claim(m, t, 1), "transfer %d is claimed twice", t);
        if (waited) {
            memset(to, t, cap);
            mailbox_post(m, t, cap);
        }
        cr_assert_null(mailbox_claim(m, t, 1), "transfer %d comes twice", t);
    }
    cr_assert(mailbox_full(m));
    for (int32_t t = 1; t < TRANSFERS; t += 2) {
        const uint8_t *msg;
        size_t len;
        cr_assert_eq(mailbox_wait(m, t, 0, &msg, &len), 0);
        cr_assert_eq(len, cap);
        for (size_t i = 0; i < len; i++)
            cr_assert_eq(msg[i], t);
    }
    mailbox_clear(m);
    cr_assert_not(mailbox_full(m));
    cr_assert_not_null(mailbox_claim(m, 1, cap));
    end(&f, m);
}

Test(mailbox, abandoned_claim_can_be_made_again)
{
    struct fixture f;
    struct mailbox *m = make(&f);
    cr_assert_not_null(mailbox_claim(m, 3, 5));
    mailbox_abandon(m, 3);
    cr_assert_not_null(mailbox_claim(m, 3, 6));
    mailbox_post(m, 3, 6);
    const uint8_t *msg;
    size_t len;
    cr_assert_eq(mailbox_wait(m, 3, in_ms(1000), &msg, &len), 0);
    cr_assert_eq(len, 6);
    end(&f, m);
}

Test(mailbox, wait_ends_at_its_deadline)
{
    struct fixture f;
    struct mailbox *m = make(&f);
    const uint8_t *msg;
    size_t len;
    const int64_t deadline = in_ms(20);
    cr_assert_eq(mailbox_wait(m, 1, deadline, &msg, &len), -ETIMEDOUT);
    cr_assert(in_ms(0) >= deadline);
    cr_assert(in_ms(0) < deadline + 2000000000);
    cr_assert_eq(mailbox_wait(m, 2, deadline, &msg, &len), -EINVAL);
    end(&f, m);
}

static void *cancel_soon(void *m)
{
    nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    mailbox_cancel(m);
    return NULL;
}

Test(mailbox, cancel_wakes_the_reader, .timeout = 10)
{
    struct fixture f;
    struct mailbox *m = make(&f);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, cancel_soon, m), 0);
    const uint8_t *msg;
    size_t len;
    cr_assert_eq(mailbox_wait(m, 1, INT64_MAX, &msg, &len), -ECANCELED);
    pthread_join(thread, NULL);
    cr_assert_null(mailbox_claim(m, 1, 1), "a cancelled frame takes no messages");
    mailbox_clear(m);
    cr_assert_not_null(mailbox_claim(m, 1, 1));
    end(&f, m);
}

/* ---- Messages that are late ---- */

Test(mailbox, a_late_message_is_dropped_in_its_frame)
{
    struct fixture f;
    struct mailbox *m = make(&f);
    const uint8_t *msg;
    size_t len;
    const int64_t deadline = in_ms(20);
    cr_assert_not(mailbox_gave_up(m, 3));
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, deadline, &msg, &len), -ETIME);
    cr_assert(in_ms(0) >= deadline);
    cr_assert(mailbox_gave_up(m, 3));
    cr_assert_null(mailbox_claim(m, 3, cap));
    cr_assert_not_null(mailbox_claim(m, 5, cap), "the others are welcome");
    mailbox_abandon(m, 5);
    mailbox_clear(m);
    cr_assert_not(mailbox_gave_up(m, 3));
    cr_assert_not_null(mailbox_claim(m, 3, cap), "so is that of the next frame");
    end(&f, m);
}

Test(mailbox, what_has_come_is_not_late)
{
    struct fixture f;
    struct mailbox *m = make(&f);
    const uint8_t *msg;
    size_t len;
    cr_assert_not_null(mailbox_claim(m, 3, 5));
    mailbox_post(m, 3, 5);
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, 0, &msg, &len), 0);
    cr_assert_eq(len, 5);
    mailbox_cancel(m);
    cr_assert_eq(mailbox_wait_or_give_up(m, 5, 0, &msg, &len), -ECANCELED);
    cr_assert_not(mailbox_gave_up(m, 5));
    end(&f, m);
}

/* A message that is being written when it is given up must reach neither this frame nor the next,
 * and whose storage it has must not be given to another before. */
static void give_up_while_written(void (*end_of_claim)(struct mailbox *m))
{
    struct fixture f;
    struct mailbox *m = make(&f);
    const uint8_t *msg;
    size_t len;

    cr_assert_not_null(mailbox_claim(m, 3, cap));
    cr_assert(mailbox_filling(m));
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, 0, &msg, &len), -ETIME);
    cr_assert_not(mailbox_filling(m), "nobody waits for that one");
    end_of_claim(m);
    cr_assert(mailbox_gave_up(m, 3));
    cr_assert_null(mailbox_claim(m, 3, cap), "in the same frame");
    mailbox_clear(m);

    cr_assert_not_null(mailbox_claim(m, 3, cap));
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, 0, &msg, &len), -ETIME);
    mailbox_clear(m);
    cr_assert_not(mailbox_gave_up(m, 3), "the next frame waits for its own");
    cr_assert_null(mailbox_claim(m, 3, cap), "which comes behind the late one");
    cr_assert_eq(mailbox_wait(m, 3, 0, &msg, &len), -ETIMEDOUT);
    end_of_claim(m);
    cr_assert_eq(mailbox_wait(m, 3, 0, &msg, &len), -ETIMEDOUT);
    cr_assert_not_null(mailbox_claim(m, 3, 7));
    mailbox_post(m, 3, 7);
    cr_assert_eq(mailbox_wait(m, 3, 0, &msg, &len), 0);
    cr_assert_eq(len, 7);
    mailbox_clear(m);

    cr_assert_not_null(mailbox_claim(m, 3, cap));
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, 0, &msg, &len), -ETIME);
    mailbox_clear(m);
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, 0, &msg, &len), -ETIME, "given up as well");
    mailbox_clear(m);
    cr_assert_eq(mailbox_wait_or_give_up(m, 3, 0, &msg, &len), -ETIME);
    end_of_claim(m);
    cr_assert_null(mailbox_claim(m, 3, cap));
    mailbox_clear(m);
    cr_assert_not_null(mailbox_claim(m, 3, cap));
    end(&f, m);
}

static void post_3(struct mailbox *m) { mailbox_post(m, 3, cap); }
static void abandon_3(struct mailbox *m) { mailbox_abandon(m, 3); }

Test(mailbox, late_messages_are_dropped_when_complete) { give_up_while_written(post_3); }
Test(mailbox, late_messages_may_come_to_nothing) { give_up_while_written(abandon_3); }

/* ---- Many frames between two threads: nothing lost, nothing torn, no sleep for ever ---- */

enum { FRAMES = 3000 };

struct duel {
    struct mailbox *m;
    pthread_barrier_t frame;
    bool impatient; /* the reader gives up what does not come soon */
};

static void *write_frames(void *arg)
{
    struct duel *d = arg;
    for (int frame = 0; frame < FRAMES; frame++) {
        pthread_barrier_wait(&d->frame);
        for (int32_t t = TRANSFERS - 1; t > 0; t -= 2) {
            if (frame % 100 == 0) /* now and then late enough for the reader to sleep */
                nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
            uint8_t *to = mailbox_claim(d->m, t, cap);
            cr_assert(to || (d->impatient && mailbox_gave_up(d->m, t)));
            if (!to)
                continue;
            memset(to, frame + t, cap);
            mailbox_post(d->m, t, cap);
        }
        pthread_barrier_wait(&d->frame);
    }
    return NULL;
}

static int read_message(const struct duel *d, int32_t transfer, const uint8_t **msg, size_t *len)
{
    if (!d->impatient)
        return mailbox_wait(d->m, transfer, in_ms(20000), msg, len);
    return mailbox_wait_or_give_up(d->m, transfer, 0, msg, len);
}

static void duel(bool impatient)
{
    struct fixture f;
    struct duel d = { .m = make(&f), .impatient = impatient };
    int came = 0;
    pthread_barrier_init(&d.frame, NULL, 2);
    pthread_t writer;
    cr_assert_eq(pthread_create(&writer, NULL, write_frames, &d), 0);
    for (int frame = 0; frame < FRAMES; frame++) {
        pthread_barrier_wait(&d.frame);
        for (int32_t t = 1; t < TRANSFERS; t += 2) {
            const uint8_t *msg;
            size_t len;
            const int err = read_message(&d, t, &msg, &len);
            cr_assert(err == 0 || (impatient && err == -ETIME));
            for (size_t i = 0; err == 0 && i < len; i++)
                cr_assert_eq(msg[i], (uint8_t)(frame + t), "frame %d transfer %d", frame, t);
            came += err == 0;
        }
        pthread_barrier_wait(&d.frame);
        mailbox_clear(d.m);
    }
    cr_assert(impatient ? came < FRAMES * TRANSFERS / 2 : came == FRAMES * TRANSFERS / 2);
    pthread_join(writer, NULL);
    pthread_barrier_destroy(&d.frame);
    end(&f, d.m);
}

Test(mailbox, frames_pass_between_threads, .timeout = 60) { duel(false); }
/* Whatever comes is whole and of its frame. */
Test(mailbox, an_impatient_reader_gets_whole_messages, .timeout = 60) { duel(true); }
