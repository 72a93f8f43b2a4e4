#include "libsplit/simd.h"

#include <stdlib.h>
#include <string.h>

const struct simd *simd_best(void)
{
    const struct simd *const *usable = simd_usable();
    const char *name = getenv("SPLITD_SIMD");
    for (int i = 0; name && usable[i]; i++)
        if (strcmp(usable[i]->name, name) == 0)
            return usable[i];
    return usable[0];
}
