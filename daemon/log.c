#include "daemon/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_BYTES = 1024,
    EVENT_WORDS = 128, /* event words whose rate is watched; a program has fewer */
    PER_SECOND = 20,
};

/* How often an event word was written in the current second. */
struct rate {
    const char *event;
    time_t second;
    unsigned written, left_out;
};

/* The one global of the process: every thread reports through it. */
static struct {
    pthread_mutex_t lock;
    enum log_level least;
    bool journal; /* it journal wants a priority before each line */
    struct rate rate[EVENT_WORDS];
} logger = { .lock = PTHREAD_MUTEX_INITIALIZER, .least = LOG_INFO };

static const struct {
    const char *name;
    int priority; /* syslog(3) */
} levels[] = {
    [LOG_DEBUG] = { "debug", 7 },
    [LOG_INFO] = { "info", 6 },
    [LOG_WARN] = { "warn", 4 },
    [LOG_ERROR] = { "error", 3 },
};

/* The variable names the journal's end of a socket; whoever started us may have put something else
 * in place of it and left the variable. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char mine[64];
    struct stat s;

    if (!stream || fstat(STDERR_FILENO, &s) < 0)
        return false;
    snprintf(mine, sizeof mine, "%ju:%ju", (uintmax_t)s.st_dev, (uintmax_t)s.st_ino);
    return strcmp(stream, mine) == 0;
}

void log_init(enum log_level least)
{
    pthread_mutex_lock(&logger.lock);
    logger.least = least;
    logger.journal = stderr_is_journal();
    pthread_mutex_unlock(&logger.lock);
}

/* The entry of `event`, a new one if it was never seen, NULL when the table is full. */
static struct rate *rate_of(const char *event)
{
    for (size_t i = 0; i < EVENT_WORDS; i++) {
        struct rate *r = &logger.rate[i];
        if (!r->event)
            r->event = event;
        if (strcmp(r->event, event) == 0)
            return r;
    }
    return NULL;
}

/* True when the event may be written now; `*left_out` is how many before it were not. */
static int admit(const char *event, unsigned *left_out)
{
    struct rate *r = rate_of(event);
    struct timespec now;

    *left_out = 0;
    if (!r)
        return 1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (r->second != now.tv_sec) {
        r->second = now.tv_sec;
        r->written = 0;
    }
    if (r->written >= PER_SECOND) {
        r->left_out++;
        return 0;
    }
    r->written++;
    *left_out = r->left_out;
    r->left_out = 0;
    return 1;
}

/* A line may not be forged by what a peer or a file put into a value. */
static void replace_controls(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

/* Adds formatted text at `*at`, cut off so that a newline still fits. */
__attribute__((format(printf, 3, 0))) static void add(char *line, size_t *at, const char *fmt,
                                                      va_list args)
{
    const size_t room = LINE_BYTES - 1 - *at;
    const int n = vsnprintf(line + *at, room, fmt, args);

    if (n > 0)
        *at += (size_t)n < room ? (size_t)n : room - 1;
}

__attribute__((format(printf, 3, 4))) static void addf(char *line, size_t *at, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add(line, at, fmt, args);
    va_end(args);
}

/* One write a line, so that lines of several threads do not mix.  There is nobody to tell when
 * stderr is gone. */
static void end_line(char *line, size_t at)
{
    replace_controls(line);
    line[at++] = '\n';
    if (write(STDERR_FILENO, line, at) < 0)
        return;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    char line[LINE_BYTES];
    size_t at = 0;
    unsigned left_out;
    va_list args;

    pthread_mutex_lock(&logger.lock);
    const int wanted = level >= logger.least && admit(event, &left_out);
    const bool journal = logger.journal;
    pthread_mutex_unlock(&logger.lock);
    if (!wanted)
        return;

    if (journal)
        addf(line, &at, "<%d>", levels[level].priority);
    addf(line, &at, "%s %s", levels[level].name, event);
    if (*fmt) {
        addf(line, &at, " ");
        va_start(args, fmt);
        add(line, &at, fmt, args);
        va_end(args);
    }
    if (left_out > 0)
        addf(line, &at, " left_out=%u", left_out);
    end_line(line, at);
}

void log_failure(const char *sentence)
{
    char line[LINE_BYTES];
    size_t at = 0;

    pthread_mutex_lock(&logger.lock);
    const bool journal = logger.journal;
    pthread_mutex_unlock(&logger.lock);
    if (journal)
        addf(line, &at, "<%d>", levels[LOG_ERROR].priority);
    addf(line, &at, "splitd: %s", sentence);
    end_line(line, at);
}
