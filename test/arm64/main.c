/* Runs unit tests one after the other, each in a process of its own, and says how long each took.
 *
 *   test-libsplit [[-]SUITE/NAME]...     all, or those that fit patterns of the shell; '-': without
 */
#include <fnmatch.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "criterion/criterion.h"

enum { FAILED = 1, SKIPPED = 77 };

static struct test *first, **last = &first;

void test_add(struct test *t)
{
    *last = t;
    last = &t->next;
}

void test_fail(void) { _exit(FAILED); }

void test_skip(void) { _exit(SKIPPED); }

/* Whether the last pattern that fits says so; without a pattern, or with ones that only leave out,
 * everything else is wanted. */
static bool is_wanted(const struct test *t, char *const *patterns, int n)
{
    char name[256];
    bool wanted = n == 0 || patterns[0][0] == '-';

    snprintf(name, sizeof name, "%s/%s", t->suite, t->name);
    for (int i = 0; i < n; i++) {
        const bool out = patterns[i][0] == '-';
        if (fnmatch(patterns[i] + out, name, 0) == 0)
            wanted = !out;
    }
    return wanted;
}

static const struct test *suite_of(const struct test *t)
{
    static const struct test none;

    for (const struct test *s = first; s; s = s->next)
        if (!s->name && strcmp(s->suite, t->suite) == 0)
            return s;
    return &none;
}

/* In the child. */
static void run(const struct test *t)
{
    const struct test *suite = suite_of(t);

    if (suite->init)
        suite->init();
    t->run();
    if (suite->fini)
        suite->fini();
    exit(0);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The test's exit code; its signal as a negative number. */
static int run_apart(const struct test *t)
{
    int status;

    fflush(stdout);
    const pid_t child = fork();
    if (child == 0)
        run(t);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0, skipped = 0;

    for (const struct test *t = first; t; t = t->next) {
        if (!t->name || !is_wanted(t, argv + 1, argc - 1))
            continue;
        const double begin = seconds();
        const int rc = run_apart(t);
        passed += rc == 0;
        skipped += rc == SKIPPED;
        failed += rc != 0 && rc != SKIPPED;
        printf("%s: %s/%s, %.1f s\n",
               rc == 0         ? "passed"
               : rc == SKIPPED ? "skipped"
                               : "FAILED",
               t->suite, t->name, seconds() - begin);
        if (rc < 0)
            printf("    signal %d\n", -rc);
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed > 0 || passed == 0;
}
