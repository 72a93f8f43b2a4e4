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

/* ---- Many frames between two threads: nothing lost, nothing torn, no sleep for ever ---- */

enum { FRAMES = 3000 };

struct duel {
    struct mailbox *m;
    pthread_barrier_t frame;
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
            memset(to, frame + t, cap);
            mailbox_post(d->m, t, cap);
        }
        pthread_barrier_wait(&d->frame);
    }
    return NULL;
}

Test(mailbox, frames_pass_between_threads, .timeout = 60)
{
    struct fixture f;
    struct duel d = { .m = make(&f) };
    pthread_barrier_init(&d.frame, NULL, 2);
    pthread_t writer;
    cr_assert_eq(pthread_create(&writer, NULL, write_frames, &d), 0);
    for (int frame = 0; frame < FRAMES; frame++) {
        pthread_barrier_wait(&d.frame);
        for (int32_t t = 1; t < TRANSFERS; t += 2) {
            const uint8_t *msg;
            size_t len;
            cr_assert_eq(mailbox_wait(d.m, t, in_ms(20000), &msg, &len), 0);
            for (size_t i = 0; i < len; i++)
                cr_assert_eq(msg[i], (uint8_t)(frame + t), "frame %d transfer %d", frame, t);
        }
        pthread_barrier_wait(&d.frame);
        mailbox_clear(d.m);
    }
    pthread_join(writer, NULL);
    pthread_barrier_destroy(&d.frame);
    end(&f, d.m);
}
