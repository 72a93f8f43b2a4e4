/* libsplit/coding.h - what a program sends and receives, as messages of quant/.
 *
 * Boxes of a tensor lie as runs in its buffer; messages hold them one after the other, or, by a
 * recipe, channel by channel.  One object serves one executor: it owns the memory to code in, set
 * aside beforehand, and what CODEC_VIDEO remembers of the previous frame. */
#ifndef LIBSPLIT_CODING_H
#define LIBSPLIT_CODING_H

#include "libsplit/recipes.h"
#include "quant/codec.h"

struct coding;

/* `pr`, `geo` and `recipes` (recipes_check()ed; NULL: none) are kept.  Between frames an entry of
 * recipes->of may become another for as many channels, or NULL: then its tensor travels exactly.
 * `pixels` says how the bytes of a picture become values; NULL: none are expected.  Returns NULL
 * when memory is short. */
struct coding *coding_new(const struct program *pr, const struct geometry *geo,
                          const struct recipes *recipes, const struct codec_pixels *pixels);
void coding_free(struct coding *c);
/* Bytes that such an object takes. */
int64_t coding_bytes(const struct program *pr, const struct geometry *geo);

/* Encodes the box of SEND step `step` out of the tensor's `buffer`.  `to` has room for
 * codec_bound() of its values.  Returns the bytes written. */
size_t coding_put(struct coding *c, int32_t step, const float *buffer, uint8_t *to);

/* Decodes a message into the box of RECV step `step`.  Returns 0 or -EBADMSG. */
int coding_get(struct coding *c, int32_t step, float *buffer, const uint8_t *msg, size_t len);

/* Does the message of SEND or RECV step `step` stay away: HALO_DROP, or the recipe says so? */
bool coding_drops(const struct coding *c, int32_t step);
/* What the box of such a RECV step reads as. */
void coding_fill(const struct coding *c, int32_t step, float *buffer);

/* The message of RECV step `step`, whose tensor this node computes `own` rows of (or none), stays
 * away for once: its box reads as the nearest of these rows, or as in coding_fill().  With
 * HALO_VIDEO the next message must stand alone: coding_forget() on both ends. */
void coding_conceal(const struct coding *c, int32_t step, struct box own, float *buffer);

/* The next messages stand alone. */
void coding_forget(struct coding *c);

/* The mode of messages between nodes; CODEC_F16 for those by a recipe: none is longer. */
enum codec_mode coding_mode(enum halo halo);

#endif
