#include "daemon/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEX_BYTES = 2 * SHA256_BYTES + 1,
    MAX_RECEIPTS = 16, /* files that may be on their way at once */
    PIECE_BYTES = 64 * 1024,
};

/* What ends the name of a file that is not complete. */
#define PART_MARK ".part-"
#define PART_SUFFIX PART_MARK "XXXXXX"

/* A file on its way. */
struct receipt {
    struct receipt *next;
    uint8_t sha[SHA256_BYTES];
    uint64_t size, at;
    struct sha256_ctx sum;
    bool complete; /* and its SHA-256 is right */
    int fd;        /* locked as long as somebody writes */
    char path[PATH_MAX];
};

struct store {
    char dir[PATH_MAX];
    struct receipt *receipts;
};

static void hex_of(const uint8_t sha[SHA256_BYTES], char hex[HEX_BYTES])
{
    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", sha[i]);
}

int store_find(const struct store *s, const uint8_t sha[SHA256_BYTES], char *path, size_t cap)
{
    char hex[HEX_BYTES];

    hex_of(sha, hex);
    const int n = snprintf(path, cap, "%s/%s.onnx", s->dir, hex);
    if (n < 0 || (size_t)n >= cap)
        return -ENOENT;
    return access(path, R_OK) == 0 ? 0 : -ENOENT;
}

/* ---- receiving */

static struct receipt *receipt_of(const struct store *s, const uint8_t sha[SHA256_BYTES])
{
    struct receipt *r = s->receipts;

    while (r && memcmp(r->sha, sha, SHA256_BYTES) != 0)
        r = r->next;
    return r;
}

static void unlink_receipt(struct store *s, const struct receipt *r)
{
    for (struct receipt **at = &s->receipts; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            return;
        }
    }
}

static void free_receipt(struct receipt *r)
{
    close(r->fd);
    free(r);
}

/* Ends a receipt and deletes what was written of it. */
static void forget(struct store *s, struct receipt *r)
{
    unlink_receipt(s, r);
    unlink(r->path);
    free_receipt(r);
}

