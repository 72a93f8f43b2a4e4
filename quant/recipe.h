/* quant/recipe.h - how the values of one tensor travel: what calibration chose.
 *
 * A plan's recipes are the same on all nodes, so a message is one mode byte and the coded levels:
 * CODEC_TQ where the recipe has no contexts, else CODEC_CTX, or CODEC_VIDEO: differences to the
 * previous frame's levels, which are contexts too.  A message says nothing else: who reads it has
 * the recipe.
 *
 * CODEC_VIDEO has a byte more behind the mode: how many frames stand, modulo 256, since levels were
 * last coded by themselves.  A reader that has other ones says so (-ESTALE). */
#ifndef QUANT_RECIPE_H
#define QUANT_RECIPE_H

#include "quant/context.h"
#include "quant/levels.h"

enum { RECIPE_MAX_CHANNELS = CONTEXT_MAX_CHANNELS };

struct recipe {
    int32_t channels; /* of the tensor, 1..RECIPE_MAX_CHANNELS */
    bool drop;        /* nothing is sent: whoever misses the values takes `rest` */
    struct quantizer quantizer;
    float *rest;             /* [channels]: see quant/levels.h; NULL: zeros */
    struct context *context; /* NULL: CODEC_TQ */
    struct context *video;   /* with `before`, for differences; NULL: none */
};
void recipe_done(struct recipe *r);

/* The part of a tensor's channels that a message holds begins at `first`, and `g` says where they
 * lie; first + g->channels <= r->channels. */

/* Bytes to work in for such a message. */
size_t recipe_scratch_bytes(const struct grid *g);

/* What both ends keep of a message until the next frame, for CODEC_VIDEO; zeroed before the
 * first.  After a frame that did not end well on all nodes, `frames` is 0 again on all. */
struct recipe_past {
    uint32_t frames;   /* that stand since levels were coded by themselves, 0: none are kept */
    int16_t *level[2]; /* recipe_past_bytes() each; that of the last frame is level[frames % 2] */
};
size_t recipe_past_bytes(const struct grid *g);

/* Encodes values of range `range` into `to`, which has room for codec_bound() of them.  `past` is
 * NULL unless CODEC_VIDEO is wished for.  Returns the length, or 0 where another mode has to
 * serve: a value is no number or too large, or it would not be shorter than CODEC_F16. */
size_t recipe_put(uint8_t *to, const struct recipe *r, size_t first, const float *values,
                  const struct grid *g, const struct codec_range *range, struct recipe_past *past,
                  void *scratch);

/* Is it a message of a mode of this page? */
bool recipe_is_message(const uint8_t *msg, size_t len);
/* Decodes any bytes.  Returns 0, -EBADMSG, -EPROTO (a mode that the recipe does not have) or
 * -ESTALE; `values` is undefined then. */
int recipe_get(float *values, const struct grid *g, const struct recipe *r, size_t first,
               struct recipe_past *past, void *scratch, const uint8_t *msg, size_t len);

/* What a tensor's values are when nothing comes: `rest`, or zeros; `r` may be NULL. */
void recipe_fill(float *values, const struct grid *g, const struct recipe *r, size_t first);

/* ---- As bytes, for plans and files */

size_t recipe_bytes(const struct recipe *r);
void recipe_write(uint8_t *to, const struct recipe *r);
/* Reads any bytes; `*used` is how many it took.  Returns 0, -EBADMSG or -ENOMEM; recipe_done()
 * frees. */
int recipe_read(struct recipe *r, const uint8_t *from, size_t len, size_t *used);

#endif
