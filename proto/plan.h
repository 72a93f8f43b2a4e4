/* proto/plan.h - PLAN: one node's program for one model at one input size.  PLAN_ACK.
 *
 *   PLAN      sha256 32 bytes of the model
 *             depth u8         frames that may be in flight, 1..PLAN_MAX_DEPTH
 *             late u32         ms after which a message that may miss is given up,
 *                              0..PLAN_MAX_LATE_MS; 0: never
 *             pixels u8        0: none, else channels 1..4 and then scale f32
 *                              and per channel mean f32, std f32
 *             ninputs u8       then per input: rank u8, dims i32 each
 *             nanswers u8      then per output of the network, from the first, in which form it
 *                              answers a FRAME with HEADER_BRIEF (libsplit/answer.h): form u8,
 *                              activation u8, object i32, classes i32, offset i32, scale f32,
 *                              shift f32, least f32
 *             nodes u8         then node u8 (below nodes)
 *             members          per plan node: its index in cluster.json u8
 *             ntransfers u32, nbuffers u32, nsteps u32, recipe bytes u32, nways u32
 *             buffers          tensor u32, box 6 x i32
 *             steps            kind u8, peer u8, halo u8, may miss u8 (0 or 1), what u32,
 *                              transfer u32, box 6 x i32 (RUN: peer, halo, may miss and transfer
 *                              are 0)
 *             recipes          of the tensors that nodes exchange (libsplit/recipes.h)
 *             ways             per operator u8, how it is computed (libsplit/tune.h); none: as
 *                              every node expects to be fastest
 *   PLAN_ACK  status i32 (0 or a negative errno), arena u64, weights u64 (bytes), detail
 *             (u16 length, then a text of proto/text.h)
 *
 * A box is rows, columns, channels: the three low ends, then the three high ends. */
#ifndef PROTO_PLAN_H
#define PROTO_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/model.h"
#include "tiling/program.h"

enum { PLAN_MAX_DEPTH = 8, PLAN_MAX_INPUTS = 8, PLAN_MAX_RANK = 8, PLAN_MAX_ANSWERS = 64 };
enum { PLAN_ANSWER_BYTES = 2 + 3 * 4 + 3 * 4, PLAN_DETAIL_MAX = 512 };
enum { PLAN_MAX_TRANSFERS = 1 << 20 }; /* of a whole plan */
enum { PLAN_MAX_RECIPE_BYTES = 32 << 20 };
enum { PLAN_MAX_LATE_MS = 10000 };
enum { PLAN_BUFFER_BYTES = 4 + 24, PLAN_STEP_BYTES = 1 + 1 + 1 + 1 + 4 + 4 + 24 };
enum {
    PLAN_HEAD_MAX_BYTES = SHA256_BYTES + 1 + 4 + (1 + 4 + 4 * 8) +
                          (1 + PLAN_MAX_INPUTS * (1 + 4 * PLAN_MAX_RANK)) +
                          (1 + PLAN_MAX_ANSWERS * PLAN_ANSWER_BYTES) + (2 + PLAN_MAX_NODES) + 20,
    PLAN_MAX_BYTES = PLAN_HEAD_MAX_BYTES + GEO_MAX_TENSORS * PLAN_BUFFER_BYTES +
                     PROGRAM_MAX_STEPS * PLAN_STEP_BYTES + PLAN_MAX_RECIPE_BYTES + GEO_MAX_TENSORS,
    PLAN_ACK_MAX_BYTES = 4 + 8 + 8 + 2 + PLAN_DETAIL_MAX,
};

struct msg_plan {
    uint8_t sha[SHA256_BYTES];
    uint8_t depth;
    uint32_t late_ms; /* 0: whatever is late is waited for */
    struct {
        uint8_t channels; /* 0: the network takes no pictures */
        float scale, mean[4], std[4];
    } pixels;
    int32_t ninputs;
    struct {
        int32_t rank, dim[PLAN_MAX_RANK];
    } input[PLAN_MAX_INPUTS];
    int32_t nanswers;
    struct plan_answer {
        uint8_t form, activation;
        int32_t object, classes, offset;
        float scale, shift, least;
    } answer[PLAN_MAX_ANSWERS];
    uint8_t member[PLAN_MAX_NODES]; /* plan node -> index in cluster.json */
    struct program program;         /* nodes, node, steps: owned after a decode */
    uint8_t *recipes; /* [recipe_bytes], owned after a decode; NULL where there are none */
    uint32_t recipe_bytes;
    uint8_t *ways; /* [nways], owned after a decode; NULL where there are none */
    uint32_t nways;
};

struct msg_plan_ack {
    int32_t status;
    uint64_t arena_bytes, weight_bytes;
    char detail[PLAN_DETAIL_MAX + 1];
};

/* Bytes that plan_msg_encode() needs. */
size_t plan_msg_bytes(const struct msg_plan *m);
/* Returns the length, -ENOSPC, or -EMSGSIZE: the program has more steps, buffers, transfers,
 * bytes of recipes or ways than a message may hold. */
int plan_msg_encode(const struct msg_plan *m, uint8_t *to, size_t cap);
/* Any bytes are allowed.  Counts are checked against `len` before anything is allocated.
 * Returns 0 (then plan_msg_done(m)), -EBADMSG (length does not fit), -EPROTO (a field is
 * out of range) or -ENOMEM; `*m` is written only on success.  After 0 every float is finite, std
 * is not 0, every input's dimensions are within tiling/box.h and so is every box; indices are
 * below the caps of tiling, transfer < ntransfers, halo < HALO_MODES, peer <= nodes and not the
 * node itself.  The program still has to pass program_check(), the recipes recipes_read(), the
 * ways graph_set_ways(), answers answer_fits(), and member[] is for the receiver to compare with
 * its cluster.json. */
int plan_msg_decode(struct msg_plan *m, const uint8_t *buf, size_t len);
/* Frees what a decoded message owns; one that was done already, or whose parts were taken, too. */
void plan_msg_done(struct msg_plan *m);

/* Like those of proto/model.h; status is 0 or a negative errno, -4095 at the least. */
int plan_ack_encode(const struct msg_plan_ack *m, uint8_t *to, size_t cap);
int plan_ack_decode(struct msg_plan_ack *m, const uint8_t *buf, size_t len);

#endif
