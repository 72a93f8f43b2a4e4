/* libsplit/mailbox.h - slots in which messages of one frame wait for the thread that needs them.
 *
 * One slot per transfer that a program receives, its storage set aside beforehand: nothing is
 * allocated when a message comes, and no message can take more than its slot.  One writer
 * (a link's callback, or the sending thread) and one reader (the compute thread) per slot.
 *
 * A reader that has waited long enough may give a message up.  Whenever it comes in that frame it
 * is dropped; one that is being written at that time is dropped when it is complete, even if that
 * is in a later frame, whose own message must not be claimed before. */
#ifndef LIBSPLIT_MAILBOX_H
#define LIBSPLIT_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tiling/geometry.h"
#include "tiling/program.h"

struct mailbox;

/* Slots for every RECV of `pr`, each of codec_bound() of its box (times the batch).
 * Returns NULL when memory is short. */
struct mailbox *mailbox_new(const struct program *pr, const struct geometry *g);
void mailbox_free(struct mailbox *m);

/* Any thread.  The storage of `transfer` if `m` waits for one of `len` bytes and none has come
 * in this frame; else NULL.  Must be followed by mailbox_post() or mailbox_abandon(). */
uint8_t *mailbox_claim(struct mailbox *m, int32_t transfer, size_t len);
void mailbox_post(struct mailbox *m, int32_t transfer, size_t len);
void mailbox_abandon(struct mailbox *m, int32_t transfer); /* the claim came to nothing */
/* Is a message being written that the reader has not given up?  Where all claims are made and
 * ended under a lock, with that lock held. */
bool mailbox_filling(struct mailbox *m);

/* The reader.  Spins briefly, then sleeps, until the message of `transfer` is posted, the
 * mailbox is cancelled (-ECANCELED) or `deadline_ns` of CLOCK_MONOTONIC has passed
 * (-ETIMEDOUT).  On 0 the message stays until mailbox_clear(). */
int mailbox_wait(struct mailbox *m, int32_t transfer, int64_t deadline_ns, const uint8_t **msg,
                 size_t *len);

/* The same for a message that the reader can do without: where it has not come by the deadline it
 * is given up (-ETIME). */
int mailbox_wait_or_give_up(struct mailbox *m, int32_t transfer, int64_t deadline_ns,
                            const uint8_t **msg, size_t *len);
/* Any thread.  Was the message of `transfer` given up in this frame? */
bool mailbox_gave_up(struct mailbox *m, int32_t transfer);

/* Any thread.  True when mailbox_wait() for `transfer` returns at once: its message is there, or
 * the mailbox is cancelled. */
bool mailbox_ready(struct mailbox *m, int32_t transfer);

/* True when every slot holds a message. */
int mailbox_full(struct mailbox *m);

void mailbox_cancel(struct mailbox *m); /* any thread; waiting readers return */
void mailbox_clear(struct mailbox *m);  /* for the next frame; not while mailbox_filling() */
size_t mailbox_bytes(const struct mailbox *m);

#endif
