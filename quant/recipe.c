#include "quant/recipe.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/tq.h"

enum { HEAD = 1, VIDEO_HEAD = 2 };

static size_t values_of(const struct grid *g)
{
    return g->images * g->rows * g->cols * g->channels;
}

static size_t level_bytes(const struct levels *l)
{
    return l->channels * levels_plane(l) * sizeof *l->level;
}

size_t recipe_scratch_bytes(const struct grid *g)
{
    const struct levels l = levels_of(g, NULL);
    return 2 * level_bytes(&l) + l.channels * levels_plane(&l) + context_scratch_bytes(&l);
}

size_t recipe_past_bytes(const struct grid *g)
{
    const struct levels l = levels_of(g, NULL);
    return level_bytes(&l);
}

/* The levels of a message, and behind them what coders work with. */
struct work {
    struct levels levels;
    struct levels change; /* to the levels of the previous frame */
    void *coder;
    int8_t *before; /* sizes of the previous frame's levels */
};

static struct work work_in(void *scratch, const struct grid *g)
{
    struct work w = { .levels = levels_of(g, scratch) };
    const size_t bytes = level_bytes(&w.levels);
    w.change = levels_of(g, (int16_t *)scratch + bytes / sizeof(int16_t));
    w.coder = (uint8_t *)scratch + 2 * bytes;
    w.before = (int8_t *)w.coder + context_scratch_bytes(&w.levels);
    return w;
}

static size_t places_of(const struct work *w)
{
    return w->levels.channels * levels_plane(&w->levels);
}

static bool is_video(const struct recipe *r, const struct recipe_past *past)
{
    return past && r->context && r->video;
}

static const int16_t *last_frame(const struct recipe_past *past)
{
    return past->level[past->frames % 2];
}

/* The levels of frame `frames` are those in `w`. */
static void keep_frame(struct recipe_past *past, uint32_t frames, const struct work *w)
{
    past->frames = frames;
    memcpy(past->level[frames % 2], w->levels.level, level_bytes(&w->levels));
}

static void find_before(const struct work *w, const int16_t *last)
{
    for (size_t i = 0; i < places_of(w); i++) {
        const int8_t size = context_size(last[i]);
        w->before[i] = last[i] < 0 ? (int8_t)-size : size;
    }
}

/* ---- Encoding; each returns the length, SIZE_MAX where `cap` bytes are too few */

static size_t put_alone(uint8_t *to, size_t cap, const struct work *w, const struct recipe *r,
                        size_t first)
{
    size_t len;
    if (r->context)
        len = context_put(to + HEAD, cap - HEAD, &w->levels, r->context, first, NULL, w->coder);
    else
        len = tq_put(to + HEAD, cap - HEAD, &w->levels, r->quantizer.with_sign);
    to[0] = r->context ? CODEC_CTX : CODEC_TQ;
    return len == SIZE_MAX ? len : HEAD + len;
}

/* False where a change is no level. */
static bool find_change(const struct work *w, const int16_t *last)
{
    bool holds = true;
    for (size_t i = 0; i < places_of(w); i++) {
        const int32_t change = w->levels.level[i] - last[i];
        holds = holds && change >= -LEVEL_MAX && change <= LEVEL_MAX;
        w->change.level[i] = (int16_t)change;
    }
    return holds;
}

static size_t put_on_past(uint8_t *to, size_t cap, const struct work *w, const struct recipe *r,
                          size_t first, const struct recipe_past *past)
{
    if (past->frames == 0 || !find_change(w, last_frame(past)))
        return SIZE_MAX;
    find_before(w, last_frame(past));
    to[0] = CODEC_VIDEO;
    to[1] = (uint8_t)past->frames;
    const size_t len = context_put(to + VIDEO_HEAD, cap - VIDEO_HEAD, &w->change, r->video, first,
                                   w->before, w->coder);
    return len == SIZE_MAX ? len : VIDEO_HEAD + len;
}

/* The shorter of a message that builds on the last frame and one that stands alone. */
static size_t put_video(uint8_t *to, size_t cap, const struct work *w, const struct recipe *r,
                        size_t first, struct recipe_past *past)
{
    uint8_t *alone = to + cap / 2;
    const size_t on_past = put_on_past(to, cap / 2, w, r, first, past);
    const size_t len = put_alone(alone, cap / 2, w, r, first);
    if (on_past < len) {
        keep_frame(past, past->frames + 1, w);
        return on_past;
    }
    if (len == SIZE_MAX)
        return SIZE_MAX;
    memmove(to, alone, len);
    keep_frame(past, 1, w);
    return len;
}

