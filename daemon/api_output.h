/* daemon/api_output.h - one output of an inference, in the form that was asked for. */
#ifndef DAEMON_API_OUTPUT_H
#define DAEMON_API_OUTPUT_H

#include "daemon/api_infer.h"

/* One of `json`, `bytes` and `values`. */
struct api_made {
    const char *datatype;
    int32_t rank;
    int32_t dim[SHAPE_MAX_RANK];
    char *json;          /* "data", owned */
    uint8_t *bytes;      /* binary, owned */
    const float *values; /* binary, the request's */
    size_t len;          /* of either, in bytes */
    bool base64;         /* the strings of `json` are */
};

/* Makes what `o` wants of the request's outputs.  `m` is zeroed before; api_made_done() frees, also
 * after a failure.  Returns 0, -EINVAL (an output that is not there, or that the form does not
 * fit; sentence) or -ENOMEM.  Any thread. */
int api_make(struct api_made *m, const struct infer_output *o, const struct request *r,
             struct diag *why);
void api_made_done(struct api_made *m);

#endif
