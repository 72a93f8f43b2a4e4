#include "libsplit/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM_BYTES = 64 << 10 };

/* The stream's own error where it has one: some C libraries leave errno at 0. */
static int stream_error(void) { return errno > 0 ? -errno : -EIO; }

static int read_all(FILE *in, const char *file, size_t cap, uint8_t **bytes, size_t *len,
                    struct diag *why)
{
    size_t room = FIRST_ROOM_BYTES, have = 0;
    uint8_t *buf = malloc(room);

    if (!buf)
        return diag(why, -ENOMEM, "%s: out of memory", file);

    for (;;) {
        have += fread(buf + have, 1, room - have, in);
        if (have < room)
            break;
        if (room > cap)
            goto too_large;
        /* One byte beyond the cap is enough to see that there is more. */
        room = room > cap / 2 ? cap + 1 : 2 * room;
        uint8_t *more = realloc(buf, room);
        if (!more) {
            free(buf);
            return diag(why, -ENOMEM, "%s: out of memory after %zu bytes", file, have);
        }
        buf = more;
    }
    if (ferror(in)) {
        int err = stream_error();
        free(buf);
        return diag(why, err, "%s: cannot be read: %s", file, strerror(-err));
    }
    if (have > cap)
        goto too_large;

    buf[have] = 0; /* the loop ended with have < room */
    *bytes = buf;
    *len = have;
    return 0;

too_large:
    free(buf);
    return diag(why, -EFBIG, "%s: larger than the %zu bytes that are allowed", file, cap);
}

int file_read(const char *file, size_t cap, uint8_t **bytes, size_t *len, struct diag *why)
{
    FILE *in = fopen(file, "rbe");
    if (!in) {
        int err = stream_error();
        return diag(why, err, "%s: cannot be opened: %s", file, strerror(-err));
    }

    int rc = read_all(in, file, cap, bytes, len, why);
    fclose(in);
    return rc;
}

int file_write(const char *file, const void *bytes, size_t len, struct diag *why)
{
    int err = 0;
    FILE *out = fopen(file, "wbe");
    if (!out) {
        err = stream_error();
        return diag(why, err, "%s: cannot be created: %s", file, strerror(-err));
    }

    if (fwrite(bytes, 1, len, out) != len)
        err = stream_error();
    if (fclose(out) != 0 && err == 0)
        err = stream_error();
    if (err != 0)
        return diag(why, err, "%s: cannot be written: %s", file, strerror(-err));
    return 0;
}