static size_t put_levels(uint8_t *to, size_t cap, const struct work *w, const struct recipe *r,
                         size_t first, struct recipe_past *past)
{
    if (is_video(r, past))
        return put_video(to, cap, w, r, first, past);
    return put_alone(to, cap, w, r, first);
}

size_t recipe_put(uint8_t *to, const struct recipe *r, size_t first, const float *values,
                  const struct grid *g, const struct codec_range *range, struct recipe_past *past,
                  void *scratch)
{
    const size_t n = values_of(g);
    const struct work w = work_in(scratch, g);
    size_t len = SIZE_MAX;
    if (n > 0 && quantizer_holds(&r->quantizer, range)) {
        levels_of_values(&w.levels, values, g, &r->quantizer);
        len = put_levels(to, codec_bound(n), &w, r, first, past);
    }
    if (len < codec_len(CODEC_F16, n))
        return len;
    if (past)
        past->frames = 0;
    return 0;
}

/* ---- Decoding */

bool recipe_is_message(const uint8_t *msg, size_t len)
{
    return len > 0 && (msg[0] == CODEC_TQ || msg[0] == CODEC_CTX || msg[0] == CODEC_VIDEO);
}

static int get_alone(const struct work *w, const struct recipe *r, size_t first,
                     struct recipe_past *past, const uint8_t *msg, size_t len)
{
    const int err =
        context_get(&w->levels, r->context, first, NULL, w->coder, msg + HEAD, len - HEAD);
    if (!is_video(r, past))
        return err;
    past->frames = 0;
    if (!err)
        keep_frame(past, 1, w);
    return err;
}

/* Returns 0, or -EBADMSG where a sum is no level. */
static int add_change(const struct work *w, const struct recipe *r, const int16_t *last)
{
    const int32_t least = r->quantizer.with_sign ? -LEVEL_MAX : 0;
    for (size_t i = 0; i < places_of(w); i++) {
        const int32_t level = last[i] + w->change.level[i];
        if (level < least || level > LEVEL_MAX)
            return -EBADMSG;
        w->levels.level[i] = (int16_t)level;
    }
    return 0;
}

static int get_on_past(const struct work *w, const struct recipe *r, size_t first,
                       struct recipe_past *past, const uint8_t *msg, size_t len)
{
    if (len < VIDEO_HEAD)
        return -EBADMSG;
    if (past->frames == 0 || msg[1] != (uint8_t)past->frames)
        return -ESTALE;
    find_before(w, last_frame(past));
    int err = context_get(&w->change, r->video, first, w->before, w->coder, msg + VIDEO_HEAD,
                          len - VIDEO_HEAD);
    if (!err)
        err = add_change(w, r, last_frame(past));
    if (err)
        past->frames = 0;
    else
        keep_frame(past, past->frames + 1, w);
    return err;
}

static int get_levels(const struct work *w, const struct recipe *r, size_t first,
                      struct recipe_past *past, const uint8_t *msg, size_t len)
{
    if (len < HEAD)
        return -EBADMSG;
    if (msg[0] == CODEC_TQ && !r->context)
        return tq_get(&w->levels, r->quantizer.with_sign, msg + HEAD, len - HEAD);
    if (msg[0] == CODEC_CTX && r->context)
        return get_alone(w, r, first, past, msg, len);
    if (msg[0] == CODEC_VIDEO && is_video(r, past))
        return get_on_past(w, r, first, past, msg, len);
    return -EPROTO;
}

static const float *rest_of(const struct recipe *r, size_t first)
{
    return r->rest ? r->rest + first : NULL;
}

int recipe_get(float *values, const struct grid *g, const struct recipe *r, size_t first,
               struct recipe_past *past, void *scratch, const uint8_t *msg, size_t len)
{
    const struct work w = work_in(scratch, g);
    if (values_of(g) == 0)
        return -EBADMSG;
    const int err = get_levels(&w, r, first, past, msg, len);
    if (!err)
        levels_to_values(&w.levels, values, g, &r->quantizer, rest_of(r, first));
    return err;
}

void recipe_fill(float *values, const struct grid *g, const struct recipe *r, size_t first)
{
    const float *rest = r ? rest_of(r, first) : NULL;
    for (size_t line = 0; line < g->images * g->rows; line++) {
        float *to = values + line / g->rows * g->image_stride + line % g->rows * g->row_stride;
        for (size_t x = 0; x < g->cols; x++, to += g->col_stride) {
            if (rest)
                memcpy(to, rest, g->channels * sizeof *to);
            else
                memset(to, 0, g->channels * sizeof *to);
        }
    }
}

/* ---- As bytes */

enum {
    FLAG_DROP = 1,
    FLAG_SIGN = 2,
    FLAG_SOFT = 4,
    FLAG_REST = 8,
    FLAG_CONTEXT = 16,
    FLAG_VIDEO = 32,
    FLAGS_END = 64,
    FIXED_BYTES = 1 + 2 + 3 * sizeof(float) /* flags, channels, quantizer */
};

