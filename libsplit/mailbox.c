#include "libsplit/mailbox.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libsplit/clock.h"
#include "libsplit/futex.h"
#include "quant/codec.h"

/* Polls before the reader sleeps: some microseconds, about what a sleep and a wake-up cost. */
enum { SPINS = 2000 };

enum { NO_SLOT = -1 };

enum slot_state {
    SLOT_EMPTY,
    SLOT_CLAIMED,
    SLOT_POSTED,
    SLOT_GIVEN_UP, /* no more is taken in this frame */
    SLOT_LATE,     /* the same, and what was claimed before is being written */
    SLOT_STALE,    /* what an earlier frame gave up is being written */
};

struct slot {
    _Atomic int state; /* POSTED publishes `len` and the bytes */
    size_t cap, len;
    uint8_t *data;
};

struct mailbox {
    int32_t ntransfers, nslots;
    int32_t *slot_of; /* [ntransfers], NO_SLOT where the program receives nothing */
    struct slot *slot;
    uint8_t *store;
    size_t bytes;
    int spins;
    _Atomic bool cancelled;
    /* The reader sleeps until `events` changes; a writer that sees no sleeper saves the call. */
    _Atomic uint32_t events;
    _Atomic int sleepers;
};

static size_t slot_bytes(const struct step *s, const struct geometry *g)
{
    return codec_bound((size_t)box_values(s->box) * (size_t)g->tensor[s->what].batch);
}

/* Gives every RECV a slot. */
static void lay_out(struct mailbox *m, const struct program *pr, const struct geometry *g)
{
    uint8_t *data = m->store;
    for (int32_t t = 0; t < m->ntransfers; t++)
        m->slot_of[t] = NO_SLOT;
    int32_t n = 0;
    for (int32_t i = 0; i < pr->nsteps; i++) {
        if (pr->step[i].kind != STEP_RECV)
            continue;
        struct slot *s = &m->slot[n];
        s->cap = slot_bytes(&pr->step[i], g);
        s->data = data;
        data += s->cap;
        m->slot_of[pr->step[i].transfer] = n++;
    }
}

struct mailbox *mailbox_new(const struct program *pr, const struct geometry *g)
{
    struct mailbox *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->ntransfers = pr->ntransfers;
    for (int32_t i = 0; i < pr->nsteps; i++)
        if (pr->step[i].kind == STEP_RECV) {
            m->nslots++;
            m->bytes += slot_bytes(&pr->step[i], g);
        }
    m->spins = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SPINS : 0;
    m->slot_of = calloc((size_t)m->ntransfers + 1, sizeof(*m->slot_of));
    m->slot = calloc((size_t)m->nslots + 1, sizeof(*m->slot));
    m->store = malloc(m->bytes + 1);
    if (!m->slot_of || !m->slot || !m->store) {
        mailbox_free(m);
        return NULL;
    }
    memset(m->store, 0, m->bytes); /* no page faults in the first frame */
    lay_out(m, pr, g);
    return m;
}

void mailbox_free(struct mailbox *m)
{
    if (!m)
        return;
    free(m->store);
    free(m->slot);
    free(m->slot_of);
    free(m);
}

static struct slot *slot_of(struct mailbox *m, int32_t transfer)
{
    if (transfer < 0 || transfer >= m->ntransfers || m->slot_of[transfer] == NO_SLOT)
        return NULL;
    return &m->slot[m->slot_of[transfer]];
}

/* After a change that the reader may sleep for.  The order "events, then sleepers" here and
 * "sleepers, then events" in mailbox_wait() makes sure that one of the two sees the other. */
static void announce(struct mailbox *m)
{
    atomic_fetch_add(&m->events, 1);
    if (atomic_load(&m->sleepers) > 0)
        futex_wake_all(&m->events);
}

/* Moves `s` from its state i to to[i], which it returns. */
static int change(struct slot *s, const int to[])
{
    int state = atomic_load(&s->state);
    while (!atomic_compare_exchange_weak(&s->state, &state, to[state]))
        ;
    return to[state];
}

/* A claim of `s` is over: to `now`, unless it was given up. */
static void end_claim(struct slot *s, enum slot_state now)
{
    const int to[] = {
        [SLOT_CLAIMED] = (int)now, [SLOT_LATE] = SLOT_GIVEN_UP, [SLOT_STALE] = SLOT_EMPTY
    };
    change(s, to);
}

uint8_t *mailbox_claim(struct mailbox *m, int32_t transfer, size_t len)
{
    struct slot *s = slot_of(m, transfer);
    int empty = SLOT_EMPTY;
    if (!s || len > s->cap || atomic_load(&m->cancelled) ||
        !atomic_compare_exchange_strong(&s->state, &empty, SLOT_CLAIMED))
        return NULL;
    return s->data;
}