int store_begin(struct store *s, const uint8_t sha[SHA256_BYTES], uint64_t size, struct diag *why)
{
    char hex[HEX_BYTES];
    struct receipt *r = receipt_of(s, sha);
    int n = 0, err;

    if (r)
        forget(s, r);
    for (r = s->receipts; r; r = r->next)
        n++;
    if (n >= MAX_RECEIPTS)
        return diag(why, -EBUSY, "%s: %d files are on their way already", s->dir, n);
    if (size < 1 || size > MODEL_MAX_BYTES)
        return diag(why, -EFBIG, "a model of %llu bytes: 1 to %llu are allowed",
                    (unsigned long long)size, (unsigned long long)MODEL_MAX_BYTES);
    r = calloc(1, sizeof *r);
    if (!r)
        return diag(why, -ENOMEM, "%s: out of memory", s->dir);
    hex_of(sha, hex);
    n = snprintf(r->path, sizeof r->path, "%s/%s" PART_SUFFIX, s->dir, hex);
    if (n < 0 || (size_t)n >= sizeof r->path) {
        err = diag(why, -ENAMETOOLONG, "%s: the path is too long", s->dir);
        goto fail;
    }
    sha256_init(&r->sum);
    r->fd = mkostemp(r->path, O_CLOEXEC);
    if (r->fd < 0) {
        err = diag(why, -errno, "%s: cannot be written: %s", r->path, strerror(errno));
        goto fail;
    }
    (void)flock(r->fd, LOCK_EX | LOCK_NB); /* for delete_leftovers() of another process */
    memcpy(r->sha, sha, SHA256_BYTES);
    r->size = size;
    r->next = s->receipts;
    s->receipts = r;
    return 0;

fail:
    free(r);
    return err;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Checks the file once all its bytes are there. */
static int complete(struct receipt *r, struct diag *why)
{
    uint8_t sha[SHA256_BYTES];
    char hex[HEX_BYTES];

    hex_of(r->sha, hex);
    sha256_digest(&r->sum, sizeof sha, sha);
    if (memcmp(sha, r->sha, sizeof sha) != 0)
        return diag(why, -EBADMSG, "model %s: what came has another SHA-256", hex);
    r->complete = true;
    return 0;
}

static int append(struct receipt *r, const struct msg_model_chunk *c, struct diag *why)
{
    if (c->offset != r->at || c->len > r->size - r->at)
        return diag(why, -EBADMSG,
                    "%s: %zu bytes came for offset %llu, expected offset %llu of %llu bytes",
                    r->path, c->len, (unsigned long long)c->offset, (unsigned long long)r->at,
                    (unsigned long long)r->size);
    const int err = write_all(r->fd, c->data, c->len);
    if (err < 0)
        return diag(why, err, "%s: cannot be written: %s", r->path, strerror(-err));
    sha256_update(&r->sum, c->len, c->data);
    /* Sends the bytes on their way to the disk now, so that the last fsync() is short. */
    (void)sync_file_range(r->fd, (off_t)r->at, (off_t)c->len, SYNC_FILE_RANGE_WRITE);
    r->at += c->len;
    return 0;
}

int store_append(struct store *s, const struct msg_model_chunk *c, struct diag *why)
{
    struct receipt *r = receipt_of(s, c->sha);

    if (!r)
        return diag(why, -EBADMSG, "%s: a piece of a file came that was not asked for", s->dir);
    int err = append(r, c, why);
    if (err == 0 && r->at < r->size)
        return 0;
    if (err == 0)
        err = complete(r, why);
    if (err == 0)
        return 1;
    forget(s, r);
    return err;
}

struct receipt *store_take(struct store *s, const uint8_t sha[SHA256_BYTES])
{
    struct receipt *r = receipt_of(s, sha);

    if (!r || !r->complete)
        return NULL;
    unlink_receipt(s, r);
    return r;
}

/* Flushes the folder of `path`: the new name is as lasting as the bytes. */
static int sync_folder(const char *path)
{
    char dir[PATH_MAX];

    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int err = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return err;
}

int store_keep(struct receipt *r, struct diag *why)
{
    char path[PATH_MAX];
    int err = 0;

    /* The name that store_begin() made, without its mark. */
    const size_t stem = strlen(r->path) - strlen(PART_SUFFIX);
    snprintf(path, sizeof path, "%.*s.onnx", (int)stem, r->path);
    if (fchmod(r->fd, 0644) < 0 || fsync(r->fd) < 0 || rename(r->path, path) < 0) {
        err = diag(why, -errno, "%s: cannot be written: %s", path, strerror(errno));
        unlink(r->path);
    } else if ((err = sync_folder(path)) < 0) {
        diag(why, err, "%s: cannot be written: %s", path, strerror(-err));
    }
    free_receipt(r);
    return err;
}

int store_sha256(const char *file, uint8_t sha[SHA256_BYTES], uint64_t *size, struct diag *why)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    struct sha256_ctx sum;
    uint64_t total = 0;
    ssize_t n;
    int err = 0;

    if (!piece)
        return diag(why, -ENOMEM, "%s: out of memory", file);
    const int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err = diag(why, -errno, "%s: %s", file, strerror(errno));
        goto out_piece;
    }
    sha256_init(&sum);
    while ((n = read(fd, piece, PIECE_BYTES)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err = diag(why, -errno, "%s: %s", file, strerror(errno));
            goto out_fd;
        }
        sha256_update(&sum, (size_t)n, piece);
        total += (uint64_t)n;
    }
    sha256_digest(&sum, SHA256_BYTES, sha);
    if (size)
        *size = total;

out_fd:
    close(fd);
out_piece:
    free(piece);
    return err;
}

/* ---- life */

/* Makes `path` and what is above it. */
static int make_dirs(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const int err = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
        *slash = '/';
        if (err < 0)
            return err;
    }
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Deletes what a process that died has left half written; a file that is locked has a writer. */
static void delete_leftovers(const struct store *s)
{
    DIR *d = opendir(s->dir);
    const struct dirent *e;

    if (!d)
        return;
    while ((e = readdir(d)) != NULL) {
        if (!strstr(e->d_name, PART_MARK))
            continue;
        const int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(d), e->d_name, 0);
        close(fd);
    }
    closedir(d);
}

int store_open(struct store **out, const char *state_dir, struct diag *why)
{
    struct store *s = calloc(1, sizeof *s);
    int err;

    if (!s)
        return diag(why, -ENOMEM, "%s: out of memory", state_dir);
    const int n = snprintf(s->dir, sizeof s->dir, "%s/models", state_dir);
    if (n < 0 || (size_t)n >= sizeof s->dir - HEX_BYTES - sizeof PART_MARK - 8) {
        err = diag(why, -ENAMETOOLONG, "%s: the path is too long", state_dir);
        goto fail;
    }
    err = make_dirs(s->dir);
    if (err < 0) {
        err = diag(why, err, "%s: cannot be made: %s", s->dir, strerror(-err));
        goto fail;
    }
    if (access(s->dir, W_OK | X_OK) < 0) {
        err = diag(why, -errno, "%s: cannot be written: %s", s->dir, strerror(errno));
        goto fail;
    }
    delete_leftovers(s);
    *out = s;
    return 0;

fail:
    free(s);
    return err;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    while (s->receipts)
        forget(s, s->receipts);
    free(s);
}
