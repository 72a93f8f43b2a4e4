/* Any bytes as a halo file: read, or refused in a sentence. */
#include <stdlib.h>

#include "libsplit/halo_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t model[HALO_SHA_BYTES] = { 1, 2, 3, 250 }; /* that of the seed */
    struct halo_file f;
    struct diag why = { "" };
    if (halo_file_parse(&f, (const char *)data, size, "fuzz", model, &why) == 0)
        halo_file_done(&f);
    else if (why.text[0] == '\0')
        abort();
    return 0;
}
