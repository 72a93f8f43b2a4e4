/* Any bytes as a .npy file. */
#include <stdlib.h>

#include "libsplit/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct npy a;
    struct diag why;
    int64_t count = 1;

    if (npy_parse(&a, bytes, len, "fuzz", &why) < 0)
        return 0;
    for (int32_t i = 0; i < a.rank; i++)
        count *= a.dim[i];
    if (count != a.count)
        abort();
    npy_done(&a);
    return 0;
}