static uint8_t flags_of(const struct recipe *r)
{
    return (uint8_t)((r->drop ? FLAG_DROP : 0) | (r->quantizer.with_sign ? FLAG_SIGN : 0) |
                     (r->quantizer.soft ? FLAG_SOFT : 0) | (r->rest ? FLAG_REST : 0) |
                     (r->context ? FLAG_CONTEXT : 0) | (r->video ? FLAG_VIDEO : 0));
}

size_t recipe_bytes(const struct recipe *r)
{
    return FIXED_BYTES + (r->rest ? (size_t)r->channels * sizeof *r->rest : 0) +
           (r->context ? context_bytes(r->context) : 0) + (r->video ? context_bytes(r->video) : 0);
}

void recipe_write(uint8_t *to, const struct recipe *r)
{
    const float numbers[] = { r->quantizer.step, r->quantizer.threshold, r->quantizer.gain };
    const size_t rest = (size_t)r->channels * sizeof *r->rest;
    to[0] = flags_of(r);
    to[1] = (uint8_t)r->channels;
    to[2] = (uint8_t)(r->channels >> 8);
    memcpy(to + 3, numbers, sizeof numbers);
    to += FIXED_BYTES;
    if (r->rest) {
        memcpy(to, r->rest, rest);
        to += rest;
    }
    if (r->context) {
        context_write(to, r->context);
        to += context_bytes(r->context);
    }
    if (r->video)
        context_write(to, r->video);
}

/* Takes what the flags announce off `from`. */
static int read_rest(struct recipe *r, const uint8_t *from, size_t len, size_t *used)
{
    const size_t bytes = (size_t)r->channels * sizeof *r->rest;
    if (len < bytes)
        return -EBADMSG;
    r->rest = malloc(bytes);
    if (!r->rest)
        return -ENOMEM;
    memcpy(r->rest, from, bytes);
    for (int32_t c = 0; c < r->channels; c++)
        if (!isfinite(r->rest[c]))
            return -EBADMSG;
    *used = bytes;
    return 0;
}

static int read_context(struct context **to, const struct recipe *r, bool with_before,
                        const uint8_t *from, size_t len, size_t *used)
{
    struct context *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    int err = context_read(x, r->channels, r->quantizer.with_sign, from, len, used);
    if (!err && x->with_before != with_before) {
        context_done(x);
        err = -EBADMSG;
    }
    if (err)
        free(x);
    else
        *to = x;
    return err;
}

static int read_parts(struct recipe *r, uint8_t flags, const uint8_t *from, size_t len, size_t *at)
{
    size_t used = 0;
    int err = flags & FLAG_REST ? read_rest(r, from + *at, len - *at, &used) : 0;
    *at += err ? 0 : used;
    used = 0;
    if (!err && flags & FLAG_CONTEXT)
        err = read_context(&r->context, r, false, from + *at, len - *at, &used);
    *at += err ? 0 : used;
    used = 0;
    if (!err && flags & FLAG_VIDEO)
        err = read_context(&r->video, r, true, from + *at, len - *at, &used);
    *at += err ? 0 : used;
    return err;
}

int recipe_read(struct recipe *to, const uint8_t *from, size_t len, size_t *used)
{
    float numbers[3];
    if (len < FIXED_BYTES || from[0] >= FLAGS_END)
        return -EBADMSG;
    const uint8_t flags = from[0];
    memcpy(numbers, from + 3, sizeof numbers);
    struct recipe r = { .channels = from[1] | from[2] << 8,
                        .drop = flags & FLAG_DROP,
                        .quantizer = { .step = numbers[0],
                                       .threshold = numbers[1],
                                       .gain = numbers[2],
                                       .with_sign = flags & FLAG_SIGN,
                                       .soft = flags & FLAG_SOFT } };
    const bool needs_context = (flags & FLAG_VIDEO) && !(flags & FLAG_CONTEXT);
    if (r.channels < 1 || r.channels > RECIPE_MAX_CHANNELS || needs_context ||
        !quantizer_is_sound(&r.quantizer))
        return -EBADMSG;
    size_t at = FIXED_BYTES;
    const int err = read_parts(&r, flags, from, len, &at);
    if (err) {
        recipe_done(&r);
        return err;
    }
    *to = r;
    *used = at;
    return 0;
}

static void free_context(struct context *x)
{
    if (x)
        context_done(x);
    free(x);
}

void recipe_done(struct recipe *r)
{
    free(r->rest);
    free_context(r->context);
    free_context(r->video);
    *r = (struct recipe){ 0 };
}
