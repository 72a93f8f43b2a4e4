/* proto/status.h - how something went, as it stands in an answer: 0 or a negative errno. */
#ifndef PROTO_STATUS_H
#define PROTO_STATUS_H

#include <stdbool.h>
#include <stdint.h>

/* As in the kernel: no errno is larger, so -status is always a number that strerror() takes. */
enum { STATUS_MAX_ERRNO = 4095 };

static inline bool status_valid(int32_t status)
{
    return status <= 0 && status >= -STATUS_MAX_ERRNO;
}

#endif
