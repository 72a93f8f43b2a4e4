/* test/arm64/criterion/criterion.h - as much of Criterion as the kernels' tests need, for machines
 * that have none: each Test() runs in turn, the first failure ends the program. */
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
    const char *name;
    void (*run)(void);
    struct test *next;
};

void test_add(struct test *t);

#define Test(suite, name, ...)                                                                     \
    static void test_##suite##_##name(void);                                                       \
    static struct test test_##suite##_##name##_test = { #suite "::" #name, test_##suite##_##name,  \
                                                        NULL };                                    \
    __attribute__((constructor)) static void test_##suite##_##name##_add(void)                     \
    {                                                                                              \
        test_add(&test_##suite##_##name##_test);                                                   \
    }                                                                                              \
    static void test_##suite##_##name(void)

#define cr_assert(condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n    ", __FILE__, __LINE__, #condition);                    \
            fprintf(stderr, " " __VA_ARGS__);                                                      \
            fprintf(stderr, "\n");                                                                 \
            exit(1);                                                                               \
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

/* Criterion goes on after these. */
#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq

#endif
