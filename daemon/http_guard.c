#include "daemon/http_guard.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

#include "daemon/log.h"

enum { GRACE_MS = 10000, BYTES_PER_MS = 8 };

static void set_phase(struct visitor *v, enum visit_phase phase, uint64_t now_ms)
{
    v->phase = phase;
    v->since_ms = now_ms;
    v->until_ms = now_ms + GRACE_MS;
}

const char *visitor_remote(const struct visitor *v, char to[VISITOR_REMOTE_BYTES])
{
    struct sockaddr_storage at = { 0 };
    socklen_t len = sizeof at;
    char host[64] = "?", port[8] = "?";

    if (getpeername(v->fd, (struct sockaddr *)&at, &len) == 0)
        (void)getnameinfo((struct sockaddr *)&at, len, host, sizeof host, port, sizeof port,
                          NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(to, VISITOR_REMOTE_BYTES, "%s:%s", host, port);
    return to;
}

static void send_away(struct visitor *v, const char *why)
{
    char remote[VISITOR_REMOTE_BYTES];

    v->gone = true;
    log_event(LOG_WARN, "http-cut-off", "remote=%s reason=\"%s\"", visitor_remote(v, remote), why);
    (void)shutdown(v->fd, SHUT_RDWR);
}

/* Of those who keep us waiting, the one that has done so for longest. */
static struct visitor *slowest(const struct guard *g)
{
    struct visitor *found = NULL;

    for (struct visitor *v = g->visitors; v; v = v->next)
        if (!v->gone && v->phase != VISIT_WAITS && (!found || v->since_ms <= found->since_ms))
            found = v; /* the last in the list came first */
    return found;
}

void guard_enter(struct guard *g, struct visitor *v, int fd, uint64_t now_ms)
{
    *v = (struct visitor){ .fd = fd, .next = g->visitors, .link = &g->visitors };
    set_phase(v, VISIT_HEAD, now_ms);
    if (g->visitors)
        g->visitors->link = &v->next;
    g->visitors = v;
    g->count++;
    struct visitor *out = g->count > g->most ? slowest(g) : NULL;
    if (out)
        send_away(out, "too many clients at once");
}

void guard_leave(struct guard *g, struct visitor *v)
{
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    g->count--;
}

void guard_expect_head(struct visitor *v, uint64_t now_ms) { set_phase(v, VISIT_HEAD, now_ms); }
void guard_begin_body(struct visitor *v, uint64_t now_ms) { set_phase(v, VISIT_BODY, now_ms); }

void guard_got_body(struct visitor *v, size_t bytes)
{
    v->until_ms = v->since_ms + GRACE_MS + bytes / BYTES_PER_MS;
}

void guard_wait(struct visitor *v) { v->phase = VISIT_WAITS; }

void guard_answer(struct visitor *v, size_t bytes, uint64_t now_ms)
{
    set_phase(v, VISIT_ANSWER, now_ms);
    v->until_ms += bytes / BYTES_PER_MS;
}

void guard_sweep(struct guard *g, uint64_t now_ms)
{
    static const char *const why[] = { [VISIT_HEAD] = "no complete request within 10 s",
                                       [VISIT_BODY] = "sends less than 8 KB a second",
                                       [VISIT_ANSWER] = "does not take its answer" };

    for (struct visitor *v = g->visitors; v; v = v->next)
        if (!v->gone && v->phase != VISIT_WAITS && now_ms >= v->until_ms)
            send_away(v, why[v->phase]);
}
