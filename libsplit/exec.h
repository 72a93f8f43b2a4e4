/* libsplit/exec.h - interprets one node's program, frame after frame.
 *
 * All tensors of a program lie in one arena whose offsets are planned once, from when each
 * buffer is first written and last read.  Nothing is allocated while a frame runs. */
#ifndef LIBSPLIT_EXEC_H
#define LIBSPLIT_EXEC_H

#include <stdint.h>

#include "libsplit/answer.h"
#include "libsplit/exchange.h"
#include "libsplit/graph.h"
#include "libsplit/pool.h"
#include "libsplit/recipes.h"
#include "quant/codec.h"
#include "tiling/program.h"
#include "tiling/trace.h"

struct exec; /* one frame at a time; several of one program may run side by side */

struct exec_stats {
    int64_t compute_ns, wait_ns;        /* running operators; waiting for messages */
    int64_t pack_ns, send_ns;           /* coding messages; handing them to the exchange */
    int64_t sent_bytes, received_bytes; /* payload, host included */
    int32_t sent_messages, received_messages;
    int64_t halo_sent_bytes; /* to other nodes, the host left out */
    int32_t halo_sent_messages;
    int32_t concealed; /* messages that were late, and done without */
};

/* `g` (packed for `pr`), `geo`, `pr` (checked) and `recipes` (libsplit/coding.h; NULL: none) are
 * kept and must outlive the executor.
 * `pixels` says how the bytes of a picture become values of the network's first input; NULL
 * if none are expected.  `pool` shares the work of large operators among threads, without
 * changing a bit of any result; NULL: the caller alone.  It is kept too, and may serve several
 * executors of which one runs at a time.  Returns NULL with `*why` filled when memory is short or
 * a recipe is missing. */
struct exec *exec_new(const struct graph *g, const struct geometry *geo, const struct program *pr,
                      const struct recipes *recipes, const struct codec_pixels *pixels,
                      struct pool *pool, struct diag *why);
void exec_free(struct exec *e);

/* Runs one frame.  Returns 0 (`*stats` filled, may be NULL), an error of the exchange, or
 * -EBADMSG (a message does not decode).  What happened when is added to `trace` unless that is
 * NULL.  `brief` says in which form each of graph.output[] goes to the host, for messages that
 * answer_fits(); NULL: all as values. */
int exec_run(struct exec *e, struct exchange *x, const struct answer_rule *brief,
             struct trace *trace, struct exec_stats *stats);

/* With HALO_VIDEO messages build on those of the frame before.  After a frame that failed on
 * another node every node forgets, and the next messages stand alone; exec_run() that fails does so
 * itself. */
void exec_forget(struct exec *e);

/* Bytes of the arena (activations, and scratch for each of `threads`), without weights.  Needs no
 * executor: used to say before loading what a program will take.  -ENOMEM or -EOVERFLOW when they
 * cannot be planned. */
int64_t exec_arena_bytes(const struct graph *g, const struct geometry *geo,
                         const struct program *pr, int32_t threads);
/* Bytes of the messages that a program receives and sends in a frame. */
int64_t exec_message_bytes(const struct geometry *geo, const struct program *pr);
/* exec_arena_bytes() of an executor that is there. */
int64_t exec_bytes(const struct exec *e);
int64_t exec_weight_bytes(const struct graph *g, const struct program *pr);

#endif
