/* The body of an inference request: two bytes that say how much of the rest is JSON, then the body.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api_infer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All that was taken may be read. */
static float read_all(const struct infer_request *q)
{
    float sum = 0;

    for (int32_t i = 0; i < q->ninputs; i++) {
        const struct request_tensor *t = &q->input[i];
        if (strcmp(t->name, q->name[i]) != 0)
            abort();
        for (int64_t k = 0; t->values && k < shape_values(&t->shape); k++)
            sum += t->values[k];
    }
    for (size_t i = 0; q->picture && i < q->picture_bytes; i++)
        sum += q->picture[i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct infer_request q;
    struct diag why = { "" };
    volatile float sum = 0;

    if (size < 2)
        return 0;
    const size_t asked = (size_t)data[0] | (size_t)data[1] << 8, len = size - 2;
    /* Ends where the heap does, so that a read beyond it is seen. */
    uint8_t *body = malloc(len + !len);
    if (!body)
        return 0;
    memcpy(body, data + 2, len);
    int rc = infer_parse(&q, body, len, asked < len ? asked : len, &why);
    if (rc == 0) {
        rc = infer_convert(&q, &why);
        if (rc == 0)
            sum = read_all(&q);
        infer_done(&q);
    }
    if (rc != 0 && rc != -EINVAL && rc != -ENOMEM)
        abort();
    (void)sum;
    free(body);
    return 0;
}
