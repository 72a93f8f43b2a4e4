#include "libsplit/resident.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const size_t sizes[] = {
    0, 1, 63, 64, 4096, 65535, 65536, 100000, 2 << 20, 5000001, 9 << 20
};
enum { SIZES = sizeof sizes / sizeof sizes[0], MB = 1 << 20 };

Test(resident, blocks_are_zeroed_aligned_and_apart)
{
    uint8_t *block[SIZES];

    for (int i = 0; i < SIZES; i++) {
        block[i] = resident_alloc(sizes[i]);
        cr_assert_not_null(block[i]);
        cr_assert_eq((uintptr_t)block[i] % RESIDENT_ALIGN, 0);
        for (size_t b = 0; b < sizes[i]; b++)
            cr_assert_eq(block[i][b], 0);
        memset(block[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < SIZES; i++) {
        for (size_t b = 0; b < sizes[i]; b++)
            cr_assert_eq(block[i][b], i + 1);
        resident_free(block[i]);
    }
}

Test(resident, what_no_machine_has_is_null)
{
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("AddressSanitizer ends a process that asks for so much");
#endif
    cr_assert_null(resident_alloc(SIZE_MAX));
    cr_assert_null(resident_alloc(SIZE_MAX / 2));
    resident_free(NULL);
}

/* KB of this process that are locked; -1 if the kernel does not say. */
static long locked_kb(void)
{
    char line[128];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        (void)sscanf(line, "VmLck: %ld kB", &kb);
    if (f)
        fclose(f);
    return kb;
}

static bool may_lock(rlim_t bytes)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur >= bytes && locked_kb() == 0;
}

Test(resident, large_blocks_are_locked_when_asked_for)
{
    if (!may_lock(4 * MB))
        cr_skip_test("this process may not lock memory, or /proc does not say how much it has");
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("under AddressSanitizer blocks are malloc's");
#endif
    void *loose = resident_alloc(MB);
    cr_assert_eq(locked_kb(), 0);
    resident_keep(true);
    void *kept = resident_alloc(3 * MB);
    cr_assert(locked_kb() >= 3 * 1024 && locked_kb() <= 3 * 1024 + 64, "%ld KB", locked_kb());
    resident_free(kept);
    cr_assert_eq(locked_kb(), 0);
    resident_free(loose);
    resident_keep(false);
}

Test(resident, beyond_the_limit_blocks_are_not_locked)
{
    if (!may_lock(2 * MB))
        cr_skip_test("this process may not lock memory, or /proc does not say how much it has");
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    limit.rlim_cur = 2 * MB;
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    resident_keep(true);
    uint8_t *block = resident_alloc((size_t)64 * MB);
    cr_assert_not_null(block);
    block[(size_t)64 * MB - 1] = 1; /* there all the same; root is not bound by the limit */
    resident_free(block);
    cr_assert_eq(locked_kb(), 0);
    resident_keep(false);
}
