#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/http_guard.h"

/* A visitor whose other end is `client`. */
struct meeting {
    struct visitor v;
    int server, client;
};

static void enter(struct guard *g, struct meeting *m, uint64_t now_ms)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    m->server = pair[0];
    m->client = pair[1];
    guard_enter(g, &m->v, m->server, now_ms);
}

static void leave(struct guard *g, struct meeting *m)
{
    guard_leave(g, &m->v);
    close(m->server);
    close(m->client);
}

static bool was_sent_away(const struct meeting *m)
{
    char byte;
    return recv(m->client, &byte, 1, MSG_DONTWAIT) == 0;
}

Test(http_guard, a_request_has_ten_seconds_to_come)
{
    struct guard g = { .most = 8 };
    struct meeting quick, slow;

    enter(&g, &quick, 1000);
    enter(&g, &slow, 1000);
    guard_sweep(&g, 10999);
    cr_expect_not(was_sent_away(&slow));
    guard_begin_body(&quick.v, 10999);
    guard_wait(&quick.v);
    guard_sweep(&g, 11000);
    cr_expect(was_sent_away(&slow));
    guard_sweep(&g, 1000000);
    cr_expect_not(was_sent_away(&quick), "it waits for us");
    guard_answer(&quick.v, 0, 1000000);
    guard_expect_head(&quick.v, 1000010);
    guard_sweep(&g, 1010009);
    cr_expect_not(was_sent_away(&quick));
    guard_sweep(&g, 1010010);
    cr_expect(was_sent_away(&quick), "nothing came on a connection that was kept");
    leave(&g, &quick);
    leave(&g, &slow);
    cr_expect_eq(g.count, 0);
    cr_expect_null(g.visitors);
}

Test(http_guard, bytes_buy_time)
{
    struct guard g = { .most = 8 };
    struct meeting steady, trickling, reading, stuck;

    enter(&g, &steady, 0);
    enter(&g, &trickling, 0);
    enter(&g, &reading, 0);
    enter(&g, &stuck, 0);
    guard_begin_body(&steady.v, 0);
    guard_begin_body(&trickling.v, 0);
    guard_answer(&reading.v, 160000, 0); /* 20 s */
    guard_answer(&stuck.v, 1000, 0);
    for (uint64_t now = 1000; now <= 29000; now += 1000) {
        guard_got_body(&steady.v, (size_t)now * 8);
        guard_got_body(&trickling.v, (size_t)now / 1000);
        guard_sweep(&g, now);
        cr_expect_eq(was_sent_away(&trickling), now >= 11000, "at %d", (int)now);
        cr_expect_eq(was_sent_away(&stuck), now >= 11000, "at %d", (int)now);
        cr_expect_not(was_sent_away(&steady));
        cr_expect_not(was_sent_away(&reading));
    }
    guard_sweep(&g, 30000);
    cr_expect(was_sent_away(&reading));
    leave(&g, &trickling);
    leave(&g, &steady);
    leave(&g, &stuck);
    leave(&g, &reading);
}

Test(http_guard, the_slowest_makes_room)
{
    enum { MOST = 4 };
    struct guard g = { .most = MOST };
    struct meeting m[MOST + 2];

    for (int i = 0; i < MOST; i++)
        enter(&g, &m[i], (uint64_t)i);
    guard_wait(&m[0].v); /* for us: not slow */
    enter(&g, &m[MOST], 10);
    enter(&g, &m[MOST + 1], 10);
    for (int i = 0; i < MOST + 2; i++)
        cr_expect_eq(was_sent_away(&m[i]), i == 1 || i == 2, "%d", i);
    for (int i = 0; i < MOST + 2; i++)
        leave(&g, &m[i]);
    cr_expect_eq(g.count, 0);
}
