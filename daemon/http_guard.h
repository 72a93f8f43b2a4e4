/* daemon/http_guard.h - sends away clients that take too long, and the slowest when there are too
 * many.
 *
 * A visitor is a connection.  While it sends, or takes its answer, it has ten seconds and must then
 * have moved 8 KB a second on average: one that sends a byte now and then is as good as silent.
 * When more than `most` are there, the one that has been at it for longest goes.  Who waits for us
 * is left in peace.  To be sent away is to have the socket shut down: whoever owns it notices and
 * calls guard_leave().
 *
 * Loop thread.  Times are those of uv_now(). */
#ifndef DAEMON_HTTP_GUARD_H
#define DAEMON_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum visit_phase { VISIT_HEAD, VISIT_BODY, VISIT_WAITS, VISIT_ANSWER };

struct visitor {
    struct visitor *next, **link;
    int fd;
    enum visit_phase phase;
    uint64_t since_ms, until_ms; /* of the phase */
    bool gone;                   /* sent away */
};

struct guard {
    struct visitor *visitors;
    int32_t count, most;
};

enum { VISITOR_REMOTE_BYTES = 80 };
/* Where the client is, as "host:port" in numbers, "?:?" where that is not known; returns `to`. */
const char *visitor_remote(const struct visitor *v, char to[VISITOR_REMOTE_BYTES]);

/* `v` is the caller's and stays where it is until guard_leave(). */
void guard_enter(struct guard *g, struct visitor *v, int fd, uint64_t now_ms);
void guard_leave(struct guard *g, struct visitor *v);

void guard_expect_head(struct visitor *v,
                       uint64_t now_ms); /* of the next request, if there is one */
void guard_begin_body(struct visitor *v, uint64_t now_ms);
void guard_got_body(struct visitor *v, size_t bytes); /* so far */
void guard_wait(struct visitor *v);
void guard_answer(struct visitor *v, size_t bytes, uint64_t now_ms);

/* Sends away whose time is up; to be called some times a second. */
void guard_sweep(struct guard *g, uint64_t now_ms);

#endif
