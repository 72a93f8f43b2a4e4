/* libsplit/local.h - a cluster inside one process: one thread per virtual node, or several.
 *
 * Nodes meet through mailboxes, as the daemon's do; a sender writes straight into the
 * receiver's slot.  The caller's thread is the host. */
#ifndef LIBSPLIT_LOCAL_H
#define LIBSPLIT_LOCAL_H

#include "libsplit/exec.h"
#include "libsplit/host.h"

struct local;

struct local_options {
    const struct codec_pixels *pixels; /* copied; NULL: no pictures come */
    int32_t threads;                   /* of each node, 0 means 1 */
    int64_t part_work;                 /* see pool_new(), 0 means POOL_PART_WORK */
    const struct recipes *recipes;     /* kept; NULL: no tensor has one */
    int64_t late_ns;                   /* how long what may miss is waited for; 0: until it comes */
    /* Sees every message as it is sent, on the sender's thread; NULL: nobody does. */
    void (*tap)(void *ctx, int32_t from, int32_t transfer, const uint8_t *msg, size_t len);
    void *tap_ctx;
};

/* `programs` has nodes + 1 entries, the host's last.  `g` (packed for them), `geo` and
 * `programs` are kept and must outlive the cluster; `o` may be NULL.  Starts the threads.
 * Returns 0, -EINVAL (threads), -ENOMEM or an error of pthread_create(3), with `*why`. */
int local_new(struct local **l, const struct graph *g, const struct geometry *geo,
              const struct program *programs, const struct local_options *o, struct diag *why);
void local_free(struct local *l);

/* Runs one frame; one at a time.  `input` and `output` are indexed and laid out as for
 * host_pack() and host_unpack().  `stats` is NULL or [nodes].  When one node fails, the
 * others are cancelled, the first error is returned and the next frame may be run. */
int local_run(struct local *l, const struct host_input *input, float *const *output,
              struct exec_stats *stats);

/* The next frame builds on none before it: see exec_forget(). */
void local_forget(struct local *l);

/* From the next frame on, what every node and the host do is recorded: local_traced() is what they
 * did in the last, and when that began.  `programs` as for local_new().  Returns 0 or -ENOMEM. */
int local_trace(struct local *l, const struct program *programs);
const struct trace *local_traced(const struct local *l, int32_t node, int64_t *start_ns);

/* Bytes set aside for the executors of all nodes, and for the messages between them. */
int64_t local_arena_bytes(const struct local *l);
int64_t local_message_bytes(const struct local *l);

#endif
