/* daemon/api_infer.h - the body of POST /v2/models/{m}/infer and of its answer.
 *
 *   { "id": "...",
 *     "parameters": { "binary_data_output": true,      all outputs in binary
 *                     "trace": true },                 "splitd_trace" in the answer: what every
 *                                                      node did and when (libsplit/trace_write.h)
 *     "inputs": [ { "name", "shape", "datatype", "data": [...],
 *                   "parameters": { "binary_data_size": n } } ],    instead of "data"
 *     "outputs": [ { "name",                            default: all outputs
 *                    "parameters": { "binary_data": true, and at most one of
 *                                    "classification": k,    top k of each image as BYTES
 *                                                            "score:index:label"; of a
 *                                                            segmentation the largest k, the
 *                                                            score being a share of the picture
 *                                    "detections": true,     boxes as BYTES: a JSON list of
 *                                                            { "label", "index", "score",
 *                                                            "box": [left, top, right, bottom] }
 *                                                            in pixels of the picture
 *                                    "class_map": true,      PNG as BYTES: a pixel is the index of
 *                                                            its class, 255 what was not seen
 *                                    "picture": "png" | "jpeg" } } ] }    the picture as BYTES:
 *                                                            the answer, or the input with classes,
 *                                                            boxes or segments drawn on it
 *
 * An output may be asked for in several forms at once; the answer keeps the order.
 *
 * With Inference-Header-Content-Length the JSON is only the first so many bytes of the body;
 * binary tensors follow it in their order.  A picture is an input of datatype BYTES and one
 * element: in binary 4 bytes of length and the JPEG or PNG file, in JSON a string with
 * "parameters": { "content_type": "base64" }.  Binary BYTES in answers have the same 4 bytes
 * before each element; in JSON a PNG or JPEG is base64 and says so in its parameters.
 *
 * JSON is bounded: API_JSON_VALUES values and API_JSON_DEPTH levels.  Larger tensors go in
 * binary.  Keys that are not known are ignored, as the protocol wants.  Everything here is pure
 * and may run on any thread. */
#ifndef DAEMON_API_INFER_H
#define DAEMON_API_INFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/api_tensor.h"
#include "daemon/coordinator.h"
#include "libsplit/diag.h"

enum {
    API_JSON_VALUES = 1 << 21,
    API_JSON_DEPTH = 16,
    API_MAX_INPUTS = 8,
    API_MAX_OUTPUTS = 64,
    API_MAX_TOP = 1000, /* classes */
    API_NAME_MAX = 256, /* bytes of a tensor's name or an id */
};

enum infer_form { FORM_VALUES, FORM_CLASSES, FORM_DETECTIONS, FORM_CLASS_MAP, FORM_PNG, FORM_JPEG };

struct infer_output {
    char name[API_NAME_MAX + 1];
    bool binary;
    enum infer_form form;
    int32_t classes; /* FORM_CLASSES: how many */
};

struct infer_request {
    char id[API_NAME_MAX + 1];
    bool binary_output, trace;
    const uint8_t *picture; /* NULL: tensors */
    size_t picture_bytes;
    uint8_t *owned_picture; /* decoded from base64 */
    int32_t ninputs;
    char name[API_MAX_INPUTS][API_NAME_MAX + 1];
    struct request_tensor input[API_MAX_INPUTS]; /* its name points into name[]; the picture's
                                                  * has no values */
    float *owned[API_MAX_INPUTS];                /* its values, where they are not the body's */
    struct infer_raw {
        const uint8_t *bytes; /* NULL: none */
        enum api_type type;
    } raw[API_MAX_INPUTS]; /* values that infer_convert() has to make floats of */
    int32_t nraw;
    int32_t noutputs; /* 0: all */
    struct infer_output output[API_MAX_OUTPUTS];
};

/* Reads a body whose first `json_len` <= len bytes are JSON, in a time that hangs on them alone: a
 * binary picture, and floats that are aligned, are borrowed from `body`, other tensors behind the
 * JSON are left to infer_convert().  Returns 0 (then infer_done()), -EINVAL with a sentence, or
 * -ENOMEM. */
int infer_parse(struct infer_request *q, const uint8_t *body, size_t len, size_t json_len,
                struct diag *why);
/* Where q->nraw is not 0: makes floats of these tensors.  Errors as above, infer_done() after each.
 */
int infer_convert(struct infer_request *q, struct diag *why);
/* The body is one picture. */
void infer_picture(struct infer_request *q, const uint8_t *body, size_t len);
void infer_done(struct infer_request *q);
/* Does `q` want nothing but what the task of `s` makes of the outputs? */
bool infer_is_brief(const struct infer_request *q, const struct sidecar *s);

/* How often copying all outputs takes as long as infer_format(), roughly; 0: that cannot be said.
 */
int32_t infer_copies(const struct infer_request *q);

struct infer_response {
    uint8_t *body; /* owned */
    size_t len;
    size_t json_len; /* 0: all of it is JSON, no Inference-Header-Content-Length */
};

/* Writes the answer that `q` wants from the outputs of `r`.  Returns 0, -EINVAL (an output that is
 * not there, or not what the parameters take it for) or -ENOMEM. */
int infer_format(const struct infer_request *q, const struct request *r, const char *model,
                 struct infer_response *response, struct diag *why);

#endif
