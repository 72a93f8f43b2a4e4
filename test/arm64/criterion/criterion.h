/* test/arm64/criterion/criterion.h - as much of Criterion as the unit tests need, for a machine
 * that is emulated: Criterion starts its own program again for every test, and an emulator that was
 * not registered with the kernel cannot.  Here a test is a process, too, but a fork.
 *
 * The first assertion or expectation that fails ends its test. */
#ifndef TEST_ARM64_CRITERION_H
#define TEST_ARM64_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
    const char *suite, *name; /* of a suite's own options: name NULL */
    void (*run)(void);
    void (*init)(void), (*fini)(void); /* of suites: around each of their tests */
    double timeout;                    /* not kept: it is meant for real machines */
    struct test *next;
};

/* Before main(). */
void test_add(struct test *t);
/* End the test. */
_Noreturn void test_fail(void);
_Noreturn void test_skip(void);

#define TEST_REGISTER(id)                                                                          \
    __attribute__((constructor)) static void add_##id(void) { test_add(&id); }

#define Test(suite_, name_, ...)                                                                   \
    static void run_##suite_##_##name_(void);                                                      \
    static struct test test_##suite_##_##name_ = {                                                 \
        .suite = #suite_, .name = #name_, .run = run_##suite_##_##name_, __VA_ARGS__               \
    };                                                                                             \
    TEST_REGISTER(test_##suite_##_##name_)                                                         \
    static void run_##suite_##_##name_(void)

#define TestSuite(suite_, ...)                                                                     \
    static struct test suite_##suite_ = { .suite = #suite_, __VA_ARGS__ };                         \
    TEST_REGISTER(suite_##suite_)

#define cr_skip_test(...)                                                                          \
    do {                                                                                           \
        fprintf(stderr, "skipped: " __VA_ARGS__);                                                  \
        fprintf(stderr, "\n");                                                                     \
        test_skip();                                                                               \
    } while (0)

#define cr_assert(condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n    ", __FILE__, __LINE__, #condition);                    \
            fprintf(stderr, " " __VA_ARGS__);                                                      \
            fprintf(stderr, "\n");                                                                 \
            test_fail();                                                                           \
        }                                                                                          \
    } while (0)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...) cr_assert((a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...) cr_assert((a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...) cr_assert((a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...) cr_assert((a) >= (b), __VA_ARGS__)
#define cr_assert_not(condition, ...) cr_assert(!(condition), __VA_ARGS__)
#define cr_assert_null(p, ...) cr_assert((p) == NULL, __VA_ARGS__)
#define cr_assert_not_null(p, ...) cr_assert((p) != NULL, __VA_ARGS__)
#define cr_assert_fail(...) cr_assert(0, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(strcmp(a, b) == 0, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, len, ...) cr_assert(memcmp(a, b, len) == 0, __VA_ARGS__)
#define cr_assert_float_eq(a, b, tolerance, ...)                                                   \
    cr_assert(fabs((double)(a) - (double)(b)) <= (tolerance), __VA_ARGS__)

#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq
#define cr_expect_neq cr_assert_neq
#define cr_expect_lt cr_assert_lt
#define cr_expect_leq cr_assert_leq
#define cr_expect_gt cr_assert_gt
#define cr_expect_geq cr_assert_geq
#define cr_expect_not cr_assert_not
#define cr_expect_null cr_assert_null
#define cr_expect_not_null cr_assert_not_null
#define cr_expect_str_eq cr_assert_str_eq
#define cr_expect_arr_eq cr_assert_arr_eq
#define cr_expect_float_eq cr_assert_float_eq

#endif
