#include "daemon/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int saved, reading;

/* Turns stderr into a pipe that log_text() reads. */
static void capture(void)
{
    int fd[2];
    cr_assert(pipe2(fd, O_NONBLOCK) == 0);
    saved = dup(STDERR_FILENO);
    cr_assert(saved >= 0 && dup2(fd[1], STDERR_FILENO) >= 0);
    close(fd[1]);
    reading = fd[0];
}

static void release(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(reading);
}

static const char *log_text(void)
{
    static char text[65536];
    const ssize_t n = read(reading, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

TestSuite(log, .init = capture, .fini = release);

Test(log, a_line_is_level_event_and_values)
{
    unsetenv("JOURNAL_STREAM");
    log_init(LOG_DEBUG);
    log_event(LOG_WARN, "node-lost", "node=%s silent_ms=%d", "pi3", 512);
    cr_assert_str_eq(log_text(), "warn node-lost node=pi3 silent_ms=512\n");
    log_event(LOG_DEBUG, "ready", "%s", "");
    cr_assert_str_eq(log_text(), "debug ready \n");
}

Test(log, lines_below_the_level_are_left_out)
{
    log_init(LOG_WARN);
    log_event(LOG_INFO, "quiet", "a=%d", 1);
    cr_assert_str_eq(log_text(), "");
}

Test(log, the_journal_gets_priorities)
{
    char stream[64];
    struct stat s;

    cr_assert_eq(fstat(STDERR_FILENO, &s), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)s.st_dev, (uintmax_t)s.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init(LOG_INFO);
    log_event(LOG_ERROR, "broken", "a=%d", 1);
    cr_assert_str_eq(log_text(), "<3>error broken a=1\n");
    log_event(LOG_WARN, "odd", "%s", "");
    cr_assert_str_eq(log_text(), "<4>warn odd \n");
    log_failure("cluster.json: not JSON");
    cr_assert_str_eq(log_text(), "<3>splitd: cluster.json: not JSON\n");
}

/* The variable is inherited by everything that a service starts. */
Test(log, what_is_not_the_journal_gets_none)
{
    setenv("JOURNAL_STREAM", "8:123", 1);
    log_init(LOG_INFO);
    log_event(LOG_ERROR, "broken", "a=%d", 1);
    cr_assert_str_eq(log_text(), "error broken a=1\n");
    log_failure("it is over");
    cr_assert_str_eq(log_text(), "splitd: it is over\n");
}

/* A peer's name must not forge a line or move the cursor of a terminal. */
Test(log, values_cannot_forge_lines)
{
    log_init(LOG_INFO);
    log_event(LOG_INFO, "hello", "name=%s", "a\nerror forged\x1b[2J\x7f");
    const char *text = log_text();
    cr_assert_eq(lines(text), 1);
    cr_assert(strstr(text, "name=a?error forged?[2J?\n"), "%s", text);
}

Test(log, a_long_line_is_cut_and_ends)
{
    char value[5000];
    log_init(LOG_INFO);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    log_event(LOG_INFO, "long", "value=%s", value);
    const char *text = log_text();
    cr_assert_eq(lines(text), 1);
    cr_assert(strlen(text) > 500 && strlen(text) <= 1024, "%zu", strlen(text));
    cr_assert_eq(text[strlen(text) - 1], '\n');
}

Test(log, an_event_word_has_a_rate)
{
    log_init(LOG_INFO);
    for (int i = 0; i < 200; i++)
        log_event(LOG_INFO, "often", "i=%d", i);
    log_event(LOG_INFO, "seldom", "i=%d", 1);
    const char *text = log_text();
    /* Twice the limit when the second changes on the way. */
    cr_assert(lines(text) >= 21 && lines(text) <= 41, "%d", lines(text));
    cr_assert(strstr(text, "seldom"), "another word suffered too");
    usleep(1100 * 1000);
    log_event(LOG_INFO, "often", "i=%d", 200);
    cr_assert(strstr(log_text(), "left_out="), "what was left out is not counted");
}
