#include "daemon/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 3 * MODEL_CHUNK_BYTES + 1234 };

static char dir[64];
static uint8_t *file;
static uint8_t sha[SHA256_BYTES];

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static void setup(void)
{
    char path[128];
    struct diag why;

    strcpy(dir, "/tmp/splitd-store-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert(file = malloc(SIZE));
    for (size_t i = 0; i < SIZE; i++)
        file[i] = (uint8_t)(i * 31 + i / 251);
    snprintf(path, sizeof path, "%s/original", dir);
    write_file(path, file, SIZE);
    uint64_t size;
    cr_assert_eq(store_sha256(path, sha, &size, &why), 0);
    cr_assert_eq(size, SIZE);
}

static int delete_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void teardown(void)
{
    nftw(dir, delete_one, 8, FTW_DEPTH | FTW_PHYS);
    free(file);
}

TestSuite(store, .init = setup, .fini = teardown);

static struct store *open_store(void)
{
    char state[128];
    struct diag why = { "" };
    struct store *s;

    snprintf(state, sizeof state, "%s/var/lib", dir);
    cr_assert_eq(store_open(&s, state, &why), 0, "%s", why.text);
    return s;
}

/* How many files lie in the cache. */
static int files(void)
{
    char command[160];
    int n = -1;

    snprintf(command, sizeof command, "ls %s/var/lib/models | wc -l", dir);
    FILE *p = popen(command, "r");
    cr_assert(p && fscanf(p, "%d", &n) == 1);
    pclose(p);
    return n;
}

static int append(struct store *s, uint64_t offset, size_t len, struct diag *why)
{
    struct msg_model_chunk c = { .offset = offset, .data = file + offset, .len = len };
    memcpy(c.sha, sha, sizeof c.sha);
    return store_append(s, &c, why);
}

static int send_all(struct store *s, size_t piece, struct diag *why)
{
    int state = 0;
    for (size_t at = 0; at < SIZE && state == 0; at += piece)
        state = append(s, at, at + piece < SIZE ? piece : SIZE - at, why);
    if (state < 1)
        return state;
    struct receipt *r = store_take(s, sha);
    cr_assert(r);
    cr_assert_null(store_take(s, sha), "a file is taken twice");
    const int err = store_keep(r, why);
    return err < 0 ? err : 1;
}

Test(store, sha256_is_that_of_fips_180)
{
    static const uint8_t abc[SHA256_BYTES] = { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                               0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                               0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                               0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad };
    char path[128];
    uint8_t sum[SHA256_BYTES];
    struct diag why = { "" };

    snprintf(path, sizeof path, "%s/abc", dir);
    write_file(path, "abc", 3);
    cr_assert_eq(store_sha256(path, sum, NULL, &why), 0);
    cr_assert_arr_eq(sum, abc, sizeof abc);
    snprintf(path, sizeof path, "%s/none", dir);
    cr_assert_eq(store_sha256(path, sum, NULL, &why), -ENOENT);
    cr_assert(strstr(why.text, path), "%s", why.text);
    cr_assert_eq(store_sha256(dir, sum, NULL, &why), -EISDIR);
}

Test(store, a_file_comes_back_as_it_was)
{
    static const size_t pieces[] = { MODEL_CHUNK_BYTES, 1000, SIZE };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        char path[256], shorter[20];
        struct diag why = { "" };
        struct store *s = open_store();

        cr_assert_eq(store_find(s, sha, path, sizeof path), -ENOENT);
        cr_assert_eq(store_begin(s, sha, SIZE, &why), 0, "%s", why.text);
        cr_assert_eq(store_find(s, sha, path, sizeof path), -ENOENT, "a file half there is found");
        cr_assert_eq(send_all(s, pieces[i], &why), 1, "%s", why.text);
        cr_assert_eq(store_find(s, sha, path, sizeof path), 0);
        cr_assert_eq(store_find(s, sha, shorter, sizeof shorter), -ENOENT,
                     "a path that is cut off is no path");
        cr_assert_eq(files(), 1);

        uint8_t sum[SHA256_BYTES];
        cr_assert_eq(store_sha256(path, sum, NULL, &why), 0);
        cr_assert_arr_eq(sum, sha, sizeof sha);
        store_close(s);
        s = open_store(); /* still there after a restart */
        cr_assert_eq(store_find(s, sha, path, sizeof path), 0);
        store_close(s);
        unlink(path);
    }
}

