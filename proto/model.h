/* proto/model.h - moving a model file to the nodes that lack it.
 *
 *   MODEL_OFFER  sha256 32 bytes, size u64
 *   MODEL_STATE  sha256 32 bytes, state u8, detail (u16 length, then a text of proto/text.h)
 *   MODEL_CHUNK  sha256 32 bytes, offset u64, then 1..MODEL_CHUNK_BYTES bytes of the file
 *
 * The coordinator offers, the node answers HAVE (it is in its cache) or NEED, chunks follow in
 * order, the node checks size and SHA-256, keeps the file and answers HAVE or FAILED. */
#ifndef PROTO_MODEL_H
#define PROTO_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { MODEL_CHUNK_BYTES = 256 * 1024, MODEL_DETAIL_MAX = 512, SHA256_BYTES = 32 };
enum {
    MODEL_OFFER_BYTES = SHA256_BYTES + 8,
    MODEL_STATE_MAX_BYTES = SHA256_BYTES + 1 + 2 + MODEL_DETAIL_MAX,
    MODEL_CHUNK_HEAD_BYTES = SHA256_BYTES + 8,
    MODEL_CHUNK_MAX_BYTES = MODEL_CHUNK_HEAD_BYTES + MODEL_CHUNK_BYTES,
};
#define MODEL_MAX_BYTES ((uint64_t)4 << 30)

enum model_state { MODEL_NEED = 0, MODEL_HAVE = 1, MODEL_FAILED = 2, MODEL_STATES };

struct msg_model_offer {
    uint8_t sha[SHA256_BYTES];
    uint64_t size; /* 1..MODEL_MAX_BYTES */
};
struct msg_model_state {
    uint8_t sha[SHA256_BYTES];
    enum model_state state;
    char detail[MODEL_DETAIL_MAX + 1]; /* FAILED: a sentence */
};
struct msg_model_chunk {
    uint8_t sha[SHA256_BYTES];
    uint64_t offset;     /* offset + len <= MODEL_MAX_BYTES */
    const uint8_t *data; /* borrowed: of the caller, or inside the decoded bytes */
    size_t len;          /* 1..MODEL_CHUNK_BYTES */
};

/* Encoders return the length or -ENOSPC.  Decoders take any bytes and return 0, -EBADMSG (length
 * does not fit) or -EPROTO (a field is out of range); they write `*m` only on success. */
int model_offer_encode(const struct msg_model_offer *m, uint8_t *to, size_t cap);
int model_offer_decode(struct msg_model_offer *m, const uint8_t *buf, size_t len);
int model_state_encode(const struct msg_model_state *m, uint8_t *to, size_t cap);
int model_state_decode(struct msg_model_state *m, const uint8_t *buf, size_t len);
int model_chunk_encode(const struct msg_model_chunk *m, uint8_t *to, size_t cap);
int model_chunk_decode(struct msg_model_chunk *m, const uint8_t *buf, size_t len);

#endif
