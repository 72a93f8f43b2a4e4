/* libsplit/host.h - the host's side of a frame: inputs out, outputs in.
 *
 * Pure functions on the host's program (node number `nodes` of a plan). */
#ifndef LIBSPLIT_HOST_H
#define LIBSPLIT_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "libsplit/answer.h"
#include "libsplit/graph.h"
#include "quant/codec.h"

/* One input of a frame, exactly one of the two. */
struct host_input {
    const float *values;   /* in ONNX's order */
    const uint8_t *pixels; /* NHWC */
};

/* Writes the message of SEND step `s` into `to` (codec_bound() of the box times the batch).
 * `input` is indexed like graph.input[].  Returns its length in bytes. */
size_t host_pack(const struct graph *g, const struct step *s, const struct host_input *input,
                 uint8_t *to);

/* A frame whose answers come as libsplit/answer.h says, indexed like graph.output[]. */
struct host_brief {
    const struct answer_rule *answer;
    uint8_t *const *bytes; /* of answer_bytes(), NULL where that is 0 */
};

/* Decodes the message of RECV step `s` into its place in `output[i]`, the whole NHWC tensor of
 * graph.output[i] (every output that is this tensor is filled), or into brief->bytes[i], where
 * there are such.  `brief` is NULL where all answers are values.  Returns 0 or an error of
 * codec_get() or answer_decode(). */
int host_unpack(const struct graph *g, const struct step *s, const uint8_t *msg, size_t len,
                const struct host_brief *brief, float *const *output);

/* Fills the outputs that are inputs of the network: the host has them already and no message
 * brings them.  `pixels` may be NULL if no input has pixels. */
void host_pass(const struct graph *g, const struct host_input *input,
               const struct codec_pixels *pixels, float *const *output);

#endif