Test(store, several_files_at_once)
{
    struct diag why = { "" };
    struct store *s = open_store();
    int taken = 0;

    for (uint8_t i = 0; i < 100; i++) {
        uint8_t other[SHA256_BYTES] = { i };
        const int err = store_begin(s, other, SIZE, &why);
        if (err == -EBUSY)
            break;
        cr_assert_eq(err, 0, "%s", why.text);
        taken++;
    }
    cr_assert(taken >= 4 && taken < 100, "%d", taken);
    store_close(s);
    cr_assert_eq(files(), 0, "unfinished files are left behind");
}

Test(store, what_is_wrong_is_forgotten)
{
    struct diag why = { "" };
    struct store *s = open_store();

    /* Not asked for. */
    cr_assert_eq(append(s, 0, 10, &why), -EBADMSG);
    /* Out of order, then as if never begun. */
    cr_assert_eq(store_begin(s, sha, SIZE, &why), 0);
    cr_assert_eq(append(s, 0, 1000, &why), 0);
    cr_assert_null(store_take(s, sha), "half a file is taken");
    cr_assert_eq(append(s, 2000, 1000, &why), -EBADMSG);
    cr_assert_eq(append(s, 1000, 1000, &why), -EBADMSG);
    /* More than was announced. */
    cr_assert_eq(store_begin(s, sha, 1500, &why), 0);
    cr_assert_eq(append(s, 0, 1000, &why), 0);
    cr_assert_eq(append(s, 1000, 501, &why), -EBADMSG);
    /* Other bytes. */
    cr_assert_eq(store_begin(s, sha, SIZE, &why), 0);
    file[SIZE / 2] ^= 1;
    cr_assert_eq(send_all(s, MODEL_CHUNK_BYTES, &why), -EBADMSG);
    cr_assert(strstr(why.text, "SHA-256"), "%s", why.text);
    file[SIZE / 2] ^= 1;
    /* Impossible sizes. */
    cr_assert_eq(store_begin(s, sha, 0, &why), -EFBIG);
    cr_assert_eq(store_begin(s, sha, MODEL_MAX_BYTES + 1, &why), -EFBIG);
    cr_assert_eq(files(), 0);
    /* And begun again in the middle. */
    cr_assert_eq(store_begin(s, sha, SIZE, &why), 0);
    cr_assert_eq(append(s, 0, 1000, &why), 0);
    cr_assert_eq(store_begin(s, sha, SIZE, &why), 0);
    cr_assert_eq(send_all(s, MODEL_CHUNK_BYTES, &why), 1, "%s", why.text);
    cr_assert_eq(files(), 1);
    store_close(s);
}

/* RLIMIT_FSIZE stands for a disk that is full. */
Test(store, a_full_disk_is_a_sentence)
{
    struct diag why = { "" };
    struct store *s = open_store();
    const struct rlimit limit = { MODEL_CHUNK_BYTES + 100, MODEL_CHUNK_BYTES + 100 };

    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(store_begin(s, sha, SIZE, &why), 0);
    cr_assert_eq(send_all(s, MODEL_CHUNK_BYTES, &why), -EFBIG);
    cr_assert(strstr(why.text, "cannot be written"), "%s", why.text);
    cr_assert_eq(files(), 0, "half a file is left on a full disk");
    store_close(s);
}

Test(store, a_dead_writer_s_leftovers_go_and_a_live_one_s_stay)
{
    char path[256];
    struct diag why = { "" };
    struct store *living = open_store();

    cr_assert_eq(store_begin(living, sha, SIZE, &why), 0);
    snprintf(path, sizeof path, "%s/var/lib/models/0123.part-abcdef", dir);
    write_file(path, "half", 4);
    cr_assert_eq(files(), 2);
    struct store *s = open_store();
    cr_assert_eq(files(), 1);
    cr_assert_eq(send_all(living, MODEL_CHUNK_BYTES, &why), 1, "%s", why.text);
    cr_assert_eq(store_find(s, sha, path, sizeof path), 0);
    store_close(s);
    store_close(living);
}

Test(store, a_folder_that_cannot_be_made_is_named)
{
    char path[128];
    struct diag why = { "" };
    struct store *s;

    snprintf(path, sizeof path, "%s/original/sub", dir); /* below a file */
    cr_assert_eq(store_open(&s, path, &why), -ENOTDIR);
    cr_assert(strstr(why.text, path), "%s", why.text);
}