void mailbox_post(struct mailbox *m, int32_t transfer, size_t len)
{
    struct slot *s = slot_of(m, transfer);
    s->len = len;
    end_claim(s, SLOT_POSTED);
    announce(m);
}

void mailbox_abandon(struct mailbox *m, int32_t transfer)
{
    end_claim(slot_of(m, transfer), SLOT_EMPTY);
}

bool mailbox_filling(struct mailbox *m)
{
    for (int32_t i = 0; i < m->nslots; i++)
        if (atomic_load(&m->slot[i].state) == SLOT_CLAIMED)
            return true;
    return false;
}

bool mailbox_gave_up(struct mailbox *m, int32_t transfer)
{
    const int state = atomic_load(&slot_of(m, transfer)->state);
    return state == SLOT_GIVEN_UP || state == SLOT_LATE;
}

static bool is_posted(struct slot *s)
{
    return atomic_load_explicit(&s->state, memory_order_acquire) == SLOT_POSTED;
}

/* Returns 0 when `s` is posted, -ECANCELED, or -EAGAIN when there is nothing yet. */
static int look(struct mailbox *m, struct slot *s)
{
    if (is_posted(s))
        return 0;
    return atomic_load(&m->cancelled) ? -ECANCELED : -EAGAIN;
}

static int sleep_until_posted(struct mailbox *m, struct slot *s, int64_t deadline_ns)
{
    int err;
    atomic_fetch_add(&m->sleepers, 1);
    for (;;) {
        const uint32_t seen = atomic_load(&m->events);
        err = look(m, s);
        if (err != -EAGAIN)
            break;
        if (clock_ns() >= deadline_ns) {
            err = -ETIMEDOUT;
            break;
        }
        futex_wait(&m->events, seen, deadline_ns);
    }
    atomic_fetch_sub(&m->sleepers, 1);
    return err;
}

int mailbox_wait(struct mailbox *m, int32_t transfer, int64_t deadline_ns, const uint8_t **msg,
                 size_t *len)
{
    struct slot *s = slot_of(m, transfer);
    if (!s)
        return -EINVAL;
    int err = look(m, s);
    for (int i = 0; err == -EAGAIN && i < m->spins; i++)
        err = look(m, s);
    if (err == -EAGAIN)
        err = sleep_until_posted(m, s, deadline_ns);
    if (err)
        return err;
    *msg = s->data;
    *len = s->len;
    return 0;
}

/* False: it has just come, and is not given up. */
static bool give_up(struct slot *s)
{
    static const int to[] = {
        [SLOT_EMPTY] = SLOT_GIVEN_UP,    [SLOT_CLAIMED] = SLOT_LATE, [SLOT_POSTED] = SLOT_POSTED,
        [SLOT_GIVEN_UP] = SLOT_GIVEN_UP, [SLOT_LATE] = SLOT_LATE,    [SLOT_STALE] = SLOT_LATE,
    };
    return change(s, to) != SLOT_POSTED;
}

int mailbox_wait_or_give_up(struct mailbox *m, int32_t transfer, int64_t deadline_ns,
                            const uint8_t **msg, size_t *len)
{
    const int err = mailbox_wait(m, transfer, deadline_ns, msg, len);
    if (err != -ETIMEDOUT)
        return err;
    return give_up(slot_of(m, transfer)) ? -ETIME : mailbox_wait(m, transfer, 0, msg, len);
}

bool mailbox_ready(struct mailbox *m, int32_t transfer)
{
    struct slot *s = slot_of(m, transfer);
    return !s || look(m, s) != -EAGAIN;
}

int mailbox_full(struct mailbox *m)
{
    for (int32_t i = 0; i < m->nslots; i++)
        if (!is_posted(&m->slot[i]))
            return 0;
    return 1;
}

void mailbox_cancel(struct mailbox *m)
{
    atomic_store(&m->cancelled, true);
    announce(m);
}

void mailbox_clear(struct mailbox *m)
{
    static const int to[] = {
        [SLOT_EMPTY] = SLOT_EMPTY,    [SLOT_CLAIMED] = SLOT_EMPTY, [SLOT_POSTED] = SLOT_EMPTY,
        [SLOT_GIVEN_UP] = SLOT_EMPTY, [SLOT_LATE] = SLOT_STALE,    [SLOT_STALE] = SLOT_STALE,
    };
    for (int32_t i = 0; i < m->nslots; i++)
        change(&m->slot[i], to);
    atomic_store(&m->cancelled, false);
}

size_t mailbox_bytes(const struct mailbox *m) { return m->bytes; }
